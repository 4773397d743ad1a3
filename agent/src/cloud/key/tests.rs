#![allow(clippy::unwrap_used, clippy::panic)]

use ring::signature::{RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey};

use super::super::testing::{key_file, keys, seconds};
use super::*;

fn parse(key: &Value) -> Result<ServiceAccountKey, Vec<String>> {
    ServiceAccountKey::parse(key.to_string().as_bytes(), SystemTime::now())
}

fn with(path: &str, value: Value) -> Value {
    let mut key = key_file();
    *key.pointer_mut(&pointer(path)).unwrap() = value;
    key
}

#[test]
fn an_assertion_is_what_the_token_endpoint_expects() {
    for pem in [&keys().pkcs8, &keys().pkcs1] {
        let key = parse(&with("credentials.privateKey", json!(pem))).unwrap();
        let now = SystemTime::now();
        let id = Uuid::new_v4();
        let assertion = key.assertion(now, id).unwrap();
        let (signed, signature) = assertion.expose().rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA512, &keys().public_der)
            .verify(signed.as_bytes(), &signature)
            .unwrap();
        let part = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let file = key_file();
        let of = &file["credentials"];
        assert_eq!(part(header), json!({"alg": "RS512", "typ": "JWT", "kid": of["kid"]}));
        let (iat, jti) = (seconds(now), id.to_string());
        assert_eq!(
            part(claims),
            json!({"iss": of["iss"], "sub": of["sub"], "aud": of["aud"], "jti": jti, "iat": iat, "exp": iat + 3600})
        );
    }
}

#[test]
fn every_defect_is_told_at_once_with_its_path() {
    let mut key = key_file();
    key["id"] = json!("4ef3");
    key["keyAlgorithm"] = json!("EC_256");
    key["credentials"] = json!({"iss": "", "sub": "x", "aud": ["a"], "tokenEndpoint": "/token"});
    assert_eq!(
        parse(&key).unwrap_err(),
        [
            "credentials.iss is empty",
            "credentials.aud is not a string",
            "credentials.kid is missing",
            "credentials.privateKey is missing",
            "id is not a UUID",
            "credentials.sub is not a UUID",
            "keyAlgorithm is `EC_256`; RSA_2048 and RSA_4096 are known",
            "credentials.tokenEndpoint: endpoint `/token`: is not an absolute URL such as https://example.org",
        ]
    );
    assert_eq!(parse(&json!({})).unwrap_err().len(), 5);
}

#[test]
fn files_that_are_no_key() {
    let error = |text: &str| ServiceAccountKey::parse(text.as_bytes(), SystemTime::now()).unwrap_err().join();
    assert_eq!(error(""), "is empty");
    assert_eq!(error(" \n"), "is empty");
    assert!(error(&keys().pkcs8).ends_with("in JSON format, as STACKIT issued it"));
    assert!(error("{\"a\": secret").starts_with("is not JSON: "));
    assert!(!error("{\"a\": secret").contains("secret"));
    assert_eq!(error("[]"), "is JSON, but no object");
    assert_eq!(ServiceAccountKey::parse(&[0xff], SystemTime::now()).unwrap_err(), ["is not UTF-8 text"]);
}

trait Join {
    fn join(self) -> String;
}

impl Join for Vec<String> {
    fn join(self) -> String {
        self.as_slice().join("; ")
    }
}

#[test]
fn private_keys_that_are_none() {
    let error = |pem: &str| parse(&with("credentials.privateKey", json!(pem))).unwrap_err().join();
    let pem = |tag: &str| format!("-----BEGIN {tag}-----\nAAAA\n-----END {tag}-----\n");
    assert_eq!(error("hunter2"), "credentials.privateKey is not PEM");
    assert!(error(&keys().public_pem).contains("is a public key"));
    assert!(error(&pem("ENCRYPTED PRIVATE KEY")).contains("is encrypted"));
    assert!(error(&pem("EC PRIVATE KEY")).contains("an RSA key is needed"));
    assert!(error(&pem("CERTIFICATE")).contains("is PEM of a CERTIFICATE"));
    assert!(error(&pem("PRIVATE KEY")).contains("is not an RSA key of 2048 or 4096 bits"));
    assert!(error(&keys().pkcs8.replace('\n', "\\n")).contains("escaped twice"));
}

#[test]
fn keys_that_may_not_work_are_warned_about() {
    let warnings = |key: &Value| parse(key).unwrap().warnings;
    assert_eq!(warnings(&key_file()), Vec::<String>::new());
    assert!(warnings(&with("active", json!(false)))[0].starts_with("active is false"));
    assert!(warnings(&with("validUntil", json!("2020-01-01T00:00:00Z")))[0].contains("expired at 2020-01-01"));
    assert_eq!(warnings(&with("validUntil", json!("tomorrow"))), ["validUntil is not an RFC 3339 time"]);
    assert_eq!(warnings(&with("validUntil", json!("2999-01-01T00:00:00.000+00:00"))), Vec::<String>::new());
}

#[test]
fn unknown_members_and_missing_decoration_are_fine() {
    let mut key = key_file();
    key["new"] = json!({"a": 1});
    for member in ["id", "active", "keyAlgorithm", "keyOrigin", "keyType", "createdAt", "publicKey", "validUntil"] {
        key.as_object_mut().unwrap().remove(member);
    }
    parse(&key).unwrap();
}

#[test]
fn a_key_does_not_print_its_secret() {
    let shown = format!("{:?}", parse(&key_file()).unwrap());
    assert!(shown.contains("****") && shown.contains("agent@sa.stackit.cloud"), "{shown}");
    assert!(!shown.contains("BEGIN") && shown.len() < 300, "{shown}");
}
