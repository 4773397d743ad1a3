//! The test control plane itself: what other tests rely on.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Client;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use nix::sys::signal::Signal;
use tests::control_plane::ControlPlane;
use tests::control_plane::binaries::kubernetes_version;
use tests::control_plane::certificates::{Authority, bundle};
use tests::control_plane::users::{ADMIN, AGENT, Credential, OPERATOR, STRANGER};
use tests::fixture::{node, readiness, set_ready};
use tests::process::ended_by;
use tests::wait::until;

const DEADLINE: Duration = Duration::from_secs(30);

fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "kube-system")
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, ..ConfigMap::default() }
}

fn code<T>(result: kube::Result<T>) -> Option<u16> {
    match result {
        Err(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

#[tokio::test]
async fn it_is_the_pinned_version_and_starts_fast() -> Result<()> {
    let started = Instant::now();
    let control_plane = ControlPlane::start().await?;
    let took = started.elapsed();
    // Printed rather than asserted: how long it takes is a matter of who else uses the machine.
    writeln!(std::io::stderr(), "a control plane, ready in {took:?}")?;
    let version = control_plane.client(&ADMIN).await?.apiserver_version().await?;
    assert_eq!(version.git_version, kubernetes_version());
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
    Ok(())
}

#[tokio::test]
async fn only_who_may_does() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let list = ListParams::default();

    let admin: Api<Node> = Api::all(control_plane.client(&ADMIN).await?);
    admin.list(&list).await?;
    let stranger: Api<Node> = Api::all(control_plane.client(&STRANGER).await?);
    assert_eq!(code(stranger.list(&list).await), Some(403));
    let mut access = control_plane.access(&ADMIN);
    access.credential = Credential::Token("a token that nobody has".into());
    let nobody: Api<Node> = Api::all(access.client().await?);
    assert_eq!(code(nobody.list(&list).await), Some(401));

    // RBAC is what decides: a role and a binding change it, and the user is who the binding names.
    control_plane
        .apply(&["
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: agent }
rules: [{ apiGroups: [''], resources: [nodes], verbs: [list] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: agent }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: agent }
subjects: [{ kind: ServiceAccount, namespace: kube-system, name: shoot-exposure-agent }]
"])
        .await?;
    let agent: Api<Node> = Api::all(control_plane.client(&AGENT).await?);
    until("the agent to list nodes", DEADLINE, || async { Ok(agent.list(&list).await?) }).await?;
    assert_eq!(code(agent.get("any").await), Some(403));
    Ok(())
}

#[tokio::test]
async fn tls_is_verified() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let mut foreign = control_plane.access(&ADMIN);
    foreign.trust = Authority::new("kubernetes")?.pem();
    let error = foreign.client().await?.apiserver_version().await.map(drop);
    assert!(
        format!("{error:?}").contains("UnknownIssuer") || format!("{error:?}").contains("BadSignature"),
        "{error:?}"
    );

    // The certificate does not name the node's address, as Gardener's do not.
    let mut by_address = control_plane.access(&ADMIN);
    by_address.server_name = None;
    let error = by_address.client().await?.apiserver_version().await.map(drop);
    assert!(format!("{error:?}").contains("NotValidForName"), "{error:?}");

    let mut by_name = control_plane.access(&ADMIN);
    by_name.server_name = Some("api.shoot.example.com".into());
    by_name.client().await?.apiserver_version().await?;
    Ok(())
}

#[tokio::test]
async fn kubectl_and_a_token_file_work() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let said = control_plane.kubectl(&ADMIN, &["get", "namespaces", "-o", "name"]).await?;
    let (out, err) = (String::from_utf8(said.stdout)?, String::from_utf8(said.stderr)?);
    assert!(said.status.success() && out.contains("namespace/kube-system\n"), "{out}{err}");
    let said = control_plane.kubectl(&OPERATOR, &["get", "nodes"]).await?;
    let err = String::from_utf8(said.stderr)?;
    assert!(!said.status.success() && err.contains("User \"operator\" cannot list resource \"nodes\""), "{err}");

    let file = control_plane.folder().join("token");
    std::fs::write(&file, ADMIN.token())?;
    let mut access = control_plane.access(&ADMIN);
    access.credential = Credential::TokenFile(file);
    config_maps(&access.client().await?).list(&ListParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn a_definition_is_established_before_its_objects_are_applied() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let definition = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: gadgets.example.com }
spec:
  group: example.com
  scope: Namespaced
  names: { kind: Gadget, plural: gadgets }
  versions:
  - name: v1
    served: true
    storage: true
    schema: { openAPIV3Schema: { type: object, properties: { size: { type: integer } } } }
";
    let gadget = "
apiVersion: example.com/v1
kind: Gadget
metadata: { name: small }
size: 1
";
    let applied = control_plane.apply(&[definition, gadget]).await?;
    assert_eq!(applied[1].metadata.namespace.as_deref(), Some("kube-system"));
    assert_eq!(applied[1].data["size"], 1);
    // Again is no harm.
    let again = control_plane.apply(&[definition, gadget]).await?;
    assert_eq!(again[1].metadata.resource_version, applied[1].metadata.resource_version);
    Ok(())
}

#[tokio::test]
async fn a_node_is_made_with_its_status_and_changes_its_readiness() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let client = control_plane.client(&ADMIN).await?;
    let made = node("fixture-0").internal_ip("10.0.1.10").control_plane().create(&client).await?;
    assert_eq!(readiness(&made), Some("True"));
    let taints = made.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let taints: Vec<_> = taints.iter().map(|taint| taint.key.as_str()).collect();
    assert_eq!(taints, ["node-role.kubernetes.io/control-plane"]);

    let changed = set_ready(&client, "fixture-0", false).await?;
    assert_eq!(readiness(&changed), Some("False"));
    let status = changed.status.context("no status")?;
    assert_eq!(status.addresses.unwrap_or_default()[0].address, "10.0.1.10");
    assert_eq!(status.conditions.unwrap_or_default().len(), 1);
    Ok(())
}

#[tokio::test]
async fn api_servers_come_and_go_on_one_etcd() -> Result<()> {
    let control_plane = ControlPlane::builder().api_servers(2).flag("--shutdown-delay-duration=1s").start().await?;
    let [one, other] = control_plane.api_servers() else { return Err(anyhow!("not two API servers")) };
    assert_eq!(one.address().port(), other.address().port());
    assert_ne!(one.address().ip(), other.address().ip());
    let (by_one, by_other) =
        (config_maps(&one.access(&ADMIN).client().await?), config_maps(&other.access(&ADMIN).client().await?));
    by_one.create(&PostParams::default(), &config_map("kept")).await?;
    by_other.get("kept").await?;

    one.kill()?;
    assert!(TcpStream::connect(one.address()).is_err());
    by_other.create(&PostParams::default(), &config_map("meanwhile")).await?;

    one.restart().await?;
    by_one.get("meanwhile").await?;

    // A stop goes by itself, after the delay, and is no kill.
    let started = Instant::now();
    let status = one.stop().await?;
    assert!(!ended_by(status, Signal::SIGKILL), "{status}");
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());

    // A paused one accepts connections and does not answer.
    other.process().pause()?;
    TcpStream::connect(other.address())?;
    let answer = tokio::time::timeout(Duration::from_millis(500), by_other.get("kept")).await;
    assert!(answer.is_err(), "a paused API server answered");
    other.process().resume()?;
    other.ready().await
}

#[tokio::test]
async fn etcd_has_as_many_members_as_wanted() -> Result<()> {
    let control_plane = ControlPlane::builder().etcd_members(3).start().await?;
    let members = control_plane.etcd().members();
    assert_eq!(members.len(), 3);
    members[1].process().kill()?;
    let config_maps = config_maps(&control_plane.client(&ADMIN).await?);
    until("a write without the second member", DEADLINE, || async {
        Ok(config_maps.create(&PostParams::default(), &config_map("two-of-three")).await?)
    })
    .await?;
    members[1].process().restart()?;
    members[1].healthy(DEADLINE).await
}

#[tokio::test]
async fn a_ca_rotation_goes_by_for_who_trusts_both() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let next = Authority::new("kubernetes-2")?;
    let mut both = control_plane.access(&ADMIN);
    both.trust = bundle(&[control_plane.authority(), &next]);
    both.client().await?.apiserver_version().await?;

    control_plane.api_server().serve_with(&next)?;
    let mut new = both.clone();
    new.trust = next.pem();
    until("the new certificate", DEADLINE, || async { Ok(new.client().await?.apiserver_version().await?) }).await?;
    both.client().await?.apiserver_version().await?;
    let old = control_plane.client(&ADMIN).await?.apiserver_version().await.map(drop);
    assert!(format!("{old:?}").contains("UnknownIssuer"), "{old:?}");
    Ok(())
}

#[tokio::test]
async fn a_start_that_fails_shows_the_log() -> Result<()> {
    let started = Instant::now();
    let error =
        ControlPlane::builder().flag("--no-such-flag").start().await.map(drop).map_err(|error| format!("{error:#}"));
    let error = error.err().context("it started")?;
    assert!(error.contains("kube-apiserver-0 to be ready: it has ended"), "{error}");
    assert!(error.contains("unknown flag: --no-such-flag"), "{error}");
    assert!(started.elapsed() < DEADLINE, "a failure must not wait for a deadline");
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_behind() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let folder = PathBuf::from(control_plane.folder());
    let address = control_plane.api_server().address();
    let ids = [control_plane.api_server().process().id(), control_plane.etcd().members()[0].process().id()];
    drop(control_plane);
    assert!(!folder.exists() && TcpStream::connect(address).is_err());
    for id in ids {
        assert!(!PathBuf::from(format!("/proc/{id}")).exists(), "{id} runs");
    }
    Ok(())
}

#[tokio::test]
async fn a_controller_manager_runs_the_controllers_it_was_given() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let manager = control_plane.controller_manager(&["namespace-controller"]).await?;
    let namespace = "{ apiVersion: v1, kind: Namespace, metadata: { name: doomed } }";
    control_plane.apply(&[namespace]).await?;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(control_plane.client(&ADMIN).await?);
    namespaces.delete("doomed", &kube::api::DeleteParams::default()).await?;
    until("the namespace gone", DEADLINE, || async {
        ensure!(manager.exit()?.is_none(), "it has ended");
        let left = namespaces.get_opt("doomed").await?;
        ensure!(left.is_none(), "still there: {:?}\n{}", left.and_then(|left| left.status), manager.tail(5));
        Ok(())
    })
    .await
}
