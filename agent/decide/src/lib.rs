//! The pure half of the shoot exposure agent.
//!
//! ```text
//! Nodes ─▶ health ─▶ endpoints ─▶ exposure ─▶ desired ─▶ plan ─▶ (carried out by the shell) ─▶ status
//!                                            └──────────── pass: all of it, once ────────────┘
//! ```
//!
//! Data flows one way. Every function here takes values and returns a value: no client, runtime, file, clock or
//! randomness; time, jitter and identity arrive as arguments, and `clippy.toml` beside the manifest bans the rest.
//! Nothing in this package ever waits.

mod moment;

pub mod settings;

pub mod probe;

pub mod health;

pub mod endpoints;

pub mod exposure;

pub mod access;

pub mod desired;

pub mod names;

pub mod plan;

pub mod invariants;

pub mod pass;

pub mod status;

pub mod drain;

pub mod forgotten;

pub mod conditions;

pub mod reason;

pub mod foreign;

pub mod dns;

pub mod retry;

pub mod leader;

pub mod alone;

pub mod errand;

pub mod route;

pub mod seen;

pub use moment::Moment;
