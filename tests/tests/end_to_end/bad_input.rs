//! Bad input: one clear line each on stderr, the exit code as documented, nothing half made that a second run would not mend.
//!
//! The daemon waits for what may still come and says what it waits for; it ends only for what no waiting mends. A verb
//! that does one thing waits until its time is up.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::alone::{Alone, Ended, Verb};
use tests::control_plane::certificates::{Authority, replace};
use tests::control_plane::users::{AGENT, Access};
use tests::emulator::KeyOptions;
use tests::wait::until;
use tests::world::{SHOOT, SOON, World, healthy};
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(60);
const NAMED: [&str; 5] = ["bootstrap", "--endpoint", "cp-0=10.0.0.10", "--timeout", "3s"];

/// One line on stderr that has all of these words.
fn one_line(ended: &Ended, words: &[&str]) -> Result<()> {
    let fits = |line: &&str| words.iter().all(|word| line.contains(word));
    let found = ended.stderr.lines().filter(fits).count();
    ensure!(found >= 1, "no line with {words:?} in:\n{}", ended.stderr);
    ensure!(!ended.stderr.contains("panicked") && !ended.stderr.contains("PRIVATE KEY"), "{}", ended.stderr);
    Ok(())
}

/// What is wrong, and what is to be said of it.
struct Wrong {
    what: &'static str,
    over: Value,
    code: i32,
    words: &'static [&'static str],
}

#[tokio::test]
async fn bootstrap_says_in_one_line_what_is_wrong_and_ends_as_documented() -> Result<()> {
    let alone = Alone::start().await?;
    let file = |name: &str, text: &str| -> Result<String> {
        std::fs::write(alone.file(name), text)?;
        Ok(alone.file(name).display().to_string())
    };
    let nobody = TcpListener::bind("127.0.0.1:0").await?;
    let closed = format!("http://{}", nobody.local_addr()?);
    drop(nobody);
    std::fs::create_dir(alone.file("half"))?;
    std::fs::write(alone.file("half/serviceaccount.json"), "{\"credentials\": {\"kid\": \"")?;
    let project = alone.emulator.project().to_owned();
    let table = [
        Wrong {
            what: "no credentials",
            over: json!({"stackit": {"credentialsDirectory": "/nowhere", "projectID": project}}),
            code: 3,
            words: &["error: not done after 3s", "credentials", "/nowhere"],
        },
        Wrong {
            what: "no credentials, and with them no project",
            over: json!({"stackit": {"credentialsDirectory": "/nowhere"}}),
            code: 2,
            words: &["error: ", "stackit.projectID", "/nowhere"],
        },
        Wrong {
            what: "a half-written key",
            over: json!({"stackit": {"credentialsDirectory": alone.file("half"), "projectID": project}}),
            code: 3,
            words: &["error: not done after 3s", "serviceaccount.json"],
        },
        Wrong {
            what: "no network",
            over: json!({"stackit": {"loadBalancerEndpoint": closed}}),
            code: 3,
            words: &["error: not done after 3s", "Connection refused"],
        },
        Wrong {
            what: "a CA bundle that is none",
            over: json!({"stackit": {"caBundle": file("no.pem", "no PEM")?}}),
            code: 3,
            words: &["error: not done after 3s", "no.pem"],
        },
        Wrong {
            what: "a kubeconfig that is none",
            over: json!({"kubeconfig": file("none.kubeconfig", "nonsense: [")?}),
            code: 2,
            words: &["error: cannot use the kubeconfig", "none.kubeconfig"],
        },
        Wrong {
            what: "a kubeconfig without a cluster",
            over: json!({"kubeconfig": file("empty.kubeconfig", "apiVersion: v1\nkind: Config\n")?}),
            code: 2,
            words: &["error: cannot use the kubeconfig", "empty.kubeconfig", "context"],
        },
        Wrong {
            what: "unknown settings",
            over: json!({"nonsense": 1, "stackit": {"regoin": "eu01"}}),
            code: 2,
            words: &["stackit.regoin"],
        },
        Wrong {
            what: "a Node list that is half written",
            over: json!({"nodes": {"source": "File", "file": file("nodes.yaml", "items:\n- metadata: {name: cp-0")?}}),
            code: 3,
            words: &["error: not done after 3s", "nodes.yaml"],
        },
    ];
    for Wrong { what, over, code, words } in table {
        let ended = alone.verb(over, &NAMED)?.ended(LONG).await?;
        one_line(&ended, words).map_err(|error| error.context(what))?;
        ended.with(code).map_err(|error| error.context(what))?;
    }
    assert_eq!(alone.emulator.count("POST", "/load-balancers"), 0);
    // Nothing of all this is in the way of a run that is right.
    alone.verb(json!({}), &["bootstrap", "--endpoint", "cp-0=10.0.0.10"])?.ended(LONG).await?.with(0)?;
    assert_eq!(alone.emulator.count("POST", "/load-balancers"), 1);
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_is_not_to_be_trusted_is_no_missing_one() -> Result<()> {
    let world = World::without_exposure().await?;
    let trust = Authority::new("somebody else")?.pem();
    let access = Access { trust, ..world.control_plane.access(&AGENT) };
    let kubeconfig = world.control_plane.write_kubeconfig("wrong-ca", &access)?;
    let mut over = tests::alone::complete();
    over["kubeconfig"] = json!(kubeconfig);
    let ended = world.verb(over.clone(), &NAMED)?.ended(LONG).await?;
    one_line(&ended, &["error: not done after 3s", "certificate"])?;
    ended.with(3)?;
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 0);

    let agent = world.agent("cp-1", over).await?;
    agent.awaits_log(&["cannot watch", "certificate"], SOON).await?;
    let (status, text) = agent.get("/readyz").await?;
    assert_eq!(status, 500, "{text}");
    // With the right one it goes on, without a restart.
    replace(&kubeconfig, &world.control_plane.access(&AGENT).kubeconfig()?)?;
    world.verb(json!({}), &["bootstrap"])?.ended(LONG).await?.with(0)?;
    healthy(&world.exposures().get(SHOOT).await?)?;
    world.awaits_holder("cp-1", SOON).await
}

/// Where systemd listens.
struct Listener {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Listener {
    fn start(path: PathBuf) -> Result<Self> {
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path })
    }

    /// The STATUS lines that have come since the last time.
    fn statuses(&self) -> Vec<String> {
        let mut buffer = vec![0; 4096];
        let messages = std::iter::from_fn(|| {
            let length = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        });
        messages.filter_map(|message| message.strip_prefix("STATUS=").map(str::to_owned)).collect()
    }

    async fn awaits(&self, words: &[&str]) -> Result<()> {
        until(&format!("{words:?} in STATUS"), SOON, || async { self.said(words) }).await
    }

    /// Fails unless one of them has all of these words.
    fn said(&self, words: &[&str]) -> Result<()> {
        let statuses = self.statuses();
        let fits = |status: &String| words.iter().all(|word| status.contains(word));
        ensure!(statuses.iter().any(fits), "no STATUS with {words:?} among {statuses:?}");
        Ok(())
    }
}

/// Runs the daemon with the settings in `file` to its end.
async fn daemon(folder: &Path, file: &str, listener: &Listener) -> Result<Ended> {
    let mut command = tokio::process::Command::new(tests::agent::binary()?);
    command.args(["run", "--config"]).arg(folder.join(file)).env("NOTIFY_SOCKET", &listener.path);
    Verb::spawn(command, &folder.join("daemon"))?.ended(LONG).await
}

#[tokio::test]
async fn the_daemon_ends_for_what_no_waiting_mends() -> Result<()> {
    let alone = Alone::start().await?;
    let folder = alone.file("");
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let port = taken.local_addr()?.to_string();
    std::fs::write(alone.file("nodes.yaml"), json!({"items": []}).to_string())?;
    let settings = |over: Value| {
        let mut settings = alone.settings();
        let nodes = json!({"source": "File", "file": alone.file("nodes.yaml")});
        // Without a kubeconfig, not with one that may still come.
        let base = json!({"kubeconfig": "", "nodes": nodes, "server": {"bindAddress": "127.0.0.1:0"}});
        tests::agent::merge(&mut settings, base);
        tests::agent::merge(&mut settings, over);
        settings
    };
    let table = [
        Wrong {
            what: "port in use",
            over: json!({"server": {"bindAddress": port}}),
            code: 1,
            words: &["error: ", "in use"],
        },
        Wrong {
            what: "unknown settings",
            over: json!({"serverr": {}, "stackit": {"region": 7}}),
            code: 2,
            words: &["serverr"],
        },
        Wrong {
            what: "what must be set without Kubernetes",
            over: json!({"exposure": {"name": ""}, "stackit": {"region": ""}}),
            code: 2,
            words: &["error: ", "exposure.name", "stackit.region"],
        },
        Wrong {
            what: "no Kubernetes where Nodes are wanted from there",
            over: json!({"nodes": {"source": "Kubernetes"}}),
            code: 2,
            words: &["error: ", "there is no kubeconfig"],
        },
    ];
    let systemd = Listener::start(alone.file("notify.socket"))?;
    for Wrong { what, over, code, words } in table {
        std::fs::write(alone.file("wrong.yaml"), settings(over).to_string())?;
        let ended = daemon(&folder, "wrong.yaml", &systemd).await?;
        one_line(&ended, words).map_err(|error| error.context(what))?;
        ended.with(code).map_err(|error| error.context(what))?;
        systemd.said(words).map_err(|error| error.context(what))?;
    }
    let mut half = Verb::start(&folder, &json!({}), &["run"])?;
    half.kill().await?;
    std::fs::write(alone.file("half.yaml"), "stackit: {region: eu01, network")?;
    let ended = daemon(&folder, "half.yaml", &systemd).await?;
    one_line(&ended, &["half.yaml"])?;
    ended.with(2)?;
    systemd.said(&["half.yaml"])?;
    assert_eq!(alone.emulator.with_journal(<[_]>::len), 0);
    Ok(())
}

#[tokio::test]
async fn the_daemon_waits_for_what_may_still_come_and_says_so() -> Result<()> {
    let world = World::start().await?;
    let (kubeconfig, key) = (world.file("late.kubeconfig"), world.credentials().join("serviceaccount.json"));
    std::fs::write(&kubeconfig, "apiVersion: v1\nclusters: [")?;
    std::fs::write(&key, "{\"credentials\":")?;
    let systemd = Listener::start(world.file("notify.socket"))?;
    let socket = systemd.path.to_str().context("no UTF-8")?;
    let over = json!({ "kubeconfig": kubeconfig });
    let agent: Agent = world.agent_with("cp-0", over, &[("NOTIFY_SOCKET", socket)]).await?;
    agent.awaits_log(&["WARN", "waiting for a usable kubeconfig", "late.kubeconfig"], SOON).await?;
    systemd.awaits(&["kubeconfig"]).await?;
    let (status, text) = agent.get("/readyz").await?;
    assert!(status == 500 && text.contains("[-]kubeconfig"), "{text}");
    replace(&kubeconfig, &world.control_plane.access(&AGENT).kubeconfig()?)?;
    agent.awaits_log(&["WARN", "serviceaccount.json"], SOON).await?;
    systemd.awaits(&["serviceaccount.json"]).await?;
    let (_, text) = agent.get("/readyz?verbose").await?;
    assert!(text.contains("credentials"), "{text}");
    world.write_key(&world.emulator.service_account_key(&KeyOptions::default())?)?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 1);
    assert!(!agent.log()?.contains("panicked"));
    Ok(())
}
