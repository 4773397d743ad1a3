//! The shoot exposure agent keeps the API server of a Gardener self-hosted shoot reachable through a STACKIT network
//! load balancer.
//!
//! ```text
//!  Node watch ─┐
//!              ├▶ health ─▶ endpoints ─▶ exposure spec ─▶ desired LB ─▶ plan ─▶ carry out ─▶ status
//!  drain marks ┘   └──────────────────── package decide: pure ──────────────┘     cloud       cluster
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the verbs |
//! | [`run`] | start order, one owner per task, the way down |
//! | [`cluster`] | what talks to Kubernetes |
//! | [`cloud`] | what talks to STACKIT |
//! | [`probe`] | what talks to the API servers |
//! | [`host`] | what the machine gives us: clocks, configuration, files that change |
//! | [`admin`] | probes, metrics, log |
//! | [`manifest`] | what to install |
//!
//! Everything that decides is in the package `decide`, which has no client, runtime, file or clock.

pub mod admin;
pub mod cli;
pub mod cloud;
pub mod cluster;
pub mod host;
pub mod manifest;
pub mod probe;
pub mod run;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, where the build said so (`REVISION`).
pub const REVISION: &str = match option_env!("REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
