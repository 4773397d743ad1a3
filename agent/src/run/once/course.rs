//! While something is awaited: the deadline, the signals, and whoever asks how far it is.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use decide::errand::{Stage, Step};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::super::{Signals, TimedOut};
use super::show::Show;

/// Time between two drawings of the bar.
const FRAME: Duration = Duration::from_millis(250);

/// One verb's way from its start to its end.
pub(super) struct Course {
    /// What is shown.
    pub(super) show: Show,
    deadline: Instant,
    timeout: Duration,
    signals: Signals,
    asked: Signal,
}

impl Course {
    /// Starts to listen; from here on SIGUSR1 is a question and no longer an end.
    pub(super) fn new(stages: &'static [Stage], timeout: Duration) -> anyhow::Result<Self> {
        let asked = signal(SignalKind::user_defined1()).context("listening for SIGUSR1")?;
        let deadline = Instant::now() + timeout;
        Ok(Self { show: Show::new(stages), deadline, timeout, signals: Signals::new()?, asked })
    }

    /// Says what is waited for from now on.
    pub(super) fn step(&mut self, stage: Stage, what: &str) {
        self.show.step(Step { stage, what: what.to_owned() });
    }

    /// Waits for `coming`, unless time is up or somebody ends it before.
    pub(super) async fn wait<T>(&mut self, coming: impl Future<Output = T>) -> anyhow::Result<T> {
        tokio::pin!(coming);
        loop {
            tokio::select! {
                came = &mut coming => return Ok(came),
                () = tokio::time::sleep(FRAME) => self.show.draw(),
                Some(()) = self.asked.recv() => {
                    self.show.answer(self.deadline.saturating_duration_since(Instant::now()));
                }
                () = self.signals.next() => {
                    self.show.end();
                    let what = self.show.what();
                    return Err(anyhow!("interrupted; the next run goes on from here (it was: {what})"));
                }
                () = tokio::time::sleep_until(self.deadline) => {
                    self.show.end();
                    let (after, what) = (self.timeout, self.show.what());
                    return Err(TimedOut(format!("not done after {after:?}: {what}")).into());
                }
            }
        }
    }
}
