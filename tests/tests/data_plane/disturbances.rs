//! The data plane on a bad day, on request.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tests::emulator::DataPlane;
use tests::wait::until;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::client::{SOON, answer};
use crate::rig::{Client, Rig, Server};

fn all_to(target: &str, count: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(target.to_owned(), count)])
}

#[tokio::test]
async fn f21_a_floating_ip_deleted_by_hand_takes_the_data_plane_along() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(address).await.unwrap();
    assert!(rig.cloud.emulator.remove_address(address.ip()));
    let shown = rig.cloud.until("lb1", "STATUS_ERROR").await;
    assert_eq!(shown["errors"][0]["type"], "TYPE_FIP_NOT_FOUND");
    assert_eq!(client.end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn f24_a_failover_is_a_black_hole_and_then_a_reset_of_everything() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(address).await.unwrap();
    let dark = Duration::from_millis(700);
    let begun = Instant::now();
    assert!(rig.cloud.emulator.failover("lb1", dark) && !rig.cloud.emulator.failover("lb2", dark));
    client.stream.write_all(b"lost").await.unwrap();
    assert!(Client::connect(address).await.is_ok(), "the kernel asks again after a second");
    assert!(begun.elapsed() >= dark);
    assert_eq!(client.end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(rig.target(0).bytes_to, 0, "nothing got through the black hole");
}

#[tokio::test]
async fn f24_a_target_in_a_black_hole_swallows_bytes_dials_and_checks() {
    // Slow enough for dials to hang before the checks have found out.
    let rig = Rig::with(DataPlane { time_scale: 20.0, ..DataPlane::default() }).await;
    let _servers = rig.echoes::<2>().await;
    let address = rig.serve(&rig.body(&[0, 1], &json!({})), &[0, 1]).await;
    let (mut zero, mut one) = (Client::connect(address).await.unwrap(), Client::connect(address).await.unwrap());
    let black_hole = rig.ip(1);
    rig.cloud.emulator.disturb(|disturbance| {
        disturbance.black_holes.insert(black_hole);
    });
    one.stream.write_all(b"lost?").await.unwrap();
    zero.echo("fine").await.unwrap();
    assert_eq!(Client::connect(address).await.unwrap().target, "0");
    let begun = Instant::now();
    let error = Client::connect(address).await.err().unwrap();
    assert_eq!(error.to_string(), "closed after \"\"");
    assert!(begun.elapsed() >= Duration::from_millis(245), "the connect timeout of 5 s, {:?}", begun.elapsed());
    rig.healthy(&[0]).await;
    assert_eq!(rig.spread(4).await, all_to("0", 4));
    rig.cloud.emulator.disturb(|disturbance| disturbance.black_holes.clear());
    let mut late = [0; 5];
    let read = tokio::io::AsyncReadExt::read_exact(&mut one.stream, &mut late);
    timeout(SOON, read).await.unwrap().unwrap();
    assert_eq!(&late, b"lost?", "TCP asks again until it gets through");
    rig.healthy(&[0, 1]).await;
}

#[tokio::test]
async fn f24_dropped_syns_leave_clients_waiting_until_the_kernel_asks_again() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(address).await.unwrap();
    rig.cloud.emulator.disturb(|disturbance| disturbance.drop_connects = true);
    // Until the queue is full, connections may still end up in it; then they wait.
    let mut queued = Vec::new();
    let waiting = loop {
        let mut connect = Box::pin(TcpStream::connect(address));
        match timeout(Duration::from_millis(300), &mut connect).await {
            Ok(stream) => queued.push(stream.unwrap()),
            Err(_) => break connect,
        }
    };
    assert!(queued.len() < 3, "{queued:?}");
    client.echo("open connections do not mind").await.unwrap();
    rig.cloud.emulator.disturb(|disturbance| disturbance.drop_connects = false);
    timeout(SOON, waiting).await.unwrap().unwrap();
    Client::connect(address).await.unwrap();
}

#[tokio::test]
async fn f24_reset_on_accept() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    rig.cloud.emulator.disturb(|disturbance| disturbance.reset_connects = true);
    let error = Client::connect(address).await.err().unwrap();
    assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().kind(), ErrorKind::ConnectionReset);
    rig.cloud.emulator.disturb(|disturbance| disturbance.reset_connects = false);
    Client::connect(address).await.unwrap();
}

#[tokio::test]
async fn f24_latency_and_jitter_slow_open_connections_down_too() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let mut client = Client::connect(rig.serve(&rig.body(&[0], &json!({})), &[0]).await).await.unwrap();
    let (latency, jitter) = (Duration::from_millis(60), Duration::from_millis(40));
    rig.cloud.emulator.disturb(|disturbance| (disturbance.latency, disturbance.jitter) = (latency, jitter));
    let begun = Instant::now();
    client.echo("there and back").await.unwrap();
    assert!(begun.elapsed() >= latency * 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn f24_half_of_the_pair_serves_what_was_before() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<3>().await;
    rig.serve(&rig.body(&[0, 1], &json!({})), &[0, 1]).await;
    rig.cloud.emulator.disturb(|disturbance| disturbance.stale_half = true);
    rig.set_targets(&[2]).await;
    rig.healthy(&[0, 1, 2]).await;
    assert_eq!(rig.spread(8).await, BTreeMap::from([("0", 2), ("1", 2), ("2", 4)].map(|(it, n)| (it.to_owned(), n))));
    assert!(!rig.target(0).in_pool && rig.target(2).in_pool);
    rig.cloud.emulator.disturb(|disturbance| disturbance.stale_half = false);
    assert_eq!(rig.spread(4).await, all_to("2", 4));
    rig.healthy(&[2]).await;
}

#[tokio::test]
async fn f25_security_groups_block_while_the_control_plane_says_ready() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(address).await.unwrap();
    rig.cloud.emulator.disturb(|disturbance| disturbance.security_groups_block = true);
    assert_eq!(Client::connect(address).await.err().unwrap().to_string(), "closed after \"\"");
    rig.healthy(&[]).await;
    let (_, shown) = rig.cloud.get("/load-balancers/lb1").await;
    assert_eq!((&shown["status"], shown.get("errors")), (&json!("STATUS_READY"), None));
    client.echo("what is open stays open").await.unwrap();
    rig.cloud.emulator.disturb(|disturbance| disturbance.security_groups_block = false);
    rig.healthy(&[0]).await;
    Client::connect(address).await.unwrap();
}

#[tokio::test]
async fn f26_the_data_plane_lags_behind_what_get_shows() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<3>().await;
    rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let lag = Duration::from_millis(600);
    rig.cloud.emulator.disturb(|disturbance| disturbance.lag = lag);
    let begun = Instant::now();
    rig.set_targets(&[1]).await;
    rig.set_targets(&[2]).await;
    rig.cloud.until("lb1", "STATUS_READY").await;
    assert_eq!(rig.cloud.emulator.balancer("lb1").unwrap()["targetPools"], json!([rig.pool(&[2])]));
    assert_eq!(rig.spread(2).await, all_to("0", 2));
    rig.healthy(&[2]).await;
    assert!(begun.elapsed() >= lag);
    assert_eq!(rig.spread(2).await, all_to("2", 2));
}

#[tokio::test]
async fn other_processes_see_and_disturb_it_too() {
    let rig = Rig::start().await;
    let _zero = Server::echo(rig.ip(0), "0").await;
    let address: SocketAddr = rig.serve(&rig.body(&[0, 1], &json!({})), &[0]).await;
    let url = |path: &str| format!("{}/_emulator/{path}", rig.cloud.emulator.url());
    let http = &rig.cloud.http;
    let mut client = Client::connect(address).await.unwrap();
    client.echo("12345").await.unwrap();
    let (status, state) = answer(http.get(url("state"))).await;
    assert_eq!(status, 200);
    let traffic = &state["dataPlane"][0];
    assert_eq!(traffic["listeners"][0], json!({"port": 6_443, "address": address, "error": null}));
    let target = |number: usize, field: &str| traffic["targets"][number][field].clone();
    let fields = ["healthy", "connections", "open", "bytesTo", "bytesFrom", "inPool"];
    assert_eq!(
        fields.map(|field| target(0, field)),
        [json!(true), json!(1), json!(1), json!(5), json!(7), json!(true)]
    );
    assert_eq!(target(1, "healthy"), json!(false));
    assert_eq!(state["balancers"][0]["name"], "lb1");
    let switches = json!({"data_plane": {"reset_connects": true, "black_holes": [rig.ip(1)], "lag": 100}});
    let (status, shown) = answer(http.patch(url("switches")).json(&switches)).await;
    assert_eq!((status, &shown["data_plane"]["lag"]), (200, &json!(100)));
    assert!(Client::connect(address).await.is_err());
    let failover = |name: &str| http.post(url(&format!("balancers/{name}/failover"))).json(&json!({"milliseconds": 0}));
    assert_eq!((answer(failover("lb1")).await.0, answer(failover("lb2")).await.0), (200, 404));
    assert_eq!(client.end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let page = http.get(rig.cloud.emulator.url()).send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let text = page.text().await.unwrap();
    for part in ["lb1", "node-0", &address.to_string(), "http-equiv=\"refresh\""] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test]
async fn without_a_data_plane_nothing_listens() {
    let cloud = crate::client::Cloud::start().await;
    let shown = cloud.ready(&crate::client::balancer("lb1")).await;
    assert!(shown["externalAddress"].as_str().unwrap().starts_with("203.0.113."));
    assert!(cloud.emulator.data_plane().is_empty() && !cloud.emulator.failover("lb1", Duration::ZERO));
    let (_, state) = answer(cloud.http.get(format!("{}/_emulator/state", cloud.emulator.url()))).await;
    assert_eq!((&state["dataPlane"], &state["balancers"][0]["name"]), (&Value::Array(Vec::new()), &json!("lb1")));
}

#[tokio::test]
async fn when_the_emulator_ends_so_do_its_listeners_and_connections() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(address).await.unwrap();
    let handle = rig.cloud.emulator.handle();
    drop(rig);
    // A FIN or a RST: an end in any case.
    let _ = client.end().await;
    let look = || async {
        let refused = TcpStream::connect(address).await.is_err();
        anyhow::ensure!(refused, "somebody listens");
        Ok(())
    };
    until("nobody to listen", SOON, look).await.unwrap();
    assert!(handle.data_plane().is_empty());
}
