//! The cloud in memory: one balancer, its version, and every way to fail.

use std::collections::VecDeque;
use std::time::Duration;

use decide::Moment;
use decide::desired::{BalancerStatus, LoadBalancer, Observed, Target};
use decide::pass::{Carried, CloudStep, Sent};
use decide::retry::{Fault, FaultKind};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    Server,
    /// No answer, and nothing was done.
    Lost,
    /// No answer, and it was done.
    LostAfter,
    RateLimited,
    Invalid,
    /// Somebody else writes right before.
    Conflict,
}

#[derive(Default)]
pub(super) struct Cloud {
    balancer: Option<Observed>,
    due: Moment,
    versions: u32,
    troubles: VecDeque<Trouble>,
}

impl Cloud {
    pub(super) fn trouble(&mut self, trouble: Trouble, times: usize) {
        self.troubles.extend(std::iter::repeat_n(trouble, times));
    }

    pub(super) fn calm(&mut self) {
        self.troubles.clear();
    }

    pub(super) fn exists(&self) -> bool {
        self.balancer.is_some()
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        let targets = self.balancer.as_ref().map(|observed| observed.balancer.targets()).unwrap_or_default();
        let mut all: Vec<String> = targets.iter().map(|target| target.ip.to_string()).collect();
        all.sort();
        all
    }

    /// What is due is done; gives back when something is due next.
    pub(super) fn provision(&mut self, now: Moment) -> Option<Moment> {
        let observed = self.balancer.as_mut()?;
        let done = now >= self.due;
        match observed.status {
            BalancerStatus::Pending if done => {
                observed.status = BalancerStatus::Ready;
                observed.external_address = Some([45, 0, 0, 1].into());
                None
            }
            BalancerStatus::Terminating if done => {
                self.balancer = None;
                None
            }
            BalancerStatus::Pending | BalancerStatus::Terminating => Some(self.due),
            _ => None,
        }
    }

    /// Another client changes the targets.
    pub(super) fn foreign_targets(&mut self) {
        let version = self.version();
        let Some(observed) = self.balancer.as_mut().filter(|o| o.status != BalancerStatus::Terminating) else { return };
        observed.version = version;
        if let Some(pool) = &mut observed.balancer.target_pool {
            pool.targets.insert(Target { name: "foreign".to_owned(), ip: [10, 9, 9, 9].into() });
        }
    }

    pub(super) fn terminate(&mut self, now: Moment) {
        let version = self.version();
        if let Some(observed) = &mut self.balancer {
            observed.version = version;
            observed.status = BalancerStatus::Terminating;
            self.due = now + Duration::from_secs(3);
        }
    }

    pub(super) fn carry_out(&mut self, step: &CloudStep, now: Moment) -> Carried {
        let fault = match self.troubles.pop_front() {
            None => None,
            Some(Trouble::Server) => Some(fault(FaultKind::Server, !matches!(step, CloudStep::Read(_)))),
            Some(Trouble::Lost) => Some(fault(FaultKind::TimedOut, !matches!(step, CloudStep::Read(_)))),
            Some(Trouble::LostAfter) => {
                drop(self.do_it(step, now));
                Some(fault(FaultKind::Unreachable, !matches!(step, CloudStep::Read(_))))
            }
            Some(Trouble::RateLimited) => {
                let retry_after = Some(Duration::from_secs(7));
                Some(Fault { retry_after, ..fault(FaultKind::RateLimited, false) })
            }
            Some(Trouble::Invalid) => Some(fault(FaultKind::Invalid, false)),
            Some(Trouble::Conflict) => {
                self.foreign_targets();
                None
            }
        };
        match fault {
            Some(fault) => Carried::failed(step, fault),
            None => self.do_it(step, now),
        }
    }

    fn do_it(&mut self, step: &CloudStep, now: Moment) -> Carried {
        match step {
            CloudStep::Read(_) => Carried::Read(Ok(self.balancer.clone())),
            CloudStep::Create(_) if self.balancer.is_some() => Carried::failed(step, fault(FaultKind::Conflict, false)),
            CloudStep::Create(wish) => self.accept(wish, Sent::by(step), now, Duration::from_secs(20)),
            CloudStep::Update(update) => {
                let current = self.balancer.as_ref();
                let matches = current.is_some_and(|current| {
                    current.version == update.base.version && current.status != BalancerStatus::Terminating
                });
                if !matches {
                    let kind = if current.is_some() { FaultKind::Conflict } else { FaultKind::NotFound };
                    return Carried::failed(step, fault(kind, false));
                }
                self.accept(&update.wish, Sent::by(step), now, Duration::from_secs(2))
            }
            CloudStep::Delete(_) => {
                if self.balancer.as_ref().is_some_and(|current| current.status != BalancerStatus::Terminating) {
                    self.terminate(now);
                }
                Carried::Deleted(Ok(()))
            }
        }
    }

    fn accept(&mut self, wish: &LoadBalancer, sent: Sent, now: Moment, takes: Duration) -> Carried {
        let mut balancer = wish.clone();
        // An answer always shows the access control.
        balancer.allowed_source_ranges.get_or_insert_default();
        balancer.keep_source_ranges = false;
        let observed = Observed {
            balancer,
            version: self.version(),
            status: BalancerStatus::Pending,
            errors: Vec::new(),
            external_address: self.balancer.as_ref().and_then(|observed| observed.external_address),
            private_address: None,
            raw: serde_json::Map::new(),
        };
        self.due = now + takes;
        self.balancer = Some(observed.clone());
        Carried::Written { result: Ok(observed), sent }
    }

    fn version(&mut self) -> String {
        self.versions += 1;
        format!("v{}", self.versions)
    }
}

fn fault(kind: FaultKind, outcome_unknown: bool) -> Fault {
    Fault { kind, http_status: None, message: format!("{kind:?}"), retry_after: None, outcome_unknown }
}
