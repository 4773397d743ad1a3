//! Plans in words: what the log, `status` and the verb `plan` print.

use std::fmt;

use super::{Change, NotOurs, Plan, Step, Unmet};
use crate::desired::AddressMode;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Step::Nothing => f.write_str("nothing to do")?,
            Step::Create(wish) => {
                write!(f, "create `{}` with {} targets", wish.name, wish.targets().len())?;
                for target in wish.targets() {
                    write!(f, "\n  + {} {}", target.name, target.ip)?;
                }
            }
            Step::Update(update) => {
                write!(f, "update `{}` from version {}", update.wish.name, update.base.version)?;
                for change in &update.changes {
                    write!(f, "\n  {change}")?;
                }
            }
            Step::Delete(name) => write!(f, "delete `{name}`")?,
            Step::AwaitGone => f.write_str("wait until the terminating balancer is gone")?,
            Step::Gone => f.write_str("gone")?,
        }
        for unmet in &self.unmet {
            write!(f, "\n  ! {unmet}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "~ {}: {from} -> {to}", self.field),
            (Some(from), None) => write!(f, "- {}: {from}", self.field),
            (None, Some(to)) => write!(f, "+ {}: {to}", self.field),
            (None, None) => f.write_str(&self.field),
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: the load balancer has {}, {} is wanted, and this never changes during its life; set it back, or \
             delete the exposure to have it made anew",
            self.setting, self.found, self.wanted
        )
    }
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotOurs::OtherOwner { label, found } => {
                write!(f, "its label `{label}` is `{found}`, so it belongs to somebody else")
            }
            NotOurs::Unlabelled(missing) => write!(
                f,
                "it lacks the labels {} and nothing on record says that this agent made it",
                missing.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" and ")
            ),
        }
    }
}

impl fmt::Display for AddressMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressMode::Ephemeral => f.write_str("an ephemeral address"),
            AddressMode::Static(ip) => write!(f, "the reserved address {ip}"),
            AddressMode::Private => f.write_str("a private address only"),
        }
    }
}
