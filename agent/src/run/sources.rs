//! Everything that workers look at: nodes, exposures, facts. Each is followed by a task of its own.

use std::path::PathBuf;
use std::sync::Arc;

use decide::access::FileRanges;
use decide::health::NodeView;
use decide::settings::NodeSource;
use kube::Api;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clouds::reference::{self, Reference};
use super::named_nodes;
use super::settings::Live;
use crate::admin::{Check, Health};
use crate::cluster::client::Access;
use crate::cluster::exposures::{self, Exposed, Exposures};
use crate::cluster::facts::{self, Cluster, Infrastructure};
use crate::cluster::nodes;
use crate::cluster::watch::{Watched, follow};
use crate::host::{node_list, source_ranges};

/// What is said before anybody has looked.
pub(super) const UNLISTED: &str = "nothing has been listed yet";

/// The followed sets; cheap to clone.
#[derive(Clone)]
pub struct Sources {
    /// The control-plane nodes.
    pub nodes: watch::Receiver<Watched<NodeView>>,
    /// The exposures, and how they are written; `None`: there is no Kubernetes.
    pub exposures: Option<(Exposures, watch::Receiver<Watched<Exposed>>)>,
    /// `Cluster` objects.
    pub clusters: watch::Receiver<Watched<Cluster>>,
    /// `Infrastructure` objects.
    pub infrastructures: watch::Receiver<Watched<Infrastructure>>,
    /// The file with source ranges.
    pub ranges: watch::Receiver<FileRanges>,
    /// The Secret that the exposures name, where the settings ask for it.
    pub reference: watch::Receiver<Reference>,
}

impl Sources {
    /// Starts to follow everything that the settings ask for. `named`: nodes that are there whatever anybody lists.
    pub fn start(
        live: &Live,
        access: Option<&Access>,
        named: Vec<NodeView>,
        health: &Health,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<Self> {
        let settings = Arc::clone(&live.borrow());
        let (ranges_out, ranges) = watch::channel(source_ranges::first(&settings));
        tasks.spawn(source_ranges::follow(live.clone(), ranges_out));
        let (reference_out, reference) = watch::channel(Reference::default());
        let (nodes_out, nodes) = watch::channel(Watched::default());
        let (clusters_out, clusters) = watch::channel(Watched::default());
        let (infrastructures_out, infrastructures) = watch::channel(Watched::default());
        let client = access.map(Access::client).transpose()?;
        let selector = settings.nodes.selector.clone();
        match (settings.nodes.source, &client) {
            (NodeSource::Kubernetes, Some(client)) => {
                let api = Api::all(client.clone());
                tasks.spawn(follow("Nodes", api, Some(selector), nodes::view, nodes_out));
            }
            // Before there is a Kubernetes the ones that are named are all.
            (NodeSource::Kubernetes, None) => {
                drop(nodes_out.send_replace(Watched { listed: true, ..Watched::default() }));
            }
            (NodeSource::File, _) => {
                tasks.spawn(node_list::follow(PathBuf::from(&settings.nodes.file), selector, nodes_out));
            }
        }
        let nodes = if named.is_empty() {
            nodes
        } else {
            let (out, joined) = watch::channel(Watched::default());
            tasks.spawn(named_nodes::join(nodes, named, out));
            joined
        };
        let mut written = None;
        if let Some(client) = client {
            let namespace = &settings.exposure.namespace;
            let (out, exposures) = watch::channel(Watched::default());
            let api = Api::namespaced(client.clone(), namespace);
            tasks.spawn(follow("SelfHostedShootExposures", api, None, exposures::view, out));
            let api = Api::namespaced(client.clone(), namespace);
            let exposures_of_reference = exposures.clone();
            written = Some((Exposures::new(api), exposures));

            tasks.spawn(reference::watch(live.clone(), exposures_of_reference, client.clone(), reference_out));
            let one = Some(format!("metadata.name={}", facts::CLUSTER));
            let api = Api::all_with(client.clone(), &facts::kind("Cluster"));
            tasks.spawn(follow("Cluster", api, one, facts::cluster, clusters_out.clone()));
            let api = Api::namespaced_with(client, namespace, &facts::kind("Infrastructure"));
            tasks.spawn(follow("Infrastructure", api, None, facts::infrastructure, infrastructures_out.clone()));
        }
        let sources = Self { nodes, exposures: written, clusters, infrastructures, ranges, reference };
        let caches = health.gate("caches", UNLISTED);
        let telling = sources.clone().tell(caches, health.dependency("watches"));
        // Sets that nobody follows keep their senders: without one they would look like tasks that have ended.
        tasks.spawn(async move {
            let _unfollowed = (clusters_out, infrastructures_out);
            telling.await;
        });
        Ok(sources)
    }

    /// Keeps `/readyz` informed: ready when everything was listed once; trouble later only shows.
    async fn tell(mut self, caches: Check, watches: Check) {
        loop {
            let unlisted = self.unlisted();
            match unlisted.as_slice() {
                [] => caches.ok(),
                some => caches.fail(&some.join("; ")),
            }
            match self.problems().as_slice() {
                [] => watches.ok(),
                some => watches.fail(&some.join("; ")),
            }
            self.changed().await;
        }
    }

    fn unlisted(&self) -> Vec<String> {
        let mut unlisted = Vec::new();
        let mut look = |what: &str, listed: bool, problem: &Option<String>| {
            if !listed {
                let why = problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
                unlisted.push(format!("{what} not listed yet{why}"));
            }
        };
        let nodes = self.nodes.borrow();
        look("Nodes", nodes.listed, &nodes.problem);
        if let Some((_, exposures)) = &self.exposures {
            let exposures = exposures.borrow();
            look("SelfHostedShootExposures", exposures.listed, &exposures.problem);
        }
        unlisted
    }

    fn problems(&self) -> Vec<String> {
        let exposures = self.exposures.as_ref().and_then(|(_, exposures)| exposures.borrow().problem.clone());
        let problems = [
            ("Nodes", self.nodes.borrow().problem.clone()),
            ("SelfHostedShootExposures", exposures),
            ("Cluster", self.clusters.borrow().problem.clone()),
            ("Infrastructure", self.infrastructures.borrow().problem.clone()),
        ];
        problems.into_iter().filter_map(|(what, problem)| Some(format!("{what}: {}", problem?))).collect()
    }

    /// Any of the sets has changed. A set whose task has ended says nothing more; that end is noticed elsewhere.
    pub async fn changed(&mut self) {
        let exposures = async {
            match &mut self.exposures {
                Some((_, exposures)) => exposures.changed().await,
                None => std::future::pending().await,
            }
        };
        let change = tokio::select! {
            change = self.nodes.changed() => change,
            change = exposures => change,
            change = self.clusters.changed() => change,
            change = self.infrastructures.changed() => change,
            change = self.ranges.changed() => change,
        };
        if change.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
