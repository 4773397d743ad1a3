//! Workload identity federation: a token of the cluster's own issuer, exchanged for one of STACKIT.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::setup::endpoint;
use crate::host::secret::Secret;

/// Where a federated token is exchanged, unless the settings or the configuration name another place.
pub const DEFAULT_TOKEN_ENDPOINT: &str = "https://accounts.stackit.cloud/oauth/v2/token";

const API_VERSION: &str = "stackit.provider.extensions.gardener.cloud/v1alpha1";
const KIND: &str = "WorkloadIdentityConfig";

/// Who we are there, and where the token lies.
#[derive(Clone, Debug)]
pub struct Federation {
    /// `serviceAccountEmail`: the account that trusts the issuer.
    pub service_account_email: String,
    /// `projectID`.
    pub project_id: Option<String>,
    /// `tokenEndpoint`.
    pub token_endpoint: Option<String>,
    pub(super) token: FederatedToken,
}

/// The token of the cluster's issuer.
#[derive(Clone, Debug)]
pub(super) enum FederatedToken {
    /// Rotated by others, read anew for each exchange.
    File(PathBuf),
    /// Out of a Secret; a new one comes with a new [`Federation`].
    Value(Secret),
}

impl FederatedToken {
    /// The token as it is now, without the line break that would be sent with it.
    pub(super) fn read(&self) -> Result<Secret, String> {
        let text = match self {
            Self::File(path) => {
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?
            }
            Self::Value(token) => token.expose().to_owned(),
        };
        let token = text.trim();
        if token.is_empty() {
            return Err(match self {
                Self::File(path) => format!("{} is empty", path.display()),
                Self::Value(_) => "the token is empty".to_owned(),
            });
        }
        Ok(Secret::new(token.to_owned()))
    }
}

impl Federation {
    /// Reads a `WorkloadIdentityConfig`; `Err` holds every defect with its path.
    pub(super) fn parse(config: &[u8], token: FederatedToken) -> Result<Self, Vec<String>> {
        let text = std::str::from_utf8(config).map_err(|_| vec!["is not UTF-8 text".to_owned()])?;
        let config: Map<String, Value> =
            serde_saphyr::from_str(text).map_err(|_| vec!["is not a YAML object".to_owned()])?;
        let mut defects = Vec::new();
        for (path, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            if config.get(path).and_then(Value::as_str) != Some(expected) {
                defects.push(format!("{path} is not `{expected}`"));
            }
        }
        let mut text = |path: &str, needed: bool| match config.get(path) {
            Some(Value::String(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            None | Some(Value::Null | Value::String(_)) if !needed => None,
            _ => {
                defects.push(format!("{path} is missing or empty"));
                None
            }
        };
        let email = text("serviceAccountEmail", true);
        let project_id = text("projectID", false);
        let token_endpoint = text("tokenEndpoint", false);
        if let Some(Err(error)) = token_endpoint.as_deref().map(endpoint) {
            defects.push(format!("tokenEndpoint: {error}"));
        }
        match email {
            Some(service_account_email) if defects.is_empty() => {
                Ok(Self { service_account_email, project_id, token_endpoint, token })
            }
            _ => Err(defects),
        }
    }
}

#[cfg(test)]
mod tests;
