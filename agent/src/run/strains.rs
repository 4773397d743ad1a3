//! What the workers tell the election: how fit this agent is to lead.

use std::collections::BTreeMap;
use std::sync::Arc;

use decide::leader::Strain;
use tokio::sync::watch;

/// One entry a worker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Strains(Arc<watch::Sender<BTreeMap<String, Strain>>>);

impl Default for Strains {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Strains {
    /// What the owner of this exposure sees.
    pub fn tell(&self, exposure: &str, strain: Strain) {
        self.0.send_if_modified(|strains| strains.insert(exposure.to_owned(), strain) != Some(strain));
    }

    /// What all of them see together.
    pub fn together(&self) -> Strain {
        Strain::of_all(self.0.borrow().values().copied())
    }

    /// Tells of each change.
    pub fn changes(&self) -> watch::Receiver<BTreeMap<String, Strain>> {
        self.0.subscribe()
    }
}
