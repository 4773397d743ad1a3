//! Nodes and what their API servers have said, in milliseconds before now.

use super::super::*;
use super::{Pool, names_of};
use crate::probe::{Green, Reading};
use std::time::Duration;

pub(super) const NOW: Moment = Moment(Duration::from_secs(10_000));

pub(super) fn ago(millis: u64) -> Moment {
    NOW - Duration::from_millis(millis)
}

/// A node that has been green for an hour, and answered 100 ms ago.
pub(super) fn green(name: &str) -> Verdict {
    let last = u8::try_from(name.len() + usize::from(name.as_bytes()[0])).unwrap();
    let ip = IpAddr::from([10, 0, 0, last]);
    Verdict {
        node: name.to_owned(),
        uid: format!("uid-{name}"),
        ip: Some(ip),
        addresses: vec![NodeAddress { kind: "InternalIP".to_owned(), address: ip.to_string() }],
        serves: true,
        probe: Reading {
            class: ProbeClass::Green,
            green: Some(Green { asked: ago(101), came: ago(100) }),
            green_since: Some(ago(3_600_000)),
            lives_since: Some(ago(3_600_000)),
            fresh_greens: 9,
            answered: true,
            heard: true,
            ..Reading::default()
        },
        ..Verdict::default()
    }
}

/// A node whose API server says something bad since so many milliseconds.
pub(super) fn bad(name: &str, class: &Class, since: u64) -> Verdict {
    let probe = match class {
        Class::Refused => ProbeClass::Refused,
        Class::Shutdown => ProbeClass::Shutdown,
        Class::Red(_) => ProbeClass::Red,
        Class::EtcdCut => ProbeClass::EtcdCut,
        Class::Silent => ProbeClass::Silent,
        _ => ProbeClass::Unknown,
    };
    let mut node = green(name);
    node.class = class.clone();
    node.by_probe = class.clone();
    node.probe.class = probe;
    node.probe.since = ago(since);
    node.probe.until = ago(50);
    node.probe.green = Some(Green { asked: ago(since + 500), came: ago(since + 499) });
    node.probe.fresh_greens = 0;
    node
}

pub(super) fn with(mut verdict: Verdict, class: Class) -> Verdict {
    verdict.class = class;
    verdict
}

pub(super) fn red() -> Class {
    Class::Red("informer-sync".to_owned())
}

pub(super) fn drained(name: &str) -> Verdict {
    with(green(name), Class::Maintenance(Mark::Drained))
}

pub(super) fn not_ready(name: &str) -> Verdict {
    Verdict { serves: false, ..with(green(name), Class::NotReady("Ready=False".to_owned())) }
}

#[derive(Clone)]
pub(super) struct Scene {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) members: Vec<&'static str>,
    pub(super) pool: Pool,
    pub(super) outlook: Outlook,
}

/// Renewals of the Lease, sent and answered so many milliseconds ago.
pub(super) fn quorums(times: &[(u64, u64)]) -> Quorums {
    times.iter().map(|(sent, answered)| Quorum { sent: ago(*sent), answered: ago(*answered) }).collect()
}

/// All are members; probes see, the Lease is held, etcd serves.
pub(super) fn scene(verdicts: Vec<Verdict>, members: &[&'static str]) -> Scene {
    let quorums = quorums(&[(1_700, 1_699)]);
    let outlook = Outlook { sight: Sight::Seeing, stale: false, election: true, quorums };
    Scene { verdicts, members: members.to_vec(), pool: Pool::default(), outlook }
}

impl Scene {
    pub(super) fn choose(&self) -> Choice {
        let members = self.members.iter().map(|name| {
            let ip = green(name).ip.unwrap();
            Endpoint { node_name: (*name).to_owned(), ip, addresses: vec![internal(ip)] }
        });
        let last_good = LastGood { members: members.collect() };
        choose(&Round {
            verdicts: &self.verdicts,
            last_good: &last_good,
            pool: &self.pool,
            now: NOW,
            health: &Health::default(),
            outlook: self.outlook,
        })
    }

    #[track_caller]
    pub(super) fn serves(&self, names: &[&str]) -> Choice {
        let choice = self.choose();
        assert_eq!(names_of(&choice), names, "{choice:#?}");
        choice
    }
}

pub(super) const ABC: [&str; 3] = ["a", "b", "c"];

pub(super) fn one(verdict: Verdict) -> Scene {
    scene(vec![green("a"), green("b"), verdict], &ABC)
}
