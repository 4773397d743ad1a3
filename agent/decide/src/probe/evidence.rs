//! Keeping count of what one API server answers.

mod run;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Answer, End, Event, Path, ProbeClass, Request};
use crate::Moment;

use run::Run;

pub(crate) use run::SETTLED;

/// Two failing answers count as one state when they are no further apart.
const RED_WITHIN: Duration = Duration::from_secs(3);
/// How many slow requests, or failing answers, it takes.
const ENOUGH: usize = 2;
/// How long an API server must have answered `Path::Alive` without delay before its other silence is its etcd's: one that
/// goes on after a pause answers that first.
const LIVES: Duration = Duration::from_millis(500);
/// Of the requests to a node that is in, every fourth comes on a connection of its own.
const FRESH_EVERY: u64 = 4;

/// What is known of one API server, that is of one Node UID at one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Requests without an answer, by id: for how long matters.
    open: BTreeMap<u64, Open>,
    /// Requests that were slow and ended without an answer since the last reset, by path; the start of the first.
    slow: [Slow; 2],
    /// The state that the last dial or answer has named, apart from slowness.
    state: State,
    /// The last failing answer since the last reset, by path: when it was asked for, and the checks it names.
    failing: [Option<(Moment, String)>; 2],
    /// The latest green answer on `Path::Ready`.
    green: Option<Green>,
    /// The present row of greens, and the trouble that it has ended.
    run: Run,
    /// When the latest green request for `Path::Alive` was sent.
    alive: Option<Moment>,
    /// Since when `Path::Alive` has been answered without delay.
    lives_since: Option<Moment>,
    /// Greens in a row on connections of their own.
    fresh_greens: u32,
    /// Whether it has ever answered.
    answered: bool,
    /// Since when it refuses our credential or its certificate does not fit.
    denied: Option<(Moment, String)>,
    /// The path to it is broken, not the node: silence does not count until it answers.
    muted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    path: Path,
    fresh: bool,
    since: Moment,
    /// Part of its time was time in which nobody could have seen an answer: its silence says nothing.
    void: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slow {
    ended: usize,
    first: Moment,
}

/// How many requests were slow, when the first of them began, and until when they are known to have been without an
/// answer.
struct Slowness {
    count: usize,
    first: Moment,
    until: Moment,
}

/// Answers that name etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// When the first request began that was answered so, or waited longer.
    first: Moment,
    /// When the first of the answers came.
    named: Moment,
    /// When the latest request began that was answered so, or the end of one that was slow.
    until: Moment,
}

/// The latest word that stands until another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Nothing,
    Green,
    Refused(Moment),
    Shutdown(Moment),
    Etcd(Cut),
    /// Two failing answers; the names of the checks.
    Failing(Moment, String),
    Unreachable(Moment),
    /// An answer that says nothing; for people.
    Odd(String),
}

/// A green answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Green {
    /// When it was asked for.
    pub asked: Moment,
    /// When it came.
    pub came: Moment,
}

/// What the evidence amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The class.
    pub class: ProbeClass,
    /// When the first request or dial began that it rests on; for a green node: nothing to rest on.
    pub since: Moment,
    /// Until when it is known to have been so: when the latest request began that it rests on, or the end of one that was
    /// slow, or now, while one waits.
    pub until: Moment,
    /// When the first answer came that named etcd, of a server that has lived all the while since: its own check had
    /// failed by then.
    pub named: Option<Moment>,
    /// Since when it has been green without a break.
    pub green_since: Option<Moment>,
    /// When whoever lost its etcd together with this one, before `green_since`, would be green again as well.
    pub others_back: Option<Moment>,
    /// Since when it has answered `Path::Alive` without delay: it was neither stopped nor away.
    pub lives_since: Option<Moment>,
    /// The latest green answer.
    pub green: Option<Green>,
    /// Greens in a row on connections of their own.
    pub fresh_greens: u32,
    /// Whether it has ever answered.
    pub answered: bool,
    /// Whether there was a word on whether it is ready, be it of an error on the way. That it lives is none, nor is one
    /// failing answer.
    pub heard: bool,
    /// Silence does not count: its kubelet is alive, so the path is broken, not the node.
    pub muted: bool,
    /// Since when it refuses our credential, or its certificate does not fit.
    pub denied_since: Option<Moment>,
    /// What was found, for people.
    pub found: String,
    /// When the class may change although nothing happens.
    pub next: Option<Moment>,
}

impl Evidence {
    /// Takes in what happened at `now`.
    pub fn learn(&mut self, event: Event, now: Moment, slow: Duration) {
        match event {
            Event::Sent(Request { id, path, fresh }) => {
                self.open.insert(id, Open { path, fresh, since: now, void: false });
            }
            Event::Answered(id, answer) => {
                if let Some(request) = self.open.remove(&id) {
                    self.answer(request, answer, now, slow);
                }
            }
            Event::Ended(id, end) => {
                if let Some(request) = self.open.remove(&id) {
                    self.end(request, end, now, slow);
                }
            }
            Event::DialFailed(end) => self.dial_failed(end, now),
        }
    }

    /// Whether the requests of this tick come on a connection of their own: before the node may enter all do, then
    /// those of every fourth tick.
    pub fn wants_fresh(&self, threshold: u32, tick: u64) -> bool {
        self.fresh_greens < threshold || tick.is_multiple_of(FRESH_EVERY)
    }

    /// The prober was stopped or starved: silence that was collected meanwhile is its own.
    pub fn overslept(&mut self) {
        for request in self.open.values_mut() {
            request.void = true;
        }
        self.slow = [Slow::default(); 2];
    }

    /// Its kubelet is alive: the path is broken, so silence does not count until it answers.
    pub fn mute_silence(&mut self) {
        self.muted = true;
    }

    /// How many requests have no answer yet.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn answer(&mut self, request: Open, answer: Answer, now: Moment, slow: Duration) {
        self.answered = true;
        self.muted = false;
        let older = self.open.values().any(|open| open.since < request.since && !open.void);
        let since = request.since;
        match (request.path, answer) {
            (Path::Ready, Answer::Green) => {
                if request.fresh {
                    self.fresh_greens = self.fresh_greens.saturating_add(1);
                }
                // An older request that still waits may know more: answers from a cache come while etcd hangs.
                if !older {
                    let unbroken =
                        self.slow == [Slow::default(); 2] && matches!(self.state, State::Green | State::Odd(_));
                    if !unbroken || self.run.since().is_none() {
                        self.run.begin(since, self.green.map(|last| last.asked));
                    }
                    self.green = Some(Green { asked: since, came: now });
                    self.denied = None;
                    self.failing = [None, None];
                    self.slow = [Slow::default(); 2];
                    self.state = State::Green;
                }
            }
            (Path::Alive, Answer::Green) => {
                // What has hung answers all that waits at once when it goes on, in any order.
                let late = now.since(since) >= slow || self.slowness(Path::Alive, now, slow).count > 0;
                self.lives_since = self.lives_since.filter(|_| !late).or(Some(now));
                self.alive = self.alive.max(Some(since));
                if !self.open.values().any(|open| open.path == Path::Alive && open.since < since && !open.void) {
                    self.slow[Path::Alive as usize] = Slow::default();
                }
            }
            (_, Answer::Shutdown) => {
                let first = if let State::Shutdown(first) = self.state { first.min(since) } else { since };
                self.turn(State::Shutdown(first));
            }
            (_, Answer::Etcd) => {
                // Requests before it may wait longer: an answer may come from what was found for another.
                let waiting = self.slowness(Path::Ready, now, slow);
                let earliest = if waiting.count > 0 { waiting.first.min(since) } else { since };
                // What was slow has waited for etcd until now; what came at once may be what was found for another.
                let until = if now.since(since) >= slow { now } else { since };
                let new = Cut { first: earliest, named: now, until };
                self.turn(State::Etcd(if let State::Etcd(cut) = self.state { Cut { until, ..cut } } else { new }));
            }
            (path, Answer::Failing(names)) => {
                self.fresh_greens = 0;
                let before = self.failing[path as usize].replace((since, names.clone()));
                // Once may be a blip: it changes nothing.
                let again = before.filter(|(before, _)| *before < since && since.since(*before) <= RED_WITHIN);
                if let State::Failing(first, _) = self.state {
                    self.turn(State::Failing(first, names));
                } else if let Some((first, _)) = again {
                    self.turn(State::Failing(first, names));
                }
            }
            (_, Answer::Denied(status)) => self.deny(since, format!("answers {status}")),
            (_, Answer::Other(status)) => self.odd(format!("answers {status}")),
        }
    }

    fn end(&mut self, request: Open, end: End, now: Moment, slow: Duration) {
        let was_slow = !request.void && now.since(request.since) >= slow;
        if was_slow {
            let slow = &mut self.slow[request.path as usize];
            slow.first = if slow.ended == 0 { request.since } else { slow.first.min(request.since) };
            slow.ended = slow.ended.saturating_add(1);
            self.fresh_greens = 0;
            if request.path == Path::Alive {
                self.lives_since = None;
            }
        }
        match end {
            End::Lost | End::GivenUp => {}
            end => self.dial_failed(end, now),
        }
    }

    fn dial_failed(&mut self, end: End, at: Moment) {
        match end {
            End::Lost | End::GivenUp => {}
            End::Refused => {
                self.lives_since = None;
                let first = if let State::Refused(first) = self.state { first } else { at };
                self.turn(State::Refused(first));
            }
            End::Unreachable => {
                self.lives_since = None;
                let first = if let State::Unreachable(first) = self.state { first } else { at };
                self.turn(State::Unreachable(first));
            }
            End::Tls(found) => self.deny(at, found),
            End::Local(found) => self.odd(found),
        }
    }

    fn turn(&mut self, state: State) {
        self.fresh_greens = 0;
        self.state = state;
    }

    fn deny(&mut self, at: Moment, found: String) {
        self.fresh_greens = 0;
        let first = self.denied.take().map_or(at, |(first, _)| first);
        self.odd(found.clone());
        self.denied = Some((first, found));
    }

    fn odd(&mut self, found: String) {
        self.fresh_greens = 0;
        // It says nothing, so it takes nothing back either.
        if matches!(self.state, State::Nothing | State::Green | State::Odd(_)) {
            self.state = State::Odd(found);
        }
    }

    /// What it amounts to at `now`. `hurried`: the static pods on the node are not Ready, so once is enough.
    pub fn reading(&self, now: Moment, slow: Duration, hurried: bool) -> Reading {
        let (class, since, until, found) = self.class(now, slow, hurried);
        let lived = |cut: &Cut| self.lives_since.is_some_and(|lives| lives <= cut.first);
        Reading {
            named: if let State::Etcd(cut) = &self.state { lived(cut).then_some(cut.named) } else { None },
            class,
            since,
            until,
            green_since: self.run.since(),
            others_back: self.run.others_back(),
            lives_since: self.lives_since,
            green: self.green,
            fresh_greens: self.fresh_greens,
            answered: self.answered,
            heard: self.state != State::Nothing,
            muted: self.muted,
            denied_since: self.denied.as_ref().map(|(since, _)| *since),
            found,
            next: {
                let slow = self.open.values().filter(|open| !open.void).map(|open| open.since + slow);
                slow.chain(self.lives_since.map(|since| since + LIVES)).filter(|at| *at > now).min()
            },
        }
    }

    /// The class, when the evidence for it began and was last renewed, and what was found.
    fn class(&self, now: Moment, slow: Duration, hurried: bool) -> (ProbeClass, Moment, Moment, String) {
        let enough = if hurried { 1 } else { ENOUGH };
        let [ready, alive] = [Path::Ready, Path::Alive].map(|path| self.slowness(path, now, slow));
        let is = |class, since, found: &str| (class, since, since, found.to_owned());
        let never = Moment::default();
        let lives = self.lives_since.is_some_and(|since| now.since(since) >= LIVES);
        // While it hung, it was not its etcd that was missing: a cut begins when it lives.
        let living = |since: Moment| self.lives_since.map_or(since, |lives| since.max(lives));
        let hung = alive.count > 0 || self.lives_since.is_some_and(|_| !lives);
        match &self.state {
            State::Refused(since) => return is(ProbeClass::Refused, *since, "connection refused"),
            State::Shutdown(since) => return is(ProbeClass::Shutdown, *since, "shutting down"),
            State::Failing(since, names) => return is(ProbeClass::Red, *since, &format!("not ready: {names}")),
            // What it found while it hung says nothing about its etcd.
            State::Etcd(cut) if !hung => {
                let until = ready.until.max(cut.until);
                return (ProbeClass::EtcdCut, living(cut.first), until, "its etcd does not answer".to_owned());
            }
            State::Unreachable(since) if !self.muted => return is(ProbeClass::Silent, *since, "no route to it"),
            _ => {}
        }
        if ready.count >= enough && lives && self.alive.is_some_and(|alive| alive > ready.first) {
            let found = "it lives, and waits for its etcd".to_owned();
            return (ProbeClass::EtcdCut, living(ready.first), ready.until, found);
        }
        if ready.count >= enough && self.muted {
            return is(ProbeClass::Unknown, never, "no answer, but its kubelet is alive");
        }
        if ready.count >= enough && alive.count >= enough {
            let first = ready.first.min(alive.first);
            return (ProbeClass::Silent, first, ready.until.max(alive.until), "no answer".to_owned());
        }
        if hurried && let Some((since, names)) = self.failing.iter().flatten().next() {
            return is(ProbeClass::Red, *since, &format!("not ready: {names}"));
        }
        match &self.state {
            State::Green => is(ProbeClass::Green, never, "ready"),
            State::Odd(found) => is(ProbeClass::Unknown, never, found),
            _ => is(ProbeClass::Unknown, never, "no answer yet"),
        }
    }

    /// Slow requests of a path since the last reset.
    fn slowness(&self, path: Path, now: Moment, slow: Duration) -> Slowness {
        let Slow { ended, first } = self.slow[path as usize];
        let open = self.open.values().filter(|open| open.path == path && !open.void);
        let open: Vec<Moment> = open.map(|open| open.since).filter(|since| now.since(*since) >= slow).collect();
        let known = (ended > 0).then_some(first);
        let until = if open.is_empty() { known } else { Some(now) };
        let first = open.iter().copied().chain(known).min();
        Slowness { count: ended + open.len(), first: first.unwrap_or_default(), until: until.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests;
