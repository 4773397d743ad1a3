//! The active health check: connects, and counts (E93).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::plane::Kit;
use super::target::Target;
use super::view::Check;

/// What has been seen of a target so far.
#[derive(Debug, Default)]
struct Record {
    healthy: bool,
    checked: bool,
    /// Results in a row that speak against `healthy`.
    against: u64,
}

impl Record {
    /// Takes one result, and says whether the target is healthy now.
    fn note(&mut self, success: bool, check: &Check) -> bool {
        let first = !std::mem::replace(&mut self.checked, true);
        if success == self.healthy {
            self.against = 0;
            return self.healthy;
        }
        self.against += 1;
        let needed = if success { check.healthy_threshold } else { check.unhealthy_threshold };
        if first || self.against >= needed {
            self.healthy = success;
            self.against = 0;
        }
        self.healthy
    }
}

/// Checks a target until the task is aborted.
pub(super) async fn watch(kit: Arc<Kit>, target: Arc<Target>) {
    let mut settings = target.settings.subscribe();
    let mut record = Record::default();
    loop {
        let check = settings.borrow_and_update().check.clone();
        let dial = target.dial(&kit, check.port);
        let success = timeout(kit.scaled(check.timeout), dial).await.is_ok_and(|result| result.is_ok());
        let healthy = record.note(success, &check);
        if target.healthy.swap(healthy, Ordering::Relaxed) != healthy {
            kit.tell_change();
        }
        let pause = check.interval + check.jitter.mul_f64(rand::random::<f64>());
        tokio::select! {
            // An interval of zero must not keep the machine busy.
            () = sleep(kit.scaled(pause).max(Duration::from_millis(1))) => {}
            changed = settings.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Check = Check {
        interval: Duration::ZERO,
        jitter: Duration::ZERO,
        timeout: Duration::ZERO,
        healthy_threshold: 2,
        unhealthy_threshold: 3,
        port: None,
    };

    #[test]
    fn e93_e100_the_first_check_decides_alone_later_ones_by_their_thresholds() {
        let mut record = Record::default();
        let story = [
            (true, true),
            (false, true),
            (false, true),
            (true, true),
            (false, true),
            (false, true),
            (false, false),
            (true, false),
            (false, false),
            (true, false),
            (true, true),
        ];
        for (index, (success, healthy)) in story.into_iter().enumerate() {
            assert_eq!(record.note(success, &CHECK), healthy, "check {index}");
        }
        let mut late = Record::default();
        let seen: Vec<bool> = [false, true, true].into_iter().map(|success| late.note(success, &CHECK)).collect();
        assert_eq!(seen, [false, false, true]);
    }
}
