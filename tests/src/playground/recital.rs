//! A script played without a terminal: each line as it is done, and what has come of it.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::{Instant, sleep};

use super::load::Phase;
use super::play::Play;
use super::script::{Line, Step};

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long a balancer may take until it listens, and clients until they have their answers.
const SOON: Duration = Duration::from_secs(20);

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// The steps and what has come of them.
    Steps,
    /// What agents and clients say as well.
    Everything,
}

/// Plays a script to its end. The error says which line did not come true.
pub async fn recite(play: &mut Play, script: &[Line], telling: Telling) -> Result<()> {
    let mut recital = Recital { play, telling, told: 0 };
    for line in script {
        recital.say(&line.text)?;
        let done = recital.step(&line.step).await.with_context(|| format!("`{}` did not come true", line.text));
        let result = match done {
            Ok(result) => result,
            Err(error) => return Err(error.context(recital.last_events())),
        };
        if let Some(result) = result {
            recital.say(&format!("  -> {result}"))?;
        }
    }
    recital.play.load().set_rate(0);
    let rest = recital.phase().await?;
    ensure!(rest.failed == 0, "{} requests have failed since the last line that allows any", rest.failed);
    Ok(())
}

struct Recital<'a> {
    play: &'a mut Play,
    telling: Telling,
    /// Events that have been told.
    told: usize,
}

impl Recital<'_> {
    fn say(&self, what: &str) -> Result<()> {
        say(self.play.at(), what)
    }

    /// Looks, and tells what is new.
    fn look(&mut self) -> Result<()> {
        self.play.look()?;
        if self.telling == Telling::Everything {
            for event in self.play.events().get(self.told..).unwrap_or_default() {
                if event.who != "you" {
                    say(event.at, &format!("     {}: {}", event.who, event.what))?;
                }
            }
        }
        self.told = self.play.events().len();
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<Option<String>> {
        let begun = Instant::now();
        match step {
            Step::Act(act) => {
                self.play.act(*act).await?;
                return Ok(None);
            }
            Step::Load(rate) => {
                self.until(SOON, |play| if play.listens() { Ok(()) } else { bail!("the balancer does not listen") })
                    .await?;
                self.play.load().set_rate(*rate);
                return Ok(None);
            }
            Step::Run(time) => {
                while begun.elapsed() < *time {
                    self.look()?;
                    sleep(LOOK).await;
                }
                return Ok(None);
            }
            Step::Targets(nodes, time) => self.until(*time, |play| are(&play.targets(), nodes)).await?,
            Step::Steady(nodes, time) => {
                while begun.elapsed() < *time {
                    self.look()?;
                    are(&self.play.targets(), nodes)?;
                    sleep(LOOK).await;
                }
                return Ok(Some("so it was, all the time".to_owned()));
            }
            Step::Verdict(node, word, time) => loop {
                self.look()?;
                let verdicts = self.play.verdicts().await;
                let verdict = verdicts.get(*node).map(String::as_str).unwrap_or_default();
                if verdict == word {
                    break;
                }
                ensure!(begun.elapsed() < *time, "the leader says `{verdict}`");
                sleep(LOOK).await;
            },
            Step::Leader(name, time) => self.until(*time, |play| is(&play.leader(), name)).await?,
            Step::Frozen(time) => {
                self.until(*time, |play| play.frozen().map(drop).context("the targets are not frozen")).await?;
            }
            Step::Failures(most, least) => {
                let Phase { begun, failed, .. } = self.phase().await?;
                let why = self.play.load().figures().last_failure.unwrap_or_default();
                ensure!(failed <= *most, "{failed} of {begun} requests have failed, the last one: {why}");
                ensure!(begun >= *least, "there were only {begun} requests");
                return Ok(Some(format!("{failed} of {begun} requests have failed")));
            }
        }
        Ok(Some(format!("after {:.2} s", begun.elapsed().as_secs_f64())))
    }

    /// Ends a phase of the clients, and waits until all of its requests have ended.
    async fn phase(&mut self) -> Result<Phase> {
        let number = self.play.load().end_phase();
        let begun = Instant::now();
        loop {
            self.look()?;
            if let Some(phase) = self.play.load().take_phase(number) {
                return Ok(phase);
            }
            ensure!(begun.elapsed() < SOON, "clients wait for their answers");
            sleep(LOOK).await;
        }
    }

    async fn until(&mut self, time: Duration, holds: impl Fn(&Play) -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.look()?;
            match holds(self.play) {
                Ok(()) => return Ok(()),
                Err(error) if begun.elapsed() >= time => return Err(error),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    fn last_events(&self) -> String {
        let events = self.play.events();
        let from = events.len().saturating_sub(15);
        let line =
            |event: &super::play::Event| format!("  {:6.2} s  {}: {}\n", event.at.as_secs_f64(), event.who, event.what);
        let lines: String = events.get(from..).unwrap_or_default().iter().map(line).collect();
        format!("the last that happened:\n{lines}")
    }
}

fn are(found: &[String], wanted: &[String]) -> Result<()> {
    ensure!(found == wanted, "the targets are {}", found.join(" "));
    Ok(())
}

fn is(found: &str, wanted: &str) -> Result<()> {
    ensure!(found == wanted, "it is `{found}`");
    Ok(())
}

/// A line of the transcript. A reader that has gone is no failure.
fn say(at: Duration, what: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{:6.2} s  {what}", at.as_secs_f64()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("printing"),
        _ => Ok(()),
    }
}
