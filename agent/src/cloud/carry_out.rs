//! Carrying out one step of a plan. No choices are left here: what comes back goes into the memory of the next pass.

use std::collections::BTreeSet;

use decide::desired::{Observed, Target};
use decide::pass::CloudStep;
use decide::retry::Fault;

use super::LoadBalancers;

/// What came of a step.
#[derive(Debug)]
pub enum Carried {
    /// A GET; `None`: there is no such balancer.
    Read(Result<Option<Observed>, Fault>),
    /// A POST or PUT.
    Written {
        /// The balancer as answered.
        result: Result<Observed, Fault>,
        /// The targets that were sent.
        targets: BTreeSet<Target>,
    },
    /// A DELETE.
    Deleted(Result<(), Fault>),
}

/// Carries out a step that needs no proof first; a DELETE comes here after its proof.
pub async fn carry_out(step: &CloudStep, balancers: &impl LoadBalancers) -> Carried {
    match step {
        CloudStep::Read(name) => Carried::Read(balancers.get(name).await),
        CloudStep::Create(wish) => Carried::Written { result: balancers.create(wish).await, targets: wish.targets() },
        CloudStep::Update(update) => Carried::Written {
            result: balancers.update(&update.base, &update.wish).await,
            targets: update.wish.targets(),
        },
        CloudStep::Delete(identity) => Carried::Deleted(balancers.delete(&identity.name).await),
    }
}

impl Carried {
    /// The same step, failed before it was sent.
    pub fn failed(step: &CloudStep, fault: Fault) -> Self {
        match step {
            CloudStep::Read(_) => Carried::Read(Err(fault)),
            CloudStep::Create(wish) => Carried::Written { result: Err(fault), targets: wish.targets() },
            CloudStep::Update(update) => Carried::Written { result: Err(fault), targets: update.wish.targets() },
            CloudStep::Delete(_) => Carried::Deleted(Err(fault)),
        }
    }
}
