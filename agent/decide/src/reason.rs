//! Why something is said: one word a situation, the same in event, condition and log line.
//!
//! Deliberately not here: the text that goes with it.

/// The word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A target has come.
    TargetAdded,
    /// A target has left.
    TargetRemoved,
    /// The targets stay as they are, because the evidence would leave none.
    TargetsFrozen,
    /// The balancer was made.
    LoadBalancerCreated,
    /// The balancer is as desired and serves.
    LoadBalancerReady,
    /// The balancer is on its way; a condition's reason, never an event.
    LoadBalancerPending,
    /// The balancer, or a call about it, has failed.
    LoadBalancerError,
    /// The finalizer went before the balancer, because somebody forced the deletion.
    LoadBalancerLeftBehind,
    /// Somebody else's change was undone.
    DriftCorrected,
    /// Somebody else changes the same again and again.
    ForeignWriter,
    /// Somebody has paused the agent.
    Paused,
    /// A pause is older than an hour.
    PauseForgotten,
    /// A drain is older than an hour.
    DrainForgotten,
    /// The credentials are refused or cannot be read.
    CredentialsInvalid,
    /// Somebody has to change what is asked for.
    ConfigurationInvalid,
    /// The DNS record cannot take the balancer's address.
    DnsRecordImmutable,
    /// Every control-plane node may serve; a condition's reason.
    EndpointsHealthy,
    /// Some control-plane nodes may not serve; a condition's reason.
    NodesUnhealthy,
    /// The nodes are not known yet; a condition's reason.
    NodesUnknown,
}

impl Reason {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::TargetAdded => "TargetAdded",
            Reason::TargetRemoved => "TargetRemoved",
            Reason::TargetsFrozen => "TargetsFrozen",
            Reason::LoadBalancerCreated => "LoadBalancerCreated",
            Reason::LoadBalancerReady => "LoadBalancerReady",
            Reason::LoadBalancerPending => "LoadBalancerPending",
            Reason::LoadBalancerError => "LoadBalancerError",
            Reason::LoadBalancerLeftBehind => "LoadBalancerLeftBehind",
            Reason::DriftCorrected => "DriftCorrected",
            Reason::ForeignWriter => "ForeignWriter",
            Reason::Paused => "Paused",
            Reason::PauseForgotten => "PauseForgotten",
            Reason::DrainForgotten => "DrainForgotten",
            Reason::CredentialsInvalid => "CredentialsInvalid",
            Reason::ConfigurationInvalid => "ConfigurationInvalid",
            Reason::DnsRecordImmutable => "DnsRecordImmutable",
            Reason::EndpointsHealthy => "EndpointsHealthy",
            Reason::NodesUnhealthy => "NodesUnhealthy",
            Reason::NodesUnknown => "NodesUnknown",
        }
    }

    /// Whether somebody should have a look: a warning rather than news.
    pub const fn is_warning(self) -> bool {
        match self {
            Reason::TargetAdded
            | Reason::TargetRemoved
            | Reason::LoadBalancerCreated
            | Reason::LoadBalancerReady
            | Reason::LoadBalancerPending
            | Reason::Paused
            | Reason::EndpointsHealthy => false,
            Reason::TargetsFrozen
            | Reason::LoadBalancerError
            | Reason::LoadBalancerLeftBehind
            | Reason::DriftCorrected
            | Reason::ForeignWriter
            | Reason::PauseForgotten
            | Reason::DrainForgotten
            | Reason::CredentialsInvalid
            | Reason::ConfigurationInvalid
            | Reason::DnsRecordImmutable
            | Reason::NodesUnhealthy
            | Reason::NodesUnknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_should_look_at_is_a_warning_and_news_is_not() {
        for reason in [Reason::TargetsFrozen, Reason::ForeignWriter, Reason::CredentialsInvalid] {
            assert!(reason.is_warning(), "{}", reason.word());
        }
        for reason in [Reason::TargetAdded, Reason::TargetRemoved, Reason::LoadBalancerReady, Reason::Paused] {
            assert!(!reason.is_warning(), "{}", reason.word());
        }
    }
}
