//! What is waited for: a bar that is drawn over and over on a terminal, a line for each step elsewhere, and the STATUS of
//! a unit.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use decide::errand::{Stage, Step};

use crate::host::systemd::Notifier;

/// Characters of the bar.
const WIDTH: usize = 24;

/// What is shown, on stderr.
pub(super) struct Show {
    stages: &'static [Stage],
    systemd: Notifier,
    terminal: bool,
    /// Somebody types just now.
    pub(super) is_hidden: bool,
    started: Instant,
    step: Step,
    since: Instant,
    /// When the stage began, whatever was said in it.
    stage_since: Instant,
}

impl Show {
    /// Begins with the first stage.
    pub(super) fn new(stages: &'static [Stage]) -> Self {
        let now = Instant::now();
        let step = Step { stage: Stage::Look, what: String::new() };
        let terminal = std::io::stderr().is_terminal();
        let systemd = Notifier::from_environment();
        Self { stages, systemd, terminal, is_hidden: false, started: now, step, since: now, stage_since: now }
    }

    /// This is waited for now.
    pub(super) fn step(&mut self, step: Step) {
        if self.step == step {
            return;
        }
        let now = Instant::now();
        if self.step.stage != step.stage {
            self.stage_since = now;
        }
        (self.step, self.since) = (step, now);
        self.systemd.status(&self.place());
        if self.terminal {
            self.draw();
        } else {
            say(&format!("{}; {}\n", self.place(), self.step.stage.usually()));
        }
    }

    /// Draws the bar again, where there is one.
    pub(super) fn draw(&self) {
        if self.terminal && !self.is_hidden {
            let percent = self.step.stage.percent(self.stages, self.stage_since.elapsed());
            let full = usize::try_from(percent).unwrap_or_default() * WIDTH / 100;
            let bar = format!("{}{}", "#".repeat(full), "-".repeat(WIDTH - full));
            // Without wrapping: a line that is longer than the terminal would leave its beginning behind.
            say(&format!("\r\x1b[?7l[{bar}] {percent:>2} %  {}\x1b[K\x1b[?7h", self.current()));
        }
    }

    /// Says where it is, now: somebody has asked.
    pub(super) fn answer(&self, left: Duration) {
        let end = if self.terminal { "\r\x1b[K" } else { "" };
        say(&format!("{end}{}; {} s until --timeout\n", self.current(), left.as_secs()));
        self.draw();
    }

    /// A line that stays.
    pub(super) fn line(&self, text: &str) {
        let end = if self.terminal { "\r\x1b[K" } else { "" };
        say(&format!("{end}{text}\n"));
    }

    /// What is waited for, for people.
    pub(super) fn what(&self) -> &str {
        &self.step.what
    }

    /// Time since the start.
    pub(super) fn spent(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if self.terminal {
            say("\r\x1b[K");
        }
    }

    fn current(&self) -> String {
        format!("{}, for {} s; {}", self.place(), self.since.elapsed().as_secs(), self.step.stage.usually())
    }

    fn place(&self) -> String {
        format!("{}/{} {}", self.step.stage.number(self.stages), self.stages.len(), self.step.what)
    }
}

fn say(text: &str) {
    // Where stderr is gone, the exit code is all that is left.
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}
