//! The agent from outside: the real binary, a real API server and etcd, the STACKIT emulator.
//!
//! Every test has a control plane of its own, because Nodes are cluster-wide. Nothing sleeps: each step waits for a
//! condition with a deadline.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod access;
mod access_faults;
mod api_server;
mod bad_input;
mod balancer;
mod balancer_faults;
mod bootstrap;
mod cloud;
mod credentials;
mod dns;
mod drain;
mod election;
mod endpoints;
mod exposure;
mod fallback;
mod faults;
mod foreign;
mod hands;
mod hands_off;
mod late;
mod neighbours;
mod operator;
mod rbac;
mod reach;
mod reload;
mod rules;
mod state;
mod teardown;
mod unwritable;
mod upgrade;
mod webhook;
