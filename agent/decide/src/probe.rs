//! What the probes of one API server say about it.
//!
//! The shell sends requests and dials and hands in what came of them as [`Event`]s; [`Evidence`] keeps count, and a
//! [`Reading`] of it names the class. Two requests at a time tell "its etcd is cut off" from "it hangs": a request for
//! `path` waits for etcd, one for `alivePath` does not.
//!
//! Deliberately not here: what a class means for the target ([`crate::health`]), and rules over several nodes
//! ([`crate::endpoints`]).

mod answer;
mod evidence;

pub use answer::Answer;
pub(crate) use evidence::SETTLED;
pub use evidence::{Evidence, Green, Reading};

/// Which of the two paths a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// `health.probe.path`: everything, etcd included.
    Ready,
    /// `health.probe.alivePath`: answers at once even while etcd is away.
    Alive,
}

/// A request, from the moment it is due: waiting for a connection counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Unique for this node as long as the agent runs; later ones are greater.
    pub id: u64,
    /// What it asks for.
    pub path: Path,
    /// On a TCP and TLS connection of its own, as the balancer's clients come; else on the held one.
    pub fresh: bool,
}

/// What happened to the probes of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request has become due.
    Sent(Request),
    /// It was answered.
    Answered(u64, Answer),
    /// It has ended without an answer.
    Ended(u64, End),
    /// A dial of the held connection has failed. Its requests end separately.
    DialFailed(End),
}

/// How a request or a dial ends without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The connection ended (FIN, RST, GOAWAY): an idle close looks the same, so it is no evidence.
    Lost,
    /// `timeout` has passed.
    GivenUp,
    /// Connection refused: nobody listens.
    Refused,
    /// No route to the host or network.
    Unreachable,
    /// The TLS handshake has failed; the text is for people.
    Tls(String),
    /// This machine cannot ask (no file descriptor, no port); the text is for people.
    Local(String),
}

/// What the probes say: a closed set, used as a metric label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeClass {
    /// 200.
    Green,
    /// 5xx that names `shutdown`.
    Shutdown,
    /// Two 5xx within 3 s that name something else than etcd.
    Red,
    /// 5xx that name etcd, or `alivePath` green while two of `path` are slow.
    EtcdCut,
    /// Connection refused.
    Refused,
    /// Both paths slow, or no route.
    Silent,
    /// Nothing that says anything about the node: not asked yet, 401, 403, TLS, 429, 502–504, local errors.
    #[default]
    Unknown,
}

impl ProbeClass {
    /// The word for metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            ProbeClass::Green => "green",
            ProbeClass::Shutdown => "shutdown",
            ProbeClass::Red => "red",
            ProbeClass::EtcdCut => "etcd_cut",
            ProbeClass::Refused => "refused",
            ProbeClass::Silent => "silent",
            ProbeClass::Unknown => "unknown",
        }
    }
}
