//! Log output: to standard error, as text or as one JSON object a line; level and format change while it runs.
//!
//! The level is for our own code. Libraries never say less than `info` matters, so that a debug log holds no header of
//! theirs, and with it no token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use decide::settings::{Log, LogFormat, LogLevel};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{Targets, dynamic_filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

/// The packages whose level is the configured one.
const OURS: [&str; 2] = ["shoot_exposure_agent", "decide"];

/// Changes the log while it runs.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    json: Arc<AtomicBool>,
}

impl LogHandle {
    /// Applies level and format from now on.
    pub fn apply(&self, log: &Log) {
        self.json.store(log.format == LogFormat::Json, Ordering::Relaxed);
        // Fails only when the subscriber is gone, and then nothing is logged anyway.
        let _ = self.filter.reload(filter(log.level));
    }
}

/// Starts the log for the whole process. The error says that somebody has done so before.
pub fn init(log: &Log) -> Result<LogHandle, TryInitError> {
    let (subscriber, handle) = subscriber(log, std::io::stderr);
    subscriber.try_init()?;
    Ok(handle)
}

fn subscriber<W>(log: &Log, writer: W) -> (impl Subscriber + Send + Sync, LogHandle)
where
    W: for<'a> MakeWriter<'a> + Clone + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let json = Arc::new(AtomicBool::new(log.format == LogFormat::Json));
    // Two outputs, of which one is on: an output that changes its format would trip over spans that are open.
    let (as_json, as_text) = (Arc::clone(&json), Arc::clone(&json));
    let text = fmt::layer().with_writer(writer.clone()).with_ansi(false);
    let text = text.with_filter(dynamic_filter_fn(move |_, _| !as_text.load(Ordering::Relaxed)));
    let structured = fmt::layer().json().flatten_event(true).with_writer(writer);
    let structured = structured.with_filter(dynamic_filter_fn(move |_, _| as_json.load(Ordering::Relaxed)));
    (tracing_subscriber::registry().with(filter).with(text).with(structured), LogHandle { filter: handle, json })
}

fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        // Each refused watch again and again; `cluster::watch` says the same once.
        .with_target("kube_runtime", LevelFilter::ERROR)
        .with_targets(OURS.map(|target| (target, level)))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Memory {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn level_and_format_change_while_spans_are_open() {
        let memory = Memory::default();
        let (subscriber, handle) = subscriber(&Log::default(), memory.clone());
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("pass", exposure = "a").entered();
            tracing::debug!("hidden");
            tracing::info!(node = "n1", "shown");
            let text = memory.take();
            assert!(text.contains("shown node=\"n1\"") && !text.contains("hidden"), "{text}");

            handle.apply(&Log { level: LogLevel::Debug, format: LogFormat::Json });
            tracing::debug!(node = "n2", "in detail");
            tracing::debug!(target: "hyper::proto", "authorization: Bearer x");
            tracing::info!(target: "kube", "of a library");
            let lines = memory.take();
            let lines: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
            assert_eq!(messages, ["in detail", "of a library"]);
            assert_eq!(lines[0]["node"], "n2");

            handle.apply(&Log { level: LogLevel::Error, format: LogFormat::Text });
            tracing::warn!("hidden");
            tracing::error!(target: "kube", "broken");
            let text = memory.take();
            assert!(text.contains("broken") && !text.contains("hidden"), "{text}");
        });
    }
}
