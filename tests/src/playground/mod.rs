//! The agent's main job to look at and to touch: a cluster of three API servers, a balancer that carries bytes, clients that go
//! through it, and somebody who breaks things.
//!
//! # Map
//! `act` is what can be done, by a key (`live`, on a `terminal`, drawn by `view`) or by a line of a `script` that is
//! recited (`recital`). A `play` does it to a `cluster`: three small ones (`api_server`) with one agent, or three real
//! kube-apiservers with three. `load` is the clients. What the agents say is read from their logs (`chronicle`).
//!
//! # What is not here
//! Faults of a network: all is loopback, and the failures are those of processes. Patience of clients: a request that fails
//! is counted, not tried again.

mod act;
pub mod api_server;
mod chronicle;
mod cluster;
mod live;
mod load;
mod play;
mod recital;
mod script;
mod terminal;
mod view;

pub use live::live;
pub use play::Play;
pub use recital::{Telling, recite};
pub use script::{Line, parse};
pub use terminal::Terminal;
