//! A whole self-hosted shoot on loopback: API server and etcd, the STACKIT emulator, Gardener's objects, and as many
//! agents as a test wants. Every agent talks as its ServiceAccount, with the rights of `config/rbac.yaml` and no more.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::agent::{self, Agent, merge};
use crate::control_plane::apiserver::ApiServer;
use crate::control_plane::link::Link;
use crate::control_plane::users::{ADMIN, AGENT, Access};
use crate::control_plane::{Builder, ControlPlane, objects};
use crate::emulator::{DataPlane, Emulator, KeyOptions, Options};
use crate::fixture;
use crate::namespaces::{self, Network, Seat};
use crate::process::Folder;
use crate::wait::until;

/// Name of shoot, exposure and infrastructure.
pub const SHOOT: &str = "root";
/// The shoot's technical ID.
pub const TECHNICAL_ID: &str = "shoot--garden--root";
/// The balancer's name.
pub const BALANCER: &str = "shoot--garden--root-exp-root";
/// The network of the nodes.
pub const NETWORK: &str = "5f2b1c3d-9a4e-4b6f-8c7d-0123456789ab";
/// Long enough for everything that has to happen, short enough to fail.
pub const SOON: Duration = Duration::from_secs(20);

/// Its nodes.
pub const NODES: [&str; 3] = ["cp-0", "cp-1", "cp-2"];

/// The shoot.
///
/// Most tests need one API server, and Nodes are objects with made-up addresses ([`World::start`]). Failover needs
/// [`World::three`]: one API server a node, each agent with its own node's as its own, and each with its own way to
/// etcd.
///
/// ```no_run
/// # async fn failover() -> anyhow::Result<()> {
/// # use tests::world::{SOON, World};
/// let mut world = World::three().await?;
/// let agent = world.agent("cp-0", serde_json::json!({})).await?; // its own API server is cp-0's
/// world.admin_at("cp-1").await?;                                 // the test's client, elsewhere than where it breaks
/// world.api_server("cp-0").kill()?;                              // SIGKILL; .restart().await? brings it back
/// world.api_server("cp-0").process().pause()?;                   // SIGSTOP; .resume()? is SIGCONT
/// world.link("cp-0").cut();                                      // its way to etcd; .stall(), .heal()
/// world.control_plane.etcd().pause()?;                           // etcd for all of them; .resume()?
/// # drop(agent); Ok(()) }
/// ```
pub struct World {
    /// API servers and etcd.
    pub control_plane: ControlPlane,
    /// STACKIT.
    pub emulator: Emulator,
    /// A client that may do everything.
    pub admin: Client,
    folder: Folder,
    three: bool,
    /// Where the nodes are; empty, where they are not in namespaces.
    seats: Vec<Seat>,
}

impl World {
    /// Three ready nodes `cp-0` to `cp-2` at `10.0.0.10` to `10.0.0.12`, Gardener's objects, an exposure; no agent yet.
    pub async fn start() -> Result<Self> {
        let world = Self::without_exposure().await?;
        world.create_exposure(json!({})).await?;
        Ok(world)
    }

    /// As [`World::start`], without the exposure.
    pub async fn without_exposure() -> Result<Self> {
        Self::managed(ControlPlane::builder()).await
    }

    /// As [`World::start`], with an API server for each node: at the node's own address, a loopback one, and at the port
    /// of the exposure, as in a real cluster. All of them store in the one etcd member, each over a [`Link`] of its own.
    pub async fn three() -> Result<Self> {
        let world = Self::managed(ControlPlane::builder().api_servers(3).links()).await?;
        world.create_exposure(json!({})).await?;
        Ok(world)
    }

    /// As [`World::three`], with an emulator of one's own making.
    pub async fn three_with(emulator: Options) -> Result<Self> {
        let kinds = &["selfhostedshootexposures", "clusters", "infrastructures"];
        let world = Self::bare(ControlPlane::builder().api_servers(3).links(), kinds, emulator).await?;
        world.gardener_objects().await?;
        world.create_exposure(json!({})).await?;
        Ok(world)
    }

    /// As [`World::three`] on a control plane of one's own making; the exposure is the caller's to make. With three API
    /// servers they are the nodes', with fewer the nodes are made up.
    pub async fn managed(control_plane: Builder) -> Result<Self> {
        let kinds = &["selfhostedshootexposures", "clusters", "infrastructures"];
        let world = Self::bare(control_plane, kinds, Options::default()).await?;
        world.gardener_objects().await?;
        Ok(world)
    }

    /// As [`World::three`], each node in a network namespace with an etcd member of its own, the emulator in the hub and
    /// its balancers with a data plane. To be called, and used, in the hub: [`namespaces::in_hub`].
    pub async fn across(network: &Network, control_plane: Builder) -> Result<Self> {
        let options = Options {
            listen: SocketAddr::from((namespaces::HUB, 0)),
            data_plane: Some(DataPlane { namespaces: Some(namespaces::NETWORK), ..DataPlane::default() }),
            ..Options::default()
        };
        let nodes = u8::try_from(NODES.len())?;
        let kinds = &["selfhostedshootexposures", "clusters", "infrastructures"];
        let mut world = Self::bare(control_plane.on(network, nodes), kinds, options).await?;
        world.seats = (0..NODES.len()).map(|node| network.seat(node).clone()).collect();
        world.gardener_objects().await?;
        world.create_exposure(json!({})).await?;
        Ok(world)
    }

    /// As [`World::start`] on infrastructure that Gardener does not manage: no `Cluster`, no `Infrastructure`, and not
    /// even their kinds.
    pub async fn unmanaged() -> Result<Self> {
        let world = Self::bare(ControlPlane::builder(), &["selfhostedshootexposures"], Options::default()).await?;
        world.create_exposure(json!({})).await?;
        Ok(world)
    }

    /// Nodes and these kinds of Gardener's.
    async fn bare(control_plane: Builder, kinds: &[&str], options: Options) -> Result<Self> {
        let (control_plane, emulator) = tokio::join!(control_plane.start(), Emulator::start(options));
        let (control_plane, emulator) = (control_plane?, emulator?);
        let admin = control_plane.client(&ADMIN).await?;
        let folder = Folder::new("world")?;
        let crd = agent::run(&["manifest", "crd"])?;
        ensure!(crd.status.success(), "manifest crd: {}", String::from_utf8_lossy(&crd.stderr));
        let crd = String::from_utf8(crd.stdout)?;
        let rbac = std::fs::read_to_string(repository("config/rbac.yaml"))?;
        control_plane.apply(&[crd.as_str(), &rbac]).await?;
        if kinds.len() > 1 {
            control_plane.apply(&[GARDENER_CRDS]).await?;
        }
        for kind in kinds {
            objects::established(&admin, &format!("{kind}.extensions.gardener.cloud")).await?;
        }
        let three = control_plane.api_servers().len() == NODES.len();
        for (index, name) in NODES.into_iter().enumerate() {
            let own = control_plane.api_servers().get(index).filter(|_| three);
            let address = own.map_or_else(|| format!("10.0.0.{}", 10 + index), |own| own.address().ip().to_string());
            fixture::node(name).internal_ip(&address).control_plane().create(&admin).await?;
        }
        let world = Self { control_plane, emulator, admin, folder, three, seats: Vec::new() };
        world.write_key(&world.emulator.service_account_key(&KeyOptions::default())?)?;
        std::fs::write(world.credentials().join("project-id"), world.emulator.project())?;
        Ok(world)
    }

    /// `Cluster` and `Infrastructure`, as Gardener leaves them on a control plane.
    async fn gardener_objects(&self) -> Result<()> {
        let cluster = json!({
            "apiVersion": "extensions.gardener.cloud/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "kube-system"},
            "spec": {
                "cloudProfile": {"spec": {}},
                "shoot": {"metadata": {"name": SHOOT}, "spec": {"region": "RegionOne"},
                          "status": {"technicalID": TECHNICAL_ID}},
            },
        });
        let infrastructure = json!({
            "apiVersion": "extensions.gardener.cloud/v1alpha1", "kind": "Infrastructure",
            "metadata": {"name": SHOOT, "namespace": "kube-system"},
            "spec": {},
        });
        self.control_plane.apply(&[cluster.to_string(), infrastructure.to_string()]).await?;
        let status = json!({"status": {"providerStatus": {"networks": {"id": NETWORK}}}});
        let api = self.dynamic("Infrastructure");
        api.patch_status(SHOOT, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    /// Makes the exposure as gardenlet would, with `over` merged over it.
    pub async fn create_exposure(&self, over: Value) -> Result<DynamicObject> {
        let mut object = json!({
            "apiVersion": "extensions.gardener.cloud/v1alpha1", "kind": "SelfHostedShootExposure",
            "metadata": {"name": SHOOT, "namespace": "kube-system"},
            "spec": {"type": "stackit", "port": self.port(), "endpoints": []},
        });
        merge(&mut object, over);
        let object = serde_json::from_value(object)?;
        self.exposures().create(&PostParams::default(), &object).await.context("creating the exposure")
    }

    /// An agent on the node `name`, with `over` merged over the settings that fit this world.
    pub async fn agent(&self, name: &str, over: Value) -> Result<Agent> {
        self.agent_with(name, over, &[]).await
    }

    /// As [`World::agent`], with these variables in its environment.
    pub async fn agent_with(&self, name: &str, over: Value, environment: &[(&str, &str)]) -> Result<Agent> {
        let mut settings = self.settings_of(name)?;
        merge(&mut settings, over);
        match self.seats.get(self.index(name)) {
            Some(seat) => Agent::start_at(seat, name, settings, &self.folder, environment).await,
            None => Agent::start_with(name, settings, &self.folder, environment).await,
        }
    }

    /// As [`World::agent`], of another binary.
    pub async fn agent_of(&self, binary: &Path, name: &str, over: Value) -> Result<Agent> {
        let mut settings = self.settings_of(name)?;
        merge(&mut settings, over);
        Agent::start_of(binary, &Seat::here(Ipv4Addr::LOCALHOST), name, settings, &self.folder, &[]).await
    }

    /// The API server of a node; the only one, where there are no three.
    pub fn api_server(&self, node: &str) -> &ApiServer {
        &self.control_plane.api_servers()[self.index(node)]
    }

    /// The way of a node's API server to etcd.
    ///
    /// # Panics
    ///
    /// Where no links were asked for.
    pub fn link(&self, node: &str) -> &Link {
        &self.control_plane.links()[self.index(node)]
    }

    /// Makes the administrator talk to the API server of this node from now on.
    pub async fn admin_at(&mut self, node: &str) -> Result<()> {
        self.admin = self.api_server(node).access(&ADMIN).client().await?;
        Ok(())
    }

    /// The place of a node's API server among all of them; 0, where there are no three or no such node.
    fn index(&self, node: &str) -> usize {
        NODES.iter().position(|name| *name == node).filter(|_| self.three).unwrap_or_default()
    }

    /// The port of the exposure: that of the API servers where each node has one.
    pub fn port(&self) -> u16 {
        if self.three { self.control_plane.api_server().address().port() } else { 443 }
    }

    /// A file of this world's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Merges `over` into the status of the `Infrastructure`.
    pub async fn set_infrastructure(&self, status: Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "status": status }));
        self.dynamic("Infrastructure").patch_status(SHOOT, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The ranges that the balancer admits, sorted; `None`: it has no access control.
    pub fn source_ranges(&self) -> Option<Vec<String>> {
        let balancer = self.emulator.balancer(BALANCER)?;
        let ranges = balancer["options"]["accessControl"]["allowedSourceRanges"].as_array()?;
        let mut ranges: Vec<String> = ranges.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        ranges.sort();
        Some(ranges)
    }

    /// Waits until the balancer admits exactly these ranges, given in order.
    pub async fn awaits_source_ranges(&self, ranges: &[&str], deadline: Duration) -> Result<()> {
        until(&format!("source ranges {ranges:?}"), deadline, || async {
            let found = self.source_ranges();
            ensure!(found.as_ref().is_some_and(|found| found == ranges), "{found:?}");
            Ok(())
        })
        .await
    }

    /// The settings that fit this world.
    pub fn settings(&self) -> Result<Value> {
        self.settings_of(NODES[0])
    }

    /// The settings that fit an agent on this node: its own API server is the node's, where each node has one.
    pub fn settings_of(&self, node: &str) -> Result<Value> {
        let kubeconfig = if self.three {
            let access = self.api_server(node).access(&AGENT);
            self.control_plane.write_kubeconfig(&format!("agent-{node}"), &access)?
        } else {
            self.control_plane.kubeconfig(&AGENT)?
        };
        Ok(json!({
            "kubeconfig": kubeconfig,
            // Nodes that are made up have no API server to ask.
            "health": {"probe": {"enabled": self.three}},
            "kubernetes": {"fallback": self.three},
            "stackit": {
                "credentialsDirectory": self.credentials(),
                "loadBalancerEndpoint": self.emulator.url(),
            },
        }))
    }

    /// A kubeconfig that leads the agent of this node to its API server over `way`.
    pub fn kubeconfig_over(&self, node: &str, way: &Link) -> Result<PathBuf> {
        let access = Access { server: format!("https://{}", way.address()), ..self.api_server(node).access(&AGENT) };
        self.control_plane.write_kubeconfig(&format!("agent-{node}-over-link"), &access)
    }

    /// An election that hands over within seconds.
    pub fn quick_election() -> Value {
        json!({"leaderElection": {"leaseDuration": "3s", "renewDeadline": "2s", "retryPeriod": "500ms"}})
    }

    /// The folder that is mounted as credentials.
    pub fn credentials(&self) -> PathBuf {
        let folder = self.folder.join("credentials");
        // Exists already, or the next write says what is wrong.
        let _ = std::fs::create_dir_all(&folder);
        folder
    }

    /// Replaces the service account key.
    pub fn write_key(&self, key: &Value) -> Result<()> {
        let (new, file) = (self.credentials().join(".new"), self.credentials().join("serviceaccount.json"));
        std::fs::write(&new, key.to_string())?;
        std::fs::rename(new, file).context("replacing the key")
    }

    /// The exposures.
    pub fn exposures(&self) -> Api<DynamicObject> {
        self.dynamic("SelfHostedShootExposure")
    }

    /// A kind of `extensions.gardener.cloud` in kube-system.
    pub fn dynamic(&self, kind: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("extensions.gardener.cloud", "v1alpha1", kind);
        Api::namespaced_with(self.admin.clone(), "kube-system", &ApiResource::from_gvk(&gvk))
    }

    /// The nodes.
    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.admin.clone())
    }

    /// Who holds the Lease; empty while nobody does.
    pub async fn holder(&self) -> Result<String> {
        let leases: Api<Lease> = Api::namespaced(self.admin.clone(), "kube-system");
        let lease = leases.get_opt("shoot-exposure-agent").await?;
        Ok(lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default())
    }

    /// Waits until an agent on this node holds the Lease.
    pub async fn awaits_holder(&self, node: &str, deadline: Duration) -> Result<()> {
        until(&format!("{node} to hold the Lease"), deadline, || async {
            let holder = self.holder().await?;
            ensure!(holder.starts_with(&format!("{node}_")), "held by `{holder}`");
            Ok(())
        })
        .await
    }

    /// The targets of the balancer as `name ip`, sorted.
    pub fn targets(&self) -> Vec<String> {
        let Some(balancer) = self.emulator.balancer(BALANCER) else { return Vec::new() };
        targets_of(&balancer)
    }

    /// Waits until the balancer has exactly the targets of these nodes.
    pub async fn awaits_targets(&self, nodes: &[&str], deadline: Duration) -> Result<()> {
        until(&format!("targets {nodes:?}"), deadline, || async {
            let targets = self.targets();
            let names: Vec<&str> = targets.iter().filter_map(|target| target.split(' ').next()).collect();
            ensure!(names == nodes, "{targets:?}");
            Ok(())
        })
        .await
    }

    /// The exposure's status.
    pub async fn status(&self) -> Result<Value> {
        Ok(self.exposures().get(SHOOT).await?.data["status"].clone())
    }

    /// Waits until the exposure passes Gardener's six health checks; its status.
    pub async fn awaits_success(&self, deadline: Duration) -> Result<Value> {
        until("a healthy exposure", deadline, || async {
            let object = self.exposures().get(SHOOT).await?;
            healthy(&object)?;
            Ok(object.data["status"].clone())
        })
        .await
    }

    /// Waits until `lastError` holds `text`; the status.
    pub async fn awaits_error(&self, text: &str, deadline: Duration) -> Result<Value> {
        until(&format!("lastError with {text:?}"), deadline, || async {
            let status = self.status().await?;
            let description = status["lastError"]["description"].as_str().unwrap_or_default();
            ensure!(description.contains(text), "{status}");
            Ok(status)
        })
        .await
    }

    /// Waits until there is no `lastError`; the status.
    pub async fn awaits_no_error(&self, deadline: Duration) -> Result<Value> {
        until("no lastError", deadline, || async {
            let status = self.status().await?;
            ensure!(status["lastError"].is_null(), "{status}");
            Ok(status)
        })
        .await
    }

    /// Waits until the exposure is gone; its balancer must be so, too.
    pub async fn awaits_gone(&self, deadline: Duration) -> Result<()> {
        until("the exposure to be gone", deadline, || async {
            ensure!(self.exposures().get_opt(SHOOT).await?.is_none(), "still there");
            Ok(())
        })
        .await?;
        ensure!(self.emulator.balancer(BALANCER).is_none(), "the exposure is gone, its balancer is not");
        Ok(())
    }

    /// Flips a node's condition `Ready`.
    pub async fn set_ready(&self, node: &str, ready: bool) -> Result<()> {
        fixture::set_ready(&self.admin, node, ready).await.map(drop)
    }

    /// Checks what must hold of everything that was ever sent to STACKIT.
    pub fn check_invariants(&self) -> Result<()> {
        let forbidden = self.emulator.forbidden_fields();
        ensure!(forbidden.is_empty(), "forbidden fields were sent: {forbidden:?}");
        for method in ["POST", "PUT"] {
            for body in self.emulator.bodies(method, "/load-balancers") {
                ensure!(!targets_of(&body).is_empty(), "{method} with an empty pool: {body}");
            }
        }
        Ok(())
    }
}

/// The targets in a balancer's JSON as `name ip`, sorted.
pub fn targets_of(balancer: &Value) -> Vec<String> {
    let pool = balancer["targetPools"].as_array().and_then(|pools| pools.iter().find(|p| p["name"] == "control-plane"));
    let targets = pool.and_then(|pool| pool["targets"].as_array());
    let text = |target: &Value, field: &str| target[field].as_str().unwrap_or_default().to_owned();
    let mut targets: Vec<String> = targets
        .map(|targets| targets.iter().map(|t| format!("{} {}", text(t, "displayName"), text(t, "ip"))).collect())
        .unwrap_or_default();
    targets.sort();
    targets
}

/// Gardener's six checks of an extension object, in their order.
pub fn healthy(object: &DynamicObject) -> Result<()> {
    let status = &object.data["status"];
    ensure!(status["lastError"].is_null(), "lastError: {}", status["lastError"]);
    ensure!(
        status["observedGeneration"].as_i64() == object.metadata.generation,
        "observedGeneration {} of generation {:?}",
        status["observedGeneration"],
        object.metadata.generation
    );
    let annotations = object.annotations();
    ensure!(!annotations.contains_key("gardener.cloud/operation"), "the operation annotation is still there");
    let last = &status["lastOperation"];
    ensure!(last.is_object(), "no lastOperation");
    ensure!(last["state"] == "Succeeded", "lastOperation is {last}");
    if let Some(asked) = annotations.get("gardener.cloud/timestamp") {
        let asked: k8s_openapi::jiff::Timestamp = asked.parse().context("gardener.cloud/timestamp")?;
        let updated: k8s_openapi::jiff::Timestamp =
            last["lastUpdateTime"].as_str().unwrap_or_default().parse().context("lastUpdateTime")?;
        ensure!(asked.as_second() <= updated.as_second(), "asked at {asked}, updated at {updated}");
    }
    let ingress = status["ingress"][0]["ip"].as_str().unwrap_or_default();
    if ingress.parse::<IpAddr>().is_err() {
        bail!("no ingress: {status}");
    }
    Ok(())
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join(path)
}

/// The other kinds that are read, with as much of their schema as matters here.
const GARDENER_CRDS: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: clusters.extensions.gardener.cloud}
spec:
  group: extensions.gardener.cloud
  scope: Cluster
  names: {kind: Cluster, listKind: ClusterList, plural: clusters, singular: cluster}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: infrastructures.extensions.gardener.cloud}
spec:
  group: extensions.gardener.cloud
  scope: Namespaced
  names: {kind: Infrastructure, listKind: InfrastructureList, plural: infrastructures, singular: infrastructure}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
