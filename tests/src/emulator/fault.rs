//! Faults on request: which requests they meet, and what happens to those.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::action::Action;
use super::gateway::Arrival;

/// A rule: requests that fit it meet its action. An unset field fits everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Method, e.g. `PUT`.
    #[serde(default)]
    pub method: Option<String>,
    /// A part of the path, e.g. `/load-balancers/lb1` or `/token`.
    #[serde(default)]
    pub path: Option<String>,
    /// The beginning of the path.
    #[serde(default)]
    pub path_prefix: Option<String>,
    /// How many fitting requests go by unharmed at first.
    #[serde(default)]
    pub skip: u32,
    /// How many requests are met; `None`: all, for ever.
    #[serde(default)]
    pub times: Option<u32>,
    /// Every how many fitting requests one is met; `None`: every one (F12: flapping).
    #[serde(default)]
    pub every: Option<u32>,
    /// The chance of a fitting request to be met, 0 to 1, drawn from the emulator's seed.
    #[serde(default)]
    pub probability: Option<f64>,
    /// From when on, counted from the injection; milliseconds on the wire.
    #[serde(default, with = "super::wire::milliseconds")]
    pub after: Duration,
    /// For how long from then on; zero stands for ever; milliseconds on the wire.
    #[serde(default, with = "super::wire::milliseconds")]
    pub lasting: Duration,
    /// What happens.
    pub action: Action,
}

impl Fault {
    /// A rule that meets every request.
    pub fn new(action: Action) -> Self {
        let (after, lasting) = (Duration::ZERO, Duration::ZERO);
        let (method, path, path_prefix, times, every, probability) = (None, None, None, None, None, None);
        Self { method, path, path_prefix, skip: 0, times, every, probability, after, lasting, action }
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: Some(method.to_owned()), ..self }
    }

    /// Only requests whose path contains this.
    #[must_use]
    pub fn path(self, part: &str) -> Self {
        Self { path: Some(part.to_owned()), ..self }
    }

    /// Only requests whose path begins with this.
    #[must_use]
    pub fn path_prefix(self, prefix: &str) -> Self {
        Self { path_prefix: Some(prefix.to_owned()), ..self }
    }

    /// Only so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Only one request.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Not the first so many requests.
    #[must_use]
    pub fn skip(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Only every so many requests.
    #[must_use]
    pub fn every(self, every: u32) -> Self {
        Self { every: Some(every), ..self }
    }

    /// Only with this chance.
    #[must_use]
    pub fn probability(self, probability: f64) -> Self {
        Self { probability: Some(probability), ..self }
    }

    /// Only in this window, counted from the injection.
    #[must_use]
    pub fn window(self, after: Duration, lasting: Duration) -> Self {
        Self { after, lasting, ..self }
    }

    fn fits(&self, arrival: &Arrival, age: Duration) -> bool {
        self.method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(&arrival.method))
            && self.path.as_ref().is_none_or(|part| arrival.path.contains(part.as_str()))
            && self.path_prefix.as_ref().is_none_or(|prefix| arrival.path.starts_with(prefix.as_str()))
            && age >= self.after
            && (self.lasting.is_zero() || age < self.after + self.lasting)
    }
}

/// A rule at work.
#[derive(Debug)]
struct Rule {
    fault: Fault,
    since: Instant,
    fitting: u32,
    met: u32,
}

/// All rules, and the dice.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    dice: StdRng,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), dice: StdRng::seed_from_u64(seed) }
    }

    pub(crate) fn add(&mut self, fault: Fault, now: Instant) {
        self.rules.push(Rule { fault, since: now, fitting: 0, met: 0 });
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.rules.iter().map(|rule| rule.fault.clone()).collect()
    }

    /// What happens to this request, in the order of injection; at most one action ends the list.
    pub(crate) fn draw(&mut self, arrival: &Arrival, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        for rule in &mut self.rules {
            if !rule.fault.fits(arrival, now - rule.since) {
                continue;
            }
            rule.fitting += 1;
            let past_skip = rule.fitting.checked_sub(rule.fault.skip + 1);
            let turn = past_skip.is_some_and(|count| count.is_multiple_of(rule.fault.every.unwrap_or(1).max(1)));
            let left = rule.fault.times.is_none_or(|times| rule.met < times);
            let chance = rule.fault.probability.unwrap_or(1.0).clamp(0.0, 1.0);
            if turn && left && (chance >= 1.0 || self.dice.random_bool(chance)) {
                rule.met += 1;
                actions.push(rule.fault.action.clone());
                if !rule.fault.action.goes_on() {
                    break;
                }
            }
        }
        actions
    }
}
