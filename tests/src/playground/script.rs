//! A play as text: one step a line, in the words of the keys. What is after a `#` is for people.
//!
//! | line | does |
//! |---|---|
//! | `kill`, `hang`, `not-ready`, `restore`, `drain`, `undrain` NODE | what it says |
//! | `cloud down`, `cloud up`, `rotate key` | |
//! | `load N` | N requests a second through the balancer from now on; it waits until that listens |
//! | `run TIME` | lets it run for so long |
//! | `expect targets NODE… within TIME` | waits until the balancer has exactly these targets |
//! | `expect targets NODE… for TIME` | it has these, and no others at any look, for so long |
//! | `expect verdict NODE WORD within TIME` | waits until the leader says so |
//! | `expect leader NODE within TIME` | waits until the agent of that node leads |
//! | `expect frozen within TIME` | waits until the leader says that the targets are frozen |
//! | `expect failures <= N of at least M` | of the requests that began since the last such line, at most N have failed; there were M or more |
//!
//! A request has failed when it had no answer within three seconds, or a 5xx; nobody tries again. Failures that no line has
//! allowed fail the play: those after the last line as well.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use decide::settings::duration;

use super::act::{Act, NODES};

/// A line of a script that does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// As written, without what is for people.
    pub text: String,
    /// What it does.
    pub step: Step,
}

/// What a line does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What a player can do.
    Act(Act),
    /// Requests a second.
    Load(u32),
    /// Time goes by.
    Run(Duration),
    /// The balancer has these targets, soon.
    Targets(Vec<String>, Duration),
    /// The balancer has these targets, all the time.
    Steady(Vec<String>, Duration),
    /// The leader says this word of a node, soon.
    Verdict(usize, String, Duration),
    /// An agent leads, soon.
    Leader(String, Duration),
    /// The targets are frozen, soon.
    Frozen(Duration),
    /// At most so many requests have failed, of at least so many.
    Failures(u64, u64),
}

/// Reads a script.
///
/// # Errors
/// All lines that are not understood, each with its number.
pub fn parse(text: &str) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut mistakes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match step(&words) {
            Ok(step) => lines.push(Line { text: words.join(" "), step }),
            Err(error) => mistakes.push(format!("line {}: `{line}`: {error:#}", index + 1)),
        }
    }
    ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    ensure!(!lines.is_empty(), "it has no line that does something");
    Ok(lines)
}

fn step(words: &[&str]) -> Result<Step> {
    Ok(match words {
        ["kill", name] => Step::Act(Act::Kill(node(name)?)),
        ["hang", name] => Step::Act(Act::Hang(node(name)?)),
        ["not-ready", name] => Step::Act(Act::NotReady(node(name)?)),
        ["restore", name] => Step::Act(Act::Restore(node(name)?)),
        ["drain", name] => Step::Act(Act::Drain(node(name)?)),
        ["undrain", name] => Step::Act(Act::Undrain(node(name)?)),
        ["cloud", "down"] => Step::Act(Act::CloudDown),
        ["cloud", "up"] => Step::Act(Act::CloudUp),
        ["rotate", "key"] => Step::Act(Act::RotateKey),
        ["load", rate] => Step::Load(rate.parse().context("how many requests a second?")?),
        ["run", time] => Step::Run(self::time(time)?),
        ["expect", "targets", names @ .., "within", time] => Step::Targets(nodes(names)?, self::time(time)?),
        ["expect", "targets", names @ .., "for", time] => Step::Steady(nodes(names)?, self::time(time)?),
        ["expect", "verdict", name, word, "within", time] => {
            Step::Verdict(node(name)?, (*word).to_owned(), self::time(time)?)
        }
        ["expect", "leader", name, "within", time] => Step::Leader(NODES[node(name)?].to_owned(), self::time(time)?),
        ["expect", "frozen", "within", time] => Step::Frozen(self::time(time)?),
        ["expect", "failures", "<=", most, "of", "at", "least", least] => {
            Step::Failures(most.parse().context("how many at most?")?, least.parse().context("how many at least?")?)
        }
        _ => bail!("no such step"),
    })
}

fn node(name: &str) -> Result<usize> {
    NODES.iter().position(|node| *node == name).with_context(|| format!("the nodes are {}", NODES.join(", ")))
}

fn nodes(names: &[&str]) -> Result<Vec<String>> {
    ensure!(!names.is_empty(), "which nodes?");
    let mut nodes: Vec<String> = names.iter().map(|name| Ok(NODES[node(name)?].to_owned())).collect::<Result<_>>()?;
    nodes.sort();
    Ok(nodes)
}

fn time(text: &str) -> Result<Duration> {
    duration::parse(text).map_err(|error| anyhow::anyhow!("{error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn lines_are_steps_and_all_mistakes_are_told_at_once() {
        let lines = parse("# a play\n\n  kill   cp-1 # now\nexpect targets cp-2 cp-0 within 500ms\nload 7\n").unwrap();
        assert_eq!(lines[0], Line { text: "kill cp-1".to_owned(), step: Step::Act(Act::Kill(1)) });
        let names = vec!["cp-0".to_owned(), "cp-2".to_owned()];
        assert_eq!(lines[1].step, Step::Targets(names, Duration::from_millis(500)));
        assert_eq!(lines[2].step, Step::Load(7));
        let failures = parse("expect failures <= 2 of at least 10").unwrap();
        assert_eq!(failures[0].step, Step::Failures(2, 10));
        let mistakes = parse("kill cp-9\nrun 5\nexpect targets within 5s\ndance\nload -1").unwrap_err().to_string();
        assert_eq!(mistakes.lines().count(), 5, "{mistakes}");
        assert!(mistakes.starts_with("line 1: `kill cp-9`: the nodes are cp-0, cp-1, cp-2"), "{mistakes}");
        assert!(parse("# nothing").is_err());
    }

    #[test]
    fn every_act_is_said_as_it_is_written() {
        let acts = [
            Act::Kill(0),
            Act::Hang(1),
            Act::NotReady(2),
            Act::Restore(0),
            Act::Drain(1),
            Act::Undrain(2),
            Act::CloudDown,
            Act::CloudUp,
            Act::RotateKey,
        ];
        for act in acts {
            assert_eq!(parse(&act.to_string()).unwrap()[0].step, Step::Act(act));
        }
    }
}
