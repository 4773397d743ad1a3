//! Settings that are read again: when the file changes, and on SIGHUP.
//!
//! Valid ones are in effect at once, except for what waits for the next start, which the log names. Invalid ones change
//! nothing and are named with their paths; `/readyz` and a counter show that the file is not what is in effect.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use decide::settings::{Reloaded, Settings, reload};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admin::log::LogHandle;
use crate::admin::metrics::ReloadResult;
use crate::admin::{Check, Metrics};
use crate::host::config::Source;
use crate::host::reload::Changes;
use crate::host::systemd::Notifier;

/// Time for a writer to finish: a file that is written in place is empty for a moment.
const SETTLE: Duration = Duration::from_millis(100);

/// The settings in effect, for everybody who looks at them more than once.
pub type Live = watch::Receiver<Arc<Settings>>;

/// What the task works with.
pub struct Reloading {
    /// File, environment and flags.
    pub source: Source,
    /// The settings in effect.
    pub out: watch::Sender<Arc<Settings>>,
    /// Level and format follow.
    pub log: LogHandle,
    /// SIGHUP.
    pub hangup: Signal,
    /// For `/readyz`.
    pub check: Check,
    /// The numbers.
    pub metrics: Metrics,
    /// Waits for the end of a reload that it asked for.
    pub systemd: Notifier,
}

impl Reloading {
    /// Follows the file without end.
    pub async fn run(mut self) {
        self.check.ok();
        let changes = Changes::of_file(&self.source.file);
        // What was read at the start may have changed before anybody watched: the first look compares.
        let mut seen = None;
        let mut waiting = Vec::new();
        loop {
            let content = settled(&self.source).await;
            if seen != Some(content) {
                let first = seen.replace(content).is_none();
                self.read(first, &mut waiting);
            }
            tokio::select! {
                () = changes.next() => {}
                _ = self.hangup.recv() => {
                    info!("SIGHUP: reading the settings again");
                    self.systemd.reloading();
                    seen = Some(settled(&self.source).await);
                    self.read(false, &mut waiting);
                    self.systemd.reloaded();
                }
            }
        }
    }

    /// Reads the settings once; `quiet`: the same ones again are no news.
    fn read(&self, quiet: bool, said: &mut Vec<String>) {
        let loaded = match self.source.load() {
            Ok(loaded) => loaded,
            Err(errors) => {
                for mistake in &errors.mistakes {
                    warn!(setting = mistake.path, hint = mistake.hint, "{}: {}", mistake.origin, mistake.found);
                }
                let count = errors.mistakes.len();
                warn!(mistakes = count, "the settings are refused; the last good ones stay in effect");
                self.check.fail(&format!("refused, the last good ones stay in effect: {errors}"));
                self.metrics.config_reloaded(ReloadResult::Error);
                return;
            }
        };
        let Reloaded { settings, applied, waiting } = reload(&self.out.borrow(), loaded.settings);
        self.check.ok();
        if quiet && applied.is_empty() && waiting.is_empty() {
            return;
        }
        self.metrics.config_reloaded(ReloadResult::Success);
        info!(changed = ?applied, "read the settings again");
        if !waiting.is_empty() && *said != waiting {
            warn!(settings = ?waiting, "these have changed and take effect at the next start; until then the old ones hold");
        }
        *said = waiting;
        if !applied.is_empty() {
            self.log.apply(&settings.log);
            self.out.send_replace(Arc::new(settings));
        }
    }
}

/// What the file holds, as a number, once it is the same twice in a row.
async fn settled(source: &Source) -> u64 {
    let look = || {
        let mut hasher = DefaultHasher::new();
        match std::fs::read(&source.file) {
            Ok(content) => content.hash(&mut hasher),
            Err(error) => error.kind().hash(&mut hasher),
        }
        hasher.finish()
    };
    let mut before = look();
    loop {
        tokio::time::sleep(SETTLE).await;
        let now = look();
        if now == before {
            return now;
        }
        before = now;
    }
}
