//! An exposure that is reconciled, its balancer, and what becomes of them.

use std::time::Duration;

use serde_json::Map;

use super::super::*;
use crate::access::Egress;
use crate::desired::{self, AddressMode, BalancerStatus};
use crate::health::{Class, NodeAddress};
use crate::retry::{Fault, FaultKind};
use crate::status::{LastOperation, Record};

pub(super) const NOW: Moment = Moment(Duration::from_secs(1000));

pub(super) struct Scene {
    pub(super) settings: Settings,
    pub(super) view: ExposureView,
    pub(super) facts: Facts,
    pub(super) memory: Memory,
    pub(super) verdicts: Vec<Verdict>,
}

pub(super) fn node(last: u8) -> Verdict {
    let ip = IpAddr::from([10, 0, 0, last]);
    let addresses = vec![NodeAddress { kind: "InternalIP".to_owned(), address: ip.to_string() }];
    let (node, uid) = (format!("n{last}"), format!("u{last}"));
    Verdict { node, uid, ip: Some(ip), addresses, class: Class::Healthy, serves: true, ..Verdict::default() }
}

/// An exposure that is reconciled, with a balancer as desired.
pub(super) fn settled() -> Scene {
    let facts = Facts {
        region: Ok("eu01".to_owned()),
        technical_id: Ok("t".to_owned()),
        network_id: Ok("net".to_owned()),
        project_id: Ok("p".to_owned()),
        egress: Egress::Unreadable,
        force_deletion: false,
        file_ranges: crate::access::FileRanges::NotSet,
    };
    let settings = Settings::default();
    let verdicts = vec![node(1), node(2), node(3)];
    let mut view = ExposureView { name: "x".to_owned(), uid: "u".to_owned(), port: 443, ..ExposureView::default() };
    view.finalizer = true;
    let choice = endpoints::choose(&Round {
        verdicts: &verdicts,
        last_good: &LastGood::default(),
        pool: &endpoints::Pool::default(),
        now: NOW,
        health: &settings.health,
        outlook: Outlook::default(),
    });
    view.endpoints = spec_endpoints(&choice);
    let spec = exposure::resolve(&view, choice.endpoints, &facts).unwrap();
    let mut balancer = desired::load_balancer(&spec, &settings);
    balancer.address = AddressMode::Ephemeral;
    let observed = Observed {
        balancer,
        version: "v1".to_owned(),
        status: BalancerStatus::Ready,
        errors: Vec::new(),
        external_address: Some([45, 0, 0, 1].into()),
        private_address: None,
        raw: Map::new(),
    };
    let record = Record::of(&spec.identity, Some(&observed));
    view.status.recorded = Some(spec.identity);
    view.status.record = Some(record);
    view.status.operation = Some(last("Create", "Succeeded"));
    view.status.ingress = vec!["45.0.0.1".to_owned()];
    let mut memory = Memory::default();
    memory.read(Some(observed), NOW, Duration::from_secs(60), 0.5);
    let mut scene = Scene { settings, view, facts, memory, verdicts };
    scene.store();
    scene
}

pub(super) fn last(kind: &str, state: &str) -> LastOperation {
    LastOperation { kind: kind.to_owned(), state: state.to_owned(), ..LastOperation::default() }
}

pub(super) fn fault(kind: FaultKind) -> Fault {
    Fault { kind, http_status: None, message: "away".to_owned(), retry_after: None, outcome_unknown: false }
}

impl Scene {
    pub(super) fn pass(&self) -> Pass {
        self.at(NOW)
    }

    pub(super) fn at(&self, now: Moment) -> Pass {
        self.seeing(now, Some(&self.verdicts))
    }

    /// Before the Nodes were listed.
    pub(super) fn unlisted(&self) -> Pass {
        self.seeing(NOW, None)
    }

    fn seeing(&self, now: Moment, verdicts: Option<&[Verdict]>) -> Pass {
        pass(&Situation {
            now,
            wall: 5000,
            settings: &self.settings,
            leads_until: Some(now + Duration::from_secs(3600)),
            verdicts,
            outlook: Outlook::default(),
            view: &self.view,
            has_object: true,
            facts: &self.facts,
            memory: &self.memory,
        })
    }

    /// Stores what a pass reports, as the API server would.
    pub(super) fn store(&mut self) -> bool {
        let Some(report) = self.pass().report else { return false };
        let status = &mut self.view.status;
        if let Some(operation) = report.operation {
            status.operation = Some(operation);
        }
        if let Some(error) = report.error {
            status.error = error;
        }
        if let Some(conditions) = report.conditions {
            status.conditions = conditions;
        }
        if let Some(record) = report.record {
            status.record = Some(record);
        }
        status.observed_generation = report.observed_generation.unwrap_or(status.observed_generation);
        true
    }

    pub(super) fn ask(&mut self, operation: &str) {
        self.view.operation = Some(operation.to_owned());
    }

    pub(super) fn loses_a_node(&mut self) {
        self.verdicts[0].class = Class::NotReady("Ready=False".to_owned());
    }
}

/// Somebody else changes the balancer to this; what a read shows then.
pub(super) fn meddled(scene: &mut Scene, change: impl Fn(&mut LoadBalancer), now: Moment) {
    let Some(mut observed) = scene.memory.observed().cloned() else { panic!() };
    change(&mut observed.balancer);
    observed.version = format!("v{}", now.0.as_secs());
    scene.memory.read(Some(observed), now, Duration::from_secs(60), 0.5);
}

/// One round: somebody changes it, the pass undoes it. Whether it does.
pub(super) fn round(scene: &mut Scene, change: impl Fn(&mut LoadBalancer), now: Moment) -> bool {
    meddled(scene, change, now);
    let Some(CloudStep::Update(update)) = scene.at(now).cloud else { return false };
    let written = Observed { balancer: update.wish, ..update.base };
    scene.memory.written(written, now, Duration::from_secs(60), 0.5);
    true
}
