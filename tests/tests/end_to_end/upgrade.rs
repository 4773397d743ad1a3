//! From one version to the next under load: one agent after the other is stopped and a new process put in its place, while
//! nodes come and go. Every change reaches the balancer, nothing wrong ever does, and somebody always leads again.
//!
//! `SHOOT_EXPOSURE_AGENT_PREVIOUS` names the older binary; `.ci/run` builds one with another revision. Without it old and
//! new are the same. The file is replaced as on a node; the second round is the way back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::agent::{Agent, binary};
use tests::process::say;
use tests::wait::until;
use tests::world::{BALANCER, NODES, World, targets_of};

/// The binary to upgrade from.
const PREVIOUS: &str = "SHOOT_EXPOSURE_AGENT_PREVIOUS";
/// Time for a change to reach the balancer, whatever is being restarted: a release is seen at once, a start takes a
/// second on a busy machine.
const REACHED: Duration = Duration::from_secs(20);

fn names(balancer: &Value) -> BTreeSet<String> {
    targets_of(balancer).iter().filter_map(|target| target.split(' ').next().map(str::to_owned)).collect()
}

/// Flips one node after the other, each time awaiting that the balancer has followed; the longest wait.
struct Load<'a> {
    world: &'a World,
    changes: usize,
    longest: Duration,
}

impl Load<'_> {
    /// One node leaves and comes back.
    async fn turn(&mut self) -> Result<()> {
        let node = NODES[self.changes / 2 % NODES.len()];
        for ready in [false, true] {
            let started = Instant::now();
            self.world.set_ready(node, ready).await?;
            let all = NODES.map(str::to_owned).into_iter().collect::<BTreeSet<_>>();
            let wanted: BTreeSet<String> = all.into_iter().filter(|name| ready || name != node).collect();
            until(&format!("{node} to be ready={ready} on the balancer"), REACHED, || async {
                let found = self.world.emulator.balancer(BALANCER).map(|it| names(&it)).unwrap_or_default();
                ensure!(found == wanted, "{found:?}");
                Ok(())
            })
            .await
            .with_context(|| format!("change {} was missed", self.changes))?;
            self.changes += 1;
            self.longest = self.longest.max(started.elapsed());
        }
        Ok(())
    }
}

/// Where each agent's binary lies, and the two that take turns there.
struct Binaries {
    old: PathBuf,
    new: PathBuf,
}

impl Binaries {
    fn find() -> Result<Self> {
        let new = binary()?.to_owned();
        let old = std::env::var_os(PREVIOUS).map(PathBuf::from);
        if old.is_none() {
            say(&format!("one version only: {PREVIOUS} names no other binary"));
        }
        Ok(Self { old: old.unwrap_or_else(|| new.clone()), new })
    }

    /// Puts one in place, as a whole.
    fn install(&self, new: bool, place: &Path) -> Result<()> {
        let beside = place.with_extension("new");
        std::fs::copy(if new { &self.new } else { &self.old }, &beside)?;
        std::fs::rename(beside, place).context("replacing the binary")
    }

    fn differ(&self) -> bool {
        self.old != self.new
    }
}

/// What a running agent says that it is.
async fn revision(agent: &Agent) -> Result<String> {
    let (status, text) = agent.get("/state").await?;
    ensure!(status == 200, "{status}: {text}");
    let state: Value = serde_json::from_str(&text)?;
    Ok(state["revision"].as_str().context("no revision")?.to_owned())
}

async fn ready(agent: &Agent) -> Result<()> {
    until("the new agent to be ready", REACHED, || async {
        let (status, text) = agent.get("/readyz").await?;
        ensure!(status == 200, "{text}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_of_three_agents_and_the_way_back_miss_no_change() -> Result<()> {
    let (world, binaries) = (World::start().await?, Binaries::find()?);
    let places = NODES.map(|node| world.file(&format!("agent-of-{node}")));
    // A node that was taken out may come back at once: here the changes are the load, not the evidence.
    let over =
        json!({"health": {"reAddDelay": {"initial": "0s", "max": "0s"}}, "loadBalancer": {"writesPerMinute": 6000}});
    let mut agents = Vec::new();
    for (node, place) in NODES.into_iter().zip(&places) {
        binaries.install(false, place)?;
        agents.push(world.agent_of(place, node, over.clone()).await?);
    }
    let mut before = revision(&agents[0]).await?;
    world.awaits_success(REACHED).await?;
    world.awaits_targets(&NODES, REACHED).await?;
    let mut load = Load { world: &world, changes: 0, longest: Duration::ZERO };
    load.turn().await?;
    let mut leaders = BTreeSet::from([world.holder().await?]);
    // The leader goes last in one round and first in the next: both orders happen in real rollouts.
    for round in 0..2 {
        for index in 0..NODES.len() {
            let index = if round == 0 { index } else { NODES.len() - 1 - index };
            let old = agents[index].process().id();
            binaries.install(round == 0, &places[index])?;
            agents[index].process().terminate()?;
            // Changes go on while it ends, while nobody may lead, and while the next one starts.
            let ended = async {
                let status = agents[index].process().exited(REACHED).await?;
                ensure!(status.code() == Some(0), "an agent ended with {status}");
                agents[index].process().restart()?;
                ready(&agents[index]).await
            };
            let (ended, turned) = tokio::join!(ended, load.turn());
            ended?;
            turned?;
            assert_ne!(agents[index].process().id(), old);
            leaders.insert(world.holder().await?);
        }
        let after = revision(&agents[0]).await?;
        assert_eq!(after != before, binaries.differ(), "{before} became {after}");
        before = after;
    }
    ensure!(leaders.len() >= 2, "leadership never changed: {leaders:?}");
    world.awaits_success(REACHED).await?;
    // No step in between was wrong: never less than two targets, never a stranger.
    for body in world.emulator.bodies("PUT", "/load-balancers/") {
        let names = names(&body);
        ensure!(names.len() >= 2 && names.iter().all(|name| NODES.contains(&name.as_str())), "{names:?}");
    }
    let refused = world.emulator.with_journal(|entries| {
        entries.iter().filter(|entry| entry.method == "PUT" && entry.status == Some(409)).count()
    });
    println!(
        "{} changes over {} restarts, 0 missed; longest {:.2} s; {} leaders; {refused} writes lost to another agent's",
        load.changes,
        2 * NODES.len(),
        load.longest.as_secs_f64(),
        leaders.len()
    );
    world.check_invariants()
}
