//! Following a set of objects: one function for every kind.
//!
//! Level-triggered: readers get the whole set as it stands, and only when it differs from before, so that a
//! kubelet's heartbeats cost nothing. What was seen last stays while the set cannot be followed, with the reason. An
//! object that cannot be read is reported once per version and skipped.
//!
//! | what ends a watch | what follows |
//! |---|---|
//! | the API server, in good order (each minute) | the watch goes on where it was |
//! | its connection, or its server, is lost ([`super::reach`]) | a list, wherever requests go now |
//! | neither event nor bookmark for [`QUIET`] | a list; the silent server was left |
//! | what it goes on from is too old (410) | a list |
//!
//! A list is a consistent read, as no resource version is named. One that is older than what was seen comes from a
//! server that has lost touch, and is refused ([`decide::seen`]).
//!
//! Deliberately not here: kube's own watcher, which hides versions and bookmarks.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use decide::seen::Seen;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::reach::QUIET;
use super::{ApiFailure, within};
use crate::host::clock;

/// First and longest pause between two failures.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Seconds after which the API server ends a watch. It sends a bookmark shortly before.
const WATCH_SECONDS: u32 = 60;
/// Time for the answer to a list, and for the beginning of a watch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A watch that has lived for so long was none that failed: after its end there is no pause.
const LIVED: Duration = Duration::from_secs(1);

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
    let closed = out.clone();
    let mut set = Set { what, api, selector, read, out, seen: Seen::default(), skipped: BTreeMap::new() };
    let mut pauses = pauses();
    let follow = async {
        loop {
            let ended = set.round().await;
            if ended.lived {
                pauses = self::pauses();
            }
            match ended.problem {
                None => debug!(what, "listing again"),
                Some(problem) => set.fails(problem),
            }
            if !ended.lived
                && let Some(pause) = pauses.next()
            {
                tokio::time::sleep(pause).await;
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = closed.closed() => {}
    }
}

/// A set that is followed.
struct Set<K, V, R> {
    what: &'static str,
    api: Api<K>,
    selector: Option<String>,
    read: R,
    out: watch::Sender<Watched<V>>,
    /// How new the set is.
    seen: Seen,
    /// What was skipped, by reason.
    skipped: BTreeMap<String, String>,
}

/// How a list and the watch after it have ended.
struct Ended {
    /// It was watched for a while.
    lived: bool,
    /// What is worth telling: without a list or a watch nothing is followed. A watch that has ended is not.
    problem: Option<String>,
}

impl Ended {
    fn failed(problem: String) -> Self {
        Self { lived: false, problem: Some(problem) }
    }
}

impl<K, V, R> Set<K, V, R>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    V: Clone + PartialEq + Send + Sync,
    R: Fn(K) -> Read<V> + Send,
{
    /// Lists, and watches from there for as long as it goes well.
    async fn round(&mut self) -> Ended {
        if let Err(problem) = self.list().await {
            return Ended::failed(problem);
        }
        let began = Instant::now();
        let mut heard = began;
        loop {
            match self.watch(&mut heard).await {
                Ok(()) if heard.elapsed() < QUIET => {}
                Ok(()) => return Ended { lived: true, problem: None },
                Err(Over::NotStarted(problem)) => return Ended::failed(problem),
                Err(Over::Broken(why)) => {
                    debug!(what = self.what, why, "the watch has ended");
                    return Ended { lived: began.elapsed() >= LIVED, problem: None };
                }
            }
        }
    }

    async fn list(&mut self) -> Result<(), String> {
        let mut parameters = ListParams::default();
        (parameters.label_selector, parameters.field_selector) = self.selectors();
        let list = within(TIMEOUT, self.api.list(&parameters)).await.map_err(|failure| failure.to_string())?;
        let version = list.metadata.resource_version.unwrap_or_default();
        if !self.seen.admits(&version, clock::now()) {
            return Err(format!("the list is of version {version}, and {} was seen before", self.seen.version()));
        }
        let items: BTreeMap<String, V> = list.items.into_iter().filter_map(|object| self.take(object)).collect();
        self.out.send_if_modified(|watched| {
            if watched.listed && *watched.items == items {
                return false;
            }
            watched.items = Arc::new(items);
            watched.listed = true;
            true
        });
        Ok(())
    }

    /// One watch, from what was seen last to its end. `heard` is when there was a sign of life.
    async fn watch(&mut self, heard: &mut Instant) -> Result<(), Over> {
        let mut parameters = WatchParams::default().timeout(WATCH_SECONDS);
        (parameters.label_selector, parameters.field_selector) = self.selectors();
        let version = self.seen.version().to_owned();
        let started = within(TIMEOUT, self.api.watch(&parameters, &version)).await;
        let events = started.map_err(|failure: ApiFailure| Over::NotStarted(failure.to_string()))?;
        tokio::pin!(events);
        self.follows();
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    self.seen.advance(&object.resource_version().unwrap_or_default());
                    let Some((name, value)) = self.take(object) else { continue };
                    self.out.send_if_modified(|watched| {
                        if watched.items.get(&name) == Some(&value) {
                            return false;
                        }
                        Arc::make_mut(&mut watched.items).insert(name, value);
                        true
                    });
                }
                Ok(WatchEvent::Deleted(object)) => {
                    self.seen.advance(&object.resource_version().unwrap_or_default());
                    let name = object.name_any();
                    self.skipped.remove(&name);
                    self.out.send_if_modified(|watched| Arc::make_mut(&mut watched.items).remove(&name).is_some());
                }
                Ok(WatchEvent::Bookmark(bookmark)) => self.seen.advance(&bookmark.metadata.resource_version),
                Ok(WatchEvent::Error(status)) => return Err(Over::Broken(status.message.clone())),
                Err(error) => return Err(Over::Broken(super::explain(&error))),
            }
            *heard = Instant::now();
        }
        Ok(())
    }

    /// The label selector and the field selector.
    fn selectors(&self) -> (Option<String>, Option<String>) {
        let fields = self.selector.as_ref().is_some_and(|selector| selector.starts_with("metadata."));
        if fields { (None, self.selector.clone()) } else { (self.selector.clone(), None) }
    }

    /// Reads an object; one that cannot be read is reported, once for each distinct reason.
    fn take(&mut self, object: K) -> Option<(String, V)> {
        match (self.read)(object) {
            Ok((name, value)) => {
                self.skipped.remove(&name);
                Some((name, value))
            }
            Err(reason) => {
                if self.skipped.insert(reason.clone(), String::new()).is_none() {
                    warn!(what = self.what, reason, "skipping an object that cannot be read");
                }
                None
            }
        }
    }

    fn fails(&self, problem: String) {
        let what = self.what;
        self.out.send_if_modified(|watched| {
            if watched.problem.as_ref() == Some(&problem) {
                return false;
            }
            warn!(what, problem, "cannot watch; what was seen last stays");
            watched.problem = Some(problem);
            true
        });
    }

    fn follows(&self) {
        let what = self.what;
        self.out.send_if_modified(|watched| {
            let mended = watched.problem.take().is_some();
            if mended {
                info!(what, "watching again");
            }
            mended
        });
    }
}

/// Why a watch is over before its time.
enum Over {
    NotStarted(String),
    Broken(String),
}

/// The pauses between failures in a row; without end.
fn pauses() -> ExponentialBackoff {
    let schedule = ExponentialBuilder::new().with_min_delay(BACKOFF.0).with_max_delay(BACKOFF.1);
    schedule.with_jitter().without_max_times().build()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests;
