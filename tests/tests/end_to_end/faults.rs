//! Requests that STACKIT answers badly, late or not at all (F1 to F8, F19). Faults of one sort share a world.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::emulator::{Action, Fault};
use tests::wait::until;
use tests::world::{BALANCER, SHOOT, SOON, World};
use tokio::net::TcpListener;

const RETRYABLE: &[&str] = &["ERR_RETRYABLE_INFRA_DEPENDENCIES"];

/// An agent that gives up on a request after a second and is not held back by its budget.
async fn impatient(world: &World) -> Result<Agent> {
    let over = json!({"stackit": {"requestTimeout": "1s"}, "loadBalancer": {"resync": "1s", "writesPerMinute": 600}});
    let agent = world.agent("cp-0", over).await?;
    world.awaits_success(SOON).await?;
    Ok(agent)
}

fn puts(world: &World) -> usize {
    world.emulator.count("PUT", "/load-balancers/")
}

/// Takes `cp-1` out, or back in; what the pool is to be then.
async fn turn(world: &World, ready: bool) -> Result<&'static [&'static str]> {
    world.set_ready("cp-1", ready).await?;
    Ok(if ready { &["cp-0", "cp-1", "cp-2"] } else { &["cp-0", "cp-2"] })
}

/// One thing that happens to every PUT, what `lastError` then says, and its codes.
type Case<'a> = (Action, &'a str, &'a [&'a str]);

/// Each case in turn, while a node goes or comes: it is said, waited out without a storm, and comes right.
async fn are_waited_out(world: &World, cases: &[Case<'_>]) -> Result<()> {
    for (index, (action, words, codes)) in cases.iter().enumerate() {
        let about = || format!("{action:?}");
        world.emulator.clear_journal();
        world.emulator.inject(Fault::new(action.clone()).method("PUT").path("/load-balancers/"));
        let wanted = turn(world, index % 2 == 1).await?;
        let status = world.awaits_error(words, SOON).await.with_context(about)?;
        let expected = if codes.is_empty() { Value::Null } else { json!(codes) };
        ensure!(status["lastError"]["codes"] == expected, "{action:?}: {status}");
        world.emulator.clear_faults();
        world.awaits_targets(wanted, SOON).await.with_context(about)?;
        world.awaits_no_error(SOON).await.with_context(about)?;
        ensure!((2..=5).contains(&puts(world)), "{action:?}: {} PUT", puts(world));
    }
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn f1_f2_errors_of_the_api_and_of_what_stands_before_it_are_waited_out() -> Result<()> {
    let world = World::start().await?;
    let _agent = impatient(&world).await?;
    let cases: [Case<'_>; 5] = [
        (Action::internal_error(), "500 Internal Server Error: internal error", RETRYABLE),
        (Action::empty_error(), "500", RETRYABLE),
        (Action::gateway_error(502), "502 Bad Gateway: a page of HTML", RETRYABLE),
        (Action::gateway_error(503), "503 Service Unavailable: a page of HTML", RETRYABLE),
        (Action::gateway_error(504), "504 Gateway Timeout: a page of HTML", RETRYABLE),
    ];
    are_waited_out(&world, &cases).await?;
    // While nothing can be read, a removal goes out all the same, computed from what was read last.
    world.emulator.inject(Fault::new(Action::gateway_error(502)).method("GET").path("/load-balancers/"));
    let reads = world.emulator.count("GET", "/load-balancers/");
    world.emulator.wait_for(|emulator| emulator.count("GET", "/load-balancers/") > reads, SOON).await?;
    turn(&world, true).await?;
    world.set_ready("cp-2", false).await?;
    world.awaits_targets(&["cp-0", "cp-1"], SOON).await?;
    world.emulator.clear_faults();
    world.awaits_success(SOON).await.map(drop)
}

#[tokio::test]
async fn f4_f5_f8_f19_refusals_that_pass_and_answers_that_are_none_are_waited_out() -> Result<()> {
    let world = World::start().await?;
    let agent = impatient(&world).await?;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await?;
    let location = format!("http://{}/elsewhere", elsewhere.local_addr()?);
    let cases: [Case<'_>; 6] = [
        (Action::forbidden(), "403", &[]),
        (Action::too_many_requests(Some(1)), "429", &["ERR_INFRA_RATE_LIMITS_EXCEEDED"]),
        (Action::Hang { committed: false }, "no answer in time", RETRYABLE),
        (Action::redirect(&location), "a redirect to 127.0.0.1, which is not followed", RETRYABLE),
        (Action::answer(200, "text/html", "<html>sign in</html>"), "the body is no JSON", RETRYABLE),
        (Action::answer(200, "application/json", "{}"), "the JSON has no `name`", RETRYABLE),
    ];
    are_waited_out(&world, &cases).await?;
    // Nobody came to where the redirect led, so nobody has the token.
    let visitor = tokio::time::timeout(Duration::from_millis(1), elsewhere.accept()).await;
    assert!(visitor.is_err(), "{visitor:?}");
    let log = agent.log()?;
    assert!(!log.contains("eyJ") && !log.contains("Bearer"), "a token in the log");

    // The permission flaps while it spreads: every other request is refused, reads and writes alike.
    world.emulator.inject(Fault::new(Action::forbidden()).path("/load-balancers").every(2));
    let wanted = turn(&world, false).await?;
    world.awaits_targets(wanted, SOON).await?;
    world.emulator.clear_faults();
    world.awaits_success(SOON).await?;
    assert_eq!(world.emulator.balancers().len(), 1);
    world.check_invariants()
}

#[tokio::test]
async fn f7_f8_f19_f20_a_put_that_was_carried_out_is_not_repeated_however_its_answer_was_lost() -> Result<()> {
    let world = World::start().await?;
    let _agent = impatient(&world).await?;
    let lost = [
        Action::Reset { committed: true },
        Action::Hang { committed: true },
        Action::LateAnswer { milliseconds: 3_000 },
        Action::Drip { milliseconds: 20 },
        Action::Truncate { bytes: 10 },
        Action::EmptyBody,
        Action::MalformedJson,
        Action::Status { status: 204 },
        Action::Status { status: 201 },
    ];
    for (index, action) in lost.into_iter().enumerate() {
        let about = format!("{action:?}");
        world.emulator.clear_journal();
        world.emulator.inject(Fault::new(action).method("PUT").path("/load-balancers/").once());
        let wanted = turn(&world, index % 2 == 1).await?;
        world.awaits_targets(wanted, SOON).await.with_context(|| about.clone())?;
        until("the record of it", SOON, || async {
            let status = world.status().await?;
            let version = &world.emulator.balancer(BALANCER).context("gone")?["version"];
            ensure!(status["providerStatus"]["version"] == *version && status["lastError"].is_null(), "{status}");
            Ok(())
        })
        .await?;
        assert_eq!(puts(&world), 1, "{about}");
    }
    world.awaits_success(SOON).await?;
    world.check_invariants()
}

#[tokio::test]
async fn f7_a_post_or_delete_that_was_carried_out_is_not_repeated_however_its_answer_was_lost() -> Result<()> {
    let world = World::without_exposure().await?;
    let over = json!({"stackit": {"requestTimeout": "1s"}, "loadBalancer": {"writesPerMinute": 600}});
    let agent = world.agent("cp-0", over).await?;
    for lost in [Action::Reset { committed: true }, Action::Hang { committed: true }, Action::EmptyBody] {
        world.emulator.clear_journal();
        let once = |method: &str| Fault::new(lost.clone()).method(method).path("/load-balancers").once();
        world.emulator.inject(once("POST"));
        world.create_exposure(json!({})).await?;
        world.awaits_success(SOON).await.with_context(|| format!("{lost:?}"))?;
        assert_eq!(world.emulator.count("POST", "/load-balancers"), 1, "{lost:?}");
        assert_eq!((world.emulator.balancers().len(), world.targets().len()), (1, 3));

        world.emulator.inject(once("DELETE"));
        world.exposures().delete(SHOOT, &DeleteParams::default()).await?;
        world.awaits_gone(SOON).await.with_context(|| format!("{lost:?}"))?;
        assert_eq!(world.emulator.count("DELETE", "/load-balancers/"), 1, "{lost:?}");
        assert_eq!(world.emulator.addresses().len(), 0, "an address is left behind");
    }
    assert!(!agent.log()?.contains("LoadBalancerLeftBehind"));
    world.check_invariants()
}

#[tokio::test]
async fn f3_a_token_that_is_refused_for_good_is_fetched_again_without_a_storm() -> Result<()> {
    let world = World::start().await?;
    let _agent = impatient(&world).await?;
    let tokens = || world.emulator.token_requests().values().sum::<usize>();
    let before = tokens();
    world.emulator.inject(Fault::new(Action::unauthorized()).path("/load-balancers"));
    turn(&world, false).await?;
    let status = world.awaits_error("401", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!(["ERR_INFRA_UNAUTHORIZED"]));
    let wanted = turn(&world, false).await?;
    assert!(tokens() - before <= 6, "{} tokens were fetched", tokens() - before);
    world.emulator.clear_faults();
    world.awaits_targets(wanted, SOON).await?;
    world.awaits_success(SOON).await.map(drop)
}

#[tokio::test]
async fn f6_a_storm_of_versions_is_met_with_patience_and_ends_well() -> Result<()> {
    let world = World::start().await?;
    // Status writes bump the version, too.
    world.emulator.set_switches(|switches| switches.version_on_status = true);
    let agent = impatient(&world).await?;
    world.emulator.clear_journal();
    world.emulator.inject(Fault::new(Action::version_storm()).method("PUT").path("/load-balancers/"));
    let wanted = turn(&world, false).await?;
    let status = world.awaits_error("409", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!(["ERR_INFRA_DEPENDENCIES"]));
    world.emulator.clear_faults();
    world.awaits_targets(wanted, SOON).await?;
    world.awaits_success(SOON).await?;
    // Five at once, and then fewer and fewer.
    assert!((7..=12).contains(&puts(&world)), "{} PUT", puts(&world));
    // A version that changes by itself is nobody's foreign write.
    assert!(!agent.log()?.contains("ForeignWriter"));
    world.check_invariants()
}
