//! The image: built twice, looked into, and run from its own root file system, where there is nothing else.
//!
//! Where this is not root nothing is built, which is said on stderr.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::booted::{done, installed, root_or_skip};
use tests::emulator::{Emulator, KeyOptions, Options};
use tests::process::{Folder, Process};
use tests::wait::until;
use tests::world::{SOON, repository, targets_of};

/// Bytes that its layers may have, compressed: 4 MiB.
const LARGEST: u64 = 4 << 20;
/// Where the test's own name server listens; the port is the one that resolvers use.
const NAME_SERVER: &str = "127.0.0.83";
/// What the emulator is called in that server.
const NAME: &str = "load-balancer.stackit.test";

/// Runs `images/build` with the binary that ships; the folder it fills.
fn build(into: &Path) -> Result<()> {
    let mut command = Command::new(repository("images/build"));
    command.arg(into).arg(tests::agent::release()?).env("SBOM", env!("CARGO_BIN_EXE_sbom"));
    done(&mut command).map(drop).context("building the image")
}

fn json_of(file: &Path) -> Result<Value> {
    serde_json::from_slice(&std::fs::read(file).with_context(|| file.display().to_string())?).context("parsing it")
}

/// A blob of the image that another one names.
fn blob(image: &Path, descriptor: &Value) -> PathBuf {
    image.join("blobs").join(descriptor["digest"].as_str().unwrap_or_default().replace(':', "/"))
}

#[tokio::test]
async fn it_is_small_the_same_each_time_and_works_with_nothing_around_it() -> Result<()> {
    if !root_or_skip("the image") {
        return Ok(());
    }
    installed(&["buildah", "zstd"], &["buildah", "zstd"])?;
    let folder = Folder::new("image")?;
    let (first, second) = (folder.join("first"), folder.join("second"));
    build(&first)?;
    build(&second)?;
    let digest = std::fs::read_to_string(first.join("digest"))?;
    println!("{digest}{}", std::fs::read_to_string(second.join("digest"))?);
    assert!(digest.starts_with("sha256:"), "{digest}");
    assert_eq!(digest, std::fs::read_to_string(second.join("digest"))?, "built twice, another digest");

    let image = first.join("image");
    println!("{} bytes of {LARGEST}", looked_into(&image)?);
    bill_of_materials(&json_of(&first.join("shoot-exposure-agent.cdx.json"))?)?;
    let root = unpacked(&image, &folder)?;
    run_in(&root, &folder).await
}

/// Configuration and labels are right, and the layers small; their bytes.
fn looked_into(image: &Path) -> Result<u64> {
    let index = json_of(&image.join("index.json"))?;
    let manifest = json_of(&blob(image, &index["manifests"][0]))?;
    let config = json_of(&blob(image, &manifest["config"]))?;
    let settings = &config["config"];
    assert_eq!(settings["User"], "65532:65532");
    assert_eq!(settings["Entrypoint"], json!(["/shoot-exposure-agent"]));
    let label =
        |name: &str| settings["Labels"][format!("org.opencontainers.image.{name}")].as_str().unwrap_or_default();
    assert_eq!(label("title"), "shoot-exposure-agent");
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), "Apache-2.0");
    assert!(label("revision").len() >= 7, "{settings}");
    let layers = manifest["layers"].as_array().context("no layers")?;
    let size: u64 = layers.iter().filter_map(|layer| layer["size"].as_u64()).sum();
    assert!(size <= LARGEST, "{size} bytes are more than {LARGEST}");
    Ok(size)
}

/// Every crate that the lock file pins for the agent has a name, a version, a licence and a hash.
fn bill_of_materials(document: &Value) -> Result<()> {
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    let components = document["components"].as_array().context("no components")?;
    let by_name: BTreeMap<&str, &Value> =
        components.iter().map(|component| (component["name"].as_str().unwrap_or_default(), component)).collect();
    for linked in ["decide", "tokio", "rustls", "ring", "kube-client", "reqwest", "hyper", "glibc", "rust-std"] {
        assert!(by_name.contains_key(linked), "{linked} is linked in and not listed");
    }
    for not_linked in ["rcgen", "proptest", "serde_derive", "cc"] {
        assert!(!by_name.contains_key(not_linked), "{not_linked} is listed and not linked in");
    }
    for component in components.iter().filter(|component| component["purl"].to_string().contains("pkg:cargo")) {
        let own = component["name"] == "decide";
        assert!(own || component["hashes"][0]["content"].as_str().is_some_and(|hash| hash.len() == 64), "{component}");
        assert!(component["licenses"][0]["expression"].as_str().is_some_and(|text| !text.is_empty()), "{component}");
    }
    Ok(())
}

/// The root file system of the image.
fn unpacked(image: &Path, folder: &Folder) -> Result<PathBuf> {
    let root = folder.join("root");
    std::fs::create_dir(&root)?;
    let manifest = json_of(&blob(image, &json_of(&image.join("index.json"))?["manifests"][0]))?;
    for layer in manifest["layers"].as_array().context("no layers")? {
        let mut tar = Command::new("tar");
        done(tar.args(["--extract", "--zstd", "--directory"]).arg(&root).arg("--file").arg(blob(image, layer)))?;
    }
    let files = done(Command::new("find").args([".", "-type", "f"]).current_dir(&root))?;
    let mut files: Vec<&str> = files.lines().collect();
    files.sort_unstable();
    assert_eq!(files, ["./etc/ssl/certs/ca-certificates.crt", "./shoot-exposure-agent"]);
    Ok(root)
}

/// `version`, then a whole life: names from `/etc/hosts` and from DNS, as a kubelet would mount them, and a balancer.
async fn run_in(root: &Path, folder: &Folder) -> Result<()> {
    // What every container runtime brings.
    std::fs::create_dir(root.join("dev"))?;
    for (name, minor) in [("null", "3"), ("random", "8"), ("urandom", "9")] {
        done(Command::new("mknod").args(["--mode=0666"]).arg(root.join("dev").join(name)).args(["c", "1", minor]))?;
    }
    let version = done(confined(root).args(["/shoot-exposure-agent", "version"]))?;
    assert!(version.starts_with(&format!("shoot-exposure-agent {}", env!("CARGO_PKG_VERSION"))), "{version}");

    name_server()?;
    let emulator = Emulator::start(Options::default()).await?;
    let port = emulator.url().rsplit(':').next().context("no port")?;
    let write = |path: &str, content: &str| {
        let file = root.join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(root))?;
        std::fs::write(&file, content).with_context(|| file.display().to_string())
    };
    write("etc/resolv.conf", &format!("nameserver {NAME_SERVER}\n"))?;
    write("etc/hosts", "127.0.0.1 localhost token.stackit.test\n")?;
    let key = emulator.service_account_key(&KeyOptions::default())?;
    write("etc/shoot-exposure-agent/credentials/serviceaccount.json", &key.to_string())?;
    let nodes: Vec<Value> = (0..3).map(|index| node(&format!("cp-{index}"), index)).collect();
    write("nodes.yaml", &json!({"apiVersion": "v1", "kind": "NodeList", "items": nodes}).to_string())?;
    let settings = json!({
        "nodeName": "cp-0",
        "nodes": {"source": "File", "file": "/nodes.yaml"},
        "exposure": {"name": "root"},
        "health": {"probe": {"enabled": false}},
        "server": {"bindAddress": "127.0.0.1:0"},
        "stackit": {
            "loadBalancerEndpoint": format!("http://{NAME}:{port}"),
            "tokenEndpoint": format!("http://token.stackit.test:{port}/token"),
            "projectID": emulator.project(), "region": emulator.region(),
            "networkID": "5f2b1c3d-9a4e-4b6f-8c7d-0123456789ab", "technicalID": "shoot--garden--root",
        },
    });
    write("etc/shoot-exposure-agent/config.yaml", &settings.to_string())?;

    let mut command = confined(root);
    command.args(["/shoot-exposure-agent", "run"]);
    let agent = Process::start("agent", command, folder.join("agent.log"))?;
    let admin = until("the admin server to listen", SOON, || async {
        let log = agent.output()?;
        let line = log.lines().find_map(|line| line.split_once("admin server listens address="));
        Ok(line.context(log.clone())?.1.trim().to_owned())
    })
    .await?;
    tests::control_plane::use_ring();
    let client = reqwest::Client::builder().no_proxy().build()?;
    until("/readyz to be 200", SOON, || async {
        let answer = client.get(format!("http://{admin}/readyz?verbose")).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == 200, "{text}");
        Ok(())
    })
    .await?;
    until("three targets", SOON, || async {
        let balancer = emulator.balancer("shoot--garden--root-exp-root").context(agent.tail(5))?;
        ensure!(targets_of(&balancer).len() == 3, "{balancer}");
        Ok(())
    })
    .await?;
    agent.terminate()?;
    ensure!(agent.exited(SOON).await?.success(), "{}", agent.tail(5));
    Ok(())
}

/// The way into the root, as the image's user, with nothing writable.
fn confined(root: &Path) -> Command {
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && \
                  exec chroot --userspec=65532:65532 \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", script]).arg(root).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn node(name: &str, index: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": format!("10.0.0.{}", 10 + index)}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// A name server that knows one name, on a thread that ends with the test's process.
fn name_server() -> Result<()> {
    let socket = UdpSocket::bind((NAME_SERVER, 53)).context("listening where resolvers ask")?;
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..length]) {
                let _ = socket.send_to(&answer, asker);
            }
        }
    });
    Ok(())
}

/// The answer of DNS to one question: 127.0.0.1 for the name and an A record, nothing for it and another type, else that
/// there is no such name.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = question.split_at_checked(12)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (name, kind) = (rest.get(..end)?, rest.get(end + 1..end + 5)?);
    let length = |label: &str| u8::try_from(label.len()).unwrap_or_default();
    let known: Vec<u8> = NAME.split('.').flat_map(|label| [&[length(label)][..], label.as_bytes()].concat()).collect();
    let (code, found) = (if name == known { 0 } else { 3 }, name == known && kind[..2] == [0, 1]);
    let mut answer = vec![header[0], header[1], 0x85, 0x80 | code, 0, 1, 0, u8::from(found), 0, 0, 0, 0];
    answer.extend_from_slice(&rest[..end + 5]);
    if found {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
