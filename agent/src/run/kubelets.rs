//! The Leases of kubelets whose nodes are out for silence: one that is renewed says that the path is broken, not the
//! node, and the node comes back.
//!
//! A Lease is judged by change as seen from here, never by the remote wall clock. Only nodes that are out are asked
//! for, every ten seconds: their kubelets renew as often.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{info, warn};

use super::probing::Silent;
use crate::probe::{self, Readings};

/// Where kubelets keep their Leases, by node name.
const NAMESPACE: &str = "kube-node-lease";
/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(10);

/// Looks while anybody is out, without end.
pub async fn follow(
    client: Client,
    mut silent: watch::Receiver<BTreeMap<String, Silent>>,
    readings: watch::Sender<Readings>,
) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut said = String::new();
    loop {
        let out = silent.borrow_and_update().clone();
        seen.retain(|node, _| out.contains_key(node));
        for (node, Silent { target }) in &out {
            let lease = match api.get_opt(node).await {
                Ok(lease) => lease,
                Err(error) => {
                    let problem = crate::cluster::explain(&error);
                    if problem != said {
                        warn!(node, problem, "cannot read the kubelet's Lease; a broken path looks like a dead node");
                        said = problem;
                    }
                    continue;
                }
            };
            let renewed = lease.and_then(|lease| lease.spec?.renew_time).map(|time| format!("{:?}", time.0));
            let Some(renewed) = renewed else { continue };
            let before = seen.insert(node.clone(), renewed.clone());
            if before.is_some_and(|before| before != renewed) {
                info!(node, "its kubelet is alive: the path is broken, not the node; its silence does not count");
                probe::mute_silence(&readings, target);
            }
        }
        if out.is_empty() {
            if silent.changed().await.is_err() {
                return std::future::pending().await;
            }
        } else {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Ok(()) = silent.changed() => {}
            }
        }
    }
}
