//! What becomes of the bytes of one connection, and of its end.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::json;
use tests::emulator::DataPlane;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::client::SOON;
use crate::rig::{Client, Rig, Server, TIME_SCALE};

#[tokio::test]
async fn e95_an_idle_connection_is_closed_and_a_byte_in_either_direction_keeps_it() {
    let rig = Rig::start().await;
    let _servers = rig.echoes::<1>().await;
    // 25 s, of which a test sees one.
    let body = rig.body(
        &[0],
        &json!({"listeners": [{"displayName": "control-plane", "port": 6_443,
        "protocol": "PROTOCOL_TCP", "targetPool": "control-plane", "tcp": {"idleTimeout": "25s"}}]}),
    );
    let address = rig.serve(&body, &[0]).await;
    let (mut idle, mut busy) = (Client::connect(address).await.unwrap(), Client::connect(address).await.unwrap());
    let started = Instant::now();
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    let end = idle.end();
    tokio::pin!(end);
    loop {
        tokio::select! {
            result = &mut end => break result.unwrap(),
            _ = beat.tick() => busy.echo("x").await.unwrap(),
        }
    }
    let lasted = started.elapsed().as_secs_f64() * TIME_SCALE;
    assert!((24.0..60.0).contains(&lasted), "{lasted}");
    busy.echo("alive").await.unwrap();
    rig.open(1).await;
    busy.end().await.unwrap();
}

#[tokio::test]
async fn e96_a_fin_is_passed_on_and_the_answer_still_comes() {
    let rig = Rig::start().await;
    let _server = Server::new(rig.ip(0), |mut stream| async move {
        let mut question = String::new();
        stream.read_to_string(&mut question).await?;
        stream.write_all(format!("answer to {question}").as_bytes()).await
    })
    .await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"a question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(SOON, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "answer to a question");
    rig.open(0).await;
}

#[tokio::test]
async fn e97_a_reset_of_either_side_resets_the_other() {
    let rig = Rig::start().await;
    let (ends, mut ended) = mpsc::unbounded_channel();
    let _server = Server::new(rig.ip(0), move |mut stream| {
        let ends = ends.clone();
        async move {
            stream.write_all(b"0\n").await?;
            let mut command = [0];
            if stream.read_exact(&mut command).await.is_err() {
                return Ok(());
            }
            if &command == b"R" {
                stream.set_zero_linger()?;
                return Ok(());
            }
            if &command == b"H" {
                stream.shutdown().await?; // Half of it is over, the other half is not.
            }
            stream.write_all(b"").await?;
            let result = stream.read_u8().await.map_err(|error| error.kind());
            let _ = ends.send(result);
            Ok(())
        }
    })
    .await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut client = Client::connect(address).await.unwrap();
    client.stream.write_all(b"R").await.unwrap();
    assert_eq!(client.end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for command in [b"C", b"H"] {
        let mut client = Client::connect(address).await.unwrap();
        client.stream.write_all(command).await.unwrap();
        rig.open(1).await;
        if command == b"H" {
            client.end().await.unwrap();
        } else {
            // The target has the command before the reset overtakes it.
            let sent = || async {
                anyhow::ensure!(rig.target(0).bytes_to >= 2, "not there yet");
                Ok(())
            };
            tests::wait::until("the command", SOON, sent).await.unwrap();
        }
        client.stream.get_ref().set_zero_linger().unwrap();
        drop(client);
        let end = timeout(SOON, ended.recv()).await.unwrap().unwrap();
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "after {command:?}");
        rig.open(0).await;
    }
}

#[tokio::test]
async fn e102_tcp_proxy_tells_the_target_who_is_there() {
    let rig = Rig::start().await;
    let (headers, mut received) = mpsc::unbounded_channel();
    let _server = Server::new(rig.ip(0), move |mut stream| {
        let headers = headers.clone();
        async move {
            let mut header = vec![0; 28 + 7];
            if stream.read_exact(&mut header).await.is_ok() {
                let _ = headers.send(header);
            }
            Ok(())
        }
    })
    .await;
    let mut body = rig.body(&[0], &json!({}));
    body["listeners"][0]["protocol"] = json!("PROTOCOL_TCP_PROXY");
    let address = rig.serve(&body, &[0]).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"payload").await.unwrap();
    let header = timeout(SOON, received.recv()).await.unwrap().unwrap();
    assert_eq!(&header[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(header[16..20], [127, 0, 0, 1]);
    assert_eq!(header[24..26], client.local_addr().unwrap().port().to_be_bytes());
    assert_eq!(header[26..28], address.port().to_be_bytes());
    assert_eq!(&header[28..], b"payload");
}

#[tokio::test]
async fn e107_more_connections_than_the_plan_allows_are_refused() {
    let options = DataPlane { time_scale: TIME_SCALE, max_connections: Some(3), ..DataPlane::default() };
    let rig = Rig::with(options).await;
    let _servers = rig.echoes::<1>().await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::connect(address).await.unwrap());
    }
    assert!(Client::connect(address).await.is_err());
    assert_eq!((rig.traffic().excess, rig.traffic().open), (1, 3));
    clients.pop();
    rig.open(2).await;
    Client::connect(address).await.unwrap().echo("there is room again").await.unwrap();
}

#[tokio::test]
async fn e108_large_payloads_and_slow_readers_lose_nothing_and_slow_the_writer_down() {
    const SIZE: usize = 24 << 20;
    let rig = Rig::start().await;
    let (go, wait) = tokio::sync::watch::channel(false);
    let (sums, mut received) = mpsc::unbounded_channel();
    let _server = Server::new(rig.ip(0), move |mut stream| {
        let (mut wait, sums) = (wait.clone(), sums.clone());
        async move {
            let _ = wait.wait_for(|go| *go).await;
            let (mut length, mut sum, mut buffer) = (0_usize, 0_u64, vec![0; 1 << 16]);
            loop {
                let count = stream.read(&mut buffer).await?;
                if count == 0 {
                    break;
                }
                length += count;
                sum = buffer[..count].iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            }
            if length > 0 {
                let _ = sums.send((length, sum));
            }
            Ok(())
        }
    })
    .await;
    let address = rig.serve(&rig.body(&[0], &json!({})), &[0]).await;
    let payload: Vec<u8> = (0..SIZE).map(|index| u8::try_from(index * index % 251).unwrap()).collect();
    let expected = payload.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let mut client = TcpStream::connect(address).await.unwrap();
    let writer = tokio::spawn(async move {
        client.write_all(&payload).await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    // Nobody reads: what is on the way stays far below the whole, and then nothing moves.
    let still = || async {
        let before = rig.target(0).bytes_to;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = rig.target(0).bytes_to;
        anyhow::ensure!(now > 0 && now == before, "{now} bytes");
        Ok(now)
    };
    let stuck = tests::wait::until("the writer to be held up", SOON, still).await.unwrap();
    assert!(stuck < SIZE as u64 / 2 && !writer.is_finished(), "{stuck}");
    go.send(true).unwrap();
    let sum = timeout(SOON * 4, received.recv()).await.unwrap().unwrap();
    assert_eq!(sum, (SIZE, expected));
    drop(writer.await.unwrap());
}
