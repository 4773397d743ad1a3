//! The proof that a DELETE needs.

use decide::desired::Identity;
use decide::retry::{Fault, FaultKind};
use decide::{names, plan};

use crate::cloud::LoadBalancers;
use crate::cluster::ApiFailure;
use crate::cluster::exposures::{Exposed, Exposures};

/// DELETE has no version. So it goes out only after a quorum read of the object (the same UID, being deleted) and a
/// GET that proves that the balancer is ours.
pub async fn prove(
    identity: &Identity,
    object: &Exposed,
    exposures: Option<&Exposures>,
    balancers: &impl LoadBalancers,
) -> Result<(), Fault> {
    let refused = |why: String| Fault {
        kind: FaultKind::Conflict,
        http_status: None,
        message: format!("deleting load balancer `{}`: {why}", identity.name),
        retry_after: None,
        outcome_unknown: false,
    };
    if let Some(exposures) = exposures {
        let current = exposures.read(&object.view.name).await;
        let current = current.map_err(|failure: ApiFailure| refused(format!("reading the exposure: {failure}")))?;
        if current.view.uid != object.view.uid || !current.view.deleting {
            return Err(refused("the exposure is not being deleted any more".to_owned()));
        }
    }
    let observed = balancers.get(&identity.name).await?;
    let labels = names::labels(&identity.technical_id, &object.view.name);
    match observed {
        None => Ok(()),
        Some(observed) => plan::ownership(&observed, &labels, object.view.status.recorded.is_some())
            .map_err(|why| refused(why.to_string())),
    }
}
