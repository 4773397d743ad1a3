//! `teardown`: removes the balancer, with or without a Kubernetes.
//!
//! Where there is an object, that is asked to go, as Gardener asks; the agent that leads does the rest. Where none
//! leads, this process does it, finalizer included. Nothing is written before the balancer's name was confirmed.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use decide::alone::{self, Deed};
use decide::errand::{self, REMOVING, Stage};
use decide::names;
use decide::plan::Step as PlanStep;
use decide::settings::Settings;
use decide::status::{Outcome, Waiting};
use kube::Api;

use super::super::Unusable;
use super::super::worker::Errand;
use super::course::Course;
use super::ground::{self, Ground, Meant};
use super::work::{Objects, Sight, Work};
use crate::cluster::ApiFailure;
use crate::cluster::client::Access;
use crate::cluster::exposures::{Exposed, Exposures};

/// Pause between two looks for what cannot be read yet.
const PAUSE: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    /// `--confirm`: the balancer's name.
    pub confirm: Option<String>,
    /// `--wait`: until it is gone, whoever does it.
    pub wait: bool,
    /// `--timeout`.
    pub timeout: Duration,
}

/// Removes it; what has come of it, for people.
pub async fn teardown(mut settings: Settings, request: &Request) -> anyhow::Result<String> {
    if request.confirm.is_none() && !std::io::stdin().is_terminal() {
        let what = "this deletes the load balancer: say which by --confirm BALANCER_NAME (nobody can be asked here)";
        return Err(Unusable(what.to_owned()).into());
    }
    let mut course = Course::new(REMOVING, request.timeout)?;
    course.step(Stage::Look, "looking for an API server");
    let (access, exposed) = match course.wait(ground::find(&settings)).await?? {
        Ground::Kubernetes { access, known: true } => {
            let exposed = exposed(&mut course, &access, &mut settings).await?;
            (Some(*access), exposed)
        }
        // Whoever knows the kind no more knows no object either; the shoot's facts may still be there.
        Ground::Kubernetes { access, known: false } => (Some(*access), None),
        Ground::Alone(why) => {
            course.show.line(&format!("{why}: the balancer alone is removed"));
            (None, None)
        }
    };
    // An object that nobody has ever worked on goes at once, and its balancer may have been made before it.
    let alone = exposed.as_ref().is_none_or(|exposed| !exposed.view.finalizer);
    if alone {
        if let Some(access) = &access {
            facts(&mut course, access, &mut settings).await?;
        }
        let project = ground::project(&settings);
        let missing = alone::missing(&settings, Deed::Remove, project.as_deref().map_err(String::as_str), false);
        if !missing.is_empty() {
            let why = "nothing in Kubernetes says where the balancer is; these must be set";
            return Err(Unusable(format!("{why}: {}", missing.join(", "))).into());
        }
    }
    let name = balancer(&mut course, access.as_ref(), exposed.as_ref(), &settings).await?;
    confirmed(&mut course, &name, request.confirm.as_deref()).await?;

    // The daemon alone makes what is missing.
    settings.exposure.create_if_missing = false;
    if let (Some(access), Some(exposed)) = (&access, exposed) {
        delete(&mut course, access, &exposed, &settings).await?;
        let mut work = Work::start(settings.clone(), Some(access.clone()), Errand::Keep, Vec::new())?;
        let ended = until_gone(&mut course, &mut work, request.wait).await;
        course.show.end();
        work.end().await;
        if let Gone::Left(holder) = ended? {
            let what = format!("load balancer `{name}` is being deleted by `{holder}`, which leads");
            return Ok(format!("{what}; --wait waits for it\n"));
        }
    }
    if alone {
        // No Lease: no agent works on a balancer without an object.
        settings.leader_election.enabled = false;
        let mut work = Work::start(settings, access, Errand::Remove, Vec::new())?;
        let ended = until_removed(&mut course, &mut work, request.wait).await;
        course.show.end();
        work.end().await;
        if !ended? {
            return Ok(format!("load balancer `{name}` is being deleted; --wait waits for it\n"));
        }
    }
    Ok(format!("load balancer `{name}` is gone\n"))
}

/// The object that is meant, if there is one; the settings have its name from here on.
async fn exposed(course: &mut Course, access: &Access, settings: &mut Settings) -> anyhow::Result<Option<Exposed>> {
    loop {
        let not_now = match course.wait(ground::meant(access, settings)).await? {
            Ok(Meant::There(exposed)) => {
                settings.exposure.name.clone_from(&exposed.view.name);
                return Ok(Some(*exposed));
            }
            Ok(Meant::Absent(name)) => {
                settings.exposure.name = name.unwrap_or_default();
                return Ok(None);
            }
            Err(Ok(not_now)) => not_now,
            Err(Err(unusable)) => return Err(unusable.into()),
        };
        course.step(Stage::Look, &not_now);
        course.wait(tokio::time::sleep(PAUSE)).await?;
    }
}

/// Takes from the `Cluster` what the settings do not say.
async fn facts(course: &mut Course, access: &Access, settings: &mut Settings) -> anyhow::Result<()> {
    let wish = &settings.stackit;
    if !wish.region.is_empty() && !wish.technical_id.is_empty() && !settings.exposure.name.is_empty() {
        return Ok(());
    }
    let cluster = course.wait(ground::cluster(access)).await?;
    let Some(cluster) = cluster.map_err(|why| anyhow!(why))? else { return Ok(()) };
    let fill = |setting: &mut String, value: Option<String>| {
        if setting.is_empty() {
            *setting = value.unwrap_or_default();
        }
    };
    fill(&mut settings.stackit.region, cluster.region);
    fill(&mut settings.stackit.technical_id, cluster.technical_id);
    fill(&mut settings.exposure.name, Some(cluster.shoot));
    Ok(())
}

/// The balancer's name: as recorded, else as it would be called.
async fn balancer(
    course: &mut Course,
    access: Option<&Access>,
    exposed: Option<&Exposed>,
    settings: &Settings,
) -> anyhow::Result<String> {
    if let Some(recorded) = exposed.and_then(|exposed| exposed.view.status.recorded.as_ref()) {
        return Ok(recorded.name.clone());
    }
    let mut technical_id = Some(settings.stackit.technical_id.clone()).filter(|id| !id.is_empty());
    if let (None, Some(access)) = (&technical_id, access) {
        let cluster = course.wait(ground::cluster(access)).await?;
        technical_id = cluster.map_err(|why| anyhow!(why))?.and_then(|cluster| cluster.technical_id);
    }
    let technical_id = technical_id.ok_or_else(|| {
        Unusable("stackit.technicalID is not set, and there is no Cluster `kube-system` that knows it".to_owned())
    })?;
    let exposure = exposed.map_or(settings.exposure.name.as_str(), |exposed| exposed.view.name.as_str());
    Ok(names::balancer(&technical_id, exposure))
}

/// Whether somebody has said this name, or says it now.
async fn confirmed(course: &mut Course, name: &str, confirm: Option<&str>) -> anyhow::Result<()> {
    let said = match confirm {
        Some(said) => said.to_owned(),
        None => asked(course, name).await?,
    };
    if said == name {
        return Ok(());
    }
    Err(Unusable(format!("nothing was deleted: `{said}` was confirmed, and this would delete `{name}`")).into())
}

/// Asks for the name on the terminal.
async fn asked(course: &mut Course, name: &str) -> anyhow::Result<String> {
    course.show.line(&format!(
        "This deletes load balancer `{name}`, and with it the way to the control plane.\nType its name to go on:"
    ));
    // On a thread of its own, which may wait without end when this process ends.
    let (tell, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        tell.send(read.map(|_| line))
    });
    course.show.is_hidden = true;
    let answer = course.wait(answer).await?.context("reading the name")?.context("reading the name")?;
    course.show.is_hidden = false;
    Ok(answer.trim().to_owned())
}

/// Asks for the deletion of the object; it may be asked for already.
async fn delete(course: &mut Course, access: &Access, exposed: &Exposed, settings: &Settings) -> anyhow::Result<()> {
    let exposures = Exposures::new(Api::namespaced(access.client()?, &settings.exposure.namespace));
    let name = &exposed.view.name;
    course.step(Stage::Delete, &format!("deleting SelfHostedShootExposure `{name}`"));
    match course.wait(exposures.delete(exposed)).await? {
        Ok(()) | Err(ApiFailure::NotFound) => Ok(()),
        Err(failure) => bail!("deleting SelfHostedShootExposure `{name}`: {failure}"),
    }
}

/// How the object's deletion has ended.
enum Gone {
    /// It is gone.
    Gone,
    /// Somebody who leads is at it.
    Left(String),
}

/// Looks on, and does it where nobody else does, until the object is gone.
async fn until_gone(course: &mut Course, work: &mut Work, wait: bool) -> anyhow::Result<Gone> {
    loop {
        let sight = work.look();
        if sight.objects == Objects::Listed && sight.view.is_none() {
            return Ok(Gone::Gone);
        }
        if let (false, Some((holder, true))) = (wait, &sight.other) {
            return Ok(Gone::Left(holder.clone()));
        }
        refused(&sight)?;
        course.show.step(sight.scene(errand::removing));
        course.wait(work.changed()).await??;
    }
}

/// Looks on until the balancer is gone; without `wait` until its deletion is accepted (`false`).
async fn until_removed(course: &mut Course, work: &mut Work, wait: bool) -> anyhow::Result<bool> {
    loop {
        let sight = work.look();
        let pass = sight.told.turn.as_ref().map(|turn| &turn.pass);
        match pass.and_then(|pass| Some((pass.outcome.as_ref()?, pass.plan.as_ref().map(|plan| &plan.step)))) {
            Some((Outcome::Done(None), Some(PlanStep::Gone))) => return Ok(true),
            Some((Outcome::Waiting(Waiting::Deletion), _)) if !wait => return Ok(false),
            _ => {}
        }
        refused(&sight)?;
        course.show.step(sight.scene(errand::removing));
        course.wait(work.changed()).await??;
    }
}

/// What no further try will change: a balancer that is not ours.
fn refused(sight: &Sight) -> anyhow::Result<()> {
    let outcome = sight.told.turn.as_ref().filter(|_| sight.leads).and_then(|turn| turn.pass.outcome.as_ref());
    match outcome {
        Some(Outcome::Failed(failure)) if failure.codes.iter().any(|code| code == "ERR_CONFIGURATION_PROBLEM") => {
            bail!("nothing was deleted: {}", failure.message)
        }
        _ => Ok(()),
    }
}
