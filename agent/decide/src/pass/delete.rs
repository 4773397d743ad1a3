//! Deletion: the balancer first, then the finalizer. It needs credentials and what is on record, and when it is forced
//! not even those.

use std::collections::BTreeSet;

use super::{Balancer, CloudStep, ObjectStep, Pass, Situation, conclude, read, read_later, write};
use crate::desired::Identity;
use crate::plan::{self, Step};
use crate::status::{Failure, Outcome, Waiting};
use crate::{exposure, names};

pub(super) fn delete(situation: &Situation<'_>, pass: &mut Pass) {
    let Situation { view, memory, .. } = *situation;
    if !view.finalizer {
        return;
    }
    if let Some(why) = given_up(situation, pass.identity.as_ref()) {
        let name = pass.identity.as_ref().map_or("of this exposure", |identity| identity.name.as_str());
        pass.left_behind = Some(format!("load balancer `{name}` is left behind, deletion was forced: {why}"));
        conclude(situation, pass, Outcome::Done(None));
        if pass.report.is_none() || memory.status_failed {
            pass.object = Some(ObjectStep::RemoveFinalizer);
        }
        return;
    }
    let Some(identity) = pass.identity.clone() else {
        let missing = exposure::identity(view, situation.facts).err().unwrap_or_default();
        return conclude(situation, pass, Outcome::Waiting(Waiting::Facts(missing)));
    };
    if matches!(memory.balancer, Balancer::Unread) || memory.must_read || memory.wants_look.is_some() {
        return read(situation, pass, &identity.name, None);
    }
    let observed = memory.observed();
    let labels = names::labels(&identity.technical_id, &view.name);
    if let Some(observed) = observed
        && let Err(why) = plan::ownership(observed, &labels, view.status.recorded.is_some())
    {
        read_later(situation, pass, &identity.name);
        return conclude(situation, pass, Outcome::Failed(Failure::not_ours(&identity.name, &why)));
    }
    let plan = plan::removal(observed);
    let outcome = match plan.step {
        Step::Delete(_) => write(situation, pass, CloudStep::Delete(identity), &BTreeSet::new(), "deleting"),
        Step::Gone => Outcome::Done(None),
        _ => {
            read_later(situation, pass, &identity.name);
            Outcome::Waiting(Waiting::Deletion)
        }
    };
    pass.plan = Some(plan);
    let gone = matches!(outcome, Outcome::Done(_));
    if gone && view.paused {
        return conclude(situation, pass, Outcome::Waiting(Waiting::Resume("releasing the finalizer".to_owned())));
    }
    conclude(situation, pass, outcome);
    if gone && (pass.report.is_none() || memory.status_failed) {
        pass.object = Some(ObjectStep::RemoveFinalizer);
    }
}

/// Why a forced deletion goes on without the balancer: whatever an ordinary one would wait for without end. It asks
/// STACKIT all the same, and a few times, because what is left behind costs money and keeps an address.
fn given_up(situation: &Situation<'_>, identity: Option<&Identity>) -> Option<String> {
    const TRIES: u32 = 3;
    let Situation { view, memory, facts, .. } = *situation;
    if !facts.force_deletion || view.paused {
        return None;
    }
    let Some(identity) = identity else {
        let missing = exposure::identity(view, facts).err().unwrap_or_default();
        return Some(format!("where it is, is not known ({})", missing.join("; ")));
    };
    let troubles = [&memory.read_trouble, &memory.write_trouble];
    if let Some(trouble) = troubles.into_iter().flatten().find(|trouble| trouble.attempts >= TRIES) {
        return Some(trouble.fault.message.clone());
    }
    let labels = names::labels(&identity.technical_id, &view.name);
    let ours = memory.observed().map(|observed| plan::ownership(observed, &labels, view.status.recorded.is_some()));
    ours?.err().map(|why| why.to_string())
}
