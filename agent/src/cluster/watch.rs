//! Following a set of objects: one function for every kind.
//!
//! Level-triggered: readers get the whole set as it stands, and only when it differs from before, so that a
//! kubelet's heartbeats cost nothing. A watch that breaks is started again with backoff and says why meanwhile; what
//! was seen last stays. An object that cannot be read is reported once per version and skipped.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{StreamExt, TryStreamExt};
use kube::api::Api;
use kube::runtime::utils::Backoff;
use kube::runtime::utils::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{info, warn};

/// First and longest pause before a broken watch is started again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Seconds after which the API server ends a watch, so that a dead connection is noticed soon after.
const WATCH_SECONDS: u32 = 60;

/// A followed set.
#[derive(Clone, Debug)]
pub struct Watched<V> {
    /// The objects by name, as last seen.
    pub items: Arc<BTreeMap<String, V>>,
    /// Whether the set was complete at least once.
    pub listed: bool,
    /// Why the set cannot be followed just now.
    pub problem: Option<String>,
}

impl<V> Default for Watched<V> {
    fn default() -> Self {
        Self { items: Arc::default(), listed: false, problem: None }
    }
}

/// What a reader of objects makes of one: its name and value, or why it is skipped.
pub type Read<V> = Result<(String, V), String>;

/// Follows a set of objects until the receiver is gone.
///
/// `what` names the set in logs; `selector` is a label selector, or a field selector where it starts with
/// `metadata.`.
pub async fn follow<K, V>(
    what: &'static str,
    api: Api<K>,
    selector: Option<String>,
    read: impl Fn(K) -> Read<V> + Send,
    out: watch::Sender<Watched<V>>,
) where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    V: Clone + PartialEq + Send + Sync,
{
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    config = match selector {
        Some(field) if field.starts_with("metadata.") => config.fields(&field),
        Some(label) => config.labels(&label),
        None => config,
    };
    let mut events = watcher::watcher(api, config).backoff(Pauses::default()).boxed();
    let mut coming: BTreeMap<String, V> = BTreeMap::new();
    let mut skipped: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            () = out.closed() => return,
        };
        match event {
            Ok(Some(Event::Init)) => coming.clear(),
            Ok(Some(Event::InitApply(object))) => {
                if let Some((name, value)) = taken(what, read(object), &mut skipped) {
                    coming.insert(name, value);
                }
            }
            Ok(Some(Event::InitDone)) => {
                let items = std::mem::take(&mut coming);
                out.send_if_modified(|watched| {
                    if watched.problem.take().is_some() {
                        info!(what, "watching again");
                    } else if watched.listed && *watched.items == items {
                        return false;
                    }
                    watched.items = Arc::new(items);
                    watched.listed = true;
                    true
                });
            }
            Ok(Some(Event::Apply(object))) => {
                if let Some((name, value)) = taken(what, read(object), &mut skipped) {
                    out.send_if_modified(|watched| {
                        if watched.items.get(&name) == Some(&value) {
                            return false;
                        }
                        Arc::make_mut(&mut watched.items).insert(name, value);
                        true
                    });
                }
            }
            Ok(Some(Event::Delete(object))) => {
                let Some(name) = object.meta().name.clone() else { continue };
                skipped.remove(&name);
                out.send_if_modified(|watched| Arc::make_mut(&mut watched.items).remove(&name).is_some());
            }
            Ok(None) => return,
            Err(error) => {
                let problem = describe(&error);
                out.send_if_modified(|watched| {
                    if watched.problem.as_ref() == Some(&problem) {
                        return false;
                    }
                    warn!(what, problem, "cannot watch; what was seen last stays");
                    watched.problem = Some(problem);
                    true
                });
            }
        }
    }
}

/// The pauses before a broken watch is started again; without end.
struct Pauses(ExponentialBackoff);

impl Default for Pauses {
    fn default() -> Self {
        let schedule = ExponentialBuilder::new().with_min_delay(BACKOFF.0).with_max_delay(BACKOFF.1);
        Self(schedule.with_jitter().without_max_times().build())
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Reports an object that cannot be read, once for each distinct reason.
fn taken<V>(what: &str, read: Read<V>, skipped: &mut BTreeMap<String, String>) -> Option<(String, V)> {
    match read {
        Ok((name, value)) => {
            skipped.remove(&name);
            Some((name, value))
        }
        Err(reason) => {
            if skipped.insert(reason.clone(), String::new()).is_none() {
                warn!(what, reason, "skipping an object that cannot be read");
            }
            None
        }
    }
}

/// The last link of an error's chain says what was found.
fn describe(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => super::explain(source),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}
