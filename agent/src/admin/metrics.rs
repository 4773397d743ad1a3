//! The metrics: one handle, cheap to clone, that every task holds and increments.
//!
//! Names, labels and their values are part of the interface; a test scrapes them. Durations are in seconds, points in
//! time in seconds since 1970; such a point is 0 until it is known.

mod exposition;
mod labels;
mod process;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use exposition::Format;
pub use labels::{
    Code, Controller, DriftField, Forgettable, FrozenReason, Method, NodeVerdict, PassResult, ProbeClass, ReloadResult,
};

type Seconds = Gauge<f64, AtomicU64>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Declares a label set of one or two labels.
macro_rules! label_set {
    ($name:ident { $($label:ident: $type:ty),+ }) => {
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $type),+ }
    };
}

label_set!(ByVerdict { verdict: NodeVerdict });
label_set!(ByReason { reason: FrozenReason });
label_set!(ByKind { kind: Forgettable });
label_set!(ByClass { class: ProbeClass });
label_set!(ByMethod { method: Method });
label_set!(ByMethodAndCode { method: Method, code: Code });
label_set!(ByField { field: DriftField });
label_set!(ByController { controller: Controller });
label_set!(ByControllerAndResult { controller: Controller, result: PassResult });
label_set!(ByReload { result: ReloadResult });
label_set!(ByName { name: String });
label_set!(ByBuild { version: String, revision: String });

/// The handle.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    nodes: Family<ByVerdict, Gauge>,
    targets: Gauge,
    desired_targets: Gauge,
    frozen: Family<ByReason, Gauge>,
    paused: Gauge,
    forgotten: Family<ByKind, Gauge>,
    probe_duration: Histogram,
    probe_results: Family<ByClass, Counter>,
    detection_to_write: Histogram,
    cloud_requests: Family<ByMethodAndCode, Counter>,
    cloud_request_duration: Histograms<ByMethod>,
    conflicts: Counter,
    drift: Family<ByField, Counter>,
    reconcile: Family<ByControllerAndResult, Counter>,
    reconcile_duration: Histograms<ByController>,
    token_expiry: Seconds,
    config_reload: Family<ByReload, Counter>,
    last_sync: Seconds,
    leader: Family<ByName, Gauge>,
    leader_name: ByName,
    leader_transitions: Counter,
}

impl Metrics {
    /// Every metric at its first value. `lease` is the Lease's name; `version` and `revision` are the build's.
    pub fn new(lease: &str, version: &str, revision: &str) -> Self {
        let mut inner = Inner {
            registry: Registry::default(),
            nodes: Family::default(),
            targets: Gauge::default(),
            desired_targets: Gauge::default(),
            frozen: Family::default(),
            paused: Gauge::default(),
            forgotten: Family::default(),
            probe_duration: Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 6.0]),
            probe_results: Family::default(),
            detection_to_write: Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            cloud_requests: Family::default(),
            cloud_request_duration: Family::new_with_constructor(request_histogram),
            conflicts: Counter::default(),
            drift: Family::default(),
            reconcile: Family::default(),
            reconcile_duration: Family::new_with_constructor(pass_histogram),
            token_expiry: Seconds::default(),
            config_reload: Family::default(),
            last_sync: Seconds::default(),
            leader: Family::default(),
            leader_name: ByName { name: lease.to_owned() },
            leader_transitions: Counter::default(),
        };
        inner.start_at_zero();
        inner.register(version, revision);
        Self(Arc::new(inner))
    }

    /// All metrics as text.
    pub fn encode(&self, format: Format) -> Result<String, std::fmt::Error> {
        format.encode(&self.0.registry)
    }

    /// The role and the targets, for a line that people read.
    pub fn in_short(&self) -> String {
        let leads = self.0.leader.get_or_create(&self.0.leader_name).get() == 1;
        if leads { format!("leads, {} targets", self.0.targets.get()) } else { "follows".to_owned() }
    }

    /// `shoot_exposure_nodes`: how many nodes have which verdict now.
    pub fn set_nodes(&self, verdicts: impl IntoIterator<Item = NodeVerdict>) {
        let verdicts: Vec<_> = verdicts.into_iter().collect();
        for &verdict in NodeVerdict::ALL {
            let number = verdicts.iter().filter(|&&found| found == verdict).count();
            self.0.nodes.get_or_create(&ByVerdict { verdict }).set(integer(number));
        }
    }

    /// `shoot_exposure_targets`: as last read from the balancer.
    pub fn set_targets(&self, number: usize) {
        self.0.targets.set(integer(number));
    }

    /// `shoot_exposure_desired_targets`.
    pub fn set_desired_targets(&self, number: usize) {
        self.0.desired_targets.set(integer(number));
    }

    /// `shoot_exposure_frozen`: 1 for the reason that holds, 0 for all others.
    pub fn set_frozen(&self, holds: Option<FrozenReason>) {
        for &reason in FrozenReason::ALL {
            self.0.frozen.get_or_create(&ByReason { reason }).set(i64::from(holds == Some(reason)));
        }
    }

    /// `shoot_exposure_paused`.
    pub fn set_paused(&self, paused: bool) {
        self.0.paused.set(i64::from(paused));
    }

    /// `shoot_exposure_forgotten`: how many drains, or pauses, are older than an hour.
    pub fn set_forgotten(&self, kind: Forgettable, number: usize) {
        self.0.forgotten.get_or_create(&ByKind { kind }).set(integer(number));
    }

    /// `shoot_exposure_probe_duration_seconds` and `shoot_exposure_probe_results_total`: one probe has ended.
    pub fn probe_ended(&self, class: ProbeClass, took: Duration) {
        self.0.probe_duration.observe(took.as_secs_f64());
        self.0.probe_results.get_or_create(&ByClass { class }).inc();
    }

    /// `shoot_exposure_detection_to_write_seconds`: from the first evidence to the answer to the write.
    pub fn written_after(&self, took: Duration) {
        self.0.detection_to_write.observe(took.as_secs_f64());
    }

    /// `shoot_exposure_cloud_requests_total` and `shoot_exposure_cloud_request_duration_seconds`: one request has ended.
    pub fn cloud_request_ended(&self, method: Method, code: Code, took: Duration) {
        self.0.cloud_requests.get_or_create(&ByMethodAndCode { method, code }).inc();
        self.0.cloud_request_duration.get_or_create(&ByMethod { method }).observe(took.as_secs_f64());
    }

    /// `shoot_exposure_conflicts_total`: somebody else has written first.
    pub fn conflict(&self) {
        self.0.conflicts.inc();
    }

    /// `shoot_exposure_drift_total`: a field was not as we left it.
    pub fn drift(&self, field: DriftField) {
        self.0.drift.get_or_create(&ByField { field }).inc();
    }

    /// `shoot_exposure_reconcile_total` and `shoot_exposure_reconcile_duration_seconds`: one pass has ended.
    pub fn reconciled(&self, controller: Controller, result: PassResult, took: Duration) {
        self.0.reconcile.get_or_create(&ByControllerAndResult { controller, result }).inc();
        self.0.reconcile_duration.get_or_create(&ByController { controller }).observe(took.as_secs_f64());
    }

    /// `shoot_exposure_token_expiry_timestamp_seconds`; `None`: no token.
    pub fn set_token_expiry(&self, at: Option<SystemTime>) {
        self.0.token_expiry.set(at.map_or(0.0, since_1970));
    }

    /// `shoot_exposure_config_reload_total`: the settings were read again.
    pub fn config_reloaded(&self, result: ReloadResult) {
        self.0.config_reload.get_or_create(&ByReload { result }).inc();
    }

    /// `shoot_exposure_last_sync_timestamp_seconds`: balancer and wish were the same at this time.
    pub fn set_last_sync(&self, at: SystemTime) {
        self.0.last_sync.set(since_1970(at));
    }

    /// `leader_election_master_status`: whether this agent leads.
    pub fn set_leader(&self, leads: bool) {
        self.0.leader.get_or_create(&self.0.leader_name).set(i64::from(leads));
    }

    /// `shoot_exposure_leader_transitions_total`: the Lease has another holder than before.
    pub fn leader_changed(&self) {
        self.0.leader_transitions.inc();
    }
}

impl Inner {
    /// Every series with a closed set of labels exists from the start: a rate needs the zero before the one.
    fn start_at_zero(&self) {
        for &verdict in NodeVerdict::ALL {
            drop(self.nodes.get_or_create(&ByVerdict { verdict }));
        }
        for &reason in FrozenReason::ALL {
            drop(self.frozen.get_or_create(&ByReason { reason }));
        }
        for &kind in Forgettable::ALL {
            drop(self.forgotten.get_or_create(&ByKind { kind }));
        }
        for &class in ProbeClass::ALL {
            drop(self.probe_results.get_or_create(&ByClass { class }));
        }
        for &field in DriftField::ALL {
            drop(self.drift.get_or_create(&ByField { field }));
        }
        for &method in Method::ALL {
            drop(self.cloud_request_duration.get_or_create(&ByMethod { method }));
            drop(self.cloud_requests.get_or_create(&ByMethodAndCode { method, code: Code::Http(200) }));
        }
        for &controller in Controller::ALL {
            drop(self.reconcile_duration.get_or_create(&ByController { controller }));
            for &result in PassResult::ALL {
                drop(self.reconcile.get_or_create(&ByControllerAndResult { controller, result }));
            }
        }
        for &result in ReloadResult::ALL {
            drop(self.config_reload.get_or_create(&ByReload { result }));
        }
        drop(self.leader.get_or_create(&self.leader_name));
    }

    /// The encoder adds a full stop to each help text and `_total` to each counter.
    fn register(&mut self, version: &str, revision: &str) {
        let build: Family<ByBuild, Gauge> = Family::default();
        build.get_or_create(&ByBuild { version: version.to_owned(), revision: revision.to_owned() }).set(1);

        let registry = &mut self.registry;
        let name = "leader_election_master_status";
        registry.register(name, "Whether this agent leads: 1, or 0", self.leader.clone());
        let ours = registry.sub_registry_with_prefix("shoot_exposure");
        ours.register("build_info", "Always 1; the build is in the labels", build);
        ours.register("nodes", "Control-plane nodes by verdict", self.nodes.clone());
        ours.register("targets", "Targets of the balancer as last read", self.targets.clone());
        ours.register("desired_targets", "Targets the balancer should have", self.desired_targets.clone());
        ours.register("frozen", "1 while the targets stay as they are for this reason", self.frozen.clone());
        ours.register("paused", "1 while somebody has paused the agent", self.paused.clone());
        ours.register("forgotten", "Drains or pauses that are older than an hour", self.forgotten.clone());
        ours.register("probe_duration_seconds", "Time until a probe ended", self.probe_duration.clone());
        ours.register("probe_results", "Probes by what they found", self.probe_results.clone());
        ours.register(
            "detection_to_write_seconds",
            "Time from the first evidence to the answer to the write",
            self.detection_to_write.clone(),
        );
        ours.register("cloud_requests", "Requests to STACKIT by method and outcome", self.cloud_requests.clone());
        ours.register(
            "cloud_request_duration_seconds",
            "Time until a request to STACKIT ended",
            self.cloud_request_duration.clone(),
        );
        ours.register("conflicts", "Writes refused because somebody else wrote first", self.conflicts.clone());
        ours.register("drift", "Fields found changed by somebody else", self.drift.clone());
        ours.register("reconcile", "Passes by controller and result", self.reconcile.clone());
        ours.register("reconcile_duration_seconds", "Time a pass took", self.reconcile_duration.clone());
        ours.register(
            "token_expiry_timestamp_seconds",
            "When the token expires; 0: no token",
            self.token_expiry.clone(),
        );
        ours.register("config_reload", "Times the settings were read again", self.config_reload.clone());
        ours.register(
            "last_sync_timestamp_seconds",
            "When balancer and wish were last the same",
            self.last_sync.clone(),
        );
        ours.register("leader_transitions", "Changes of the Lease's holder", self.leader_transitions.clone());
        self.registry.register_collector(Box::new(process::ProcessCollector));
    }
}

fn request_histogram() -> Histogram {
    Histogram::new([0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0])
}

fn pass_histogram() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

fn integer(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn since_1970(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
