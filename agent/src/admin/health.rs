//! Alive and ready, as the Kubernetes API server tells it.
//!
//! *Alive* is own progress only: each owner task beats its [`Progress`], and one that has not done so within its
//! deadline is stuck. *Ready* is a list of named checks: gates turn it red, dependencies only show. Deadlines run on a
//! monotonic clock that stands still while the machine sleeps, so waking up looks like no missed beat.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The handle that everything else comes from; cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    clock: Clock,
    progress: Mutex<Vec<Arc<Beat>>>,
    checks: Mutex<Vec<Arc<State>>>,
    shutting_down: AtomicBool,
}

struct Beat {
    task: &'static str,
    deadline: Duration,
    last_millis: AtomicU64,
}

struct State {
    name: &'static str,
    gate: bool,
    trouble: Mutex<Option<String>>,
}

/// A task's sign of life. Dropping it means that the task has ended in good order and nobody waits for it.
pub struct Progress {
    health: Health,
    beat: Arc<Beat>,
}

/// One line of `/readyz?verbose`; cheap to clone.
#[derive(Clone)]
pub struct Check(Arc<State>);

/// The outcome of all checks of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether every check that counts is good.
    pub healthy: bool,
    /// The lines, as the Kubernetes API server prints them.
    pub text: String,
}

impl Default for Health {
    fn default() -> Self {
        let start = Instant::now();
        Self::with_clock(move || start.elapsed())
    }
}

impl Health {
    /// With a clock of the caller's: time since some fixed moment.
    pub fn with_clock(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            clock: Arc::new(clock),
            progress: Mutex::default(),
            checks: Mutex::default(),
            shutting_down: AtomicBool::new(false),
        }))
    }

    /// A task that must beat at least once within `deadline`, counted from now.
    pub fn progress(&self, task: &'static str, deadline: Duration) -> Progress {
        let beat = Arc::new(Beat { task, deadline, last_millis: AtomicU64::new(self.now_millis()) });
        lock(&self.0.progress).push(Arc::clone(&beat));
        Progress { health: self.clone(), beat }
    }

    /// A check without which the agent is not ready; red, for this reason, until somebody says otherwise.
    pub fn gate(&self, name: &'static str, reason: &str) -> Check {
        self.check(name, true, Some(one_line(reason)))
    }

    /// A check that shows and never turns readiness red; fine until somebody says otherwise.
    pub fn dependency(&self, name: &'static str) -> Check {
        self.check(name, false, None)
    }

    /// From now on `/readyz` is red; there is no way back.
    pub fn begin_shutdown(&self) {
        self.0.shutting_down.store(true, Ordering::Relaxed);
    }

    /// `/livez` without the checks named in `exclude`.
    pub fn livez(&self, exclude: &[&str]) -> Report {
        let now = self.now_millis();
        let mut report = Lines::new("livez", exclude);
        report.line("ping", None, true);
        for beat in lock(&self.0.progress).iter() {
            let silent = Duration::from_millis(now.saturating_sub(beat.last_millis.load(Ordering::Relaxed)));
            let late = (silent > beat.deadline).then(|| {
                format!("stuck: no progress for {} s, at most {} s", silent.as_secs(), beat.deadline.as_secs())
            });
            report.line(beat.task, late.as_deref(), true);
        }
        report.finish()
    }

    /// `/readyz` without the checks named in `exclude`.
    pub fn readyz(&self, exclude: &[&str]) -> Report {
        let mut report = Lines::new("readyz", exclude);
        report.line("ping", None, true);
        for check in lock(&self.0.checks).iter() {
            report.line(check.name, lock(&check.trouble).as_deref(), check.gate);
        }
        let closing = self.0.shutting_down.load(Ordering::Relaxed).then_some("the agent is shutting down");
        report.line("shutdown", closing, true);
        report.finish()
    }

    /// What is wrong with this check; `None` while it is fine, and where there is no such check.
    pub fn trouble(&self, name: &str) -> Option<String> {
        lock(&self.0.checks).iter().filter(|check| check.name == name).find_map(|check| lock(&check.trouble).clone())
    }

    /// One line for a person: what is stuck, what it waits for, what is degraded; `ready` when nothing is.
    pub fn in_short(&self) -> String {
        let troubles = |prefix: &str, report: &Report| -> Vec<String> {
            report.text.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
        };
        let stuck = troubles("[-]", &self.livez(&[]));
        let ready = self.readyz(&[]);
        let missing = troubles("[-]", &ready);
        let degraded: Vec<String> = troubles("[+]", &ready)
            .iter()
            .filter_map(|line| line.split_once(" ok, degraded: "))
            .map(|(name, reason)| format!("{name} {reason}"))
            .collect();
        let missing =
            if missing.is_empty() { "ready".to_owned() } else { format!("not ready: {}", missing.join("; ")) };
        let degraded = (!degraded.is_empty()).then(|| format!("degraded: {}", degraded.join("; ")));
        stuck.into_iter().chain([missing]).chain(degraded).collect::<Vec<_>>().join("; ")
    }

    fn check(&self, name: &'static str, gate: bool, trouble: Option<String>) -> Check {
        let state = Arc::new(State { name, gate, trouble: Mutex::new(trouble) });
        lock(&self.0.checks).push(Arc::clone(&state));
        Check(state)
    }

    fn now_millis(&self) -> u64 {
        u64::try_from((self.0.clock)().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("livez", &self.livez(&[])).field("readyz", &self.readyz(&[])).finish()
    }
}

impl Progress {
    /// The task is alive.
    pub fn beat(&self) {
        self.beat.last_millis.store(self.health.now_millis(), Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        lock(&self.health.0.progress).retain(|beat| !Arc::ptr_eq(beat, &self.beat));
    }
}

impl Check {
    /// Nothing is wrong.
    pub fn ok(&self) {
        *lock(&self.0.trouble) = None;
    }

    /// Something is wrong; the reason reads well behind the name: `not running: …`. No secrets: everybody who
    /// reaches the admin server reads it.
    pub fn fail(&self, reason: &str) {
        *lock(&self.0.trouble) = Some(one_line(reason));
    }
}

/// Gathers the lines of a report.
struct Lines<'a> {
    endpoint: &'static str,
    exclude: &'a [&'a str],
    matched: Vec<&'static str>,
    healthy: bool,
    text: String,
}

impl<'a> Lines<'a> {
    fn new(endpoint: &'static str, exclude: &'a [&'a str]) -> Self {
        Self { endpoint, exclude, matched: Vec::new(), healthy: true, text: String::new() }
    }

    fn line(&mut self, name: &'static str, trouble: Option<&str>, gate: bool) {
        // Writing to a string does not fail.
        let _ = if self.exclude.contains(&name) {
            self.matched.push(name);
            writeln!(self.text, "[+]{name} excluded: ok")
        } else {
            match trouble {
                None => writeln!(self.text, "[+]{name} ok"),
                Some(reason) if gate => {
                    self.healthy = false;
                    writeln!(self.text, "[-]{name} {reason}")
                }
                Some(reason) => writeln!(self.text, "[+]{name} ok, degraded: {reason}"),
            }
        };
    }

    fn finish(mut self) -> Report {
        let unmatched: Vec<String> =
            self.exclude.iter().filter(|name| !self.matched.contains(name)).map(|name| format!("{name:?}")).collect();
        let result = if self.healthy { "passed" } else { "failed" };
        let _ = if unmatched.is_empty() {
            Ok(())
        } else {
            let names = unmatched.join(", ");
            writeln!(self.text, "warn: some health checks cannot be excluded: no matches for {names}")
        };
        let _ = writeln!(self.text, "{} check {result}", self.endpoint);
        Report { healthy: self.healthy, text: self.text }
    }
}

fn one_line(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A panic elsewhere does not make what is behind a lock worse.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> (Health, Arc<AtomicU64>) {
        let seconds = Arc::new(AtomicU64::new(100));
        let clock = Arc::clone(&seconds);
        (Health::with_clock(move || Duration::from_secs(clock.load(Ordering::Relaxed))), seconds)
    }

    #[test]
    fn a_task_that_stops_beating_is_not_alive() {
        let (health, seconds) = health();
        let progress = health.progress("reconcile", Duration::from_secs(30));
        seconds.store(130, Ordering::Relaxed);
        assert!(health.livez(&[]).healthy);
        seconds.store(131, Ordering::Relaxed);
        let report = health.livez(&[]);
        let expected =
            "[+]ping ok\n[-]reconcile stuck: no progress for 31 s, at most 30 s\nlivez check failed\n".to_owned();
        assert_eq!(report, Report { healthy: false, text: expected });
        assert!(health.livez(&["reconcile"]).healthy);
        assert_eq!(health.in_short(), "reconcile stuck: no progress for 31 s, at most 30 s; ready");
        progress.beat();
        assert!(health.livez(&[]).healthy);
        seconds.store(999, Ordering::Relaxed);
        drop(progress);
        assert!(health.livez(&[]).healthy);
    }

    #[test]
    fn gates_turn_red_and_dependencies_only_show() {
        let (health, _) = health();
        let caches = health.gate("caches", "not filled yet");
        let election = health.gate("election", "not running: starts after the caches");
        let cloud = health.dependency("stackit");
        caches.ok();
        cloud.fail("no answer\nfor 12 s");
        let expected = "[+]ping ok\n[+]caches ok\n[-]election not running: starts after the caches\n\
                        [+]stackit ok, degraded: no answer for 12 s\n[+]shutdown ok\nreadyz check failed\n";
        assert_eq!(health.readyz(&[]), Report { healthy: false, text: expected.to_owned() });
        assert_eq!(health.trouble("election").as_deref(), Some("not running: starts after the caches"));
        let short = "not ready: election not running: starts after the caches; degraded: stackit no answer for 12 s";
        assert_eq!(health.in_short(), short);
        election.ok();
        assert_eq!(health.trouble("election"), None);
        assert!(health.readyz(&[]).text.ends_with("readyz check passed\n"));
        assert_eq!(health.in_short(), "ready; degraded: stackit no answer for 12 s");
        cloud.ok();
        assert_eq!(health.in_short(), "ready");
    }

    #[test]
    fn excluded_checks_do_not_count() {
        let (health, _) = health();
        let _caches = health.gate("caches", "not filled yet");
        let report = health.readyz(&["caches", "nothing"]);
        let expected = "[+]ping ok\n[+]caches excluded: ok\n[+]shutdown ok\n\
                        warn: some health checks cannot be excluded: no matches for \"nothing\"\n\
                        readyz check passed\n";
        assert_eq!(report, Report { healthy: true, text: expected.to_owned() });
    }

    #[test]
    fn shutting_down_is_not_ready_but_alive() {
        let (health, _) = health();
        health.begin_shutdown();
        assert!(!health.readyz(&[]).healthy && health.livez(&[]).healthy);
    }
}
