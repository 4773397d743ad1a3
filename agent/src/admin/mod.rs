//! What the agent tells about itself: probes for the kubelet and systemd, metrics, a page for people, and the log.
//!
//! The admin server has its own thread and runtime, so that it answers while the main one is busy. It reads
//! handles that the tasks hold: [`Health`] for the probes, [`Metrics`] for the numbers. Nothing here asks a
//! dependency anything, and nothing here decides anything.

pub mod health;
pub mod log;
pub mod metrics;
pub mod page;
pub mod routes;
pub mod server;

pub use health::{Check, Health, Progress};
pub use log::LogHandle;
pub use metrics::Metrics;
pub use routes::{Page, Routes};
pub use server::{AdminServer, BindError};
