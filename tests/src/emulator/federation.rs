//! Workload identity federation: who may exchange which foreign token for one of ours (E8, E9).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::jwt::{self, Algorithm};
use super::key::KeyPair;

/// A trust between a service account and an issuer of workload tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Federation {
    /// E-mail of the service account, sent as `client_id`.
    pub client_id: String,
    /// `iss` of the workload token.
    pub issuer: String,
    /// `sub` of the workload token.
    pub subject: String,
    /// `aud` of the workload token.
    pub audience: String,
    /// The issuer's public RSA key in PEM (RS256); without it the emulator's own test issuer is trusted.
    pub public_key: Option<String>,
}

/// Claims of a workload token of the test issuer, one field for each thing that can be wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Assertion {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`, as a list of one.
    pub audience: String,
    /// Seconds from now to `exp`; negative for an expired one.
    pub valid_for: i64,
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            client_id: "exposure-federated@sa.stackit.cloud".to_owned(),
            issuer: "https://issuer.example".to_owned(),
            subject: "system:serviceaccount:garden:exposure".to_owned(),
            audience: "sts.accounts.stackit.cloud".to_owned(),
            public_key: None,
        }
    }
}

impl Default for Assertion {
    fn default() -> Self {
        let Federation { issuer, subject, audience, .. } = Federation::default();
        Self { issuer, subject, audience, valid_for: 600 }
    }
}

impl Federation {
    /// The public key in PKCS#1 DER.
    pub(crate) fn key(&self) -> anyhow::Result<Vec<u8>> {
        match &self.public_key {
            Some(pem) => super::key::public_der(pem),
            None => Ok(KeyPair::shared()?.public_der.clone()),
        }
    }
}

/// A workload token signed by the test issuer.
pub(crate) fn mint(assertion: &Assertion, now: i64) -> anyhow::Result<String> {
    let claims: Value = json!({"iss": assertion.issuer, "sub": assertion.subject, "aud": [assertion.audience],
        "iat": now, "exp": now + assertion.valid_for, "jti": uuid::Uuid::new_v4().to_string()});
    let pair = KeyPair::shared()?;
    jwt::make(&jwt::header("RS256", Some("test-issuer")), &claims, |message| pair.sign(Algorithm::Rs256, message))
}
