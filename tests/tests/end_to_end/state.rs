//! How it is: `/state`, the page for people, and the verbs `status` and `plan`.

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tests::agent::{Agent, merge, verb};
use tests::emulator::{Emulator, KeyOptions, Options};
use tests::process::Folder;
use tests::wait::until;
use tests::world::{BALANCER, NETWORK, SHOOT, SOON, World, targets_of};

/// A port that was free a moment ago: a verb must know where its agent listens.
fn free_address() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Runs a verb with these settings: exit code, stdout, stderr.
async fn run(config: &std::path::Path, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let config = config.display().to_string();
    let output = verb(&[arguments, &["--config", &config]].concat()).await?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("output that is no text");
    Ok((output.status.code(), text(output.stdout)?, text(output.stderr)?))
}

/// A settings file for verbs, with `over` merged over what fits this world.
fn settings(world: &World, over: Value) -> Result<std::path::PathBuf> {
    let mut settings = world.settings()?;
    merge(&mut settings, over);
    let file = world.file("verb.yaml");
    std::fs::write(&file, settings.to_string())?;
    Ok(file)
}

/// Asks one of an agent's addresses; status, `Content-Security-Policy` and text.
async fn get(address: &str, path: &str) -> Result<(u16, String, String)> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(format!("http://{address}{path}")).send().await?;
    let policy = answer.headers().get("content-security-policy").map(|policy| policy.to_str().unwrap_or_default());
    let policy = policy.unwrap_or_default().to_owned();
    Ok((answer.status().as_u16(), policy, answer.text().await?))
}

#[tokio::test]
async fn the_state_is_one_request_away_and_holds_no_secret() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({"server": {"metricsBindAddress": "127.0.0.1:0"}})).await?;
    world.awaits_success(SOON).await?;
    let log = agent.log()?;
    let listens: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("listens address=")).map(|(_, a)| a.trim()).collect();
    let [admin, metrics] = listens.as_slice() else { bail!("it listens at {listens:?}") };
    world.set_ready("cp-1", false).await?;
    let seen = until("the whole state", SOON, || async {
        let (status, _, text) = get(admin, "/state").await?;
        ensure!(status == 200, "{status} {text}");
        let seen: Value = serde_json::from_str(&text)?;
        let exposure = &seen["exposures"][0];
        ensure!(exposure["observed"]["settled"] == true && exposure["outcome"]["state"] == "done", "{seen:#}");
        ensure!(exposure["observed"]["targets"].as_array().map(Vec::len) == Some(2), "{seen:#}");
        // What is stored on the object comes a moment later.
        ensure!(exposure["lastOperation"]["state"] == "Succeeded", "{seen:#}");
        ensure!(exposure["recorded"]["version"] == exposure["observed"]["version"], "{seen:#}");
        Ok(seen)
    })
    .await?;
    let node = |name: &str| {
        let nodes = seen["nodes"].as_array().cloned().unwrap_or_default();
        nodes.into_iter().find(|node| node["name"] == name).unwrap_or_default()
    };
    assert_eq!(
        (&node("cp-0")["verdict"], &node("cp-0")["target"], &node("cp-0")["own"]),
        (&json!("healthy"), &json!(true), &json!(true))
    );
    let ill = node("cp-1");
    assert_eq!(
        (&ill["verdict"], &ill["reason"], &ill["target"], &ill["address"]),
        (&json!("not_ready"), &json!("Ready=False"), &json!(false), &json!("10.0.0.11"))
    );
    let exposure = &seen["exposures"][0];
    assert_eq!(exposure["name"], SHOOT);
    assert_eq!(exposure["endpoints"], json!(["cp-0", "cp-2"]));
    assert_eq!(exposure["observed"]["name"], BALANCER);
    assert_eq!(exposure["observed"]["status"], "STATUS_READY");
    assert_eq!(exposure["desired"]["targetPool"], exposure["observed"]["fields"]["targetPool"]);
    assert_eq!(exposure["plan"]["step"], "nothing");
    assert_eq!(exposure["recorded"]["version"], exposure["observed"]["version"]);
    assert_eq!(exposure["lastOperation"]["state"], "Succeeded");
    assert_eq!(seen["lease"]["leads"], true);
    assert!(seen["lease"]["holder"].as_str().is_some_and(|holder| holder.starts_with("cp-0_")), "{}", seen["lease"]);
    assert_eq!(seen["credentials"]["flow"], "key");
    assert!(seen["credentials"]["expires"].is_string(), "{}", seen["credentials"]);
    assert_eq!(seen["settings"]["exposure"]["namespace"], "kube-system");

    let (status, policy, page) = get(admin, "/").await?;
    assert_eq!(status, 200);
    assert!(policy.starts_with("default-src 'none'; style-src"), "{policy}");
    for part in
        ["<!DOCTYPE html>", "http-equiv=\"refresh\"", "cp-0 (this one)", "Ready=False", BALANCER, "nothing to do"]
    {
        assert!(page.contains(part), "no {part} in:\n{page}");
    }
    // Nothing that a browser would load; addresses in the settings are text.
    for part in ["<script", "<link", "<img", "<iframe", "src=", "url(", "@import"] {
        assert!(!page.contains(part), "{part} in:\n{page}");
    }
    let key = std::fs::read_to_string(world.credentials().join("serviceaccount.json"))?;
    let key: Value = serde_json::from_str(&key)?;
    let secret = key["credentials"]["privateKey"].as_str().context("a key")?.lines().nth(1).context("its text")?;
    for text in [page, seen.to_string()] {
        assert!(!text.contains(secret) && !text.contains("PRIVATE KEY") && !text.contains("Bearer"), "a secret");
    }

    // The metrics address is for numbers and probes.
    for path in ["/state", "/"] {
        assert_eq!(get(metrics, path).await?.0, 404);
    }
    assert_eq!(get(metrics, "/metrics").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn status_tells_the_same_from_the_agent_and_from_kubernetes() -> Result<()> {
    let world = World::start().await?;
    let address = free_address()?;
    let agent = world.agent("cp-0", json!({"server": {"bindAddress": address}})).await?;
    world.awaits_success(SOON).await?;
    let here = settings(&world, json!({"server": {"bindAddress": address}}))?;
    let healthy = until("a healthy status", SOON, || async {
        let (code, out, log) = run(&here, &["status", "-o", "json"]).await?;
        ensure!(code == Some(0), "{code:?} {out}{log}");
        Ok(serde_json::from_str::<Value>(&out)?)
    })
    .await?;
    assert_eq!(healthy["source"], "agent");
    assert!(healthy["leader"].as_str().is_some_and(|leader| leader.starts_with("cp-0_")), "{healthy:#}");

    let elsewhere = || settings(&world, json!({"server": {"bindAddress": free_address()?}}));
    let (code, out, log) = run(&elsewhere()?, &["status", "-o", "json"]).await?;
    assert_eq!(code, Some(0), "{out}{log}");
    let told: Value = serde_json::from_str(&out)?;
    assert_eq!(told["source"], "kubernetes");
    for field in ["nodes", "leader", "healthy"] {
        assert_eq!(told[field], healthy[field], "{field}");
    }
    for field in ["targets", "address", "name", "lastError"] {
        assert_eq!(told["exposures"][0][field], healthy["exposures"][0][field], "{field}");
    }

    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;
    let here = settings(&world, json!({"server": {"bindAddress": address}}))?;
    let (code, out, _) = run(&here, &["status"]).await?;
    assert_eq!(code, Some(4));
    for part in ["NODE", "not_ready", "Ready=False", BALANCER, "LEADER", "degraded:\n  node cp-2: Ready=False"] {
        assert!(out.contains(part), "no {part} in:\n{out}");
    }
    let (code, out, _) = run(&here, &["status", "-o", "yaml"]).await?;
    assert_eq!((code, out.contains("healthy: false")), (Some(4), true), "{out}");

    agent.process().terminate()?;
    agent.process().exited(SOON).await?;
    let (code, out, _) = run(&here, &["status"]).await?;
    assert!(code == Some(4) && out.contains("no agent leads"), "{code:?} {out}");
    Ok(())
}

#[tokio::test]
async fn a_plan_is_what_a_pass_would_do_and_changes_nothing() -> Result<()> {
    let world = World::start().await?;
    let file = settings(&world, json!({}))?;
    let json_plan = async || -> Result<(Option<i32>, Value)> {
        let (code, out, log) = run(&file, &["plan", "-o", "json"]).await?;
        Ok((code, serde_json::from_str(&out).with_context(|| format!("{out}{log}"))?))
    };
    let before = world.exposures().get(SHOOT).await?;
    let (code, plan) = json_plan().await?;
    assert_eq!(code, Some(4), "{plan:#}");
    let exposure = &plan["exposures"][0];
    assert_eq!(exposure["loadBalancer"]["step"], "create", "{plan:#}");
    assert_eq!(exposure["endpoints"]["add"], json!(["cp-0", "cp-1", "cp-2"]));
    assert!(world.emulator.balancer(BALANCER).is_none(), "a plan has made a balancer");
    assert_eq!(world.exposures().get(SHOOT).await?.metadata.resource_version, before.metadata.resource_version);
    assert_eq!(world.holder().await?, "", "a plan has taken the Lease");

    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    until("nothing to do", SOON, || async {
        let (code, plan) = json_plan().await?;
        ensure!(code == Some(0) && plan["pending"] == false, "{plan:#}");
        ensure!(plan["exposures"][0]["loadBalancer"]["step"] == "nothing", "{plan:#}");
        Ok(())
    })
    .await?;
    agent.process().terminate()?;
    agent.process().exited(SOON).await?;
    world.set_ready("cp-1", false).await?;
    let writes =
        |world: &World| ["POST", "PUT", "DELETE"].map(|method| world.emulator.count(method, "/load-balancers"));
    let sent = writes(&world);
    let before = world.exposures().get(SHOOT).await?;
    let (code, out, log) = run(&file, &["plan"]).await?;
    assert_eq!(code, Some(4), "{out}{log}");
    for part in
        ["spec.endpoints\n    - cp-1", "load balancer: update `shoot--garden--root-exp-root`", "- targetPool.targets:"]
    {
        assert!(out.contains(part), "no {part} in:\n{out}");
    }
    assert_eq!(writes(&world), sent);
    assert_eq!(world.exposures().get(SHOOT).await?.metadata.resource_version, before.metadata.resource_version);

    // Paused: the same is pending, and who holds it back is said.
    let paused = Patch::Merge(json!({"metadata": {"annotations": {"exposure.gardener.cloud/paused": "true"}}}));
    world.exposures().patch(SHOOT, &PatchParams::default(), &paused).await?;
    let (code, plan) = json_plan().await?;
    assert_eq!(code, Some(4), "{plan:#}");
    assert!(plan["exposures"][0]["waiting"].as_str().is_some_and(|text| text.contains("resumed")), "{plan:#}");
    Ok(())
}

/// Three Nodes by hand, with a comment that nobody may lose.
const NODES: &str = "\
# kept by hand
apiVersion: v1
kind: List
items:
- metadata: {name: cp-0, labels: {node-role.kubernetes.io/control-plane: ''}}
  status: {addresses: [{type: InternalIP, address: 10.0.0.10}], conditions: [{type: Ready, status: 'True'}]}
- metadata:
    name: cp-1  # the old machine
    labels:
      node-role.kubernetes.io/control-plane: ''
  status: {addresses: [{type: InternalIP, address: 10.0.0.11}], conditions: [{type: Ready, status: 'True'}]}
";

#[tokio::test]
async fn without_kubernetes_the_same_verbs_work_on_the_file() -> Result<()> {
    let folder = Folder::new("drained-file")?;
    let emulator = Emulator::start(Options::default()).await?;
    std::fs::create_dir(folder.join("credentials"))?;
    let key = emulator.service_account_key(&KeyOptions::default())?;
    std::fs::write(folder.join("credentials/serviceaccount.json"), key.to_string())?;
    let nodes = folder.join("nodes.yaml");
    std::fs::write(&nodes, NODES)?;
    let settings = json!({
        "nodes": {"source": "File", "file": nodes},
        "exposure": {"name": SHOOT},
        "health": {"probe": {"enabled": false}},
        "server": {"bindAddress": free_address()?},
        "stackit": {
            "credentialsDirectory": folder.join("credentials"), "loadBalancerEndpoint": emulator.url(),
            "projectID": emulator.project(), "region": "eu01", "networkID": NETWORK, "technicalID": "shoot--p--s",
        },
    });
    let agent = Agent::start("cp-0", settings, &folder).await?;
    let config = agent.config();
    let targets = || targets_of(&emulator.balancer("shoot--p--s-exp-root").unwrap_or_default()).len();
    until("a healthy status", SOON, || async {
        let (code, out, log) = run(config, &["status"]).await?;
        ensure!(code == Some(0) && out.contains("healthy"), "{out}{log}");
        Ok(())
    })
    .await?;
    assert_eq!(run(config, &["plan"]).await?.0, Some(0));

    let (code, out, log) = run(config, &["drain", "cp-1", "--wait"]).await?;
    assert_eq!(code, Some(0), "{out}{log}");
    assert_eq!(targets(), 1);
    let text = std::fs::read_to_string(&nodes)?;
    assert!(text.contains("# kept by hand") && text.contains("name: cp-1  # the old machine"), "{text}");
    assert_eq!(text.matches("exposure.gardener.cloud/drain: \"true\"").count(), 1, "{text}");
    let (code, _, log) = run(config, &["drain", "cp-0"]).await?;
    assert!(code == Some(1) && log.contains("no target would be left"), "{log}");
    let (code, out, _) = run(config, &["status"]).await?;
    assert!(code == Some(4) && out.contains("maintenance (drained)"), "{out}");

    assert_eq!(run(config, &["undrain", "cp-1"]).await?.0, Some(0));
    until("both targets", SOON, || async {
        ensure!(targets() == 2, "{}", targets());
        Ok(())
    })
    .await?;
    assert!(!std::fs::read_to_string(&nodes)?.contains("exposure.gardener.cloud/"));
    Ok(())
}
