//! Which target a connection comes to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use tests::wait::until;
use tokio::io::AsyncWriteExt as _;

use crate::client::SOON;
use crate::rig::{Client, Rig, Server};

fn spread(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[tokio::test]
async fn e90_a_connection_is_carried_to_a_target_that_sees_the_balancer() {
    let rig = Rig::start().await;
    let _server = Server::new(rig.ip(0), |mut stream| async move {
        let peer = stream.peer_addr()?.ip();
        stream.write_all(format!("{peer}\n").as_bytes()).await
    })
    .await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    assert_eq!(rig.cloud.emulator.balancer("lb1").unwrap()["externalAddress"], address.ip().to_string());
    let client = Client::connect(address).await.unwrap();
    assert_eq!(client.target, address.ip().to_string());
}

#[tokio::test]
async fn e91_connections_go_round_robin_over_healthy_targets() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<3>().await;
    rig.serve(&rig.body(&[0, 1, 2, 3], &json!({})), &[0, 1, 2]).await;
    assert_eq!(rig.spread(9).await, spread(&[("0", 3), ("1", 3), ("2", 3)]));
    let report = rig.traffic();
    assert_eq!((report.accepted, report.unserved), (9, 0));
    assert_eq!(rig.target(3).connections, 0);
}

#[tokio::test]
async fn e92_a_source_keeps_its_target_and_moves_only_when_that_one_goes() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<3>().await;
    let mut body = rig.body(&[0, 1, 2], &json!({}));
    body["targetPools"][0]["sessionPersistence"] = json!({"useSourceIpAddress": true});
    let address = rig.serve(&body, &[0, 1, 2]).await;
    let sources = || (1..=30).map(|number| IpAddr::from(Ipv4Addr::new(127, 0, 9, number)));
    let mut first = BTreeMap::new();
    for source in sources() {
        first.insert(source, Client::connect_from(source, address).await.unwrap().target);
        assert_eq!(first[&source], Client::connect_from(source, address).await.unwrap().target);
    }
    let mut pool = rig.pool(&[0, 2]);
    pool["sessionPersistence"] = json!({"useSourceIpAddress": true});
    rig.write(&json!({"targetPools": [pool]})).await;
    for source in sources() {
        let now = Client::connect_from(source, address).await.unwrap().target;
        assert!(now == first[&source] || first[&source] == "1", "{source} moved from {} to {now}", first[&source]);
        assert_ne!(now, "1");
    }
    assert!(first.values().any(|target| target == "1"), "{first:?}");
}

#[tokio::test]
async fn e93_a_closed_port_is_skipped_at_once_and_out_of_rotation_after_three_checks() {
    let rig = Rig::start().await;
    let [_zero, one] = rig.echoes::<2>().await;
    rig.serve(&rig.body(&[0, 1], &json!({})), &[0, 1]).await;
    drop(one);
    assert_eq!(rig.spread(4).await, spread(&[("0", 4)]));
    rig.healthy(&[0]).await;
    let _one = Server::echo(rig.ip(1), "1").await;
    rig.healthy(&[0, 1]).await;
    assert_eq!(rig.spread(4).await, spread(&[("0", 2), ("1", 2)]));
}

#[tokio::test]
async fn e93_the_pool_says_how_its_targets_are_checked() {
    let rig = Rig::start().await;
    let _zero = Server::echo(rig.ip(0), "0").await;
    let elsewhere = tokio::net::TcpListener::bind((rig.ip(1), 8_080)).await.unwrap();
    let mut pool = rig.pool(&[0, 1]);
    // The port of the check is open on one target only, and that one serves nobody.
    pool["activeHealthCheck"] = json!({"interval": "1s", "timeout": "1s", "healthyThreshold": 1,
        "unhealthyThreshold": 1_000_000, "altPort": 8_080});
    rig.serve(&rig.body(&[0, 1], &json!({"targetPools": [pool.clone()]})), &[1]).await;
    assert!(Client::connect(rig.address()).await.is_err(), "a check that looks elsewhere is believed");
    drop(elsewhere);
    // A million failures will not have come by.
    pool["activeHealthCheck"]["unhealthyThreshold"] = json!(1);
    assert!(rig.target(1).healthy);
    rig.write(&json!({"targetPools": [pool.clone()]})).await;
    rig.healthy(&[]).await;
    pool["activeHealthCheck"].as_object_mut().unwrap().shift_remove("altPort");
    rig.write(&json!({"targetPools": [pool]})).await;
    rig.healthy(&[0]).await;
    assert_eq!(rig.spread(2).await, spread(&[("0", 2)]));
}

#[tokio::test]
async fn e94_without_a_healthy_target_a_connection_is_accepted_and_closed() {
    let rig = Rig::start().await;
    let address = rig.serve(&rig.body(&[0, 1], &json!({})), &[]).await;
    let error = Client::connect(address).await.err().unwrap();
    assert_eq!(error.to_string(), "closed after \"\"");
    assert_eq!(rig.traffic().unserved, 1);
}

#[tokio::test]
async fn e99_a_removed_target_gets_nothing_new_and_keeps_what_it_has() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<2>().await;
    let address = rig.serve(&rig.body(&[0, 1], &json!({})), &[0, 1]).await;
    let mut clients = [Client::connect(address).await.unwrap(), Client::connect(address).await.unwrap()];
    rig.set_targets(&[1]).await;
    assert_eq!(rig.spread(4).await, spread(&[("1", 4)]));
    for client in &mut clients {
        client.echo("still here").await.unwrap();
    }
    assert_eq!((rig.target(0).in_pool, rig.target(0).open), (false, 1));
    drop(clients);
    rig.open(0).await;
}

#[tokio::test]
async fn e99_when_switched_so_a_removed_target_loses_its_connections() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<2>().await;
    let address = rig.serve(&rig.body(&[0, 1], &json!({})), &[0, 1]).await;
    rig.cloud.emulator.disturb(|disturbance| disturbance.cut_removed = true);
    let (mut zero, mut one) = (Client::connect(address).await.unwrap(), Client::connect(address).await.unwrap());
    assert_eq!((zero.target.as_str(), one.target.as_str()), ("0", "1"));
    rig.set_targets(&[1]).await;
    assert_eq!(zero.end().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    one.echo("still here").await.unwrap();
}

#[tokio::test]
async fn e100_an_added_target_gets_connections_after_its_first_success() {
    let rig = Rig::start().await;
    let _zero = Server::echo(rig.ip(0), "0").await;
    rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    rig.set_targets(&[0, 1]).await;
    assert_eq!(rig.spread(4).await, spread(&[("0", 4)]));
    let _one = Server::echo(rig.ip(1), "1").await;
    rig.healthy(&[0, 1]).await;
    let look = || async {
        let seen = rig.spread(4).await;
        anyhow::ensure!(seen == spread(&[("0", 2), ("1", 2)]), "{seen:?}");
        Ok(())
    };
    until("both targets", SOON, look).await.unwrap();
}
