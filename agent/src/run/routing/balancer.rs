//! The balancer's targets as STACKIT has them: where the other API servers are, for an agent that starts while its own one
//! is away, and so has seen neither a Node nor an exposure yet.
//!
//! What it takes to find the balancer without Kubernetes must be set: `exposure.name`, `stackit.region`,
//! `stackit.technicalID`, and the project, which the credentials may name. Who is there must prove its name like every
//! other API server before it gets a token.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use decide::exposure::{ExposureView, identity};
use tokio::sync::watch;
use tracing::{debug, info};

use super::super::clouds::Clouds;
use super::super::settings::Live;
use super::super::sources::Sources;
use crate::cloud::LoadBalancers;
use crate::cluster::facts;
use crate::cluster::router::Router;

/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// Looks until Nodes are known, which ends it for good.
pub(super) async fn seek(
    router: Router,
    mut sources: Sources,
    live: Live,
    clouds: Arc<Clouds>,
    out: watch::Sender<BTreeSet<IpAddr>>,
) {
    let mut directions = router.directions();
    let unseen = |sources: &Sources| !sources.nodes.borrow().listed;
    while unseen(&sources) {
        if directions.borrow_and_update().trouble.is_some() {
            match targets(&sources, &live, &clouds).await {
                Ok(targets) if targets.is_empty() => {}
                Ok(targets) => {
                    out.send_if_modified(|before| {
                        let news = *before != targets;
                        if news {
                            info!(?targets, "no Node is known yet: the balancer's targets tell where API servers are");
                            *before = targets;
                        }
                        news
                    });
                }
                Err(why) => debug!(why, "cannot ask the balancer where API servers are"),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = sources.changed() => {}
            }
        } else {
            tokio::select! {
                Ok(()) = directions.changed() => {}
                () = sources.changed() => {}
            }
        }
    }
    // A task that ends looks like a defect.
    std::future::pending::<()>().await;
}

async fn targets(sources: &Sources, live: &Live, clouds: &Clouds) -> Result<BTreeSet<IpAddr>, String> {
    let settings = Arc::clone(&live.borrow());
    let name = settings.exposure.name().ok_or("exposure.name is not set")?.to_owned();
    let facts = {
        let (clusters, infrastructures) = (sources.clusters.borrow(), sources.infrastructures.borrow());
        facts::gather(&settings, &clusters, &infrastructures, clouds.project_id())
    };
    let view = ExposureView { name, ..ExposureView::default() };
    let identity = identity(&view, &facts).map_err(|missing| missing.join("; "))?;
    let client = clouds.of(&identity).map_err(|fault| fault.message)?;
    let observed = client.get(&identity.name).await.map_err(|fault| fault.message)?;
    Ok(observed
        .map(|observed| observed.balancer.targets().iter().map(|target| target.ip).collect())
        .unwrap_or_default())
}
