//! Many runs of a class: p50, p99 and the worst, as a row and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::class::{Class, Goal};
use super::run::Sample;

/// From so many samples on, a p99 is no guess.
const ENOUGH: usize = 100;

/// What was measured of one class.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The class.
    pub class: Class,
    /// All runs.
    pub samples: Vec<Sample>,
}

/// The distribution of some times; `p99` only where there are enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// How many.
    pub n: usize,
    /// Half of them are no longer than this.
    pub p50: f64,
    /// 99 of 100 are no longer than this.
    pub p99: Option<f64>,
    /// The longest.
    pub max: f64,
}

impl Distribution {
    /// Of these times; `None` of none.
    pub fn of(times: impl Iterator<Item = f64>) -> Option<Self> {
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        let n = times.len();
        // The nearest rank: the smallest that so many hundredths are no longer than.
        let rank = |hundredths: usize| times.get((n * hundredths).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { n, p50: rank(50)?, p99: rank(99).filter(|_| n >= ENOUGH), max: times.last().copied()? })
    }

    /// The p99 where there is one, else the worst.
    pub fn tail(&self) -> f64 {
        self.p99.unwrap_or(self.max)
    }

    fn json(of: Option<&Self>) -> Value {
        of.map_or(Value::Null, |it| json!({"n": it.n, "p50": it.p50, "p99": it.p99, "max": it.max}))
    }
}

impl Figures {
    fn of(&self, what: impl Fn(&Sample) -> Option<f64>) -> Option<Distribution> {
        Distribution::of(self.samples.iter().filter_map(what))
    }

    /// Whether the goal is met, and what it is.
    pub fn verdict(&self) -> (bool, String) {
        let within = |times: Option<Distribution>, most: f64| times.is_some_and(|times| times.tail() <= most);
        let clean = self.samples.iter().all(|sample| sample.problems.is_empty());
        let (met, goal) = match self.class.goal() {
            Goal::TimesFloor(p50, p99) => {
                let both = self.of(|sample| sample.put).zip(self.of(|sample| sample.floor));
                let met =
                    both.is_some_and(|(put, floor)| put.p50 <= p50 * floor.p50 && put.tail() <= p99 * floor.tail());
                (met, format!("PUT p50 ≤ {p50} ×, p99 ≤ {p99} × floor"))
            }
            Goal::Removal(most) => (within(self.of(|sample| sample.removal), most), format!("removal ≤ {most} ms")),
            Goal::Acts(most) => (within(self.of(|sample| sample.put), most), format!("next leader ≤ {most} ms")),
            Goal::NoFailure => (self.samples.iter().all(|sample| sample.failed == 0), "0 failed".to_owned()),
        };
        (met && clean, goal)
    }

    /// Everything, for machines.
    pub fn json(&self) -> Value {
        let (met, goal) = self.verdict();
        json!({
            "class": self.class.name(),
            "what": self.class.says(),
            "n": self.samples.len(),
            "put": Distribution::json(self.of(|sample| sample.put).as_ref()),
            "removal": Distribution::json(self.of(|sample| sample.removal).as_ref()),
            "back": Distribution::json(self.of(|sample| sample.back).as_ref()),
            "floor": Distribution::json(self.of(|sample| sample.floor).as_ref()),
            "failed": self.samples.iter().map(|sample| sample.failed).sum::<usize>(),
            "requests": self.samples.iter().map(|sample| sample.requests).sum::<usize>(),
            "goal": goal,
            "met": met,
            "samples": self.samples,
        })
    }
}

/// All classes as a table in Markdown. Times are in milliseconds: p50 / p99 / max.
pub fn table(all: &[Figures]) -> String {
    let mut table = String::from(
        "| class | n | fault → PUT | fault → removed | ready → back | failed requests, p50 / max a run | goal |\n|---|---|---|---|---|---|---|\n",
    );
    for figures in all {
        let times = |what: fn(&Sample) -> Option<f64>| match figures.of(what) {
            Some(Distribution { p50, p99, max, .. }) => {
                format!("{} / {} / {}", number(p50), p99.map_or("–".to_owned(), number), number(max))
            }
            None => "–".to_owned(),
        };
        let failed = figures.of(|sample| Some(f64::from(u32::try_from(sample.failed).unwrap_or(u32::MAX))));
        let failed = failed.map_or("–".to_owned(), |it| format!("{} / {}", it.p50, it.max));
        let (met, goal) = figures.verdict();
        // A String takes everything.
        let _ = writeln!(
            table,
            "| `{}`: {} | {} | {} | {} | {} | {failed} | {goal}: {} |",
            figures.class.name(),
            figures.class.says(),
            figures.samples.len(),
            times(|sample| sample.put),
            times(|sample| sample.removal),
            times(|sample| sample.back),
            if met { "met" } else { "**missed**" },
        );
        if let Some(floor) = figures.of(|sample| sample.floor) {
            let p99 = floor.p99.map_or("–".to_owned(), number);
            let _ = writeln!(
                table,
                "| the floor of that, a bare loop | {} | {} / {p99} / {} | – | – | – | – |",
                floor.n,
                number(floor.p50),
                number(floor.max)
            );
        }
    }
    table
}

fn number(milliseconds: f64) -> String {
    if milliseconds < 10.0 { format!("{milliseconds:.1}") } else { format!("{milliseconds:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_p99_is_there_from_a_hundred_samples_on() {
        let of = |n: u32| Distribution::of((1..=n).rev().map(f64::from));
        assert_eq!(of(0), None);
        assert_eq!(of(99), Some(Distribution { n: 99, p50: 50.0, p99: None, max: 99.0 }));
        assert_eq!(of(100), Some(Distribution { n: 100, p50: 50.0, p99: Some(99.0), max: 100.0 }));
        assert_eq!(of(1), Some(Distribution { n: 1, p50: 1.0, p99: None, max: 1.0 }));
    }

    #[test]
    fn a_goal_is_missed_by_its_worst_run_and_by_any_wrong_removal() {
        let sample = |removal, problems: &[&str]| Sample {
            removal: Some(removal),
            problems: problems.iter().map(ToString::to_string).collect(),
            ..Sample::default()
        };
        let figures = |samples: Vec<Sample>| Figures { class: Class::Kill, samples };
        assert!(figures(vec![sample(20.0, &[]), sample(999.0, &[])]).verdict().0);
        assert!(!figures(vec![sample(20.0, &[]), sample(1_001.0, &[])]).verdict().0);
        assert!(!figures(vec![sample(20.0, &["wrong removal"])]).verdict().0);
        assert!(!figures(Vec::new()).verdict().0);
        let text = table(&[figures(vec![sample(20.4, &[])])]);
        assert!(text.contains("| `kill`: SIGKILL of a follower's kube-apiserver | 1 | – | 20 / – / 20 |"), "{text}");
    }
}
