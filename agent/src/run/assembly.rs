//! What works on exposures, put together the same way for the daemon and for the verbs that do one thing and end.
//!
//! Deliberately not here: when it starts and how it ends, which is where the two differ.

use std::sync::Arc;

use decide::health::NodeView;
use decide::leader::Record;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::Ties;
use super::board::Board;
use super::clouds::{Clouds, Origins};
use super::probing::Probing;
use super::routing::Routing;
use super::settings::Live;
use super::sources::Sources;
use super::strains::Strains;
use super::worker::{Context, Errand, Place, Witness};
use crate::admin::{Health, Metrics};
use crate::cluster::client::Access;

/// What it is made of.
pub(super) struct Wiring {
    /// The settings as they are read again.
    pub(super) live: Live,
    /// The way to the API server; `None`: there is none.
    pub(super) access: Option<Access>,
    /// Where every part says how it is.
    pub(super) health: Health,
    /// The numbers.
    pub(super) metrics: Metrics,
    /// What the workers are there for.
    pub(super) errand: Errand,
    /// Who is told what comes of each turn.
    pub(super) witness: Witness,
    /// Nodes that an operator has named.
    pub(super) named: Vec<NodeView>,
}

/// All of it, at work.
pub(super) struct Assembly {
    /// What workers look at.
    pub(super) context: Context,
    /// Ends when it is told to, or by a defect.
    pub(super) election: JoinHandle<()>,
    /// The Lease as last seen; `None`: not seen, or none.
    pub(super) lease: watch::Receiver<Option<Record>>,
    /// Told `true`, the election ends and the Lease is released.
    pub(super) stop_lease: watch::Sender<bool>,
}

/// Starts everything but the workers. A task of `watches` that ends does so by a defect.
pub(super) fn start(wiring: Wiring, watches: &mut JoinSet<()>) -> anyhow::Result<Assembly> {
    let Wiring { live, access, health, metrics, errand, witness, named } = wiring;
    let settings = Arc::clone(&live.borrow());
    let sources = Sources::start(&live, access.as_ref(), named, &health, watches)?;
    if let Some(access) = access.clone() {
        watches.spawn(access.follow(live.clone()));
    }
    let (stop_lease, lease_stopped) = watch::channel(false);
    let (quorum_out, quorum) = watch::channel(None);
    let probing = Probing::start(&live, access.as_ref(), &sources, &metrics, quorum, watches)?;
    let (lease_out, lease) = watch::channel(None);
    let strains = Strains::default();
    let doubt = Arc::clone(&probing.doubt);
    let ties = Ties { quorum: quorum_out, doubt, strains: strains.clone(), seen: lease_out };
    // Who only looks is no candidate, and tells nobody.
    let heard = access.as_ref().filter(|_| errand != Errand::Look);
    let (leadership, election) = super::elect(&settings, heard, &health, &metrics, ties, lease_stopped)?;
    let clouds = Arc::new(Clouds::new(Origins {
        live: live.clone(),
        clusters: access.is_some().then(|| sources.clusters.clone()),
        reference: sources.reference.clone(),
        check: health.dependency("credentials"),
        metrics: metrics.clone(),
    }));
    watches.spawn(Arc::clone(&clouds).follow());
    watches.spawn(Arc::clone(&clouds).keep());
    if let Some(access) = access.clone() {
        let (sources, probing, own_node) = (sources.clone(), probing.clone(), super::node_name(&settings));
        let check = health.dependency("kubernetes");
        let clouds = Arc::clone(&clouds);
        Routing { access, sources, probing, clouds, live: live.clone(), own_node, check }.start(watches);
    }
    let announcer = super::announcer(&settings, heard, watches)?;
    let election_on = settings.leader_election.enabled && access.is_some();
    let place = Place { own_node: super::node_name(&settings), election: election_on };
    let context = Context {
        live,
        settings,
        sources,
        probing,
        place,
        leadership,
        strains,
        clouds,
        metrics,
        announcer,
        errand,
        witness,
        board: Board::default(),
    };
    Ok(Assembly { context, election, lease, stop_lease })
}
