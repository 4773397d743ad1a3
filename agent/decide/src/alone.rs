//! What must be set where no Kubernetes API can say it, and the nodes that an operator names instead.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::health::{NodeAddress, NodeView};
use crate::settings::{CredentialsSource, NodeSource, Settings, is_node_name};

/// What somebody is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Keep a balancer.
    Keep,
    /// Make a balancer, with what `--endpoint` names.
    Make,
    /// Remove a balancer.
    Remove,
}

/// Everything that is missing, each with what would mend it. `project`: the credentials' project, or why it is not
/// known; `named`: whether endpoints are named.
pub fn missing(settings: &Settings, deed: Deed, project: Result<&str, &str>, named: bool) -> Vec<String> {
    let stackit = &settings.stackit;
    let wanted = [
        ("exposure.name", &settings.exposure.name, true),
        ("stackit.region", &stackit.region, true),
        ("stackit.networkID", &stackit.network_id, deed != Deed::Remove),
        ("stackit.technicalID", &stackit.technical_id, true),
    ];
    let mut missing: Vec<String> = wanted
        .into_iter()
        .filter(|(_, value, needed)| *needed && value.is_empty())
        .map(|(path, _, _)| path.to_owned())
        .collect();
    // The daemon waits for credentials, which may come later.
    if let (Deed::Make | Deed::Remove, "", Err(why)) = (deed, stackit.project_id.as_str(), project) {
        missing.push(format!("stackit.projectID ({why})"));
    }
    if deed == Deed::Make && !named && settings.nodes.source == NodeSource::Kubernetes {
        missing.push("--endpoint NAME=IP, at least once (or nodes.source: File with nodes.file)".to_owned());
    }
    if stackit.credentials == CredentialsSource::SecretRef {
        missing.push("stackit.credentials: Mounted (SecretRef needs a Kubernetes API)".to_owned());
    }
    missing
}

/// The nodes that `NAME=IP` name, or every mistake.
pub fn named(endpoints: &[String]) -> Result<Vec<NodeView>, Vec<String>> {
    let mut nodes: Vec<NodeView> = Vec::new();
    let mut mistakes = Vec::new();
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for text in endpoints {
        let Some((name, ip)) = text.split_once('=') else {
            mistakes.push(format!("--endpoint {text}: write NAME=IP, such as cp-0=10.0.0.10"));
            continue;
        };
        let parsed = ip.parse::<IpAddr>();
        if !is_node_name(name) {
            mistakes.push(format!("--endpoint {text}: {name:?} is not the name of a node"));
        } else if !names.insert(name) {
            mistakes.push(format!("--endpoint {text}: {name} is there twice"));
        }
        match parsed {
            Err(_) => mistakes.push(format!("--endpoint {text}: {ip:?} is not an IP address")),
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                mistakes.push(format!("--endpoint {text}: no load balancer reaches {ip}"));
            }
            Ok(ip) if !addresses.insert(ip) => mistakes.push(format!("--endpoint {text}: {ip} is there twice")),
            Ok(ip) => {
                let address = NodeAddress { kind: "InternalIP".to_owned(), address: ip.to_string() };
                let (name, addresses) = (name.to_owned(), vec![address]);
                nodes.push(NodeView { name, addresses, vouched_for: true, ..NodeView::default() });
            }
        }
    }
    if mistakes.is_empty() { Ok(nodes) } else { Err(mistakes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let mut settings = Settings::default();
        let unknown = Err("serviceaccount.json: no such file");
        let make = |settings: &Settings, named| missing(settings, Deed::Make, unknown, named).join("; ");
        assert_eq!(
            make(&settings, false),
            "exposure.name; stackit.region; stackit.networkID; stackit.technicalID; stackit.projectID \
             (serviceaccount.json: no such file); --endpoint NAME=IP, at least once (or nodes.source: File with \
             nodes.file)"
        );
        assert!(!make(&settings, true).contains("--endpoint"));
        settings.nodes.source = NodeSource::File;
        assert!(!make(&settings, false).contains("--endpoint"));
        assert_eq!(
            missing(&settings, Deed::Remove, Ok("p"), false),
            ["exposure.name", "stackit.region", "stackit.technicalID"]
        );
        assert!(!missing(&settings, Deed::Keep, unknown, false).join(" ").contains("projectID"));
        for field in [&mut settings.exposure.name, &mut settings.stackit.region, &mut settings.stackit.network_id] {
            *field = "x".to_owned();
        }
        settings.stackit.technical_id = "t".to_owned();
        assert_eq!(missing(&settings, Deed::Make, Ok("p"), false), Vec::<String>::new());
        settings.stackit.project_id = "p".to_owned();
        assert_eq!(make(&settings, false), "");
        settings.stackit.credentials = CredentialsSource::SecretRef;
        assert!(make(&settings, false).contains("SecretRef"));
    }

    #[test]
    fn endpoints_are_names_and_addresses_and_every_mistake_is_told() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let nodes = named(&texts(&["cp-0=10.0.0.10", "cp.1=fd00::1"])).unwrap();
        let shown: Vec<_> = nodes.iter().map(|n| (n.name.as_str(), n.internal_ip().unwrap().to_string())).collect();
        assert_eq!(shown, [("cp-0", "10.0.0.10".to_owned()), ("cp.1", "fd00::1".to_owned())]);
        assert!(nodes.iter().all(|node| node.vouched_for));
        let wrong = ["cp-0", "CP=10.0.0.1", "a=b", "c=10.0.0.9", "c=10.0.0.9", "d=0.0.0.0", "=10.0.0.2"];
        let mistakes = named(&texts(&wrong)).unwrap_err();
        assert_eq!(mistakes.len(), 7, "{mistakes:#?}");
        for part in ["write NAME=IP", "\"CP\"", "\"b\" is not an IP", "c is there twice", "10.0.0.9 is there twice"] {
            assert!(mistakes.iter().any(|mistake| mistake.contains(part)), "{part}: {mistakes:#?}");
        }
    }
}
