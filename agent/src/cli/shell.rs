//! `completion`: scripts that let a shell complete verbs, flags and their values.
//!
//! Made of the very description that parses the arguments, so that nothing can be forgotten.

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Arg, Command, ValueEnum};

use super::ending::{finished, print};

/// The program.
const NAME: &str = "shoot-exposure-agent";

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    /// For `source <(shoot-exposure-agent completion bash)`
    Bash,
    /// For `source <(shoot-exposure-agent completion zsh)`, after `autoload -U compinit && compinit`
    Zsh,
    /// For `shoot-exposure-agent completion fish | source`
    Fish,
}

pub(super) fn completion(shell: Shell, command: Command) -> ExitCode {
    let mut command = command;
    command.build();
    finished(print(&match shell {
        Shell::Bash => bash(&command),
        Shell::Zsh => format!("#compdef {NAME}\nautoload -U +X bashcompinit && bashcompinit\n{}", bash(&command)),
        Shell::Fish => fish(&command),
    }))
}

/// Every command with the verbs that lead to it, the program itself first.
pub(super) fn all(command: &Command) -> Vec<(Vec<String>, &Command)> {
    let mut found = vec![(Vec::new(), command)];
    let mut next = 0;
    while let Some((path, command)) = found.get(next).cloned() {
        next += 1;
        // `help` repeats the tree.
        for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
            let path = path.iter().cloned().chain([below.get_name().to_owned()]).collect();
            found.push((path, below));
        }
    }
    found
}

/// What an argument may be, where that is a closed set.
pub(super) fn values(argument: &Arg) -> Vec<String> {
    argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|v| v.get_name().to_owned())
        .collect()
}

pub(super) fn flags(argument: &Arg) -> Vec<String> {
    let short = argument.get_short().map(|short| format!("-{short}"));
    short.into_iter().chain(argument.get_long().map(|long| format!("--{long}"))).collect()
}

fn takes_file(argument: &Arg) -> bool {
    argument.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == "FILE"))
}

fn bash(command: &Command) -> String {
    let commands = all(command);
    let key = |path: &[String]| path.iter().flat_map(|verb| ["/", verb.as_str()]).collect::<String>();
    let known: Vec<String> = commands.iter().map(|(path, _)| key(path)).filter(|key| !key.is_empty()).collect();
    let (mut replies, mut words) = (String::new(), String::new());
    // Writing to a string does not fail.
    for (path, command) in &commands {
        let key = key(path);
        let mut here: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let flags = flags(argument);
            let values = values(argument);
            if argument.is_positional() {
                here.extend(values);
            } else if argument.get_action().takes_values() {
                let patterns: Vec<String> = flags.iter().map(|flag| format!("'{key} {flag}'")).collect();
                let reply = if takes_file(argument) { "-f".to_owned() } else { format!("-W '{}'", values.join(" ")) };
                let _ = writeln!(
                    replies,
                    "        {}) COMPREPLY=($(compgen {reply} -- \"$current\")); return ;;",
                    patterns.join("|")
                );
            }
            here.extend(flags);
        }
        let _ = writeln!(words, "        '{key}') words='{}' ;;", here.join(" "));
    }
    format!(
        "_shoot_exposure_agent() {{
    local word path='' words='' current=\"${{COMP_WORDS[COMP_CWORD]}}\" before=\"${{COMP_WORDS[COMP_CWORD-1]}}\"
    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do
        case \"$path/$word\" in
            {}) path=\"$path/$word\" ;;
        esac
    done
    COMPREPLY=()
    case \"$path $before\" in
{replies}    esac
    case \"$path\" in
{words}    esac
    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))
}}
complete -F _shoot_exposure_agent {NAME}
",
        known.join("|")
    )
}

fn fish(command: &Command) -> String {
    let mut out = format!("complete -c {NAME} -f\n");
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    for (path, command) in all(command) {
        let condition = match path.split_last() {
            None => "__fish_use_subcommand".to_owned(),
            Some(_) => {
                path.iter().map(|verb| format!("__fish_seen_subcommand_from {verb}")).collect::<Vec<_>>().join("; and ")
            }
        };
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(
                out,
                "complete -c {NAME} -n {} -a {} -d {}",
                quoted(&condition),
                below.get_name(),
                quoted(&about)
            );
        }
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let about = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let mut line = format!("complete -c {NAME} -n {} -d {}", quoted(&condition), quoted(&about));
            let values = values(argument);
            if let Some(short) = argument.get_short() {
                let _ = write!(line, " -s {short}");
            }
            if let Some(long) = argument.get_long() {
                let _ = write!(line, " -l {long}");
            }
            if argument.is_positional() || argument.get_action().takes_values() {
                if argument.is_positional() && values.is_empty() {
                    continue;
                }
                let reads = if takes_file(argument) {
                    " -r -F"
                } else if argument.is_positional() {
                    ""
                } else {
                    " -x"
                };
                line += reads;
                if !values.is_empty() {
                    let _ = write!(line, " -a {}", quoted(&values.join(" ")));
                }
            }
            out += &line;
            out.push('\n');
        }
    }
    out
}
