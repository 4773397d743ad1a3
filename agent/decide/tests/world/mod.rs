//! A world in memory: nodes, one exposure, one balancer, an agent.

mod cloud;

use std::collections::BTreeMap;
use std::time::Duration;

use cloud::Cloud;
use decide::Moment;
use decide::access::Egress;
use decide::endpoints::Outlook;
use decide::exposure::{ExposureView, Facts, SpecEndpoint};
use decide::health::{Condition, DRAIN, Judge, NodeAddress, NodeView, Verdict, verdict};
use decide::pass::{CloudStep, Memory, ObjectStep, Pass, Situation, pass};
use decide::retry::Pause;
use decide::settings::Settings;
use decide::status::Report;

pub(crate) use cloud::Trouble;

/// Rounds of passes at one moment after which something spins.
const MOST_ROUNDS: usize = 60;

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Node(u8, NodeEvent),
    Time(Duration),
    Cloud(Trouble, usize),
    ApiServer(usize),
    Listed(bool),
    NoNodes,
    ForeignTargets,
    ForeignEndpoints,
    DeletedByHand,
    Leads(bool),
    NoRenewals,
    Asked,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeEvent {
    Ready,
    NotReady,
    Drained,
    Deleted,
    NoAddress,
    Address(u8),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lead {
    Not,
    Renewed,
    Until(Moment),
}

pub(crate) struct World {
    pub(crate) view: ExposureView,
    pub(crate) lead: Lead,
    /// Nodes are listed the other way round.
    pub(crate) backwards: bool,
    now: Moment,
    settings: Settings,
    facts: Facts,
    nodes: BTreeMap<u8, NodeView>,
    listed: bool,
    memory: Memory,
    led: bool,
    cloud: Cloud,
    /// Writes to the API server that fail from now on.
    api_failures: usize,
    object_pause: Pause,
    status_pause: Pause,
    jitter: f64,
    /// Requests to the cloud so far: reads and writes.
    requests: (usize, usize),
}

impl World {
    pub(crate) fn new(jitter: f64) -> Self {
        let fact = |text: &str| Ok(text.to_owned());
        let facts = Facts {
            region: fact("eu01"),
            technical_id: fact("shoot--p--s"),
            network_id: fact("net"),
            project_id: fact("project"),
            egress: Egress::Unreadable,
            force_deletion: false,
            file_ranges: decide::access::FileRanges::NotSet,
        };
        let view = ExposureView {
            name: "s".to_owned(),
            uid: "uid".to_owned(),
            generation: 1,
            kind: "stackit".to_owned(),
            port: 443,
            ..ExposureView::default()
        };
        Self {
            view,
            lead: Lead::Renewed,
            backwards: false,
            now: Moment(Duration::from_secs(1_000)),
            settings: Settings::default(),
            facts,
            nodes: (0..3).map(|number| (number, node(number))).collect(),
            listed: true,
            memory: Memory::default(),
            led: false,
            cloud: Cloud::default(),
            api_failures: 0,
            object_pause: Pause::default(),
            status_pause: Pause::default(),
            jitter,
            requests: (0, 0),
        }
    }

    pub(crate) fn happens(&mut self, event: &Event) {
        match event {
            Event::Node(number, event) => self.node(*number, event),
            Event::Time(time) => return self.run(*time),
            Event::Cloud(trouble, times) => self.cloud.trouble(*trouble, *times),
            Event::ApiServer(times) => self.api_failures = *times,
            Event::Listed(listed) => self.listed = *listed,
            Event::NoNodes => self.nodes.clear(),
            Event::ForeignTargets => self.cloud.foreign_targets(),
            Event::ForeignEndpoints => {
                let address = NodeAddress { kind: "InternalIP".to_owned(), address: "10.9.9.9".to_owned() };
                self.view.endpoints = vec![SpecEndpoint { node_name: "foreign".to_owned(), addresses: vec![address] }];
                self.view.generation += 1;
            }
            Event::DeletedByHand => self.cloud.terminate(self.now),
            Event::Leads(leads) => self.lead = if *leads { Lead::Renewed } else { Lead::Not },
            Event::NoRenewals => self.lead = Lead::Until(self.now + self.settings.leader_election.renew_deadline),
            Event::Asked => self.view.operation = Some("reconcile".to_owned()),
        }
        self.settle();
    }

    fn node(&mut self, number: u8, event: &NodeEvent) {
        if let NodeEvent::Deleted = event {
            self.nodes.remove(&number);
            return;
        }
        let node = self.nodes.entry(number).or_insert_with(|| node(number));
        let ready = |status: &str| {
            let (kind, status, reason) = ("Ready".to_owned(), status.to_owned(), String::new());
            vec![Condition { kind, status, reason }]
        };
        match event {
            NodeEvent::Ready => *node = self::node(number),
            NodeEvent::NotReady => node.conditions = ready("Unknown"),
            NodeEvent::Drained => drop(node.annotations.insert(DRAIN.to_owned(), "true".to_owned())),
            NodeEvent::NoAddress => node.addresses.clear(),
            NodeEvent::Address(net) => node.addresses = vec![internal(*net, number)],
            NodeEvent::Deleted => {}
        }
    }

    /// Nothing fails any more, and one node at least is well.
    pub(crate) fn calm(&mut self) {
        self.cloud.calm();
        self.api_failures = 0;
        self.listed = true;
        self.lead = Lead::Renewed;
        self.nodes.insert(0, node(0));
    }

    /// Time goes by, and what is due in between happens.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self.settle();
            match next.filter(|next| *next <= end) {
                Some(next) => self.now = next,
                None if self.now < end => self.now = end,
                None => return,
            }
        }
    }

    pub(crate) fn pass(&self) -> Pass {
        let judge = Judge { health: &self.settings.health, own_node: "", wall: 0 };
        let mut verdicts: Vec<Verdict> = self.nodes.values().map(|node| verdict(node, None, judge)).collect();
        if self.backwards {
            verdicts.reverse();
        }
        pass(&Situation {
            now: self.now,
            wall: self.wall(),
            settings: &self.settings,
            leads_until: self.leads_until(),
            verdicts: self.listed.then_some(verdicts.as_slice()),
            outlook: Outlook::default(),
            view: &self.view,
            has_object: true,
            facts: &self.facts,
            memory: &self.memory,
        })
    }

    fn wall(&self) -> i64 {
        i64::try_from(self.now.0.as_secs()).unwrap()
    }

    fn leads_until(&self) -> Option<Moment> {
        match self.lead {
            Lead::Not => None,
            Lead::Renewed => Some(self.now + self.settings.leader_election.renew_deadline),
            Lead::Until(until) => Some(until).filter(|until| self.now < *until),
        }
    }

    /// Passes until nothing is left to do now; gives back when something is due next.
    fn settle(&mut self) -> Option<Moment> {
        for _ in 0..MOST_ROUNDS {
            let done = self.cloud.provision(self.now);
            if self.led != self.leads_until().is_some() {
                self.led = !self.led;
                if self.led { self.memory.promoted(self.now) } else { self.memory.demoted() }
            }
            let released = self.view.deleting && !self.view.finalizer;
            let pass = self.pass();
            if released {
                assert_eq!((&pass.cloud, &pass.object, &pass.report), (&None, &None, &None), "the object is released");
            }
            let object = pass.object.clone().filter(|_| self.now >= self.object_pause.not_before);
            let report = pass.report.clone().filter(|_| self.now >= self.status_pause.not_before);
            if pass.cloud.is_none() && object.is_none() && report.is_none() {
                let object = pass.object.map(|_| self.object_pause.not_before);
                let status = pass.report.map(|_| self.status_pause.not_before);
                let lead = if let Lead::Until(until) = self.lead { Some(until) } else { None };
                let all = [done, pass.wake, object, status, lead].into_iter().flatten();
                return all.filter(|next| *next > self.now).min();
            }
            if let Some(step) = &pass.cloud {
                self.check(step);
                self.carry_out(step);
            }
            if let Some(step) = object {
                self.write(step);
            }
            if let Some(report) = report {
                self.report(&report);
            }
        }
        panic!("after {MOST_ROUNDS} rounds at one moment there is still something to do: {:?}", self.pass());
    }

    /// What no request may ever break.
    fn check(&self, step: &CloudStep) {
        let until = self.leads_until().expect("nothing is sent without leading");
        let ends = self.now + self.settings.call_timeout();
        let in_time = ends <= until;
        match step {
            CloudStep::Read(_) => {}
            CloudStep::Create(wish) => {
                assert!(in_time, "a POST could outlive leadership");
                assert!(self.view.finalizer, "a POST before the finalizer");
                assert!(self.view.status.recorded.is_some(), "a POST before the record");
                assert!(!self.view.deleting);
                assert!(!wish.targets().is_empty());
            }
            CloudStep::Update(update) => {
                assert!(in_time, "a PUT could outlive leadership");
                assert!(!update.wish.targets().is_empty(), "the pool would be empty");
                assert_eq!(Some(&update.base), self.memory.observed(), "a PUT carries what was read last");
                assert!(!update.changes.is_empty());
                assert!(!self.view.deleting);
            }
            CloudStep::Delete(_) => {
                assert!(in_time, "a DELETE could outlive leadership");
                assert!(self.view.deleting);
            }
        }
    }

    fn carry_out(&mut self, step: &CloudStep) {
        match step {
            CloudStep::Read(_) => self.requests.0 += 1,
            _ => self.requests.1 += 1,
        }
        let carried = self.cloud.carry_out(step, self.now);
        self.memory.learn(carried, self.now, self.settings.load_balancer.resync, self.jitter);
    }

    fn api_fails(&mut self) -> bool {
        let fails = self.api_failures > 0;
        self.api_failures = self.api_failures.saturating_sub(1);
        fails
    }

    fn write(&mut self, step: ObjectStep) {
        if let ObjectStep::RemoveFinalizer = step {
            assert!(
                self.view.deleting && !self.cloud.exists(),
                "the finalizer is released before the balancer is gone"
            );
        }
        if self.api_fails() {
            return self.object_pause.failed(self.now);
        }
        self.object_pause.succeeded();
        match step {
            ObjectStep::AddFinalizer => self.view.finalizer = true,
            ObjectStep::RemoveFinalizer => self.view.finalizer = false,
            ObjectStep::StripOperation => {
                self.view.operation = None;
                self.memory.asked(self.now);
            }
            ObjectStep::FinishOperation => self.view.operation = None,
            ObjectStep::ApplyEndpoints(endpoints) | ObjectStep::HandOverEndpoints(endpoints) => {
                assert!(!endpoints.is_empty(), "spec.endpoints would be empty");
                self.view.endpoints = endpoints;
                self.view.generation += 1;
            }
        }
    }

    fn report(&mut self, report: &Report) {
        if self.api_fails() {
            self.memory.reported(None);
            return self.status_pause.failed(self.now);
        }
        self.status_pause.succeeded();
        let status = &mut self.view.status;
        if let Some(operation) = &report.operation {
            status.operation = Some(operation.clone());
        }
        if let Some(error) = &report.error {
            status.error.clone_from(error);
        }
        status.observed_generation = report.observed_generation.unwrap_or(status.observed_generation);
        if let Some(ip) = report.ingress {
            status.ingress = vec![ip.to_string()];
        }
        if let Some(conditions) = &report.conditions {
            status.conditions.clone_from(conditions);
        }
        if let Some(record) = &report.record {
            status.recorded = Some(record.identity.clone());
            status.record = Some(record.clone());
        }
        let status = self.view.status.clone();
        self.memory.reported(Some(&status));
    }

    pub(crate) fn assert_as_wished(&self) {
        let mut wished: Vec<String> = self.pass().choice.endpoints.iter().map(|e| e.ip.to_string()).collect();
        wished.sort();
        assert_eq!(self.cloud.addresses(), wished, "the pool is as chosen");
        assert_eq!(self.view.endpoints.len(), wished.len(), "spec.endpoints is as chosen");
        let status = &self.view.status;
        let last = status.operation.as_ref().unwrap();
        assert_eq!((last.state.as_str(), last.progress), ("Succeeded", 100), "{status:?}");
        assert_eq!(status.error, None);
        assert_eq!(status.observed_generation, self.view.generation);
        assert_eq!(status.ingress, ["45.0.0.1"]);
        let record = status.record.as_ref().unwrap();
        assert!(record.settled);
        assert_eq!(record.targets.len(), wished.len());
    }

    /// Nothing is left to do: a look at the balancer a minute, and no write at all.
    pub(crate) fn assert_quiet(&mut self, time: Duration) {
        let (reads, writes) = self.requests;
        let view = self.view.clone();
        self.run(time);
        let most = usize::try_from(time.as_secs() / 54).unwrap() + 1;
        assert!(self.requests.0 - reads <= most, "{} reads in {time:?}", self.requests.0 - reads);
        assert!(self.requests.0 - reads >= most / 2, "drift is not looked for");
        assert_eq!(self.requests.1, writes, "the balancer is written");
        assert_eq!(self.view, view, "the object is written");
    }

    pub(crate) fn assert_gone(&self) {
        assert!(!self.cloud.exists(), "the balancer is still there");
        assert!(!self.view.finalizer, "the finalizer is still there");
    }
}

fn node(number: u8) -> NodeView {
    let ready = Condition { kind: "Ready".to_owned(), status: "True".to_owned(), reason: String::new() };
    NodeView {
        name: format!("cp-{number}.example"),
        uid: format!("uid-{number}"),
        addresses: vec![internal(0, number)],
        conditions: vec![ready],
        ..NodeView::default()
    }
}

fn internal(net: u8, number: u8) -> NodeAddress {
    NodeAddress { kind: "InternalIP".to_owned(), address: format!("10.0.{net}.{}", number + 1) }
}
