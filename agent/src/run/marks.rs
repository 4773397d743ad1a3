//! Where the marks of drains are written: on Node objects, or on the Nodes of a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use decide::health::NodeView;
use decide::settings::{NodeSource, Settings};

use crate::cluster::client::Access;
use crate::cluster::nodes::{Changes, Nodes};
use crate::cluster::{ApiFailure, patiently};
use crate::host::{node_annotations, node_list};

/// Where.
#[derive(Clone)]
pub enum Marks {
    /// In Kubernetes.
    Objects(Box<Nodes>),
    /// In this file.
    File(PathBuf),
}

impl Marks {
    /// As the settings say; `None` where they say Kubernetes and there is none.
    pub fn find(settings: &Settings, access: Option<&Access>) -> anyhow::Result<Option<Self>> {
        Ok(match (settings.nodes.source, access) {
            (NodeSource::File, _) => Some(Self::File(PathBuf::from(&settings.nodes.file))),
            (NodeSource::Kubernetes, Some(access)) => Some(Self::Objects(Box::new(Nodes::new(access.client()?)))),
            (NodeSource::Kubernetes, None) => None,
        })
    }

    /// The control-plane nodes by name.
    pub async fn nodes(&self, selector: &str) -> anyhow::Result<BTreeMap<String, NodeView>> {
        match self {
            Self::Objects(nodes) => {
                patiently(|| nodes.list(selector)).await.map_err(|failure| anyhow!("listing Nodes: {failure}"))
            }
            Self::File(path) => node_list::read(path, selector).map_err(|problem| anyhow!("{problem}")),
        }
    }

    /// Changes annotations of one node.
    pub async fn annotate(&self, node: &str, changes: &Changes<'_>) -> anyhow::Result<()> {
        match self {
            Self::File(path) => node_annotations::annotate(path, node, changes).map_err(|problem| anyhow!("{problem}")),
            Self::Objects(nodes) => match patiently(|| nodes.annotate(node, changes)).await {
                Ok(()) => Ok(()),
                Err(ApiFailure::Forbidden(what)) => bail!(
                    "marking Node `{node}` needs the verb `patch` on the resource `nodes`, which this account has not: \
                     {what}; grant it (config/rbac.yaml has the rule), or name another account by --kubeconfig"
                ),
                Err(failure) => bail!("marking Node `{node}`: {failure}"),
            },
        }
    }
}
