//! Everything the emulated cloud remembers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::Ipv4Net;
use serde_json::Value;
use tokio::time::Instant;

use super::address::Addresses;
use super::answer::Answer;
use super::balancer::Balancer;
use super::clock::Clock;
use super::credential::Credential;
use super::fault::Faults;
use super::federation::Federation;
use super::journal::Journal;
use super::key::Key;
use super::profile::Delays;
use super::switches::Switches;
use super::token::Tokens;

/// A project and a region; nothing is visible from one place in another (E56).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlaceKey {
    pub(crate) project: String,
    pub(crate) region: String,
}

#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) balancers: BTreeMap<String, Balancer>,
    pub(crate) credentials: BTreeMap<String, Credential>,
    /// `None` until the first create or the last delete decides; then the switch speaks no more.
    pub(crate) enabled: Option<bool>,
    /// What each balancer looked like since when, for stale reads (F14).
    history: Vec<(Instant, String, Option<Value>)>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) switches: Switches,
    pub(crate) delays: Delays,
    pub(crate) places: BTreeMap<PlaceKey, Place>,
    pub(crate) addresses: Addresses,
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) federations: Vec<Federation>,
    pub(crate) tokens: Tokens,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    /// Counts what `record` was told: whether the controller has moved anything.
    revision: u64,
    versions: u64,
    private_addresses: u32,
}

/// A history longer than this forgets its oldest half.
const LONGEST_HISTORY: usize = 4_096;

impl State {
    pub(crate) fn new(switches: Switches, delays: Delays, pool: Ipv4Net, seed: u64, journal: Journal) -> Self {
        Self {
            clock: Clock::new(),
            switches,
            delays,
            places: BTreeMap::new(),
            addresses: Addresses::new(pool),
            keys: BTreeMap::new(),
            federations: Vec::new(),
            tokens: Tokens::default(),
            faults: Faults::new(seed),
            journal,
            revision: 0,
            versions: 0,
            private_addresses: 0,
        }
    }

    pub(crate) fn place(&mut self, key: &PlaceKey) -> &mut Place {
        self.places.entry(key.clone()).or_default()
    }

    pub(crate) fn balancer(&self, key: &PlaceKey, name: &str) -> Option<&Balancer> {
        self.places.get(key)?.balancers.get(name)
    }

    /// A version never given out before. The numbers jump up and down, because clients must not order them.
    pub(crate) fn next_version(&mut self) -> String {
        self.versions += 1;
        format!("lb-{}", self.versions * 48_271 % 2_147_483_647)
    }

    pub(crate) fn next_private_address(&mut self) -> IpAddr {
        self.private_addresses += 1;
        IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 250, 255, 0).to_bits() + self.private_addresses % 255))
    }

    /// Notes what a balancer looks like from now on.
    pub(crate) fn record(&mut self, key: &PlaceKey, name: &str) {
        self.revision += 1;
        let shown = self.balancer(key, name).map(|balancer| balancer.show(&self.switches));
        let now = self.clock.now();
        let history = &mut self.place(key).history;
        if history.len() >= LONGEST_HISTORY {
            history.drain(..LONGEST_HISTORY / 2);
        }
        history.push((now, name.to_owned(), shown));
    }

    /// Notes the answer to a request in the journal, or that there will be none.
    pub(crate) fn finish(&mut self, sequence: u64, answer: Option<&Answer>) {
        self.journal.finish(sequence, answer, self.switches.bend_answers());
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// All balancers of a place as GET and LIST show them, by name; as they were a while ago when reads are stale (F14).
    pub(crate) fn shown(&self, key: &PlaceKey) -> BTreeMap<String, Value> {
        let Some(place) = self.places.get(key) else { return BTreeMap::new() };
        if self.switches.stale_reads == Duration::ZERO {
            let show = |(name, balancer): (&String, &Balancer)| (name.clone(), balancer.show(&self.switches));
            return place.balancers.iter().map(show).collect();
        }
        let mut shown = BTreeMap::new();
        let now = self.clock.now();
        let old_enough = |since: Instant| since + self.switches.stale_reads <= now;
        for (_, name, state) in place.history.iter().take_while(|(since, ..)| old_enough(*since)) {
            match state {
                Some(state) => shown.insert(name.clone(), state.clone()),
                None => shown.remove(name),
            };
        }
        shown
    }
}
