//! What to install: the files of `config/` and `systemd/`, what the binary prints, and what a real API server says of both.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::agent::{Agent, run};
use tests::control_plane::ControlPlane;
use tests::control_plane::users::ADMIN;
use tests::gardener;
use tests::process::Folder;
use tests::world::{NETWORK, repository};

/// A project that is nobody's.
const PROJECT: &str = "2028e5d4-af4f-45e2-98df-502be37a4317";

fn printed(arguments: &[&str]) -> Result<String> {
    let output = run(&[&["manifest"], arguments].concat())?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn file(path: &str) -> Result<String> {
    std::fs::read_to_string(repository(path)).with_context(|| path.to_owned())
}

/// The objects of a stream, in the order of their kinds, namespaces and names.
fn objects(text: &str) -> Result<Vec<Value>> {
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple::<Value>(text)?.into_iter().filter(|object| !object.is_null()).collect();
    objects.sort_by_key(|object| {
        let metadata = &object["metadata"];
        format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"])
    });
    Ok(objects)
}

async fn kubectl(arguments: &[&str]) -> Result<Output> {
    ControlPlane::shared().await?.kubectl(&ADMIN, arguments).await
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn kustomized(folder: &str) -> Result<String> {
    let output = kubectl(&["kustomize", folder]).await?;
    ensure!(output.status.success(), "{}", said(&output));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn the_binary_prints_the_files() -> Result<()> {
    assert_eq!(printed(&["rbac"])?, file("config/rbac.yaml")?);
    assert_eq!(printed(&["static-pod"])?, file("config/static-pod.yaml")?);
    let sections = printed(&["systemd"])?;
    let mut expected = String::new();
    for (folder, name) in [
        ("/etc/sysusers.d", "sysusers.d/shoot-exposure-agent.conf"),
        ("/etc/tmpfiles.d", "tmpfiles.d/shoot-exposure-agent.conf"),
        ("/etc/systemd/system", "shoot-exposure-agent-account.service"),
        ("/etc/systemd/system", "shoot-exposure-agent-bootstrap.service"),
        ("/etc/systemd/system", "shoot-exposure-agent.service"),
    ] {
        let content = file(&format!("systemd/{name}"))?;
        assert!(content.ends_with('\n') && !content.contains("\n# /"), "{name} cannot be told from a path");
        write!(expected, "# {folder}/{}\n{content}", name.rsplit('/').next().unwrap())?;
    }
    assert_eq!(sections, expected);
    let snippet = printed(&["operating-system-config"])?;
    if std::env::var_os("ACCEPT").is_some() {
        std::fs::write(repository("systemd/operatingsystemconfig.yaml"), &snippet)?;
    }
    assert_eq!(snippet, file("systemd/operatingsystemconfig.yaml")?, "ACCEPT=1 accepts it");
    Ok(())
}

#[test]
fn the_operating_system_config_brings_the_same_units_and_files() -> Result<()> {
    let snippet: Value =
        serde_saphyr::from_str(&printed(&["operating-system-config", "--image", "registry.test/a@sha256:1"])?)?;
    let units = snippet["spec"]["units"].as_array().context("no units")?;
    assert_eq!(units.len(), 2);
    for unit in units {
        let name = unit["name"].as_str().context("no name")?;
        assert_eq!(unit["content"].as_str(), Some(file(&format!("systemd/{name}"))?.as_str()), "{name}");
    }
    let files = snippet["spec"]["files"].as_array().context("no files")?;
    let content = |path: &str| {
        let found = files.iter().find(|file| file["path"] == path);
        found.map_or("", |file| file["content"]["inline"]["data"].as_str().unwrap_or_default())
    };
    assert_eq!(
        content("/etc/sysusers.d/shoot-exposure-agent.conf"),
        file("systemd/sysusers.d/shoot-exposure-agent.conf")?
    );
    assert_eq!(
        content("/etc/tmpfiles.d/shoot-exposure-agent.conf"),
        file("systemd/tmpfiles.d/shoot-exposure-agent.conf")?
    );
    assert_eq!(content("/etc/shoot-exposure-agent/kubeconfig"), file("systemd/kubeconfig")?);
    let binary = files.iter().find(|file| file["path"] == "/opt/bin/shoot-exposure-agent").context("no binary")?;
    assert_eq!(
        binary["content"]["imageRef"],
        json!({"image": "registry.test/a@sha256:1", "filePathInImage": "/shoot-exposure-agent"})
    );
    assert_eq!(binary["permissions"], 0o755);
    // The settings in it are ones that the agent takes.
    let folder = Folder::new("settings")?;
    std::fs::write(folder.join("config.yaml"), content("/etc/shoot-exposure-agent/config.yaml"))?;
    let check = run(&["config", "check", "--config", folder.join("config.yaml").to_str().unwrap()])?;
    assert!(check.status.success(), "{}", said(&check));
    Ok(())
}

#[test]
fn an_image_is_named_where_there_is_one_and_nothing_else_gets_in() -> Result<()> {
    let own = format!("image: shoot-exposure-agent:{}\n", env!("CARGO_PKG_VERSION"));
    for what in ["daemonset", "static-pod", "operating-system-config"] {
        assert_eq!(printed(&[what])?.matches(&own).count(), 1, "{what}");
        let named = printed(&[what, "--image", "registry.test:5000/a/agent:v1"])?;
        assert!(named.contains("image: registry.test:5000/a/agent:v1\n") && !named.contains(&own), "{what}");
        assert_eq!(run(&["manifest", what, "--image", "a\nb: c"])?.status.code(), Some(2));
    }
    assert_eq!(run(&["manifest", "rbac", "--image", "a"])?.status.code(), Some(2));
    Ok(())
}

#[tokio::test]
async fn the_daemonset_is_the_kustomize_base() -> Result<()> {
    let mut ours = objects(&(printed(&["daemonset"])? + "---\n" + &printed(&["rbac"])?))?;
    let mut base = objects(&kustomized(repository("config").to_str().unwrap()).await?)?;
    assert_eq!(ours.len(), base.len());
    for (ours, base) in ours.iter_mut().zip(&mut base) {
        assert_eq!(ours, base);
    }
    Ok(())
}

/// What the API server says of these objects, without keeping them.
async fn accepted(text: &str) -> Result<Output> {
    let folder = Folder::new("objects")?;
    let file = folder.join("objects.yaml");
    std::fs::write(&file, text)?;
    kubectl(&["apply", "--dry-run=server", "--validate=strict", "--filename", file.to_str().unwrap()]).await
}

#[tokio::test]
async fn a_real_api_server_takes_every_object_strictly() -> Result<()> {
    let base = kustomized(repository("config").to_str().unwrap()).await?;
    for text in [&base, &printed(&["static-pod"])?, &printed(&["crd"])?, &file("systemd/access.yaml")?] {
        let output = accepted(text).await?;
        let answer = said(&output);
        println!("{answer}");
        assert!(output.status.success() && answer.contains("(server dry run)"), "{answer}");
        assert!(!answer.contains("Warning"), "{answer}");
    }
    // It would say so if something was wrong.
    let wrong = base.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem");
    let output = accepted(&wrong).await?;
    assert!(!output.status.success() && said(&output).contains("readOnlyRootFileSystem"), "{}", said(&output));
    Ok(())
}

/// Has Gardener's own definitions of the kinds that Kubernetes does not know; in `Err` why they cannot be had.
async fn gardeners_definitions() -> Result<Result<(), String>> {
    for (group, plural) in [
        ("extensions.gardener.cloud", "operatingsystemconfigs"),
        ("monitoring.coreos.com", "podmonitors"),
        ("monitoring.coreos.com", "prometheusrules"),
    ] {
        match gardener::definition(group, plural).await? {
            Ok(definition) => drop(ControlPlane::shared().await?.apply(&[&definition]).await?),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(()))
}

#[tokio::test]
async fn gardeners_own_definitions_take_the_operating_system_config_and_the_monitoring() -> Result<()> {
    if let Err(why) = gardeners_definitions().await? {
        println!("not compared with Gardener's Go module: {why}");
        return Ok(());
    }
    let mut snippet: Value = serde_saphyr::from_str(&printed(&["operating-system-config"])?)?;
    for (field, value) in [
        ("apiVersion", json!("extensions.gardener.cloud/v1alpha1")),
        ("kind", json!("OperatingSystemConfig")),
        ("metadata", json!({"name": "control-plane", "namespace": "kube-system"})),
    ] {
        snippet[field] = value;
    }
    (snippet["spec"]["type"], snippet["spec"]["purpose"]) = (json!("gardenlinux"), json!("reconcile"));
    let snippet = snippet.to_string();
    for (text, field) in [
        (&snippet, "filePathInImage"),
        (&file("config/monitoring/podmonitor.yaml")?, "podMetricsEndpoints"),
        (&file("config/monitoring/alerts.yaml")?, "annotations"),
    ] {
        let output = accepted(text).await?;
        let answer = said(&output);
        assert!(output.status.success() && answer.contains("(server dry run)"), "{answer}");
        assert!(!answer.contains("Warning"), "{answer}");
        // It would say so if something was wrong.
        let wrong = text.replace(field, "misspelt");
        let output = accepted(&wrong).await?;
        assert!(!output.status.success() && said(&output).contains("misspelt"), "{}", said(&output));
    }
    Ok(())
}

/// As Gardener's description of the field has it: for each of the paths there must be a file.
#[test]
fn the_units_name_files_that_come_with_them() -> Result<()> {
    let snippet: Value = serde_saphyr::from_str(&printed(&["operating-system-config"])?)?;
    let files: BTreeSet<&str> =
        snippet["spec"]["files"].as_array().unwrap().iter().filter_map(|file| file["path"].as_str()).collect();
    let units = snippet["spec"]["units"].as_array().unwrap();
    let named: Vec<&str> = units
        .iter()
        .flat_map(|unit| unit["filePaths"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(named.len(), 3, "{named:?}");
    assert!(named.iter().all(|path| files.contains(path)), "{named:?} {files:?}");
    Ok(())
}

#[tokio::test]
async fn the_pod_has_no_rights_and_survives_a_busy_node() -> Result<()> {
    let daemonset =
        objects(&printed(&["daemonset"])?)?.into_iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    let pod = &daemonset["spec"]["template"]["spec"];
    for pod in [pod, &objects(&printed(&["static-pod"])?)?[0]["spec"]] {
        let container = &pod["containers"][0];
        assert_eq!((&pod["hostNetwork"], &pod["priorityClassName"]), (&json!(true), &json!("system-node-critical")));
        assert_eq!(
            (&pod["securityContext"]["runAsNonRoot"], &pod["securityContext"]["runAsUser"]),
            (&json!(true), &json!(65532))
        );
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert!(
            container["resources"]["limits"]["memory"].is_string() && container["resources"]["limits"]["cpu"].is_null()
        );
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["host"], "127.0.0.1", "{probe}");
        }
    }
    let environment = pod["containers"][0]["env"].as_array().unwrap();
    assert!(
        environment
            .iter()
            .any(|variable| variable["name"] == "KUBERNETES_SERVICE_HOST" && variable["value"] == "localhost")
    );
    assert_eq!(daemonset["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], 1);
    Ok(())
}

#[tokio::test]
async fn monitoring_goes_over_the_base() -> Result<()> {
    let folder = Folder::new("overlay")?;
    // kustomize takes relative paths only.
    let config = repository("config").canonicalize()?;
    let up = "../".repeat(folder.path().canonicalize()?.components().count() - 1);
    let config = format!("{up}{}", config.display().to_string().trim_start_matches('/'));
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [config], "components": [format!("{config}/monitoring")],
    });
    std::fs::write(folder.join("kustomization.yaml"), overlay.to_string())?;
    let objects = objects(&kustomized(folder.path().to_str().unwrap()).await?)?;
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    for kind in ["PodMonitor", "PrometheusRule", "DaemonSet", "ConfigMap"] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    let daemonset = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    let output = accepted(&daemonset.to_string()).await?;
    assert!(output.status.success(), "{}", said(&output));
    let container = &daemonset["spec"]["template"]["spec"]["containers"][0];
    assert!(container["ports"].to_string().contains("\"metrics\""), "{container}");
    // The setting that the patch makes is one.
    let setting = container["env"].as_array().unwrap().iter().find(|v| v["value"] == "$(HOST_IP):9441").unwrap();
    let name = setting["name"].as_str().unwrap();
    let agent = standing(&[(name, "127.0.0.1:0")]).await?;
    agent.0.awaits_log(&["admin server listens"], tests::world::SOON).await
}

/// An agent that has nothing to do.
async fn standing(environment: &[(&str, &str)]) -> Result<(Agent, Folder)> {
    let folder = Folder::new("standing")?;
    let settings = json!({
        "nodes": {"source": "File", "file": folder.join("nodes.yaml")},
        "exposure": {"name": "root"},
        "stackit": {"region": "eu01", "networkID": NETWORK, "technicalID": "t", "projectID": PROJECT},
    });
    Ok((Agent::start_with("cp-0", settings, &folder, environment).await?, folder))
}

#[tokio::test]
async fn alerts_and_dashboard_name_metrics_that_there_are() -> Result<()> {
    let (agent, _folder) = standing(&[]).await?;
    let (_, metrics) = agent.get("/metrics").await?;
    let there: BTreeSet<&str> = metrics.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    for document in ["config/monitoring/alerts.yaml", "config/monitoring/dashboard.json"] {
        let text = file(document)?;
        let ours = |word: &&str| {
            ["shoot_exposure_", "leader_election_", "process_"].iter().any(|prefix| word.starts_with(prefix))
        };
        let named: BTreeSet<&str> =
            text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(ours).collect();
        assert!(named.len() > 5, "{named:?}");
        let unknown: Vec<_> = named.difference(&there).collect();
        assert!(unknown.is_empty(), "{document} names {unknown:?}, which /metrics has not");
    }
    let rules = objects(&file("config/monitoring/alerts.yaml")?)?;
    for rule in rules[0]["spec"]["groups"][0]["rules"].as_array().context("no rules")? {
        for part in ["summary", "description"] {
            assert!(rule["annotations"][part].as_str().is_some_and(|text| text.ends_with('.')), "{rule}");
        }
        assert!(rule["labels"]["severity"].is_string(), "{rule}");
    }
    Ok(())
}
