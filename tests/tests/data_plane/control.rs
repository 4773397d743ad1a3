//! How the data plane follows the control plane, and where it does not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Method;
use serde_json::json;
use tests::emulator::{Action, DataPlane, Delays, Fault, RefusedSources};
use tests::wait::until;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{SOON, changed};
use crate::rig::{Client, Rig, TIME_SCALE};

/// Waits until nobody listens there.
async fn refused(address: SocketAddr) {
    let look = || async {
        let kind = TcpStream::connect(address).await.map_err(|error| error.kind());
        anyhow::ensure!(matches!(kind, Err(std::io::ErrorKind::ConnectionRefused)), "{kind:?}");
        Ok(())
    };
    until("a refusal", SOON, look).await.unwrap();
}

#[tokio::test]
async fn e75_another_plan_cuts_connections_when_switched_so() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(address).await.unwrap();
    rig.write(&json!({"planId": "p50"})).await;
    client.echo("nothing happened").await.unwrap();
    rig.cloud.emulator.disturb(|disturbance| disturbance.cut_on_plan_change = true);
    rig.write(&json!({"planId": "p250"})).await;
    assert!(client.end().await.is_err());
    Client::connect(address).await.unwrap();
}

#[tokio::test]
async fn e81_a_balancer_that_is_deleted_accepts_no_more_and_takes_its_connections_along() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(address).await.unwrap();
    rig.cloud.emulator.set_switches(|switches| switches.hold_terminating = true);
    assert_eq!(rig.cloud.delete("/load-balancers/lb1").await.0, 200);
    refused(address).await;
    client.echo("not gone yet").await.unwrap();
    rig.cloud.emulator.set_switches(|switches| switches.hold_terminating = false);
    rig.cloud.until_gone("lb1").await;
    assert!(client.end().await.is_err());
    assert!(rig.cloud.emulator.data_plane().is_empty());
}

#[tokio::test]
async fn e98_sources_outside_the_ranges_get_no_connection_and_open_ones_stay() {
    let rig = Rig::with(DataPlane {
        time_scale: TIME_SCALE,
        address_map: BTreeMap::from([("192.0.2.7".parse().unwrap(), "127.0.8.7".parse().unwrap())]),
        ..DataPlane::default()
    })
    .await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let [inside, mapped, outside]: [IpAddr; 3] = ["127.0.7.1", "127.0.8.7", "127.0.9.1"].map(|ip| ip.parse().unwrap());
    let mut open = Client::connect_from(outside, address).await.unwrap();
    let ranges = json!(["127.0.7.0/24", "192.0.2.0/24"]);
    rig.write(&json!({"options": {"accessControl": {"allowedSourceRanges": ranges}}})).await;
    for allowed in [inside, mapped] {
        Client::connect_from(allowed, address).await.unwrap().echo("hello").await.unwrap();
    }
    let error = Client::connect_from(outside, address).await.err().unwrap();
    assert_eq!((error.to_string().as_str(), rig.traffic().refused), ("closed after \"\"", 1));
    rig.cloud.emulator.disturb(|disturbance| disturbance.refused_sources = RefusedSources::Ignore);
    let ignored = timeout(Duration::from_millis(300), Client::connect_from(outside, address)).await;
    assert!(ignored.is_err());
    open.echo("was there before").await.unwrap();
}

#[tokio::test]
async fn e101_a_listener_moves_to_another_port_and_its_connections_stay() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let old = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(old).await.unwrap();
    rig.write(&json!({"listeners": [{"displayName": "control-plane", "port": 443, "protocol": "PROTOCOL_TCP",
        "targetPool": "control-plane"}]}))
        .await;
    let new = SocketAddr::new(old.ip(), 443);
    if rig.traffic().listeners[0].error.is_none() {
        assert_eq!(rig.address(), new);
        Client::connect(new).await.unwrap();
    } else {
        assert_eq!(rig.traffic().listeners[0].port, 443, "without privileges it says why it does not listen");
    }
    refused(old).await;
    client.echo("still here").await.unwrap();
}

#[tokio::test]
async fn e101_the_port_is_shifted_by_an_offset_and_a_port_in_use_is_taken_when_it_is_free() {
    let options = DataPlane { time_scale: TIME_SCALE, port_offset: 20_000, ..DataPlane::default() };
    let rig = Rig::with(options).await;
    let _servers = rig.echoes::<1>().await;
    let first = rig.cloud.emulator.address_pool().hosts().next().unwrap();
    let in_the_way = std::net::TcpListener::bind((first, 26_443)).unwrap();
    rig.cloud.ready(&rig.body(&[0], &json!({}))).await;
    rig.healthy(&[0]).await;
    assert!(rig.traffic().listeners[0].error.as_ref().unwrap().contains("in use"));
    drop(in_the_way);
    let look = || async { rig.traffic().address().ok_or_else(|| anyhow::anyhow!("no listener")) };
    let address = until("the port", SOON, look).await.unwrap();
    assert_eq!(address.port(), 26_443);
    Client::connect(address).await.unwrap();
}

#[tokio::test]
async fn e103_before_the_first_ready_nothing_listens_and_pending_after_an_update_keeps_serving() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    rig.cloud.emulator.set_switches(|switches| (switches.hold_pending, switches.address_at_once) = (true, true));
    let (_, shown) = rig.cloud.create(&rig.body(&[0], &json!({}))).await;
    let address = SocketAddr::new(shown["externalAddress"].as_str().unwrap().parse().unwrap(), 6_443);
    refused(address).await;
    rig.cloud.emulator.set_switches(|switches| switches.hold_pending = false);
    rig.cloud.until("lb1", "STATUS_READY").await;
    // Whoever is told that it is ready finds it listening.
    drop(TcpStream::connect(address).await.unwrap());
    rig.healthy(&[0]).await;
    rig.cloud.emulator.set_switches(|switches| switches.hold_pending = true);
    let mut client = Client::connect(address).await.unwrap();
    rig.write(&json!({"labels": {"a": "b"}})).await;
    assert_eq!(rig.cloud.emulator.balancer("lb1").unwrap()["status"], "STATUS_PENDING");
    client.echo("still here").await.unwrap();
    Client::connect(address).await.unwrap();
}

#[tokio::test]
async fn e104_error_by_an_inactive_target_still_serves_the_others() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let known = [rig.ip(0)].into();
    rig.cloud.emulator.set_switches(|switches| switches.known_targets = Some(known));
    rig.cloud.create(&rig.body(&[0, 1], &json!({}))).await;
    let shown = rig.cloud.until("lb1", "STATUS_ERROR").await;
    assert_eq!(shown["errors"][0]["type"], "TYPE_TARGET_NOT_ACTIVE");
    rig.healthy(&[0]).await;
    assert_eq!(rig.spread(4).await, BTreeMap::from([("0".to_owned(), 4)]));
}

#[tokio::test]
async fn e105_f7_the_data_plane_does_not_mind_a_control_plane_that_is_down_or_loses_its_answers() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<2>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(address).await.unwrap();
    let shown = rig.cloud.emulator.balancer("lb1").unwrap();
    // F7: the answer is lost, what it answered is not.
    rig.cloud.emulator.inject(Fault::new(Action::Reset { committed: true }).once());
    let body = changed(&crate::client::echo(&shown), &json!({"targetPools": [rig.pool(&[1])]}));
    let lost = rig.cloud.request(Method::PUT, "/load-balancers/lb1").json(&body).send().await;
    assert!(lost.is_err());
    rig.healthy(&[1]).await;
    let internal = Action::Answer {
        status: 500,
        content_type: "application/json".to_owned(),
        headers: Vec::new(),
        body: "{}".to_owned(),
        committed: false,
    };
    rig.cloud.emulator.inject(Fault::new(internal));
    assert_eq!(rig.cloud.get("/load-balancers/lb1").await.0, 500);
    client.echo("still here").await.unwrap();
    assert_eq!(rig.spread(2).await, BTreeMap::from([("1".to_owned(), 2)]));
}

#[tokio::test]
async fn e106_a_target_can_be_balanced_to_itself_unless_switched_so() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    Client::connect_from(rig.ip(0), address).await.unwrap().echo("me").await.unwrap();
    rig.cloud.emulator.disturb(|disturbance| disturbance.drop_hairpin = true);
    let error = Client::connect_from(rig.ip(0), address).await.err().unwrap();
    assert_eq!(error.to_string(), "closed after \"\"", "after 5 s, as from the balancer's own dial");
    Client::connect(address).await.unwrap();
}

#[tokio::test]
async fn e58_slow_writes_are_in_the_data_plane_before_the_balancer_is_ready_again() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<2>().await;
    rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    rig.cloud.emulator.set_delays(Delays { update: Duration::from_hours(1), ..Delays::default() });
    rig.set_targets(&[1]).await;
    rig.healthy(&[1]).await;
    assert_eq!(rig.cloud.emulator.balancer("lb1").unwrap()["status"], "STATUS_PENDING");
    let mut stream = TcpStream::connect(rig.address()).await.unwrap();
    assert_eq!(timeout(SOON, stream.read_u8()).await.unwrap().unwrap(), b'1');
}
