//! What the tests of the shoot exposure agent stand on: a real control plane, a STACKIT emulator, the agent as a
//! process, and ways to wait for conditions instead of sleeping.
//!
//! Deliberately not here: mocks of our own code. Everything is driven from outside, over its real protocol.

pub mod agent;
pub mod alone;
pub mod booted;
pub mod control_plane;
pub mod emulator;
pub mod failover;
pub mod fixture;
pub mod gardener;
pub mod impostor;
pub mod namespaces;
pub mod openapi;
pub mod playground;
pub mod process;
pub mod scenario;
pub mod system_bus;
pub mod wait;
pub mod world;
