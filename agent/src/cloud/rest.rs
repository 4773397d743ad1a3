//! The load balancer API, version 2.

use std::sync::Arc;
use std::time::Duration;

use decide::desired::{LoadBalancer, Observed};
use decide::retry::{Fault, FaultKind};
use http::{Method, StatusCode};
use reqwest::Url;
use serde_json::Value;
use tokio::time::Instant;

use super::fence::Fence;
use super::http::{Answer, Body, Call, Http, Observer, Purpose};
use super::setup::{CaBundle, SetupError, endpoint};
use super::token::Tokens;
use super::{LoadBalancers, fault, wire};

/// The public base URL.
pub const DEFAULT_ENDPOINT: &str = "https://load-balancer.api.stackit.cloud";

/// Balancers a page: with 250 targets each well below the size limit of an answer.
const PAGE_SIZE: &str = "100";
/// Pages after which a list is taken for endless.
const PAGES: usize = 200;
/// How often a list is started again because a page has expired.
const RESTARTS: usize = 3;

/// Where the balancers are.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Base URL, such as [`DEFAULT_ENDPOINT`].
    pub endpoint: &'a str,
    /// The project.
    pub project_id: &'a str,
    /// The region, such as `eu01`.
    pub region: &'a str,
}

/// [`LoadBalancers`] of one project and region, over HTTPS.
#[derive(Clone)]
pub struct Rest {
    reads: Http,
    writes: Http,
    tokens: Tokens,
    /// `…/load-balancers`.
    collection: Url,
    timeout: Duration,
    fence: Fence,
}

impl Rest {
    /// A client that gives each call `timeout` from the first byte to the last, the fetching of a token included.
    pub fn new(
        place: Place<'_>,
        timeout: Duration,
        bundle: Option<&CaBundle>,
        tokens: Tokens,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SetupError> {
        let mut collection = endpoint(place.endpoint)?;
        // An `http` URL always takes segments.
        if let Ok(mut path) = collection.path_segments_mut() {
            path.pop_if_empty();
            path.extend(["v2", "projects", place.project_id, "regions", place.region, "load-balancers"]);
        }
        Ok(Self {
            reads: Http::new(Purpose::Reads, timeout, bundle, Arc::clone(&observer))?,
            writes: Http::new(Purpose::Writes, timeout, bundle, observer)?,
            tokens,
            collection,
            timeout,
            fence: Fence::default(),
        })
    }

    /// The same client, whose writes this fence holds back.
    #[must_use]
    pub fn fenced(&self, fence: Fence) -> Self {
        Self { fence, ..self.clone() }
    }

    fn item(&self, name: &str) -> Url {
        let mut url = self.collection.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(name);
        }
        url
    }

    fn page(&self, id: Option<&str>) -> Url {
        let mut url = self.collection.clone();
        url.query_pairs_mut().append_pair("pageSize", PAGE_SIZE).extend_pairs(id.map(|id| ("pageId", id)));
        url
    }

    /// Sends with a token; when that is refused, once more with a new one.
    ///
    /// A 401 is the API's word that it did nothing, so a write may be repeated as well.
    async fn call(&self, doing: &str, method: &Method, url: &Url, body: Option<&Value>) -> Result<Answer, Fault> {
        let deadline = Instant::now() + self.timeout;
        let writes = fault::is_write(method);
        let (http, fence) = if writes { (&self.writes, &self.fence) } else { (&self.reads, &Fence::default()) };
        let mut refused = None;
        loop {
            let token = self.tokens.token(deadline).await.map_err(|fault| fault::while_doing(doing, fault))?;
            let call = Call {
                doing,
                method: method.clone(),
                url: url.clone(),
                token: Some(&token),
                body: body.map_or(Body::None, Body::Json),
                deadline,
                fence: fence.clone(),
            };
            let answer = http.send(call).await?;
            if answer.status != StatusCode::UNAUTHORIZED || refused.is_some() || fault::service_not_enabled(&answer) {
                return Ok(answer);
            }
            self.tokens.refused(&token);
            refused = Some(token);
        }
    }

    fn fault(&self, doing: &str, method: &Method, answer: &Answer) -> Fault {
        fault::of_answer(doing, method, self.collection.host_str().unwrap_or_default(), answer)
    }

    /// A write whose answer is the balancer as it is now.
    async fn write(&self, doing: &str, method: Method, url: &Url, name: &str, body: &Value) -> Result<Observed, Fault> {
        let answer = self.call(doing, &method, url, Some(body)).await?;
        if !answer.status.is_success() {
            return Err(self.fault(doing, &method, &answer));
        }
        let written = balancer(&answer, name).and_then(|balancer| {
            if balancer.version.is_empty() { Err("the JSON has no `version`".to_owned()) } else { Ok(balancer) }
        });
        written.map_err(|problem| fault::malformed(doing, &method, &answer, &problem))
    }

    /// All pages from the first; `None` when one has expired on the way.
    async fn pages(&self, doing: &str) -> Result<Option<Vec<Observed>>, Fault> {
        let mut balancers = Vec::new();
        let mut page = None;
        for _ in 0..PAGES {
            let answer = self.call(doing, &Method::GET, &self.page(page.as_deref()), None).await?;
            if answer.status == StatusCode::GONE && page.is_some() {
                return Ok(None);
            }
            if !answer.status.is_success() {
                return Err(self.fault(doing, &Method::GET, &answer));
            }
            let malformed = |problem: &str| fault::malformed(doing, &Method::GET, &answer, problem);
            let mut body = json(&answer).map_err(|problem| malformed(&problem))?;
            let Some(body) = body.as_object_mut() else { return Err(malformed("the JSON is not an object")) };
            if let Some(Value::Array(entries)) = body.get_mut("loadBalancers").map(Value::take) {
                for entry in entries {
                    match wire::observed(entry) {
                        Ok(balancer) => balancers.push(balancer),
                        Err(problem) => tracing::debug!(problem, "left out of the list of load balancers"),
                    }
                }
            }
            let next = body.get("nextPageId").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
            match next {
                None => return Ok(Some(balancers)),
                next if next == page => return Err(malformed("the next page is the same again")),
                next => page = next,
            }
        }
        let message = format!("{doing}: more than {PAGES} pages");
        Err(Fault { kind: FaultKind::Malformed, http_status: None, message, retry_after: None, outcome_unknown: false })
    }
}

impl LoadBalancers for Rest {
    async fn get(&self, name: &str) -> Result<Option<Observed>, Fault> {
        let doing = format!("reading load balancer `{name}`");
        let answer = self.call(&doing, &Method::GET, &self.item(name), None).await?;
        if answer.status.is_success() {
            let problem = |problem: String| fault::malformed(&doing, &Method::GET, &answer, &problem);
            return balancer(&answer, name).map(Some).map_err(problem);
        }
        let fault = self.fault(&doing, &Method::GET, &answer);
        if fault.kind == FaultKind::NotFound { Ok(None) } else { Err(fault) }
    }

    async fn list(&self) -> Result<Vec<Observed>, Fault> {
        let doing = "listing load balancers";
        for _ in 0..=RESTARTS {
            if let Some(balancers) = self.pages(doing).await? {
                return Ok(balancers);
            }
        }
        let message = format!("{doing}: pages expired {} times in a row", RESTARTS + 1);
        let status = Some(StatusCode::GONE.as_u16());
        Err(Fault {
            kind: FaultKind::Malformed,
            http_status: status,
            message,
            retry_after: None,
            outcome_unknown: false,
        })
    }

    async fn create(&self, wish: &LoadBalancer) -> Result<Observed, Fault> {
        let doing = format!("creating load balancer `{}`", wish.name);
        self.write(&doing, Method::POST, &self.collection, &wish.name, &wire::create_body(wish)).await
    }

    async fn update(&self, base: &Observed, wish: &LoadBalancer) -> Result<Observed, Fault> {
        let name = &wish.name;
        let doing = format!("updating load balancer `{name}`");
        self.write(&doing, Method::PUT, &self.item(name), name, &wire::update_body(base, wish)).await
    }

    async fn delete(&self, name: &str) -> Result<(), Fault> {
        let doing = format!("deleting load balancer `{name}`");
        let answer = self.call(&doing, &Method::DELETE, &self.item(name), None).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        let fault = self.fault(&doing, &Method::DELETE, &answer);
        if fault.kind == FaultKind::NotFound { Ok(()) } else { Err(fault) }
    }
}

/// The balancer that an answer holds, which has to be the one asked for.
fn balancer(answer: &Answer, name: &str) -> Result<Observed, String> {
    let balancer = wire::observed(json(answer)?)?;
    if balancer.balancer.name != name {
        return Err(format!("the JSON is load balancer `{}`", balancer.balancer.name));
    }
    Ok(balancer)
}

fn json(answer: &Answer) -> Result<Value, String> {
    if answer.body.is_empty() {
        return Err("without a body".to_owned());
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("the body is no JSON: {error}"))
}

#[cfg(test)]
mod tests;
