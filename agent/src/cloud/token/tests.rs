#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;

use super::super::testing::{Reply, Seen, Server, access_token, grant, key_file};
use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// A clock that is put forward by hand.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicU64>);

impl Ahead {
    fn by(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn clock(&self) -> Box<dyn Fn() -> Instant + Send + Sync> {
        let ahead = Arc::clone(&self.0);
        let start = Instant::now();
        Box::new(move || start + Duration::from_secs(ahead.load(Ordering::SeqCst)))
    }
}

fn source(endpoint: &str) -> Source {
    let key = ServiceAccountKey::parse(key_file().to_string().as_bytes(), SystemTime::now()).unwrap();
    Source::Key { key: Box::new(key), endpoint: Some(endpoint.to_owned()) }
}

fn tokens(server: &Server, ahead: &Ahead) -> Tokens {
    Tokens::with_clock(source(&server.url), LIMIT, None, Arc::new(()), ahead.clock()).unwrap()
}

impl Tokens {
    async fn now(&self) -> Result<Secret, Fault> {
        self.token(Instant::now() + LIMIT).await
    }

    /// Waits until nobody fetches.
    async fn quiet(&self) {
        drop(self.0.turn.lock().await);
    }
}

/// Grants tokens of this life, except for the given requests.
fn script(life: u64, failing: fn(usize) -> bool) -> impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static {
    move |_, before| {
        if failing(before) { Reply::text(503, "text/plain", "no") } else { grant(&access_token(before, life)) }
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_for_all_who_ask() {
    let server = Server::start(script(3600, |_| false)).await;
    let tokens = tokens(&server, &Ahead::default());
    let asked = futures::future::join_all((0..20).map(|_| tokens.now())).await;
    let first = asked[0].as_ref().unwrap();
    assert!(asked.iter().all(|token| token.as_ref() == Ok(first)));
    assert_eq!(server.count(), 1);
    let left = tokens.expiry().unwrap().duration_since(SystemTime::now()).unwrap();
    assert!((3590..=3600).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test]
async fn a_failure_is_shared_and_not_repeated_at_once() {
    let server = Server::start(script(3600, |before| before < 2)).await;
    let ahead = Ahead::default();
    let tokens = tokens(&server, &ahead);
    let asked = futures::future::join_all((0..20).map(|_| tokens.now())).await;
    assert!(asked.iter().all(|token| token.as_ref().is_err_and(|fault| fault.kind == FaultKind::Server)));
    assert_eq!(server.count(), 1);
    assert!(tokens.now().await.unwrap_err().retry_after.is_some());
    assert_eq!((server.count(), tokens.fault().unwrap().kind), (1, FaultKind::Server));
    ahead.by(1);
    tokens.now().await.unwrap_err();
    assert_eq!(server.count(), 2);
    ahead.by(2);
    tokens.now().await.unwrap();
    assert_eq!((server.count(), tokens.fault()), (3, None));
}

#[tokio::test]
async fn a_token_is_renewed_early_and_beside() {
    let server = Server::start(script(3600, |_| false)).await;
    let ahead = Ahead::default();
    let tokens = tokens(&server, &ahead);
    let first = tokens.now().await.unwrap();
    ahead.by(2690);
    assert_eq!(tokens.now().await.unwrap(), first);
    tokens.quiet().await;
    assert_eq!(server.count(), 1);
    ahead.by(20);
    assert_eq!(tokens.now().await.unwrap(), first, "the caller waits for a renewal");
    server.until(2).await;
    tokens.quiet().await;
    assert_ne!(tokens.now().await.unwrap(), first);
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_renewal_that_fails_keeps_the_valid_token() {
    let server = Server::start(script(3600, |before| before > 0)).await;
    let ahead = Ahead::default();
    let tokens = tokens(&server, &ahead);
    let first = tokens.now().await.unwrap();
    ahead.by(2710);
    for _ in 0..5 {
        assert_eq!(tokens.now().await.unwrap(), first);
        tokens.quiet().await;
    }
    assert_eq!((server.count(), tokens.fault().unwrap().kind), (2, FaultKind::Server));
    // Five seconds before its end it is no longer sent.
    ahead.by(3594 - 2710);
    assert_eq!(tokens.now().await.unwrap(), first);
    tokens.quiet().await;
    ahead.by(3600 - 3594);
    assert_eq!(tokens.now().await.unwrap_err().kind, FaultKind::Server);
}

#[tokio::test]
async fn an_opaque_token_lives_as_long_as_was_told() {
    let server = Server::start(|_, before| grant(&format!("opaque-{before}"))).await;
    let ahead = Ahead::default();
    let tokens = tokens(&server, &ahead);
    assert_eq!(tokens.now().await.unwrap().expose(), "opaque-0");
    ahead.by(3594);
    assert_eq!(tokens.now().await.unwrap().expose(), "opaque-0");
    tokens.quiet().await;
    assert_eq!(tokens.now().await.unwrap().expose(), "opaque-1");
}

#[tokio::test]
async fn tokens_of_a_few_seconds_do_not_hammer() {
    for life in [2, 10] {
        let server = Server::start(script(life, |_| false)).await;
        let tokens = tokens(&server, &Ahead::default());
        for _ in 0..5 {
            tokens.now().await.unwrap();
        }
        assert_eq!(server.count(), 1, "{life} s");
    }
}

#[tokio::test]
async fn only_the_refused_token_is_dropped() {
    let server = Server::start(script(3600, |_| false)).await;
    let tokens = tokens(&server, &Ahead::default());
    let first = tokens.now().await.unwrap();
    tokens.refused(&first);
    let second = tokens.now().await.unwrap();
    // Somebody who comes late with the first one does not undo the second.
    tokens.refused(&first);
    assert_eq!(tokens.now().await.unwrap(), second);
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_undo_the_fetch() {
    let server = Server::start(script(3600, |_| false)).await;
    let tokens = tokens(&server, &Ahead::default());
    assert_eq!(tokens.now().now_or_never(), None);
    tokens.quiet().await;
    assert!(tokens.expiry().is_some());
}

#[tokio::test]
async fn nobody_waits_longer_than_the_deadline() {
    let server = Server::start(|_, _| Reply::Hang).await;
    let tokens = tokens(&server, &Ahead::default());
    // The second waits for the first one's turn.
    for fault in futures::future::join_all([(); 2].map(|()| tokens.token(Instant::now() + LIMIT / 200))).await {
        let fault = fault.unwrap_err();
        assert_eq!((fault.kind, fault.outcome_unknown), (FaultKind::TimedOut, false));
    }
}

#[tokio::test]
async fn a_changed_credential_replaces_the_old_one_once_it_works() {
    let old = Server::start(script(3600, |_| false)).await;
    let new = Server::start(|_, before| match before {
        0 => Reply::text(400, "text/plain", "unknown kid"),
        _ => grant("new"),
    })
    .await;
    let ahead = Ahead::default();
    let tokens = tokens(&old, &ahead);
    let first = tokens.now().await.unwrap();
    tokens.replace(source(&new.url)).unwrap();
    assert_eq!(tokens.now().await.unwrap(), first);
    tokens.quiet().await;
    assert_eq!(tokens.now().await.unwrap(), first, "a broken credential took the token away");
    assert_eq!((new.count(), tokens.fault().unwrap().kind), (1, FaultKind::Credentials));
    ahead.by(10);
    tokens.now().await.unwrap();
    tokens.quiet().await;
    assert_eq!(tokens.now().await.unwrap().expose(), "new");
    assert_eq!((old.count(), new.count(), tokens.fault()), (1, 2, None));
    ahead.by(3600);
    tokens.now().await.unwrap();
    assert_eq!((old.count(), new.count()), (1, 3), "the old credential is still in use");
}

#[tokio::test]
async fn without_a_token_the_old_credential_helps_out() {
    let old = Server::start(script(3600, |_| false)).await;
    let new = Server::start(|_, _| Reply::text(400, "text/plain", "unknown kid")).await;
    let tokens = tokens(&old, &Ahead::default());
    tokens.replace(source(&new.url)).unwrap();
    tokens.now().await.unwrap();
    assert_eq!((old.count(), new.count(), tokens.fault().unwrap().kind), (1, 1, FaultKind::Credentials));
}

#[test]
fn a_new_credential_with_a_broken_endpoint_is_refused() {
    let tokens = Tokens::new(source("https://x"), LIMIT, None, Arc::new(())).unwrap();
    assert!(tokens.replace(source("x")).is_err());
}

#[test]
fn the_place_tokens_come_from() {
    let of = |set: Option<&str>, own: Option<&str>| {
        let mut file = key_file();
        file["credentials"]["tokenEndpoint"] = own.into();
        let key = ServiceAccountKey::parse(file.to_string().as_bytes(), SystemTime::now()).unwrap();
        Source::Key { key: Box::new(key), endpoint: set.map(str::to_owned) }.endpoint().unwrap().to_string()
    };
    assert_eq!(of(Some("https://a/token"), Some("https://b/token")), "https://a/token");
    assert_eq!(of(None, Some("https://b/token")), "https://b/token");
    assert_eq!(of(None, None), key::DEFAULT_TOKEN_ENDPOINT);
}

#[test]
fn renewal_is_early_but_not_too_early() {
    let at = |life| renewal(Duration::from_secs(life)).as_secs();
    assert_eq!([at(3600), at(1200), at(600), at(10), at(0)], [2700, 900, 300, 5, 0]);
}

#[test]
fn nothing_prints_a_token() {
    let tokens = Tokens::new(Source::Static(Secret::new("hunter2".to_owned())), LIMIT, None, Arc::new(())).unwrap();
    assert!(!format!("{tokens:?} {:?}", Source::Static(Secret::new("hunter2".to_owned()))).contains("hunter2"));
}
