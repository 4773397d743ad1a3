//! What an answer brings: into the memory, and into the pauses of the lanes.

use decide::Moment;
use decide::pass::ObjectStep;
use decide::retry::Pause;

use super::{Event, Worker, notes};
use crate::cluster::ApiFailure;
use crate::cluster::exposures::Exposed;
use crate::host::clock;

impl Worker {
    pub(super) fn learn(&mut self, event: Event) {
        let now = clock::now();
        let resync = self.context.settings.load_balancer.resync;
        match event {
            Event::Changed | Event::Stop => {}
            // What failed for want of a credential may work now.
            Event::Credentials => self.memory.try_again(now),
            Event::Cloud(step, carried) => {
                self.notes.carried(&step, &carried, now);
                self.memory.learn(carried, now, resync, rand::random());
            }
            Event::Object(step, result) => {
                if let (ObjectStep::StripOperation, Ok(_)) = (&step, &result) {
                    self.memory.asked(now);
                }
                self.context.witness.answered(notes::object_step(&step), &result);
                answered(&mut self.object_retry, &result, notes::object_step(&step), now);
                self.take(result);
            }
            Event::Created(result) => {
                self.context.witness.answered("creating the SelfHostedShootExposure", &result);
                answered(&mut self.object_retry, &result, "creating the SelfHostedShootExposure", now);
                self.take(result);
            }
            Event::Status(result) => {
                self.context.witness.answered("writing the status", &result);
                answered(&mut self.status_retry, &result, "writing the status", now);
                self.memory.reported(result.as_ref().ok().map(|object| &object.view.status));
                self.take(result);
            }
        }
    }

    fn take(&mut self, result: Result<Exposed, ApiFailure>) {
        if let Ok(object) = result {
            self.written = Some(object);
        }
    }
}

/// Pauses a lane after a failure, and says so now and then.
fn answered(pause: &mut Pause, result: &Result<Exposed, ApiFailure>, what: &str, now: Moment) {
    let Err(failure) = result else { return pause.succeeded() };
    match failure {
        ApiFailure::Conflict => pause.lost_a_race(now),
        _ => pause.failed(now),
    }
    let conflict = matches!(failure, ApiFailure::Conflict | ApiFailure::NotFound);
    // Losing a race is normal: the watch brings what the next try is computed from.
    if conflict && pause.failures < 5 {
        tracing::debug!(what, %failure, "trying again");
    } else if pause.failures.is_power_of_two() {
        tracing::warn!(what, %failure, failures = pause.failures, "failed; trying again");
    }
}
