//! The emulated balancer carries bytes as it says. Each test carries the numbers of what it shows: E for behaviours, F for
//! faults.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../emulator/client.rs"]
#[allow(dead_code, reason = "shared with the tests of the control plane, which use more of it")]
mod client;
mod rig;

mod balancing;
mod connection;
mod control;
mod disturbances;
