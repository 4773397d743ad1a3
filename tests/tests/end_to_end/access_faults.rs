//! The way to STACKIT is bad: token endpoint (F18), TLS, names and connections (F20).

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::emulator::{Action, Connections, Emulator, Fault, KeyOptions, Options, Switches, Tls, TokenForm};
use tests::world::{SOON, World};

const RETRYABLE: &str = "ERR_RETRYABLE_INFRA_DEPENDENCIES";

fn tokens(world: &World) -> usize {
    world.emulator.token_requests().values().sum()
}

#[tokio::test]
async fn f18_tokens_that_are_not_what_they_should_be_are_used_without_a_storm() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.refresh_fails = true);
    let agent = world.agent("cp-0", json!({"loadBalancer": {"writesPerMinute": 600}})).await?;
    world.awaits_success(SOON).await?;
    let forms: [fn(&mut Switches); 6] = [
        |switches| switches.token_form = TokenForm::Opaque,
        |switches| switches.token_form = TokenForm::WithoutExp,
        // Over when it comes: one of the clocks is wrong.
        |switches| (switches.token_form, switches.token_exp_shift) = (TokenForm::Jwt, -7_200),
        // Clocks that differ by minutes, either way.
        |switches| switches.token_exp_shift = -300,
        |switches| switches.token_exp_shift = 300,
        |switches| (switches.token_exp_shift, switches.expires_in) = (0, Some(17)),
    ];
    for (index, form) in forms.into_iter().enumerate() {
        world.emulator.set_switches(form);
        world.emulator.revoke_tokens();
        let before = tokens(&world);
        let ready = index % 2 == 1;
        world.set_ready("cp-1", ready).await?;
        let all = ["cp-0", "cp-1", "cp-2"];
        world.awaits_targets(if ready { &all } else { &["cp-0", "cp-2"] }, SOON).await?;
        world.awaits_no_error(SOON).await.with_context(|| format!("form {index}"))?;
        let fetched = tokens(&world) - before;
        assert!((1..=3).contains(&fetched), "form {index}: {fetched} tokens");
    }
    world.awaits_success(SOON).await?;
    // A refresh token that always fails is never tried.
    let grants = world.emulator.token_requests();
    assert!(!grants.keys().any(|grant| grant.contains("refresh")), "{grants:?}");
    assert!(!agent.log()?.contains("eyJ"), "a token in the log");
    world.check_invariants()
}

#[tokio::test]
async fn f18_a_token_endpoint_that_fails_is_waited_out_and_told() -> Result<()> {
    let world = World::start().await?;
    let over = json!({"stackit": {"requestTimeout": "1s"}, "loadBalancer": {"writesPerMinute": 600}});
    let agent = world.agent("cp-0", over).await?;
    world.awaits_success(SOON).await?;
    let cases = [
        (Action::gateway_error(503), "503", RETRYABLE),
        (Action::Hang { committed: false }, "no answer", RETRYABLE),
        (Action::answer(200, "application/json", r#"{"token_type": "Bearer"}"#), "no `access_token`", RETRYABLE),
        (Action::answer(400, "application/json", r#"{"error": "invalid_grant"}"#), "400", "ERR_INFRA_UNAUTHENTICATED"),
    ];
    for (index, (action, words, code)) in cases.into_iter().enumerate() {
        world.emulator.inject(Fault::new(action).path("/token"));
        world.emulator.revoke_tokens();
        let before = tokens(&world);
        let ready = index % 2 == 1;
        world.set_ready("cp-1", ready).await?;
        let status = world.awaits_error(words, SOON).await?;
        assert_eq!(status["lastError"]["codes"], json!([code]), "{status}");
        world.emulator.clear_faults();
        let all = ["cp-0", "cp-1", "cp-2"];
        world.awaits_targets(if ready { &all } else { &["cp-0", "cp-2"] }, SOON).await?;
        world.awaits_no_error(SOON).await.context(words)?;
        let fetched = tokens(&world) - before;
        ensure!(fetched <= 5, "{words}: {fetched} requests for a token");
    }
    world.awaits_success(SOON).await?;
    assert!(!agent.log()?.contains("eyJ"), "a token in the log");
    world.check_invariants()
}

#[tokio::test]
async fn f20_certificates_and_names_that_are_not_to_be_trusted_are_told_until_they_are() -> Result<()> {
    let world = World::start().await?;
    let tls = async |expired| Emulator::start(Options { tls: Some(Tls { expired }), ..Options::default() }).await;
    let (unknown, expired) = (tls(false).await?, tls(true).await?);
    let bundle = |name: &str, emulator: &Emulator| -> Result<_> {
        let file = world.file(name);
        std::fs::write(&file, emulator.authority_pem().unwrap_or_default())?;
        Ok(file)
    };
    let (of_unknown, of_expired) = (bundle("unknown.pem", &unknown)?, bundle("expired.pem", &expired)?);
    let over = json!({"stackit": {"loadBalancerEndpoint": unknown.url(), "requestTimeout": "2s"}});
    let agent = world.agent("cp-0", over).await?;
    let told = async |words: &str| {
        let status = world.awaits_error(words, SOON).await?;
        ensure!(status["lastError"]["codes"] == json!([RETRYABLE]), "{status}");
        anyhow::Ok(())
    };
    told("UnknownIssuer").await?;
    let stackit = json!({"loadBalancerEndpoint": expired.url(), "caBundle": of_expired});
    agent.change_settings(json!({ "stackit": stackit }))?;
    told("xpired").await?;
    agent.change_settings(json!({"stackit": {"loadBalancerEndpoint": "https://nowhere.invalid"}}))?;
    told("dns").await?;
    for emulator in [&unknown, &expired] {
        assert_eq!(emulator.with_journal(<[_]>::len), 0, "a request, and with it a token, to whom nobody knows");
    }
    // The right authority for the right server.
    let key = unknown.service_account_key(&KeyOptions::default())?;
    world.write_key(&key)?;
    let stackit = json!({"loadBalancerEndpoint": unknown.url(), "caBundle": of_unknown,
        "tokenEndpoint": unknown.token_url()});
    agent.change_settings(json!({ "stackit": stackit }))?;
    world.awaits_success(SOON).await?;
    assert_eq!(unknown.balancers().len(), 1);
    Ok(())
}

#[tokio::test]
async fn f20_connections_that_stall_or_are_reset_are_made_again() -> Result<()> {
    let world = World::start().await?;
    world.emulator.set_switches(|switches| switches.connections = Connections::Stall);
    let agent = world.agent("cp-0", json!({"stackit": {"requestTimeout": "1s"}})).await?;
    let status = world.awaits_error("in time", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!([RETRYABLE]));
    world.emulator.set_switches(|switches| switches.connections = Connections::Reset);
    // Other settings are a reason to try at once, whatever the pause by now.
    agent.change_settings(json!({"stackit": {"requestTimeout": "1100ms"}}))?;
    let status = world.awaits_error("onnection reset", SOON).await?;
    assert_eq!(status["lastError"]["codes"], json!([RETRYABLE]));
    world.emulator.set_switches(|switches| switches.connections = Connections::Serve);
    agent.change_settings(json!({"stackit": {"requestTimeout": "1s"}}))?;
    world.awaits_success(SOON).await?;
    assert_eq!((world.emulator.balancers().len(), world.targets().len()), (1, 3));
    // A body that is cut off in the middle is no balancer that lost its targets.
    world.emulator.inject(Fault::new(Action::Truncate { bytes: 300 }).method("GET").path("/load-balancers/").times(2));
    world.set_ready("cp-1", false).await?;
    world.awaits_targets(&["cp-0", "cp-2"], SOON).await?;
    world.awaits_success(SOON).await?;
    world.check_invariants()
}
