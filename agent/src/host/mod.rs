//! What the machine gives us: clocks, the configuration, files that change, systemd.

pub mod clock;
pub mod config;
pub mod node_list;
pub mod reload;
pub mod secret;
pub mod source_ranges;
pub mod systemd;
