//! How far the probes can be relied on.

use crate::Moment;
use crate::probe::Reading;
use crate::settings::Health;

/// How far the probes can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// They are off, or none has ever been green: the Node objects alone decide.
    #[default]
    Blind,
    /// They have begun: nothing leaves or enters before they could have answered.
    Starting,
    /// They see.
    Seeing,
}

impl Sight {
    /// From what the probes say at `now`. `since`: when the first requests were sent, `None` while probes are off;
    /// `ever_green`: whether any API server has been green since the agent started.
    pub fn judge<'a>(
        since: Option<Moment>,
        ever_green: bool,
        mut readings: impl Iterator<Item = &'a Reading>,
        now: Moment,
        health: &Health,
    ) -> Self {
        let Some(since) = since else { return Sight::Blind };
        if ever_green {
            return Sight::Seeing;
        }
        let over = now.since(since) >= health.probe.slow + health.probe.interval;
        if over || readings.all(|reading| reading.heard) { Sight::Blind } else { Sight::Starting }
    }
}
