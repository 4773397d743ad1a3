//! One exposure's owner: it makes a pass after every change and starts the steps that the pass names.
//!
//! Three lanes, each with at most one request under way: the balancer, the object, its status. None waits for
//! another. What an answer brings goes into the memory, and the next pass starts from there.

mod answers;
mod context;
mod freezes;
mod lanes;
mod notes;
mod sight;
mod witness;

use std::time::Duration;

use decide::Moment;
use decide::endpoints::{LastGood, Quorums, Round, choose};
use decide::exposure::{ExposureView, Facts, is_ours};
use decide::health::Roster;
use decide::leader::{Strain, older};
use decide::pass::{CloudStep, Memory, ObjectStep, Pass, Situation, pass, sorted_endpoints, spec_endpoints};
use decide::retry::Pause;
use tokio::sync::watch;

use super::probing::Since;
use crate::admin::Progress;
use crate::cloud::carry_out::Carried;
use crate::cluster::ApiFailure;
use crate::cluster::exposures::Exposed;
use crate::cluster::facts;
use crate::host::clock;
use lanes::Lanes;
use notes::Notes;

pub use context::{Context, Errand, Place};
pub use witness::{Told, Turn, Witness};

/// A worker that nothing happens to looks up this often.
const LOOK_UP: Duration = Duration::from_secs(30);
/// The same while something speaks against this agent as a leader.
const LOOK_CLOSELY: Duration = Duration::from_secs(1);
/// How long after its start a worker waits for nodes, facts and credentials to be looked at once: what it would say of
/// them before, it would take back at once.
const INFORMED: Duration = Duration::from_secs(2);

/// The owner of one exposure.
pub struct Worker {
    name: String,
    context: Context,
    progress: Progress,
    memory: Memory,
    led: bool,
    /// The object as answered to our last write, where the watch has not caught up.
    written: Option<Exposed>,
    /// When the object and status lanes may try again after a failure.
    object_retry: Pause,
    status_retry: Pause,
    notes: Notes,
    roster: Roster,
    asked: Since,
    /// Whether any API server has been green since the start.
    ever_green: bool,
    /// What speaks against this agent as a leader.
    strain: Strain,
    quorums: Quorums,
    /// Until when it waits to be informed; the past, once it is.
    informed: Moment,
}

/// What happened.
enum Event {
    Changed,
    Credentials,
    Cloud(CloudStep, Carried),
    Object(ObjectStep, Result<Exposed, ApiFailure>),
    Status(Result<Exposed, ApiFailure>),
    Created(Result<Exposed, ApiFailure>),
    Stop,
}

impl Worker {
    /// The owner of the exposure of this name; its object may come and go.
    pub fn new(name: String, context: Context, progress: Progress) -> Self {
        let notes = Notes::new(name.clone(), context.metrics.clone(), context.announcer.clone());
        Self {
            name,
            context,
            progress,
            memory: Memory::default(),
            led: false,
            written: None,
            object_retry: Pause::default(),
            status_retry: Pause::default(),
            notes,
            roster: Roster::default(),
            asked: Since::default(),
            ever_green: false,
            strain: Strain::default(),
            quorums: Quorums::default(),
            informed: clock::now() + INFORMED,
        }
    }

    /// Works until `stop` turns true, and then until what is under way has ended.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut lanes = Lanes::default();
        let mut sources = self.context.sources.clone();
        let mut leadership = self.context.leadership.clone();
        let mut credentials = self.context.clouds.changes();
        let mut settings = self.context.live.clone();
        let mut probing = self.context.probing.clone();
        loop {
            let wake = if *stop.borrow() { None } else { self.turn(&mut lanes) };
            if *stop.borrow() {
                // Nobody needs to know any more, and who comes next waits for this to end.
                lanes.give_up_look();
            }
            if *stop.borrow() && lanes.idle() {
                return;
            }
            self.progress.beat();
            let event = tokio::select! {
                event = lanes.next() => event,
                () = sources.changed() => Event::Changed,
                () = probing.changed() => Event::Changed,
                () = changed(&mut leadership) => Event::Changed,
                () = changed(&mut credentials) => Event::Credentials,
                // What failed before may work with other settings.
                () = changed(&mut settings) => Event::Credentials,
                () = sleep_until(wake) => Event::Changed,
                _ = stop.changed() => Event::Stop,
            };
            self.learn(event);
        }
    }

    /// One pass, and the steps it names started on the lanes that are free. When to look again, if nothing happens.
    fn turn(&mut self, lanes: &mut Lanes) -> Option<Moment> {
        self.context.settings = self.context.live.borrow().clone();
        let now = clock::now();
        let leads_until = self.context.leadership.borrow().filter(|until| now < *until);
        if self.led != leads_until.is_some() {
            self.led = leads_until.is_some();
            if self.led {
                // What hangs from a time before must not hold back the first look.
                self.memory.promoted(now);
                self.give_up(lanes, now);
            } else {
                self.memory.demoted();
                lanes.give_up_look();
            }
        }
        let object = self.object();
        if object.is_none() && self.context.sources.exposures.is_some() {
            self.notes.absent();
            self.context.board.clear(&self.name);
            self.context.witness.tell(|| None);
            self.tell_strain(None, None, now);
            return self.create(lanes, now);
        }
        if let Some(object) = object.as_ref().filter(|object| !is_ours(&object.view, &self.context.settings)) {
            self.notes.strange(&object.view);
            self.context.board.clear(&self.name);
            return None;
        }
        if now < self.informed {
            if !self.context.is_informed() {
                return Some(self.informed);
            }
            self.informed = now;
        }
        let view = object.as_ref().map_or_else(|| self.standalone(), |object| object.view.clone());
        if view.deleting && !self.led {
            self.memory.saw_deletion(now);
        }
        let (verdicts, outlook) = self.verdicts(now);
        let facts = self.facts();
        let decided = |memory: &Memory| {
            pass(&Situation {
                now,
                wall: clock::wall(),
                settings: &self.context.settings,
                leads_until,
                verdicts: verdicts.as_deref(),
                outlook,
                view: &view,
                has_object: object.is_some(),
                facts: &facts,
                memory,
            })
        };
        let mut pass = decided(&self.memory);
        self.notes.object(&self.context.settings.exposure.namespace, object.as_ref().map(|object| &object.view));
        let ours = leads_until.is_some() && object.is_some() && self.context.settings.controllers.endpoints;
        if ours && verdicts.is_some() {
            let (there, wanted) = (sorted_endpoints(&view), spec_endpoints(&pass.choice));
            if self.memory.saw_endpoints(&there, &wanted, now) {
                self.notes.foreign_endpoints();
                // It may be contested now.
                pass = decided(&self.memory);
            }
        }
        self.notes.pass(&pass, verdicts.as_deref(), &self.memory, leads_until.is_some());
        self.tell_silent();
        let strained = self.tell_strain(verdicts.as_deref(), Some(&pass), now);
        let wake = self.start(&pass, object, lanes, now);
        let turn = Turn {
            settled: pass.is_settled() && lanes.object_idle() && lanes.status_idle(),
            leads: leads_until.is_some(),
            observed: self.memory.observed().cloned(),
            view,
            pass,
        };
        self.context.witness.tell(|| Some(turn.clone()));
        self.context.board.post(&self.name, turn, clock::wall());
        let closely = strained.then(|| now + LOOK_CLOSELY);
        wake.into_iter().chain(closely).min()
    }

    /// Waits no longer for what is under way at STACKIT; whether that was a change of the balancer.
    fn give_up(&mut self, lanes: &mut Lanes, now: Moment) -> bool {
        let changes = lanes.give_up();
        if changes {
            self.memory.given_up(now);
        }
        changes
    }

    fn start(&mut self, pass: &Pass, object: Option<Exposed>, lanes: &mut Lanes, now: Moment) -> Option<Moment> {
        let mut wake = pass.wake;
        let looks = self.context.errand == Errand::Look;
        if looks && !matches!(pass.cloud, Some(CloudStep::Read(_))) {
            return wake;
        }
        let mut at = |moment: Moment| wake = Some(wake.map_or(moment, |earlier: Moment| earlier.min(moment)));
        if let (Some(step), Some(identity)) = (&pass.cloud, &pass.identity)
            && let Some(free) = lanes.free_for(step)
        {
            if now >= free {
                if self.give_up(lanes, now) {
                    self.notes.given_up();
                }
                self.notes.sending(step, now);
                self.memory.sending(step, &pass.choice, now, self.context.settings.load_balancer.writes_per_minute);
                lanes.start_cloud(step.clone(), identity.clone(), &self.context, object.as_ref(), now);
            } else {
                at(free);
            }
        }
        let object = object.filter(|_| !looks);
        let (Some((exposures, _)), Some(object)) = (&self.context.sources.exposures, object) else { return wake };
        if let (Some(step), true) = (&pass.object, lanes.object_idle()) {
            if now >= self.object_retry.not_before {
                lanes.start_object(step.clone(), exposures.clone(), object.clone());
            } else {
                at(self.object_retry.not_before);
            }
        }
        if let (Some(report), true) = (&pass.report, lanes.status_idle()) {
            if now >= self.status_retry.not_before {
                lanes.start_status(report.clone(), exposures.clone(), object);
            } else {
                at(self.status_retry.not_before);
            }
        }
        wake
    }

    /// Makes the object, where the settings allow it and it has a first endpoint.
    fn create(&mut self, lanes: &mut Lanes, now: Moment) -> Option<Moment> {
        let settings = &self.context.settings;
        let (exposures, watched) = self.context.sources.exposures.clone()?;
        let may = self.context.errand != Errand::Look && (self.led || self.context.errand == Errand::Make);
        let wanted = settings.exposure.create_if_missing && settings.exposure.name == self.name && may;
        if !wanted || !watched.borrow().listed || !lanes.object_idle() {
            return None;
        }
        if now < self.object_retry.not_before {
            return Some(self.object_retry.not_before);
        }
        let (verdicts, outlook) = self.verdicts(now);
        let choice = choose(&Round {
            verdicts: &verdicts?,
            last_good: &LastGood::default(),
            pool: &self.memory.pool,
            now,
            health: &self.context.settings.health,
            outlook,
        });
        let settings = &self.context.settings;
        let endpoints = decide::pass::spec_endpoints(&choice);
        if !endpoints.is_empty() {
            lanes.start_create(exposures.clone(), settings.exposure.clone(), endpoints);
        }
        None
    }

    /// The object: what the watch shows, or the answer to our last write where that is newer.
    fn object(&mut self) -> Option<Exposed> {
        let (_, watched) = self.context.sources.exposures.as_ref()?;
        let seen = watched.borrow().items.get(&self.name).cloned();
        let Some(seen) = seen else {
            self.written = None;
            return None;
        };
        if let Some(written) = &self.written {
            let same = written.view.uid == seen.view.uid;
            if same && older(&seen.resource_version, &written.resource_version) {
                return self.written.clone();
            }
            if !same {
                // Another object of the same name: nothing that was remembered is about it.
                self.memory.another_object();
                self.led = false;
            }
            self.written = None;
        }
        Some(seen)
    }

    /// The exposure that the settings describe, where there is no Kubernetes.
    fn standalone(&self) -> ExposureView {
        let wish = &self.context.settings.exposure;
        ExposureView {
            name: wish.name.clone(),
            kind: wish.r#type.clone(),
            port: wish.port.into(),
            finalizer: true,
            deleting: self.context.errand == Errand::Remove,
            ..ExposureView::default()
        }
    }

    fn facts(&self) -> Facts {
        let project = self.context.clouds.project_id();
        let context = &self.context;
        let facts = facts::gather(
            &context.settings,
            &context.sources.clusters.borrow(),
            &context.sources.infrastructures.borrow(),
            project,
        );
        Facts { file_ranges: context.sources.ranges.borrow().clone(), ..facts }
    }
}

/// Somebody has something new; the end of that task is noticed elsewhere.
async fn changed<T>(news: &mut watch::Receiver<T>) {
    if news.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A worker looks up now and then even when nothing happens, so that its silence means something.
async fn sleep_until(wake: Option<Moment>) {
    let latest = clock::now() + LOOK_UP;
    clock::sleep_until(wake.map_or(latest, |moment| moment.min(latest))).await;
}
