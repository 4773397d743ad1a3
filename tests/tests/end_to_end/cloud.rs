//! STACKIT has a bad day: the agent waits, says why in `lastError`, and recovers.

use anyhow::Result;
use serde_json::json;
use tests::emulator::{Action, Fault, KeyOptions};
use tests::world::{SOON, World};

/// Breaks the next PUT requests by `fault`, changes a node meanwhile, and expects the cause in `lastError`, the codes,
/// and then that everything is as it should be.
async fn survives(fault: Fault, cause: &str, codes: &[&str]) -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({"stackit": {"requestTimeout": "2s"}})).await?;
    world.awaits_success(SOON).await?;
    world.emulator.inject(fault.method("PUT").path("/load-balancers/"));
    world.set_ready("cp-1", false).await?;
    let status = world.awaits_error(cause, SOON).await?;
    assert_eq!(status["lastOperation"]["state"], "Error");
    assert_eq!(status["lastError"]["codes"], if codes.is_empty() { json!(null) } else { json!(codes) });
    world.emulator.clear_faults();
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn error_500_is_waited_out() -> Result<()> {
    survives(Fault::new(Action::internal_error()), "500", &["ERR_RETRYABLE_INFRA_DEPENDENCIES"]).await
}

#[tokio::test]
async fn a_rate_limit_is_waited_out() -> Result<()> {
    survives(Fault::new(Action::too_many_requests(None)), "429", &["ERR_INFRA_RATE_LIMITS_EXCEEDED"]).await
}

#[tokio::test]
async fn a_token_that_is_refused_again_and_again_is_reported() -> Result<()> {
    survives(Fault::new(Action::unauthorized()), "401", &["ERR_INFRA_UNAUTHORIZED"]).await
}

#[tokio::test]
async fn a_connection_that_is_reset_is_made_again() -> Result<()> {
    survives(Fault::new(Action::Reset { committed: false }), "connection", &["ERR_RETRYABLE_INFRA_DEPENDENCIES"]).await
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up() -> Result<()> {
    survives(Fault::new(Action::Hang { committed: false }), "no answer", &["ERR_RETRYABLE_INFRA_DEPENDENCIES"]).await
}

#[tokio::test]
async fn one_refused_token_is_nobodys_news() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    world.emulator.revoke_tokens();
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    let put = |status| {
        world
            .emulator
            .with_journal(|entries| entries.iter().filter(|e| e.method == "PUT" && e.status == Some(status)).count())
    };
    assert_eq!((put(401), put(200)), (1, 1));
    Ok(())
}

#[tokio::test]
async fn somebody_elses_write_in_between_is_met_by_reading_and_deciding_again() -> Result<()> {
    let world = World::start().await?;
    let agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    world.emulator.inject(Fault::new(Action::version_storm()).method("PUT").path("/load-balancers/").times(3));
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;
    agent.awaits_metric("shoot_exposure_conflicts_total", 3.0, SOON).await
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_read_and_not_repeated() -> Result<()> {
    let world = World::start().await?;
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    world.emulator.clear_journal();
    world.emulator.inject(Fault::new(Action::Reset { committed: true }).method("PUT").path("/load-balancers/").once());
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.emulator.count("PUT", "/load-balancers/"), 1);
    Ok(())
}

#[tokio::test]
async fn a_post_whose_answer_was_lost_makes_one_balancer() -> Result<()> {
    let world = World::start().await?;
    world.emulator.inject(Fault::new(Action::Reset { committed: true }).method("POST").path("/load-balancers").once());
    let _agent = world.agent("cp-0", json!({})).await?;
    world.awaits_success(SOON).await?;
    assert_eq!(world.emulator.count("POST", "/load-balancers"), 1);
    assert_eq!(world.emulator.balancers().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_is_reported_and_a_right_one_taken_without_a_restart() -> Result<()> {
    let world = World::start().await?;
    let good = world.emulator.service_account_key(&KeyOptions::default())?;
    let revoked = world.emulator.service_account_key(&KeyOptions::default())?;
    world.emulator.revoke_key(revoked["credentials"]["kid"].as_str().unwrap_or_default());
    world.write_key(&revoked)?;
    let agent = world.agent("cp-0", json!({})).await?;
    let status = world.awaits_error("was not found", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!(["ERR_INFRA_UNAUTHENTICATED"]));
    world.write_key(&good)?;
    world.awaits_success(SOON).await?;
    // Neither key, assertion nor token is ever printed.
    let log = agent.log()?;
    assert!(!log.contains("PRIVATE KEY") && !log.contains("eyJ"), "a secret in the log");
    Ok(())
}

#[tokio::test]
async fn credentials_that_are_not_there_yet_are_waited_for() -> Result<()> {
    let world = World::start().await?;
    let key = world.credentials().join("serviceaccount.json");
    let text = std::fs::read_to_string(&key)?;
    std::fs::remove_file(&key)?;
    let agent = world.agent("cp-0", json!({})).await?;
    agent.awaits_log(&["serviceaccount.json"], SOON).await?;
    // Waiting is not failing: who waits for the exposure must not give up.
    tests::wait::until("the exposure to be processed", SOON, || async {
        let status = world.status().await?;
        anyhow::ensure!(status["lastOperation"]["state"] == "Processing", "{status}");
        anyhow::ensure!(status["lastError"].is_null(), "{status}");
        Ok(())
    })
    .await?;
    std::fs::write(&key, text)?;
    world.awaits_success(SOON).await.map(drop)
}
