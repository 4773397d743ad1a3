//! The way to STACKIT: credentials as they are now, and one client for each project and region.
//!
//! | module | what it follows |
//! |---|---|
//! | here | the credentials' folder, and what comes of all of them |
//! | `heard` | the answers: numbers of them, and when the last one came |
//! | `ways` | endpoints and certificate authorities, out of settings and CloudProfile |
//! | [`reference`] | the Secret that the exposure names, where the settings ask for it |
//!
//! Credentials that do not read keep the last that did; ones that are not there yet are waited for. Leader or not, a
//! valid token is kept at hand: who takes over writes at once.

mod heard;
pub mod reference;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use decide::Moment;
use decide::desired::Identity;
use decide::retry::{Fault, FaultKind};
use decide::settings::{CredentialsSource, Settings};
use tokio::sync::watch;
use tracing::{info, warn};

use super::settings::Live;
use crate::admin::Check;
use crate::admin::metrics::Metrics;
use crate::cloud::{Credentials, Observer, Place, Rest, SetupError, Tokens, credentials};
use crate::cluster::facts::{CLUSTER, Cluster, Profile};
use crate::cluster::watch::Watched;
use crate::host::reload::Changes;
use crate::host::secret::Secret;
use heard::Heard;
use reference::Reference;
use ways::Ways;

/// How often somebody sees to it that a valid token is at hand.
const KEEP: Duration = Duration::from_secs(10);

/// What decides about the way to STACKIT.
pub struct Origins {
    /// The settings.
    pub live: Live,
    /// `Cluster` objects; `None`: there is no Kubernetes.
    pub clusters: Option<watch::Receiver<Watched<Cluster>>>,
    /// The Secret that the exposures name.
    pub reference: watch::Receiver<Reference>,
    /// For `/readyz?verbose`.
    pub check: Check,
    /// The numbers.
    pub metrics: Metrics,
}

/// The way to STACKIT.
pub struct Clouds {
    origins: Origins,
    state: Mutex<State>,
    news: watch::Sender<()>,
    heard: Heard,
    shown: watch::Sender<Shown>,
}

/// What everybody may know of the credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// How tokens are earned; `None`: no credentials yet.
    pub flow: Option<&'static str>,
    /// When the token in hand expires.
    pub expires: Option<SystemTime>,
    /// The credentials' project.
    pub project_id: Option<String>,
    /// What is wrong with them.
    pub problem: Option<String>,
}

struct State {
    /// What was read last; an error only while nothing has ever been read.
    known: Result<Known, Fault>,
    /// How STACKIT is reached; `None` while that is not known.
    ways: Option<Ways>,
    /// The CloudProfile as last seen. It stays when the `Cluster` goes: a balancer must be deleted where it was made.
    profile: Profile,
    /// What the credentials looked like when they were read.
    fingerprint: Option<u64>,
    /// What is wrong with newer ones, said once.
    problem: Option<String>,
    /// What is wrong with the CloudProfile, said once.
    oddities: Vec<String>,
    /// What is odd about credentials that work, each said once.
    warned: BTreeSet<String>,
    clients: BTreeMap<(String, String), Arc<Rest>>,
}

struct Known {
    project_id: Option<String>,
    tokens: Tokens,
}

impl Clouds {
    /// Reads the credentials for the first time.
    pub fn new(origins: Origins) -> Self {
        let state = State {
            known: Err(fault(FaultKind::CredentialsMissing, "not read yet")),
            ways: None,
            profile: Profile::default(),
            fingerprint: None,
            problem: None,
            oddities: Vec::new(),
            warned: BTreeSet::new(),
            clients: BTreeMap::new(),
        };
        let (news, _) = watch::channel(());
        let heard = Heard::new(origins.metrics.clone());
        let clouds = Self { origins, state: Mutex::new(state), news, heard, shown: watch::Sender::default() };
        clouds.refresh();
        clouds
    }

    /// Follows credentials, settings and CloudProfile without end.
    pub async fn follow(self: Arc<Self>) {
        let mut live = self.origins.live.clone();
        let mut clusters = self.origins.clusters.clone();
        let mut reference = self.origins.reference.clone();
        loop {
            let settings = live.borrow_and_update().clone();
            let stackit = &settings.stackit;
            let bundle = stackit.ca_bundle().and_then(|file| Path::new(file).parent());
            let changes = Changes::of_all([Path::new(&stackit.credentials_directory)].into_iter().chain(bundle));
            loop {
                if self.refresh() {
                    let _ = self.news.send(());
                }
                let profile = async {
                    match &mut clusters {
                        Some(clusters) => clusters.changed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = changes.next() => {}
                    Ok(()) = live.changed() => break,
                    Ok(()) = profile => {}
                    Ok(()) = reference.changed() => {}
                }
            }
        }
    }

    /// Keeps a valid token at hand, without end.
    pub async fn keep(self: Arc<Self>) {
        let mut news = self.changes();
        loop {
            let tokens = self.state().known.as_ref().ok().map(|known| known.tokens.clone());
            if let Some(tokens) = &tokens {
                // What went wrong is in `fault`, and in the answer to whoever needs the token.
                let _ = tokens.ensure().await;
                self.origins.metrics.set_token_expiry(tokens.expiry());
            }
            self.tell(tokens.as_ref());
            tokio::select! {
                () = tokio::time::sleep(KEEP) => {}
                Ok(()) = news.changed() => {}
            }
        }
    }

    /// Something new whenever other credentials or endpoints are in use.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// What everybody may know of the credentials, as somebody last looked.
    pub fn shown(&self) -> watch::Receiver<Shown> {
        self.shown.subscribe()
    }

    /// When STACKIT last answered, whatever it said.
    pub fn answered(&self) -> Option<Moment> {
        self.heard.last()
    }

    /// Whether a usable token is at hand.
    pub fn has_token(&self) -> bool {
        self.state().known.as_ref().is_ok_and(|known| known.tokens.is_usable())
    }

    /// Whether the credentials were looked at, with or without success.
    pub fn have_looked(&self) -> bool {
        self.state().fingerprint.is_some()
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
        let (tokens, ways) = match (&state.known, &state.ways) {
            (Ok(known), Some(ways)) => (known.tokens.clone(), ways.clone()),
            (Err(fault), _) => return Err(fault.clone()),
            (Ok(_), None) => return Err(fault(FaultKind::CredentialsMissing, "the endpoints are not known yet")),
        };
        self.origins.metrics.set_token_expiry(tokens.expiry());
        let key = (identity.project_id.clone(), identity.region.clone());
        if let Some(client) = state.clients.get(&key) {
            return Ok(Arc::clone(client));
        }
        let client = self.client(identity, &ways, tokens).map_err(|error| unusable(&error))?;
        let client = Arc::new(client);
        state.clients.insert(key, Arc::clone(&client));
        Ok(client)
    }

    fn client(&self, identity: &Identity, ways: &Ways, tokens: Tokens) -> Result<Rest, SetupError> {
        let place = Place { endpoint: &ways.endpoint, project_id: &identity.project_id, region: &identity.region };
        Rest::new(place, ways.timeout, ways.bundle()?.as_ref(), tokens, self.observer())
    }

    /// Looks at everything again; whether anything changed that matters to those who write.
    fn refresh(&self) -> bool {
        let settings = Arc::clone(&self.origins.live.borrow());
        let mut state = self.state();
        let state = &mut *state;
        match self.reach(&settings, state) {
            Ok(changed) => self.read(&settings, state) || changed,
            Err(fault) => {
                state.refuse(fault);
                false
            }
        }
    }

    /// Finds out how STACKIT is reached; whether that has changed.
    fn reach(&self, settings: &Settings, state: &mut State) -> Result<bool, Fault> {
        if let Some(clusters) = &self.origins.clusters {
            let clusters = clusters.borrow();
            if let Some(cluster) = clusters.items.get(CLUSTER) {
                state.profile.clone_from(&cluster.profile);
            }
            // A key must not be shown to an endpoint that is not meant to see it.
            let said_nothing = !clusters.listed && clusters.problem.is_none();
            if said_nothing && state.ways.is_none() && ways::needs_profile(settings) {
                let what =
                    format!("Cluster `{CLUSTER}`, whose CloudProfile may name STACKIT's endpoints, is not read yet");
                return Err(fault(FaultKind::CredentialsMissing, &what));
            }
        }
        let found = ways::find(settings, &state.profile, state.ways.as_ref());
        let (found, oddities) = found.map_err(|error| unusable(&error))?;
        if state.oddities != oddities {
            for oddity in &oddities {
                warn!(reason = "ConfigurationInvalid", "Cluster `{CLUSTER}` or settings: {oddity}");
            }
            state.oddities = oddities;
        }
        let Some(before) = state.ways.replace(found.clone()).filter(|before| *before != found) else {
            return Ok(false);
        };
        info!(endpoint = found.endpoint, "STACKIT is reached in another way from now on");
        state.clients.clear();
        if let Ok(known) = &mut state.known
            && (&before.bundle, before.timeout) != (&found.bundle, found.timeout)
        {
            let bundle = found.bundle().map_err(|error| unusable(&error))?;
            let tokens = known.tokens.rebuilt(found.timeout, bundle.as_ref(), self.observer());
            known.tokens = tokens.map_err(|error| unusable(&error))?;
        }
        Ok(true)
    }

    /// Reads the credentials; whether anything changed.
    fn read(&self, settings: &Settings, state: &mut State) -> bool {
        let Some(ways) = state.ways.clone() else { return false };
        let reference = self.origins.reference.borrow().clone();
        let fingerprint = fingerprint(settings, &reference, ways.token_endpoint.as_ref());
        if state.fingerprint == Some(fingerprint) {
            return false;
        }
        state.fingerprint = Some(fingerprint);
        let read = credentials(settings, &reference, ways.token_endpoint.as_deref());
        match read.and_then(|credentials| self.take(credentials, &ways, state)) {
            Ok(()) => state.problem = None,
            Err(fault) => state.refuse(fault),
        }
        true
    }

    /// Takes credentials that read well. The ones in use stay until these have worked once.
    fn take(&self, credentials: Credentials, ways: &Ways, state: &mut State) -> Result<(), Fault> {
        for warning in credentials.warnings {
            if state.warned.insert(warning.clone()) {
                warn!("credentials: {warning}");
            }
        }
        info!(flow = credentials.source.flow(), "read the credentials");
        match &mut state.known {
            Ok(known) => {
                known.tokens.replace(credentials.source).map_err(|error| unusable(&error))?;
                known.project_id = credentials.project_id;
            }
            unknown => {
                let bundle = ways.bundle().map_err(|error| unusable(&error))?;
                let tokens = Tokens::new(credentials.source, ways.timeout, bundle.as_ref(), self.observer());
                let tokens = tokens.map_err(|error| unusable(&error))?;
                *unknown = Ok(Known { project_id: credentials.project_id, tokens });
            }
        }
        Ok(())
    }

    /// Keeps `/readyz?verbose` informed.
    fn tell(&self, tokens: Option<&Tokens>) {
        let problem = self.state().problem.clone();
        let problem = problem.or_else(|| tokens.and_then(Tokens::fault).map(|fault| fault.message));
        match &problem {
            Some(problem) => self.origins.check.fail(problem),
            None => self.origins.check.ok(),
        }
        self.shown.send_replace(Shown {
            flow: tokens.map(Tokens::flow),
            expires: tokens.and_then(Tokens::expiry),
            project_id: self.project_id().ok(),
            problem,
        });
    }

    fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.heard.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere ends the process; there is no half-written state to fear.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Credentials or endpoints that cannot be used: what was in use stays.
    fn refuse(&mut self, fault: Fault) {
        if self.problem.as_ref() != Some(&fault.message) {
            let message = &fault.message;
            match (&self.known, fault.kind) {
                // Nothing is wrong yet, and nothing was taken away.
                (Err(_), FaultKind::CredentialsMissing) => info!("waiting for credentials: {message}"),
                (Err(_), _) => warn!(reason = "CredentialsInvalid", "{message}"),
                (Ok(_), _) => warn!(reason = "CredentialsInvalid", "{message}; what was read last stays"),
            }
            self.problem = Some(fault.message.clone());
        }
        if self.known.is_err() {
            self.known = Err(fault);
        }
    }
}

/// The credentials as they are now.
fn credentials(settings: &Settings, reference: &Reference, token_endpoint: Option<&str>) -> Result<Credentials, Fault> {
    let now = SystemTime::now();
    match (settings.stackit.credentials, &reference.data) {
        (CredentialsSource::Mounted, _) => {
            credentials::read(Path::new(&settings.stackit.credentials_directory), token_endpoint, now)
        }
        (CredentialsSource::SecretRef, Some(data)) => {
            credentials::from_secret(&reference.name, data.expose(), token_endpoint, now)
        }
        (CredentialsSource::SecretRef, None) => {
            let why = reference.problem.as_deref().unwrap_or("spec.credentialsRef is not read yet");
            let of = if reference.name.is_empty() { String::new() } else { format!("Secret {}: ", reference.name) };
            Err(fault(FaultKind::CredentialsMissing, &format!("{of}{why}")))
        }
    }
}

/// What the credentials look like, as a number; good enough to notice a change, and nothing of them is kept.
fn fingerprint(settings: &Settings, reference: &Reference, token_endpoint: Option<&String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    token_endpoint.hash(&mut hasher);
    if settings.stackit.credentials == CredentialsSource::SecretRef {
        (&reference.name, &reference.problem).hash(&mut hasher);
        reference.data.as_ref().map(Secret::expose).hash(&mut hasher);
        return hasher.finish();
    }
    let directory = Path::new(&settings.stackit.credentials_directory);
    directory.hash(&mut hasher);
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
