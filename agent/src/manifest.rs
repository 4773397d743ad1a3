//! What to install, as text: the files of `systemd/` and `config/` themselves, compiled in.
//!
//! Deliberately not here: anything that depends on a cluster. What has to be filled in is settings, and one image.

use std::fmt::Write;

use anyhow::Context;

use crate::cluster::resource;
use crate::host::config;

/// The image where nobody names one.
pub const IMAGE: &str = concat!("shoot-exposure-agent:", env!("CARGO_PKG_VERSION"));

/// The rights, as they are in `config/`.
pub const RBAC: &str = include_str!("../../config/rbac.yaml");

const DAEMONSET: &str = include_str!("../../config/daemonset.yaml");
const STATIC_POD: &str = include_str!("../../config/static-pod.yaml");
const KUBECONFIG: &str = include_str!("../../systemd/kubeconfig");

/// A file on the node.
struct File {
    path: &'static str,
    content: &'static str,
}

const SYSUSERS: File = File {
    path: "/etc/sysusers.d/shoot-exposure-agent.conf",
    content: include_str!("../../systemd/sysusers.d/shoot-exposure-agent.conf"),
};
const TMPFILES: File = File {
    path: "/etc/tmpfiles.d/shoot-exposure-agent.conf",
    content: include_str!("../../systemd/tmpfiles.d/shoot-exposure-agent.conf"),
};
const ACCOUNT: File = File {
    path: "/etc/systemd/system/shoot-exposure-agent-account.service",
    content: include_str!("../../systemd/shoot-exposure-agent-account.service"),
};
const BOOTSTRAP: File = File {
    path: "/etc/systemd/system/shoot-exposure-agent-bootstrap.service",
    content: include_str!("../../systemd/shoot-exposure-agent-bootstrap.service"),
};
const AGENT: File = File {
    path: "/etc/systemd/system/shoot-exposure-agent.service",
    content: include_str!("../../systemd/shoot-exposure-agent.service"),
};

/// Settings that make the agent follow the Secret that the exposure names: no key lies on the node.
const SETTINGS: &str = "apiVersion: agent.exposure.gardener.cloud/v1alpha1\nkind: AgentConfiguration\n\
                        stackit:\n  credentials: SecretRef\n";

/// Units and what they need, each behind its path as `systemctl cat` prints it.
pub fn systemd() -> String {
    [SYSUSERS, TMPFILES, ACCOUNT, BOOTSTRAP, AGENT].iter().fold(String::new(), |mut text, file| {
        // Writing to a string does not fail.
        let _ = write!(text, "# {}\n{}", file.path, file.content);
        text
    })
}

/// The part of an OperatingSystemConfig that brings the agent to a node.
pub fn operating_system_config(image: &str) -> String {
    let mut text = format!(
        "# The part of an OperatingSystemConfig that brings the agent to a control-plane node. Permissions are numbers \
         without\n# a base: 493 is 0755, 420 is 0644.\nspec:\n  units:\n{}{}  files:\n  - path: \
         /opt/bin/shoot-exposure-agent\n    permissions: 493\n    content:\n      imageRef:\n        image: {image}\n        \
         filePathInImage: /shoot-exposure-agent\n",
        unit(&ACCOUNT, &[SYSUSERS.path, TMPFILES.path]),
        unit(&AGENT, &["/opt/bin/shoot-exposure-agent"]),
    );
    let settings = File { path: "/etc/shoot-exposure-agent/config.yaml", content: SETTINGS };
    let kubeconfig = File { path: "/etc/shoot-exposure-agent/kubeconfig", content: KUBECONFIG };
    for file in [SYSUSERS, TMPFILES, settings, kubeconfig] {
        let data = indented(file.content, 10);
        let _ = write!(
            text,
            "  - path: {}\n    permissions: 420\n    content:\n      inline:\n        encoding: \"\"\n        data: |\n{data}",
            file.path
        );
    }
    text
}

/// Settings and DaemonSet.
pub fn daemonset(image: &str) -> String {
    let settings = indented(&config::defaults(), 4);
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: shoot-exposure-agent\n  namespace: kube-system\n  labels:\n    \
         app.kubernetes.io/name: shoot-exposure-agent\ndata:\n  config.yaml: |\n{settings}---\n{}",
        DAEMONSET.replace(IMAGE, image)
    )
}

/// The static Pod.
pub fn static_pod(image: &str) -> String {
    STATIC_POD.replace(IMAGE, image)
}

/// The CustomResourceDefinition.
pub fn crd() -> anyhow::Result<String> {
    let definition = resource::definition().context("describing the CustomResourceDefinition")?;
    serde_saphyr::to_string(&definition).context("printing the CustomResourceDefinition")
}

/// A unit; gardener-node-agent starts it again when one of `files` has changed.
fn unit(file: &File, files: &[&str]) -> String {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let files: String = files.iter().fold(String::new(), |text, path| text + "    - " + path + "\n");
    let content = indented(file.content, 6);
    format!("  - name: {name}\n    enable: true\n    command: start\n    filePaths:\n{files}    content: |\n{content}")
}

/// Lines for a block of YAML.
fn indented(text: &str, columns: usize) -> String {
    text.lines().fold(String::new(), |mut indented, line| {
        let _ = if line.is_empty() { writeln!(indented) } else { writeln!(indented, "{:columns$}{line}", "") };
        indented
    })
}
