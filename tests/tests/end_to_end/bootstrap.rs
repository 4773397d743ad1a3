//! `bootstrap`: the balancer before there is a control plane, and what becomes of it when there is one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::alone::{Alone, complete};
use tests::control_plane::ControlPlane;
use tests::control_plane::users::AGENT;
use tests::emulator::{Action, Delays, Fault};
use tests::process::Folder;
use tests::wait::until;
use tests::world::{BALANCER, SHOOT, SOON, World, healthy};

/// Time for a whole bootstrap.
const LONG: Duration = Duration::from_secs(60);
const NAMED: [&str; 5] = ["bootstrap", "--endpoint", "cp-0=10.0.0.10", "--endpoint", "cp-1=10.0.0.11"];

fn posts(emulator: &tests::emulator::Handle) -> usize {
    emulator.count("POST", "/load-balancers")
}

fn writes(emulator: &tests::emulator::Handle) -> usize {
    ["POST", "PUT", "DELETE"].map(|method| emulator.count(method, "/load-balancers")).iter().sum()
}

#[tokio::test]
async fn before_any_api_server_named_nodes_are_enough_and_the_next_run_adopts() -> Result<()> {
    let alone = Alone::start().await?;
    let ended = alone.verb(json!({}), &[&NAMED[..], &["-o", "json"]].concat())?.ended(LONG).await?.with(0)?;
    let made = ended.json()?;
    let address = alone.emulator.balancer(BALANCER).context("no balancer")?["externalAddress"].clone();
    assert_eq!((&made["ready"], &made["ingress"][0]["ip"]), (&json!(true), &address));
    assert_eq!((&made["kind"], &made["loadBalancer"]["name"]), (&json!("BootstrapResult"), &json!(BALANCER)));
    assert_eq!((&made["exposure"], &made["endpoints"][1]["nodeName"]), (&Value::Null, &json!("cp-1")));
    assert_eq!(alone.targets(), ["cp-0 10.0.0.10", "cp-1 10.0.0.11"]);
    assert!(ended.stderr.contains("is not there: the balancer alone is made"), "{}", ended.stderr);

    let again = alone.verb(json!({}), &NAMED)?.ended(LONG).await?.with(0)?;
    assert_eq!(again.stdout.trim(), address.as_str().unwrap_or_default());
    // One more node: what is there stays.
    alone.verb(json!({}), &["bootstrap", "--endpoint", "cp-2=10.0.0.12", "-o", "yaml"])?.ended(LONG).await?.with(0)?;
    assert_eq!(alone.targets().len(), 3);
    assert_eq!((posts(&alone.emulator), writes(&alone.emulator)), (1, 2));
    Ok(())
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_told_as_a_whole() -> Result<()> {
    let alone = Alone::start().await?;
    let nothing = json!({
        "exposure": {"name": ""}, "stackit": {"region": "", "networkID": "", "technicalID": "", "credentialsDirectory": "/nowhere"},
    });
    let ended = alone.verb(nothing, &["bootstrap"])?.ended(LONG).await?.with(2)?;
    for word in [
        "exposure.name",
        "stackit.region",
        "stackit.networkID",
        "stackit.technicalID",
        "stackit.projectID",
        "--endpoint",
    ] {
        assert!(ended.stderr.contains(word), "no {word} in {}", ended.stderr);
    }
    let wrong = ["bootstrap", "--endpoint", "cp-0", "--endpoint", "cp-1=somewhere"];
    let ended = alone.verb(json!({}), &wrong)?.ended(LONG).await?.with(2)?;
    assert!(ended.stderr.contains("cp-0: write NAME=IP") && ended.stderr.contains("\"somewhere\""), "{}", ended.stderr);
    assert_eq!(writes(&alone.emulator), 0);
    Ok(())
}

#[tokio::test]
async fn a_node_list_in_a_file_serves_as_well() -> Result<()> {
    let alone = Alone::start().await?;
    let file = alone.file("nodes.yaml");
    let node = json!({
        "metadata": {"name": "cp-0", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.10"}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    });
    std::fs::write(&file, json!({"kind": "List", "items": [node]}).to_string())?;
    let over = json!({"nodes": {"source": "File", "file": file}, "health": {"probe": {"enabled": false}}});
    alone.verb(over, &["bootstrap", "--endpoint", "cp-1=10.0.0.11"])?.ended(LONG).await?.with(0)?;
    assert_eq!(alone.targets(), ["cp-0 10.0.0.10", "cp-1 10.0.0.11"]);
    Ok(())
}

#[tokio::test]
async fn killed_after_the_post_the_next_run_goes_on_with_the_same_balancer() -> Result<()> {
    let alone = Alone::start().await?;
    let late = Fault::new(Action::LateAnswer { milliseconds: 60_000 }).method("POST").path("/load-balancers").once();
    alone.emulator.inject(late);
    let mut first = alone.verb(json!({}), &NAMED)?;
    until("the balancer", SOON, || async {
        ensure!(alone.emulator.balancer(BALANCER).is_some(), "{}", first.said()?);
        Ok(())
    })
    .await?;
    first.kill().await?;
    alone.verb(json!({}), &NAMED)?.ended(LONG).await?.with(0)?;
    assert_eq!((posts(&alone.emulator), alone.emulator.balancers().len()), (1, 1));

    // The same where there is a Kubernetes: record and finalizer were stored before, the status was not.
    let world = World::without_exposure().await?;
    let late = Fault::new(Action::LateAnswer { milliseconds: 60_000 }).method("POST").path("/load-balancers").once();
    world.emulator.inject(late);
    let mut first = world.verb(World::quick_election(), &["bootstrap"])?;
    until("the balancer", SOON, || async {
        ensure!(world.emulator.balancer(BALANCER).is_some(), "{}", first.said()?);
        Ok(())
    })
    .await?;
    first.kill().await?;
    assert!(world.status().await?["ingress"].is_null());
    world.verb(World::quick_election(), &["bootstrap"])?.ended(LONG).await?.with(0)?;
    healthy(&world.exposures().get(SHOOT).await?)?;
    assert_eq!((posts(&world.emulator), world.emulator.balancers().len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn two_at_once_make_one_balancer() -> Result<()> {
    let alone = Alone::start().await?;
    let (mut one, mut two) = (alone.verb(json!({}), &NAMED)?, alone.verb(json!({}), &NAMED)?);
    let (one, two) = tokio::join!(one.ended(LONG), two.ended(LONG));
    let (one, two) = (one?.with(0)?, two?.with(0)?);
    assert_eq!(one.stdout, two.stdout);
    assert_eq!((alone.emulator.balancers().len(), alone.targets().len()), (1, 2));

    let world = World::without_exposure().await?;
    let (mut one, mut two) = (world.verb(json!({}), &["bootstrap"])?, world.verb(json!({}), &["bootstrap"])?);
    let (one, two) = tokio::join!(one.ended(LONG), two.ended(LONG));
    assert_eq!(one?.with(0)?.stdout, two?.with(0)?.stdout);
    assert_eq!((posts(&world.emulator), world.emulator.balancers().len()), (1, 1));
    healthy(&world.exposures().get(SHOOT).await?)?;
    assert_eq!(world.holder().await?, "");
    world.check_invariants()
}

#[tokio::test]
async fn when_time_is_up_it_says_what_was_waiting_and_can_be_run_again() -> Result<()> {
    let alone = Alone::start().await?;
    alone.emulator.set_delays(Delays { create: Duration::from_secs(600), ..Delays::default() });
    let short = ["--timeout", "3s", "-o", "json"];
    let ended = alone.verb(json!({}), &[&NAMED[..], &short].concat())?.ended(LONG).await?.with(3)?;
    assert!(
        ended.stderr.contains("error: not done after 3s: waiting for the load balancer (STATUS_PENDING)"),
        "{}",
        ended.stderr
    );
    let told = ended.json()?;
    assert_eq!(told["ready"], false);
    assert!(told["waitingFor"].as_str().unwrap_or_default().contains("STATUS_PENDING"), "{told}");
    alone.emulator.advance(Duration::from_secs(600));
    alone.verb(json!({}), &NAMED)?.ended(LONG).await?.with(0)?;
    assert_eq!(posts(&alone.emulator), 1);
    Ok(())
}

#[tokio::test]
async fn each_step_is_a_line_that_says_how_long_it_takes_and_sigusr1_asks_for_the_current_one() -> Result<()> {
    let alone = Alone::start().await?;
    alone.emulator.set_delays(Delays { create: Duration::from_secs(600), ..Delays::default() });
    let mut verb = alone.verb(json!({}), &NAMED)?;
    let step = "5/6 waiting for the load balancer (STATUS_PENDING)";
    verb.awaits_said(&format!("{step}; usually 1 to 2 min\n"), SOON).await?;
    assert_eq!(verb.said()?.matches(step).count(), 1);
    verb.signal(Signal::SIGUSR1)?;
    verb.awaits_said(&format!("{step}, for "), SOON).await?;
    verb.awaits_said(" s until --timeout\n", SOON).await?;
    assert!(!verb.said()?.contains('\r'), "a bar where no terminal is");
    // Whoever ends it is told that the next run goes on.
    verb.signal(Signal::SIGTERM)?;
    let ended = verb.ended(SOON).await?.with(1)?;
    assert!(ended.stderr.contains("the next run goes on from here"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn on_a_terminal_there_is_a_bar() -> Result<()> {
    let alone = Alone::start().await?;
    let pty = nix::pty::openpty(None, None)?;
    let config = alone.file("terminal.yaml");
    std::fs::write(&config, alone.settings().to_string())?;
    let mut command = tokio::process::Command::new(tests::agent::binary()?);
    command.args(NAMED).arg("--config").arg(&config).env_remove("KUBECONFIG").kill_on_drop(true);
    command.stdin(pty.slave.try_clone()?).stdout(std::process::Stdio::piped()).stderr(pty.slave);
    let child = command.spawn()?;
    drop(command);
    let screen = tokio::task::spawn_blocking(move || {
        use std::io::Read;
        let (mut text, mut terminal) = (Vec::new(), std::fs::File::from(pty.master));
        // When the last writer is gone, a terminal answers with an error instead of an end.
        let _ = terminal.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let ended = tokio::time::timeout(LONG, child.wait_with_output()).await??;
    assert_eq!(ended.status.code(), Some(0));
    let address = alone.emulator.balancer(BALANCER).context("no balancer")?["externalAddress"].clone();
    assert_eq!(String::from_utf8(ended.stdout)?.trim(), address.as_str().unwrap_or_default());
    let screen = screen.await?;
    for part in
        ["\r", "[#", " %  5/6 waiting for the load balancer (STATUS_PENDING), for ", "usually 1 to 2 min\u{1b}[K"]
    {
        assert!(screen.contains(part), "no {part:?} in {screen:?}");
    }
    assert!(screen.contains(&format!("\r\u{1b}[Kready at {}", address.as_str().unwrap_or_default())), "{screen:?}");
    Ok(())
}

/// Writes that the agent's account has made since `from`, the Lease aside.
fn audited(log: &Path, from: usize) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(log)?;
    let mut writes = Vec::new();
    for line in text.lines().skip(from) {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let (verb, object) = (event["verb"].as_str().unwrap_or_default(), &event["objectRef"]);
        let ours = event["user"]["username"] == AGENT.name && object["resource"] != "leases";
        if ours && ["create", "update", "patch", "delete"].contains(&verb) {
            let at = &event["requestReceivedTimestamp"];
            let (resource, part, body) = (&object["resource"], &object["subresource"], &event["requestObject"]);
            writes.push(format!("{verb} {resource}/{part} at {at}: {body}, answered {}", event["responseStatus"]));
        }
    }
    Ok(writes)
}

/// As [`World::without_exposure`], and a file with every request and what it sends.
async fn audited_world(folder: &Folder, api_servers: u8) -> Result<World> {
    let (policy, log) = (folder.join("policy.yaml"), folder.join("audit.log"));
    let rules = json!([{"level": "Request", "omitStages": ["RequestReceived"]}]);
    std::fs::write(&policy, json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}).to_string())?;
    let mut builder = ControlPlane::builder().api_servers(api_servers);
    if api_servers > 1 {
        builder = builder.links();
    }
    let flags = [("audit-policy-file", &policy), ("audit-log-path", &log)];
    for (name, file) in flags {
        builder = builder.flag(format!("--{name}={}", file.display()));
    }
    World::managed(builder.flag("--audit-log-mode=blocking")).await
}

/// Bootstrap alone, again with an API server, and then the daemon: nothing is written that is there already.
async fn grows_into_a_cluster(api_servers: u8) -> Result<()> {
    let folder = Folder::new("audit")?;
    let world = audited_world(&folder, api_servers).await?;
    let log = folder.join("audit.log");
    let nodes = ["cp-0", "cp-1", "cp-2"];
    let mut arguments = vec!["bootstrap".to_owned()];
    for (index, node) in nodes.iter().enumerate() {
        let own = world.control_plane.api_servers().get(index).filter(|_| api_servers > 1);
        let address = own.map_or_else(|| format!("10.0.0.1{index}"), |own| own.address().ip().to_string());
        arguments.extend(["--endpoint".to_owned(), format!("{node}={address}")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut over = complete();
    over["exposure"]["port"] = json!(world.port());
    let mut before = over.clone();
    before["kubeconfig"] = json!(folder.join("not-there-yet"));
    let first = world.verb(before, &arguments)?.ended(LONG).await?.with(0)?;
    assert!(world.exposures().get_opt(SHOOT).await?.is_none());

    let again = world.verb(over.clone(), &arguments)?.ended(LONG).await?.with(0)?;
    assert_eq!(first.stdout, again.stdout);
    let object = world.exposures().get(SHOOT).await?;
    healthy(&object)?;
    assert_eq!(object.data["status"]["ingress"][0]["ip"], first.stdout.trim());
    assert_eq!(object.data["spec"]["port"], json!(world.port()));
    assert_eq!((posts(&world.emulator), writes(&world.emulator)), (1, 1));
    assert_eq!(world.holder().await?, "");

    let (lines, reads) =
        (std::fs::read_to_string(&log)?.lines().count(), world.emulator.count("GET", "/load-balancers/"));
    ensure!(!audited(&log, 0)?.is_empty(), "the audit log does not see writes");
    let agent = world.agent("cp-0", over).await?;
    agent.awaits_log(&["the balancer is as desired"], SOON).await?;
    // A new leader looks again after 5 s: whatever it would have written after the first look is written by then.
    until("two more looks at the balancer", SOON, || async {
        let seen = world.emulator.count("GET", "/load-balancers/") - reads;
        ensure!(seen >= 2, "{seen}");
        Ok(())
    })
    .await?;
    let written = audited(&log, lines)?;
    ensure!(written.is_empty(), "{written:?} while it said:\n{}\n{}", agent.log()?, world.status().await?);
    assert_eq!(writes(&world.emulator), 1);
    assert_eq!(world.targets().len(), 3);
    Ok(())
}

#[tokio::test]
async fn again_with_an_api_server_it_adopts_and_the_daemon_writes_nothing() -> Result<()> {
    grows_into_a_cluster(1).await
}

#[tokio::test]
async fn nor_does_the_daemon_write_where_it_asks_the_api_servers_themselves() -> Result<()> {
    grows_into_a_cluster(3).await
}

#[tokio::test]
async fn where_another_agent_leads_the_object_is_made_and_the_leader_does_the_rest() -> Result<()> {
    let world = World::without_exposure().await?;
    let _agent = world.agent("cp-0", World::quick_election()).await?;
    world.awaits_holder("cp-0", SOON).await?;
    let ended = world.verb(World::quick_election(), &["bootstrap", "-o", "json"])?.ended(LONG).await?.with(0)?;
    let made = ended.json()?;
    assert_eq!((&made["exposure"]["name"], &made["loadBalancer"]["name"]), (&json!(SHOOT), &json!(BALANCER)));
    healthy(&world.exposures().get(SHOOT).await?)?;
    world.awaits_holder("cp-0", SOON).await?;
    assert_eq!(posts(&world.emulator), 1);
    Ok(())
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone() -> Result<()> {
    let world = World::without_exposure().await?;
    world.create_exposure(json!({"spec": {"type": "other"}})).await?;
    let over = json!({"exposure": {"name": SHOOT}});
    let ended = world.verb(over, &["bootstrap"])?.ended(LONG).await?.with(2)?;
    assert!(ended.stderr.contains("is of type `other`"), "{}", ended.stderr);
    // The daemon does not touch it either, where it may make one of that name.
    let over = json!({"exposure": {"name": SHOOT, "createIfMissing": true}});
    let agent = world.agent("cp-0", over).await?;
    world.awaits_holder("cp-0", SOON).await?;
    agent.awaits_log(&["taking care of it"], SOON).await?;
    until("somebody else's object to be noticed", SOON, || async {
        ensure!(agent.log()?.contains("of somebody else"), "not yet");
        Ok(())
    })
    .await?;
    let object = world.exposures().get(SHOOT).await?;
    assert_eq!((object.metadata.finalizers, &object.data["status"]), (None, &Value::Null));
    assert_eq!(writes(&world.emulator), 0);
    Ok(())
}

#[tokio::test]
async fn before_the_kind_is_known_the_balancer_alone_is_made() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let alone = Alone::start().await?;
    let over = json!({"kubeconfig": control_plane.kubeconfig(&AGENT)?});
    let ended = alone.verb(over, &NAMED)?.ended(LONG).await?.with(0)?;
    assert!(ended.stderr.contains("does not know SelfHostedShootExposures"), "{}", ended.stderr);
    assert_eq!(alone.targets().len(), 2);
    Ok(())
}
