#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use tempfile::TempDir;

use super::super::testing::{key_file, keys};
use super::*;

const PROJECT: &str = "2028e5d4-af4f-45e2-98df-502be37a4317";
const FEDERATION: &str = "apiVersion: stackit.provider.extensions.gardener.cloud/v1alpha1\n\
    kind: WorkloadIdentityConfig\nprojectID: 2028e5d4-af4f-45e2-98df-502be37a4317\nserviceAccountEmail: a@b\n";

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        private(&directory.path().join(name), content);
    }
    directory
}

fn private(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn read(directory: &TempDir) -> Result<Credentials, Fault> {
    super::read(directory.path(), None, SystemTime::now())
}

#[test]
fn a_key_and_its_project() {
    let credentials =
        read(&directory(&[(PROJECT_ID, &format!("{PROJECT}\n")), (KEY, &key_file().to_string())])).unwrap();
    assert_eq!((credentials.project_id.as_deref(), credentials.source.flow()), (Some(PROJECT), "key"));
    assert_eq!(credentials.warnings, Vec::<String>::new());
    assert!(!format!("{credentials:?}").contains("BEGIN"));
}

#[test]
fn federation_and_its_project() {
    let credentials = read(&directory(&[(CONFIG, FEDERATION), (TOKEN, "x\n")])).unwrap();
    assert_eq!(credentials.project_id.as_deref(), Some(PROJECT));
    assert_eq!(credentials.source.flow(), "workload identity federation");
    let data = BTreeMap::from([(CONFIG.to_owned(), FEDERATION.into()), (TOKEN.to_owned(), b"x".to_vec())]);
    let credentials = from_secret("garden/cloudprovider", &data, None, SystemTime::now()).unwrap();
    assert!(!format!("{credentials:?}").contains("\"x\""));
}

#[test]
fn the_project_may_be_elsewhere() {
    let mut key = key_file();
    assert_eq!(read(&directory(&[(KEY, &key.to_string())])).unwrap().project_id, None);
    key["projectId"] = json!(PROJECT);
    assert_eq!(read(&directory(&[(KEY, &key.to_string())])).unwrap().project_id.as_deref(), Some(PROJECT));
}

#[test]
fn a_key_next_to_a_token_wins_and_it_is_said() {
    let files = [(KEY, &*key_file().to_string()), (TOKEN, "x"), (CONFIG, "broken: [")];
    let credentials = read(&directory(&files)).unwrap();
    assert_eq!(credentials.source.flow(), "key");
    assert_eq!(
        credentials.warnings,
        ["both serviceaccount.json and token are there: the key is used, the token is not"]
    );
}

#[test]
fn what_is_missing_is_named_with_its_place() {
    let empty = directory(&[]);
    for path in [empty.path(), &empty.path().join("not-there")] {
        let fault = super::read(path, None, SystemTime::now()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::CredentialsMissing);
        let expected = "none; expected is serviceaccount.json, or token and config, and project-id beside them";
        assert_eq!(fault.message, format!("credentials in {}: {expected}", path.display()));
    }
    let fault = read(&directory(&[(CONFIG, FEDERATION)])).unwrap_err();
    assert_eq!(fault.kind, FaultKind::CredentialsMissing);
    assert!(fault.message.contains("config is there, but not token"), "{}", fault.message);
}

#[test]
fn all_defects_at_once_without_content() {
    let mut key = key_file();
    key["credentials"]["kid"] = json!("");
    key["credentials"]["sub"] = json!("hunter2");
    let fault = read(&directory(&[(PROJECT_ID, "P-1"), (KEY, &key.to_string())])).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Credentials);
    for defect in [
        "serviceaccount.json: credentials.kid is empty",
        "serviceaccount.json: credentials.sub is not a UUID",
        "project-id: is not a UUID",
    ] {
        assert!(fault.message.contains(defect), "{}", fault.message);
    }
    assert!(!fault.message.contains("hunter2"));
    let fault = read(&directory(&[(KEY, &keys().pkcs8)])).unwrap_err();
    assert!(fault.message.contains("serviceaccount.json: is PEM") && !fault.message.contains("BEGIN"));
}

#[test]
fn a_project_is_a_lower_case_version_4_uuid() {
    assert_eq!(project_id(PROJECT), Ok(()));
    for (wrong, problem) in [
        ("", "is empty"),
        ("x", "is not a UUID"),
        (&*PROJECT.to_uppercase(), "is not a version 4 UUID in lower case"),
        (&*PROJECT.replace('-', ""), "is not a version 4 UUID in lower case"),
        ("2028e5d4-af4f-15e2-98df-502be37a4317", "is not a version 4 UUID in lower case"),
    ] {
        assert_eq!(project_id(wrong), Err(problem), "{wrong}");
    }
}

#[test]
fn files_that_everybody_can_read_are_named() {
    let directory = directory(&[(KEY, &key_file().to_string()), (PROJECT_ID, PROJECT)]);
    for (mode, warnings) in [(0o644, 1), (0o604, 1), (0o640, 0), (0o400, 0)] {
        fs::set_permissions(directory.path().join(KEY), fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(directory.path().join(PROJECT_ID), fs::Permissions::from_mode(0o644)).unwrap();
        let found = read(&directory).unwrap().warnings;
        assert_eq!(found.len(), warnings, "{found:?}");
    }
}

#[test]
fn a_mounted_secret_is_read_through_its_current_folder() {
    let directory = directory(&[]);
    for (folder, project) in [("..1", PROJECT), ("..2", "not the current one")] {
        fs::create_dir(directory.path().join(folder)).unwrap();
        private(&directory.path().join(folder).join(PROJECT_ID), project);
        private(&directory.path().join(folder).join(KEY), &key_file().to_string());
    }
    symlink("..1", directory.path().join("..data")).unwrap();
    symlink("..data/serviceaccount.json", directory.path().join(KEY)).unwrap();
    assert_eq!(read(&directory).unwrap().project_id.as_deref(), Some(PROJECT));
}

#[test]
fn a_file_that_cannot_be_read_is_no_missing_one() {
    let directory = directory(&[]);
    fs::create_dir(directory.path().join(KEY)).unwrap();
    let fault = read(&directory).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Credentials);
    assert!(fault.message.contains("serviceaccount.json: "), "{}", fault.message);
}
