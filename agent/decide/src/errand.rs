//! How far a verb has come that does one thing and ends: what it waits for, and how long that usually takes.
//!
//! Deliberately not here: clocks and terminals. How long a step has taken arrives as an argument.

use std::time::Duration;

use crate::exposure::ExposureView;
use crate::status::{Outcome, Waiting};

/// A stage on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Finding out what there is.
    Look,
    /// Becoming the only one who writes.
    Lead,
    /// Everything that comes before the balancer: facts, credentials, endpoints, the object.
    Prepare,
    /// The write that makes or changes the balancer.
    Make,
    /// STACKIT, which provides it.
    Provision,
    /// Writing down what came of it.
    Report,
    /// The request that deletes the balancer.
    Delete,
    /// STACKIT, which takes it down.
    Vanish,
    /// Letting the object go.
    Release,
}

/// The stages of making a balancer.
pub const MAKING: &[Stage] = &[Stage::Look, Stage::Lead, Stage::Prepare, Stage::Make, Stage::Provision, Stage::Report];
/// The stages of removing it.
pub const REMOVING: &[Stage] = &[Stage::Look, Stage::Lead, Stage::Delete, Stage::Vanish, Stage::Release];

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// What is waited for, for people.
    pub what: String,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader<'a> {
    /// We do, or nobody has to.
    Us,
    /// Somebody else, who is alive.
    Other(&'a str),
    /// Nobody yet; why not, where that is known.
    Nobody(Option<&'a str>),
}

/// What there is to see.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What could not be read yet, each with the reason.
    pub unread: &'a [String],
    /// Who leads.
    pub leader: Leader<'a>,
    /// What the last pass came to; `None`: there was none, or it knew too little.
    pub outcome: Option<&'a Outcome>,
    /// The exposure as stored; `None`: there is no object.
    pub view: Option<&'a ExposureView>,
    /// There are objects, not a balancer alone.
    pub kubernetes: bool,
    /// Writes to Kubernetes that are refused, with what was being done.
    pub refused: Option<&'a str>,
}

impl Stage {
    /// How long it usually takes, for people.
    pub fn usually(self) -> &'static str {
        match self {
            Stage::Look | Stage::Prepare | Stage::Report | Stage::Release => "usually 1 s",
            Stage::Lead => "usually 1 s, and up to 15 s where a leader has vanished",
            Stage::Make | Stage::Delete => "usually 2 s",
            Stage::Provision => "usually 1 to 2 min",
            Stage::Vanish => "usually half a minute",
        }
    }

    /// The same as a number, for a bar.
    fn expected(self) -> Duration {
        Duration::from_secs(match self {
            Stage::Look | Stage::Prepare | Stage::Report | Stage::Release | Stage::Lead => 1,
            Stage::Make | Stage::Delete => 2,
            Stage::Provision => 90,
            Stage::Vanish => 30,
        })
    }

    /// Its place among `stages`, from 1.
    pub fn number(self, stages: &[Stage]) -> usize {
        stages.iter().position(|stage| *stage == self).unwrap_or_default() + 1
    }

    /// Percent of the way, when this stage has lasted for `spent`. A stage that lasts is never taken for done.
    pub fn percent(self, stages: &[Stage], spent: Duration) -> u32 {
        let seconds = |stages: &[Stage]| stages.iter().map(|stage| stage.expected().as_secs_f64()).sum::<f64>();
        let before = &stages[..self.number(stages) - 1];
        let expected = self.expected().as_secs_f64();
        let share = (spent.as_secs_f64() / expected).min(0.95) * expected;
        let percent = 100.0 * (seconds(before) + share) / seconds(stages);
        // Between 0 and 99 by construction.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
        let percent = percent.floor() as u32;
        percent.min(99)
    }
}

/// Where the making of a balancer stands.
pub fn making(scene: &Scene<'_>) -> Step {
    let waiting = |waiting: &Waiting| match waiting {
        Waiting::Write(_) => Stage::Make,
        Waiting::Balancer(_) | Waiting::Truce => Stage::Provision,
        _ => Stage::Prepare,
    };
    stand(scene, Stage::Provision, |outcome| match outcome {
        None if scene.kubernetes && scene.view.is_none() => {
            (Stage::Prepare, "making the SelfHostedShootExposure".to_owned())
        }
        None => (Stage::Prepare, "reading the load balancer".to_owned()),
        Some(Outcome::Waiting(what)) => (waiting(what), what.to_string()),
        Some(Outcome::Failed(failure)) => (Stage::Make, format!("trying again: {}", failure.message)),
        Some(Outcome::Done(_)) => (Stage::Report, "writing the status".to_owned()),
    })
}

/// Where the removal of a balancer stands.
pub fn removing(scene: &Scene<'_>) -> Step {
    stand(scene, Stage::Vanish, |outcome| match outcome {
        None => (Stage::Delete, "reading the load balancer".to_owned()),
        Some(Outcome::Waiting(what @ Waiting::Deletion)) => (Stage::Vanish, what.to_string()),
        Some(Outcome::Waiting(what)) => (Stage::Delete, what.to_string()),
        Some(Outcome::Failed(failure)) => (Stage::Delete, format!("trying again: {}", failure.message)),
        Some(Outcome::Done(_)) => (Stage::Release, "releasing the SelfHostedShootExposure".to_owned()),
    })
}

fn stand(scene: &Scene<'_>, of_others: Stage, ours: impl FnOnce(Option<&Outcome>) -> (Stage, String)) -> Step {
    let knows_nothing = matches!(scene.outcome, None | Some(Outcome::Waiting(Waiting::Nodes)));
    if !scene.unread.is_empty() && knows_nothing {
        return Step { stage: Stage::Look, what: format!("reading the cluster: {}", scene.unread.join("; ")) };
    }
    let (stage, mut what) = match scene.leader {
        Leader::Nobody(why) => {
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            (Stage::Lead, format!("waiting for the Lease{why}"))
        }
        Leader::Other(holder) => (of_others, format!("`{holder}` leads and does it{}", said(scene.view))),
        Leader::Us => ours(scene.outcome),
    };
    if let Some(refused) = scene.refused {
        what = format!("{what} ({refused})");
    }
    Step { stage, what }
}

/// What the status says of it.
fn said(view: Option<&ExposureView>) -> String {
    let Some(view) = view else { return String::new() };
    let error = view.status.error.as_ref().map(|error| error.description.as_str());
    let last = view.status.operation.as_ref().map(|last| last.description.as_str());
    error.or(last).map(|text| format!(": {text}")).unwrap_or_default()
}

impl ExposureView {
    /// Whether it passes the checks that Gardener makes before it goes on: everything asked for is done and reported.
    pub fn is_exposed(&self) -> bool {
        let status = &self.status;
        let done = status.operation.as_ref().filter(|last| last.state == "Succeeded");
        !self.deleting
            && self.operation.is_none()
            && status.error.is_none()
            && status.observed_generation == self.generation
            && !status.ingress.is_empty()
            && done.is_some_and(|last| self.asked_at.is_none_or(|asked| asked <= last.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Failure, LastError, LastOperation};

    fn scene<'a>(leader: Leader<'a>, outcome: Option<&'a Outcome>) -> Scene<'a> {
        Scene { unread: &[], leader, outcome, view: None, kubernetes: true, refused: None }
    }

    #[test]
    fn each_outcome_has_its_stage_and_says_what_is_waited_for() {
        let waiting = |waiting| Some(Outcome::Waiting(waiting));
        let failed = Failure { message: "no quota".to_owned(), codes: Vec::new() };
        for (outcome, stage, what) in [
            (None, Stage::Prepare, "making the SelfHostedShootExposure"),
            (waiting(Waiting::Credentials("no file".to_owned())), Stage::Prepare, "waiting for credentials: no file"),
            (waiting(Waiting::Write("creating")), Stage::Make, "creating the load balancer"),
            (waiting(Waiting::Balancer("STATUS_PENDING".to_owned())), Stage::Provision, "STATUS_PENDING"),
            (Some(Outcome::Failed(failed)), Stage::Make, "trying again: no quota"),
            (Some(Outcome::Done(None)), Stage::Report, "writing the status"),
        ] {
            let step = making(&scene(Leader::Us, outcome.as_ref()));
            assert!(step.stage == stage && step.what.contains(what), "{step:?}");
        }
        let alone = Scene { kubernetes: false, ..scene(Leader::Us, None) };
        assert_eq!(making(&alone).what, "reading the load balancer");
        for (outcome, stage) in [
            (None, Stage::Delete),
            (waiting(Waiting::Write("deleting")), Stage::Delete),
            (waiting(Waiting::Deletion), Stage::Vanish),
            (Some(Outcome::Done(None)), Stage::Release),
        ] {
            assert_eq!(removing(&scene(Leader::Us, outcome.as_ref())).stage, stage);
        }
    }

    #[test]
    fn who_else_leads_is_named_with_what_they_say() {
        let mut view = ExposureView::default();
        view.status.operation = Some(LastOperation { description: "at it".to_owned(), ..LastOperation::default() });
        let mut other = Scene { view: Some(&view), ..scene(Leader::Other("cp-1_x"), None) };
        assert_eq!(
            making(&other),
            Step { stage: Stage::Provision, what: "`cp-1_x` leads and does it: at it".to_owned() }
        );
        let mut view = view.clone();
        view.status.error = Some(LastError { description: "no quota".to_owned(), codes: Vec::new() });
        other.view = Some(&view);
        assert!(removing(&other).what.ends_with(": no quota"));
        let nobody = Leader::Nobody(Some("leases is forbidden"));
        assert_eq!(making(&scene(nobody, None)).what, "waiting for the Lease: leases is forbidden");
        let unread = ["Nodes: forbidden".to_owned()];
        let step = making(&Scene { unread: &unread, refused: Some("x"), ..scene(nobody, None) });
        assert_eq!(step, Step { stage: Stage::Look, what: "reading the cluster: Nodes: forbidden".to_owned() });
        let step = making(&Scene { refused: Some("creating: forbidden"), ..scene(Leader::Us, None) });
        assert!(step.what.ends_with(" (creating: forbidden)"));
    }

    #[test]
    fn the_way_grows_and_never_ends_before_the_end() {
        for stages in [MAKING, REMOVING] {
            let mut last = 0;
            for stage in stages {
                for seconds in [0, 1, 30, 3600] {
                    let percent = stage.percent(stages, Duration::from_secs(seconds));
                    assert!((last..=99).contains(&percent), "{stage:?} after {seconds} s: {percent} after {last}");
                    last = percent;
                }
            }
        }
        assert_eq!(Stage::Provision.percent(MAKING, Duration::from_secs(45)), 52);
    }

    #[test]
    fn exposed_is_what_gardener_takes_for_done() {
        let mut good = ExposureView { generation: 2, ..ExposureView::default() };
        good.status.observed_generation = 2;
        good.status.ingress = vec!["192.0.2.1".to_owned()];
        good.status.operation =
            Some(LastOperation { state: "Succeeded".to_owned(), at: 5, ..LastOperation::default() });
        assert!(good.is_exposed());
        let spoils: [fn(&mut ExposureView); 7] = [
            |view| view.generation = 3,
            |view| view.deleting = true,
            |view| view.operation = Some("reconcile".to_owned()),
            |view| view.asked_at = Some(6),
            |view| view.status.ingress.clear(),
            |view| view.status.operation = None,
            |view| view.status.error = Some(LastError::default()),
        ];
        for (index, spoil) in spoils.into_iter().enumerate() {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(!bad.is_exposed(), "{index}");
        }
    }
}
