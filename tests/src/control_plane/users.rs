//! Who talks to the API server: one user per role, each with a static token.
//!
//! What a user may do is RBAC's matter: only the administrator may do anything from the start.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

/// The name to expect in an API server's certificate, as on a node (`https://localhost`).
pub const SERVER_NAME: &str = "localhost";

/// A user of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// What the tests call it.
    pub role: &'static str,
    /// What the API server calls it.
    pub name: &'static str,
    /// Its groups, besides `system:authenticated`.
    pub groups: &'static [&'static str],
}

/// May do everything.
pub const ADMIN: User = User { role: "admin", name: "admin", groups: &["system:masters"] };

/// The agent, as its `ServiceAccount`.
pub const AGENT: User = User {
    role: "agent",
    name: "system:serviceaccount:kube-system:shoot-exposure-agent",
    groups: &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
};

/// gardenlet, as its `ServiceAccount`.
pub const GARDENLET: User = User {
    role: "gardenlet",
    name: "system:serviceaccount:kube-system:gardenlet",
    groups: &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
};

/// A human who runs the cluster.
pub const OPERATOR: User = User { role: "operator", name: "operator", groups: &["operators"] };

/// A kubelet.
pub const NODE: User = User { role: "node", name: "system:node:cp-0", groups: &["system:nodes"] };

/// kube-controller-manager, with the rights that every cluster gives it.
pub const CONTROLLER_MANAGER: User =
    User { role: "controller-manager", name: "system:kube-controller-manager", groups: &[] };

/// Known, with no rights of its own.
pub const STRANGER: User = User { role: "stranger", name: "stranger", groups: &[] };

/// All of them. A new role needs its line here and nothing else.
pub const USERS: [User; 7] = [ADMIN, AGENT, GARDENLET, OPERATOR, NODE, CONTROLLER_MANAGER, STRANGER];

impl User {
    /// Its static token. Unlike anything else, so that a test can search output for it.
    pub fn token(&self) -> String {
        format!("secret-token-of-{}", self.role)
    }

    fn line(&self) -> String {
        format!("{},{},{},\"{}\"\n", self.token(), self.name, self.role, self.groups.join(","))
    }
}

/// The file for `--token-auth-file`.
pub(crate) fn token_file() -> String {
    USERS.iter().map(User::line).collect()
}

/// How to prove who one is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A token.
    Token(String),
    /// A file with a token, read again now and then.
    TokenFile(std::path::PathBuf),
}

/// What goes into a kubeconfig.
#[derive(Debug, Clone)]
pub struct Access {
    /// The URL of the API server.
    pub server: String,
    /// The name to expect in its certificate; `None`: the host of the URL.
    pub server_name: Option<String>,
    /// The certificates to trust, PEM.
    pub trust: String,
    /// Who is asking.
    pub credential: Credential,
}

impl Access {
    /// To the API server at `address`, as `user`.
    pub fn new(address: SocketAddr, trust: impl Into<String>, user: &User) -> Self {
        Self {
            server: format!("https://{address}"),
            server_name: Some(SERVER_NAME.into()),
            trust: trust.into(),
            credential: Credential::Token(user.token()),
        }
    }

    /// The content of a kubeconfig, with `kube-system` as its namespace.
    pub fn kubeconfig(&self) -> Result<String> {
        use base64::Engine as _;
        let mut cluster = json!({
            "server": self.server,
            "certificate-authority-data": base64::prelude::BASE64_STANDARD.encode(&self.trust),
        });
        if let Some(name) = &self.server_name {
            cluster["tls-server-name"] = json!(name);
        }
        let user = match &self.credential {
            Credential::Token(token) => json!({ "token": token }),
            Credential::TokenFile(file) => json!({ "tokenFile": file }),
        };
        serde_saphyr::to_string(&json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "kube-system" } }],
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": "test", "user": user }],
        }))
        .context("writing a kubeconfig")
    }

    /// A client of the calling runtime, built from the same kubeconfig, without a proxy.
    pub async fn client(&self) -> Result<Client> {
        super::use_ring();
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig()?).context("reading the kubeconfig of a client")?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("making a client's configuration")?;
        config.proxy_url = None;
        Client::try_from(config).context("making a client")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_role_has_a_line_in_the_token_file() {
        let file = token_file();
        assert!(file.starts_with("secret-token-of-admin,admin,admin,\"system:masters\"\n"), "{file}");
        let tokens: BTreeSet<_> = USERS.iter().map(User::token).collect();
        assert_eq!((tokens.len(), file.lines().count()), (USERS.len(), USERS.len()));
    }
}
