//! `man`: the manual page, of the very description that parses the arguments.

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Arg, Command};

use super::ending::{finished, print};
use super::shell::{all, flags, values};
use crate::VERSION;

/// What holds for all verbs.
const END: &str = "\
.SH EXIT STATUS
.IP 0
done, nothing to do, healthy
.IP 1
failed
.IP 2
wrong usage, or settings that cannot be used
.IP 3
what was waited for has not come in time
.IP 4
it differs from what is wished, or is degraded
.SH ENVIRONMENT
.TP
.B SHOOT_EXPOSURE_AGENT__\\fISECTION\\fB__\\fIKEY
a setting, over the file and under the flags: two underscores go one level down
.TP
.B KUBECONFIG
the kubeconfig, where neither the flag nor the setting names one
.TP
.B NODE_NAME
the name of the own Node, where the setting nodeName does not name it; else it is the hostname
.TP
.B HTTPS_PROXY\\fR, \\fBNO_PROXY
for STACKIT alone
.SH FILES
.TP
.I /etc/shoot-exposure-agent/config.yaml
the settings; \\fBconfig defaults\\fR prints all of them
.TP
.I /etc/shoot-exposure-agent/credentials
the files of Gardener's mounted Secret cloudprovider
.TP
.I /etc/shoot-exposure-agent/kubeconfig
the kubeconfig, where nothing else names one
";

pub(super) fn man(command: Command) -> ExitCode {
    let mut command = command;
    command.build();
    finished(print(&page(&command)))
}

fn page(command: &Command) -> String {
    let name = command.get_name();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut out = format!(
        ".TH {} 8 \"\" \"{name} {VERSION}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n\\fIverb\\fR [\\fIoptions\\fR]\n\
         .SH DESCRIPTION\n{}\n.SH OPTIONS FOR ALL VERBS\n",
        escaped(&name.to_uppercase()),
        escaped(name),
        escaped(about.trim_end_matches('.')),
        escaped(name),
        escaped(&about)
    );
    arguments(&mut out, command, |_| true);
    out += ".SH VERBS\n";
    for (path, verb) in all(command).into_iter().skip(1).filter(|(_, verb)| !verb.has_subcommands()) {
        let mut positional = String::new();
        for argument in verb.get_positionals() {
            // Writing to a string does not fail.
            let _ = write!(positional, " \\fI{}\\fR", escaped(&placeholder(argument)));
        }
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, ".SS \"{}{positional}\"\n{}", escaped(&path.join(" ")), escaped(&about));
        arguments(&mut out, verb, |argument| !argument.is_global_set() && argument.get_id() != "help");
    }
    out + END
}

fn arguments(out: &mut String, command: &Command, shown: impl Fn(&Arg) -> bool) {
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set() && shown(argument)) {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let flags: Vec<String> = flags(argument).iter().map(|flag| format!("\\fB{}\\fR", escaped(flag))).collect();
        let takes = argument.is_positional() || argument.get_action().takes_values();
        let value = if takes { format!("\\fI{}\\fR", escaped(&placeholder(argument))) } else { String::new() };
        let head = [flags.join(", "), value].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        let mut notes = vec![help];
        let values = values(argument);
        if takes && !values.is_empty() {
            notes.push(format!("one of {}", values.join(", ")));
        }
        if takes && let [default] = argument.get_default_values() {
            notes.push(format!("default {}", default.to_string_lossy()));
        }
        let _ = writeln!(out, ".TP\n{head}\n{}", escaped(&notes.join("; ")));
    }
}

fn placeholder(argument: &Arg) -> String {
    argument.get_value_names().and_then(<[_]>::first).map_or_else(|| argument.get_id().to_string(), ToString::to_string)
}

/// Text as roff takes it: no escape, no request, and a dash that is one.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
