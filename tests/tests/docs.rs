//! The documentation stays true: links lead somewhere, commands exist, the repository stands alone.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tests::world::repository;

/// Files that git tracks.
fn tracked(pattern: &str) -> Result<Vec<PathBuf>> {
    let output = Command::new("git").arg("-C").arg(repository("")).args(["ls-files", pattern]).output();
    let text = String::from_utf8(output.context("running git")?.stdout)?;
    Ok(text.lines().map(repository).collect())
}

/// What stands between `open` and `close`, each time.
fn between<'a>(text: &'a str, open: &str, close: char) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| rest.split_once(close)).map(|(inside, _)| inside).collect()
}

#[test]
fn every_relative_link_leads_to_a_file() -> Result<()> {
    let documents = tracked("*.md")?;
    assert!(documents.len() >= 7, "{documents:?}");
    for document in documents {
        let text = std::fs::read_to_string(&document)?;
        let folder = document.parent().unwrap_or(Path::new("."));
        for link in between(&text, "](", ')').into_iter().filter(|link| !link.contains("://") && !link.starts_with('#'))
        {
            let target = folder.join(link.split('#').next().unwrap_or_default());
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
        }
    }
    Ok(())
}

#[test]
fn every_program_that_the_documentation_runs_exists() -> Result<()> {
    let manifest = std::fs::read_to_string(repository("tests/Cargo.toml"))?;
    for document in tracked("*.md")? {
        let text = std::fs::read_to_string(&document)?;
        for rest in text.split("--bin ").skip(1) {
            let name = rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next().unwrap_or_default();
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{}: no program {name}", document.display());
        }
    }
    Ok(())
}

#[test]
fn every_verb_in_the_readme_is_one() -> Result<()> {
    let readme = std::fs::read_to_string(repository("README.md"))?;
    let help = String::from_utf8(tests::agent::run(&["--help"])?.stdout)?;
    let table = readme.split("| verb | does |").nth(1).context("no table of verbs")?.split("\n\n").next().unwrap();
    let verbs: Vec<&str> =
        between(table, "\n| `", '`').into_iter().filter_map(|v| v.split_whitespace().next()).collect();
    assert!(verbs.len() >= 4, "{verbs:?}");
    for verb in verbs {
        assert!(help.lines().any(|line| line.trim_start().starts_with(verb)), "no verb {verb} in:\n{help}");
    }
    Ok(())
}

#[test]
fn every_source_file_is_reached_by_a_mod_line() -> Result<()> {
    // A file that nothing names is never compiled, and its tests never run.
    for file in tracked("*.rs")? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = file.parent().unwrap_or(Path::new("."));
        let root = ["lib", "main", "mod"].contains(&name.as_str());
        let program = folder.ends_with("bin") || (folder.ends_with("tests") && !folder.ends_with("src/tests"));
        if root || program {
            continue;
        }
        // `a/b.rs` is named in `a/mod.rs`, `a.rs`, `a/lib.rs` or `a/main.rs`.
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| folder.join(parent));
        let named = parents.into_iter().chain([folder.with_extension("rs")]).any(|parent| {
            let text = std::fs::read_to_string(parent).unwrap_or_default();
            text.lines().any(|line| {
                line.trim_start()
                    .trim_start_matches("pub ")
                    .trim_start_matches("pub(crate) ")
                    .trim_start_matches("pub(super) ")
                    == format!("mod {name};")
            })
        });
        assert!(named, "{} is in no `mod` line", file.display());
    }
    Ok(())
}

#[test]
fn every_behaviour_and_fault_of_the_cloud_has_a_test_that_exists() -> Result<()> {
    let text = std::fs::read_to_string(repository("tests/BEHAVIOURS.md"))?;
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| E") || line.starts_with("| F")).collect();
    let row = |number: &str| {
        let mut found = rows.iter().filter(|row| row.split('|').nth(1).unwrap_or_default().trim() == number);
        let row = found.next().with_context(|| format!("{number} is missing"))?;
        anyhow::ensure!(found.next().is_none(), "{number} is there twice");
        anyhow::Ok(*row)
    };
    let behaviours = (1..=89).map(|number| format!("E{number}"));
    let faults = (1..=20).chain([22, 23, 27]).filter(|number| *number != 7).map(|number| format!("F{number}"));
    let lost_answers = ["POST", "PUT", "DELETE"].map(|method| format!("F7 {method}"));
    for number in behaviours {
        assert!(row(&number)?.contains("`emulator/"), "{number} has no test");
    }
    let in_the_data_plane = (90..=108).map(|number| format!("E{number}"));
    for number in
        in_the_data_plane.chain([7, 21, 24, 25, 26].map(|it| format!("F{it}{}", if it == 7 { " PUT" } else { "" })))
    {
        assert!(row(&number)?.contains("`data_plane/"), "{number} has no test of the data plane");
    }
    for number in faults.chain(lost_answers) {
        assert!(row(&number)?.contains("`end_to_end/"), "no agent meets {number}");
    }
    for row in rows {
        for named in between(row, "`", '`').into_iter().filter(|named| named.contains("::")) {
            let (file, name) = named.split_once("::").unwrap_or_default();
            let source = repository(&format!("tests/tests/{file}.rs"));
            let source = std::fs::read_to_string(&source).with_context(|| source.display().to_string())?;
            let there =
                source.contains(&format!("async fn {name}() ->")) || source.contains(&format!("fn {name}() {{"));
            assert!(there, "{named}, named in BEHAVIOURS.md, does not exist");
        }
    }
    Ok(())
}

#[test]
fn every_row_and_rule_of_failover_has_tests_that_exist() -> Result<()> {
    let places = [
        ("endpoints/rows", "agent/decide/src/endpoints/tests/rows.rs"),
        ("endpoints/rules", "agent/decide/src/endpoints/tests/rules.rs"),
        ("endpoints/properties", "agent/decide/src/endpoints/tests/properties.rs"),
        ("endpoints", "agent/decide/src/endpoints/tests.rs"),
        ("health", "agent/decide/src/health/tests.rs"),
        ("probe/evidence", "agent/decide/src/probe/evidence/tests.rs"),
    ];
    let text = std::fs::read_to_string(repository("tests/FAILOVER.md"))?;
    let readme = std::fs::read_to_string(repository("README.md"))?;
    let table = readme.split("| evidence, first row that fits |").nth(1).context("no table of evidence")?;
    let table = table.split("\n\n").next().unwrap_or_default();
    for row in table.lines().skip(2) {
        assert!(row.contains("::"), "a row without a test: {row}");
    }
    for rule in 1..=10 {
        let row = text.lines().find(|line| line.starts_with(&format!("| {rule} "))).context("a rule is missing")?;
        assert!(row.contains("::"), "a rule without a test: {row}");
    }
    for named in between(&text, "`", '`').into_iter().chain(between(table, "`", '`')).filter(|it| it.contains("::")) {
        let Some((file, name)) = named.split_once("::").filter(|(file, _)| file.contains('/') || *file == "health")
        else {
            continue;
        };
        let place = places.iter().find(|(short, _)| *short == file).map(|(_, path)| (*path).to_owned());
        let path = repository(&place.unwrap_or_else(|| format!("tests/tests/{file}.rs")));
        let source = std::fs::read_to_string(&path).with_context(|| format!("{named}: {}", path.display()))?;
        assert!(source.contains(&format!("fn {name}(")), "{named} does not exist");
    }
    Ok(())
}
