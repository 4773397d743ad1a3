//! The Lease of the election: reading and writing it. Who leads is decided in [`decide::leader`].
//!
//! The Lease has connections of its own, so that nothing else can delay a renewal. Each request goes through the API
//! server that it names and no other, with `retryPeriod` for the answer: who asks walks through them.

use std::time::Duration;

use decide::leader::{Record, Timings};
use decide::route::Server;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;

use super::reach::Reach;
use super::watch::Read;
use super::{ApiFailure, within};

/// The Lease and the identity that we hold it with.
#[derive(Clone)]
pub struct Leases {
    reach: Reach,
    namespace: String,
    name: String,
    identity: String,
    timings: Timings,
}

impl Leases {
    /// `reach` must be of connections that nothing else uses.
    pub fn new(reach: Reach, namespace: String, name: String, identity: String, timings: Timings) -> Self {
        Self { reach, namespace, name, identity, timings }
    }

    /// The servers to try, best first; there is always one.
    pub fn order(&self) -> Vec<Server> {
        self.reach.order()
    }

    fn through(&self, server: Server) -> Api<Lease> {
        Api::namespaced(self.reach.through(server), &self.namespace)
    }

    /// A quorum read; `None`: there is none.
    pub async fn read(&self, server: Server) -> Result<Option<Record>, ApiFailure> {
        match within(self.timings.retry_period, self.through(server).get(&self.name)).await {
            Ok(lease) => Ok(Some(record(&lease))),
            Err(ApiFailure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes the Lease, held by us.
    pub async fn create(&self, server: Server, renewed: &MicroTime) -> Result<Record, ApiFailure> {
        let (api, lease) = (self.through(server), self.held(None, renewed));
        let stored = within(self.timings.retry_period, api.create(&PostParams::default(), &lease)).await?;
        Ok(record(&stored))
    }

    /// Takes or renews the Lease from `base`; a Lease that has changed since is a conflict.
    pub async fn hold(&self, server: Server, base: &Record, renewed: &MicroTime) -> Result<Record, ApiFailure> {
        let lease = self.held(Some(base), renewed);
        self.replace(server, &lease).await.map(|stored| record(&stored))
    }

    /// Gives the Lease back, so that another takes it at once.
    pub async fn release(&self, server: Server, base: &Record) -> Result<(), ApiFailure> {
        let mut lease = self.held(Some(base), &now());
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            // As client-go releases it, for holders that look at the duration alone.
            spec.lease_duration_seconds = Some(1);
        }
        self.replace(server, &lease).await.map(drop)
    }

    async fn replace(&self, server: Server, lease: &Lease) -> Result<Lease, ApiFailure> {
        let (api, parameters) = (self.through(server), PostParams::default());
        within(self.timings.retry_period, api.replace(&self.name, &parameters, lease)).await
    }

    fn held(&self, base: Option<&Record>, renewed: &MicroTime) -> Lease {
        let ours = base.is_some_and(|record| record.holder == self.identity);
        let transitions = base.map_or(0, |record| record.transitions + i32::from(!ours));
        let acquired = base.filter(|_| ours).and_then(|record| parse(&record.acquired));
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: base.map(|record| record.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.timings.lease_duration.as_secs().max(1)).ok(),
                acquire_time: Some(acquired.unwrap_or_else(|| renewed.clone())),
                renew_time: Some(renewed.clone()),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// The time for `renewTime`, in the precision that a Lease has.
pub fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

/// A Lease as far as deciding needs it.
pub fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(seconds),
        renewed: text(spec.renew_time.as_ref()),
        acquired: text(spec.acquire_time.as_ref()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// For the watch.
#[expect(clippy::needless_pass_by_value, reason = "a watch hands over what it read")]
pub fn view(lease: Lease) -> Read<Record> {
    let name = lease.metadata.name.clone().ok_or("a Lease without a name")?;
    Ok((name, record(&lease)))
}

/// `renewTime` as it goes over the wire.
pub fn text(time: Option<&MicroTime>) -> String {
    time.and_then(|time| serde_json::to_value(time).ok())
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn parse(text: &str) -> Option<MicroTime> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}
