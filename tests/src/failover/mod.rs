//! The rig behind `failover-bench`: what clients see when a part of the control plane fails.
//!
//! ```text
//! class    the faults, each with what it does, how it is undone and which goal it has
//! rig      three nodes in network namespaces, the emulator, agents; a state in which a fault may begin
//! sampler  a client that keeps asking through the balancer
//! run      one fault: when the PUT came, when it was answered, when the node was back, what clients saw
//! floor    a bare loop that watches Nodes and PUTs, to compare with
//! soak     no fault at all, for a long time, with both cores busy
//! figures  many runs: p50, p99, max, as a table and as JSON
//! ```
//!
//! Times are taken in one process, the emulator's and the rig's, from the moment before a fault is ordered.

pub mod class;
pub mod figures;
pub mod floor;
pub mod rig;
pub mod run;
pub mod sampler;
pub mod soak;
