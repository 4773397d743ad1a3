//! Whether somebody else leads, and lives: a Lease that is renewed under our eyes. The wall clock in it says nothing.

use std::time::Duration;

use decide::Moment;
use decide::leader::Record;
use decide::settings::Settings;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::client::Access;
use crate::cluster::lease;
use crate::cluster::watch::{Watched, follow};
use crate::host::clock;

/// The Lease as seen from here.
pub(super) struct Holder {
    watched: watch::Receiver<Watched<Record>>,
    name: String,
    seen: Option<(Record, Moment)>,
    /// Whether the one who holds it was seen to renew it.
    lives: bool,
    patience: Duration,
}

impl Holder {
    /// Starts to follow the Lease.
    pub(super) fn follow(access: &Access, settings: &Settings, tasks: &mut JoinSet<()>) -> anyhow::Result<Self> {
        let wish = &settings.leader_election;
        let (out, watched) = watch::channel(Watched::default());
        let api: Api<Lease> = Api::namespaced(access.client()?, &wish.lease_namespace);
        let one = Some(format!("metadata.name={}", wish.lease_name));
        tasks.spawn(follow("the Lease", api, one, lease::view, out));
        let (name, patience) = (wish.lease_name.clone(), wish.lease_duration);
        Ok(Self { watched, name, seen: None, lives: false, patience })
    }

    /// Who holds it, and whether they live.
    pub(super) fn look(&mut self) -> Option<(String, bool)> {
        let record = self.watched.borrow_and_update().items.get(&self.name).cloned();
        self.judge(record, clock::now())
    }

    fn judge(&mut self, record: Option<Record>, now: Moment) -> Option<(String, bool)> {
        let record = record.filter(|record| !record.holder.is_empty());
        let Some(record) = record else {
            (self.seen, self.lives) = (None, false);
            return None;
        };
        let since = match &self.seen {
            Some((before, since)) if before.holder == record.holder && before.renewed == record.renewed => *since,
            Some((before, _)) => {
                self.lives = before.holder == record.holder;
                now
            }
            None => now,
        };
        self.lives &= now.since(since) < self.patience;
        self.seen = Some((record.clone(), since));
        Some((record.holder, self.lives))
    }

    /// Something has changed.
    pub(super) async fn changed(&mut self) {
        if self.watched.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_renews_under_our_eyes_lives() {
        let (_out, watched) = watch::channel(Watched::default());
        let patience = Duration::from_secs(15);
        let mut holder = Holder { watched, name: String::new(), seen: None, lives: false, patience };
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let record = |holder: &str, renewed: &str| Record {
            holder: holder.to_owned(),
            duration: patience,
            renewed: renewed.to_owned(),
            acquired: String::new(),
            transitions: 0,
            resource_version: String::new(),
        };
        let mut judge = |holder_name: &str, renewed: &str, seconds| {
            holder.judge(Some(record(holder_name, renewed)), at(seconds)).map(|(_, lives)| lives)
        };
        assert_eq!(judge("a", "1", 100), Some(false));
        assert_eq!(judge("a", "1", 101), Some(false));
        assert_eq!(judge("a", "2", 102), Some(true));
        assert_eq!(judge("a", "2", 116), Some(true));
        assert_eq!(judge("a", "2", 117), Some(false));
        assert_eq!(judge("b", "3", 118), Some(false));
        assert_eq!(judge("b", "4", 119), Some(true));
        assert_eq!(judge("", "5", 120), None);
        assert_eq!(judge("b", "6", 121), Some(false));
    }
}
