//! Which API servers there are, and how each is: what the [`Router`] decides by.
//!
//! | server | how it is known to be well |
//! |---|---|
//! | own | `/readyz` is asked over the very way that requests take, each [`EVERY`], with [`PATIENCE`] |
//! | those of other control-plane nodes | what the probes of their nodes say |
//!
//! Their addresses come from the Nodes as last seen, and before there are any from the balancer's targets, as an exposure
//! or STACKIT ([`balancer`]) tells them. The balancer's own address is never one of them, nor is the own node's.
//!
//! Deliberately not here: what is made of it (`decide::route`).

mod balancer;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use decide::Moment;
use decide::health::NodeView;
use decide::probe::ProbeClass;
use decide::route::{Server, ServerHealth};
use decide::settings::Settings;
use http::{Request, StatusCode};
use kube::client::Body;
use kube::{Client, Config};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::clouds::Clouds;
use super::probing::{Probing, port, target};
use super::settings::Live;
use super::sources::Sources;
use crate::admin::Check;
use crate::cluster::client::Access;
use crate::cluster::root;
use crate::cluster::router::{Door, Router};
use crate::host::clock;
use crate::probe::Readings;

/// Pause between two looks at the own API server.
const EVERY: Duration = Duration::from_millis(400);
/// Without an answer for so long it is not ready: its etcd is away, or it hangs.
const PATIENCE: Duration = Duration::from_millis(1200);
/// A look that ends so much later than it should was held up by this machine, and says nothing.
const HELD_UP: Duration = Duration::from_millis(500);
/// The task looks up this often, whatever happens.
const LOOK_UP: Duration = Duration::from_secs(10);

/// What is known about API servers.
pub struct Routing {
    /// The way to the own one.
    pub access: Access,
    /// Where Nodes and exposures are seen.
    pub sources: Sources,
    /// What the others answer.
    pub probing: Probing,
    /// The way to STACKIT.
    pub clouds: Arc<Clouds>,
    /// The settings.
    pub live: Live,
    /// This agent's node.
    pub own_node: String,
    /// For `/readyz`.
    pub check: Check,
}

impl Routing {
    /// Starts to tell the router.
    pub fn start(self, tasks: &mut JoinSet<()>) {
        tasks.spawn(look_at_own(self.access.clone()));
        let (out, found) = watch::channel(BTreeSet::new());
        let router = self.access.router().clone();
        tasks.spawn(balancer::seek(router, self.sources.clone(), self.live.clone(), Arc::clone(&self.clouds), out));
        tasks.spawn(self.tell(found));
    }

    /// Tells who is there and how the others are, without end.
    async fn tell(self, mut found: watch::Receiver<BTreeSet<IpAddr>>) {
        let Self { access, mut sources, probing, clouds: _, mut live, own_node, check } = self;
        let mut readings = probing.readings;
        let router = access.router().clone();
        let mut configs = access.configs();
        let mut directions = router.directions();
        let mut warned = BTreeSet::new();
        loop {
            match &directions.borrow_and_update().trouble {
                None => check.ok(),
                Some(trouble) => check.fail(trouble),
            }
            let settings = Arc::clone(&live.borrow_and_update());
            let port = port(&sources, &settings);
            let name = settings.health.probe.server_name.clone();
            router.open(settings.kubernetes.fallback, Door { port, name });
            let own = own_addresses(&sources, &own_node, &configs.borrow_and_update());
            let balancer = addresses_of_balancer(&sources, &settings);
            if let Some(address) = own.intersection(&balancer).find(|address| warned.insert(**address)) {
                warn!(
                    %address,
                    "the kubeconfig's server is the balancer's own address: without a good target on it the agent cannot \
                     mend it; name the node's own API server, as https://localhost"
                );
            }
            let mut candidates = candidates(&sources);
            if candidates.is_empty() {
                candidates.clone_from(&found.borrow_and_update());
            }
            router.others(&candidates, &own.union(&balancer).copied().collect());
            let next = tell_health(&router, &sources, &readings.borrow_and_update(), &settings, port);
            let wake = [next, router.look()].into_iter().flatten().min();
            let pause = wake.map_or(LOOK_UP, |wake| wake.since(clock::now())).clamp(Duration::from_millis(10), LOOK_UP);
            tokio::select! {
                () = sources.changed() => {}
                Ok(()) = readings.changed() => {}
                Ok(()) = live.changed() => {}
                Ok(()) = configs.changed() => {}
                Ok(()) = directions.changed() => {}
                Ok(()) = found.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// The servers of control-plane nodes, by address: of the Nodes as last seen; without any, the balancer's targets.
fn candidates(sources: &Sources) -> BTreeSet<IpAddr> {
    let nodes = sources.nodes.borrow();
    if nodes.listed && !nodes.items.is_empty() {
        return nodes.items.values().filter_map(NodeView::internal_ip).collect();
    }
    drop(nodes);
    let Some((_, exposures)) = &sources.exposures else { return BTreeSet::new() };
    let exposures = exposures.borrow();
    let targets = exposures.items.values().flat_map(|exposed| decide::exposure::targets(&exposed.view));
    targets.collect()
}

/// Addresses of the own API server: what the kubeconfig names, where it names an address, and the own node's.
fn own_addresses(sources: &Sources, own_node: &str, config: &Config) -> BTreeSet<IpAddr> {
    let named = config.cluster_url.host().map(|host| host.trim_matches(['[', ']']));
    let named = named.and_then(|host| host.parse().ok());
    let nodes = sources.nodes.borrow();
    let own = nodes.items.values().filter(|node| node.name == own_node).filter_map(NodeView::internal_ip);
    own.chain(named).collect()
}

/// Addresses of the balancer, as far as known.
fn addresses_of_balancer(sources: &Sources, settings: &Settings) -> BTreeSet<IpAddr> {
    let wished = settings.load_balancer.external_address.parse().ok();
    let Some((_, exposures)) = &sources.exposures else { return wished.into_iter().collect() };
    let exposures = exposures.borrow();
    let told = exposures.items.values().flat_map(|exposed| exposed.view.status.ingress.iter());
    told.filter_map(|ip| ip.parse().ok()).chain(wished).collect()
}

/// Tells how the others are; when that may change though nothing comes in.
fn tell_health(
    router: &Router,
    sources: &Sources,
    readings: &Readings,
    settings: &Settings,
    port: u16,
) -> Option<Moment> {
    let now = clock::now();
    let mut next: Option<Moment> = None;
    let nodes = sources.nodes.borrow().items.clone();
    for node in nodes.values() {
        let Some(target) = target(node, port) else { continue };
        let server = Server::Other(target.ip);
        // Once is enough: it is only about where to ask, not about the balancer.
        let reading = readings.reading(&target, now, settings.health.probe.slow, true);
        let reading = reading.filter(|_| settings.health.probe.enabled);
        let health = reading.as_ref().map_or(ServerHealth::Unknown, |reading| health(reading.class));
        router.health(server, health, reading.as_ref().map_or("", |reading| &reading.found));
        next = [next, reading.and_then(|reading| reading.next)].into_iter().flatten().min();
    }
    next
}

fn health(class: ProbeClass) -> ServerHealth {
    match class {
        ProbeClass::Green => ServerHealth::Green,
        ProbeClass::Unknown => ServerHealth::Unknown,
        ProbeClass::Shutdown | ProbeClass::Red | ProbeClass::EtcdCut | ProbeClass::Refused | ProbeClass::Silent => {
            ServerHealth::Ill
        }
    }
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Ready,
    NotReady(String),
    /// Held up by this machine.
    Nothing,
}

/// Asks the own API server again and again, without end. After a look that was not good the next one dials anew.
async fn look_at_own(access: Access) {
    let mut configs = access.configs();
    loop {
        configs.mark_unchanged();
        let client = match access.plain_client() {
            Ok(client) => client,
            // It was tried before it was told, so this is about this machine.
            Err(error) => {
                warn!(%error, "cannot ask the own API server how it is");
                tokio::time::sleep(LOOK_UP).await;
                continue;
            }
        };
        loop {
            let found = look(&client).await;
            match &found {
                Look::Ready => access.router().health(Server::Own, ServerHealth::Green, ""),
                Look::NotReady(why) => access.router().health(Server::Own, ServerHealth::Ill, why),
                Look::Nothing => {}
            }
            tokio::time::sleep(EVERY).await;
            if found != Look::Ready || configs.has_changed().unwrap_or(false) {
                break;
            }
        }
    }
}

async fn look(client: &Client) -> Look {
    let mut lost = String::new();
    // A connection may have ended for being idle: the second one tells.
    for _ in 0..2 {
        let began = Instant::now();
        match tokio::time::timeout(PATIENCE, ask(client)).await {
            Ok(Ok(status)) => return judge(status),
            Ok(Err(error)) => lost = error,
            Err(_) if began.elapsed() > PATIENCE + HELD_UP => return Look::Nothing,
            Err(_) => return Look::NotReady(format!("no answer to /readyz within {PATIENCE:?}")),
        }
    }
    Look::NotReady(lost)
}

fn judge(status: StatusCode) -> Look {
    match status {
        // It serves, and to be asked how it is is not among our rights, or it has more to do than it likes.
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Look::Ready,
        status if status.is_success() => Look::Ready,
        status => Look::NotReady(format!("/readyz answers {status}")),
    }
}

async fn ask(client: &Client) -> Result<StatusCode, String> {
    let request = Request::get("/readyz").body(Body::empty()).map_err(|error| error.to_string())?;
    client.send(request).await.map(|answer| answer.status()).map_err(|error| root(&error))
}
