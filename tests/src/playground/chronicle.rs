//! The agents' logs, read as they are written, and what of them a player wants to see.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// A line that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The node of the agent.
    pub(super) by: String,
    /// In one sentence.
    pub(super) what: String,
}

/// Reads the log of one agent.
#[derive(Debug)]
pub(super) struct Chronicle {
    by: String,
    log: PathBuf,
    read: u64,
    rest: String,
    /// The last line that was told, which is not told twice in a row.
    last: String,
    /// The verdicts on the nodes that are left out, by name; and who is chosen.
    said_of: BTreeMap<String, String>,
    frozen: Option<String>,
    /// Since when the targets are frozen, and what was said of it, until it is told.
    untold: Option<(Instant, Said)>,
    leads: bool,
}

/// The targets freeze for a moment whenever somebody leaves: until one that stays has answered. That is nobody's news.
const MOMENT: Duration = Duration::from_secs(1);

/// The lines of level INFO that a player sees, by how they begin; of WARN and ERROR all are seen.
const TOLD: [&str; 11] = [
    "target removed",
    "target added",
    "node is left out",
    "targets are free again",
    "leadership has changed",
    "creating the balancer",
    "the balancer is as desired",
    "the election is off",
    "somebody else was faster",
    "STACKIT refused",
    "the changed credential",
];
/// Fields that say whom a line is about, in the order in which they are told.
const ABOUT: [&str; 5] = ["node", "ip", "code", "error", "problem"];

impl Chronicle {
    /// Of the agent of this name; `leads`: it is the only one.
    pub(super) fn new(by: &str, log: PathBuf, leads: bool) -> Self {
        let (rest, last, untold) = (String::new(), String::new(), None);
        Self { by: by.to_owned(), log, read: 0, rest, last, said_of: BTreeMap::new(), frozen: None, untold, leads }
    }

    /// The node of the agent.
    pub(super) fn by(&self) -> &str {
        &self.by
    }

    /// What was said last of a node: the verdict on one that is left out, or that it is chosen.
    pub(super) fn said_of(&self, node: &str) -> Option<&str> {
        self.said_of.get(node).map(String::as_str)
    }

    /// Why the targets are frozen.
    pub(super) fn frozen(&self) -> Option<&str> {
        self.frozen.as_deref()
    }

    /// Whether it leads.
    pub(super) fn leads(&self) -> bool {
        self.leads
    }

    /// What has been said since the last time.
    pub(super) fn news(&mut self, now: Instant) -> Vec<Said> {
        // Not there yet, or not readable for a moment: later.
        let _ = self.take();
        let mut news = Vec::new();
        while let Some((line, rest)) = self.rest.split_once('\n') {
            let line: Option<Map<String, Value>> = serde_json::from_str(line).ok();
            self.rest = rest.to_owned();
            news.extend(line.and_then(|line| self.line(&line, now)));
        }
        news.extend(self.untold.take_if(|(since, _)| now.duration_since(*since) >= MOMENT).map(|(_, said)| said));
        news
    }

    fn take(&mut self) -> std::io::Result<()> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        self.read += file.read_to_end(&mut bytes)? as u64;
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        Ok(())
    }

    fn line(&mut self, line: &Map<String, Value>, now: Instant) -> Option<Said> {
        let field = |name: &str| line.get(name).and_then(Value::as_str);
        let message = field("message")?;
        // Libraries tell what the agent tells in its own words.
        if field("target").is_some_and(|of| !of.starts_with("shoot_exposure_agent")) {
            return None;
        }
        if let (Some(node), Some(verdict)) = (field("node"), field("verdict")) {
            self.said_of.insert(node.to_owned(), verdict.to_owned());
        }
        if let (true, Some(cause)) = (message.ends_with("the last good set stays"), field("cause")) {
            self.frozen = Some(cause.to_owned());
            let said = Said { by: self.by.clone(), what: format!("frozen: {message}") };
            let since = self.untold.take().map_or(now, |(since, _)| since);
            self.untold = Some((since, said));
            return None;
        }
        if message.starts_with("targets are free again") {
            self.frozen = None;
            if self.untold.take().is_some() {
                return None;
            }
        }
        if let (true, Some(chosen)) = (message == "chosen", field("endpoints")) {
            // `["cp-0", "cp-1"]`
            let names = chosen.split('"').skip(1).step_by(2);
            self.said_of.extend(names.map(|node| (node.to_owned(), "chosen".to_owned())));
        }
        let quiet = field("level") == Some("INFO") && !TOLD.iter().any(|told| message.starts_with(told));
        let mut what = message.to_owned();
        if let (Some(why), Some(node)) = (message.strip_prefix("node is left out: "), field("node")) {
            // All agents judge, the leader acts.
            if !self.leads {
                return None;
            }
            return self.told(format!("{node} is left out: {why}"));
        }
        for name in ABOUT {
            match line.get(name) {
                Some(Value::String(text)) => what = format!("{what} {text}"),
                Some(value @ Value::Number(_)) => what = format!("{what} {value}"),
                _ => {}
            }
        }
        if message == "leadership has changed" {
            self.leads = line.get("leads") == Some(&Value::Bool(true));
            what = String::from(if self.leads { "it leads" } else { "it does not lead" });
        }
        if quiet { None } else { self.told(what) }
    }

    /// Once in a row.
    fn told(&mut self, what: String) -> Option<Said> {
        if what == self.last {
            return None;
        }
        self.last.clone_from(&what);
        Some(Said { by: self.by.clone(), what })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::io::Write as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_matters_is_told_once_and_half_a_line_waits() {
        let library = json!({"level": "WARN", "target": "kube_runtime", "message": "eof in poll"});
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut chronicle = Chronicle::new("cp-0", log.clone(), true);
        let start = Instant::now();
        assert!(chronicle.news(start).is_empty());
        let mut file = File::create(&log).unwrap();
        let mut write = |text: &str| file.write_all(text.as_bytes()).unwrap();
        let out = json!({"level": "INFO", "message": "node is left out: dead", "node": "cp-1", "verdict": "refused"});
        let failed = json!({"level": "WARN", "message": "STACKIT failed", "code": 503});
        write(&format!("no JSON\n{library}\n{out}\n{failed}\n{failed}\n"));
        write(&json!({"level": "INFO", "message": "of no interest"}).to_string());
        let told_at = |chronicle: &mut Chronicle, now| -> Vec<String> {
            chronicle.news(now).into_iter().map(|it| it.what).collect()
        };
        let told = |chronicle: &mut Chronicle| told_at(chronicle, start);
        assert_eq!(told(&mut chronicle), ["cp-1 is left out: dead", "STACKIT failed 503"]);
        assert_eq!((chronicle.said_of("cp-1"), chronicle.frozen()), (Some("refused"), None));
        let frozen = json!({"level": "WARN", "cause": "no_healthy_nodes", "message": "nothing is healthy: the last good set stays"});
        let chosen = json!({"level": "INFO", "message": "chosen", "endpoints": "[\"cp-0\", \"cp-1\"]"});
        let free = json!({"level": "INFO", "message": "targets are free again, they were frozen: x"});
        write(&format!("\n{chosen}\n{frozen}\n"));
        assert!(told(&mut chronicle).is_empty(), "for a moment it is no news");
        assert_eq!((chronicle.said_of("cp-1"), chronicle.frozen()), (Some("chosen"), Some("no_healthy_nodes")));
        write(&format!("{free}\n{frozen}\n"));
        assert!(told(&mut chronicle).is_empty());
        assert_eq!(told_at(&mut chronicle, start + MOMENT), ["frozen: nothing is healthy: the last good set stays"]);
        write(&format!("{free}\n"));
        assert_eq!((told(&mut chronicle).len(), chronicle.frozen()), (1, None));
    }
}
