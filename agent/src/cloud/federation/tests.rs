#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn parse(config: &str) -> Result<Federation, Vec<String>> {
    Federation::parse(config.as_bytes(), FederatedToken::Value(Secret::new("hunter2".to_owned())))
}

#[test]
fn a_configuration_is_read() {
    let federation = parse(
        "apiVersion: stackit.provider.extensions.gardener.cloud/v1alpha1\nkind: WorkloadIdentityConfig\n\
         projectID: 2028e5d4-af4f-45e2-98df-502be37a4317\nserviceAccountEmail: a@sa.stackit.cloud\n\
         tokenEndpoint: https://accounts.example.org/oauth\nnew: {}\n",
    )
    .unwrap();
    assert_eq!(federation.service_account_email, "a@sa.stackit.cloud");
    assert_eq!(federation.project_id.as_deref(), Some("2028e5d4-af4f-45e2-98df-502be37a4317"));
    assert_eq!(federation.token_endpoint.as_deref(), Some("https://accounts.example.org/oauth"));
    assert!(!format!("{federation:?}").contains("hunter2"));
}

#[test]
fn every_defect_is_told_at_once_with_its_path() {
    let defects = parse("apiVersion: v1\nserviceAccountEmail: ''\nprojectID: [1]\ntokenEndpoint: x").unwrap_err();
    assert_eq!(defects.len(), 5, "{defects:?}");
    for (defect, path) in
        defects.iter().zip(["apiVersion", "kind", "serviceAccountEmail", "projectID", "tokenEndpoint"])
    {
        assert!(defect.starts_with(path), "{defect}");
    }
    for none in ["", "text", "[]", "a: [", "\u{1}"] {
        assert!(parse(none).is_err(), "{none}");
    }
}

#[test]
fn an_empty_token_is_a_defect() {
    assert_eq!(FederatedToken::Value(Secret::new(" \n".to_owned())).read().unwrap_err(), "the token is empty");
}
