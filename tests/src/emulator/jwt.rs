//! Compact JSON web tokens: making and truly verifying them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey};
use serde_json::{Value, json};

/// The two algorithms in use: RS512 for service-account keys, RS256 for workload identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs512 => "RS512",
        }
    }
}

/// The parts of a token whose signature nobody has looked at yet.
#[derive(Debug)]
pub(crate) struct Unverified {
    pub(crate) header: Value,
    pub(crate) claims: Value,
    signed: String,
    signature: Vec<u8>,
}

/// Takes a token apart; strict about the alphabet, so that a trailing newline is an error (E9).
pub(crate) fn parse(token: &str) -> Option<Unverified> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let json = |part: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    Some(Unverified { header: json(header)?, claims: json(claims)?, signed: signed.to_owned(), signature })
}

impl Unverified {
    /// Whether header and signature are right for this key (PKCS#1 DER).
    pub(crate) fn is_signed_by(&self, public_key: &[u8], algorithm: Algorithm) -> bool {
        let scheme = match algorithm {
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        };
        let key = UnparsedPublicKey::new(scheme, public_key);
        self.header["alg"] == algorithm.name() && key.verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// Whether `exp` is there and in the future.
    pub(crate) fn is_alive(&self, now: i64) -> bool {
        self.claims["exp"].as_i64().is_some_and(|exp| exp > now)
    }

    /// Whether `aud` is, or contains, the audience.
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        match &self.claims["aud"] {
            Value::Array(all) => all.iter().any(|it| it == audience),
            one => one == audience,
        }
    }
}

/// Makes a token; `sign` turns the signing input into the signature.
pub(crate) fn make<E>(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let input = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(input.as_bytes())?;
    Ok(format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// The header of a token.
pub(crate) fn header(algorithm: &str, key_id: Option<&str>) -> Value {
    let mut header = json!({"alg": algorithm, "typ": "JWT"});
    if let Some(key_id) = key_id {
        header["kid"] = json!(key_id);
    }
    header
}
