//! An agent whose own API server is away goes on through the other nodes', and comes back to its own.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::control_plane::link::Link;
use tests::impostor::Impostor;
use tests::process::say;
use tests::wait::until;
use tests::world::{SHOOT, SOON, TECHNICAL_ID, World};

const AWAY: &str = "requests to Kubernetes go through another API server now";
const BACK: &str = "requests to Kubernetes go to the own API server again";
/// The goal is 2 s; the rest is for a machine that does other things as well.
const QUICKLY: Duration = Duration::from_secs(4);

/// The shortest times with which a leader whose API server dies must stay the leader.
fn election() -> Value {
    json!({"leaderElection": {"leaseDuration": "6s", "renewDeadline": "5s", "retryPeriod": "1s"}})
}

/// A world whose agent on cp-0 leads, while the test's client is elsewhere than where it breaks.
async fn led(kubeconfig: impl FnOnce(&World) -> Result<Option<std::path::PathBuf>>) -> Result<(World, Agent, String)> {
    let mut world = World::three().await?;
    world.admin_at("cp-1").await?;
    let mut over = election();
    if let Some(kubeconfig) = kubeconfig(&world)? {
        over["kubeconfig"] = json!(kubeconfig);
    }
    let agent = world.agent("cp-0", over).await?;
    world.awaits_success(SOON).await?;
    world.awaits_holder("cp-0", SOON).await?;
    until("all API servers to be known", SOON, || async {
        let (_, text) = agent.get("/readyz?verbose").await?;
        ensure!(text.contains("[+]kubernetes ok\n"), "{text}");
        Ok(())
    })
    .await?;
    let holder = world.holder().await?;
    Ok((world, agent, holder))
}

/// The fault has just happened: requests go elsewhere in time, Nodes are still acted on, the leader stays. `targets` are
/// those that the fault leaves, where the test is about them.
async fn goes_on(world: &World, agent: &Agent, holder: &str, fault: SystemTime, targets: &[&str]) -> Result<()> {
    let addresses: Vec<String> =
        ["cp-1", "cp-2"].iter().map(|node| format!("server={}", world.api_server(node).address().ip())).collect();
    agent.awaits_log(&[AWAY, "left=own"], SOON).await?;
    let line = line(agent, AWAY)?;
    ensure!(addresses.iter().any(|address| line.contains(address)), "neither of {addresses:?}: {line}");
    let took = at(&line)?.duration_since(fault).unwrap_or_default();
    say(&format!("{took:?} from the fault to the switch"));
    ensure!(took < QUICKLY, "{took:?}: {line}");
    until("/readyz to say so", SOON, || async {
        let (_, text) = agent.get("/readyz?verbose").await?;
        ensure!(text.contains("[+]kubernetes ok, degraded: the own API server is away"), "{text}");
        Ok(())
    })
    .await?;
    if !targets.is_empty() {
        world.awaits_targets(targets, SOON).await?;
    }
    let changed = SystemTime::now();
    world.set_ready("cp-2", false).await?;
    until("the target of cp-2 to leave", SOON, || async {
        let targets = world.targets();
        ensure!(!targets.is_empty() && !targets.iter().any(|target| target.starts_with("cp-2 ")), "{targets:?}");
        Ok(())
    })
    .await?;
    say(&format!("{:?} from a Node's change to its target's end", changed.elapsed().unwrap_or_default()));
    // Longer than the renew deadline.
    let transitions = "shoot_exposure_leader_transitions_total";
    until("time to pass", SOON, || async {
        let past = fault.elapsed().unwrap_or_default();
        ensure!(past > Duration::from_secs(8), "{past:?}");
        Ok(())
    })
    .await?;
    ensure!(world.holder().await? == holder, "another holds the Lease");
    ensure!(agent.metric(transitions).await? == 0.0, "the leader has changed");
    ensure!(!agent.log()?.contains("standing back"), "it stood back");
    world.set_ready("cp-2", true).await
}

async fn comes_back(world: &World, agent: &Agent, holder: &str) -> Result<()> {
    agent.awaits_log(&[BACK], SOON).await?;
    until("/readyz to say so", SOON, || async {
        let (status, text) = agent.get("/readyz?verbose").await?;
        ensure!(status == 200 && text.contains("[+]kubernetes ok\n"), "{status} {text}");
        Ok(())
    })
    .await?;
    world.awaits_targets(&["cp-0", "cp-1", "cp-2"], Duration::from_secs(60)).await?;
    ensure!(world.holder().await? == holder, "another holds the Lease");
    world.check_invariants()
}

/// The last line that holds these words.
fn line(agent: &Agent, words: &str) -> Result<String> {
    let log = agent.log()?;
    log.lines().rev().find(|line| line.contains(words)).map(str::to_owned).context("not in the log")
}

fn count(agent: &Agent, words: &str) -> Result<usize> {
    Ok(agent.log()?.lines().filter(|line| line.contains(words)).count())
}

/// When a line was written.
fn at(line: &str) -> Result<SystemTime> {
    let stamp = line.split_whitespace().next().context("an empty line")?;
    Ok(stamp.parse::<Timestamp>().with_context(|| format!("no time: {line}"))?.into())
}

#[tokio::test]
async fn each_node_has_an_api_server_of_its_own() -> Result<()> {
    let mut world = World::three().await?;
    let _agent = world.agent("cp-1", json!({})).await?;
    world.awaits_success(SOON).await?;
    let targets = world.targets();
    for (target, server) in targets.iter().zip(world.control_plane.api_servers()) {
        assert!(target.ends_with(&format!(" {}", server.address().ip())), "{targets:?}");
    }
    // The agent's own one is neither of these.
    world.admin_at("cp-2").await?;
    world.api_server("cp-0").kill()?;
    world.set_ready("cp-0", false).await?;
    world.awaits_targets(&["cp-1", "cp-2"], SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn a_killed_one_is_refused_and_left_at_once() -> Result<()> {
    let (world, agent, holder) = led(|_| Ok(None)).await?;
    let fault = SystemTime::now();
    world.api_server("cp-0").kill()?;
    goes_on(&world, &agent, &holder, fault, &["cp-1", "cp-2"]).await?;
    assert_eq!((count(&agent, AWAY)?, count(&agent, BACK)?), (1, 0), "each switch is said once");
    world.api_server("cp-0").restart().await?;
    comes_back(&world, &agent, &holder).await
}

#[tokio::test]
async fn a_hanging_one_is_left() -> Result<()> {
    let (world, agent, holder) = led(|_| Ok(None)).await?;
    let fault = SystemTime::now();
    world.api_server("cp-0").process().pause()?;
    goes_on(&world, &agent, &holder, fault, &["cp-1", "cp-2"]).await?;
    world.api_server("cp-0").process().resume()?;
    comes_back(&world, &agent, &holder).await
}

/// Its watches go on, from a cache that shows nothing new.
#[tokio::test]
async fn one_without_etcd_is_left_though_its_watches_look_alive() -> Result<()> {
    let (world, agent, holder) = led(|_| Ok(None)).await?;
    let fault = SystemTime::now();
    world.link("cp-0").stall();
    goes_on(&world, &agent, &holder, fault, &[]).await?;
    world.link("cp-0").heal();
    comes_back(&world, &agent, &holder).await
}

/// The way to its API server, and a kubeconfig that leads over it.
fn over(slot: &mut Option<Link>) -> impl FnOnce(&World) -> Result<Option<std::path::PathBuf>> {
    move |world| {
        let way = slot.insert(world.api_server("cp-0").link()?);
        world.kubeconfig_over("cp-0", way).map(Some)
    }
}

#[tokio::test]
async fn one_whose_connections_are_reset_is_left() -> Result<()> {
    let mut way = None;
    let (world, agent, holder) = led(over(&mut way)).await?;
    let way = way.context("no way")?;
    let fault = SystemTime::now();
    way.cut();
    // The node itself is well, and so is its target.
    goes_on(&world, &agent, &holder, fault, &["cp-0", "cp-1", "cp-2"]).await?;
    way.heal();
    comes_back(&world, &agent, &holder).await
}

#[tokio::test]
async fn one_that_takes_connections_and_says_nothing_is_left() -> Result<()> {
    let mut way = None;
    let (world, agent, holder) = led(over(&mut way)).await?;
    let way = way.context("no way")?;
    let fault = SystemTime::now();
    way.stall();
    goes_on(&world, &agent, &holder, fault, &["cp-0", "cp-1", "cp-2"]).await?;
    way.heal();
    comes_back(&world, &agent, &holder).await
}

/// Without other servers to go to: what is open must be found dead, and dialled anew.
#[tokio::test]
async fn half_open_connections_are_noticed_within_ten_seconds() -> Result<()> {
    let world = World::start().await?;
    let way = world.api_server("cp-0").link()?;
    let mut over = election();
    over["kubeconfig"] = json!(world.kubeconfig_over("cp-0", &way)?);
    let agent = world.agent("cp-0", over).await?;
    world.awaits_success(SOON).await?;
    let holder = world.holder().await?;
    for ready in [false, true] {
        way.strand();
        world.set_ready("cp-2", ready).await?;
        let all = ["cp-0", "cp-1", "cp-2"];
        let before = SystemTime::now();
        world.awaits_targets(if ready { &all } else { &all[..2] }, Duration::from_secs(12)).await?;
        say(&format!("{:?} from the strand to the target's change", before.elapsed().unwrap_or_default()));
    }
    assert_eq!(world.holder().await?, holder);
    assert!(!agent.log()?.contains("standing back"));
    world.check_invariants()
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_sees_no_token() -> Result<()> {
    let mut world = World::three().await?;
    world.admin_at("cp-2").await?;
    world.api_server("cp-1").kill()?;
    let impostor = Impostor::start(world.api_server("cp-1").address()).await?;
    let agent = world.agent("cp-0", election()).await?;
    world.awaits_success(SOON).await?;
    // Nobody else is left to be asked.
    for node in ["cp-0", "cp-2"] {
        world.api_server(node).kill()?;
    }
    until("requests to have come to the impostor", SOON, || async {
        let (_, text) = agent.get("/readyz?verbose").await?;
        ensure!(text.contains("not ready") && agent.log()?.contains("invalid peer certificate"), "{text}");
        Ok(())
    })
    .await?;
    assert!(impostor.visits() > 0);
    assert_eq!(String::from_utf8_lossy(&impostor.read()), "", "it read something");
    world.api_server("cp-0").restart().await?;
    until("the own API server to be used again", SOON, || async {
        let (_, text) = agent.get("/readyz?verbose").await?;
        ensure!(text.contains("[+]kubernetes ok\n"), "{text}");
        Ok(())
    })
    .await?;
    assert_eq!(String::from_utf8_lossy(&impostor.read()), "", "it read something");
    Ok(())
}

#[tokio::test]
async fn the_balancers_own_address_is_never_used_and_warned_about() -> Result<()> {
    let mut world = World::three().await?;
    // An address that is both: what would come back to us through the balancer.
    let address = world.api_server("cp-1").address().ip();
    let patch = json!({"status": {"ingress": [{"ip": address}]}}).to_string();
    let arguments = ["patch", "selfhostedshootexposures.extensions.gardener.cloud", SHOOT, "--namespace=kube-system"];
    let arguments = [&arguments[..], &["--subresource=status", "--type=merge", "-p", &patch]].concat();
    let output = world.control_plane.kubectl(&tests::control_plane::users::ADMIN, &arguments).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.admin_at("cp-2").await?;
    // Nobody writes another address.
    let over = json!({"controllers": {"exposure": false}});
    let agent = world.agent("cp-0", over.clone()).await?;
    // Of two that start together either may be the first to create the Lease.
    world.awaits_holder("cp-0", SOON).await?;
    let warned = world.agent("cp-1", over).await?;
    warned.awaits_log(&["the kubeconfig's server is the balancer's own address"], SOON).await?;
    assert!(world.holder().await?.starts_with("cp-0_"));
    assert_eq!(count(&warned, "the balancer's own address")?, 1);
    assert_eq!(count(&agent, "the balancer's own address")?, 0);
    world.api_server("cp-0").kill()?;
    agent.awaits_log(&[AWAY], SOON).await?;
    let server = format!("server={} ", world.api_server("cp-2").address().ip());
    assert!(line(&agent, AWAY)?.contains(&server), "{}", line(&agent, AWAY)?);
    world.api_server("cp-2").kill()?;
    until("no server to be left", SOON, || async {
        let (_, text) = agent.get("/readyz?verbose").await?;
        ensure!(text.contains("no API server is ready") || text.contains("no other one is known to be"), "{text}");
        Ok(())
    })
    .await?;
    assert!(!agent.log()?.contains(&format!("server={address} ")), "it went to the balancer");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_starts_while_its_own_is_away_asks_the_balancer_where_the_others_are() -> Result<()> {
    let mut world = World::three().await?;
    let first = world.agent("cp-1", election()).await?;
    world.awaits_success(SOON).await?;
    world.admin_at("cp-2").await?;
    world.api_server("cp-0").kill()?;
    world.awaits_targets(&["cp-1", "cp-2"], SOON).await?;
    let mut over = election();
    over["exposure"] = json!({"name": SHOOT, "port": world.port()});
    over["stackit"] = json!({"region": "eu01", "technicalID": TECHNICAL_ID});
    let agent = world.agent("cp-0", over).await?;
    until("everything to be listed", SOON, || async {
        let (status, text) = agent.get("/readyz?verbose").await?;
        ensure!(status == 200 && text.contains("the own API server is away"), "{status} {text}");
        Ok(())
    })
    .await?;
    // It works like any other: it takes over, and acts.
    first.process().kill()?;
    world.awaits_holder("cp-0", SOON).await?;
    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-1"], SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn without_fallback_it_waits_for_its_own() -> Result<()> {
    let mut world = World::three().await?;
    world.admin_at("cp-1").await?;
    let agent = world.agent("cp-0", json!({"kubernetes": {"fallback": false}})).await?;
    world.awaits_success(SOON).await?;
    world.api_server("cp-0").kill()?;
    until("/readyz to say so", SOON, || async {
        let (_, text) = agent.get("/readyz?verbose").await?;
        ensure!(text.contains("degraded: the own API server is not ready"), "{text}");
        Ok(())
    })
    .await?;
    // Its target goes by the probes all the same.
    world.awaits_targets(&["cp-1", "cp-2"], SOON).await?;
    assert_eq!(count(&agent, AWAY)?, 0);
    world.check_invariants()
}
