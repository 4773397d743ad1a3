//! The plan: what has to change so that the balancer is as desired, as a value that can be printed, compared,
//! checked and refused.
//!
//! The diff is made over the serialised form of one type, so a field that is added to
//! [`crate::desired::LoadBalancer`] is compared without a line here. Deliberately not here: sending.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::desired::{AddressMode, BalancerStatus, LoadBalancer, Observed};

/// What a pass would do to the balancer.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The one step.
    pub step: Step,
    /// Wishes that cannot be met, because the field never changes during a balancer's life.
    pub unmet: Vec<Unmet>,
}

/// The one step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is as desired.
    Nothing,
    /// There is none: POST.
    Create(Box<LoadBalancer>),
    /// It differs: one full PUT that carries the version it was computed from.
    Update(Box<Update>),
    /// It is not wanted any more: DELETE.
    Delete(String),
    /// It is terminating: nothing can be done before it is gone.
    AwaitGone,
    /// It is gone, as it should be.
    Gone,
}

/// A full PUT.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// What it was computed from: version and foreign fields come from here.
    pub base: Observed,
    /// The managed fields as they are to be.
    pub wish: LoadBalancer,
    /// What differs, for people.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The field's path, such as `targetPool.targets`.
    pub field: String,
    /// What was read; `None` where it is added.
    pub from: Option<Value>,
    /// What is wanted; `None` where it is removed.
    pub to: Option<Value>,
}

/// A wish about an immutable field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The setting's path.
    pub setting: &'static str,
    /// What was read.
    pub found: String,
    /// What is wanted.
    pub wanted: String,
}

/// Why a balancer of our name is not ours to touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// A label has another value.
    OtherOwner {
        /// The label's key.
        label: String,
        /// The value found.
        found: String,
    },
    /// Labels are missing and nothing on record says that we made it.
    Unlabelled(Vec<String>),
}

/// The step from what was read to what is desired.
///
/// Ownership is the caller's to check first, see [`ownership`]; so is that there is at least one target.
pub fn diff(wish: &LoadBalancer, observed: Option<&Observed>) -> Plan {
    let Some(observed) = observed else {
        return Plan { step: Step::Create(Box::new(wish.clone())), unmet: Vec::new() };
    };
    if observed.status == BalancerStatus::Terminating {
        return Plan { step: Step::AwaitGone, unmet: Vec::new() };
    }
    let (wish, unmet) = reachable(wish, observed);
    let changes = changes(&observed.balancer, &wish);
    let step = if changes.is_empty() {
        Step::Nothing
    } else {
        Step::Update(Box::new(Update { base: observed.clone(), wish, changes }))
    };
    Plan { step, unmet }
}

/// The step towards a balancer that is gone.
pub fn removal(observed: Option<&Observed>) -> Plan {
    let step = match observed {
        None => Step::Gone,
        Some(observed) if observed.status == BalancerStatus::Terminating => Step::AwaitGone,
        Some(observed) => Step::Delete(observed.balancer.name.clone()),
    };
    Plan { step, unmet: Vec::new() }
}

/// Whether a balancer of our name is ours: labels with other values never; labels missing only where `recorded`,
/// which is that `status.providerStatus` names this balancer.
pub fn ownership(observed: &Observed, labels: &BTreeMap<String, String>, recorded: bool) -> Result<(), NotOurs> {
    let mut missing = Vec::new();
    for (label, wanted) in labels {
        match observed.balancer.labels.get(label) {
            Some(found) if found == wanted => {}
            Some(found) => return Err(NotOurs::OtherOwner { label: label.clone(), found: found.clone() }),
            None => missing.push(label.clone()),
        }
    }
    if missing.is_empty() || recorded { Ok(()) } else { Err(NotOurs::Unlabelled(missing)) }
}

/// The wish with immutable fields and others' labels as observed, and what that leaves unmet.
fn reachable(wish: &LoadBalancer, observed: &Observed) -> (LoadBalancer, Vec<Unmet>) {
    let read = &observed.balancer;
    let mut reachable = wish.clone();
    let mut unmet = Vec::new();
    reachable.labels = read.labels.clone();
    reachable.labels.extend(wish.labels.clone());
    if wish.network_id != read.network_id && !read.network_id.is_empty() {
        let (found, wanted) = (read.network_id.clone(), wish.network_id.clone());
        unmet.push(Unmet { setting: "stackit.networkID", found, wanted });
    }
    reachable.network_id.clone_from(&read.network_id);
    unmet.extend(unmet_address(wish.address, read.address));
    reachable.address = read.address;
    reachable.allowed_source_ranges = match (&wish.allowed_source_ranges, &read.allowed_source_ranges) {
        (None, read) => read.clone(),
        (Some(wanted), Some(read)) if wish.keep_source_ranges && !wanted.is_empty() => {
            Some(wanted.union(read).copied().collect())
        }
        (Some(wanted), _) => Some(wanted.clone()),
    };
    // Absent and empty both mean that everybody may connect.
    if reachable.allowed_source_ranges.as_ref().is_some_and(std::collections::BTreeSet::is_empty)
        && read.allowed_source_ranges.is_none()
    {
        reachable.allowed_source_ranges = None;
    }
    (reachable, unmet)
}

/// An ephemeral address is the default rather than a wish: a balancer that the provider extension has promoted to
/// a static one stays as it is without complaint.
fn unmet_address(wanted: AddressMode, found: AddressMode) -> Option<Unmet> {
    let setting = match (wanted, found) {
        (AddressMode::Ephemeral, AddressMode::Ephemeral | AddressMode::Static(_))
        | (AddressMode::Private, AddressMode::Private) => return None,
        (AddressMode::Static(wanted), AddressMode::Static(found)) if wanted == found => return None,
        (AddressMode::Private, _) | (_, AddressMode::Private) => "loadBalancer.privateNetworkOnly",
        (AddressMode::Static(_), _) => "loadBalancer.externalAddress",
    };
    Some(Unmet { setting, found: found.to_string(), wanted: wanted.to_string() })
}

pub(crate) fn changes(from: &LoadBalancer, to: &LoadBalancer) -> Vec<Change> {
    let mut changes = Vec::new();
    // Serialising these plain types cannot fail; a null would show as a change of everything.
    let value = |balancer: &LoadBalancer| serde_json::to_value(balancer).unwrap_or_default();
    compare("", Some(&value(from)), Some(&value(to)), &mut changes);
    changes
}

fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<Change>) {
    let from = from.filter(|value| !value.is_null());
    let to = to.filter(|value| !value.is_null());
    match (from, to) {
        (from, to) if from == to => {}
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let keys = from.keys().chain(to.keys().filter(|key| !from.contains_key(*key)));
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, from.get(key), to.get(key), changes);
            }
        }
        // Lists are sets here: what is only on one side has left or come.
        (Some(Value::Array(from)), Some(Value::Array(to))) => {
            let only = |here: &[Value], there: &[Value]| -> Vec<Value> {
                here.iter().filter(|item| !there.contains(item)).cloned().collect()
            };
            let field = || path.to_owned();
            changes.extend(only(from, to).into_iter().map(|v| Change { field: field(), from: Some(v), to: None }));
            changes.extend(only(to, from).into_iter().map(|v| Change { field: field(), from: None, to: Some(v) }));
        }
        (from, to) => changes.push(Change { field: path.to_owned(), from: from.cloned(), to: to.cloned() }),
    }
}

impl Update {
    /// Whether targets leave with it.
    pub fn removes_targets(&self) -> bool {
        !self.base.balancer.targets().is_subset(&self.wish.targets())
    }
}

impl Change {
    /// The part of the balancer that it concerns: a closed set, used as a metric label.
    pub fn part(&self) -> &'static str {
        const PARTS: [(&str, &str); 9] = [
            ("targetPool.targets", "targets"),
            ("targetPool.activeHealthCheck", "active_health_check"),
            ("targetPool", "target_pool"),
            ("listener", "listener"),
            ("planId", "plan"),
            ("labels", "labels"),
            ("networkId", "address"),
            ("address", "address"),
            ("allowedSourceRanges", "access_control"),
        ];
        PARTS.iter().find(|(path, _)| self.field.starts_with(path)).map_or("load_balancer", |(_, part)| part)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Step::Nothing => f.write_str("nothing to do")?,
            Step::Create(wish) => {
                write!(f, "create `{}` with {} targets", wish.name, wish.targets().len())?;
                for target in wish.targets() {
                    write!(f, "\n  + {} {}", target.name, target.ip)?;
                }
            }
            Step::Update(update) => {
                write!(f, "update `{}` from version {}", update.wish.name, update.base.version)?;
                for change in &update.changes {
                    write!(f, "\n  {change}")?;
                }
            }
            Step::Delete(name) => write!(f, "delete `{name}`")?,
            Step::AwaitGone => f.write_str("wait until the terminating balancer is gone")?,
            Step::Gone => f.write_str("gone")?,
        }
        for unmet in &self.unmet {
            write!(f, "\n  ! {unmet}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "~ {}: {from} -> {to}", self.field),
            (Some(from), None) => write!(f, "- {}: {from}", self.field),
            (None, Some(to)) => write!(f, "+ {}: {to}", self.field),
            (None, None) => f.write_str(&self.field),
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: the load balancer has {}, {} is wanted, and this never changes during its life; set it back, or \
             delete the exposure to have it made anew",
            self.setting, self.found, self.wanted
        )
    }
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotOurs::OtherOwner { label, found } => {
                write!(f, "its label `{label}` is `{found}`, so it belongs to somebody else")
            }
            NotOurs::Unlabelled(missing) => write!(
                f,
                "it lacks the labels {} and nothing on record says that this agent made it",
                missing.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" and ")
            ),
        }
    }
}

impl fmt::Display for AddressMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressMode::Ephemeral => f.write_str("an ephemeral address"),
            AddressMode::Static(ip) => write!(f, "the reserved address {ip}"),
            AddressMode::Private => f.write_str("a private address only"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{AddressForm, HealthCheck, Listener, Target, TargetPool};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn target(last: u8) -> Target {
        Target { name: format!("n{last}"), ip: [10, 0, 0, last].into() }
    }

    fn wish(targets: impl IntoIterator<Item = u8>) -> LoadBalancer {
        let second = Duration::from_secs(1);
        LoadBalancer {
            name: "lb".to_owned(),
            plan_id: "p10".to_owned(),
            labels: BTreeMap::from([("ours".to_owned(), "x".to_owned())]),
            network_id: "net".to_owned(),
            address: AddressMode::Ephemeral,
            listener: Some(Listener {
                display_name: "control-plane".to_owned(),
                port: 443,
                protocol: "PROTOCOL_TCP".to_owned(),
                target_pool: "control-plane".to_owned(),
                tcp_idle_timeout: Some(second),
            }),
            target_pool: Some(TargetPool {
                target_port: 443,
                targets: targets.into_iter().map(target).collect(),
                active_health_check: Some(HealthCheck {
                    interval: Some(second),
                    timeout: Some(second),
                    healthy_threshold: Some(2),
                    unhealthy_threshold: Some(3),
                }),
            }),
            allowed_source_ranges: None,
            keep_source_ranges: false,
            address_form: AddressForm::default(),
        }
    }

    fn observed(balancer: LoadBalancer) -> Observed {
        Observed {
            balancer,
            version: "v1".to_owned(),
            status: BalancerStatus::Ready,
            errors: Vec::new(),
            external_address: Some([45, 0, 0, 1].into()),
            private_address: None,
            raw: serde_json::Map::new(),
        }
    }

    fn fields(plan: &Plan) -> Vec<String> {
        match &plan.step {
            Step::Update(update) => update.changes.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn what_is_as_desired_needs_nothing() {
        assert_eq!(diff(&wish([1, 2]), Some(&observed(wish([2, 1])))).step, Step::Nothing);
    }

    #[test]
    fn each_managed_field_shows_by_its_path() {
        let base = observed(wish([1]));
        let changed = |change: fn(&mut LoadBalancer)| {
            let mut wish = wish([1]);
            change(&mut wish);
            fields(&diff(&wish, Some(&base)))
        };
        assert_eq!(changed(|w| w.plan_id = "p50".to_owned()), ["~ planId: \"p10\" -> \"p50\""]);
        assert_eq!(
            changed(|w| drop(w.labels.insert("ours".to_owned(), "y".to_owned()))),
            ["~ labels.ours: \"x\" -> \"y\""]
        );
        assert_eq!(
            changed(|w| w.listener.as_mut().unwrap().tcp_idle_timeout = Some(Duration::from_secs(3600))),
            ["~ listener.tcpIdleTimeout: \"1s\" -> \"3600s\""]
        );
        assert_eq!(
            changed(|w| w.target_pool.as_mut().unwrap().active_health_check = None),
            [
                "- targetPool.activeHealthCheck: {\"interval\":\"1s\",\"timeout\":\"1s\",\"healthyThreshold\":2,\"unhealthyThreshold\":3}"
            ]
        );
        assert_eq!(
            changed(|w| w.target_pool.as_mut().unwrap().targets = BTreeSet::from([target(2)])),
            [
                "- targetPool.targets: {\"displayName\":\"n1\",\"ip\":\"10.0.0.1\"}",
                "+ targetPool.targets: {\"displayName\":\"n2\",\"ip\":\"10.0.0.2\"}"
            ]
        );
    }

    #[test]
    fn labels_of_others_stay_and_are_no_difference() {
        let mut base = observed(wish([1]));
        base.balancer.labels.insert("theirs".to_owned(), "z".to_owned());
        assert_eq!(diff(&wish([1]), Some(&base)).step, Step::Nothing);
    }

    #[test]
    fn immutable_fields_go_back_as_read_and_are_reported() {
        let mut base = observed(wish([1]));
        base.balancer.network_id = "another".to_owned();
        base.balancer.address = AddressMode::Private;
        let plan = diff(&wish([1, 2]), Some(&base));
        let Step::Update(update) = &plan.step else { panic!("{plan}") };
        assert_eq!((update.wish.network_id.as_str(), update.wish.address), ("another", AddressMode::Private));
        let settings: Vec<_> = plan.unmet.iter().map(|unmet| unmet.setting).collect();
        assert_eq!(settings, ["stackit.networkID", "loadBalancer.privateNetworkOnly"]);
    }

    #[test]
    fn a_balancer_that_was_promoted_to_a_static_address_is_taken_as_it_is() {
        let mut base = observed(wish([1]));
        base.balancer.address = AddressMode::Static([45, 0, 0, 1].into());
        assert_eq!(diff(&wish([1]), Some(&base)), Plan { step: Step::Nothing, unmet: Vec::new() });
    }

    #[test]
    fn access_control_that_is_not_managed_goes_back_as_read() {
        let ranges = Some(BTreeSet::from(["192.0.2.0/24".parse().unwrap()]));
        let mut base = observed(wish([1]));
        base.balancer.allowed_source_ranges.clone_from(&ranges);
        assert_eq!(diff(&wish([1]), Some(&base)).step, Step::Nothing);
        let plan = diff(&wish([1, 2]), Some(&base));
        let Step::Update(update) = plan.step else { panic!() };
        assert_eq!(update.wish.allowed_source_ranges, ranges);
    }

    #[test]
    fn access_control_can_be_opened_and_open_is_as_good_as_absent() {
        let open = LoadBalancer { allowed_source_ranges: Some(BTreeSet::new()), ..wish([1]) };
        let mut base = observed(wish([1]));
        assert_eq!(diff(&open, Some(&base)).step, Step::Nothing);
        base.balancer.allowed_source_ranges = Some(BTreeSet::from(["192.0.2.0/24".parse().unwrap()]));
        assert_eq!(fields(&diff(&open, Some(&base))), ["- allowedSourceRanges: \"192.0.2.0/24\""]);
    }

    #[test]
    fn ranges_on_the_balancer_stay_while_the_shoots_own_cannot_be_read() {
        let range = |text: &str| BTreeSet::from([text.parse().unwrap()]);
        let mut base = observed(wish([1]));
        base.balancer.allowed_source_ranges = Some(range("203.0.113.7/32"));
        let unsure =
            LoadBalancer { allowed_source_ranges: Some(range("192.0.2.0/24")), keep_source_ranges: true, ..wish([1]) };
        assert_eq!(fields(&diff(&unsure, Some(&base))), ["+ allowedSourceRanges: \"192.0.2.0/24\""]);
    }

    #[test]
    fn ownership_is_by_labels_and_by_record_where_they_are_missing() {
        let ours = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let with = |labels: &[(&str, &str)]| {
            let mut base = observed(wish([1]));
            base.balancer.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            base
        };
        assert_eq!(ownership(&with(&[("a", "1"), ("b", "2"), ("c", "3")]), &ours, false), Ok(()));
        assert!(matches!(ownership(&with(&[("a", "9"), ("b", "2")]), &ours, true), Err(NotOurs::OtherOwner { .. })));
        assert!(matches!(ownership(&with(&[("a", "1")]), &ours, false), Err(NotOurs::Unlabelled(_))));
        assert_eq!(ownership(&with(&[("a", "1")]), &ours, true), Ok(()));
    }

    #[test]
    fn a_terminating_balancer_is_waited_for() {
        let base = Observed { status: BalancerStatus::Terminating, ..observed(wish([1])) };
        assert_eq!(diff(&wish([1]), Some(&base)).step, Step::AwaitGone);
        assert_eq!(removal(Some(&base)).step, Step::AwaitGone);
        assert_eq!(removal(None).step, Step::Gone);
    }

    #[test]
    fn a_plan_prints() {
        let text = |plan: Plan| plan.to_string();
        assert_eq!(text(diff(&wish([1]), Some(&observed(wish([1]))))), "nothing to do");
        assert_eq!(text(diff(&wish([2]), None)), "create `lb` with 1 targets\n  + n2 10.0.0.2");
        let mut base = observed(wish([1]));
        base.balancer.network_id = "another".to_owned();
        assert_eq!(
            text(diff(&wish([1, 2]), Some(&base))),
            "update `lb` from version v1\n  + targetPool.targets: {\"displayName\":\"n2\",\"ip\":\"10.0.0.2\"}\n  \
             ! stackit.networkID: the load balancer has another, net is wanted, and this never changes during its \
             life; set it back, or delete the exposure to have it made anew"
        );
        assert_eq!(text(removal(Some(&base))), "delete `lb`");
        assert_eq!(text(removal(None)), "gone");
        base.status = BalancerStatus::Terminating;
        assert_eq!(text(removal(Some(&base))), "wait until the terminating balancer is gone");
        assert_eq!(Change { field: "f".to_owned(), from: None, to: None }.to_string(), "f");
    }

    #[test]
    fn a_network_that_was_not_read_is_nobodys_complaint() {
        let mut base = observed(wish([1]));
        base.balancer.network_id.clear();
        assert_eq!(diff(&wish([1]), Some(&base)), Plan { step: Step::Nothing, unmet: Vec::new() });
    }

    #[test]
    fn only_unmet_addressing_is_reported() {
        let reserved = |last| AddressMode::Static([45, 0, 0, last].into());
        let said = |wanted, found| unmet_address(wanted, found).map(|unmet| (unmet.setting, unmet.found, unmet.wanted));
        for (wanted, found) in [
            (AddressMode::Ephemeral, AddressMode::Ephemeral),
            (AddressMode::Ephemeral, reserved(1)),
            (AddressMode::Private, AddressMode::Private),
            (reserved(1), reserved(1)),
        ] {
            assert_eq!(said(wanted, found), None);
        }
        let (private, external) = ("loadBalancer.privateNetworkOnly", "loadBalancer.externalAddress");
        for (wanted, found, setting) in [
            (AddressMode::Private, AddressMode::Ephemeral, private),
            (AddressMode::Ephemeral, AddressMode::Private, private),
            (reserved(1), AddressMode::Private, private),
            (reserved(1), reserved(2), external),
            (reserved(1), AddressMode::Ephemeral, external),
        ] {
            assert_eq!(said(wanted, found), Some((setting, found.to_string(), wanted.to_string())));
        }
        assert_eq!(reserved(1).to_string(), "the reserved address 45.0.0.1");
        assert_eq!(AddressMode::Ephemeral.to_string(), "an ephemeral address");
        assert_eq!(AddressMode::Private.to_string(), "a private address only");
    }

    #[test]
    fn ranges_that_were_there_do_not_keep_an_opened_access_control_shut() {
        let mut base = observed(wish([1]));
        base.balancer.allowed_source_ranges = Some(BTreeSet::from(["192.0.2.0/24".parse().unwrap()]));
        let open = LoadBalancer { allowed_source_ranges: Some(BTreeSet::new()), keep_source_ranges: true, ..wish([1]) };
        assert_eq!(fields(&diff(&open, Some(&base))), ["- allowedSourceRanges: \"192.0.2.0/24\""]);
    }

    #[test]
    fn a_change_belongs_to_a_part() {
        for (field, part) in [
            ("targetPool.targets", "targets"),
            ("targetPool.activeHealthCheck.interval", "active_health_check"),
            ("targetPool.targetPort", "target_pool"),
            ("listener.port", "listener"),
            ("planId", "plan"),
            ("labels.x", "labels"),
            ("networkId", "address"),
            ("address", "address"),
            ("allowedSourceRanges", "access_control"),
            ("name", "load_balancer"),
        ] {
            assert_eq!(Change { field: field.to_owned(), from: None, to: None }.part(), part);
        }
    }

    #[test]
    fn an_update_knows_whether_targets_leave() {
        let removes = |before: &[u8], after: &[u8]| {
            let base = observed(wish(before.iter().copied()));
            Update { base, wish: wish(after.iter().copied()), changes: Vec::new() }.removes_targets()
        };
        assert!(removes(&[1, 2], &[1]) && removes(&[1], &[2]));
        assert!(!removes(&[1], &[1, 2]) && !removes(&[1], &[1]));
    }

    proptest::proptest! {
        #[test]
        fn a_plan_that_was_applied_leaves_nothing_to_do(
            before in proptest::collection::btree_set(0u8..20, 0..6),
            after in proptest::collection::btree_set(0u8..20, 1..6),
            plan_id in "p[0-9]{2}",
        ) {
            let base = observed(wish(before));
            let wish = LoadBalancer { plan_id, ..wish(after) };
            if let Step::Update(update) = diff(&wish, Some(&base)).step {
                let applied = Observed { balancer: update.wish, ..base };
                proptest::prop_assert_eq!(diff(&wish, Some(&applied)).step, Step::Nothing);
            }
        }
    }
}
