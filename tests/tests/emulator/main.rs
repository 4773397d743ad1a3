//! The emulator behaves as it says. Each test carries the numbers of what it shows: E for behaviours, F for faults.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod client;

mod binary;
mod control;
mod create;
mod delete;
mod faults;
mod gateway;
mod observe;
mod read;
mod state_faults;
mod token;
mod update;
mod validate;
