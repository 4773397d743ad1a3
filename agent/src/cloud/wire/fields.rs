//! The managed fields one by one, reading beside writing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use decide::desired::{CONTROL_PLANE, HealthCheck, Listener, Target, TargetPool, protobuf_duration};
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::json::{duration, edit_list, edit_object, list, number, object, set, text};

/// `networks[0].networkId`; never written over what was read.
pub(super) fn read_network(raw: &Map<String, Value>) -> String {
    let first = list(raw, "networks").first().and_then(Value::as_object);
    first.and_then(|network| text(network, "networkId")).unwrap_or_default()
}

pub(super) fn read_labels(raw: &Map<String, Value>) -> BTreeMap<String, String> {
    let labels = object(raw, "labels");
    labels.into_iter().flatten().map(|(key, value)| (key.clone(), scalar(value))).collect()
}

pub(super) fn write_labels(body: &mut Map<String, Value>, wish: &BTreeMap<String, String>) {
    if !wish.is_empty() {
        edit_object(body, "labels", |labels| {
            for (key, value) in wish {
                set(labels, key, value.as_str());
            }
        });
    }
}

/// Our listener: the one that shows our name, else the one that serves our pool.
pub(super) fn our_listener(listeners: &[Value]) -> Option<usize> {
    let ours = |member, listener: &Value| listener.get(member).and_then(Value::as_str) == Some(CONTROL_PLANE);
    let named = |listener: &Value| match listener.get("displayName").and_then(Value::as_str) {
        None | Some("") => ours("name", listener),
        Some(name) => name == CONTROL_PLANE,
    };
    listeners.iter().position(named).or_else(|| listeners.iter().position(|listener| ours("targetPool", listener)))
}

pub(super) fn read_listener(raw: &Map<String, Value>) -> Listener {
    Listener {
        display_name: text(raw, "displayName")
            .filter(|name| !name.is_empty())
            .or_else(|| text(raw, "name"))
            .unwrap_or_default(),
        port: number(raw, "port").unwrap_or_default(),
        protocol: text(raw, "protocol").unwrap_or_default(),
        target_pool: text(raw, "targetPool").unwrap_or_default(),
        tcp_idle_timeout: object(raw, "tcp").and_then(|tcp| duration(tcp, "idleTimeout")),
    }
}

pub(super) fn write_listener(raw: &mut Map<String, Value>, wish: &Listener) {
    set(raw, "displayName", wish.display_name.as_str());
    set(raw, "port", wish.port);
    set(raw, "protocol", wish.protocol.as_str());
    set(raw, "targetPool", wish.target_pool.as_str());
    if wish.tcp_idle_timeout.is_some() {
        edit_object(raw, "tcp", |tcp| set_duration(tcp, "idleTimeout", wish.tcp_idle_timeout));
    }
}

/// Our target pool, known by its name.
pub(super) fn our_pool(pools: &[Value]) -> Option<usize> {
    pools.iter().position(|pool| pool.get("name").and_then(Value::as_str) == Some(CONTROL_PLANE))
}

pub(super) fn read_pool(raw: &Map<String, Value>) -> TargetPool {
    TargetPool {
        target_port: number(raw, "targetPort").unwrap_or_default(),
        targets: list(raw, "targets").iter().filter_map(read_target).collect(),
        active_health_check: object(raw, "activeHealthCheck").map(read_health_check),
    }
}

pub(super) fn write_pool(raw: &mut Map<String, Value>, wish: &TargetPool) {
    set(raw, "name", CONTROL_PLANE);
    set(raw, "targetPort", wish.target_port);
    edit_list(raw, "targets", |targets| write_targets(targets, &wish.targets));
    match &wish.active_health_check {
        Some(check) => edit_object(raw, "activeHealthCheck", |raw| write_health_check(raw, check)),
        None => drop(raw.shift_remove("activeHealthCheck")),
    }
}

fn read_target(raw: &Value) -> Option<Target> {
    let raw = raw.as_object()?;
    Some(Target { name: text(raw, "displayName").unwrap_or_default(), ip: text(raw, "ip")?.parse().ok()? })
}

/// Targets that stay keep their place and whatever else they carry; others leave, new ones follow at the end.
fn write_targets(raw: &mut Vec<Value>, wish: &BTreeSet<Target>) {
    let mut missing: BTreeMap<IpAddr, &str> = wish.iter().map(|target| (target.ip, target.name.as_str())).collect();
    raw.retain_mut(|entry| {
        let staying = read_target(entry).and_then(|target| missing.remove(&target.ip));
        let (Some(name), Some(entry)) = (staying, entry.as_object_mut()) else { return false };
        set(entry, "displayName", name);
        true
    });
    let new = wish.iter().filter(|target| missing.contains_key(&target.ip));
    raw.extend(new.map(|target| serde_json::json!({"displayName": target.name, "ip": target.ip.to_string()})));
}

fn read_health_check(raw: &Map<String, Value>) -> HealthCheck {
    HealthCheck {
        interval: duration(raw, "interval"),
        timeout: duration(raw, "timeout"),
        healthy_threshold: number(raw, "healthyThreshold"),
        unhealthy_threshold: number(raw, "unhealthyThreshold"),
    }
}

fn write_health_check(raw: &mut Map<String, Value>, wish: &HealthCheck) {
    set_duration(raw, "interval", wish.interval);
    set_duration(raw, "timeout", wish.timeout);
    for (member, threshold) in
        [("healthyThreshold", wish.healthy_threshold), ("unhealthyThreshold", wish.unhealthy_threshold)]
    {
        if let Some(threshold) = threshold {
            set(raw, member, threshold);
        }
    }
}

/// `options.accessControl.allowedSourceRanges`; a plain address counts as a range of one.
pub(super) fn read_ranges(raw: &Map<String, Value>) -> BTreeSet<IpNet> {
    let control = object(raw, "options").and_then(|options| object(options, "accessControl"));
    let ranges = control.map_or(&[][..], |control| list(control, "allowedSourceRanges"));
    ranges.iter().filter_map(read_range).collect()
}

/// Ranges that stay keep their place; no range at all opens the balancer.
pub(super) fn write_ranges(body: &mut Map<String, Value>, wish: &BTreeSet<IpNet>) {
    let controlled = object(body, "options").is_some_and(|options| options.contains_key("accessControl"));
    if wish.is_empty() && !controlled {
        return;
    }
    edit_object(body, "options", |options| {
        edit_object(options, "accessControl", |control| {
            if wish.is_empty() {
                control.shift_remove("allowedSourceRanges");
                return;
            }
            edit_list(control, "allowedSourceRanges", |ranges| {
                let mut missing = wish.clone();
                ranges.retain(|range| read_range(range).is_some_and(|range| missing.remove(&range)));
                ranges.extend(missing.iter().map(|range| Value::from(range.to_string())));
            });
        });
    });
}

fn read_range(raw: &Value) -> Option<IpNet> {
    let text = raw.as_str()?;
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Changes the entry at this place, or adds one.
pub(super) fn edit_at(entries: &mut Vec<Value>, at: Option<usize>, change: impl FnOnce(&mut Map<String, Value>)) {
    if let Some(entry) = at.and_then(|at| entries.get_mut(at)).and_then(Value::as_object_mut) {
        return change(entry);
    }
    let mut entry = Map::new();
    change(&mut entry);
    entries.push(Value::Object(entry));
}

/// Leaves a duration that says the same in other words alone.
fn set_duration(raw: &mut Map<String, Value>, member: &str, wish: Option<Duration>) {
    if let Some(wish) = wish
        && duration(raw, member) != Some(wish)
    {
        set(raw, member, protobuf_duration(wish));
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}
