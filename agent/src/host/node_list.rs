//! Nodes from a file: a Node list as `kubectl get nodes -o yaml` prints it, watched.
//!
//! A file that cannot be read or parsed keeps the last good list and says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use decide::health::{NodeView, selected};
use serde::Deserialize;
use tokio::sync::watch;
use tracing::{info, warn};

use super::reload::Changes;
use crate::cluster::nodes::{self, SlimNode};
use crate::cluster::watch::Watched;

/// Size of a Node list that is read.
const LARGEST: u64 = 16 << 20;

#[derive(Deserialize)]
struct NodeList {
    #[serde(default)]
    items: Option<Vec<serde_json::Value>>,
}

/// Follows the file until the receiver is gone.
pub async fn follow(path: PathBuf, selector: String, out: watch::Sender<Watched<NodeView>>) {
    let changes = Changes::of_file(&path);
    loop {
        let read = read(&path, &selector);
        out.send_if_modified(|watched| take(watched, read, &path));
        tokio::select! {
            () = changes.next() => {}
            () = out.closed() => return,
        }
    }
}

fn take(watched: &mut Watched<NodeView>, read: Result<BTreeMap<String, NodeView>, String>, path: &Path) -> bool {
    match read {
        Ok(items) => {
            let recovered = watched.problem.take().is_some();
            if !recovered && watched.listed && *watched.items == items {
                return false;
            }
            info!(file = %path.display(), nodes = items.len(), "read the Node list");
            watched.items = Arc::new(items);
            watched.listed = true;
            true
        }
        Err(problem) => {
            if watched.problem.as_ref() == Some(&problem) {
                return false;
            }
            warn!(problem, "cannot read the Node list; what was read last stays");
            watched.problem = Some(problem);
            true
        }
    }
}

/// The control-plane nodes of a file by name.
pub fn read(path: &Path, selector: &str) -> Result<BTreeMap<String, NodeView>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("nodes.file `{shown}`: {error}"))?.len();
    if size > LARGEST {
        return Err(format!("nodes.file `{shown}`: {size} bytes are more than a Node list has"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("nodes.file `{shown}`: {error}"))?;
    parse(&text, selector).map_err(|error| format!("nodes.file `{shown}`: {error}"))
}

fn parse(text: &str, selector: &str) -> Result<BTreeMap<String, NodeView>, String> {
    let list: NodeList = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    // An empty or half-written file must not look like a cluster without nodes.
    let items = list.items.ok_or("no `items`: a Node list as `kubectl get nodes -o yaml` prints it is wanted")?;
    let mut nodes = BTreeMap::new();
    for (index, item) in items.into_iter().enumerate() {
        let node: SlimNode = serde_json::from_value(item).map_err(|error| format!("items[{index}]: {error}"))?;
        let (name, view) = nodes::view(node).map_err(|error| format!("items[{index}]: {error}"))?;
        if selected(&view.labels, selector) {
            nodes.insert(name, view);
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "
apiVersion: v1
kind: List
items:
- metadata: {name: a, labels: {node-role.kubernetes.io/control-plane: ''}}
  status: {addresses: [{type: InternalIP, address: 10.0.0.1}], conditions: [{type: Ready, status: 'True'}]}
- metadata: {name: worker}
";

    #[test]
    fn the_selector_picks_the_control_plane() {
        let nodes = parse(LIST, "node-role.kubernetes.io/control-plane").unwrap();
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn an_empty_or_half_written_file_is_no_list() {
        for text in ["", "items", "apiVersion: v1\n", "items: [{metadata: {name: a}", "[]"] {
            assert!(parse(text, "").is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_broken_node_is_named_by_its_place() {
        let error = parse("items: [{metadata: {name: a}}, {metadata: {}}]", "").unwrap_err();
        assert!(error.starts_with("items[1]: "), "{error}");
    }
}
