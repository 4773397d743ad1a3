//! What a scrape sees: exactly the documented names and labels.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn metrics() -> Metrics {
    Metrics::new("shoot-exposure-agent", "1.2.3", "abcdef0")
}

/// `name{label,label}` of each family, histograms under their own name.
fn families(text: &str) -> BTreeSet<String> {
    let histograms: BTreeSet<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" histogram")).collect();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let name = base.filter(|base| histograms.contains(base)).unwrap_or(name);
            let labels = line.split_once('{').map(|(_, rest)| rest.split_once('}').unwrap().0).unwrap_or_default();
            let labels: Vec<_> = labels.split(',').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
            let labels: Vec<_> = labels.into_iter().filter(|&label| label != "le").collect();
            format!("{name}{{{}}}", labels.join(","))
        })
        .collect()
}

#[test]
fn every_documented_metric_is_there_from_the_start() {
    let expected = [
        "leader_election_master_status{name}",
        "process_cpu_seconds_total{}",
        "process_max_fds{}",
        "process_open_fds{}",
        "process_resident_memory_bytes{}",
        "process_start_time_seconds{}",
        "process_threads{}",
        "process_virtual_memory_bytes{}",
        "shoot_exposure_build_info{version,revision}",
        "shoot_exposure_cloud_request_duration_seconds{method}",
        "shoot_exposure_cloud_requests_total{method,code}",
        "shoot_exposure_config_reload_total{result}",
        "shoot_exposure_conflicts_total{}",
        "shoot_exposure_desired_targets{}",
        "shoot_exposure_detection_to_write_seconds{}",
        "shoot_exposure_drift_total{field}",
        "shoot_exposure_forgotten{kind}",
        "shoot_exposure_frozen{reason}",
        "shoot_exposure_last_sync_timestamp_seconds{}",
        "shoot_exposure_leader_transitions_total{}",
        "shoot_exposure_nodes{verdict}",
        "shoot_exposure_paused{}",
        "shoot_exposure_probe_duration_seconds{}",
        "shoot_exposure_probe_results_total{class}",
        "shoot_exposure_reconcile_duration_seconds{controller}",
        "shoot_exposure_reconcile_total{controller,result}",
        "shoot_exposure_targets{}",
        "shoot_exposure_token_expiry_timestamp_seconds{}",
    ];
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let found = families(&metrics().encode(format).unwrap());
        assert_eq!(found, expected.iter().map(|&name| name.to_owned()).collect(), "{format:?}");
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let metrics = metrics();
    metrics.set_nodes([NodeVerdict::Healthy, NodeVerdict::NotReady, NodeVerdict::Healthy]);
    metrics.set_nodes([NodeVerdict::Healthy]);
    metrics.set_targets(3);
    metrics.set_frozen(Some(FrozenReason::NoNodes));
    metrics.set_forgotten(Forgettable::Drain, 2);
    metrics.set_leader(true);
    metrics.set_last_sync(UNIX_EPOCH + Duration::from_millis(1_500));
    metrics.cloud_request_ended(Method::Put, Code::Http(409), Duration::from_millis(30));
    metrics.cloud_request_ended(Method::Get, Code::TimedOut, Duration::from_secs(5));
    metrics.reconciled(Controller::Exposure, PassResult::Waiting, Duration::from_millis(3));
    metrics.probe_ended(ProbeClass::EtcdCut, Duration::from_secs(2));
    metrics.clone().config_reloaded(ReloadResult::Error);
    let text = metrics.encode(Format::Prometheus).unwrap();
    for line in [
        "shoot_exposure_nodes{verdict=\"healthy\"} 1",
        "shoot_exposure_nodes{verdict=\"not_ready\"} 0",
        "shoot_exposure_targets 3",
        "shoot_exposure_forgotten{kind=\"drain\"} 2",
        "shoot_exposure_forgotten{kind=\"pause\"} 0",
        "shoot_exposure_frozen{reason=\"no_nodes\"} 1",
        "shoot_exposure_frozen{reason=\"shared_cause\"} 0",
        "leader_election_master_status{name=\"shoot-exposure-agent\"} 1",
        "shoot_exposure_last_sync_timestamp_seconds 1.5",
        "shoot_exposure_cloud_requests_total{method=\"PUT\",code=\"409\"} 1",
        "shoot_exposure_cloud_requests_total{method=\"GET\",code=\"timed_out\"} 1",
        "shoot_exposure_cloud_request_duration_seconds_count{method=\"PUT\"} 1",
        "shoot_exposure_reconcile_total{controller=\"exposure\",result=\"waiting\"} 1",
        "shoot_exposure_probe_results_total{class=\"etcd_cut\"} 1",
        "shoot_exposure_config_reload_total{result=\"error\"} 1",
        "shoot_exposure_build_info{version=\"1.2.3\",revision=\"abcdef0\"} 1",
        "# TYPE shoot_exposure_drift_total counter",
        "# HELP shoot_exposure_drift_total Fields found changed by somebody else.",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nin\n{text}");
    }
}
