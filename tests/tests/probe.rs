//! The probes against a real kube-apiserver and etcd.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use decide::probe::{ProbeClass, Reading};
use decide::settings::Settings;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use shoot_exposure_agent::admin::metrics::Metrics;
use shoot_exposure_agent::host::clock;
use shoot_exposure_agent::probe::{self, Readings, Target, Way};
use tests::control_plane::ControlPlane;
use tests::control_plane::apiserver::ApiServer;
use tests::control_plane::users::STRANGER;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(60);
/// What a busy machine may add to a time that is measured.
const SLACK: Duration = Duration::from_millis(250);

/// Probes of the API servers of a control plane, with the defaults.
struct Probing {
    out: watch::Receiver<Readings>,
    task: JoinHandle<()>,
    _keep: (watch::Sender<BTreeSet<Target>>, watch::Sender<Way>, watch::Sender<Arc<Settings>>),
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn target(server: &ApiServer) -> Target {
    let address = server.address();
    Target { uid: address.to_string(), ip: address.ip(), port: address.port() }
}

impl Probing {
    /// As a user who may do nothing but what every authenticated one may.
    async fn start(control_plane: &ControlPlane) -> Result<Self> {
        let kubeconfig = Kubeconfig::from_yaml(&control_plane.access(&STRANGER).kubeconfig()?)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let targets = watch::Sender::new(control_plane.api_servers().iter().map(target).collect());
        let (way, live) =
            (watch::Sender::new(Way::from_config(&config)?), watch::Sender::new(Arc::new(Settings::default())));
        let out = watch::Sender::new(Readings::default());
        let reader = out.subscribe();
        let metrics = Metrics::new("lease", "0", "0");
        let task = tokio::spawn(probe::run(targets.subscribe(), way.subscribe(), live.subscribe(), metrics, out));
        Ok(Self { out: reader, task, _keep: (targets, way, live) })
    }

    fn reading(&self, server: &ApiServer) -> Reading {
        let slow = Settings::default().health.probe.slow;
        self.out.borrow().reading(&target(server), clock::now(), slow, false).unwrap_or_default()
    }

    /// Waits for a reading like this one; gives the time it took and the classes seen on the way.
    async fn until(
        &self,
        server: &ApiServer,
        like: impl Fn(&Reading) -> bool,
    ) -> Result<(Duration, BTreeSet<ProbeClass>)> {
        let (start, mut seen, mut out) = (Instant::now(), BTreeSet::new(), self.out.clone());
        loop {
            let reading = self.reading(server);
            seen.insert(reading.class);
            if like(&reading) {
                return Ok((start.elapsed(), seen));
            }
            ensure!(start.elapsed() < DEADLINE, "last seen: {reading:?}");
            let _ = tokio::time::timeout(Duration::from_millis(5), out.changed()).await;
        }
    }

    async fn class(&self, server: &ApiServer, class: ProbeClass) -> Result<(Duration, BTreeSet<ProbeClass>)> {
        self.until(server, |reading| reading.class == class).await.with_context(|| format!("awaiting {class:?}"))
    }

    /// In for good: requests go over the held connection.
    async fn settled(&self, server: &ApiServer) -> Result<()> {
        let settled = |reading: &Reading| reading.class == ProbeClass::Green && reading.fresh_greens >= 2;
        self.until(server, settled).await.map(drop).context("awaiting green")
    }
}

#[tokio::test]
async fn a_plain_account_sees_an_api_server_killed_stopped_cut_off_and_shut_down() -> Result<()> {
    let control_plane = ControlPlane::builder().flag("--shutdown-delay-duration=3s").start().await?;
    let server = control_plane.api_server();
    let probing = Probing::start(&control_plane).await?;
    probing.settled(server).await?;

    // Killed: the end of the held connection makes a dial, and that is refused.
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let killed = Instant::now();
        server.kill()?;
        // A kill returns when the process is gone; its connections have ended by then.
        let gone = Instant::now();
        probing.class(server, ProbeClass::Refused).await?;
        fastest = fastest.min(gone.elapsed());
        ensure!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
        server.restart().await?;
        probing.settled(server).await?;
    }
    ensure!(fastest < Duration::from_millis(100), "refused {fastest:?} after the end of the process");

    // Stopped: the kernel goes on to accept, nobody answers.
    server.process().pause()?;
    let (took, _) = probing.class(server, ProbeClass::Silent).await?;
    ensure!(took <= Duration::from_millis(2500) + SLACK, "silent after {took:?}");
    server.process().resume()?;
    probing.class(server, ProbeClass::Green).await?;
    probing.settled(server).await?;

    // Its etcd stopped: it lives, and says so.
    control_plane.etcd().pause()?;
    let (took, seen) = probing.class(server, ProbeClass::EtcdCut).await?;
    ensure!(took <= Duration::from_secs(5), "cut off after {took:?}");
    ensure!(!seen.contains(&ProbeClass::Silent) && !seen.contains(&ProbeClass::Refused), "{seen:?}");
    control_plane.etcd().resume()?;
    let (_, seen) = probing.class(server, ProbeClass::Green).await?;
    ensure!(!seen.contains(&ProbeClass::Silent), "{seen:?}");
    probing.settled(server).await?;

    // Asked to end: it says so while it still serves.
    server.process().terminate()?;
    let (took, seen) = probing.class(server, ProbeClass::Shutdown).await?;
    ensure!(took <= Duration::from_secs(1) + SLACK, "shutdown after {took:?}");
    ensure!(seen.iter().all(|class| [ProbeClass::Green, ProbeClass::Shutdown].contains(class)), "{seen:?}");
    Ok(())
}
