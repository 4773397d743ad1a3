//! The loop of passes, and time.

use std::time::Duration;

use anyhow::{Result, bail};
use decide::access::Egress;
use decide::endpoints::Outlook;
use decide::exposure::{ExposureView, Facts};
use decide::health::{Judge, Verdict, verdict};
use decide::leader::older;
use decide::pass::{Carried, CloudStep, Memory, ObjectStep, Pass, Situation, pass};
use decide::retry::{FaultKind, Pause};
use decide::settings::Settings;
use decide::{Moment, pass as passes};
use serde_json::Value;
use shoot_exposure_agent::cluster::ApiFailure;
use shoot_exposure_agent::cluster::exposures::{Exposed, Exposures};

use super::cloud::Cloud;
use super::cluster::{Cluster, NAME};
use super::node::Nodes;
use super::words::{self, Versions};

/// The wall clock when a story starts.
pub(super) const WALL: i64 = 1_700_000_000;
/// The network of the nodes.
pub(super) const NETWORK: &str = "5f2b1c3d-9a4e-4b6f-8c7d-0123456789ab";
/// Rounds of passes at one moment after which something spins.
const MOST_ROUNDS: usize = 40;
/// The random number of a story.
const JITTER: f64 = 0.5;

/// Everything a story plays on.
pub struct Stage {
    pub(super) now: Moment,
    /// What the transcript calls zero.
    pub(super) zero: Moment,
    pub(super) settings: Settings,
    pub(super) nodes: Nodes,
    pub(super) facts: Facts,
    pub(super) cluster: Cluster,
    pub(super) cloud: Cloud,
    pub(super) memory: Memory,
    pub(super) lead: Lead,
    /// Without Kubernetes: the exposure comes from the settings.
    pub(super) standalone: bool,
    /// The watch shows nothing new.
    pub(super) lags: bool,
    pub(super) versions: Versions,
    exposures: Exposures,
    led: bool,
    watched: Option<Exposed>,
    written: Option<Exposed>,
    object_pause: Pause,
    status_pause: Pause,
    /// A request that nobody answers, and when its time is up.
    hanging: Option<(Moment, Carried)>,
    lines: Vec<String>,
    told: Told,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    Not,
    /// Renewed all the time.
    Renewed,
    /// Not renewed any more.
    Until(Moment),
}

/// What was written down last of what is worth a line only when it changes.
#[derive(Default)]
struct Told {
    choice: String,
    pool: Option<String>,
    leads: bool,
}

impl Stage {
    /// An empty stage: no nodes, no exposure, no leadership.
    ///
    /// # Errors
    /// When the emulator cannot listen.
    pub async fn new() -> Result<Self> {
        let cloud = Cloud::start().await?;
        let facts = Facts {
            region: Ok("eu01".to_owned()),
            technical_id: Ok("shoot--garden--root".to_owned()),
            network_id: Ok(NETWORK.to_owned()),
            project_id: Ok(cloud.emulator.project().to_owned()),
            egress: Egress::Known([].into()),
            force_deletion: false,
            file_ranges: decide::access::FileRanges::NotSet,
        };
        let cluster = Cluster::default();
        let exposures = cluster.exposures();
        Ok(Self {
            now: Moment::default() + Duration::from_secs(1_000),
            zero: Moment::default() + Duration::from_secs(1_000),
            settings: Settings::default(),
            nodes: Nodes::default(),
            facts,
            cluster,
            cloud,
            memory: Memory::default(),
            lead: Lead::Not,
            standalone: false,
            lags: false,
            versions: Versions::default(),
            exposures,
            led: false,
            watched: None,
            written: None,
            object_pause: Pause::default(),
            status_pause: Pause::default(),
            hanging: None,
            lines: Vec::new(),
            told: Told::default(),
        })
    }

    /// The lines since the last call.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Writes a line down.
    pub(super) fn say(&mut self, about: &str, text: &str) {
        let time = words::time(self.now.since(self.zero));
        self.lines.push(format!("{time:>6}  {about:<7} {text}"));
    }

    /// Seconds since 1970.
    pub(super) fn wall(&self) -> i64 {
        WALL + i64::try_from(self.now.0.as_secs()).unwrap_or_default()
    }

    /// Time goes by; everything that is due in between happens.
    pub(super) async fn tick(&mut self, time: Duration) -> Result<()> {
        let end = self.now + time;
        loop {
            let next = self.settle().await?;
            match next.filter(|next| *next <= end && *next > self.now) {
                Some(next) => self.now = next,
                None if self.now < end => self.now = end,
                None => return Ok(()),
            }
        }
    }

    /// Passes until nothing is left to do now; gives back when something is due next.
    pub(super) async fn settle(&mut self) -> Result<Option<Moment>> {
        for _ in 0..MOST_ROUNDS {
            let mut next = self.cloud.provision(self.now);
            if let Some((_, carried)) = self.hanging.take_if(|(until, _)| *until <= self.now) {
                self.learn(carried);
            }
            self.tell_pool()?;
            let mut worked = false;
            if let Some((pass, object)) = self.pass()? {
                self.tell_choice(&pass);
                worked = self.start(&pass, object.as_ref()).await?;
                next = [next, pass.wake, self.paused(&pass)].into_iter().flatten().min();
            }
            if !worked {
                let lead = match self.lead {
                    Lead::Until(until) => Some(until),
                    Lead::Not | Lead::Renewed => None,
                };
                let hanging = self.hanging.as_ref().map(|(until, _)| *until);
                let all = [next, lead, hanging].into_iter().flatten();
                return Ok(all.filter(|next| *next > self.now).min());
            }
        }
        bail!("after {MOST_ROUNDS} rounds at one moment there is still something to do:\n{}", self.lines.join("\n"))
    }

    /// One pass, where there is something to make it over.
    fn pass(&mut self) -> Result<Option<(Pass, Option<Exposed>)>> {
        let leads_until = match self.lead {
            Lead::Not => None,
            Lead::Renewed => Some(self.now + self.settings.leader_election.renew_deadline),
            Lead::Until(until) => Some(until).filter(|until| self.now < *until),
        };
        if self.led != leads_until.is_some() {
            self.led = leads_until.is_some();
            if self.led { self.memory.promoted(self.now) } else { self.memory.demoted() }
        }
        if self.told.leads != self.led {
            self.told.leads = self.led;
            self.say("lead", if self.led { "this agent leads" } else { "this agent does not lead any more" });
        }
        let object = self.object()?;
        let view = match &object {
            Some(object) => object.view.clone(),
            None if self.standalone => self.standalone_view(),
            None => return Ok(None),
        };
        let verdicts = self.verdicts();
        let situation = Situation {
            now: self.now,
            wall: self.wall(),
            settings: &self.settings,
            leads_until,
            verdicts: verdicts.as_deref(),
            outlook: Outlook::default(),
            view: &view,
            has_object: object.is_some(),
            facts: &self.facts,
            memory: &self.memory,
        };
        Ok(Some((pass(&situation), object)))
    }

    /// Starts what the pass names, on the lanes that are free.
    async fn start(&mut self, pass: &Pass, object: Option<&Exposed>) -> Result<bool> {
        let mut worked = false;
        if let (Some(step), Some(identity), None) = (&pass.cloud, &pass.identity, &self.hanging) {
            let carried = self.cloud.carry_out(step, identity, object, &self.exposures).await?;
            self.tell_cloud(step, &carried);
            if carried.fault().is_some_and(|fault| fault.kind == FaultKind::TimedOut) {
                self.hanging = Some((self.now + self.settings.call_timeout(), carried));
            } else {
                self.learn(carried);
            }
            worked = true;
        }
        let Some(object) = object else { return Ok(worked) };
        if let (Some(step), true) = (&pass.object, self.now >= self.object_pause.not_before) {
            let result = self.write(step, object).await;
            self.tell_write("object", &words::object_step(step), result.as_ref().err());
            if result.is_ok() {
                self.object_pause.succeeded();
            } else {
                self.object_pause.failed(self.now);
            }
            if let (ObjectStep::StripOperation, Ok(_)) = (step, &result) {
                self.memory.asked(self.now);
            }
            self.written = result.ok().or(self.written.take());
            worked = true;
        }
        if let (Some(report), true) = (&pass.report, self.now >= self.status_pause.not_before) {
            let result = self.exposures.report(object, report).await;
            let words = self.versions.report(report);
            self.tell_write("status", &words, result.as_ref().err());
            if result.is_ok() {
                self.status_pause.succeeded();
            } else {
                self.status_pause.failed(self.now);
            }
            self.memory.reported(result.as_ref().ok().map(|object| &object.view.status));
            self.written = result.ok().or(self.written.take());
            worked = true;
        }
        Ok(worked)
    }

    async fn write(&self, step: &ObjectStep, base: &Exposed) -> Result<Exposed, ApiFailure> {
        match step {
            ObjectStep::AddFinalizer => self.exposures.add_finalizer(base).await,
            ObjectStep::RemoveFinalizer => self.exposures.remove_finalizer(base).await,
            ObjectStep::StripOperation => self.exposures.strip_operation(base).await,
            ObjectStep::FinishOperation => self.exposures.finish_operation(base).await,
            ObjectStep::ApplyEndpoints(endpoints) => self.exposures.apply_endpoints(base, endpoints).await,
            ObjectStep::HandOverEndpoints(endpoints) => self.exposures.hand_over_endpoints(base, endpoints).await,
        }
    }

    fn learn(&mut self, carried: Carried) {
        self.memory.learn(carried, self.now, self.settings.load_balancer.resync, JITTER);
    }

    /// When the lanes to Kubernetes try again what the pass names.
    fn paused(&self, pass: &Pass) -> Option<Moment> {
        let object = pass.object.as_ref().map(|_| self.object_pause.not_before);
        let status = pass.report.as_ref().map(|_| self.status_pause.not_before);
        [object, status].into_iter().flatten().filter(|until| *until > self.now).min()
    }

    /// The object: what the watch shows, or the answer to the last write where that is newer.
    fn object(&mut self) -> Result<Option<Exposed>> {
        if !self.lags && !self.cluster.is_down() {
            self.watched = self.cluster.watched()?;
        }
        let Some(watched) = self.watched.clone() else {
            self.written = None;
            return Ok(None);
        };
        let written = self.written.take_if(|written| {
            written.view.uid != watched.view.uid || !older(&watched.resource_version, &written.resource_version)
        });
        if written.is_some_and(|written| written.view.uid != watched.view.uid) {
            self.memory.another_object();
            self.led = false;
        }
        Ok(Some(self.written.clone().unwrap_or(watched)))
    }

    fn standalone_view(&self) -> ExposureView {
        let wish = &self.settings.exposure;
        let (kind, port) = (wish.r#type.clone(), wish.port.into());
        ExposureView { name: NAME.to_owned(), kind, port, finalizer: true, ..ExposureView::default() }
    }

    fn verdicts(&self) -> Option<Vec<Verdict>> {
        let all = self.nodes.all.values();
        let judge = Judge { health: &self.settings.health, own_node: "", wall: self.wall() };
        self.nodes.listed.then(|| all.map(|node| verdict(node, None, judge)).collect())
    }

    fn tell_cloud(&mut self, step: &CloudStep, carried: &Carried) {
        let mut lines = self.versions.request(step).into_iter();
        let first = lines.next().unwrap_or_default();
        let answer = self.versions.answer(carried);
        self.say("cloud", &format!("{first} -> {answer}"));
        for line in lines {
            self.lines.push(format!("{:17}{line}", ""));
        }
    }

    fn tell_write(&mut self, lane: &str, what: &str, failure: Option<&ApiFailure>) {
        let failed = failure.map(|failure| format!(" -> {failure}")).unwrap_or_default();
        self.say(lane, &format!("{what}{failed}"));
    }

    fn tell_choice(&mut self, pass: &passes::Pass) {
        let choice = words::choice(&pass.choice);
        if self.told.choice != choice {
            self.say("choice", &choice);
            self.told.choice = choice;
        }
    }

    /// The pool as it is in truth; what must never happen to it is checked here.
    fn tell_pool(&mut self) -> Result<()> {
        let pool = self.cloud.emulator.balancers().first().map(pool);
        if let (Some(before), Some(now)) = (&self.told.pool, &pool)
            && now.is_empty()
            && !before.is_empty()
        {
            bail!("the pool was emptied:\n{}", self.lines.join("\n"));
        }
        if self.told.pool != pool {
            match &pool {
                Some(pool) => self.say("pool", pool),
                None => self.say("pool", "the balancer is gone"),
            }
            self.told.pool = pool;
        }
        Ok(())
    }
}

fn pool(balancer: &Value) -> String {
    let targets = balancer["targetPools"].as_array().into_iter().flatten();
    let targets = targets.filter(|pool| pool["name"] == "control-plane");
    let targets = targets.filter_map(|pool| pool["targets"].as_array()).flatten();
    let one = |target: &Value| {
        let text = |field: &str| target[field].as_str().unwrap_or_default().to_owned();
        format!("{}={}", text("displayName"), text("ip"))
    };
    let mut all: Vec<String> = targets.map(one).collect();
    all.sort();
    all.join(" ")
}
