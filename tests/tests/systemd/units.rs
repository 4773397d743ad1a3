//! The units as files: what systemd-analyze says of them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::booted::{debian, done, root_or_skip};
use tests::process::Folder;
use tests::world::repository;

/// The worst exposure that is accepted, of 10.
const EXPOSURE: f64 = 1.5;

#[test]
fn the_exposure_is_small_and_nothing_in_the_units_is_unknown() -> Result<()> {
    if !root_or_skip("systemd-analyze in a Debian root") {
        return Ok(());
    }
    let folder = Folder::new("units")?;
    let root = folder.join("root");
    done(Command::new("cp").args(["-a", "--reflink=auto"]).arg(debian()?).arg(&root))?;
    let analyze = |arguments: &str| {
        let line = format!("systemd-analyze {arguments} 2>&1");
        done(Command::new("chroot").arg(&root).args(["/bin/sh", "-c", &line]))
    };
    for entry in std::fs::read_dir(repository("systemd"))?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "service") {
            std::fs::copy(entry.path(), root.join("etc/systemd/system").join(entry.file_name()))?;
        }
    }
    // Only whether it is there is looked at.
    std::fs::create_dir_all(root.join("opt/bin"))?;
    std::fs::copy("/bin/true", root.join("opt/bin/shoot-exposure-agent"))?;
    for name in ["shoot-exposure-agent", "shoot-exposure-agent-bootstrap", "shoot-exposure-agent-account"] {
        let unit = format!("/etc/systemd/system/{name}.service");
        let complaints = analyze(&format!("verify --man=no {unit}"))?;
        ensure!(!complaints.contains(name), "{complaints}");
        if name.ends_with("account") {
            continue; // It is root, for a moment.
        }
        let report = analyze(&format!("security --no-pager --offline=true {unit}"))?;
        let line = report.lines().find(|line| line.contains("Overall exposure level")).context(report.clone())?;
        println!("{line}");
        let level = line.rsplit(": ").next().and_then(|level| level.split_whitespace().next()).context("no level")?;
        ensure!(level.parse::<f64>()? <= EXPOSURE, "{report}");
    }
    Ok(())
}
