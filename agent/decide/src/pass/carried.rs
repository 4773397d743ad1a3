//! What came of a step at STACKIT.

use std::collections::BTreeSet;

use super::CloudStep;
use crate::desired::{Observed, Target};
use crate::retry::Fault;

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
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

    /// What went wrong.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Carried::Read(result) => result.as_ref().err(),
            Carried::Written { result, .. } => result.as_ref().err(),
            Carried::Deleted(result) => result.as_ref().err(),
        }
    }
}
