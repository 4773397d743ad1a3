//! What went wrong at the cloud, in a closed set of classes, and when it is worth another try.
//!
//! Classes come from the HTTP status and the API's own error type, never from English text, so that a reworded
//! message changes nothing. Deliberately not here: waiting. The caller sleeps, this says how long.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::Moment;

/// The class of a failed call to STACKIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// No usable credential: a file is missing or broken, or the token endpoint refused it.
    Credentials,
    /// The credential cannot be there yet (no token before `gardenadm connect`).
    CredentialsMissing,
    /// 401, again after one renewal of the token.
    Unauthorized,
    /// 403: no permission, wrong project.
    Forbidden,
    /// 403 that says that the load balancer service is not enabled in the project.
    ServiceNotEnabled,
    /// 400: the request breaks a rule of the API.
    Invalid,
    /// 404 on a write.
    NotFound,
    /// 409: the name exists (POST), the version has moved or the balancer is terminating (PUT, DELETE).
    Conflict,
    /// 429 on POST: no balancer left in the quota.
    Quota,
    /// 429 elsewhere.
    RateLimited,
    /// 5xx.
    Server,
    /// Connection refused or reset, DNS, TLS.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// An answer that is none: truncated, not JSON, an unexpected status.
    Malformed,
    /// The fence: not sent, because its timeout would have ended after the renew deadline.
    Fenced,
}

/// A failed call to STACKIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The class.
    pub kind: FaultKind,
    /// The HTTP status where there was one.
    pub http_status: Option<u16>,
    /// One line for people, free of secrets, at most 500 characters: what was being done and what was found.
    pub message: String,
    /// `Retry-After`, where the answer had one.
    pub retry_after: Option<Duration>,
    /// Whether the write may have been committed all the same; the next step is then a GET.
    pub outcome_unknown: bool,
}

/// How long to wait before the same is tried again.
///
/// `attempts` counts the failures in a row, from 1; `jitter` is a random number from 0 to 1. `Retry-After` is a
/// lower bound wherever it was given.
pub fn delay(fault: &Fault, attempts: u32, jitter: f64) -> Duration {
    let (first, max) = match fault.kind {
        // The watch on the Lease says when a write fits in again.
        FaultKind::Fenced => (Duration::from_millis(100), Duration::from_secs(1)),
        FaultKind::Conflict => (Duration::from_millis(50), Duration::from_secs(10)),
        FaultKind::Server
        | FaultKind::Unreachable
        | FaultKind::TimedOut
        | FaultKind::Malformed
        | FaultKind::NotFound
        | FaultKind::CredentialsMissing => (Duration::from_millis(500), Duration::from_secs(15)),
        FaultKind::RateLimited
        | FaultKind::Credentials
        | FaultKind::Unauthorized
        | FaultKind::Forbidden
        | FaultKind::ServiceNotEnabled
        | FaultKind::Invalid
        | FaultKind::Quota => (Duration::from_secs(2), Duration::from_secs(60)),
    };
    let schedule = ExponentialBuilder::new().with_min_delay(first).with_max_delay(max).without_max_times().build();
    let step = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX).min(32);
    let full = schedule.into_iter().nth(step).unwrap_or(max);
    let jittered = full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    jittered.max(fault.retry_after.unwrap_or_default())
}

/// A sort of writes to Kubernetes that pauses after failures, longer each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// Failures in a row.
    pub failures: u32,
    /// No further try before.
    pub not_before: Moment,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(200);
    const MOST: Duration = Duration::from_secs(10);
    /// After the first lost race: what it was lost to has mostly been answered to us already.
    const AFTER_A_RACE: Duration = Duration::from_millis(10);

    /// A write has succeeded.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A write has failed.
    pub fn failed(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + Self::FIRST.saturating_mul(1 << self.failures.min(6)).min(Self::MOST);
    }

    /// A write has lost a race (409): nothing is wrong, and what it was lost to may be a write of our own on another
    /// lane. So the first further tries come quickly.
    pub fn lost_a_race(&mut self, now: Moment) {
        let pause = Self::AFTER_A_RACE.saturating_mul(1 << self.failures.min(10)).min(Self::MOST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + pause;
    }

    /// When to look again if nothing happens: at the end of the pause, else at `latest`.
    ///
    /// A pause that is over is no reason to look: whoever took it for one would look without end.
    pub fn wake(&self, now: Moment, latest: Moment) -> Moment {
        if now < self.not_before { self.not_before.min(latest) } else { latest }
    }
}

impl FaultKind {
    /// Gardener's error codes for it (Gardener contract section 2.5), sorted; the same that the provider extension
    /// gives for the same situation.
    pub fn codes(self) -> &'static [&'static str] {
        match self {
            FaultKind::Credentials => &["ERR_INFRA_UNAUTHENTICATED"],
            FaultKind::Unauthorized => &["ERR_INFRA_UNAUTHORIZED"],
            FaultKind::ServiceNotEnabled | FaultKind::Conflict => &["ERR_INFRA_DEPENDENCIES"],
            // The provider extension sees the status line alone and takes a quota for a rate limit.
            FaultKind::Quota => &["ERR_INFRA_QUOTA_EXCEEDED", "ERR_INFRA_RATE_LIMITS_EXCEEDED"],
            FaultKind::RateLimited => &["ERR_INFRA_RATE_LIMITS_EXCEEDED"],
            FaultKind::Server | FaultKind::Unreachable | FaultKind::TimedOut | FaultKind::Malformed => {
                &["ERR_RETRYABLE_INFRA_DEPENDENCIES"]
            }
            FaultKind::Invalid => &["ERR_CONFIGURATION_PROBLEM"],
            FaultKind::CredentialsMissing | FaultKind::Forbidden | FaultKind::NotFound | FaultKind::Fenced => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind) -> Fault {
        Fault { kind, http_status: None, message: String::new(), retry_after: None, outcome_unknown: false }
    }

    #[test]
    fn delays_double_up_to_their_limit() {
        let of = |attempts| delay(&fault(FaultKind::Server), attempts, 1.0);
        assert_eq!(of(1), Duration::from_millis(500));
        assert_eq!(of(2), Duration::from_secs(1));
        assert_eq!(of(5), Duration::from_secs(8));
        assert_eq!(of(6), Duration::from_secs(15));
        assert_eq!(of(u32::MAX), Duration::from_secs(15));
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let of = |jitter| delay(&fault(FaultKind::Quota), 1, jitter);
        assert_eq!((of(0.0), of(1.0)), (Duration::from_secs(1), Duration::from_secs(2)));
        assert_eq!(of(f64::MAX), Duration::from_secs(2));
    }

    #[test]
    fn a_race_lost_to_our_own_status_write_is_run_again_at_once() {
        let mut pause = Pause::default();
        let pauses: Vec<u64> = (0..14)
            .map(|_| {
                pause.lost_a_race(Moment::default());
                u64::try_from(pause.not_before.0.as_millis()).unwrap_or(u64::MAX)
            })
            .collect();
        assert_eq!(pauses[..4], [10, 20, 40, 80]);
        // Whoever loses all of them does not run for ever.
        assert_eq!(pauses[13], 10_000);
        pause.succeeded();
        pause.failed(Moment::default());
        assert_eq!(pause.not_before, Moment(Duration::from_millis(400)));
    }

    #[test]
    fn a_pause_that_is_over_is_no_reason_to_look_again() {
        let at = |milliseconds| Moment(Duration::from_millis(milliseconds));
        let mut pause = Pause::default();
        assert_eq!(pause.wake(at(5), at(30_000)), at(30_000));
        pause.failed(at(0));
        assert_eq!(pause.wake(at(399), at(30_000)), at(400));
        assert_eq!(pause.wake(at(400), at(30_400)), at(30_400));
        assert_eq!(pause.wake(at(399), at(399)), at(399));
    }

    #[test]
    fn each_class_has_its_pace() {
        for (kind, first, most) in [
            (FaultKind::Fenced, 100, 1_000),
            (FaultKind::Conflict, 50, 10_000),
            (FaultKind::Server, 500, 15_000),
            (FaultKind::Unreachable, 500, 15_000),
            (FaultKind::TimedOut, 500, 15_000),
            (FaultKind::Malformed, 500, 15_000),
            (FaultKind::NotFound, 500, 15_000),
            (FaultKind::CredentialsMissing, 500, 15_000),
            (FaultKind::RateLimited, 2_000, 60_000),
            (FaultKind::Credentials, 2_000, 60_000),
            (FaultKind::Unauthorized, 2_000, 60_000),
            (FaultKind::Forbidden, 2_000, 60_000),
            (FaultKind::ServiceNotEnabled, 2_000, 60_000),
            (FaultKind::Invalid, 2_000, 60_000),
            (FaultKind::Quota, 2_000, 60_000),
        ] {
            let of = |attempts| delay(&fault(kind), attempts, 1.0);
            assert_eq!((of(1), of(40)), (Duration::from_millis(first), Duration::from_millis(most)), "{kind:?}");
        }
    }

    #[test]
    fn each_class_has_gardeners_codes() {
        for (kind, codes) in [
            (FaultKind::Credentials, "ERR_INFRA_UNAUTHENTICATED"),
            (FaultKind::Unauthorized, "ERR_INFRA_UNAUTHORIZED"),
            (FaultKind::ServiceNotEnabled, "ERR_INFRA_DEPENDENCIES"),
            (FaultKind::Conflict, "ERR_INFRA_DEPENDENCIES"),
            (FaultKind::Quota, "ERR_INFRA_QUOTA_EXCEEDED ERR_INFRA_RATE_LIMITS_EXCEEDED"),
            (FaultKind::RateLimited, "ERR_INFRA_RATE_LIMITS_EXCEEDED"),
            (FaultKind::Server, "ERR_RETRYABLE_INFRA_DEPENDENCIES"),
            (FaultKind::Unreachable, "ERR_RETRYABLE_INFRA_DEPENDENCIES"),
            (FaultKind::TimedOut, "ERR_RETRYABLE_INFRA_DEPENDENCIES"),
            (FaultKind::Malformed, "ERR_RETRYABLE_INFRA_DEPENDENCIES"),
            (FaultKind::Invalid, "ERR_CONFIGURATION_PROBLEM"),
            (FaultKind::CredentialsMissing, ""),
            (FaultKind::Forbidden, ""),
            (FaultKind::NotFound, ""),
            (FaultKind::Fenced, ""),
        ] {
            assert_eq!(kind.codes().join(" "), codes, "{kind:?}");
        }
    }

    #[test]
    fn writes_to_kubernetes_pause_longer_after_each_failure() {
        let mut pause = Pause::default();
        let now = Moment(Duration::from_secs(100));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pause.failed(now);
            pauses.push(pause.not_before.since(now).as_millis());
        }
        assert_eq!(pauses, [400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000]);
        assert_eq!(pause.failures, 8);
        pause.succeeded();
        assert_eq!(pause, Pause::default());
    }

    #[test]
    fn retry_after_is_a_lower_bound() {
        let limited = Fault { retry_after: Some(Duration::from_secs(90)), ..fault(FaultKind::RateLimited) };
        assert_eq!(delay(&limited, 1, 0.0), Duration::from_secs(90));
    }
}
