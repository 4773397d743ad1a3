//! From one version to the next under load: one agent after the other is stopped and a new process put in its place, while
//! nodes come and go. Every change reaches the balancer, nothing wrong ever does, and somebody always leads again.
//!
//! Old and new are the same binary: what an upgrade asks of it is that a process ends well and the next one takes over.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::wait::until;
use tests::world::{BALANCER, NODES, World, targets_of};

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

async fn ready(agent: &Agent) -> Result<()> {
    until("the new agent to be ready", REACHED, || async {
        let (status, text) = agent.get("/readyz").await?;
        ensure!(status == 200, "{text}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_agents_misses_no_change() -> Result<()> {
    let world = World::start().await?;
    // A node that was taken out may come back at once: here the changes are the load, not the evidence.
    let over =
        json!({"health": {"reAddDelay": {"initial": "0s", "max": "0s"}}, "loadBalancer": {"writesPerMinute": 6000}});
    let mut agents = Vec::new();
    for node in NODES {
        agents.push(world.agent(node, over.clone()).await?);
    }
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
