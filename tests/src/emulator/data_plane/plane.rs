//! All balancers' data planes together, following the control plane's state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::DataPlane;
use super::disturbance::Disturbance;
use super::front::Front;
use super::limit::raise_file_limit;
use super::network::Network;
use super::pipe::Pipes;
use super::report::BalancerReport;
use super::view::{Life, View};
use crate::emulator::state::{PlaceKey, State};

/// What all parts of a data plane share.
#[derive(Debug)]
pub(super) struct Kit {
    pub(super) options: DataPlane,
    pub(super) network: Network,
    pub(super) weather: watch::Sender<Disturbance>,
    pub(super) pipes: Pipes,
    /// The emulator's count of changes.
    changed: watch::Sender<u64>,
    runtime: runtime::Handle,
    /// `None` once it has ended.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl Kit {
    /// How long something takes on this machine that takes so long in the cloud.
    pub(super) fn scaled(&self, time: Duration) -> Duration {
        Duration::try_from_secs_f64(time.as_secs_f64() / self.options.time_scale).unwrap_or(time)
    }

    /// Whoever waits for a level looks again.
    pub(super) fn tell_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Runs a task until it ends or the data plane does.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn_on(task, &self.runtime))
    }

    /// Whether the data plane has ended, which is for good.
    fn has_ended(&self) -> bool {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// For what needs a runtime around it.
    pub(super) fn enter(&self) -> runtime::EnterGuard<'_> {
        self.runtime.enter()
    }
}

type Key = (PlaceKey, String);

#[derive(Debug)]
struct Known {
    front: Arc<Front>,
    /// What was last asked of it, whether it is done yet or not (F26).
    wanted: View,
}

#[derive(Debug)]
pub(crate) struct Plane {
    kit: Arc<Kit>,
    known: Mutex<BTreeMap<Key, Known>>,
}

impl Plane {
    /// # Errors
    /// When the options contradict themselves, or no addresses are left.
    pub(crate) fn new(options: DataPlane, changed: watch::Sender<u64>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            options.time_scale.is_finite() && options.time_scale > 0.0,
            "the time scale {} is not a positive number",
            options.time_scale
        );
        // Where it cannot be raised, fewer connections fit.
        raise_file_limit();
        let network = Network::new(&options)?;
        let kit = Kit {
            options,
            network,
            weather: watch::Sender::default(),
            pipes: Pipes::default(),
            changed,
            runtime: runtime::Handle::try_current()?,
            tasks: Mutex::new(Some(JoinSet::new())),
        };
        Ok(Self { kit: Arc::new(kit), known: Mutex::default() })
    }

    /// Where external addresses are to be taken from.
    pub(crate) fn pool(&self) -> Ipv4Net {
        self.kit.network.pool()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the control plane. It is called under the state's lock, so that who is told that a balancer is ready finds
    /// it listening.
    pub(crate) fn observe(&self, state: &State) {
        // Handles may live on and change what they like: nothing listens again.
        if self.kit.has_ended() {
            return;
        }
        let weather = &state.switches.data_plane;
        let mut known = self.known();
        self.kit.weather.send_if_modified(|current| {
            let different = current != weather;
            if different {
                current.clone_from(weather);
            }
            different
        });
        for known in known.values() {
            known.front.keep_stale(weather.stale_half);
        }
        let mut gone: Vec<Key> = known.keys().cloned().collect();
        for (place, balancers) in &state.places {
            for (name, balancer) in &balancers.balancers {
                let key = (place.clone(), name.clone());
                gone.retain(|other| *other != key);
                let owned = balancer.external.is_none_or(|address| state.addresses.owns(&place.project, address));
                let view = View::of(balancer, owned, &self.kit.network);
                self.want(&mut known, key, view, weather.lag);
            }
        }
        for Known { front, wanted } in gone.iter().filter_map(|key| known.remove(key)) {
            front.apply_write(front.next_write(), View { life: Life::Dead, ..wanted });
        }
    }

    fn want(&self, known: &mut BTreeMap<Key, Known>, key: Key, view: View, lag: Duration) {
        let Some(existing) = known.get_mut(&key) else {
            let front = Arc::new(Front::new(self.kit.clone(), key.clone()));
            front.apply_write(front.next_write(), view.clone());
            known.insert(key, Known { front, wanted: view });
            return;
        };
        if existing.wanted == view {
            return;
        }
        let begins_or_ends = existing.wanted.life != view.life;
        existing.wanted = view.clone();
        let front = existing.front.clone();
        let turn = front.next_write();
        if lag == Duration::ZERO || begins_or_ends {
            front.apply_write(turn, view);
            return;
        }
        self.kit.spawn(async move {
            tokio::time::sleep(lag).await;
            front.apply_write(turn, view);
        });
    }

    /// F24: the balancer's other machine takes over. False if there is no such balancer.
    pub(crate) fn failover(&self, place: &PlaceKey, name: &str, black_hole: Duration) -> bool {
        let front = self.known().get(&(place.clone(), name.to_owned())).map(|known| known.front.clone());
        front.as_ref().inspect(|front| front.fail_over(black_hole)).is_some()
    }

    /// How all balancers are doing, by project, region and name.
    pub(crate) fn report(&self) -> Vec<BalancerReport> {
        self.known().values().map(|known| known.front.report()).collect()
    }

    /// Ends all tasks, and with them all connections.
    pub(crate) fn end(&self) {
        let tasks = self.kit.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(tasks);
        for known in std::mem::take(&mut *self.known()).into_values() {
            known.front.close();
        }
    }
}
