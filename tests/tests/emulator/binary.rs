//! The program.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::client::SOON;

/// Cargo puts the program one folder above the tests. (`env!("CARGO_BIN_EXE_stackit-emulator")` does not get through the
/// workspace's compiler wrapper: dash drops variables with a dash in their name.)
fn program_path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("stackit-emulator")
}

#[tokio::test]
async fn it_writes_its_files_says_ready_and_ends_on_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut program = Command::new(program_path())
            .args(["--tls", "--profile", "instant", "--region", "eu02"])
            .arg("--write-ca")
            .arg(at("ca.pem"))
            .arg("--key-file")
            .arg(at("key.json"))
            .arg("--credentials-dir")
            .arg(at("credentials"))
            .arg("--journal")
            .arg(at("journal"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(program.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(SOON * 4, output.next_line()).await.unwrap().unwrap().unwrap();
        let url = line.strip_prefix("ready url=").unwrap();
        assert!(url.starts_with("https://127.0.0.1:"), "{line}");
        let authority = reqwest::Certificate::from_pem(&std::fs::read(at("ca.pem")).unwrap()).unwrap();
        drop(crate::client::client());
        let http = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        assert_eq!(http.get(format!("{url}/v2/regions/eu02/plans")).send().await.unwrap().status(), 200);
        let key = std::fs::read_to_string(at("credentials/serviceaccount.json")).unwrap();
        assert!(key.contains(&format!("{url}/token")));
        assert!(at("key.json").exists() && at("journal").exists());
        assert_eq!(std::fs::read_to_string(at("credentials/project-id")).unwrap().len(), 36);
        kill(Pid::from_raw(i32::try_from(program.id().unwrap()).unwrap()), signal).unwrap();
        let status = tokio::time::timeout(SOON, program.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

#[tokio::test]
async fn it_explains_itself_and_refuses_nonsense() {
    let run = |arguments: &'static [&'static str]| Command::new(program_path()).args(arguments).output();
    let help = run(&["--help"]).await.unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    for flag in [
        "--listen",
        "--tls",
        "--write-ca",
        "--key-file",
        "--credentials-dir",
        "--project",
        "--region",
        "--profile",
        "--journal",
    ] {
        assert!(text.contains(flag), "{flag}");
    }
    assert!(!run(&["--profile", "quick"]).await.unwrap().status.success());
    let refused = run(&["--project", "x"]).await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("is not a lower-case UUID"));
}
