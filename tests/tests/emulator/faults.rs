//! Faults on the way: wrong answers, late ones, none.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tests::emulator::{Action, Connections, Fault, Handle, KeyOptions, Options, Tls, TokenForm};

use crate::client::{Cloud, SOON, assertion, balancer, client, echo, key_flow};

const PATH: &str = "/load-balancers/lb1";

async fn start() -> Cloud {
    let cloud = Cloud::start().await;
    cloud.ready(&balancer("lb1")).await;
    cloud
}

/// Status, content type and body of a GET.
async fn get(cloud: &Cloud) -> (u16, String, String) {
    let response = cloud.request(Method::GET, PATH).send().await.unwrap();
    let content_type = response.headers().get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
    (response.status().as_u16(), content_type, response.text().await.unwrap())
}

#[tokio::test]
async fn f1_f2_f3_f4_f5_answers_in_place_of_the_real_one() {
    let cloud = start().await;
    for (action, status, content_type, part) in [
        (Action::internal_error(), 500, "application/json", "internal error - please retry"),
        (Action::empty_error(), 500, "", ""),
        (Action::gateway_error(502), 502, "text/html", "<html>"),
        (Action::gateway_error(504), 504, "text/html", "<html>"),
        (Action::unauthorized(), 401, "text/plain", "Unauthorized"),
        (Action::forbidden(), 403, "application/json", "not allowed"),
        (Action::service_not_enabled(), 403, "application/json", "Service not enabled"),
        (Action::too_many_requests(None), 429, "application/json", "Too many"),
    ] {
        cloud.emulator.inject(Fault::new(action).method("GET").path(PATH).once());
        let answer = get(&cloud).await;
        assert_eq!((answer.0, answer.1.as_str()), (status, content_type));
        assert!(answer.2.contains(part), "{answer:?}");
        assert_eq!(get(&cloud).await.0, 200);
    }
    cloud.emulator.inject(Fault::new(Action::too_many_requests(Some(7))).once());
    let response = cloud.request(Method::GET, PATH).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "7");
}

#[tokio::test]
async fn f7_the_write_is_done_and_the_answer_lost() {
    let cloud = Cloud::start().await;
    let reset = |committed| Fault::new(Action::Reset { committed }).path("/load-balancers").once();
    cloud.emulator.inject(reset(false));
    assert!(cloud.request(Method::POST, "/load-balancers").json(&balancer("lb1")).send().await.is_err());
    assert!(cloud.emulator.balancer("lb1").is_none());
    cloud.emulator.inject(reset(true));
    assert!(cloud.request(Method::POST, "/load-balancers").json(&balancer("lb1")).send().await.is_err());
    let shown = cloud.until("lb1", "STATUS_READY").await;
    cloud.emulator.inject(reset(true));
    assert!(cloud.request(Method::PUT, PATH).json(&echo(&shown)).send().await.is_err());
    assert_ne!(cloud.emulator.balancer("lb1").unwrap()["version"], shown["version"]);
    cloud.emulator.inject(reset(true));
    assert!(cloud.request(Method::DELETE, PATH).send().await.is_err());
    cloud.until_gone("lb1").await;
    let unanswered = cloud.emulator.journal().iter().filter(|entry| entry.status.is_none()).count();
    assert_eq!(unanswered, 4);
}

#[tokio::test]
async fn f7_a_reset_is_a_reset() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let cloud = start().await;
    cloud.emulator.inject(Fault::new(Action::Reset { committed: false }));
    let address = cloud.emulator.url().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn f8_a_hang_never_answers() {
    let cloud = start().await;
    for committed in [false, true] {
        let fault = Fault::new(Action::Hang { committed }).method("DELETE").once();
        cloud.emulator.inject(fault);
        let request = tokio::spawn(cloud.request(Method::DELETE, PATH).send());
        let arrivals = 1 + usize::from(committed);
        cloud.emulator.wait_for(|it| it.count("DELETE", PATH) == arrivals, SOON).await.unwrap();
        if committed {
            cloud.until_gone("lb1").await;
        } else {
            assert_eq!(cloud.emulator.balancer("lb1").unwrap()["status"], "STATUS_READY");
        }
        assert!(!request.is_finished());
        request.abort();
    }
}

#[tokio::test]
async fn f8_late_answers_and_slow_bodies_arrive() {
    let cloud = start().await;
    for action in
        [Action::Delay { milliseconds: 20 }, Action::LateAnswer { milliseconds: 20 }, Action::Drip { milliseconds: 0 }]
    {
        cloud.emulator.inject(Fault::new(action.clone()).once());
        let started = std::time::Instant::now();
        let (status, _, body) = get(&cloud).await;
        assert_eq!(status, 200);
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
        assert!(matches!(action, Action::Drip { .. }) || started.elapsed() >= Duration::from_millis(20));
    }
    let shown = echo(&cloud.emulator.balancer("lb1").unwrap());
    cloud.emulator.inject(Fault::new(Action::LateAnswer { milliseconds: 60_000 }).once());
    let request = cloud.request(Method::PUT, PATH).json(&shown).timeout(Duration::from_millis(100)).send();
    assert!(request.await.unwrap_err().is_timeout());
    assert_ne!(cloud.emulator.balancer("lb1").unwrap()["version"], shown["version"]);
}

#[tokio::test]
async fn f19_f20_bodies_that_are_not_what_they_should_be() {
    let cloud = start().await;
    let once = |action| cloud.emulator.inject(Fault::new(action).once());
    once(Action::EmptyBody);
    assert_eq!(get(&cloud).await, (200, "application/json".to_owned(), String::new()));
    once(Action::MalformedJson);
    let (status, _, body) = get(&cloud).await;
    assert!(status == 200 && serde_json::from_str::<serde_json::Value>(&body).is_err());
    once(Action::Truncate { bytes: 10 });
    let mut response = cloud.request(Method::GET, PATH).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.chunk().await.unwrap().unwrap().len(), 10);
    assert!(response.chunk().await.is_err());
    for status in [201, 204] {
        once(Action::Status { status });
        let (answered, _, body) = get(&cloud).await;
        assert_eq!((answered, body.is_empty()), (status, status == 204));
    }
    once(Action::redirect("http://127.0.0.1:1/elsewhere"));
    let response = cloud.request(Method::GET, PATH).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (307, &"http://127.0.0.1:1/elsewhere".parse().unwrap())
    );
}

#[tokio::test]
async fn f18_tokens_that_are_not_what_they_should_be() {
    let cloud = Cloud::start().await;
    let key = cloud.emulator.service_account_key(&KeyOptions::default()).unwrap();
    let fetch = || async { key_flow(&cloud.http, &cloud.emulator, &assertion(&key, &json!({}))).await.1 };
    let exp = |token: &serde_json::Value| {
        use base64::Engine as _;
        let part = token["access_token"].as_str().unwrap().split('.').nth(1)?.to_owned();
        let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["exp"].as_i64()
    };
    let real = exp(&fetch().await).unwrap();
    cloud.emulator.set_switches(|switches| (switches.token_exp_shift, switches.expires_in) = (-7_200, Some(17)));
    let shifted = fetch().await;
    assert!(exp(&shifted).unwrap() < real - 3_600);
    assert_eq!(shifted["expires_in"], 17);
    for form in [TokenForm::WithoutExp, TokenForm::Opaque] {
        cloud.emulator.set_switches(|switches| switches.token_form = form);
        let token = fetch().await;
        assert_eq!(exp(&token), None);
        let url = format!("{}{}/load-balancers", cloud.emulator.url(), cloud.prefix());
        assert_eq!(
            crate::client::answer(cloud.http.get(url).bearer_auth(token["access_token"].as_str().unwrap())).await.0,
            200
        );
    }
    cloud.emulator.set_switches(|switches| switches.refresh_fails = true);
    let token = fetch().await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", token["refresh_token"].as_str().unwrap())];
    assert_eq!(crate::client::answer(cloud.http.post(cloud.emulator.token_url()).form(&form)).await.0, 403);
    cloud.emulator.inject(Fault::new(Action::gateway_error(503)).path("/token").once());
    assert_eq!(key_flow(&cloud.http, &cloud.emulator, "x").await.0, 503);
}

#[tokio::test]
async fn faults_meet_whom_they_shall() {
    let cloud = start().await;
    let statuses = async |count: usize| {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(get(&cloud).await.0);
        }
        cloud.emulator.clear_faults();
        statuses
    };
    let fault = || Fault::new(Action::empty_error());
    cloud.emulator.inject(fault().skip(1).times(2));
    assert_eq!(statuses(4).await, [200, 500, 500, 200]);
    cloud.emulator.inject(fault().every(2));
    assert_eq!(statuses(4).await, [500, 200, 500, 200]);
    cloud.emulator.inject(fault().method("PUT"));
    cloud.emulator.inject(fault().path("/elsewhere"));
    cloud.emulator.inject(fault().path_prefix("/load-balancers"));
    assert_eq!(statuses(1).await, [200]);
    cloud.emulator.inject(fault().path_prefix("/v2/projects/"));
    assert_eq!(statuses(1).await, [500]);
    cloud.emulator.inject(fault().probability(0.5));
    let drawn = statuses(40).await;
    assert!(drawn.contains(&200) && drawn.contains(&500), "{drawn:?}");
    cloud.emulator.inject(fault().window(Duration::from_mins(1), Duration::from_mins(1)));
    let mut windowed = vec![get(&cloud).await.0];
    for _ in 0..2 {
        cloud.emulator.advance(Duration::from_mins(1));
        windowed.push(get(&cloud).await.0);
    }
    assert_eq!(windowed, [200, 500, 200]);
}

#[tokio::test]
async fn f12_not_found_can_flap() {
    let cloud = start().await;
    let gone =
        Action::answer(404, "application/json", r#"{"code":5,"message":"load balancer not found","details":[]}"#);
    cloud.emulator.inject(Fault::new(gone).method("GET").path(PATH).every(2));
    assert_eq!([get(&cloud).await.0, get(&cloud).await.0, get(&cloud).await.0], [404, 200, 404]);
}

#[tokio::test]
async fn f20_connections_can_stall_or_be_reset() {
    let cloud = start().await;
    cloud.emulator.set_switches(|switches| switches.connections = Connections::Reset);
    let fresh = || client().get(cloud.emulator.url().to_owned()).timeout(Duration::from_millis(100)).send();
    assert!(!fresh().await.unwrap_err().is_timeout());
    cloud.emulator.set_switches(|switches| switches.connections = Connections::Stall);
    assert!(fresh().await.unwrap_err().is_timeout());
    cloud.emulator.set_switches(|switches| switches.connections = Connections::Serve);
    assert_eq!(fresh().await.unwrap().status(), 200, "the page");
}

#[tokio::test]
async fn f20_tls_is_trusted_only_with_its_authority() {
    for (expired, trusted) in [(false, true), (true, false)] {
        let options = Options { tls: Some(Tls { expired }), ..Options::default() };
        let emulator = tests::emulator::Emulator::start(options).await.unwrap();
        let url = format!("{}/v2/regions/eu01/plans", emulator.url());
        assert!(url.starts_with("https://"));
        assert!(client().get(&url).send().await.is_err(), "an unknown authority");
        let authority = reqwest::Certificate::from_pem(emulator.authority_pem().unwrap().as_bytes()).unwrap();
        let knowing = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        assert_eq!(knowing.get(&url).send().await.is_ok(), trusted);
    }
}

#[tokio::test]
async fn a_dropped_emulator_is_gone() {
    let cloud = start().await;
    let handle: Handle = cloud.emulator.handle();
    cloud.emulator.inject(Fault::new(Action::Hang { committed: false }));
    let hanging = tokio::spawn(cloud.request(Method::GET, PATH).send());
    handle.wait_for(|it| it.count("GET", PATH) == 1, SOON).await.unwrap();
    drop(cloud);
    assert!(tokio::time::timeout(SOON, hanging).await.unwrap().unwrap().is_err());
    assert!(client().get(handle.url()).send().await.is_err());
}
