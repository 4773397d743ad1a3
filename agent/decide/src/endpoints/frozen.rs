//! Why targets stay as they are although evidence speaks against them.

/// Why a choice is frozen: a closed set, used as a metric label and a condition's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frozen {
    /// The list of Nodes is empty.
    NoNodes,
    /// There are Nodes, but by their verdicts none may stand.
    NoHealthyNodes,
    /// More than half of the targets have lost their Node at once.
    MostNodesAbsent,
    /// The Nodes are not known to be current.
    StaleNodes,
    /// Every API server refuses our credential.
    CredentialRefused,
    /// What looks like many faults may be one: etcd, or the prober's own link.
    SharedCause,
    /// No target that stays has answered since the evidence began.
    NoProof,
    /// Silence never takes one of two targets.
    PoolOfTwo,
}

impl Frozen {
    /// The word for metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Frozen::NoNodes => "no_nodes",
            Frozen::NoHealthyNodes => "no_healthy_nodes",
            Frozen::MostNodesAbsent => "most_nodes_absent",
            Frozen::StaleNodes => "stale_nodes",
            Frozen::CredentialRefused => "credential_refused",
            Frozen::SharedCause => "shared_cause",
            Frozen::NoProof => "no_proof",
            Frozen::PoolOfTwo => "pool_of_two",
        }
    }

    /// All reasons, so that a metric can show each as 0 or 1.
    pub const ALL: [Frozen; 8] = [
        Frozen::NoNodes,
        Frozen::NoHealthyNodes,
        Frozen::MostNodesAbsent,
        Frozen::StaleNodes,
        Frozen::CredentialRefused,
        Frozen::SharedCause,
        Frozen::NoProof,
        Frozen::PoolOfTwo,
    ];
}

impl std::fmt::Display for Frozen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Frozen::NoNodes => "no control-plane Node is listed",
            Frozen::NoHealthyNodes => "no control-plane Node is healthy",
            Frozen::MostNodesAbsent => "more than half of the targets have lost their Node at once",
            Frozen::StaleNodes => "the Nodes are not known to be current",
            Frozen::CredentialRefused => "every API server refuses the agent's credential or has a foreign certificate",
            Frozen::SharedCause => "what looks like several faults may be one (etcd, or this agent's own link)",
            Frozen::NoProof => "no target that would stay has answered since",
            Frozen::PoolOfTwo => "silence alone never takes one of two targets",
        })
    }
}
