//! What a player can do, by a key or by a line of a script.

use std::fmt;

/// The nodes.
pub(super) const NODES: [&str; 3] = crate::world::NODES;

/// Something that happens to the cluster or to the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The API server of a node is killed: its port is closed, its connections end.
    Kill(usize),
    /// The API server of a node hangs: it takes connections and says nothing.
    Hang(usize),
    /// The API server of a node says that it is not ready.
    NotReady(usize),
    /// The API server of a node is well again, whatever it had.
    Restore(usize),
    /// A node is to be left alone by clients: maintenance.
    Drain(usize),
    /// The maintenance is over.
    Undrain(usize),
    /// The API of the cloud answers 503. Its balancer goes on.
    CloudDown,
    /// The API of the cloud is back.
    CloudUp,
    /// The service account gets another key; the old one, and its tokens, are refused from now on.
    RotateKey,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = |index: &usize| NODES.get(*index).copied().unwrap_or("?");
        match self {
            Self::Kill(index) => write!(f, "kill {}", node(index)),
            Self::Hang(index) => write!(f, "hang {}", node(index)),
            Self::NotReady(index) => write!(f, "not-ready {}", node(index)),
            Self::Restore(index) => write!(f, "restore {}", node(index)),
            Self::Drain(index) => write!(f, "drain {}", node(index)),
            Self::Undrain(index) => write!(f, "undrain {}", node(index)),
            Self::CloudDown => f.write_str("cloud down"),
            Self::CloudUp => f.write_str("cloud up"),
            Self::RotateKey => f.write_str("rotate key"),
        }
    }
}

/// How an API server is doing, as far as the player has made it so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// It serves.
    #[default]
    Serves,
    /// It is dead.
    Killed,
    /// It says nothing.
    Hangs,
    /// It says that it is not ready.
    NotReady,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serves => "serves",
            Self::Killed => "killed",
            Self::Hangs => "hangs",
            Self::NotReady => "not ready",
        })
    }
}
