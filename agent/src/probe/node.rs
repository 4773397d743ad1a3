//! The probes of one node: when they are due, and what their answers are evidence of.

mod dials;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use decide::Moment;
use decide::probe::{Answer, End, Event, Evidence, Path, ProbeClass, Request};
use decide::settings::{Probe, Settings};
use futures::StreamExt;
use futures::future::{AbortHandle, BoxFuture};
use futures::stream::FuturesUnordered;
use rand::RngExt;
use tokio::sync::watch;
use tracing::debug;

use super::connection::{Connection, Many, Outcome};
use super::readings::{Change, Measure, Readings};
use super::{Target, Way};
use crate::admin::metrics::{self, Metrics};
use crate::host::clock;

/// How many requests may be open.
const OPEN: usize = 12;
/// Nobody is woken by a suspicion more often than this.
const ALARM_EVERY: Duration = Duration::from_millis(200);
/// Whoever may have just been cut off from its etcd is asked so many times as often, and when it is known all are…
const CLOSER: u32 = 4;
/// …for so long: whether it is so, whether it heals, and whether the others are well, is worth knowing at once.
const CLOSELY: Duration = Duration::from_secs(5);

/// The last suspicion: the others start a tick at once, so that a removal has its green witnesses in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarm {
    at: Moment,
    by: Option<Target>,
}

/// What one node's task has.
pub(super) struct Node {
    target: Target,
    way: watch::Receiver<Way>,
    live: watch::Receiver<Arc<Settings>>,
    metrics: Metrics,
    out: watch::Sender<Readings>,
    alarm: Arc<watch::Sender<Alarm>>,
    held: Held,
    /// The server speaks no HTTP/2, so each request has a connection of its own.
    alone: bool,
    open: BTreeMap<u64, Asked>,
    /// Dials and requests under way.
    work: FuturesUnordered<BoxFuture<'static, Did>>,
    tick: u64,
    due: Moment,
    /// When time alone may change what is read.
    next: Option<Moment>,
    /// Lost dials since the last tick.
    lost: u32,
    /// A suspicion that came too soon after another one.
    owed: Option<Moment>,
}

/// The held connection.
enum Held {
    None,
    Dialling { number: u64, since: Moment, abort: AbortHandle },
    Open { number: u64, sender: Many, to: (String, String) },
}

/// A request under way.
struct Asked {
    path: Path,
    since: Moment,
    /// What it waits for; without, for the held connection.
    abort: Option<AbortHandle>,
    /// It waits for a dial of its own, so the server has not seen it.
    unseen: bool,
}

/// What has come of something under way.
enum Did {
    /// The dial of the held connection with this number.
    Held(u64, Result<Connection, End>),
    /// A dial for these requests, begun at this time.
    Own(Vec<u64>, Moment, Result<Connection, End>),
    Asked(u64, Outcome),
    /// The held connection with this number is over.
    Over(u64),
    Again,
    Aborted,
}

/// A number that has not been there before in this process.
fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// Until the next tick: up to a tenth less or more than `interval`, so that agents and nodes do not stay in step.
/// `random`: from 0 to 1.
pub(super) fn pause(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + random / 5.0)
}

impl Node {
    pub(super) fn new(
        target: Target,
        way: watch::Receiver<Way>,
        live: watch::Receiver<Arc<Settings>>,
        metrics: Metrics,
        out: watch::Sender<Readings>,
        alarm: Arc<watch::Sender<Alarm>>,
    ) -> Self {
        Self {
            target,
            way,
            live,
            metrics,
            out,
            alarm,
            held: Held::None,
            alone: false,
            open: BTreeMap::new(),
            work: FuturesUnordered::new(),
            tick: 0,
            due: Moment::default(),
            next: None,
            lost: 0,
            owed: None,
        }
    }

    /// Asks for ever.
    pub(super) async fn run(mut self) {
        let mut alarms = self.alarm.subscribe();
        let mut way = self.way.clone();
        way.mark_unchanged();
        // The first answers soon, and each node at a time of its own.
        self.due = clock::now() + self.probe().interval.mul_f64(rand::rng().random_range(0.0..0.2));
        loop {
            let now = self.now();
            self.expire(now);
            if now >= self.due {
                self.tick(now);
            }
            if self.owed.is_some_and(|owed| now >= owed) {
                self.suspect(now);
            }
            if self.next.is_some_and(|next| now >= next) {
                self.change(now, false, |_| ());
            }
            let wake = self.wake();
            tokio::select! {
                Some(did) = self.work.next(), if !self.work.is_empty() => {
                    let now = self.now();
                    self.take(did, now);
                }
                () = tokio::time::sleep(wake.since(now)) => {}
                Ok(()) = alarms.changed() => {
                    if alarms.borrow_and_update().by.as_ref() != Some(&self.target) {
                        self.due = self.due.min(clock::now());
                    }
                }
                Ok(()) = way.changed() => self.redial(clock::now()),
            }
        }
    }

    fn probe(&self) -> Probe {
        self.live.borrow().health.probe.clone()
    }

    /// Now, and if that is more than an interval late, all silence since is our own.
    fn now(&mut self) -> Moment {
        let (now, interval) = (clock::now(), self.probe().interval);
        if now > self.due + interval {
            debug!(node = self.target.uid, late = ?now.since(self.due), "the prober was stopped or starved");
            self.due = now;
            self.change(now, false, Evidence::overslept);
        }
        now
    }

    /// When there is something to do although nothing comes back.
    fn wake(&self) -> Moment {
        let timeout = self.live.borrow().health.probe.timeout;
        let expires = self.open.values().map(|asked| asked.since + timeout).min();
        [Some(self.due), expires, self.next, self.owed].into_iter().flatten().min().unwrap_or(self.due)
    }

    /// Gives up what has been open for too long.
    fn expire(&mut self, now: Moment) {
        let timeout = self.live.borrow().health.probe.timeout;
        let old = |asked: &Asked| now.since(asked.since) >= timeout;
        let ids: Vec<u64> = self.open.iter().filter(|(_, asked)| old(asked)).map(|(id, _)| *id).collect();
        for id in ids {
            self.ended(id, End::GivenUp, now);
        }
        if let Held::Dialling { since, abort, .. } = &self.held
            && now.since(*since) >= timeout
        {
            abort.abort();
            self.held = Held::None;
        }
    }

    /// What is due each interval.
    fn tick(&mut self, now: Moment) {
        let probe = self.probe();
        let interval = if self.is_close(now, &probe) { probe.interval / CLOSER } else { probe.interval };
        self.due = now + pause(interval, rand::rng().random());
        self.tick += 1;
        self.lost = 0;
        let until = self.due + probe.interval;
        self.out.send_if_modified(|readings| {
            readings.looked(&self.target, until);
            false
        });
        if let Held::Open { sender, to, .. } = &self.held
            && (sender.is_closed() || *to != (probe.scheme.clone(), probe.server_name.clone()))
        {
            self.held = Held::None;
        }
        let holds = self.holds(&probe);
        if holds && matches!(self.held, Held::None) {
            self.dial_held(now);
        }
        self.make_room(now, probe.slow);
        if self.open.len() + 2 > OPEN {
            return;
        }
        let fresh = {
            let readings = self.out.borrow();
            let evidence = readings.evidence.get(&self.target);
            evidence.is_none_or(|evidence| evidence.wants_fresh(probe.success_threshold, self.tick))
        };
        let fresh = fresh || !holds;
        let ids = [Path::Ready, Path::Alive].map(|path| {
            let id = number();
            self.open.insert(id, Asked { path, since: now, abort: None, unseen: false });
            self.change(now, false, |evidence| {
                evidence.learn(Event::Sent(Request { id, path, fresh }), now, probe.slow);
            });
            id
        });
        if fresh {
            self.dial_own(ids.to_vec(), now);
        } else {
            self.ask_waiting();
        }
    }

    /// Whether this node or another was cut off from its etcd a moment ago. Of this one a single slow request is enough: the
    /// answers that name etcd come a second later, and all that is decided counts from the first of them that this prober has
    /// seen. The others are left alone until then: while etcd chooses a leader, who asks most often sees most of its trouble.
    fn is_close(&self, now: Moment, probe: &Probe) -> bool {
        let readings = self.out.borrow();
        let cut = |(target, evidence): (&Target, &Evidence)| {
            let reading = evidence.reading(now, probe.slow, *target == self.target);
            reading.class == ProbeClass::EtcdCut && now.since(reading.since) < CLOSELY
        };
        readings.evidence.iter().any(cut)
    }

    /// Whether requests share a held connection.
    fn holds(&self, probe: &Probe) -> bool {
        probe.hold_connection && probe.scheme == "https" && !self.alone
    }

    /// The two that have waited longest make room for two new ones, if they have been slow for long: a server that is
    /// back is seen by a new request first.
    fn make_room(&mut self, now: Moment, slow: Duration) {
        while self.open.len() + 2 > OPEN {
            let oldest = self.open.iter().min_by_key(|(_, asked)| asked.since).map(|(id, asked)| (*id, asked.since));
            match oldest {
                Some((id, since)) if now.since(since) >= slow => self.ended(id, End::GivenUp, now),
                _ => return,
            }
        }
    }

    fn answered(&mut self, id: u64, answer: Answer, now: Moment) {
        let Some(asked) = self.open.remove(&id) else { return };
        let class = match &answer {
            Answer::Green => ProbeClass::Green,
            Answer::Shutdown => ProbeClass::Shutdown,
            Answer::Etcd => ProbeClass::EtcdCut,
            Answer::Failing(_) => ProbeClass::Red,
            Answer::Denied(_) | Answer::Other(_) => ProbeClass::Unknown,
        };
        self.count(class, now.since(asked.since));
        let slow = self.measure().slow;
        self.change(now, true, |evidence| evidence.learn(Event::Answered(id, answer), now, slow));
    }

    fn ended(&mut self, id: u64, end: End, now: Moment) {
        let Some(asked) = self.open.remove(&id) else { return };
        if let Some(abort) = asked.abort {
            abort.abort();
        }
        let class = match &end {
            End::Refused => ProbeClass::Refused,
            End::Unreachable | End::GivenUp => ProbeClass::Silent,
            End::Lost | End::Tls(_) | End::Local(_) => ProbeClass::Unknown,
        };
        self.count(class, now.since(asked.since));
        let slow = self.measure().slow;
        self.change(now, true, |evidence| evidence.learn(Event::Ended(id, end), now, slow));
    }

    fn count(&self, class: ProbeClass, took: Duration) {
        if let Some(class) = metrics::ProbeClass::from_word(class.word()) {
            self.metrics.probe_ended(class, took);
        }
    }

    fn measure(&self) -> Measure {
        let settings = self.live.borrow();
        Measure { slow: settings.health.probe.slow, threshold: settings.health.probe.success_threshold }
    }

    fn change(&mut self, now: Moment, news: bool, change: impl FnOnce(&mut Evidence)) {
        let measure = self.measure();
        let mut changed = Change::default();
        self.out.send_if_modified(|readings| {
            changed = readings.change(&self.target, now, measure, news, change);
            changed.tell
        });
        self.next = changed.next;
        if changed.turned {
            let probe = self.probe();
            if self.is_close(now, &probe) {
                self.due = self.due.min(now + probe.interval / CLOSER);
            }
            self.suspect(now);
        }
    }

    /// Wakes the others, now or when they may be woken again.
    fn suspect(&mut self, now: Moment) {
        self.owed = None;
        self.alarm.send_if_modified(|alarm| {
            if alarm.by.is_some() && now.since(alarm.at) < ALARM_EVERY {
                self.owed = Some(alarm.at + ALARM_EVERY);
                return false;
            }
            *alarm = Alarm { at: now, by: Some(self.target.clone()) };
            true
        });
    }
}
