//! `bootstrap`: makes the balancer, with or without a Kubernetes, and waits until it is ready.
//!
//! It takes the Lease when it can. Where somebody else leads and lives, it makes the object if there is none and waits
//! for what the leader makes of it: whoever does it, the result is the same.

use std::net::IpAddr;
use std::time::Duration;

use decide::alone::{self, Deed};
use decide::desired::{BalancerStatus, Identity};
use decide::errand::{self, MAKING, Stage};
use decide::exposure::{ExposureView, SpecEndpoint};
use decide::health::{NodeAddress, NodeView};
use decide::settings::Settings;
use decide::status::Outcome;
use serde::Serialize;

use super::super::Unusable;
use super::super::worker::Errand;
use super::course::Course;
use super::ground::{self, Ground, Meant};
use super::work::{Objects, Sight, Work};
use crate::cluster::client::Access;

/// Pause between two looks for what cannot be read yet.
const PAUSE: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    /// `--endpoint`, each as it was written.
    pub endpoints: Vec<String>,
    /// `--timeout`.
    pub timeout: Duration,
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    /// Where clients reach the control plane, as `status.ingress` has it.
    pub ingress: Vec<Ingress>,
    /// The balancer; `None` where somebody else has made it and does not say.
    pub load_balancer: Option<LoadBalancer>,
    /// Its targets, as `spec.endpoints` has them.
    pub endpoints: Vec<Endpoint>,
    /// The object; `None`: no API server has answered.
    pub exposure: Option<Exposure>,
    /// How long it took.
    pub seconds: f64,
}

/// An entry of `ingress`.
#[derive(Clone, Debug, Serialize)]
pub struct Ingress {
    /// The address.
    pub ip: String,
}

/// Where the balancer lives.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// Its name.
    pub name: String,
    /// The project.
    #[serde(rename = "projectID")]
    pub project_id: String,
    /// The region.
    pub region: String,
    /// The shoot's technical ID.
    #[serde(rename = "technicalID")]
    pub technical_id: String,
    /// Its version, where it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// An entry of `endpoints`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The node.
    pub node_name: String,
    /// Its addresses.
    pub addresses: Vec<NodeAddress>,
}

/// The object.
#[derive(Clone, Debug, Serialize)]
pub struct Exposure {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Makes it. What is missing or wrong is told at once and as a whole.
pub async fn bootstrap(mut settings: Settings, request: &Request) -> anyhow::Result<Made> {
    let named = alone::named(&request.endpoints).map_err(|mistakes| Unusable(mistakes.join("\n")))?;
    let mut course = Course::new(MAKING, request.timeout)?;
    course.step(Stage::Look, "looking for an API server");
    let access = match course.wait(ground::find(&settings)).await?? {
        Ground::Alone(why) => {
            let missing = missing(&settings, &named);
            if !missing.is_empty() {
                return Err(unusable(&why, &missing));
            }
            course.show.line(&format!("{why}: the balancer alone is made; run it again when there is one"));
            None
        }
        Ground::Kubernetes { known: false, .. } if missing(&settings, &named).is_empty() => {
            let why = "the API server does not know SelfHostedShootExposures";
            course.show.line(&format!("{why}: the balancer alone is made; run it again when it does"));
            None
        }
        Ground::Kubernetes { access, .. } => {
            settings.exposure.name = name(&mut course, &access, &settings).await?;
            Some(*access)
        }
    };
    if access.is_none() && !settings.controllers.exposure {
        let what = "controllers.exposure is false, and there is nobody else who could make the balancer";
        return Err(Unusable(what.to_owned()).into());
    }
    settings.exposure.create_if_missing = true;
    let namespace = settings.exposure.namespace.clone();
    let mut work = Work::start(settings, access, Errand::Make, named)?;
    let made = follow(&mut course, &mut work, &namespace).await;
    if let Ok(made) = &made {
        let addresses: Vec<&str> = made.ingress.iter().map(|ingress| ingress.ip.as_str()).collect();
        course.show.line(&format!("ready at {} after {:.1} s", addresses.join(", "), made.seconds));
    }
    course.show.end();
    work.end().await;
    made
}

fn missing(settings: &Settings, named: &[NodeView]) -> Vec<String> {
    let project = ground::project(settings);
    alone::missing(settings, Deed::Make, project.as_deref().map_err(String::as_str), !named.is_empty())
}

fn unusable(why: &str, missing: &[String]) -> anyhow::Error {
    Unusable(format!("{why}, and without one these must be set: {}", missing.join(", "))).into()
}

/// The exposure's name, once it is known.
async fn name(course: &mut Course, access: &Access, settings: &Settings) -> anyhow::Result<String> {
    loop {
        let found = course.wait(ground::meant(access, settings)).await?;
        let unknown = match found {
            Ok(Meant::There(exposed)) => return Ok(exposed.view.name),
            Ok(Meant::Absent(Some(name))) => return Ok(name),
            Ok(Meant::Absent(None)) => {
                "there is no SelfHostedShootExposure, and no Cluster `kube-system` that names the shoot; exposure.name \
                 says how to call it"
                    .to_owned()
            }
            Err(Ok(not_now)) => not_now,
            Err(Err(unusable)) => return Err(unusable.into()),
        };
        course.step(Stage::Look, &unknown);
        course.wait(tokio::time::sleep(PAUSE)).await?;
    }
}

/// Looks on until it is done.
async fn follow(course: &mut Course, work: &mut Work, namespace: &str) -> anyhow::Result<Made> {
    loop {
        let sight = work.look();
        if let Some(made) = made(&sight, namespace, course.show.spent()) {
            return Ok(made);
        }
        course.show.step(sight.scene(errand::making));
        course.wait(work.changed()).await??;
    }
}

/// What was made, once everything is as it should be and written down.
fn made(sight: &Sight, namespace: &str, spent: Duration) -> Option<Made> {
    let turn = sight.told.turn.as_ref().filter(|turn| turn.leads && sight.leads);
    let done = turn.filter(|turn| turn.settled).and_then(|turn| match &turn.pass.outcome {
        Some(Outcome::Done(Some(ip))) => Some(*ip),
        _ => None,
    });
    let kubernetes = sight.objects != Objects::None;
    // A turn of ours knows what was written before the watch does.
    let view = turn.filter(|_| kubernetes).map(|turn| &turn.view).or(sight.view.as_ref());
    let answered_for = match &sight.other {
        _ if sight.leads => done.is_some() || !sight.makes,
        Some((_, lives)) => *lives,
        None => false,
    };
    let exposed = !kubernetes || view.is_some_and(ExposureView::is_exposed);
    if !(answered_for && exposed) {
        return None;
    }
    let ingress = match view {
        Some(view) => view.status.ingress.clone(),
        None => done.as_ref().map(IpAddr::to_string).into_iter().collect(),
    };
    let observed = turn.and_then(|turn| turn.observed.as_ref());
    let observed = observed.filter(|observed| done.is_some() && observed.status == BalancerStatus::Ready);
    let identity: Option<Identity> = view.and_then(|view| view.status.recorded.clone());
    let identity = identity.or_else(|| turn.and_then(|turn| turn.pass.identity.clone()));
    let endpoints = match (view, turn) {
        (Some(view), _) => view.endpoints.clone(),
        (None, Some(turn)) => decide::pass::spec_endpoints(&turn.pass.choice),
        (None, None) => Vec::new(),
    };
    let endpoint = |it: SpecEndpoint| Endpoint { node_name: it.node_name, addresses: it.addresses };
    Some(Made {
        ingress: ingress.into_iter().map(|ip| Ingress { ip }).collect(),
        load_balancer: identity.map(|identity| LoadBalancer {
            name: identity.name,
            project_id: identity.project_id,
            region: identity.region,
            technical_id: identity.technical_id,
            version: observed.map(|observed| observed.version.clone()),
        }),
        endpoints: endpoints.into_iter().map(endpoint).collect(),
        exposure: view.map(|view| Exposure {
            namespace: namespace.to_owned(),
            name: view.name.clone(),
            uid: view.uid.clone(),
        }),
        seconds: (spent.as_secs_f64() * 1000.0).round() / 1000.0,
    })
}

impl Made {
    /// The addresses, one a line: what a script wants.
    pub fn text(&self) -> String {
        self.ingress.iter().flat_map(|ingress| [ingress.ip.as_str(), "\n"]).collect()
    }
}
