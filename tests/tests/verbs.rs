//! What the program says about itself: completions that a shell understands, a manual page, and every verb in both.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::agent::run;

fn said(arguments: &[&str]) -> Result<String> {
    let output = run(arguments)?;
    ensure!(output.status.code() == Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What bash offers for these words, of which the last is being typed.
fn completed(script: &str, words: &[&str]) -> Result<Vec<String>> {
    let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let typed = words.len() - 1;
    let ask = format!(
        "{script}\nCOMP_WORDS=({line}); COMP_CWORD={typed}; _shoot_exposure_agent; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new("bash").args(["--norc", "-euc", &ask]).output().context("running bash")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).filter(|word| !word.is_empty()).collect())
}

#[test]
fn bash_completes_verbs_flags_and_values() -> Result<()> {
    let script = said(&["completion", "bash"])?;
    let offered = |words: &[&str]| completed(&script, words);
    assert_eq!(offered(&["shoot-exposure-agent", "dr"])?, ["drain"]);
    assert_eq!(offered(&["shoot-exposure-agent", "config", "ch"])?, ["check"]);
    assert_eq!(offered(&["shoot-exposure-agent", "drain", "cp-0", "--w"])?, ["--wait"]);
    assert_eq!(offered(&["shoot-exposure-agent", "status", "-o", ""])?, ["text", "json", "yaml"]);
    assert_eq!(offered(&["shoot-exposure-agent", "--log-level", "info", "pl"])?, ["plan"]);
    assert_eq!(offered(&["shoot-exposure-agent", "completion", "z"])?, ["zsh"]);
    let folder = tests::process::Folder::new("completion")?;
    let file = folder.join("config.yaml");
    std::fs::write(&file, "")?;
    let start = file.display().to_string();
    let start = &start[..start.len() - 3];
    assert_eq!(offered(&["shoot-exposure-agent", "run", "--config", start])?, [file.display().to_string()]);
    Ok(())
}

#[test]
fn other_shells_get_the_same_words() -> Result<()> {
    assert!(said(&["completion", "zsh"])?.starts_with("#compdef shoot-exposure-agent\n"));
    let fish = said(&["completion", "fish"])?;
    for line in ["-a drain ", "-n '__fish_seen_subcommand_from config' -a check", "-l timeout -x", "-l config -r -F"] {
        assert!(fish.contains(line), "no {line} in:\n{fish}");
    }
    assert_eq!(run(&["completion", "tcsh"])?.status.code(), Some(2));
    Ok(())
}

#[test]
fn the_manual_page_has_every_verb_and_exit_code() -> Result<()> {
    let page = said(&["man"])?;
    assert!(page.starts_with(".TH SHOOT\\-EXPOSURE\\-AGENT 8"), "{page}");
    let help = said(&["--help"])?;
    let verbs = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    for verb in verbs.lines().filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help") {
        assert!(page.contains(&format!(".SS \"{verb}")), "no {verb} in the page");
    }
    for code in ["0", "1", "2", "3", "4"] {
        assert!(page.contains(&format!(".IP {code}\n")), "exit code {code}");
    }
    // A line that begins with a dot is a request; there are no others than these.
    for line in page.lines().filter(|line| line.starts_with('.')) {
        let request = line.split_whitespace().next().unwrap();
        assert!([".TH", ".SH", ".SS", ".TP", ".IP", ".B", ".I"].contains(&request), "{line}");
    }
    Ok(())
}
