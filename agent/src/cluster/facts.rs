//! Facts about the shoot: from `Cluster` and `Infrastructure`, where the settings do not name them.
//!
//! Source: Gardener contract sections 5 and 6. Both kinds are read leniently as plain values: only a few fields
//! matter, and an object of a newer version must not stop anything. Deliberately not here: credentials and files.

use std::collections::BTreeSet;

use decide::access::{Egress, FileRanges};
use decide::exposure::{FORCE_DELETION, Facts};
use decide::settings::Settings;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::Value;

use super::watch::{Read, Watched};

/// The one `Cluster` of a self-hosted shoot.
pub const CLUSTER: &str = "kube-system";

/// What is read of `Cluster`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// `spec.shoot.metadata.name`.
    pub shoot: String,
    /// `spec.shoot.spec.region`.
    pub region: Option<String>,
    /// `spec.shoot.status.technicalID`.
    pub technical_id: Option<String>,
    /// `spec.shoot.spec.networking.ipFamilies`, the preferred one first; empty where it is not set.
    pub ip_families: Vec<String>,
    /// The Shoot's owner forces the deletion.
    pub force_deletion: bool,
    /// `spec.cloudProfile.spec`.
    pub profile: Profile,
}

/// What is read of the `CloudProfile` inside `Cluster`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// `providerConfig.apiEndpoints.loadBalancer`.
    pub load_balancer_endpoint: Option<String>,
    /// `providerConfig.apiEndpoints.tokenEndpoint`.
    pub token_endpoint: Option<String>,
    /// `caBundle`, PEM.
    pub ca_bundle: Option<String>,
    /// What has another type than expected, each with its path; as good as missing.
    pub problems: Vec<String>,
}

/// What is read of `Infrastructure`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Infrastructure {
    /// `status.providerStatus.networks.id`.
    pub network_id: Option<String>,
    /// `status.egressCIDRs`; `None` where they cannot be read.
    pub egress: Option<BTreeSet<ipnet::IpNet>>,
}

/// A kind of `extensions.gardener.cloud`.
pub fn kind(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("extensions.gardener.cloud", "v1alpha1", kind))
}

/// For the watch on `Cluster`.
pub fn cluster(object: DynamicObject) -> Read<Cluster> {
    let name = object.metadata.name.unwrap_or_default();
    let shoot = &object.data["spec"]["shoot"];
    let cluster = Cluster {
        shoot: word(&shoot["metadata"]["name"]).unwrap_or_default(),
        region: word(&shoot["spec"]["region"]),
        technical_id: word(&shoot["status"]["technicalID"]),
        ip_families: shoot["spec"]["networking"]["ipFamilies"]
            .as_array()
            .map(|families| families.iter().filter_map(word).collect())
            .unwrap_or_default(),
        force_deletion: word(&shoot["metadata"]["annotations"][FORCE_DELETION]).is_some_and(|text| is_true(&text)),
        profile: profile(&object.data["spec"]["cloudProfile"]["spec"]),
    };
    Ok((name, cluster))
}

fn profile(spec: &Value) -> Profile {
    const ROOT: &str = "cloudProfile.spec";
    let mut problems = Vec::new();
    let mut fail = |path: &str, wanted: &str| problems.push(format!("{ROOT}.{path} is not {wanted}"));
    let config = &spec["providerConfig"];
    let endpoints = &config["apiEndpoints"];
    for (path, value) in [("providerConfig", config), ("providerConfig.apiEndpoints", endpoints)] {
        if !value.is_null() && !value.is_object() {
            fail(path, "an object");
        }
    }
    let kind = &config["kind"];
    if config.is_object() && kind != "CloudProfileConfig" {
        fail("providerConfig.kind", &format!("CloudProfileConfig, but {kind}"));
    }
    let mut text = |path: &str, value: &Value| {
        if !value.is_null() && !value.is_string() {
            fail(path, "a string");
        }
        word(value)
    };
    let load_balancer_endpoint = text("providerConfig.apiEndpoints.loadBalancer", &endpoints["loadBalancer"]);
    let token_endpoint = text("providerConfig.apiEndpoints.tokenEndpoint", &endpoints["tokenEndpoint"]);
    let ca_bundle = text("caBundle", &spec["caBundle"]);
    Profile { load_balancer_endpoint, token_endpoint, ca_bundle, problems }
}

/// For the watch on `Infrastructure`.
pub fn infrastructure(object: DynamicObject) -> Read<Infrastructure> {
    let name = object.metadata.name.unwrap_or_default();
    let status = &object.data["status"];
    let egress = match &status["egressCIDRs"] {
        Value::Null => Some(BTreeSet::new()),
        Value::Array(ranges) => ranges.iter().map(|range| range.as_str()?.parse().ok()).collect(),
        _ => None,
    };
    Ok((name, Infrastructure { network_id: word(&status["providerStatus"]["networks"]["id"]), egress }))
}

/// All facts: a setting wins, then the cluster's objects; each that is missing with the reason and the mend.
///
/// `project_id` is the credentials' project or why it is not known.
pub fn gather(
    settings: &Settings,
    clusters: &Watched<Cluster>,
    infrastructures: &Watched<Infrastructure>,
    project_id: Result<String, String>,
) -> Facts {
    let cluster = clusters.items.get(CLUSTER);
    let infrastructure = cluster.and_then(|cluster| infrastructures.items.get(&cluster.shoot));
    let of_cluster = |setting: &str, path: &str, value: Option<&String>| {
        value
            .cloned()
            .ok_or_else(|| missing(setting, &format!("Cluster `{CLUSTER}` {path}"), clusters.problem.as_deref()))
    };
    let wish = &settings.stackit;
    let set = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    Facts {
        region: set(&wish.region).map_or_else(
            || of_cluster("region", ".spec.shoot.spec.region", cluster.and_then(|c| c.region.as_ref())),
            Ok,
        ),
        technical_id: set(&wish.technical_id).map_or_else(
            || {
                of_cluster(
                    "technicalID",
                    ".spec.shoot.status.technicalID",
                    cluster.and_then(|c| c.technical_id.as_ref()),
                )
            },
            Ok,
        ),
        network_id: set(&wish.network_id).or_else(|| infrastructure.and_then(|i| i.network_id.clone())).ok_or_else(
            || {
                missing(
                    "networkID",
                    "Infrastructure .status.providerStatus.networks.id",
                    infrastructures.problem.as_deref(),
                )
            },
        ),
        project_id: set(&wish.project_id).map_or(project_id, Ok),
        egress: match infrastructure {
            Some(infrastructure) => infrastructure.egress.clone().map_or(Egress::Unreadable, Egress::Known),
            // Listed, and there is none: unmanaged infrastructure.
            None if infrastructures.listed && clusters.listed => Egress::Known(BTreeSet::new()),
            None => Egress::Unreadable,
        },
        force_deletion: cluster.is_some_and(|cluster| cluster.force_deletion),
        file_ranges: FileRanges::NotSet,
    }
}

fn missing(setting: &str, place: &str, problem: Option<&str>) -> String {
    let why = problem.map(|problem| format!(" ({problem})")).unwrap_or_default();
    format!("stackit.{setting} is not set and {place} is not there{why}")
}

/// The words that Go's `strconv.ParseBool` takes for true.
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "TRUE", "true", "True"].contains(&text)
}

fn word(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn listed<V>(read: Read<V>) -> Watched<V> {
        Watched { items: Arc::new(BTreeMap::from([read.unwrap()])), listed: true, problem: None }
    }

    fn shoot() -> Watched<Cluster> {
        listed(cluster(object(json!({
            "metadata": {"name": "kube-system"},
            "spec": {"shoot": {"metadata": {"name": "root"}, "spec": {"region": "eu01"},
                     "status": {"technicalID": "shoot--garden--root"}}},
        }))))
    }

    #[test]
    fn facts_come_from_the_cluster_and_its_infrastructure() {
        let infrastructures = listed(infrastructure(object(json!({
            "metadata": {"name": "root"},
            "status": {"providerStatus": {"networks": {"id": "net"}}, "egressCIDRs": ["203.0.113.7/32"]},
        }))));
        let facts = gather(&Settings::default(), &shoot(), &infrastructures, Ok("p".to_owned()));
        assert_eq!(facts.region.as_deref(), Ok("eu01"));
        assert_eq!(facts.technical_id.as_deref(), Ok("shoot--garden--root"));
        assert_eq!(facts.network_id.as_deref(), Ok("net"));
        assert_eq!(facts.egress, Egress::Known(BTreeSet::from(["203.0.113.7/32".parse().unwrap()])));
    }

    #[test]
    fn what_is_missing_says_where_it_was_looked_for() {
        let forbidden = Watched { problem: Some("clusters is forbidden".to_owned()), ..Watched::default() };
        let facts = gather(&Settings::default(), &forbidden, &Watched::default(), Err("no file".to_owned()));
        let region = facts.region.unwrap_err();
        assert!(region.contains("stackit.region") && region.contains("clusters is forbidden"), "{region}");
        assert_eq!(facts.egress, Egress::Unreadable);
    }

    #[test]
    fn the_cloud_profile_is_read_leniently_and_what_is_odd_is_named() {
        assert_eq!(profile(&Value::Null), Profile::default());
        let good = profile(&json!({
            "caBundle": "PEM",
            "providerConfig": {
                "apiVersion": "stackit.provider.extensions.gardener.cloud/v1alpha1", "kind": "CloudProfileConfig",
                "apiEndpoints": {"loadBalancer": "https://lb", "tokenEndpoint": "https://t", "dns": "https://dns"},
                "regions": [],
            },
        }));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!((good.load_balancer_endpoint, good.token_endpoint), (text("https://lb"), text("https://t")));
        assert_eq!((good.ca_bundle, good.problems.len()), (text("PEM"), 0));
        let odd = profile(&json!({
            "caBundle": 1, "providerConfig": {"kind": "Other", "apiEndpoints": {"loadBalancer": ["x"]}},
        }));
        assert_eq!(
            odd.problems,
            [
                "cloudProfile.spec.providerConfig.kind is not CloudProfileConfig, but \"Other\"",
                "cloudProfile.spec.providerConfig.apiEndpoints.loadBalancer is not a string",
                "cloudProfile.spec.caBundle is not a string",
            ]
        );
        assert_eq!((odd.load_balancer_endpoint, odd.ca_bundle), (None, None));
    }

    #[test]
    fn values_of_another_type_are_as_good_as_missing() {
        let odd = listed(cluster(object(json!({"metadata": {"name": "kube-system"}, "spec": {"shoot": [1]}}))));
        assert!(gather(&Settings::default(), &odd, &Watched::default(), Ok(String::new())).region.is_err());
        let (_, odd) =
            infrastructure(object(json!({"metadata": {"name": "x"}, "status": {"egressCIDRs": ["no"]}}))).unwrap();
        assert_eq!(odd.egress, None);
    }
}
