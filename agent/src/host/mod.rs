//! What the machine gives us: clocks, the configuration, files that change, systemd, and whether it is on its way down.

pub mod clock;
pub mod config;
pub mod node_annotations;
pub mod node_list;
pub mod reload;
pub mod secret;
pub mod source_ranges;
pub mod stopping;
pub mod systemd;
