//! The way to STACKIT: credentials as they are now, and one client for each project and region.
//!
//! Credentials are read again when their folder changes. Ones that do not read keep the last that did; ones that are
//! not there yet are waited for.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use decide::desired::Identity;
use decide::retry::{Fault, FaultKind};
use decide::settings::Settings;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admin::metrics::{Code, Method, Metrics};
use crate::cloud::http::SetupError;
use crate::cloud::rest::DEFAULT_ENDPOINT;
use crate::cloud::{CaBundle, Observer, Place, Rest, Tokens, credentials};
use crate::host::reload::Changes;

/// The way to STACKIT.
pub struct Clouds {
    settings: Arc<Settings>,
    metrics: Metrics,
    state: Mutex<State>,
    news: watch::Sender<()>,
}

struct State {
    /// What was read last; an error only while nothing has ever been read.
    known: Result<Known, Fault>,
    /// What the files looked like then.
    fingerprint: u64,
    /// What is wrong with newer files, said once.
    problem: Option<String>,
    clients: BTreeMap<(String, String), Arc<Rest>>,
}

struct Known {
    project_id: Option<String>,
    tokens: Tokens,
}

/// Requests to STACKIT as numbers. The token endpoint is not part of the load balancer API and not counted.
struct Counted(Metrics);

impl Clouds {
    /// Reads the credentials for the first time.
    pub fn new(settings: Arc<Settings>, metrics: &Metrics) -> Self {
        let unread = fault(FaultKind::CredentialsMissing, "not read yet");
        let state = State { known: Err(unread), fingerprint: 0, problem: None, clients: BTreeMap::new() };
        let (news, _) = watch::channel(());
        let clouds = Self { settings, metrics: metrics.clone(), state: Mutex::new(state), news };
        clouds.read();
        clouds
    }

    /// Follows the credentials without end.
    pub async fn follow(self: Arc<Self>) {
        let changes = Changes::of(Path::new(&self.settings.stackit.credentials_directory));
        loop {
            changes.next().await;
            if self.read() {
                let _ = self.news.send(());
            }
        }
    }

    /// Something new whenever other credentials were read.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The credentials' project, or why it is not known.
    pub fn project_id(&self) -> Result<String, String> {
        match &self.state().known {
            Ok(Known { project_id: Some(project_id), .. }) => Ok(project_id.clone()),
            Ok(Known { project_id: None, .. }) => {
                Err("stackit.projectID is not set and the credentials name no project (file `project-id`)".to_owned())
            }
            Err(fault) => Err(fault.message.clone()),
        }
    }

    /// The balancers of a project and region.
    pub fn of(&self, identity: &Identity) -> Result<Arc<Rest>, Fault> {
        let mut state = self.state();
        let tokens = match &state.known {
            Ok(known) => known.tokens.clone(),
            Err(fault) => return Err(fault.clone()),
        };
        self.metrics.set_token_expiry(tokens.expiry());
        let key = (identity.project_id.clone(), identity.region.clone());
        if let Some(client) = state.clients.get(&key) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.client(identity, tokens).map_err(|error| unusable(&error))?);
        state.clients.insert(key, Arc::clone(&client));
        Ok(client)
    }

    fn client(&self, identity: &Identity, tokens: Tokens) -> Result<Rest, SetupError> {
        let stackit = &self.settings.stackit;
        let endpoint = stackit.load_balancer_endpoint().unwrap_or(DEFAULT_ENDPOINT);
        let place = Place { endpoint, project_id: &identity.project_id, region: &identity.region };
        let bundle = self.bundle()?;
        Rest::new(place, self.settings.call_timeout(), bundle.as_ref(), tokens, self.observer())
    }

    /// Reads the credentials; whether anything changed.
    fn read(&self) -> bool {
        let stackit = &self.settings.stackit;
        let directory = Path::new(&stackit.credentials_directory);
        let fingerprint = fingerprint(directory);
        let mut state = self.state();
        if state.fingerprint == fingerprint {
            return false;
        }
        state.fingerprint = fingerprint;
        let read = credentials::read(directory, stackit.token_endpoint(), SystemTime::now());
        let taken = read.and_then(|credentials| {
            for warning in &credentials.warnings {
                warn!("credentials: {warning}");
            }
            info!(flow = credentials.source.flow(), "read the credentials");
            match &mut state.known {
                // The one in use stays until the new one has worked once.
                Ok(known) => {
                    known.tokens.replace(credentials.source).map_err(|error| unusable(&error))?;
                    known.project_id = credentials.project_id;
                }
                unknown => {
                    let bundle = self.bundle().map_err(|error| unusable(&error))?;
                    let timeout = self.settings.call_timeout();
                    let tokens = Tokens::new(credentials.source, timeout, bundle.as_ref(), self.observer());
                    let tokens = tokens.map_err(|error| unusable(&error))?;
                    *unknown = Ok(Known { project_id: credentials.project_id, tokens });
                }
            }
            Ok(())
        });
        if let Err(fault) = taken {
            if state.problem.as_ref() != Some(&fault.message) {
                warn!(reason = "CredentialsInvalid", "{}; what was read last stays", fault.message);
                state.problem = Some(fault.message.clone());
            }
            if state.known.is_err() {
                state.known = Err(fault);
            }
        } else {
            state.problem = None;
        }
        true
    }

    fn bundle(&self) -> Result<Option<CaBundle>, SetupError> {
        let path = Some(self.settings.stackit.ca_bundle.as_str()).filter(|path| !path.is_empty());
        path.map(|path| CaBundle::read(Path::new(path))).transpose()
    }

    fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(Counted(self.metrics.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere ends the process; there is no half-written state to fear.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Counted {
    fn request(&self, method: &str, code: &str, took: Duration) {
        let Some(method) = Method::from_word(method) else { return };
        let code = match code {
            "timeout" => Code::TimedOut,
            "unreachable" => Code::Unreachable,
            digits => digits.parse().map_or(Code::Malformed, Code::Http),
        };
        self.0.cloud_request_ended(method, code, took);
    }
}

/// What the files hold, as a number; good enough to notice a change, and nothing of them is kept.
fn fingerprint(directory: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in ["project-id", "serviceaccount.json", "config", "token"] {
        match std::fs::read(directory.join(name)) {
            Ok(content) => content.hash(&mut hasher),
            Err(error) => error.kind().hash(&mut hasher),
        }
    }
    hasher.finish()
}

fn unusable(error: &SetupError) -> Fault {
    fault(FaultKind::Credentials, &error.to_string())
}

fn fault(kind: FaultKind, message: &str) -> Fault {
    Fault { kind, http_status: None, message: message.to_owned(), retry_after: None, outcome_unknown: false }
}
