//! Each right that `config/rbac.yaml` grants is needed: taken away alone, it breaks the function that config/README.md names,
//! and the agent says which verb on which resource it lacks.
//!
//! One API server, one row after another: the right goes, whatever needs it is made to happen, the refusal shows in the
//! agent's own words, the right comes back. That a right is gone is awaited by asking the API server; what it proves is
//! the function that breaks.

mod answering;
mod rights;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::control_plane::users::{ADMIN, AGENT};
use tests::wait::until;
use tests::world::{NODES, SHOOT, SOON, World, healthy};

use answering::Answering;
use rights::{RIGHTS, Right};

/// Long enough for silence to be believed.
const LONG: Duration = Duration::from_secs(40);

/// Whether the agent's account may do this, as the API server answers now.
async fn may(world: &World, right: &Right, verb: &str) -> Result<bool> {
    let client = world.control_plane.client(&AGENT).await?;
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    let group = match right.resource {
        "nodes" | "pods" | "secrets" => "",
        "leases" => "coordination.k8s.io",
        "events" => "events.k8s.io",
        _ => "extensions.gardener.cloud",
    };
    let name = match (right.resource, right.namespace) {
        ("clusters", _) => Some("kube-system"),
        ("secrets", _) => Some("cloudprovider"),
        ("leases", "kube-system") if verb != "create" => Some("shoot-exposure-agent"),
        _ => None,
    };
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((right.resource, ""));
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let attributes = ResourceAttributes {
        group: some(group),
        namespace: some(right.namespace),
        resource: some(resource),
        subresource: some(subresource),
        verb: some(verb),
        name: name.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Rules without one verb on one resource.
fn without(rules: &[PolicyRule], resource: &str, verb: &str) -> Vec<PolicyRule> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        if rule.resources.iter().flatten().any(|name| name == resource) {
            rule.verbs.retain(|name| name != verb);
        }
    }
    rules.retain(|rule| !rule.verbs.is_empty());
    rules
}

/// Replaces the rules of the role, and gives back the former ones.
async fn replace_rules<K>(
    api: Api<K>,
    rules: impl FnOnce(&mut K) -> &mut Option<Vec<PolicyRule>>,
    new: impl FnOnce(&[PolicyRule]) -> Vec<PolicyRule>,
) -> Result<Vec<PolicyRule>>
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let mut role = api.get("shoot-exposure-agent").await?;
    let place = rules(&mut role);
    let former = place.clone().unwrap_or_default();
    *place = Some(new(&former));
    api.replace("shoot-exposure-agent", &PostParams::default(), &role).await?;
    Ok(former)
}

async fn rules(
    world: &World,
    namespace: &str,
    new: impl FnOnce(&[PolicyRule]) -> Vec<PolicyRule>,
) -> Result<Vec<PolicyRule>> {
    if namespace.is_empty() {
        return replace_rules(Api::<ClusterRole>::all(world.admin.clone()), |role| &mut role.rules, new).await;
    }
    replace_rules(Api::<Role>::namespaced(world.admin.clone(), namespace), |role| &mut role.rules, new).await
}

async fn awaits_right(world: &World, right: &Right, verb: &str, allowed: bool) -> Result<()> {
    until(&format!("{verb} {} to be {allowed}", right.resource), SOON, || async {
        ensure!(may(world, right, verb).await? == allowed, "not yet");
        Ok(())
    })
    .await
}

/// What the agent lacks, as it must say it.
fn lacks(verb: &str, resource: &str) -> String {
    format!("cannot {verb} resource \"{resource}\"")
}

/// Waits until one line of the log has all of these words; inside of a field the log escapes quotes.
async fn says(agent: &Agent, words: &[&str], deadline: Duration) -> Result<()> {
    until(&format!("{words:?} in the log"), deadline, || async {
        let log = agent.log()?.replace("\\\"", "\"");
        ensure!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "{}", agent.process().tail(10));
        Ok(())
    })
    .await
}

async fn edit_exposure(world: &World, patch: Value) -> Result<()> {
    world.exposures().patch(SHOOT, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn pause(world: &World, agent: &Agent, paused: bool) -> Result<()> {
    let value = if paused { json!("true") } else { Value::Null };
    edit_exposure(world, json!({"metadata": {"annotations": {"exposure.gardener.cloud/paused": value}}})).await?;
    agent.awaits_metric("shoot_exposure_paused", if paused { 1.0 } else { 0.0 }, SOON).await
}

/// Makes the agent need the right that is gone, and awaits that it says what it lacks.
async fn breaks(world: &World, right: &Right, verb: &str, servers: &Answering) -> Result<()> {
    let lacks = lacks(verb, right.resource);
    let dns = json!({"controllers": {"dns": true}});
    let secret = json!({"stackit": {"credentials": "SecretRef"}});
    let start = async |over: Value| world.agent("cp-0", over).await;
    match (right.namespace, right.resource, verb) {
        (_, "selfhostedshootexposures" | "selfhostedshootexposures/status", "get" | "patch" | "create" | "delete") => {
            breaks_exposures(world, right, verb, &lacks).await?;
        }
        ("", "nodes", "patch") => {
            let ended = world.verb(json!({}), &["drain", "cp-2"])?.ended(LONG).await?.with(1)?;
            ensure!(ended.stderr.contains(&lacks), "{}", ended.stderr);
        }
        (_, "dnsrecords", "patch") => {
            let stale = Patch::Merge(json!({"spec": {"values": ["192.0.2.1"]}}));
            world.dynamic("DNSRecord").patch("root-external", &PatchParams::default(), &stale).await?;
            let agent = start(dns).await?;
            says(&agent, &["writing DNSRecord", &lacks], SOON).await?;
        }
        (_, "dnsrecords", _) => says(&start(dns).await?, &["cannot watch", &lacks], SOON).await?,
        (_, "events", "create") => {
            let agent = start(json!({})).await?;
            world.awaits_holder("cp-0", SOON).await?;
            pause(world, &agent, true).await?;
            says(&agent, &["cannot write events", &lacks], SOON).await?;
            pause(world, &agent, false).await?;
        }
        (_, "events", "patch") => {
            // The same event again becomes a count in the one that is there.
            let agent = start(json!({})).await?;
            world.awaits_holder("cp-0", SOON).await?;
            for paused in [true, false, true] {
                pause(world, &agent, paused).await?;
            }
            says(&agent, &["cannot write events", &lacks], SOON).await?;
            pause(world, &agent, false).await?;
        }
        (_, "secrets", _) => says(&start(secret).await?, &["cannot watch", &lacks], SOON).await?,
        ("kube-system", "leases", "create") => {
            let leases: Api<Lease> = Api::namespaced(world.admin.clone(), "kube-system");
            // Perhaps nobody has ever led.
            let _ = leases.delete("shoot-exposure-agent", &DeleteParams::default()).await;
            says(&start(json!({})).await?, &["cannot write the Lease", &lacks], SOON).await?;
        }
        ("kube-system", "leases", "update") => {
            says(&start(json!({})).await?, &["cannot write the Lease", &lacks], SOON).await?;
        }
        ("kube-system", "leases", "get") => {
            // Somebody else writes all the time, so that a renewal loses its race.
            let agent = start(World::quick_election()).await?;
            world.awaits_holder("cp-0", SOON).await?;
            let leases: Api<Lease> = Api::namespaced(world.admin.clone(), "kube-system");
            let racing = async {
                for count in 0_u64.. {
                    let patch = Patch::Merge(json!({"metadata": {"annotations": {"race": count.to_string()}}}));
                    leases.patch("shoot-exposure-agent", &PatchParams::default(), &patch).await?;
                }
                anyhow::Ok(())
            };
            let words = ["cannot read the Lease", &lacks];
            tokio::select! {
                said = says(&agent, &words, LONG) => said?,
                raced = racing => raced?,
            }
        }
        ("kube-node-lease", "leases", "get") => {
            let probe = json!({"enabled": true, "scheme": "http", "port": servers.port, "timeout": "3s"});
            let agent = start(json!({"health": {"probe": probe}})).await?;
            world.awaits_success(LONG).await?;
            agent.awaits_metric("shoot_exposure_nodes{verdict=\"healthy\"}", 3.0, SOON).await?;
            servers.hangs[2].store(true, Ordering::Relaxed);
            world.awaits_targets(&["cp-0", "cp-1"], LONG).await?;
            says(&agent, &["cannot read the kubelet's Lease", &lacks], LONG).await?;
            servers.hangs[2].store(false, Ordering::Relaxed);
        }
        // Everything else is followed from the start.
        (_, _, "list" | "watch") => says(&start(json!({})).await?, &["cannot watch", &lacks], SOON).await?,
        (namespace, resource, verb) => bail!("nobody knows what needs {namespace} {resource} {verb}"),
    }
    Ok(())
}

/// The same for what is written to exposures.
async fn breaks_exposures(world: &World, right: &Right, verb: &str, lacks: &str) -> Result<()> {
    match (right.resource, verb) {
        ("selfhostedshootexposures", "get") => {
            let agent = world.agent("cp-0", json!({})).await?;
            world.awaits_success(SOON).await?;
            world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
            says(&agent, &["deleting load balancer", lacks], SOON).await?;
            ensure!(!world.targets().is_empty(), "deleted without a proof");
            ensure!(world.exposures().get_opt(SHOOT).await?.is_some(), "gone before its balancer");
        }
        ("selfhostedshootexposures", "patch") => {
            world.set_ready("cp-2", false).await?;
            let agent = world.agent("cp-0", json!({})).await?;
            says(&agent, &["applying spec.endpoints", lacks], SOON).await?;
            // The targets, which are what it is all for, follow all the same.
            world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;
            world.set_ready("cp-2", true).await?;
        }
        ("selfhostedshootexposures", "create") => {
            let over =
                json!({"exposure": {"name": "another"}, "leaderElection": {"leaseName": "shoot-exposure-agent"}});
            let mut verb = world.verb(over, &["bootstrap", "--timeout", "60s"])?;
            verb.awaits_said(lacks, SOON).await?;
            verb.kill().await?;
        }
        ("selfhostedshootexposures", "delete") => {
            let confirmed = ["teardown", "--confirm", tests::world::BALANCER];
            let ended = world.verb(json!({}), &confirmed)?.ended(LONG).await?.with(1)?;
            ensure!(ended.stderr.contains(lacks), "{}", ended.stderr);
        }
        ("selfhostedshootexposures/status", _) => {
            world.set_ready("cp-2", false).await?;
            let agent = world.agent("cp-0", json!({})).await?;
            says(&agent, &["writing the status", lacks], SOON).await?;
            world.set_ready("cp-2", true).await?;
        }
        (resource, verb) => bail!("nobody knows what needs {resource} {verb}"),
    }
    Ok(())
}

/// Brings the world back to where every row starts: an exposure, three ready nodes, a Lease that is free.
async fn begin_again(world: &World) -> Result<()> {
    let exposure = world.exposures().get_opt(SHOOT).await?;
    let deleting = exposure.as_ref().is_some_and(|exposure| exposure.metadata.deletion_timestamp.is_some());
    if deleting {
        let _agent = world.agent("cp-0", json!({})).await?;
        world.awaits_gone(SOON).await?;
    }
    if deleting || exposure.is_none() {
        let reference =
            json!({"apiVersion": "v1", "kind": "Secret", "namespace": "kube-system", "name": "cloudprovider"});
        world.create_exposure(json!({"spec": {"credentialsRef": reference}})).await?;
    }
    let leases: Api<Lease> = Api::namespaced(world.admin.clone(), "kube-system");
    let released = Patch::Merge(json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}));
    if leases.get_opt("shoot-exposure-agent").await?.is_some() {
        leases.patch("shoot-exposure-agent", &PatchParams::default(), &released).await?;
    }
    let well = healthy(&world.exposures().get(SHOOT).await?).is_ok() && world.targets().len() == NODES.len();
    if well {
        return Ok(());
    }
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(LONG).await?;
    world.awaits_targets(&NODES, SOON).await?;
    agent.process().terminate()?;
    agent.process().exited(SOON).await.map(drop)
}

async fn credentials_in_a_secret(world: &World, client: &Client) -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(world.credentials().join(name));
    let data = json!({"project-id": read("project-id")?, "serviceaccount.json": read("serviceaccount.json")?});
    let secret = json!({"metadata": {"name": "cloudprovider", "namespace": "kube-system"}, "stringData": data});
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_right_that_is_taken_away_breaks_its_function_and_is_named() -> Result<()> {
    let world = World::without_exposure().await?;
    let addresses: Vec<Ipv4Addr> = (10..13).map(|last| Ipv4Addr::new(127, 88, 0, last)).collect();
    let servers = Answering::at(&addresses).await?;
    for (node, address) in NODES.iter().zip(&addresses) {
        let patch = json!({"status": {"addresses": [{"type": "InternalIP", "address": address.to_string()}]}});
        world.nodes().patch_status(node, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    world.control_plane.apply(&[super::dns::CRD]).await?;
    let record = json!({
        "apiVersion": "extensions.gardener.cloud/v1alpha1", "kind": "DNSRecord",
        "metadata": {"name": "root-external", "namespace": "kube-system"},
        "spec": {"type": "stackit", "name": "api.root.example", "ttl": 120, "recordType": "A", "values": ["192.0.2.1"]},
    });
    world.control_plane.apply(&[record.to_string()]).await?;
    credentials_in_a_secret(&world, &world.admin).await?;
    begin_again(&world).await?;
    for right in RIGHTS {
        for verb in right.verbs {
            let row = format!("{} {} {verb}: {}", right.namespace, right.resource, right.function);
            let started = std::time::Instant::now();
            let former = rules(&world, right.namespace, |rules| without(rules, right.resource, verb)).await?;
            awaits_right(&world, right, verb, false).await.context(row.clone())?;
            breaks(&world, right, verb, &servers).await.context(row.clone())?;
            rules(&world, right.namespace, |_| former).await?;
            awaits_right(&world, right, verb, true).await.context(row.clone())?;
            begin_again(&world).await.context(row.clone())?;
            println!("{:>5.1} s  {row}", started.elapsed().as_secs_f64());
        }
    }
    let output = world.control_plane.kubectl(&ADMIN, &["auth", "can-i", "--list", "--as", AGENT.name]).await?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
