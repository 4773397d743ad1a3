//! What the balancer should be, and how much of that is known.

use super::{Situation, conclude, read, read_later};
use crate::access;
use crate::desired::{self, Identity, LoadBalancer};
use crate::endpoints::Endpoint;
use crate::exposure::{self, Facts, Unresolved};
use crate::pass::{Balancer, Pass};
use crate::status::{Failure, Outcome, Waiting};

/// The balancer as it should be.
pub(super) struct Wish {
    pub(super) balancer: LoadBalancer,
    pub(super) identity: Identity,
    /// Part of it is not known, and this is to be said whatever becomes of the rest.
    pub(super) standing: Option<Outcome>,
    /// What is dangerous about it.
    pub(super) warning: Option<String>,
    /// What keeps a balancer from being made, but not one that is there from being changed.
    pub(super) unread: Option<String>,
}

/// The wish; `None` where there is none, which has been concluded.
///
/// A balancer that is there is looked after even while somebody has to mend the exposure, or a fact cannot be read:
/// what cannot be resolved stays as observed, the rest and above all the targets follow. Nothing is made like that.
pub(super) fn wish(situation: &Situation<'_>, pass: &mut Pass) -> Option<Wish> {
    let endpoints = pass.choice.endpoints.clone();
    let unresolved = match exposure::resolve(situation.view, endpoints.clone(), situation.facts) {
        Ok(spec) => {
            return Some(Wish {
                balancer: desired::load_balancer(&spec, situation.settings),
                warning: access::warning(&spec, situation.settings),
                unread: access::unread(&spec, situation.settings),
                identity: spec.identity,
                standing: None,
            });
        }
        Err(Unresolved::Waiting(missing)) => Outcome::Waiting(Waiting::Facts(missing)),
        Err(Unresolved::Configuration(mistakes)) => Outcome::Failed(Failure::configuration(&mistakes)),
    };
    let rest = match (&situation.memory.balancer, pass.identity.clone()) {
        (Balancer::Present(observed), Some(identity)) => {
            rest(situation, endpoints, &identity, &observed.balancer).map(|balancer| (balancer, identity))
        }
        (Balancer::Unread, Some(identity)) => {
            read(situation, pass, &identity.name, Some(unresolved));
            return None;
        }
        (Balancer::Absent, Some(identity)) => {
            read_later(situation, pass, &identity.name);
            None
        }
        (_, None) => None,
    };
    let Some((balancer, identity)) = rest else {
        conclude(situation, pass, unresolved);
        return None;
    };
    Some(Wish { balancer, identity, standing: Some(unresolved), warning: None, unread: None })
}

/// The wish with what cannot be resolved as it is `there`.
fn rest(
    situation: &Situation<'_>,
    endpoints: Vec<Endpoint>,
    identity: &Identity,
    there: &LoadBalancer,
) -> Option<LoadBalancer> {
    let (mut view, known) = (situation.view.clone(), situation.facts);
    let facts = Facts {
        region: Ok(identity.region.clone()),
        technical_id: Ok(identity.technical_id.clone()),
        project_id: Ok(identity.project_id.clone()),
        network_id: known.network_id.clone().or_else(|_| Ok(there.network_id.clone())),
        ..known.clone()
    };
    if !exposure::is_port(view.port) {
        view.port = there.listener.as_ref()?.port.into();
    }
    let legible = exposure::resolve(&view, endpoints.clone(), &facts);
    let readable = legible.is_ok();
    view.provider_config = None;
    let spec = legible.or_else(|_| exposure::resolve(&view, endpoints, &facts)).ok()?;
    let mut wish = desired::load_balancer(&spec, situation.settings);
    if !readable {
        // Nobody may be let in, and nobody locked out, on account of a providerConfig that cannot be read.
        wish.allowed_source_ranges = None;
        wish.plan_id.clone_from(&there.plan_id);
    }
    Some(wish)
}
