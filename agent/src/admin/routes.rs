//! Which path answers what: one table, without a socket, so that it can be read and tested.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::health::{Health, Report};
use super::metrics::{Format, Metrics};

/// Everything the admin server can answer; cheap to clone.
#[derive(Clone)]
pub struct Routes {
    health: Health,
    metrics: Metrics,
    pages: Arc<Vec<Page>>,
}

/// A page of somebody else's, rendered when it is asked for.
pub struct Page {
    /// Path, beginning with a slash.
    pub path: &'static str,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Content-Security-Policy`: what a browser may load for it.
    pub policy: &'static str,
    /// The body; must be quick and never wait, and holds no secrets.
    pub render: Box<dyn Fn() -> String + Send + Sync>,
}

/// Which listener a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The admin address: everything.
    Admin,
    /// The metrics address: metrics and probes only.
    Metrics,
}

/// What matters of a request.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The listener.
    pub audience: Audience,
    /// The method.
    pub method: &'a Method,
    /// The path.
    pub path: &'a str,
    /// What is behind the question mark.
    pub query: &'a str,
    /// The `Accept` header.
    pub accept: &'a str,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Content-Security-Policy`.
    pub policy: &'static str,
    /// The body.
    pub body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What a browser may load for an answer that is no page: nothing.
pub const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// The methods every path has, for `Allow`.
pub const METHODS: &str = "GET, HEAD";

type Handler = fn(&Routes, &Ask<'_>) -> Reply;

/// What both listeners serve; pages come on top, on the admin address only.
const TABLE: &[(&str, Handler)] = &[
    ("/livez", |routes, ask| health_reply(&routes.health.livez(&excluded(ask.query)), ask.query)),
    ("/healthz", |routes, ask| health_reply(&routes.health.livez(&excluded(ask.query)), ask.query)),
    ("/readyz", |routes, ask| health_reply(&routes.health.readyz(&excluded(ask.query)), ask.query)),
    ("/metrics", |routes, ask| metrics_reply(&routes.metrics, Format::accepted(ask.accept))),
];

impl Routes {
    /// Probes and metrics, and the given pages.
    pub fn new(health: Health, metrics: Metrics, pages: Vec<Page>) -> Self {
        Self { health, metrics, pages: Arc::new(pages) }
    }

    /// The answer to a request.
    pub fn answer(&self, ask: &Ask<'_>) -> Reply {
        let handler = TABLE.iter().find(|(path, _)| *path == ask.path).map(|(_, handler)| handler);
        let page = || self.pages().filter(|_| ask.audience == Audience::Admin).find(|page| page.path == ask.path);
        let (handler, page) = match (handler, page()) {
            (None, None) => return self.not_found(ask.audience),
            found => found,
        };
        if ask.method != Method::GET && ask.method != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, format!("only {METHODS}\n"));
        }
        match (handler, page) {
            (Some(handler), _) => handler(self, ask),
            (None, Some(page)) => {
                let (content_type, policy) = (page.content_type, page.policy);
                Reply { status: StatusCode::OK, content_type, policy, body: (page.render)() }
            }
            (None, None) => self.not_found(ask.audience),
        }
    }

    fn pages(&self) -> impl Iterator<Item = &Page> {
        self.pages.iter()
    }

    fn not_found(&self, audience: Audience) -> Reply {
        let pages = self.pages().filter(|_| audience == Audience::Admin).map(|page| page.path);
        let paths: Vec<&str> = TABLE.iter().map(|(path, _)| *path).chain(pages).collect();
        plain(StatusCode::NOT_FOUND, format!("not found; there is {}\n", paths.join(" ")))
    }
}

fn plain(status: StatusCode, body: String) -> Reply {
    Reply { status, content_type: TEXT, policy: NOTHING, body }
}

/// As the API server does: `ok` alone where all is well and nobody asked for more, 500 where not.
fn health_reply(report: &Report, query: &str) -> Reply {
    let verbose = parameters(query).any(|(name, value)| name == "verbose" && !matches!(value, "false" | "0"));
    match (report.healthy, verbose) {
        (true, false) => plain(StatusCode::OK, "ok".to_owned()),
        (true, true) => plain(StatusCode::OK, report.text.clone()),
        (false, _) => plain(StatusCode::INTERNAL_SERVER_ERROR, report.text.clone()),
    }
}

fn metrics_reply(metrics: &Metrics, format: Format) -> Reply {
    match metrics.encode(format) {
        Ok(body) => Reply { status: StatusCode::OK, content_type: format.content_type(), policy: NOTHING, body },
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written as text\n".to_owned()),
    }
}

fn excluded(query: &str) -> Vec<&str> {
    parameters(query).filter(|(name, _)| *name == "exclude").map(|(_, value)| value).collect()
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let render = Box::new(|| "{}".to_owned());
        let state = Page { path: "/state", content_type: "application/json", policy: NOTHING, render };
        Routes::new(Health::default(), Metrics::new("lease", "1", "x"), vec![state])
    }

    fn ask(routes: &Routes, audience: Audience, method: &Method, target: &str) -> (u16, String) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let reply = routes.answer(&Ask { audience, method, path, query, accept: "" });
        (reply.status.as_u16(), reply.body)
    }

    #[test]
    fn the_metrics_address_has_no_pages() {
        let routes = routes();
        assert_eq!(ask(&routes, Audience::Admin, &Method::GET, "/state"), (200, "{}".to_owned()));
        assert_eq!(ask(&routes, Audience::Metrics, &Method::GET, "/state").0, 404);
        for path in ["/livez", "/readyz", "/healthz", "/metrics"] {
            assert_eq!(ask(&routes, Audience::Metrics, &Method::GET, path).0, 200, "{path}");
        }
    }

    #[test]
    fn unknown_paths_and_methods() {
        let routes = routes();
        let (status, body) = ask(&routes, Audience::Admin, &Method::GET, "/livez/");
        assert_eq!((status, body.as_str()), (404, "not found; there is /livez /healthz /readyz /metrics /state\n"));
        assert_eq!(ask(&routes, Audience::Admin, &Method::POST, "/livez").0, 405);
        assert_eq!(ask(&routes, Audience::Admin, &Method::POST, "/state").0, 405);
        assert_eq!(ask(&routes, Audience::Admin, &Method::HEAD, "/livez").0, 200);
    }

    #[test]
    fn health_says_more_when_asked_or_when_ill() {
        let routes = routes();
        assert_eq!(ask(&routes, Audience::Admin, &Method::GET, "/readyz"), (200, "ok".to_owned()));
        assert!(ask(&routes, Audience::Admin, &Method::GET, "/readyz?verbose").1.ends_with("readyz check passed\n"));
        let _caches = routes.health.gate("caches", "not filled yet");
        let (status, body) = ask(&routes, Audience::Admin, &Method::GET, "/readyz");
        assert_eq!(status, 500);
        assert!(body.contains("[-]caches not filled yet\n"), "{body}");
        assert_eq!(ask(&routes, Audience::Admin, &Method::GET, "/readyz?exclude=caches&verbose=true").0, 200);
    }
}
