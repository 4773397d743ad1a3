//! The rights that `config/rbac.yaml` grants, each with what it is for.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::world::repository;

/// A right, and what is broken without it.
pub(super) struct Right {
    /// The role's namespace; empty: it is the ClusterRole.
    pub(super) namespace: &'static str,
    pub(super) resource: &'static str,
    pub(super) verbs: &'static [&'static str],
    /// As config/README.md has it.
    pub(super) function: &'static str,
}

const fn right(
    namespace: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    function: &'static str,
) -> Right {
    Right { namespace, resource, verbs, function }
}

/// All of them.
pub(super) const RIGHTS: &[Right] = &[
    right("", "nodes", &["list", "watch"], "the targets do not follow the nodes"),
    right("", "nodes", &["patch"], "no `drain` and `undrain`, and no mark before a shutdown"),
    right("", "clusters", &["list", "watch"], "region, technical ID and endpoints must be set by hand"),
    right("kube-system", "selfhostedshootexposures", &["list", "watch"], "nothing is known of the exposure"),
    right(
        "kube-system",
        "selfhostedshootexposures",
        &["get"],
        "no balancer is deleted: the proof before it is missing",
    ),
    right("kube-system", "selfhostedshootexposures", &["patch"], "no finalizer, no `spec.endpoints`"),
    right("kube-system", "selfhostedshootexposures", &["create"], "`bootstrap` and `createIfMissing` make no exposure"),
    right("kube-system", "selfhostedshootexposures", &["delete"], "`teardown` deletes no exposure"),
    right("kube-system", "selfhostedshootexposures/status", &["patch"], "nothing is reported, and no balancer is made"),
    right(
        "kube-system",
        "infrastructures",
        &["list", "watch"],
        "the network must be set by hand, egress ranges are unknown",
    ),
    right("kube-system", "pods", &["list", "watch"], "static pods do not hurry evidence"),
    right("kube-system", "dnsrecords", &["list", "watch", "patch"], "the DNS record does not follow"),
    right("kube-system", "events", &["create", "patch"], "events are in the log only"),
    right("kube-system", "secrets", &["list", "watch"], "no credentials with `SecretRef`"),
    right("kube-system", "leases", &["create"], "no first leader"),
    right("kube-system", "leases", &["list", "watch"], "nobody leads: the Lease is not seen"),
    right("kube-system", "leases", &["update"], "the leader does not stay, nor is it followed"),
    right("kube-system", "leases", &["get"], "who has lost a race learns a little later to whom"),
    right("kube-node-lease", "leases", &["get"], "a broken path looks like a dead node"),
];

/// Every verb on every resource that the file grants, as `namespace resource verb`.
fn granted() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(repository("config/rbac.yaml"))?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).context("reading config/rbac.yaml")?;
    let mut granted = BTreeSet::new();
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for object in objects.iter().filter(|object| object["rules"].is_array()) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in object["rules"].as_array().into_iter().flatten() {
            for (resource, verb) in words(&rule["resources"])
                .iter()
                .flat_map(|r| words(&rule["verbs"]).into_iter().map(move |v| (r.clone(), v)))
            {
                ensure!(verb != "*" && resource != "*", "everything is not the smallest set");
                ensure!(granted.insert(format!("{namespace} {resource} {verb}")), "{resource} {verb} is granted twice");
            }
            let (resources, names) = (words(&rule["resources"]), words(&rule["resourceNames"]));
            let by_name = !resources.contains(&"secrets".to_owned()) || (!names.is_empty() && !namespace.is_empty());
            ensure!(by_name, "Secrets other than the one by name: {rule}");
        }
    }
    Ok(granted)
}

#[test]
fn every_right_has_its_row_here_and_in_the_readme() -> Result<()> {
    let rows = RIGHTS
        .iter()
        .flat_map(|right| right.verbs.iter().map(|verb| format!("{} {} {verb}", right.namespace, right.resource)));
    assert_eq!(rows.collect::<BTreeSet<_>>(), granted()?);
    let readme = std::fs::read_to_string(repository("config/README.md"))?;
    for Right { namespace, resource, verbs, function } in RIGHTS {
        let place = if namespace.is_empty() { "everywhere" } else { namespace };
        let row = format!("| {place} | `{resource}` | {} | {function} |", verbs.join(", "));
        assert!(readme.contains(&row), "config/README.md has no row\n{row}");
    }
    Ok(())
}
