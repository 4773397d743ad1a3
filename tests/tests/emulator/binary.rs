//! The program.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::client::{SOON, answer, balancer, changed};

/// Cargo puts the program one folder above the tests. (`env!("CARGO_BIN_EXE_stackit-emulator")` does not get through the
/// workspace's compiler wrapper: dash drops variables with a dash in their name.)
fn program_path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("stackit-emulator")
}

#[tokio::test]
async fn it_writes_its_files_says_ready_and_ends_on_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut program = Command::new(program_path())
            .args(["--tls", "--profile", "instant", "--region", "eu02"])
            .arg("--write-ca")
            .arg(at("ca.pem"))
            .arg("--key-file")
            .arg(at("key.json"))
            .arg("--credentials-dir")
            .arg(at("credentials"))
            .arg("--journal")
            .arg(at("journal"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(program.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(SOON * 4, output.next_line()).await.unwrap().unwrap().unwrap();
        let url = line.strip_prefix("ready url=").unwrap();
        assert!(url.starts_with("https://127.0.0.1:"), "{line}");
        let authority = reqwest::Certificate::from_pem(&std::fs::read(at("ca.pem")).unwrap()).unwrap();
        drop(crate::client::client());
        let http = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        assert_eq!(http.get(format!("{url}/v2/regions/eu02/plans")).send().await.unwrap().status(), 200);
        let key = std::fs::read_to_string(at("credentials/serviceaccount.json")).unwrap();
        assert!(key.contains(&format!("{url}/token")));
        assert!(at("key.json").exists() && at("journal").exists());
        assert_eq!(std::fs::read_to_string(at("credentials/project-id")).unwrap().len(), 36);
        kill(Pid::from_raw(i32::try_from(program.id().unwrap()).unwrap()), signal).unwrap();
        let status = tokio::time::timeout(SOON, program.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

#[tokio::test]
async fn it_explains_itself_and_refuses_nonsense() {
    let run = |arguments: &'static [&'static str]| Command::new(program_path()).args(arguments).output();
    let help = run(&["--help"]).await.unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    for flag in [
        "--listen",
        "--tls",
        "--write-ca",
        "--key-file",
        "--credentials-dir",
        "--project",
        "--region",
        "--profile",
        "--journal",
        "--strict",
        "--create-time",
        "--update-time",
        "--delete-time",
        "--data-plane",
        "--address-pool",
        "--port-offset",
        "--map",
        "--time-scale",
        "--max-connections",
    ] {
        assert!(text.contains(flag), "{flag}");
    }
    for nonsense in [
        &["--profile", "quick"][..],
        &["--create-time", "5"],
        &["--port-offset", "7"],
        &["--data-plane", "--map", "10.0.0.1"],
        &["--data-plane", "--map", "10.0.0.1=192.168.0.1"],
        &["--data-plane", "--time-scale", "0"],
        &["--data-plane", "--address-pool", "203.0.113.0/24"],
    ] {
        assert!(!run(nonsense).await.unwrap().status.success(), "{nonsense:?}");
    }
    let refused = run(&["--project", "x"]).await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("is not a lower-case UUID"));
}

#[tokio::test]
async fn with_a_data_plane_it_carries_bytes_and_strict_is_strict() {
    let target = tokio::net::TcpListener::bind("127.231.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port();
    let mut program = Command::new(program_path())
        .args(["--data-plane", "--address-pool", "127.101.7.0/24", "--port-offset", "20000", "--time-scale", "20"])
        .args(["--map", "192.168.7.7=127.231.0.1", "--profile", "realistic", "--create-time", "1ms", "--strict"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(SOON * 4, output.next_line()).await.unwrap().unwrap().unwrap();
    let (url, pool) = line.strip_prefix("ready url=").unwrap().split_once(" address-pool=").unwrap();
    assert_eq!(pool, "127.101.7.0/24");
    let http = crate::client::client();
    let control = |path: &str| format!("{url}/_emulator/{path}");
    let (_, key) = answer(http.post(control("key"))).await;
    let assertion = crate::client::assertion(&key, &json!({}));
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.as_str())];
    let (_, token) = answer(http.post(format!("{url}/token")).form(&form)).await;
    assert_ne!(answer(http.post(format!("{url}/token")).form(&form)).await.0, 200, "the same jti again");
    let (_, state) = answer(http.get(control("state"))).await;
    let balancers = format!("{url}/v2/projects/{}/regions/eu01/load-balancers", state["project"].as_str().unwrap());
    let pool = json!({"name": "control-plane", "targetPort": port,
        "targets": [{"displayName": "node-1", "ip": "192.168.7.7"}]});
    let body = changed(&balancer("lb1"), &json!({"targetPools": [pool]}));
    let create = |body: &Value| http.post(&balancers).bearer_auth(token["access_token"].as_str().unwrap()).json(body);
    assert_eq!(answer(create(&changed(&body, &json!({"surprise": 1})))).await.0, 400);
    assert_eq!(answer(create(&body)).await.0, 200);
    let healthy = || async {
        let (_, state) = answer(http.get(control("state"))).await;
        anyhow::ensure!(state["dataPlane"][0]["targets"][0]["healthy"] == true, "{state}");
        Ok(())
    };
    tests::wait::until("a healthy target", SOON, healthy).await.unwrap();
    let mut client = tokio::net::TcpStream::connect("127.101.7.1:26443").await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let hello = async {
        loop {
            // Health checks come, too, and say nothing.
            let (mut stream, peer) = target.accept().await.unwrap();
            let mut text = [0; 5];
            if stream.read_exact(&mut text).await.is_ok() {
                return (text, peer.ip().to_string());
            }
        }
    };
    let seen = tokio::time::timeout(SOON, hello).await.unwrap();
    assert_eq!(seen, (*b"hello", "127.101.7.1".to_owned()));
}
