//! The values that labels may have. Closed sets, every one: no node name, address or error text gets in here.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// An enum whose variants each have one word, the same in metric, event, condition and log line.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The value that a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                self.word().encode(encoder)
            }
        }
    };
}

words! {
    /// What the agent thinks of a node.
    NodeVerdict {
        /// Nothing speaks against it.
        Healthy => "healthy",
        /// Marked by somebody: deletion, update, drain.
        Maintenance => "maintenance",
        /// Its `Ready` condition is not true.
        NotReady => "not_ready",
        /// A pressure condition holds.
        Pressure => "pressure",
        /// It has no usable address.
        NoAddress => "no_address",
        /// Its API server does not listen.
        Refused => "refused",
        /// Its API server shuts down.
        Shutdown => "shutdown",
        /// Its API server says that it is not ready.
        Red => "red",
        /// Its API server has lost its etcd.
        EtcdCut => "etcd_cut",
        /// It does not answer any more.
        Silent => "silent",
        /// It refuses the agent's credential, or its certificate does not fit.
        Denied => "denied",
        /// It has never answered.
        Unproven => "unproven",
        /// It has vanished from the list.
        Absent => "absent",
    }
}

words! {
    /// Why the targets stay as they are.
    FrozenReason {
        /// No node is listed.
        NoNodes => "no_nodes",
        /// No node would be left.
        NoHealthyNodes => "no_healthy_nodes",
        /// Most targets have lost their node at once.
        MostNodesAbsent => "most_nodes_absent",
        /// The nodes are not known to be current.
        StaleNodes => "stale_nodes",
        /// Every API server refuses the agent's credential.
        CredentialRefused => "credential_refused",
        /// What looks like many faults may be one.
        SharedCause => "shared_cause",
        /// No target that would stay has answered since.
        NoProof => "no_proof",
        /// Silence never takes one of two targets.
        PoolOfTwo => "pool_of_two",
    }
}

words! {
    /// What a probe has found.
    ProbeClass {
        /// 200.
        Green => "green",
        /// It says that it shuts down.
        Shutdown => "shutdown",
        /// It says that something other than etcd is wrong.
        Red => "red",
        /// It has lost its etcd.
        EtcdCut => "etcd_cut",
        /// Nobody listens.
        Refused => "refused",
        /// No answer.
        Silent => "silent",
        /// An answer that says nothing about the node.
        Unknown => "unknown",
    }
}

words! {
    /// What is reconciled.
    Controller {
        /// Nodes to `spec.endpoints`.
        Endpoints => "endpoints",
        /// Exposure to load balancer and status.
        Exposure => "exposure",
        /// `status.ingress` to the DNS record.
        Dns => "dns",
    }
}

words! {
    /// What somebody may have forgotten to end.
    Forgettable {
        /// A drain.
        Drain => "drain",
        /// A pause.
        Pause => "pause",
    }
}

words! {
    /// How a pass has ended.
    PassResult {
        /// All is as desired.
        Success => "success",
        /// Something else has to happen first.
        Waiting => "waiting",
        /// It failed and is tried again.
        Error => "error",
    }
}

words! {
    /// How reading the settings again has ended.
    ReloadResult {
        /// They are in effect.
        Success => "success",
        /// They were refused; the last good ones stay.
        Error => "error",
    }
}

words! {
    /// The HTTP method of a request to the cloud.
    Method {
        /// Reading.
        Get => "GET",
        /// Creating.
        Post => "POST",
        /// Replacing.
        Put => "PUT",
        /// Deleting.
        Delete => "DELETE",
    }
}

words! {
    /// What somebody else has changed.
    DriftField {
        /// `spec.endpoints` of the exposure.
        Endpoints => "endpoints",
        /// The whole balancer is gone.
        LoadBalancer => "load_balancer",
        /// The service plan.
        Plan => "plan",
        /// Our labels.
        Labels => "labels",
        /// Network or address mode; these cannot be repaired.
        Address => "address",
        /// Our listener.
        Listener => "listener",
        /// Our target pool, its targets aside.
        TargetPool => "target_pool",
        /// The targets.
        Targets => "targets",
        /// The balancer's own health check.
        ActiveHealthCheck => "active_health_check",
        /// The allowed source ranges.
        AccessControl => "access_control",
    }
}

/// How a request to the cloud has ended: by an answer, or without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// An answer with this status. Codes that no HTTP standard knows count as `other`.
    Http(u16),
    /// No answer in time.
    TimedOut,
    /// No connection.
    Unreachable,
    /// An answer that is none.
    Malformed,
}

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Http(code) if (100..600).contains(code) => code.encode(encoder),
            Self::Http(_) => "other".encode(encoder),
            Self::TimedOut => "timed_out".encode(encoder),
            Self::Unreachable => "unreachable".encode(encoder),
            Self::Malformed => "malformed".encode(encoder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for verdict in NodeVerdict::ALL {
            assert_eq!(NodeVerdict::from_word(verdict.word()), Some(*verdict));
        }
        assert_eq!(FrozenReason::from_word("10.0.0.1"), None);
    }
}
