//! The file: commands and what came of them.

use std::fmt;

use anyhow::{Result, bail};

/// A story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Comment lines before the first command; the first says what the story shows.
    pub head: Vec<String>,
    /// Commands in their order.
    pub turns: Vec<Turn>,
}

/// A command, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Comments and empty lines right above the command; they stay where they are.
    pub above: Vec<String>,
    /// The command.
    pub command: String,
    /// The lines below it.
    pub output: Vec<String>,
}

impl Script {
    /// Takes a file apart.
    ///
    /// # Errors
    /// When it does not start with a comment that says what it shows, or has no command.
    pub fn parse(text: &str) -> Result<Self> {
        let mut script = Self::default();
        let mut above = Vec::new();
        for line in text.lines() {
            if let Some(command) = line.strip_prefix("> ") {
                let command = command.trim().to_owned();
                script.turns.push(Turn { above: std::mem::take(&mut above), command, output: Vec::new() });
            } else if line.starts_with('#') && script.turns.is_empty() {
                script.head.push(line.to_owned());
            } else if line.starts_with('#') {
                above.push(line.to_owned());
            } else if let (false, Some(turn)) = (line.is_empty(), script.turns.last_mut()) {
                turn.output.push(line.to_owned());
            }
        }
        if script.head.is_empty() {
            bail!("the first line has to be a comment that says what the story shows");
        }
        if script.turns.is_empty() {
            bail!("there is no command; one starts with `> `");
        }
        Ok(script)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.head {
            writeln!(f, "{line}")?;
        }
        for turn in &self.turns {
            writeln!(f)?;
            for line in &turn.above {
                writeln!(f, "{line}")?;
            }
            writeln!(f, "> {}", turn.command)?;
            for line in &turn.output {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

/// The two versions side by side as far as they differ: `-` is in the file, `+` is what came of it now.
pub fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let (rows, columns) = (expected.len(), found.len());
    // Length of the longest common rest, from each pair of lines on.
    let mut common = vec![vec![0_u32; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if expected[row] == found[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let mut lines = Vec::new();
    let (mut row, mut column) = (0, 0);
    while row < rows || column < columns {
        if row < rows && column < columns && expected[row] == found[column] {
            lines.push(format!("  {}", expected[row]));
            (row, column) = (row + 1, column + 1);
        } else if column == columns || (row < rows && common[row + 1][column] >= common[row][column + 1]) {
            lines.push(format!("- {}", expected[row]));
            row += 1;
        } else {
            lines.push(format!("+ {}", found[column]));
            column += 1;
        }
    }
    near_changes(&lines)
}

/// Changed lines with the three around them, and the command they belong to.
fn near_changes(lines: &[String]) -> String {
    const AROUND: usize = 3;
    let changed = |at: usize| !lines[at].starts_with("  ");
    let mut shown = Vec::new();
    let mut skipped = false;
    for (at, line) in lines.iter().enumerate() {
        let near = (at.saturating_sub(AROUND)..(at + AROUND + 1).min(lines.len())).any(changed);
        if near || line.starts_with("  > ") {
            if skipped {
                shown.push("  …".to_owned());
            }
            shown.push(line.clone());
        }
        skipped = !(near || line.starts_with("  > "));
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_written_as_it_was_read() {
        let text = "# What it shows.\n\n> tick 1s\nout\n\n# Why.\n> tick 2s\n";
        let script = Script::parse(text).unwrap();
        assert_eq!(script.turns.len(), 2);
        assert_eq!(script.to_string(), text);
    }

    #[test]
    fn a_story_says_what_it_shows() {
        assert!(Script::parse("> tick 1s\n").is_err());
        assert!(Script::parse("# Nothing happens.\n").is_err());
    }

    #[test]
    fn a_difference_names_the_command() {
        let difference = difference("> tick 1s\na\nb\n", "> tick 1s\na\nc\n");
        assert_eq!(difference, "  > tick 1s\n  a\n- b\n+ c");
    }
}
