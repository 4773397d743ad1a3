//! What probing five nodes costs: processor time of the prober alone, against five real API servers or, with
//! `SERVERS=1`, one of them asked under five names.
//!
//! `cargo run --release -p tests --bin probe-bench [SECONDS]`
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use decide::probe::ProbeClass;
use decide::settings::Settings;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::time::{ClockId, clock_gettime};
use shoot_exposure_agent::admin::metrics::Metrics;
use shoot_exposure_agent::host::clock;
use shoot_exposure_agent::probe::{self, Readings, Target, Way};
use tests::control_plane::ControlPlane;
use tests::control_plane::users::STRANGER;
use tests::wait::until;
use tokio::sync::watch;

const NODES: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(60), |text| text.parse()).context("SECONDS is a number")?;
    let servers = std::env::var("SERVERS").map_or(Ok(5), |text| text.parse()).context("SERVERS is a number")?;
    let control_plane = ControlPlane::builder().api_servers(servers).start().await?;
    let kubeconfig = Kubeconfig::from_yaml(&control_plane.access(&STRANGER).kubeconfig()?)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let addresses = control_plane.api_servers().iter().map(probe_address).cycle().take(NODES);
    let targets: BTreeSet<Target> =
        addresses.enumerate().map(|(node, (ip, port))| Target { uid: format!("node-{node}"), ip, port }).collect();
    let (way, live) =
        (watch::Sender::new(Way::from_config(&config)?), watch::Sender::new(Arc::new(Settings::default())));
    let (wanted, out) = (watch::Sender::new(targets.clone()), watch::Sender::new(Readings::default()));
    let mut readings = out.subscribe();
    tokio::spawn(probe::run(
        wanted.subscribe(),
        way.subscribe(),
        live.subscribe(),
        Metrics::new("lease", "0", "0"),
        out,
    ));
    let slow = Settings::default().health.probe.slow;
    until("all green", Duration::from_secs(60), || async {
        let now = clock::now();
        let readings = readings.borrow();
        for target in &targets {
            let reading = readings.reading(target, now, slow, false).unwrap_or_default();
            ensure!(reading.class == ProbeClass::Green && reading.fresh_greens >= 2, "{}: {reading:?}", target.uid);
        }
        Ok(())
    })
    .await?;
    readings.mark_unchanged();
    let before = used()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = used()?.saturating_sub(before).as_secs_f64();
    println!("{NODES} nodes on {servers} API servers, probed for {seconds} s with the defaults, all green");
    println!("  CPU: {used:.3} s, {:.3} % of a core", used * 100.0 / f64::from(u32::try_from(seconds)?));
    println!("  readers woken: {}", readings.has_changed()?);
    Ok(())
}

fn probe_address(server: &tests::control_plane::apiserver::ApiServer) -> (std::net::IpAddr, u16) {
    (server.address().ip(), server.address().port())
}

/// Processor time of this process, all threads, children not.
fn used() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?))
}
