//! Carrying out one step of a plan. No choices are left here: what comes back goes into the memory of the next pass.

use decide::pass::{CloudStep, Sent};

use super::LoadBalancers;

pub use decide::pass::Carried;

/// Carries out a step that needs no proof first; a DELETE comes here after its proof.
pub async fn carry_out(step: &CloudStep, balancers: &impl LoadBalancers) -> Carried {
    match step {
        CloudStep::Read(name) => Carried::Read(balancers.get(name).await),
        CloudStep::Create(wish) => Carried::Written { result: balancers.create(wish).await, sent: Sent::by(step) },
        CloudStep::Update(update) => {
            Carried::Written { result: balancers.update(&update.base, &update.wish).await, sent: Sent::by(step) }
        }
        CloudStep::Delete(identity) => Carried::Deleted(balancers.delete(&identity.name).await),
    }
}
