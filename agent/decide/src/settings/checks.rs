//! What makes no sense among the settings, section by section.

use std::collections::BTreeSet;
use std::time::Duration;

use super::mistakes::{Findings, Mistake};
use super::{API_VERSION, KIND, NodeSource, Settings, duration, set, words};

/// Every mistake, in the order of the keys.
pub(super) fn all(settings: &Settings) -> Vec<Mistake> {
    let mut findings = Findings::default();
    identity(settings, &mut findings);
    objects(settings, &mut findings);
    health(settings, &mut findings);
    election(settings, &mut findings);
    cloud(settings, &mut findings);
    balancer(settings, &mut findings);
    server(settings, &mut findings);
    findings.0
}

fn identity(settings: &Settings, findings: &mut Findings) {
    for (path, found, only) in [("apiVersion", &settings.api_version, API_VERSION), ("kind", &settings.kind, KIND)] {
        if found != only {
            findings.add(path, format!("{found:?} is not known"), format!("write {only}"));
        }
    }
    if let Some(name) = settings.node_name() {
        findings.check("nodeName", words::subdomain(name));
    }
    findings.check("kubeconfig", words::file_path(&settings.kubeconfig));
}

fn objects(settings: &Settings, findings: &mut Findings) {
    let exposure = &settings.exposure;
    findings.check("exposure.namespace", words::label(&exposure.namespace));
    if let Some(name) = exposure.name() {
        findings.check("exposure.name", words::subdomain(name));
    }
    if exposure.r#type.trim().is_empty() {
        findings.add("exposure.type", "empty", "the provider's type; ours is stackit");
    }
    if !["garden", "seed", "shoot"].contains(&exposure.class.as_str()) {
        findings.add("exposure.class", format!("{:?} is not a class", exposure.class), "one of garden, seed, shoot");
    }
    port("exposure.port", exposure.port, findings);

    let nodes = &settings.nodes;
    if nodes.source == NodeSource::File && nodes.file.is_empty() {
        findings.add_with("nodes.file", &["nodes.source"], "empty, but nodes.source is File", "name the file");
    }
    findings.check("nodes.file", words::file_path(&nodes.file));
    if let Err(found) = words::label_terms(&nodes.selector) {
        let hint = "keys and key=value, separated by commas, such as node-role.kubernetes.io/control-plane";
        findings.add("nodes.selector", found, hint);
    }
}

fn health(settings: &Settings, findings: &mut Findings) {
    let probe = &settings.health.probe;
    findings.check("health.probe.path", words::request_path(&probe.path));
    if !["http", "https"].contains(&probe.scheme.as_str()) {
        findings.add("health.probe.scheme", format!("{:?} is not a scheme", probe.scheme), "https or http");
    }
    findings.check("health.probe.alivePath", words::request_path(&probe.alive_path));
    findings.check("health.probe.serverName", words::subdomain(&probe.server_name));
    positive("health.probe.interval", probe.interval, findings);
    positive("health.probe.timeout", probe.timeout, findings);
    positive("health.probe.slow", probe.slow, findings);
    if probe.slow >= probe.timeout {
        findings.add_with(
            "health.probe.slow",
            &["health.probe.timeout"],
            format!("{} is not shorter than timeout ({})", duration::print(probe.slow), duration::print(probe.timeout)),
            "a request counts as slow before it is given up",
        );
    }
    at_least_one("health.probe.successThreshold", probe.success_threshold, findings);
    let delay = &settings.health.re_add_delay;
    if delay.initial > delay.max {
        findings.add_with(
            "health.reAddDelay.initial",
            &["health.reAddDelay.max"],
            format!("{} is longer than max ({})", duration::print(delay.initial), duration::print(delay.max)),
            "the delay grows from initial up to max",
        );
    }
}

fn election(settings: &Settings, findings: &mut Findings) {
    let election = &settings.leader_election;
    findings.check("leaderElection.leaseName", words::subdomain(&election.lease_name));
    findings.check("leaderElection.leaseNamespace", words::label(&election.lease_namespace));
    let (lease, renew, retry) = (election.lease_duration, election.renew_deadline, election.retry_period);
    if lease < Duration::from_secs(1) || lease.subsec_nanos() != 0 {
        let found = format!("{} is not a number of whole seconds", duration::print(lease));
        findings.add("leaderElection.leaseDuration", found, "a Lease counts in seconds, at least 1s");
    }
    positive("leaderElection.renewDeadline", renew, findings);
    if renew >= lease {
        findings.add_with(
            "leaderElection.renewDeadline",
            &["leaderElection.leaseDuration"],
            format!("{} is not shorter than leaseDuration ({})", duration::print(renew), duration::print(lease)),
            "the leader must have stopped before others may begin; 15s, 10s and 2s are usual",
        );
    }
    positive("leaderElection.retryPeriod", retry, findings);
    // 1.2 is the jitter on the wait.
    if retry.mul_f64(1.2) >= renew {
        findings.add_with(
            "leaderElection.retryPeriod",
            &["leaderElection.renewDeadline"],
            format!(
                "1.2 times {} is not shorter than renewDeadline ({})",
                duration::print(retry),
                duration::print(renew)
            ),
            "a fifth of renewDeadline leaves room for several tries",
        );
    }
}

fn cloud(settings: &Settings, findings: &mut Findings) {
    let stackit = &settings.stackit;
    if stackit.credentials_directory.is_empty() {
        findings.add(
            "stackit.credentialsDirectory",
            "empty",
            "the folder with serviceaccount.json, or token and config",
        );
    }
    findings.check("stackit.credentialsDirectory", words::file_path(&stackit.credentials_directory));
    if let Some(region) = set(&stackit.region) {
        findings.check("stackit.region", words::region(region));
    }
    if let Some(id) = stackit.project_id() {
        findings.check("stackit.projectID", words::uuid(id, false));
    }
    if let Some(id) = stackit.network_id() {
        findings.check("stackit.networkID", words::uuid(id, true));
    }
    if let Some(id) = stackit.technical_id() {
        findings.check("stackit.technicalID", words::technical_id(id));
    }
    if let Some(url) = stackit.load_balancer_endpoint() {
        findings.check("stackit.loadBalancerEndpoint", words::url(url));
    }
    if let Some(url) = stackit.token_endpoint() {
        findings.check("stackit.tokenEndpoint", words::url(url));
    }
    findings.check("stackit.caBundle", words::file_path(&stackit.ca_bundle));
    positive("stackit.requestTimeout", stackit.request_timeout, findings);
}

fn balancer(settings: &Settings, findings: &mut Findings) {
    let balancer = &settings.load_balancer;
    if balancer.plan_id.trim().is_empty() {
        findings.add("loadBalancer.planID", "empty", "a service plan such as p10");
    }
    let idle = balancer.tcp_idle_timeout;
    if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&idle) {
        let found = format!("{} is not between 1s and 60m", duration::print(idle));
        findings.add("loadBalancer.tcpIdleTimeout", found, "60m is the most the load balancer takes");
    }
    if let Some(address) = set(&balancer.external_address) {
        if balancer.external_address().is_none() {
            let found = format!("{address:?} is not an IP address");
            findings.add("loadBalancer.externalAddress", found, "a reserved public address such as 203.0.113.7");
        }
        if balancer.private_network_only {
            findings.add_with(
                "loadBalancer.externalAddress",
                &["loadBalancer.privateNetworkOnly"],
                "set together with privateNetworkOnly",
                "a private balancer has no public address; remove one of the two",
            );
        }
    }
    let check = &balancer.active_health_check;
    positive("loadBalancer.activeHealthCheck.interval", check.interval, findings);
    positive("loadBalancer.activeHealthCheck.timeout", check.timeout, findings);
    for (path, threshold) in [
        ("loadBalancer.activeHealthCheck.healthyThreshold", check.healthy_threshold),
        ("loadBalancer.activeHealthCheck.unhealthyThreshold", check.unhealthy_threshold),
    ] {
        if !(1..=1_000_000).contains(&threshold) {
            findings.add(path, format!("{threshold} is not between 1 and 1000000"), "2 or 3 is usual");
        }
    }
    let access = &balancer.access_control;
    let mut seen = BTreeSet::new();
    for (index, range) in access.allowed_source_ranges.iter().enumerate() {
        let path = format!("loadBalancer.accessControl.allowedSourceRanges[{index}]");
        findings.check(path.as_str(), words::cidr(range));
        if !seen.insert(range) {
            findings.add(path, format!("{range:?} is there twice"), "remove one");
        }
    }
    findings.check("loadBalancer.accessControl.sourceRangesFile", words::file_path(&access.source_ranges_file));
    if balancer.resync < Duration::from_secs(1) {
        let found = format!("{} is shorter than 1s", duration::print(balancer.resync));
        findings.add("loadBalancer.resync", found, "each is a request to the cloud; 60s is usual");
    }
    at_least_one("loadBalancer.writesPerMinute", balancer.writes_per_minute, findings);
}

fn server(settings: &Settings, findings: &mut Findings) {
    let server = &settings.server;
    findings.check("server.bindAddress", words::bind_address(&server.bind_address));
    let Some(metrics) = set(&server.metrics_bind_address) else { return };
    findings.check("server.metricsBindAddress", words::bind_address(metrics));
    if server.metrics_bind_address() == server.bind_address() && server.bind_address().is_some_and(|a| a.port() != 0) {
        let found = "the same as server.bindAddress";
        findings.add_with(
            "server.metricsBindAddress",
            &["server.bindAddress"],
            found,
            "another port, or leave it empty",
        );
    }
}

fn positive(path: &str, value: Duration, findings: &mut Findings) {
    if value.is_zero() {
        findings.add(path, "0s is not longer than nothing", "such as 5s");
    }
}

fn at_least_one(path: &str, value: u32, findings: &mut Findings) {
    if value == 0 {
        findings.add(path, "0 is less than 1", "at least 1");
    }
}

fn port(path: &str, value: u16, findings: &mut Findings) {
    if value == 0 {
        findings.add(path, "0 is not a port", "between 1 and 65535; an API server has 443 or 6443");
    }
}
