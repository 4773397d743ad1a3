//! What came of a step at STACKIT.

use std::collections::BTreeSet;

use super::CloudStep;
use super::refusals::Asked;
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
        /// What was sent.
        sent: Sent,
    },
    /// A DELETE.
    Deleted(Result<(), Fault>),
}

/// What a POST or PUT held, as far as its failure makes a difference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sent {
    /// The targets.
    pub targets: BTreeSet<Target>,
    /// What a PUT asked for.
    pub asked: Option<Asked>,
}

impl Sent {
    /// What a step sends.
    pub fn by(step: &CloudStep) -> Self {
        let targets = match step {
            CloudStep::Create(wish) => wish.targets(),
            CloudStep::Update(update) => update.wish.targets(),
            CloudStep::Read(_) | CloudStep::Delete(_) => BTreeSet::new(),
        };
        Self { targets, asked: Asked::of(step) }
    }
}

impl Carried {
    /// The same step, failed before it was sent.
    pub fn failed(step: &CloudStep, fault: Fault) -> Self {
        match step {
            CloudStep::Read(_) => Carried::Read(Err(fault)),
            CloudStep::Create(_) | CloudStep::Update(_) => {
                Carried::Written { result: Err(fault), sent: Sent::by(step) }
            }
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
