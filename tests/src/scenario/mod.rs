//! Stories as text: a script goes in, a transcript comes out, and the file holds both.
//!
//! ```text
//! # A node that is not ready leaves the pool.
//! > ready cp-0 cp-1 cp-2
//! > node cp-1 not-ready
//! ```
//! A line that starts with `> ` is a command; the lines below it are what came of it. `ACCEPT=1 cargo test -p tests --test
//! scenarios` writes them anew.
//!
//! What runs is the real thing: the verdicts, passes and memory of `decide`, the agent's client for STACKIT against the
//! emulator over loopback, and its client for Kubernetes against an API server in memory. Only the loop around them is made
//! for stories ([`stage`]), because it owns the time: nothing in a story waits for a clock on the wall, and each runs the
//! same way every time. It starts steps as the agent's worker does, one a lane, all from the same pass.
//!
//! | module | noun |
//! |---|---|
//! | [`script`] | the file: commands and what came of them |
//! | `command` | one command, carried out on the stage |
//! | [`stage`] | the loop of passes, and time |
//! | `cloud` | the emulator, the client, and how long provisioning takes in the story's time |
//! | `cluster` | the API server in memory |
//! | `node` | Nodes and what happens to them |
//! | `words` | how steps and answers are written down |

mod cloud;
mod cluster;
mod command;
mod node;
pub mod script;
pub mod stage;
mod words;

use anyhow::{Context as _, Result};

use script::Script;
use stage::Stage;

/// Runs a story and gives back the file as it should be.
///
/// # Errors
/// When a command is not understood, or the stage cannot be set.
pub async fn run(text: &str) -> Result<String> {
    let mut script = Script::parse(text)?;
    let mut stage = Stage::new().await?;
    for turn in &mut script.turns {
        let done = command::run(&mut stage, &turn.command).await;
        done.with_context(|| format!("> {}", turn.command))?;
        turn.output = stage.take_lines();
    }
    Ok(script.to_string())
}
