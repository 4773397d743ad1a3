//! The faults.

use clap::ValueEnum;

/// A class of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Class {
    /// A Node turns NotReady
    NodeEvent,
    /// SIGKILL of a follower's kube-apiserver
    Kill,
    /// SIGKILL of the kube-apiserver of the leader's own node
    KillLeaders,
    /// SIGSTOP of a kube-apiserver
    Stop,
    /// SIGTERM of a kube-apiserver with a shutdown delay
    Graceful,
    /// SIGKILL of the etcd member of one kube-apiserver
    EtcdKill,
    /// SIGSTOP of the etcd member of one kube-apiserver
    EtcdStop,
    /// All packets to the etcd member of one kube-apiserver are lost
    EtcdLost,
    /// A follower's node loses its link
    LinkDown,
    /// The leader's node is gone: link, kube-apiserver, etcd and agent; lease of 15 s
    LeaderDown,
    /// The same with a lease of 3 s
    LeaderDownShort,
    /// SIGTERM of the leading agent
    LeaderTerm,
    /// SIGKILL of the leading agent; lease of 15 s
    LeaderKill,
    /// The same with a lease of 3 s
    LeaderKillShort,
    /// All three nodes in turn: drain, restart of the kube-apiserver, undrain
    Rolling,
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The leader's node.
    Leader,
    /// The followers' nodes in turn.
    Follower,
    /// All nodes in turn.
    Any,
}

/// What a goal bounds, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The PUT comes at most so many times later than the floor's: p50 and p99.
    TimesFloor(f64, f64),
    /// The PUT is answered within so long.
    Removal(f64),
    /// The next leader has spoken to STACKIT within so long.
    Acts(f64),
    /// No request fails.
    NoFailure,
}

impl Class {
    /// Its name on the command line and in reports.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is, for people.
    pub fn says(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// Whom it hits.
    pub fn victim(self) -> Victim {
        match self {
            Self::KillLeaders
            | Self::LeaderDown
            | Self::LeaderDownShort
            | Self::LeaderTerm
            | Self::LeaderKill
            | Self::LeaderKillShort => Victim::Leader,
            Self::Kill | Self::LinkDown => Victim::Follower,
            Self::NodeEvent
            | Self::Stop
            | Self::Graceful
            | Self::EtcdKill
            | Self::EtcdStop
            | Self::EtcdLost
            | Self::Rolling => Victim::Any,
        }
    }

    /// Whether it needs agents with a short lease.
    pub fn short_lease(self) -> bool {
        matches!(self, Self::LeaderDownShort | Self::LeaderKillShort)
    }

    /// Whether a target has to leave; else only the next leader has to act.
    pub fn takes_a_target(self) -> bool {
        !matches!(self, Self::LeaderTerm | Self::LeaderKill | Self::LeaderKillShort)
    }

    /// What is asked of it.
    pub fn goal(self) -> Goal {
        match self {
            Self::NodeEvent => Goal::TimesFloor(1.5, 2.0),
            Self::Kill | Self::KillLeaders | Self::Graceful => Goal::Removal(1_000.0),
            Self::EtcdKill | Self::EtcdStop | Self::EtcdLost | Self::LeaderDownShort => Goal::Removal(5_000.0),
            Self::Stop | Self::LinkDown => Goal::Removal(4_000.0),
            Self::LeaderDown => Goal::Removal(17_000.0),
            Self::LeaderTerm => Goal::Acts(200.0),
            Self::LeaderKill => Goal::Acts(17_000.0),
            Self::LeaderKillShort => Goal::Acts(5_000.0),
            Self::Rolling => Goal::NoFailure,
        }
    }
}
