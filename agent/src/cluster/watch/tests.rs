//! Against an API server that says what the test wants, on paused time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;

use futures::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

/// What one request is answered with.
enum Answer {
    /// A list of this version, of objects with these names and values.
    List(&'static str, &'static [(&'static str, &'static str)]),
    /// A failed request.
    Status(u16, &'static str),
    /// A watch that says what is sent; a value that is null breaks it, and the end of the sender ends it.
    Watch(mpsc::UnboundedReceiver<Value>),
}

type Bodies = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

fn object(name: &str, value: &str, version: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "n", "resourceVersion": version}, "data": {"v": value},
    })
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn bookmark(version: &str) -> Value {
    event("BOOKMARK", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": version}}))
}

fn whole(status: u16, value: &Value) -> Response<Bodies> {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never: Infallible| match never {});
    Response::builder().status(status).body(body.boxed_unsync()).unwrap()
}

fn answer(answer: Answer) -> Response<Bodies> {
    match answer {
        Answer::List(version, items) => {
            let items: Vec<Value> = items.iter().map(|(name, value)| object(name, value, "1")).collect();
            let meta = json!({"resourceVersion": version});
            whole(200, &json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": meta, "items": items}))
        }
        Answer::Status(code, message) => whole(
            code,
            &json!({"kind": "Status", "status": "Failure", "message": message, "reason": "R", "code": code}),
        ),
        Answer::Watch(said) => {
            let frames = stream::unfold(said, async |mut said| {
                let value = said.recv().await?;
                let frame = if value.is_null() {
                    Err("the connection is gone".into())
                } else {
                    Ok(Frame::data(Bytes::from(format!("{value}\n"))))
                };
                Some((frame, said))
            });
            Response::new(StreamBody::new(Box::pin(frames)).boxed_unsync())
        }
    }
}

/// A set that is followed against these answers, and what was asked.
struct Play {
    asked: Arc<Mutex<Vec<String>>>,
    watched: watch::Receiver<Watched<String>>,
}

fn play(answers: impl IntoIterator<Item = Answer>) -> Play {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        log.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
        let next = answers.lock().unwrap().pop_front();
        async move {
            match next {
                Some(next) => Ok::<_, Infallible>(answer(next)),
                None => std::future::pending().await,
            }
        }
    });
    let api: Api<ConfigMap> = Api::namespaced(Client::new(service, "n"), "n");
    let (out, watched) = watch::channel(Watched::default());
    let read = |object: ConfigMap| {
        let value = object.data.and_then(|data| data.get("v").cloned()).ok_or("no value")?;
        Ok((object.metadata.name.unwrap_or_default(), value))
    };
    tokio::spawn(follow("things", api, None, read, out));
    Play { asked, watched }
}

impl Play {
    /// Waits for the set to be so.
    async fn shows(&mut self, items: &[(&str, &str)]) {
        let wanted: BTreeMap<String, String> = items.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let shown = self.watched.wait_for(|watched| watched.listed && *watched.items == wanted);
        let shown = timeout(Duration::from_secs(300), shown).await.map(drop);
        assert!(shown.is_ok(), "{:?} is not {wanted:?}", self.watched.borrow());
    }

    /// Waits until so many requests were sent, and gives all of them.
    async fn asked(&self, count: usize) -> Vec<String> {
        let waiting = async {
            while self.asked.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(timeout(Duration::from_secs(300), waiting).await.is_ok(), "{:?}", self.asked.lock().unwrap());
        self.asked.lock().unwrap().clone()
    }

    fn problem(&self) -> Option<String> {
        self.watched.borrow().problem.clone()
    }
}

fn said() -> (mpsc::UnboundedSender<Value>, Answer) {
    let (say, said) = mpsc::unbounded_channel();
    (say, Answer::Watch(said))
}

#[tokio::test(start_paused = true)]
async fn a_list_is_a_consistent_read_and_events_follow_it() {
    let (say, watch) = said();
    let mut play = play([Answer::List("10", &[("a", "1"), ("b", "1")]), watch]);
    play.shows(&[("a", "1"), ("b", "1")]).await;
    say.send(event("MODIFIED", &object("a", "2", "11"))).unwrap();
    say.send(event("DELETED", &object("b", "1", "12"))).unwrap();
    say.send(event("ADDED", &object("c", "1", "13"))).unwrap();
    play.shows(&[("a", "2"), ("c", "1")]).await;
    let asked = play.asked(2).await;
    assert!(!asked[0].contains("resourceVersion"), "{asked:?}");
    assert!(asked[1].contains("watch=true") && asked[1].contains("resourceVersion=10"), "{asked:?}");
    assert!(asked[1].contains("allowWatchBookmarks=true") && asked[1].contains("timeoutSeconds=60"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_in_good_order_goes_on_from_its_last_bookmark() {
    let (say, first) = said();
    let (_open, second) = said();
    let play = play([Answer::List("10", &[]), first, second]);
    say.send(bookmark("17")).unwrap();
    drop(say);
    let asked = play.asked(3).await;
    assert!(asked[2].contains("watch=true") && asked[2].contains("resourceVersion=17"), "{asked:?}");
    assert_eq!(play.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_is_followed_by_a_list_at_once_and_is_no_problem() {
    let (say, first) = said();
    let (_open, second) = said();
    let mut play = play([Answer::List("10", &[("a", "1")]), first, Answer::List("20", &[("a", "2")]), second]);
    play.shows(&[("a", "1")]).await;
    tokio::time::sleep(LIVED).await;
    let broken = Instant::now();
    say.send(Value::Null).unwrap();
    play.shows(&[("a", "2")]).await;
    assert!(broken.elapsed() < Duration::from_millis(10), "{:?}", broken.elapsed());
    let asked = play.asked(4).await;
    assert!(!asked[2].contains("watch=true") && asked[3].contains("resourceVersion=20"), "{asked:?}");
    assert_eq!(play.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_to_go_on_from_is_listed_again() {
    let (say, first) = said();
    let (_open, second) = said();
    let mut play = play([Answer::List("10", &[]), first, Answer::List("20", &[("a", "1")]), second]);
    let gone = json!({"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410});
    say.send(event("ERROR", &gone)).unwrap();
    play.shows(&[("a", "1")]).await;
    assert_eq!(play.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_older_than_what_was_seen_is_refused() {
    let (say, first) = said();
    let (_open, second) = said();
    let mut play = play([
        Answer::List("90", &[("a", "1")]),
        first,
        Answer::List("95", &[]),
        Answer::List("101", &[("a", "2")]),
        second,
    ]);
    say.send(bookmark("100")).unwrap();
    play.shows(&[("a", "1")]).await;
    tokio::time::sleep(LIVED).await;
    say.send(Value::Null).unwrap();
    timeout(Duration::from_secs(300), play.watched.wait_for(|watched| watched.problem.is_some()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(play.problem().unwrap(), "the list is of version 95, and 100 was seen before");
    assert_eq!(*play.watched.borrow().items, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
    play.shows(&[("a", "2")]).await;
    play.asked(5).await;
    timeout(Duration::from_secs(300), play.watched.wait_for(|watched| watched.problem.is_none()))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_a_problem_until_there_is_a_watch_again() {
    let (_open, watch) = said();
    let mut play = play([
        Answer::Status(403, "forbidden"),
        Answer::Status(403, "forbidden"),
        Answer::List("10", &[]),
        Answer::Status(500, "storage is (re)initializing"),
        Answer::List("11", &[]),
        watch,
    ]);
    timeout(Duration::from_secs(300), play.watched.wait_for(|watched| watched.problem.is_some()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(play.problem().unwrap(), "forbidden");
    play.shows(&[]).await;
    play.asked(6).await;
    timeout(Duration::from_secs(300), play.watched.wait_for(|watched| watched.problem.is_none()))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_without_any_sign_of_life_do_not_go_on_for_ever() {
    // Each ends after a minute, with neither event nor bookmark.
    let (one, first) = said();
    let (two, second) = said();
    let (_open, third) = said();
    let play = play([Answer::List("10", &[]), first, second, Answer::List("10", &[]), third]);
    play.asked(2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(one);
    assert!(play.asked(3).await[2].contains("watch=true"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(two);
    assert!(!play.asked(4).await[3].contains("watch=true"), "a list");
}
