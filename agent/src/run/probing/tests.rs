use decide::access::FileRanges;
use decide::exposure::ExposureView;
use decide::health::NodeAddress;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;

use super::super::clouds::reference::Reference;
use super::*;
use crate::cluster::exposures::Exposures;

/// A node at 10.0.0.1 and no exposure seen yet; what the senders send is seen.
fn sources() -> (Sources, watch::Sender<Watched<Exposed>>) {
    let address = NodeAddress { kind: "InternalIP".to_owned(), address: "10.0.0.1".to_owned() };
    let node = NodeView { name: "cp-0".to_owned(), addresses: vec![address], ..NodeView::default() };
    let nodes = Watched { items: Arc::new(BTreeMap::from([("cp-0".to_owned(), node)])), listed: true, problem: None };
    let silent = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>());
    let api = Api::namespaced(Client::new(silent, "kube-system"), "kube-system");
    let (out, exposures) = watch::channel(Watched::default());
    let sources = Sources {
        nodes: watch::channel(nodes).1,
        exposures: Some((Exposures::new(api), exposures)),
        clusters: watch::channel(Watched::default()).1,
        infrastructures: watch::channel(Watched::default()).1,
        ranges: watch::channel(FileRanges::default()).1,
        reference: watch::channel(Reference::default()).1,
    };
    (sources, out)
}

fn listed(port: i32) -> Watched<Exposed> {
    let view = ExposureView { name: "root".to_owned(), kind: "stackit".to_owned(), port, ..ExposureView::default() };
    let exposed = Exposed { view, resource_version: "1".to_owned(), finalizers: Vec::new(), ingress: Vec::new() };
    Watched { items: Arc::new(BTreeMap::from([("root".to_owned(), exposed)])), listed: true, problem: None }
}

/// The ports that are asked for these exposures.
fn asked(settings: &Settings, exposures: Watched<Exposed>) -> Vec<u16> {
    let (sources, out) = sources();
    out.send_replace(exposures);
    let mut roster = Roster::default();
    aims(&sources, settings, &mut roster, Moment::default()).into_iter().map(|target| target.port).collect()
}

#[tokio::test]
async fn nobody_is_asked_before_it_is_known_at_which_port() {
    let mut settings = Settings::default();
    assert_eq!(asked(&settings, Watched::default()), Vec::<u16>::new());
    assert_eq!(asked(&settings, listed(6443)), [6443]);
    // None, or none that can be seen: what the settings say is all that there is.
    assert_eq!(asked(&settings, Watched { listed: true, ..Watched::default() }), [settings.exposure.port]);
    let problem = Some("forbidden".to_owned());
    assert_eq!(asked(&settings, Watched { problem, ..Watched::default() }), [settings.exposure.port]);
    settings.health.probe.port = 8443;
    assert_eq!(asked(&settings, Watched::default()), [8443]);
    assert_eq!(asked(&settings, listed(6443)), [8443]);
}

#[tokio::test]
async fn without_kubernetes_the_port_is_known_from_the_start() {
    let (mut sources, _out) = sources();
    sources.exposures = None;
    let settings = Settings::default();
    let targets = aims(&sources, &settings, &mut Roster::default(), Moment::default());
    assert_eq!(targets.into_iter().map(|target| target.port).collect::<Vec<_>>(), [settings.exposure.port]);
}
