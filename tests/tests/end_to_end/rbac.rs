//! Each right that `config/rbac.yaml` grants is needed: taken away alone, it breaks the function that config/README.md names,
//! and the agent says which verb on which resource it lacks.
//!
//! One API server, one row after another: the right goes, whatever needs it is made to happen, the refusal shows in the
//! agent's own words, the right comes back. That a right is gone is awaited by asking the API server; what it proves is
//! the function that breaks.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use tests::world::{NODES, SHOOT, SOON, World, healthy, repository};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Long enough for silence to be believed.
const LONG: Duration = Duration::from_secs(40);

/// A right, and what is broken without it.
struct Right {
    /// The role's namespace; empty: it is the ClusterRole.
    namespace: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    /// As config/README.md has it.
    function: &'static str,
}

const fn right(
    namespace: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    function: &'static str,
) -> Right {
    Right { namespace, resource, verbs, function }
}

const RIGHTS: &[Right] = &[
    right("", "nodes", &["list", "watch"], "the targets do not follow the nodes"),
    right("", "clusters", &["list", "watch"], "region, technical ID and endpoints must be set by hand"),
    right("kube-system", "selfhostedshootexposures", &["list", "watch"], "nothing is known of the exposure"),
    right(
        "kube-system",
        "selfhostedshootexposures",
        &["get"],
        "no balancer is deleted: the proof before it is missing",
    ),
    right("kube-system", "selfhostedshootexposures", &["patch"], "no finalizer, no `spec.endpoints`"),
    right("kube-system", "selfhostedshootexposures", &["create"], "`bootstrap` and `createIfMissing` make no exposure"),
    right("kube-system", "selfhostedshootexposures", &["delete"], "`teardown` deletes no exposure"),
    right("kube-system", "selfhostedshootexposures/status", &["patch"], "nothing is reported, and no balancer is made"),
    right(
        "kube-system",
        "infrastructures",
        &["list", "watch"],
        "the network must be set by hand, egress ranges are unknown",
    ),
    right("kube-system", "pods", &["list", "watch"], "static pods do not hurry evidence"),
    right("kube-system", "dnsrecords", &["list", "watch", "patch"], "the DNS record does not follow"),
    right("kube-system", "events", &["create", "patch"], "events are in the log only"),
    right("kube-system", "secrets", &["list", "watch"], "no credentials with `SecretRef`"),
    right("kube-system", "leases", &["create"], "no first leader"),
    right("kube-system", "leases", &["list", "watch"], "nobody leads: the Lease is not seen"),
    right("kube-system", "leases", &["update"], "the leader does not stay, nor is it followed"),
    right("kube-system", "leases", &["get"], "who has lost a race learns a little later to whom"),
    right("kube-node-lease", "leases", &["get"], "a broken path looks like a dead node"),
];

/// Every verb on every resource that the file grants, as `namespace resource verb`.
fn granted() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(repository("config/rbac.yaml"))?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).context("reading config/rbac.yaml")?;
    let mut granted = BTreeSet::new();
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for object in objects.iter().filter(|object| object["rules"].is_array()) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in object["rules"].as_array().into_iter().flatten() {
            for (resource, verb) in words(&rule["resources"])
                .iter()
                .flat_map(|r| words(&rule["verbs"]).into_iter().map(move |v| (r.clone(), v)))
            {
                ensure!(verb != "*" && resource != "*", "everything is not the smallest set");
                ensure!(granted.insert(format!("{namespace} {resource} {verb}")), "{resource} {verb} is granted twice");
            }
            let (resources, names) = (words(&rule["resources"]), words(&rule["resourceNames"]));
            let by_name = !resources.contains(&"secrets".to_owned()) || (!names.is_empty() && !namespace.is_empty());
            ensure!(by_name, "Secrets other than the one by name: {rule}");
        }
    }
    Ok(granted)
}

#[test]
fn every_right_has_its_row_here_and_in_the_readme() -> Result<()> {
    let rows = RIGHTS
        .iter()
        .flat_map(|right| right.verbs.iter().map(|verb| format!("{} {} {verb}", right.namespace, right.resource)));
    assert_eq!(rows.collect::<BTreeSet<_>>(), granted()?);
    let readme = std::fs::read_to_string(repository("config/README.md"))?;
    for Right { namespace, resource, verbs, function } in RIGHTS {
        let place = if namespace.is_empty() { "everywhere" } else { namespace };
        let row = format!("| {place} | `{resource}` | {} | {function} |", verbs.join(", "));
        assert!(readme.contains(&row), "config/README.md has no row\n{row}");
    }
    Ok(())
}

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

/// API servers that answer well, each until it is told to hang: what a probe needs, over plain HTTP.
struct Answering {
    port: u16,
    hangs: Vec<Arc<AtomicBool>>,
    _tasks: tokio::task::JoinSet<()>,
}

impl Answering {
    /// One at each of these addresses, all at one port.
    async fn at(addresses: &[Ipv4Addr]) -> Result<Self> {
        let mut tasks = tokio::task::JoinSet::new();
        let mut hangs = Vec::new();
        let mut port = 0;
        for address in addresses {
            let listener = TcpListener::bind((*address, port)).await?;
            port = listener.local_addr()?.port();
            let hang = Arc::new(AtomicBool::new(false));
            hangs.push(Arc::clone(&hang));
            tasks.spawn(async move {
                while let Ok((mut connection, _)) = listener.accept().await {
                    let hang = Arc::clone(&hang);
                    tokio::spawn(async move {
                        let (mut part, mut text) = ([0; 1024], String::new());
                        while let Ok(read) = connection.read(&mut part).await {
                            text.push_str(&String::from_utf8_lossy(&part[..read]));
                            while let Some((_, rest)) = text.split_once("\r\n\r\n") {
                                let rest = rest.to_owned();
                                text = rest;
                                if hang.load(Ordering::Relaxed) {
                                    return std::future::pending().await;
                                }
                                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                                if connection.write_all(answer).await.is_err() {
                                    return;
                                }
                            }
                            if read == 0 {
                                return;
                            }
                        }
                    });
                }
            });
        }
        Ok(Self { port, hangs, _tasks: tasks })
    }
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
        ("kube-system", "selfhostedshootexposures", "get") => {
            let agent = start(json!({})).await?;
            world.awaits_success(SOON).await?;
            world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
            says(&agent, &["deleting load balancer", &lacks], SOON).await?;
            ensure!(!world.targets().is_empty(), "deleted without a proof");
            ensure!(world.exposures().get_opt(SHOOT).await?.is_some(), "gone before its balancer");
        }
        ("kube-system", "selfhostedshootexposures", "patch") => {
            world.set_ready("cp-2", false).await?;
            let agent = start(json!({})).await?;
            says(&agent, &["applying spec.endpoints", &lacks], SOON).await?;
            // The targets, which are what it is all for, follow all the same.
            world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;
            world.set_ready("cp-2", true).await?;
        }
        ("kube-system", "selfhostedshootexposures", "create") => {
            let over =
                json!({"exposure": {"name": "another"}, "leaderElection": {"leaseName": "shoot-exposure-agent"}});
            let mut verb = world.verb(over, &["bootstrap", "--timeout", "60s"])?;
            verb.awaits_said(&lacks, SOON).await?;
            verb.kill().await?;
        }
        ("kube-system", "selfhostedshootexposures", "delete") => {
            let confirmed = ["teardown", "--confirm", tests::world::BALANCER];
            let ended = world.verb(json!({}), &confirmed)?.ended(LONG).await?.with(1)?;
            ensure!(ended.stderr.contains(&lacks), "{}", ended.stderr);
        }
        ("kube-system", "selfhostedshootexposures/status", _) => {
            world.set_ready("cp-2", false).await?;
            let agent = start(json!({})).await?;
            says(&agent, &["writing the status", &lacks], SOON).await?;
            world.set_ready("cp-2", true).await?;
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
            tokio::select! {
                said = says(&agent, &["cannot read the Lease", &lacks], LONG) => said?,
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
