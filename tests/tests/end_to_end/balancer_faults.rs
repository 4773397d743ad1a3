//! A balancer in every state that STACKIT may report, whether it makes sense or not (F4, F9 to F17, F23, F27).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tests::emulator::{Action, Delays, Fault, Switches};
use tests::wait::until;
use tests::world::{BALANCER, SHOOT, SOON, World};

/// Has the agent look at the balancer at once.
async fn look(world: &World) -> Result<()> {
    let reads = world.emulator.count("GET", "/load-balancers/");
    let annotations = json!({"metadata": {"annotations": {"gardener.cloud/operation": "reconcile"}}});
    world.exposures().patch(SHOOT, &PatchParams::default(), &Patch::Merge(annotations)).await?;
    world.emulator.wait_for(|emulator| emulator.count("GET", "/load-balancers/") > reads, SOON).await
}

/// What the exposure says then.
#[derive(Debug)]
enum Says {
    /// `Succeeded`.
    Done,
    /// `Processing` without an error, with these words.
    Waits(&'static str),
    /// `lastError` with these words and codes.
    Fails(&'static str, &'static [&'static str]),
}

async fn awaits(world: &World, says: &Says) -> Result<()> {
    match says {
        Says::Done => world.awaits_success(SOON).await.map(drop),
        Says::Waits(words) => {
            until(&format!("Processing with {words:?}"), SOON, || async {
                let status = world.status().await?;
                let last = &status["lastOperation"];
                ensure!(last["state"] == "Processing" && status["lastError"].is_null(), "{status}");
                ensure!(last["description"].as_str().unwrap_or_default().contains(words), "{status}");
                Ok(())
            })
            .await
        }
        Says::Fails(words, codes) => {
            let status = world.awaits_error(words, SOON).await?;
            let expected = if codes.is_empty() { Value::Null } else { json!(codes) };
            ensure!(status["lastError"]["codes"] == expected, "{status}");
            Ok(())
        }
    }
}

/// Something odd about the balancer, and what the exposure says then.
type Case = (fn(&mut Switches), Says);

/// `STATUS_ERROR` with these entries.
fn error(switches: &mut Switches, errors: Value) {
    switches.status = Some("STATUS_ERROR".to_owned());
    switches.errors = Some(errors);
}

/// Each oddity in turn, looked at, said, and over again; none of them is written against.
async fn are_told(world: &World, cases: Vec<Case>) -> Result<()> {
    let before = (world.targets(), world.emulator.balancer(BALANCER).context("gone")?["version"].clone());
    for (index, (odd, says)) in cases.into_iter().enumerate() {
        world.emulator.set_switches(odd);
        look(world).await?;
        awaits(world, &says).await.with_context(|| format!("case {index}, {says:?}"))?;
        world.emulator.set_switches(|switches| {
            *switches = Switches { projects: switches.projects.clone(), ..Switches::default() }
        });
        look(world).await?;
        awaits(world, &Says::Done).await.with_context(|| format!("after case {index}, {says:?}"))?;
    }
    assert_eq!((world.targets(), world.emulator.balancer(BALANCER).context("gone")?["version"].clone()), before);
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), 0);
    assert_eq!(world.emulator.balancers().len(), 1);
    Ok(())
}

#[tokio::test]
async fn f9_a_balancer_that_stays_pending_is_waited_for() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.hold_pending = true);
    let _agent = world.agent("cp-0", json!({})).await?;
    awaits(&world, &Says::Waits("STATUS_PENDING")).await?;
    world.emulator.advance(Duration::from_mins(46));
    look(&world).await?;
    awaits(&world, &Says::Waits("STATUS_PENDING")).await?;
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 1);
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), 0);
    world.emulator.set_switches(|switches| switches.hold_pending = false);
    look(&world).await?;
    awaits(&world, &Says::Done).await
}

#[tokio::test]
async fn f10_f11_f13_f16_whatever_state_is_reported_is_told_and_not_written_against() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    let cases: Vec<Case> = vec![
        // F10
        (
            |s| {
                s.status = Some("STATUS_PENDING".to_owned());
                s.errors = Some(json!([{"type": "TYPE_INTERNAL", "description": "left over"}]));
            },
            Says::Waits("STATUS_PENDING"),
        ),
        (|s| s.errors = Some(json!([{"type": "TYPE_INTERNAL", "description": "left over"}])), Says::Done),
        (|s| s.errors = Some(json!([])), Says::Done),
        (|s| error(s, json!([])), Says::Fails("no error details reported", &[])),
        (
            |s| error(s, json!([{"description": "no type"}, {"type": "TYPE_X"}, null, "text"])),
            Says::Fails("no type", &[]),
        ),
        // F11
        (
            |s| error(s, json!([{"type": "TYPE_INTERNAL"}])),
            Says::Fails("TYPE_INTERNAL", &["ERR_RETRYABLE_INFRA_DEPENDENCIES"]),
        ),
        (
            |s| error(s, json!([{"type": "TYPE_FIP_NOT_FOUND", "description": "d"}])),
            Says::Fails("TYPE_FIP_NOT_FOUND", &["ERR_CONFIGURATION_PROBLEM"]),
        ),
        (
            |s| error(s, json!([{"type": "TYPE_QUOTA_SECGROUP_EXCEEDED"}])),
            Says::Fails("TYPE_QUOTA_SECGROUP_EXCEEDED", &["ERR_INFRA_QUOTA_EXCEEDED"]),
        ),
        (
            |s| error(s, json!([{"type": "TYPE_IP_EXHAUSTED"}])),
            Says::Fails("TYPE_IP_EXHAUSTED", &["ERR_INFRA_RESOURCES_DEPLETED"]),
        ),
        (|s| error(s, json!([{"type": "TYPE_TARGET_NOT_ACTIVE"}])), Says::Waits("TYPE_TARGET_NOT_ACTIVE")),
        (|s| error(s, json!([{"type": "TYPE_TARGET_NOT_ACTIVE"}])), Says::Waits("TYPE_TARGET_NOT_ACTIVE")),
        // F13
        (|s| s.withhold_address = true, Says::Waits("it has no address yet")),
        (|s| s.overlay = Some(json!({"privateAddress": "10.99.0.9"})), Says::Done),
        // F16
        (|s| s.status = Some("STATUS_FOO".to_owned()), Says::Waits("STATUS_FOO")),
        (|s| error(s, json!([{"type": "TYPE_NEW", "description": "new"}])), Says::Fails("TYPE_NEW: new", &[])),
        (|s| s.overlay = Some(json!({"status": null})), Says::Waits("no status yet")),
        (|s| s.overlay = Some(json!({"errors": null, "future": {"a": [1]}, "targetSecurityGroup": null})), Says::Done),
        (|s| s.numbers_as_strings = true, Says::Done),
    ];
    are_told(&world, cases).await
}

#[tokio::test]
async fn f4_f12_a_balancer_that_is_found_only_every_other_time_is_not_made_twice() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({"loadBalancer": {"writesPerMinute": 600}})).await?;
    let before = world.awaits_success(SOON).await?["ingress"][0]["ip"].clone();
    let gone =
        Action::answer(404, "application/json", r#"{"code":5,"message":"load balancer not found","details":[]}"#);
    for flap in [gone, Action::service_not_enabled()] {
        world.emulator.clear_journal();
        world.emulator.inject(Fault::new(flap.clone()).method("GET").path("/load-balancers/").every(2));
        for _ in 0..4 {
            look(&world).await?;
        }
        // Targets are followed meanwhile.
        world.set_ready("cp-1", false).await?;
        world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
        world.emulator.clear_faults();
        look(&world).await?;
        let status = world.awaits_success(SOON).await?;
        assert_eq!(status["ingress"][0]["ip"], before);
        assert_eq!(world.emulator.balancers().len(), 1);
        assert!(world.emulator.count("POST", "/load-balancers") <= 8, "{flap:?}");
        world.set_ready("cp-1", true).await?;
        world.awaits_targets(&["cp-0", "cp-1", "cp-2"], SOON).await?;
    }
    assert_eq!(world.emulator.addresses().len(), 1);
    world.check_invariants()
}

#[tokio::test]
async fn f12_what_somebody_deleted_and_does_not_go_is_waited_for_and_then_made_anew() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", World::quick_election()).await?;
    let before = world.awaits_success(SOON).await?["ingress"][0]["ip"].clone();
    world.emulator.set_switches(|switches| switches.hold_terminating = true);
    world.emulator.terminate(BALANCER);
    look(&world).await?;
    awaits(&world, &Says::Waits("to be gone")).await?;
    world.set_ready("cp-1", false).await?;
    look(&world).await?;
    // Nothing can be written to it, and nothing is made beside it.
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 1);
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), 0);
    world.emulator.set_switches(|switches| switches.hold_terminating = false);
    until("another one", SOON, || async {
        look(&world).await?;
        let status = world.awaits_success(Duration::from_secs(1)).await?;
        ensure!(status["ingress"][0]["ip"] != before, "{status}");
        Ok(())
    })
    .await?;
    assert_eq!(world.targets().len(), 2);
    assert_eq!(world.emulator.addresses().len(), 1);
    world.check_invariants()
}

#[tokio::test]
async fn f14_reads_that_lag_behind_a_write_neither_undo_nor_repeat_it() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.stale_reads = Duration::from_millis(2_500));
    let agent = world.agent("cp-0", json!({"loadBalancer": {"resync": "1s"}})).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 1, "it is not found at first, and not made again");
    world.set_ready("cp-1", false).await?;
    world.emulator.wait_for(|emulator| emulator.count("PUT", "/load-balancers/") == 1, SOON).await?;
    let reads = world.emulator.count("GET", "/load-balancers/");
    world.emulator.wait_for(|emulator| emulator.count("GET", "/load-balancers/") >= reads + 4, SOON).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), 1);
    let log = agent.log()?;
    assert!(!log.contains("ForeignWriter") && !log.contains("DriftCorrected"), "somebody was blamed:\n{log}");
    world.check_invariants()
}

#[tokio::test]
async fn f15_whatever_delete_answers_the_balancer_goes_and_then_the_exposure() -> Result<()> {
    let world = World::without_exposure().await?;
    // Where somebody else has deleted it, the name rests for the lease duration and a request.
    let mut over = World::quick_election();
    over["loadBalancer"] = json!({"resync": "1s", "writesPerMinute": 600});
    let _agent = world.agent("cp-0", over).await?;
    let lagging = Duration::from_millis(700);
    for (missing, terminating) in [(404, 200), (200, 400), (200, 409)] {
        let about = || format!("missing {missing}, terminating {terminating}");
        world.emulator.set_delays(Delays::default());
        world.create_exposure(json!({})).await?;
        world.awaits_success(SOON).await.with_context(about)?;
        world.emulator.clear_journal();
        // Somebody deletes it at the same time, and reads do not show it yet.
        let delete = if missing == 404 { Duration::ZERO } else { Duration::from_secs(1) };
        world.emulator.set_delays(Delays { delete, ..Delays::default() });
        world.emulator.set_switches(|switches| {
            switches.delete_missing_status = missing;
            switches.delete_terminating_status = terminating;
            switches.stale_reads = lagging;
        });
        world.emulator.terminate(BALANCER);
        world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
        world.awaits_gone(SOON).await.with_context(about)?;
        let deletes = world.emulator.count("DELETE", "/load-balancers/");
        // A 409 is met at once up to five times, and then less and less often.
        ensure!((1..=8).contains(&deletes), "{}: {deletes} DELETE", about());
        world.emulator.set_switches(|switches| switches.stale_reads = Duration::ZERO);
        assert_eq!(world.emulator.addresses().len(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn f23_f27_a_plan_that_is_withdrawn_is_told_and_a_quota_below_the_usage_does_no_harm() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({"loadBalancer": {"resync": "1s"}})).await?;
    world.awaits_success(SOON).await?;
    world.emulator.set_switches(|switches| switches.max_load_balancers = 0);
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;

    world.emulator.clear_journal();
    world.emulator.set_switches(|switches| switches.plans.retain(|plan| plan != "p10"));
    world.set_ready("cp-1", true).await?;
    awaits(&world, &Says::Fails("400", &["ERR_CONFIGURATION_PROBLEM"])).await?;
    agent.change_settings(json!({"loadBalancer": {"planID": "p50"}}))?;
    world.awaits_targets(&["cp-0", "cp-1", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.emulator.balancer(BALANCER).context("gone")?["planId"], "p50");
    assert!(world.emulator.count("PUT", "/load-balancers/") <= 4);
    world.check_invariants()
}
