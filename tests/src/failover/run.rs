//! One fault, from its beginning until all is as before.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt as _;
use serde::Serialize;

use super::class::{Class, Victim};
use super::floor::Floor;
use super::rig::{PATIENCE, Rig};
use crate::agent::binary;
use crate::fixture;
use crate::wait::until;
use crate::world::NODES;

/// What was measured. Times in milliseconds; none where it does not apply, or did not happen.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Whom it hit.
    pub node: String,
    /// Whether that was the leader's node.
    pub leader: bool,
    /// Whether its etcd member led: then etcd chooses another leader first, and nobody is served meanwhile.
    pub etcd_leader: bool,
    /// From the fault to the arrival of the PUT without the target; of the first request of the next leader where no target
    /// has to leave.
    pub put: Option<f64>,
    /// From the fault to the answer to that PUT.
    pub removal: Option<f64>,
    /// From when the node's API server was ready to the answer to the PUT with the target.
    pub back: Option<f64>,
    /// The floor's PUT for an event of the same kind.
    pub floor: Option<f64>,
    /// Requests of the sampler from the fault until all was as before.
    pub requests: usize,
    /// Those that failed.
    pub failed: usize,
    /// From the fault to the beginning of the last request that failed.
    pub last_failed: Option<f64>,
    /// What went wrong: nothing happened in time, or a target left that nothing was wrong with.
    pub problems: Vec<String>,
}

/// Runs a class once. `round` says whose turn it is.
pub async fn run(rig: &mut Rig<'_>, class: Class, round: usize, floor: Option<&Floor>) -> Result<Sample> {
    let leader = rig.settled().await?;
    // Probes have a rhythm; faults have none.
    let pause = Duration::from_millis(rand::rng().random_range(1_000..2_000));
    tokio::time::sleep(pause).await;
    rig.emulator().clear_journal();
    let victim = match class.victim() {
        Victim::Leader => leader,
        Victim::Follower => (leader + 1 + round % 2) % NODES.len(),
        Victim::Any => round % NODES.len(),
    };
    let mut sample = Sample {
        node: NODES[victim].to_owned(),
        leader: victim == leader,
        etcd_leader: rig.world.control_plane.etcd().members()[victim].leads().await?,
        ..Sample::default()
    };
    if let Some(floor) = floor {
        sample.floor = Some(floor.event(rig, leader).await?);
    }
    let began = Instant::now();
    match class {
        Class::Rolling => rolling(rig, &mut sample).await?,
        _ => fault(rig, class, victim, leader, &mut sample).await?,
    }
    let requests = rig.sampler.between(began, Instant::now()).await;
    let failed = requests.iter().filter(|request| matches!(request.outcome, Some(Err(_))));
    sample.last_failed = failed.clone().map(|request| milliseconds(request.began - began)).reduce(f64::max);
    (sample.requests, sample.failed) = (requests.len(), failed.count());
    let all: Vec<usize> = (0..NODES.len()).collect();
    let excused: &[usize] = match class {
        Class::Rolling => &all,
        _ if class.takes_a_target() => &[victim],
        _ => &[],
    };
    sample.problems.extend(rig.wrong(excused).into_iter().map(|targets| format!("wrong removal: {targets}")));
    Ok(sample)
}

async fn fault(rig: &mut Rig<'_>, class: Class, victim: usize, leader: usize, sample: &mut Sample) -> Result<()> {
    let began = Instant::now();
    inflict(rig, class, victim).await?;
    let seen = if class.takes_a_target() {
        rig.put(began, |targets| !targets.contains(&victim)).await
    } else {
        rig.request(began).await
    };
    match seen {
        Ok(entry) => {
            sample.put = Some(milliseconds(entry.arrived - began));
            let answered = entry.answered.filter(|_| class.takes_a_target());
            sample.removal = answered.map(|answered| milliseconds(answered - began));
        }
        Err(error) => sample.problems.push(format!("{error:#}").lines().next().unwrap_or_default().to_owned()),
    }
    if !class.takes_a_target() {
        let well = (victim + 1) % NODES.len();
        let holder = until("another leader", PATIENCE, || async {
            let holder = rig.leader(well).await?;
            ensure!(holder != leader, "still the old one");
            Ok(holder)
        });
        holder.await?;
    }
    // The fault lasts until every request that began under it has ended: mended sooner, it would save them.
    rig.sampler.between(began, Instant::now()).await;
    mend(rig, class, victim).await?;
    let ready = Instant::now();
    if class.takes_a_target() && sample.removal.is_some() {
        match rig.put(began, |targets| targets.len() == NODES.len()).await {
            Ok(entry) => {
                let answered = entry.answered.unwrap_or(entry.arrived);
                sample.back = Some(milliseconds(answered.saturating_duration_since(ready)));
            }
            Err(_) => sample.problems.push(format!("{} did not come back", NODES[victim])),
        }
    }
    Ok(())
}

async fn inflict(rig: &mut Rig<'_>, class: Class, victim: usize) -> Result<()> {
    let server = &rig.world.control_plane.api_servers()[victim];
    let member = &rig.world.control_plane.etcd().members()[victim];
    match class {
        Class::NodeEvent => {
            let leader = rig.leader((victim + 1) % NODES.len()).await?;
            fixture::set_ready(&rig.admins[leader], NODES[victim], false).await.map(drop)
        }
        Class::Kill | Class::KillLeaders => server.kill(),
        Class::Stop => server.process().pause(),
        Class::Graceful => server.process().terminate(),
        Class::EtcdKill => member.process().kill().map(drop),
        Class::EtcdStop => member.process().pause(),
        Class::EtcdLost => rig.network.lose_etcd(victim),
        Class::LinkDown => rig.network.unplug(victim),
        Class::LeaderDown | Class::LeaderDownShort => {
            rig.network.unplug(victim)?;
            rig.agents[victim].process().kill()?;
            server.kill()?;
            member.process().kill().map(drop)
        }
        Class::LeaderTerm => rig.agents[victim].process().terminate(),
        Class::LeaderKill | Class::LeaderKillShort => rig.agents[victim].process().kill().map(drop),
        Class::Rolling => Ok(()),
    }
}

/// Undoes it, and returns when the node's API server is ready.
async fn mend(rig: &mut Rig<'_>, class: Class, victim: usize) -> Result<()> {
    let server = &rig.world.control_plane.api_servers()[victim];
    let member = &rig.world.control_plane.etcd().members()[victim];
    match class {
        Class::NodeEvent => {
            fixture::set_ready(&rig.admins[(victim + 1) % NODES.len()], NODES[victim], true).await?;
        }
        Class::Kill | Class::KillLeaders => server.process().restart()?,
        Class::Stop => server.process().resume()?,
        Class::Graceful => {
            server.process().exited(PATIENCE).await?;
            server.process().restart()?;
        }
        Class::EtcdKill => {
            member.process().restart()?;
            member.healthy(PATIENCE).await?;
        }
        Class::EtcdStop => member.process().resume()?,
        Class::EtcdLost => rig.network.find_etcd(victim)?,
        Class::LinkDown => rig.network.plug(victim)?,
        Class::LeaderDown | Class::LeaderDownShort => {
            rig.network.plug(victim)?;
            member.process().restart()?;
            member.healthy(PATIENCE).await?;
            server.process().restart()?;
            rig.agents[victim].process().restart()?;
        }
        Class::LeaderTerm => {
            rig.agents[victim].process().exited(PATIENCE).await?;
            rig.agents[victim].process().restart()?;
        }
        Class::LeaderKill | Class::LeaderKillShort => rig.agents[victim].process().restart()?,
        Class::Rolling => {}
    }
    server.ready().await
}

/// `drain --wait`, restart, `undrain`, one node after the other, as an operator would from another node. The times are
/// those of the slowest, from the start of the verb.
async fn rolling(rig: &Rig<'_>, sample: &mut Sample) -> Result<()> {
    "all".clone_into(&mut sample.node);
    let slowest = |one: Option<f64>, other: f64| Some(one.map_or(other, |one| one.max(other)));
    for (node, name) in NODES.into_iter().enumerate() {
        let began = Instant::now();
        let elsewhere = (node + 1) % NODES.len();
        verb(rig, elsewhere, &["drain", name, "--wait"]).await?;
        let gone = rig.put(began, |targets| !targets.contains(&node)).await.context("draining")?;
        sample.put = slowest(sample.put, milliseconds(gone.arrived - began));
        sample.removal = slowest(sample.removal, milliseconds(gone.answered.unwrap_or(gone.arrived) - began));
        let server = &rig.world.control_plane.api_servers()[node];
        server.stop().await?;
        server.restart().await?;
        let ready = Instant::now();
        verb(rig, elsewhere, &["undrain", name]).await?;
        let back = rig.put(ready, |targets| targets.contains(&node)).await.context("undraining")?;
        sample.back = slowest(sample.back, milliseconds(back.answered.unwrap_or(back.arrived) - ready));
    }
    Ok(())
}

/// Runs a verb of the agent on node `at`, with the settings of the agent there.
async fn verb(rig: &Rig<'_>, at: usize, arguments: &[&str]) -> Result<()> {
    let mut command = tokio::process::Command::from(rig.network.seat(at).command(binary()?));
    command.args(arguments).arg("--config").arg(rig.agents[at].config()).env_remove("KUBECONFIG").kill_on_drop(true);
    let output = command.output().await.with_context(|| format!("running {arguments:?}"))?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// For reports.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
