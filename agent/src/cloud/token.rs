//! The access token in hand.
//!
//! It is fetched once however many ask, renewed early beside the requests that use it, and kept when that fails for
//! as long as it is valid. Attempts that fail are spaced out, so that a broken credential does not hammer the token
//! endpoint. A new credential takes the place of the old one when it has worked once.
//!
//! Deliberately not here: noticing that a credential has changed (the caller calls [`Tokens::replace`]).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use decide::retry::{self, Fault, FaultKind};
use decide::status;
use reqwest::Url;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::exchange::{Granted, exchange};
use super::federation::Federation;
use super::http::{Http, Observer, Purpose};
use super::key::ServiceAccountKey;
use super::setup::{CaBundle, SetupError, endpoint};
use super::{federation, key};
use crate::host::secret::Secret;

/// A token is not used in the last seconds of its life: it would expire on the way.
const LEEWAY: Duration = Duration::from_secs(5);
/// A long-lived token is renewed at least this long before its end.
const MARGIN: Duration = Duration::from_mins(5);
/// Longest pause between two attempts, whatever `Retry-After` says.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Where tokens come from.
#[derive(Debug)]
pub enum Source {
    /// A service account key signs an assertion.
    Key {
        /// The key.
        key: Box<ServiceAccountKey>,
        /// Token endpoint that wins over the key's own.
        endpoint: Option<String>,
    },
    /// A token of another issuer is exchanged.
    Federation {
        /// Who, and with which token.
        federation: Federation,
        /// Token endpoint that wins over the configuration's own.
        endpoint: Option<String>,
    },
    /// An access token made by hand.
    Static(Secret),
}

impl Source {
    /// A word for the kind of credential.
    pub fn flow(&self) -> &'static str {
        match self {
            Self::Key { .. } => "key",
            Self::Federation { .. } => "workload identity federation",
            Self::Static(_) => "static token",
        }
    }

    /// Where tokens are fetched: what was set, else what the credential says, else the public place.
    fn endpoint(&self) -> Result<Url, SetupError> {
        let (set, own, public) = match self {
            Self::Key { key, endpoint } => (endpoint, &key.token_endpoint, key::DEFAULT_TOKEN_ENDPOINT),
            Self::Federation { federation, endpoint } => {
                (endpoint, &federation.token_endpoint, federation::DEFAULT_TOKEN_ENDPOINT)
            }
            Self::Static(_) => (&None, &None, key::DEFAULT_TOKEN_ENDPOINT),
        };
        endpoint(set.as_deref().or(own.as_deref()).unwrap_or(public))
    }
}

/// The access token, for everybody who needs it: clones share it.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    http: Http,
    timeout: Duration,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    state: Mutex<State>,
    /// Held by whoever fetches.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    credential: Arc<Credential>,
    /// A newer credential that has not worked yet.
    candidate: Option<Arc<Credential>>,
    token: Option<Token>,
    failure: Option<Failure>,
}

struct Credential {
    source: Source,
    endpoint: Url,
}

#[derive(Clone)]
struct Token {
    text: Secret,
    renew_from: Instant,
    usable_until: Instant,
    /// For the metric; the decisions follow the monotonic clock.
    expiry: SystemTime,
}

struct Failure {
    fault: Fault,
    in_a_row: u32,
    /// No further attempt before.
    until: Instant,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("flow", &self.flow()).field("expiry", &self.expiry()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Nothing is fetched until somebody asks. An exchange gets `timeout`.
    pub fn new(
        source: Source,
        timeout: Duration,
        bundle: Option<&CaBundle>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SetupError> {
        Self::with_clock(source, timeout, bundle, observer, Box::new(Instant::now))
    }

    fn with_clock(
        source: Source,
        timeout: Duration,
        bundle: Option<&CaBundle>,
        observer: Arc<dyn Observer>,
        clock: Box<dyn Fn() -> Instant + Send + Sync>,
    ) -> Result<Self, SetupError> {
        let credential = Arc::new(Credential { endpoint: source.endpoint()?, source });
        let state = State { credential, candidate: None, token: None, failure: None };
        Ok(Self(Arc::new(Inner {
            http: Http::new(Purpose::Tokens, timeout, bundle, observer)?,
            timeout,
            clock,
            state: Mutex::new(state),
            turn: Arc::default(),
        })))
    }

    /// The same credentials and token, fetched over other certificate authorities or with another time limit.
    pub fn rebuilt(
        &self,
        timeout: Duration,
        bundle: Option<&CaBundle>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SetupError> {
        let http = Http::new(Purpose::Tokens, timeout, bundle, observer)?;
        let old = self.0.state();
        let (credential, candidate) = (Arc::clone(&old.credential), old.candidate.clone());
        let state = State { credential, candidate, token: old.token.clone(), failure: None };
        let clock = Box::new(Instant::now);
        Ok(Self(Arc::new(Inner { http, timeout, clock, state: Mutex::new(state), turn: Arc::default() })))
    }

    /// Takes a changed credential. The one in use stays until this one has worked once.
    pub fn replace(&self, source: Source) -> Result<(), SetupError> {
        let candidate = Arc::new(Credential { endpoint: source.endpoint()?, source });
        let mut state = self.0.state();
        state.candidate = Some(candidate);
        state.failure = None;
        Ok(())
    }

    /// Sees to it that a valid token is at hand, as a follower does who may have to lead at once.
    pub async fn ensure(&self) -> Result<(), Fault> {
        self.token(Instant::now() + self.0.timeout).await.map(drop)
    }

    /// Whether a token is at hand that is valid now.
    pub fn is_usable(&self) -> bool {
        self.0.state().valid((self.0.clock)()).is_some()
    }

    /// When the token at hand expires.
    pub fn expiry(&self) -> Option<SystemTime> {
        self.0.state().token.as_ref().map(|token| token.expiry)
    }

    /// The kind of credential in use.
    pub fn flow(&self) -> &'static str {
        self.0.state().credential.source.flow()
    }

    /// Why the last attempt to fetch a token failed; `None` once one has succeeded. Says too of a replaced
    /// credential that it does not work, while the old one still does.
    pub fn fault(&self) -> Option<Fault> {
        self.0.state().failure.as_ref().map(|failure| failure.fault.clone())
    }

    /// A token that is valid now.
    pub(super) async fn token(&self, deadline: Instant) -> Result<Secret, Fault> {
        if let Some(token) = self.at_hand() {
            return Ok(token);
        }
        let turn = timeout_at(deadline, Arc::clone(&self.0.turn).lock_owned());
        let turn = turn.await.map_err(|_| waited("another attempt to fetch one has not ended in time"))?;
        // Whoever had the turn before has perhaps done it for us, or failed for us.
        let now = (self.0.clock)();
        if let Some(token) = self.0.state().valid(now) {
            return Ok(token.text.clone());
        }
        if let Some(failure) = self.0.state().pausing(now) {
            let left = failure.until.saturating_duration_since(now);
            return Err(Fault { retry_after: Some(left), ..failure.fault.clone() });
        }
        // On its own, so that a caller who gives up does not undo it.
        let attempt = tokio::spawn(renew(Arc::clone(&self.0), turn));
        match timeout_at(deadline, attempt).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(waited("the attempt was cut off")),
            Err(_) => Err(waited("the token endpoint has not answered in time")),
        }
    }

    /// The API has refused this token: it is not used again.
    pub(super) fn refused(&self, token: &Secret) {
        let mut state = self.0.state();
        if state.token.as_ref().is_some_and(|held| held.text == *token) {
            state.token = None;
        }
    }

    /// The token, if it is valid; starts its renewal where it is time for that, without waiting.
    fn at_hand(&self) -> Option<Secret> {
        let now = (self.0.clock)();
        let state = self.0.state();
        let token = state.valid(now)?;
        let due = now >= token.renew_from || state.candidate.is_some();
        if due
            && state.pausing(now).is_none()
            && let Ok(turn) = Arc::clone(&self.0.turn).try_lock_owned()
        {
            // Ends by itself within the time limit.
            drop(tokio::spawn(renew(Arc::clone(&self.0), turn)));
        }
        Some(token.text.clone())
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn valid(&self, now: Instant) -> Option<&Token> {
        self.token.as_ref().filter(|token| now < token.usable_until)
    }

    fn pausing(&self, now: Instant) -> Option<&Failure> {
        self.failure.as_ref().filter(|failure| now < failure.until)
    }

    fn succeeded(&mut self, with: Arc<Credential>, granted: Granted, now: Instant) -> Secret {
        let life = granted.life;
        self.token = Some(Token {
            text: granted.token.clone(),
            renew_from: now + renewal(life),
            usable_until: now + life.saturating_sub(LEEWAY.min(life / 4)),
            expiry: SystemTime::now() + life,
        });
        self.candidate.take_if(|newest| Arc::ptr_eq(newest, &with));
        self.credential = with;
        self.failure = None;
        granted.token
    }

    fn failed(&mut self, fault: Fault, now: Instant, jitter: f64) {
        let in_a_row = self.failure.as_ref().map_or(0, |failure| failure.in_a_row).saturating_add(1);
        let pause = retry::delay(&fault, in_a_row, jitter).min(LONGEST_PAUSE);
        self.failure = Some(Failure { fault, in_a_row, until: now + pause });
    }
}

/// When a token is renewed: at three quarters of its life or some minutes before its end, whichever is earlier,
/// but not before half of it is over.
fn renewal(life: Duration) -> Duration {
    (life * 3 / 4).min(life.saturating_sub(MARGIN)).max(life / 2)
}

/// Fetches a token and gives the turn back.
async fn renew(inner: Arc<Inner>, turn: OwnedMutexGuard<()>) -> Result<Secret, Fault> {
    let outcome = inner.attempt().await;
    drop(turn);
    outcome
}

impl Inner {
    /// Fetches a token with the newest credential that works, and remembers how it went.
    async fn attempt(&self) -> Result<Secret, Fault> {
        let (current, candidate) = {
            let state = self.state();
            (Arc::clone(&state.credential), state.candidate.clone())
        };
        let mut refused = None;
        if let Some(candidate) = candidate {
            match self.fetch(&candidate).await {
                Ok(granted) => {
                    tracing::info!(
                        flow = candidate.source.flow(),
                        "the changed credential works and replaces the old one"
                    );
                    return Ok(self.state().succeeded(candidate, granted, (self.clock)()));
                }
                Err(fault) => {
                    let reason = status::Failure::of(&fault).reason().word();
                    tracing::warn!(reason, error = %fault.message, "the changed credential does not work, the old one stays");
                    let now = (self.clock)();
                    let mut state = self.state();
                    if let Some(token) = state.valid(now).filter(|token| now < token.renew_from) {
                        let token = token.text.clone();
                        state.failed(fault, now, rand::random());
                        return Ok(token);
                    }
                    refused = Some(fault);
                }
            }
        }
        let outcome = self.fetch(&current).await;
        let now = (self.clock)();
        let mut state = self.state();
        let outcome = outcome.map(|granted| state.succeeded(current, granted, now));
        // What is wrong with the newer credential is what can be put right.
        if let Some(fault) = refused.or_else(|| outcome.as_ref().err().cloned()) {
            if outcome.is_err() {
                tracing::warn!(reason = status::Failure::of(&fault).reason().word(), error = %fault.message, "no access token");
            }
            state.failed(fault, now, rand::random());
        }
        outcome
    }

    async fn fetch(&self, credential: &Credential) -> Result<Granted, Fault> {
        let deadline = Instant::now() + self.timeout;
        exchange(&self.http, &credential.source, &credential.endpoint, SystemTime::now(), deadline).await
    }
}

fn waited(problem: &str) -> Fault {
    Fault {
        kind: FaultKind::TimedOut,
        http_status: None,
        message: format!("waiting for an access token: {problem}"),
        retry_after: None,
        outcome_unknown: false,
    }
}

#[cfg(test)]
mod tests;
