//! One balancer's data plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::health;
use super::plane::Kit;
use super::port::Port;
use super::report::{BalancerReport, ListenerReport, TargetReport};
use super::session::Session;
use super::target::{Settings, Target};
use super::view::{Life, View};
use crate::emulator::read;
use crate::emulator::state::PlaceKey;

/// A view and the targets of its pools, in the order of the pool.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) view: View,
    pub(super) pools: BTreeMap<String, Vec<Arc<Target>>>,
}

/// What has become of connections.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: AtomicU64,
    /// By the access control (E98).
    pub(super) refused: AtomicU64,
    /// More than the plan allows (E107).
    pub(super) excess: AtomicU64,
    /// No target took them (E94).
    pub(super) unserved: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Front {
    pub(super) kit: Arc<Kit>,
    key: (PlaceKey, String),
    pub(super) counts: Counts,
    /// F24: no connection is accepted before that.
    pub(super) dark: watch::Sender<Option<Instant>>,
    /// Numbers of writes, so that a late one does not undo a newer one (F26).
    writes: AtomicU64,
    places: Arc<AtomicUsize>,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    config: Option<Arc<Config>>,
    /// F24: what the other half still serves.
    stale: Option<Arc<Config>>,
    stale_turn: bool,
    /// The last write that was applied.
    write: u64,
    ports: BTreeMap<u16, Port>,
    /// By pool and address: all of `config` and `stale`, and those that connections are open to.
    targets: BTreeMap<(String, IpAddr), Arc<Target>>,
    /// Round robin, by pool and by whether the config is the stale one.
    turns: BTreeMap<(String, bool), usize>,
    sessions: BTreeMap<u64, Arc<Session>>,
    next_session: u64,
}

impl Front {
    pub(super) fn new(kit: Arc<Kit>, key: (PlaceKey, String)) -> Self {
        Self {
            kit,
            key,
            counts: Counts::default(),
            dark: watch::Sender::new(None),
            writes: AtomicU64::new(0),
            places: Arc::default(),
            inside: Mutex::default(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a write that is yet to be applied.
    pub(super) fn next_write(&self) -> u64 {
        self.writes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Does what the view says from now on, unless a newer write has been applied.
    pub(super) fn apply_write(self: &Arc<Self>, number: u64, view: View) {
        let mut inside = self.inside();
        if number > inside.write {
            inside.write = number;
            self.apply(&mut inside, view);
        }
    }

    fn apply(self: &Arc<Self>, inside: &mut Inside, view: View) {
        let before = inside.config.clone();
        let pools = view.pools.iter().map(|(name, pool)| {
            let targets = pool.targets.iter().map(|target| {
                let settings = Settings { view: target.clone(), check: pool.check.clone(), from: view.address };
                inside.target(name, settings)
            });
            (name.clone(), targets.collect::<Vec<_>>())
        });
        let config = Arc::new(Config { pools: pools.collect(), view });
        inside.config = Some(config.clone());
        self.check_targets(inside);
        let (cut_removed, cut_on_plan_change) = {
            let weather = self.kit.weather.borrow();
            (weather.cut_removed, weather.cut_on_plan_change)
        };
        let new_plan = before.is_some_and(|before| before.view.plan != config.view.plan);
        if config.view.life == Life::Dead || (cut_on_plan_change && new_plan) {
            inside.cut(Instant::now(), |_| true);
        } else if cut_removed {
            let staying: Vec<&Arc<Target>> = config.pools.values().flatten().collect();
            inside.cut(Instant::now(), |target| !staying.iter().any(|it| Arc::ptr_eq(it, target)));
        }
        self.set_ports(inside, &config.view);
    }

    /// Checks those in a config, and no others.
    fn check_targets(&self, inside: &mut Inside) {
        let configs = [&inside.config, &inside.stale];
        let all = || configs.into_iter().flatten().flat_map(|config| config.pools.values().flatten());
        let serving = inside.config.as_ref().is_some_and(|config| config.view.life != Life::Dead);
        for target in inside.targets.values() {
            if serving && all().any(|it| Arc::ptr_eq(it, target)) {
                let mut check = target.check.lock().unwrap_or_else(PoisonError::into_inner);
                if check.is_none() {
                    *check = self.kit.spawn(health::watch(self.kit.clone(), target.clone()));
                }
            } else {
                target.retire();
            }
        }
        let used: BTreeSet<*const Target> = all().map(Arc::as_ptr).collect();
        inside.targets.retain(|_, it| used.contains(&Arc::as_ptr(it)) || it.open.load(Ordering::Relaxed) > 0);
    }

    fn set_ports(self: &Arc<Self>, inside: &mut Inside, view: &View) {
        let wanted: BTreeMap<u16, IpAddr> = match view.address {
            Some(address) if view.life == Life::Serving => view.listeners.keys().map(|it| (*it, address)).collect(),
            _ => BTreeMap::new(),
        };
        let fits = |number: &u16, port: &Port| port.is_open() && wanted.get(number) == Some(&port.address.ip());
        let leaving: Vec<u16> = inside.ports.iter().filter(|(it, port)| !fits(it, port)).map(|(it, _)| *it).collect();
        for number in leaving {
            inside.ports.remove(&number).into_iter().for_each(Port::close);
        }
        for (number, address) in wanted {
            inside.ports.entry(number).or_insert_with(|| Port::open(self, number, address));
        }
        if inside.ports.values().any(|port| !port.is_open()) {
            // Another program has the port; it may go.
            let front = self.clone();
            self.kit.spawn(async move {
                sleep(Duration::from_millis(200)).await;
                let mut inside = front.inside();
                if let Some(config) = inside.config.clone() {
                    front.set_ports(&mut inside, &config.view);
                }
            });
        }
    }

    /// F24: one half of the pair keeps what there is now, until this is taken back.
    pub(super) fn keep_stale(&self, keep: bool) {
        let mut inside = self.inside();
        if keep == inside.stale.is_some() {
            return;
        }
        inside.stale = if keep { inside.config.clone() } else { None };
        self.check_targets(&mut inside);
    }

    /// What the next connection is served by.
    pub(super) fn config_for_next(&self) -> Arc<Config> {
        let mut inside = self.inside();
        inside.stale_turn = !inside.stale_turn;
        let stale = inside.stale.clone().filter(|_| inside.stale_turn);
        // A port only accepts when there is a config.
        stale.or_else(|| inside.config.clone()).unwrap_or_else(|| Arc::new(Config::nothing()))
    }

    pub(super) fn next_turn(&self, pool: &str, config: &Config) -> usize {
        let mut inside = self.inside();
        let stale = inside.stale.as_ref().is_some_and(|stale| std::ptr::eq(stale.as_ref(), config));
        let turn = inside.turns.entry((pool.to_owned(), stale)).or_default();
        *turn = turn.wrapping_add(1);
        turn.wrapping_sub(1)
    }

    /// E107: room for one more connection, until it is dropped.
    pub(super) fn take_place(&self, plan: &str) -> Option<Place> {
        let most = self.kit.options.max_connections.unwrap_or_else(|| read::max_connections(plan));
        let taken =
            self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < most).then_some(now + 1));
        taken.ok().map(|_| Place(self.places.clone()))
    }

    /// Counts a connection to a target until the guard is dropped.
    pub(super) fn begin(&self, target: &Arc<Target>) -> Open<'_> {
        target.connections.fetch_add(1, Ordering::Relaxed);
        target.open.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session { target: target.clone(), cut: watch::Sender::new(None) });
        let mut inside = self.inside();
        let number = inside.next_session;
        inside.next_session += 1;
        inside.sessions.insert(number, session.clone());
        Open { front: self, number, session }
    }

    /// F24: the other machine takes over: nothing moves, nothing is accepted, then all open connections are reset.
    pub(super) fn fail_over(&self, black_hole: Duration) {
        let until = Instant::now() + black_hole;
        self.dark.send_replace(Some(until));
        self.inside().cut(until, |_| true);
    }

    /// Listens no more.
    pub(super) fn close(&self) {
        std::mem::take(&mut self.inside().ports).into_values().for_each(Port::close);
    }

    pub(super) fn report(&self) -> BalancerReport {
        let inside = self.inside();
        let in_pool = |target: &Arc<Target>| {
            let config = inside.config.as_ref();
            config.is_some_and(|config| config.pools.values().flatten().any(|it| Arc::ptr_eq(it, target)))
        };
        let targets = inside.targets.iter().map(|((pool, _), it)| TargetReport::new(pool, it, in_pool(it)));
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        BalancerReport {
            project: self.key.0.project.clone(),
            region: self.key.0.region.clone(),
            name: self.key.1.clone(),
            open: inside.sessions.len(),
            accepted: count(&self.counts.accepted),
            refused: count(&self.counts.refused),
            excess: count(&self.counts.excess),
            unserved: count(&self.counts.unserved),
            listeners: inside.ports.iter().map(|(port, it)| ListenerReport::new(*port, it)).collect(),
            targets: targets.collect(),
        }
    }
}

impl Inside {
    /// The target at that address of that pool, a new one if need be.
    fn target(&mut self, pool: &str, settings: Settings) -> Arc<Target> {
        let key = (pool.to_owned(), settings.view.ip);
        let target = self.targets.entry(key).or_insert_with(|| Arc::new(Target::new(settings.clone())));
        target.settings.send_if_modified(|current| {
            let different = *current != settings;
            *current = settings;
            different
        });
        target.clone()
    }

    /// Resets the connections to such targets at that time; until then nothing moves on them.
    fn cut(&self, at: Instant, to: impl Fn(&Arc<Target>) -> bool) {
        for session in self.sessions.values().filter(|session| to(&session.target)) {
            session.cut.send_replace(Some(at));
        }
    }
}

impl Config {
    fn nothing() -> Self {
        let view = View {
            life: Life::Dead,
            address: None,
            plan: String::new(),
            ranges: Vec::new(),
            listeners: BTreeMap::new(),
            pools: BTreeMap::new(),
        };
        Self { view, pools: BTreeMap::new() }
    }
}

/// Room for one connection.
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection.
pub(super) struct Open<'a> {
    front: &'a Front,
    number: u64,
    session: Arc<Session>,
}

impl std::ops::Deref for Open<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.session.target.open.fetch_sub(1, Ordering::Relaxed);
        self.front.inside().sessions.remove(&self.number);
    }
}
