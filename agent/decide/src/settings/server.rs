//! Settings of the process itself: admin server and log.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `server`: the admin server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// `IP:PORT` of the admin server; port 0: any free one. See [`Server::bind_address`].
    pub bind_address: String,
    /// `IP:PORT` of a second listener for metrics and probes only; empty: none.
    pub metrics_bind_address: String,
}

impl Default for Server {
    fn default() -> Self {
        Self { bind_address: "127.0.0.1:9440".to_owned(), metrics_bind_address: String::new() }
    }
}

impl Server {
    /// `server.bindAddress`; `None` only where [`super::Settings::mistakes`] has something to say about it.
    pub fn bind_address(&self) -> Option<SocketAddr> {
        self.bind_address.parse().ok()
    }

    /// `server.metricsBindAddress`, if set.
    pub fn metrics_bind_address(&self) -> Option<SocketAddr> {
        self.metrics_bind_address.parse().ok()
    }
}

/// `log`: what is written to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Log {
    /// The least important level that is written.
    pub level: LogLevel,
    /// One line of text or one JSON object for each event.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// Something is broken and needs somebody.
    Error,
    /// Something is off and is being dealt with.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// The word in the configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
