//! What a verb stands on: whether there is a Kubernetes that answers, and which exposure is meant.

use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use decide::exposure::is_ours;
use decide::settings::{CredentialsSource, Settings};
use http::Request;
use kube::Api;
use tokio::net::TcpStream;

use super::super::Unusable;
use crate::cloud::credentials;
use crate::cluster::client::{self, Access, AccessError};
use crate::cluster::exposures::{Exposed, Exposures};
use crate::cluster::facts::{self, CLUSTER, Cluster};
use crate::cluster::{ApiFailure, within};

/// How often an API server that does not answer is asked, and the pause in between: one that is just being restarted
/// is not one that does not exist.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);
/// Time for one connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where exposures are served.
const GROUP: &str = "/apis/extensions.gardener.cloud/v1alpha1";

/// What there is.
pub(super) enum Ground {
    /// An API server that takes connections.
    Kubernetes {
        /// The way to it.
        access: Box<Access>,
        /// Whether it knows the kind of our objects, as far as it can be told.
        known: bool,
    },
    /// None, and why.
    Alone(String),
}

/// Looks for an API server. A kubeconfig that is not there yet is none; one that cannot be used is a mistake.
pub(super) async fn find(settings: &Settings) -> anyhow::Result<Ground> {
    let access = match client::find(settings).await {
        Ok(Some(access)) => access,
        Ok(None) => return Ok(Ground::Alone("there is no kubeconfig".to_owned())),
        Err(AccessError::Kubeconfig { path, named_by, source }) if is_not_there(&source) => {
            let file = path.display();
            return Ok(Ground::Alone(format!("the kubeconfig `{file}` ({named_by}), or what it names, is not there")));
        }
        Err(error) => return Err(Unusable(format!("{:#}", anyhow::Error::new(error))).into()),
    };
    let server = access.config.cluster_url.to_string();
    let server = server.trim_end_matches('/');
    let mut refused = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        match connect(&access).await {
            Ok(()) => {
                let known = is_known(&access).await?;
                return Ok(Ground::Kubernetes { access: Box::new(access), known });
            }
            Err(why) => refused = why,
        }
    }
    Ok(Ground::Alone(format!("the API server {server} does not answer: {refused}")))
}

fn is_not_there(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether anybody listens. What they say, and whether they can be trusted, shows with the first request.
async fn connect(access: &Access) -> Result<(), String> {
    let url = &access.config.cluster_url;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    match tokio::time::timeout(CONNECT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {CONNECT:?}")),
    }
}

/// Whether it knows our kind: only a plain no is one.
async fn is_known(access: &Access) -> anyhow::Result<bool> {
    let client = access.client()?;
    let request = Request::get(GROUP).body(Vec::new())?;
    Ok(!matches!(within(TIMEOUT, client.request_text(request)).await, Err(ApiFailure::NotFound)))
}

/// The exposure that is meant.
pub(super) enum Meant {
    /// It is there.
    There(Box<Exposed>),
    /// It is not; what it would be called, where anything says that.
    Absent(Option<String>),
}

/// Finds the exposure: the one that the settings name, or the only one of our type and class; where there is none, the
/// shoot's name is its own. `Err(Ok(_))`: not now, and why.
pub(super) async fn meant(access: &Access, settings: &Settings) -> Result<Meant, Result<String, Unusable>> {
    let client = access.client().map_err(|error| Ok(error.to_string()))?;
    let wish = &settings.exposure;
    let exposures = Exposures::new(Api::namespaced(client, &wish.namespace));
    if let Some(name) = wish.name() {
        return match exposures.read(name).await {
            Ok(exposed) if is_ours(&exposed.view, settings) => Ok(Meant::There(Box::new(exposed))),
            Ok(exposed) => Err(Err(Unusable(format!(
                "SelfHostedShootExposure `{name}` is of type `{}` and class `{}`, not of ours (exposure.type `{}`, \
                 exposure.class `{}`); it is left alone",
                exposed.view.kind,
                exposed.view.class.as_deref().unwrap_or("shoot"),
                wish.r#type,
                wish.class
            )))),
            Err(ApiFailure::NotFound) => Ok(Meant::Absent(Some(name.to_owned()))),
            Err(failure) => Err(Ok(format!("reading SelfHostedShootExposure `{name}`: {failure}"))),
        };
    }
    let all = match exposures.list().await {
        Ok(all) => all,
        Err(ApiFailure::NotFound) => Vec::new(),
        Err(failure) => return Err(Ok(format!("listing SelfHostedShootExposures: {failure}"))),
    };
    let mut ours: Vec<Exposed> = all.into_iter().filter(|exposed| is_ours(&exposed.view, settings)).collect();
    match (ours.pop(), ours.as_slice()) {
        (Some(one), []) => Ok(Meant::There(Box::new(one))),
        (Some(last), others) => {
            let names: Vec<&str> = others.iter().chain([&last]).map(|exposed| exposed.view.name.as_str()).collect();
            let names = names.join(", ");
            Err(Err(Unusable(format!("there are several exposures: {names}; say which by exposure.name"))))
        }
        (None, _) => {
            let cluster = cluster(access).await.map_err(Ok)?;
            Ok(Meant::Absent(cluster.map(|cluster| cluster.shoot).filter(|shoot| !shoot.is_empty())))
        }
    }
}

/// The `Cluster`; `None` where there is none.
pub(super) async fn cluster(access: &Access) -> Result<Option<Cluster>, String> {
    let client = access.client().map_err(|error| error.to_string())?;
    // By list and name, as it is watched: no further right is needed.
    let api: Api<kube::api::DynamicObject> = Api::all_with(client, &facts::kind("Cluster"));
    let one = kube::api::ListParams::default().fields(&format!("metadata.name={CLUSTER}"));
    match within(TIMEOUT, api.list(&one)).await {
        Ok(list) => Ok(list.items.into_iter().next().and_then(|object| facts::cluster(object).ok()).map(|(_, it)| it)),
        Err(ApiFailure::NotFound) => Ok(None),
        Err(failure) => Err(format!("reading Cluster `{CLUSTER}`: {failure}")),
    }
}

/// The project of mounted credentials, or why it is not known.
pub(super) fn project(settings: &Settings) -> Result<String, String> {
    let stackit = &settings.stackit;
    if stackit.credentials == CredentialsSource::SecretRef {
        return Err("it is in the Secret that the exposure names".to_owned());
    }
    let folder = Path::new(&stackit.credentials_directory);
    match credentials::read(folder, None, SystemTime::now()) {
        Ok(read) => read.project_id.ok_or_else(|| "the credentials name no project (file `project-id`)".to_owned()),
        // The project may be known before there is a key.
        Err(fault) => match std::fs::read_to_string(folder.join("project-id")) {
            Ok(project) if !project.trim().is_empty() => Ok(project.trim().to_owned()),
            _ => Err(fault.message),
        },
    }
}
