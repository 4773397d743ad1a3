//! `teardown`: the balancer goes, with or without Kubernetes, and nothing else does.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tests::alone::{Alone, complete};
use tests::control_plane::users::ADMIN;
use tests::emulator::Delays;
use tests::wait::until;
use tests::world::{BALANCER, SHOOT, SOON, World};

const LONG: Duration = Duration::from_secs(60);
const MAKE: [&str; 3] = ["bootstrap", "--endpoint", "cp-0=10.0.0.10"];
const CONFIRMED: [&str; 3] = ["teardown", "--confirm", BALANCER];

fn deletes(emulator: &tests::emulator::Handle) -> usize {
    emulator.count("DELETE", "/load-balancers/")
}

#[tokio::test]
async fn without_kubernetes_it_goes_when_its_name_is_confirmed_and_not_before() -> Result<()> {
    let alone = Alone::start().await?;
    alone.verb(json!({}), &MAKE)?.ended(LONG).await?.with(0)?;
    let ended = alone.verb(json!({}), &["teardown"])?.ended(LONG).await?.with(2)?;
    assert!(ended.stderr.contains("--confirm BALANCER_NAME"), "{}", ended.stderr);
    let ended = alone.verb(json!({}), &["teardown", "--confirm", "other"])?.ended(LONG).await?.with(2)?;
    assert!(ended.stderr.contains("`other` was confirmed") && ended.stderr.contains(BALANCER), "{}", ended.stderr);
    let over = json!({"exposure": {"name": ""}, "stackit": {"region": "", "technicalID": ""}});
    let ended = alone.verb(over, &CONFIRMED)?.ended(LONG).await?.with(2)?;
    for word in ["exposure.name", "stackit.region", "stackit.technicalID"] {
        assert!(ended.stderr.contains(word), "no {word} in {}", ended.stderr);
    }
    assert_eq!(deletes(&alone.emulator), 0);

    let ended = alone.verb(json!({}), &[&CONFIRMED[..], &["--wait"]].concat())?.ended(LONG).await?.with(0)?;
    assert_eq!(ended.stdout, format!("load balancer `{BALANCER}` is gone\n"));
    assert_eq!((alone.emulator.balancer(BALANCER), alone.emulator.addresses().len()), (None, 0));
    // What is gone is gone.
    alone.verb(json!({}), &CONFIRMED)?.ended(LONG).await?.with(0)?;
    assert_eq!(deletes(&alone.emulator), 1);
    Ok(())
}

#[tokio::test]
async fn a_balancer_of_somebody_else_is_left_alone() -> Result<()> {
    let alone = Alone::start().await?;
    alone.verb(json!({}), &MAKE)?.ended(LONG).await?.with(0)?;
    alone.emulator.edit(BALANCER, |balancer| balancer["labels"] = json!({"cluster.stackit.cloud": "shoot--other"}));
    let ended = alone.verb(json!({}), &CONFIRMED)?.ended(LONG).await?.with(1)?;
    assert!(ended.stderr.contains("nothing was deleted") && ended.stderr.contains("its label"), "{}", ended.stderr);
    assert_eq!(deletes(&alone.emulator), 0);
    Ok(())
}

#[tokio::test]
async fn when_time_is_up_it_says_so_and_the_next_run_goes_on() -> Result<()> {
    let alone = Alone::start().await?;
    alone.verb(json!({}), &MAKE)?.ended(LONG).await?.with(0)?;
    alone.emulator.set_delays(Delays { delete: Duration::from_secs(600), ..Delays::default() });
    let patient = [&CONFIRMED[..], &["--wait", "--timeout", "3s"]].concat();
    let ended = alone.verb(json!({}), &patient)?.ended(LONG).await?.with(3)?;
    assert!(ended.stderr.contains("not done after 3s: waiting for the load balancer to be gone"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("4/5 waiting for the load balancer to be gone; usually half a minute"),
        "{}",
        ended.stderr
    );
    // Who does not wait is told that it is on its way.
    let ended = alone.verb(json!({}), &CONFIRMED)?.ended(LONG).await?.with(0)?;
    assert!(ended.stdout.contains("is being deleted; --wait waits for it"), "{}", ended.stdout);
    alone.emulator.advance(Duration::from_secs(600));
    alone.verb(json!({}), &patient)?.ended(LONG).await?.with(0)?;
    assert_eq!((alone.emulator.balancer(BALANCER), deletes(&alone.emulator)), (None, 1));
    Ok(())
}

#[tokio::test]
async fn on_a_terminal_it_asks_for_the_name() -> Result<()> {
    let alone = Alone::start().await?;
    alone.verb(json!({}), &MAKE)?.ended(LONG).await?.with(0)?;
    let config = alone.file("terminal.yaml");
    std::fs::write(&config, alone.settings().to_string())?;
    let answered = async |answer: &str| {
        let pty = nix::pty::openpty(None, None)?;
        let mut command = tokio::process::Command::new(tests::agent::binary()?);
        command.args(["teardown", "--wait", "--config"]).arg(&config).env_remove("KUBECONFIG").kill_on_drop(true);
        command.stdin(pty.slave.try_clone()?).stdout(std::process::Stdio::piped()).stderr(pty.slave);
        let child = command.spawn()?;
        drop(command);
        let (mut terminal, answer) = (std::fs::File::from(pty.master), format!("{answer}\n"));
        let screen = tokio::task::spawn_blocking(move || {
            let (mut screen, mut part) = (String::new(), [0; 1024]);
            let mut typed = false;
            while let Ok(read) = terminal.read(&mut part) {
                screen.push_str(&String::from_utf8_lossy(&part[..read]));
                if !typed && screen.contains("Type its name to go on:") {
                    terminal.write_all(answer.as_bytes())?;
                    typed = true;
                }
                if read == 0 {
                    break;
                }
            }
            anyhow::Ok(screen)
        });
        let ended = tokio::time::timeout(LONG, child.wait_with_output()).await??;
        let screen = screen.await??;
        ensure!(screen.contains(&format!("This deletes load balancer `{BALANCER}`")), "{screen:?}");
        anyhow::Ok(ended.status.code())
    };
    assert_eq!(answered("no").await?, Some(2));
    assert!(alone.emulator.balancer(BALANCER).is_some());
    assert_eq!(answered(BALANCER).await?, Some(0));
    assert_eq!(alone.emulator.balancer(BALANCER), None);
    Ok(())
}

/// Gardener's protection of its objects: deleted is only what was confirmed before.
const PROTECTION: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: deletion-protection}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [extensions.gardener.cloud], apiVersions: [v1alpha1], operations: [DELETE], resources: [selfhostedshootexposures]}
  validations:
  - expression: "has(oldObject.metadata.annotations) && 'confirmation.gardener.cloud/deletion' in oldObject.metadata.annotations && oldObject.metadata.annotations['confirmation.gardener.cloud/deletion'] == 'true' && 'gardener.cloud/timestamp' in oldObject.metadata.annotations"
    message: "annotation confirmation.gardener.cloud/deletion is missing"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: deletion-protection}
spec: {policyName: deletion-protection, validationActions: [Deny]}
"#;

async fn protect(world: &World) -> Result<()> {
    world.control_plane.apply(&[PROTECTION]).await?;
    until("deletions to be refused", SOON, || async {
        let arguments = ["delete", "exp", SHOOT, "-n", "kube-system", "--dry-run=server"];
        let output = world.control_plane.kubectl(&ADMIN, &arguments).await?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(text.contains("confirmation.gardener.cloud/deletion is missing"), "{text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn where_an_agent_leads_the_object_is_confirmed_and_deleted_and_the_agent_does_the_rest() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    protect(&world).await?;
    let ended = world.verb(json!({}), &["teardown", "--confirm", "other"])?.ended(LONG).await?.with(2)?;
    assert!(ended.stderr.contains(BALANCER), "{}", ended.stderr);
    assert!(world.exposures().get(SHOOT).await?.metadata.deletion_timestamp.is_none());

    world.emulator.set_delays(Delays { delete: Duration::from_secs(600), ..Delays::default() });
    let ended = world.verb(json!({}), &CONFIRMED)?.ended(LONG).await?.with(0)?;
    assert!(ended.stdout.contains("is being deleted by `cp-0_"), "{}", ended.stdout);
    let mut patient = world.verb(json!({}), &[&CONFIRMED[..], &["--wait"]].concat())?;
    patient.awaits_said("leads and does it", SOON).await?;
    world.emulator.advance(Duration::from_secs(600));
    patient.ended(LONG).await?.with(0)?;
    world.awaits_gone(SOON).await?;
    assert_eq!(deletes(&world.emulator), 1);
    agent.awaits_log(&["deleting the balancer"], SOON).await?;
    world.awaits_holder("cp-0", SOON).await
}

#[tokio::test]
async fn where_nobody_leads_it_takes_the_lease_and_releases_the_finalizer_itself() -> Result<()> {
    let world = World::start().await?;
    world.verb(json!({}), &["bootstrap"])?.ended(LONG).await?.with(0)?;
    protect(&world).await?;
    // An agent that died holding the Lease is none that leads.
    let agent = world.agent("cp-0", World::quick_election()).await?;
    world.awaits_holder("cp-0", SOON).await?;
    agent.process().kill()?;
    let ended = world.verb(World::quick_election(), &CONFIRMED)?.ended(LONG).await?.with(0)?;
    assert_eq!(ended.stdout, format!("load balancer `{BALANCER}` is gone\n"));
    world.awaits_gone(SOON).await?;
    assert_eq!((deletes(&world.emulator), world.emulator.addresses().len()), (1, 0));
    assert_eq!(world.holder().await?, "");
    Ok(())
}

#[tokio::test]
async fn what_was_made_before_the_object_goes_with_one_that_nobody_has_worked_on() -> Result<()> {
    let world = World::without_exposure().await?;
    let mut before = complete();
    before["kubeconfig"] = json!(world.file("not-there-yet"));
    world.verb(before, &MAKE)?.ended(LONG).await?.with(0)?;
    // With a Kubernetes, and without an object: the Cluster knows where it is.
    let wrong = world.verb(json!({}), &["teardown", "--confirm", "x"])?.ended(LONG).await?.with(2)?;
    assert!(wrong.stderr.contains(BALANCER), "{}", wrong.stderr);
    world.create_exposure(json!({})).await?;
    world.verb(json!({}), &[&CONFIRMED[..], &["--wait"]].concat())?.ended(LONG).await?.with(0)?;
    world.awaits_gone(SOON).await?;
    assert_eq!(deletes(&world.emulator), 1);
    Ok(())
}

#[tokio::test]
async fn while_paused_nothing_goes_and_that_is_said() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"exposure.gardener.cloud/paused": "true"}}}));
    world.exposures().patch(SHOOT, &PatchParams::default(), &patch).await?;
    agent.awaits_metric("shoot_exposure_paused", 1.0, SOON).await?;
    let mut paused = world.verb(json!({}), &[&CONFIRMED[..], &["--wait", "--timeout", "40s"]].concat())?;
    paused.awaits_said("paused by the annotation", SOON).await?;
    assert_eq!(deletes(&world.emulator), 0);
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"exposure.gardener.cloud/paused": null}}}));
    world.exposures().patch(SHOOT, &PatchParams::default(), &patch).await.context("resuming")?;
    paused.ended(LONG).await?.with(0)?;
    world.awaits_gone(SOON).await
}
