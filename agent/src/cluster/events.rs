//! Events on the exposure: a lane of their own.
//!
//! Whoever has something to tell puts it into a short queue and goes on; one task writes it. When the API server is
//! slow or says no, events are lost and nothing else happens: the log has the same words. Equal ones within a few
//! minutes become one event with a count (kube's recorder does that).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use decide::reason::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::within;

/// Events that may wait; more of them at once are no longer news.
const QUEUE: usize = 64;
/// Time to write one.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest note that the API server takes, with some room.
const NOTE: usize = 1000;
/// Longest action that it takes.
const ACTION: usize = 128;

/// The object that events are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regarding {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Where events are handed in; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Announcer {
    queue: Option<mpsc::Sender<Announcement>>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Announcement {
    regarding: Regarding,
    reason: Reason,
    action: String,
    note: String,
}

/// The other end of the queue.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Receiver<Announcement>,
}

impl Announcer {
    /// Both ends of a queue. [`Announcer::default`] has no other end and forgets everything.
    pub fn new() -> (Self, Writer) {
        let (queue, taken) = mpsc::channel(QUEUE);
        (Self { queue: Some(queue), lost: Arc::default() }, Writer { queue: taken })
    }

    /// Hands an event in, and never waits. `action` tells events of the same reason apart that must not become one.
    pub fn announce(&self, regarding: &Regarding, reason: Reason, action: &str, note: &str) {
        let Some(queue) = &self.queue else { return };
        let announcement =
            Announcement { regarding: regarding.clone(), reason, action: cut(action, ACTION), note: cut(note, NOTE) };
        if queue.try_send(announcement).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            debug!(reason = reason.word(), lost, "an event is lost: the queue is full");
        }
    }
}

impl Writer {
    /// Writes what is handed in, until nobody can any more. `instance` is this node's name.
    pub async fn run(mut self, client: Client, instance: String) {
        let reporter = Reporter { controller: "shoot-exposure-agent".to_owned(), instance: Some(instance) };
        let recorder = Recorder::new(client, reporter);
        let mut said = String::new();
        let mut lost: u64 = 0;
        while let Some(announcement) = self.queue.recv().await {
            let (event, reference) = announcement.on_the_wire();
            let Err(failure) = within(TIMEOUT, recorder.publish(&event, &reference)).await else { continue };
            lost += 1;
            let problem = failure.to_string();
            debug!(reason = event.reason, lost, problem, "an event is lost");
            // The same refusal is said once: without the right to write events everything else works.
            if said.is_empty() {
                info!(problem, "cannot write events; the log has the same words, and nothing else is affected");
                said = problem;
            }
        }
    }
}

impl Announcement {
    fn on_the_wire(self) -> (Event, ObjectReference) {
        let kind = if self.reason.is_warning() { EventType::Warning } else { EventType::Normal };
        let event = Event {
            type_: kind,
            reason: self.reason.word().to_owned(),
            note: Some(self.note),
            action: self.action,
            secondary: None,
        };
        let reference = ObjectReference {
            api_version: Some("extensions.gardener.cloud/v1alpha1".to_owned()),
            kind: Some("SelfHostedShootExposure".to_owned()),
            namespace: Some(self.regarding.namespace),
            name: Some(self.regarding.name),
            uid: Some(self.regarding.uid),
            ..ObjectReference::default()
        };
        (event, reference)
    }
}

/// At most this many bytes, cut between characters.
fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_events_and_holds_nobody_up() {
        let (announcer, mut writer) = Announcer::new();
        let regarding = Regarding { namespace: "n".to_owned(), name: "x".to_owned(), uid: "u".to_owned() };
        for _ in 0..QUEUE + 3 {
            announcer.announce(&regarding, Reason::Paused, "Pause", "paused");
        }
        assert_eq!(announcer.lost.load(Ordering::Relaxed), 3);
        let mut taken = 0;
        while writer.queue.try_recv().is_ok() {
            taken += 1;
        }
        assert_eq!(taken, QUEUE);
    }

    #[test]
    fn long_notes_are_cut_between_characters() {
        assert_eq!(cut("aä", 2), "a");
        assert_eq!(cut("aä", 3), "aä");
    }
}
