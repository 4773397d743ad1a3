//! The screen: how things are, which keys there are, what has happened. Pure: a picture in, lines out.

use super::act::Server;
use super::play::{Event, NodePicture, Picture};

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// The lines of a screen of that size. `chosen`: the node that keys are about.
pub(super) fn screen(picture: &Picture, events: &[Event], chosen: usize, size: (usize, usize)) -> Vec<String> {
    let (columns, rows) = size;
    let mut lines = head(picture);
    lines.push(String::new());
    let title = format!(
        "   {:<6}{:<12}{:<9}{:<14}{:<9}{:<10}{:>12}{:>6}",
        "node", "API server", "drained", "verdict", "target", "checked", "connections", "open"
    );
    lines.push(format!("{DIM}{title}{PLAIN}"));
    lines.extend(picture.nodes.iter().enumerate().map(|(index, node)| row(node, index, index == chosen)));
    lines.push(String::new());
    lines.extend(keys());
    lines.push(String::new());
    let room = rows.saturating_sub(lines.len());
    let from = events.len().saturating_sub(room);
    lines.extend(events.get(from..).unwrap_or_default().iter().map(event));
    lines.truncate(rows);
    lines.iter().map(|line| cut(line, columns)).collect()
}

fn head(picture: &Picture) -> Vec<String> {
    let good = |good: bool, text: &str| format!("{}{text}{PLAIN}", if good { GREEN } else { RED });
    let balancer = match (picture.address, picture.status.as_str()) {
        (_, "") => format!("{YELLOW}there is none yet{PLAIN}"),
        (None, status) => format!("{YELLOW}{status}, listens nowhere{PLAIN}"),
        (Some(address), status) => format!("{address}  {}", good(status == "READY", status)),
    };
    let cloud = good(!picture.cloud_down, if picture.cloud_down { "answers 503" } else { "up" });
    let leader = match (picture.election, picture.leader.as_str()) {
        (false, _) => {
            "one, without an election: without others who would take over it never removes for silence".to_owned()
        }
        (true, "") => format!("{YELLOW}nobody leads{PLAIN}"),
        (true, leader) => format!("three; {BOLD}{leader}{PLAIN} leads"),
    };
    let frozen =
        picture.frozen.as_ref().map(|why| format!("   {YELLOW}targets frozen: {why}{PLAIN}")).unwrap_or_default();
    let clients = &picture.clients;
    let failed = format!("{} failed", clients.failed);
    let slowest =
        if clients.slowest.is_zero() { String::new() } else { format!(", slowest {} ms", clients.slowest.as_millis()) };
    vec![
        format!("{BOLD}shoot-exposure-agent playground{PLAIN}   {:.0} s", picture.at.as_secs_f64()),
        format!("  balancer  {balancer}"),
        format!(
            "  clients   {:.1} of {} requests a second answered{slowest}; {} answered, {}",
            clients.rate,
            picture.rate,
            clients.answered,
            good(clients.failed == 0, &failed)
        ),
        format!("  agents    {leader}{frozen}"),
        format!("  cloud     {cloud}   key {} of the service account", picture.keys),
    ]
}

fn row(node: &NodePicture, index: usize, chosen: bool) -> String {
    let server = match node.server {
        Server::Serves => GREEN,
        Server::NotReady => YELLOW,
        Server::Killed | Server::Hangs => RED,
    };
    let verdict = if ["healthy", "chosen"].contains(&node.verdict.as_str()) { GREEN } else { YELLOW };
    let (target, checked) = match (node.target, node.healthy) {
        (true, true) => ("yes", "healthy"),
        (true, false) => ("yes", "unhealthy"),
        (false, _) => ("no", ""),
    };
    let target_colour = if node.target { GREEN } else { YELLOW };
    let checked_colour = if node.healthy { GREEN } else { RED };
    let mark = if chosen { format!("{BOLD}▸{PLAIN}") } else { " ".to_owned() };
    let drained = if node.drained { "drained" } else { "" };
    let (all, open) = node.connections;
    format!(
        "{mark}{} {BOLD}{:<6}{PLAIN}{server}{:<12}{PLAIN}{YELLOW}{drained:<9}{PLAIN}{verdict}{:<14}{PLAIN}\
         {target_colour}{target:<9}{PLAIN}{checked_colour}{checked:<10}{PLAIN}{all:>12}{open:>6}",
        index + 1,
        node.name,
        node.server.to_string(),
        node.verdict,
    )
}

fn keys() -> [String; 2] {
    let key = |key: &str, what: &str| format!("{BOLD}{key}{PLAIN} {what}");
    let node = [
        ("1 2 3", "choose"),
        ("k", "kill"),
        ("h", "hang"),
        ("n", "not ready"),
        ("r", "restore"),
        ("d", "drain or end it"),
    ];
    let all = [("c", "cloud down or up"), ("t", "rotate the key"), ("+ -", "more or fewer requests"), ("q", "quit")];
    let line = |keys: &[(&str, &str)]| keys.iter().map(|(name, what)| key(name, what)).collect::<Vec<_>>().join("   ");
    [format!("  {}", line(&node)), format!("  {}", line(&all))]
}

fn event(event: &Event) -> String {
    let colour = match event.who.as_str() {
        "you" => BOLD,
        "clients" => RED,
        _ => "",
    };
    format!("{DIM}{:7.2} s{PLAIN}  {colour}{:<8} {}{PLAIN}", event.at.as_secs_f64(), event.who, event.what)
}

/// As many characters as fit; sequences that only change the colour take no room.
fn cut(line: &str, columns: usize) -> String {
    let mut room = columns;
    let mut cut = String::new();
    let mut in_sequence = false;
    for character in line.chars() {
        if character == '\x1b' {
            in_sequence = true;
        }
        if in_sequence {
            cut.push(character);
            in_sequence = character != 'm';
        } else if room > 0 && !character.is_control() {
            cut.push(character);
            room -= 1;
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bare(lines: &[String]) -> Vec<String> {
        let plain = |line: &String| {
            let mut in_sequence = false;
            let visible = |character: &char| {
                let was = in_sequence || *character == '\x1b';
                in_sequence = was && *character != 'm';
                !was
            };
            line.chars().filter(visible).collect::<String>().trim_end().to_owned()
        };
        lines.iter().map(plain).collect()
    }

    fn picture() -> Picture {
        let node = |name, server, verdict: &str, target| NodePicture {
            name,
            server,
            verdict: verdict.to_owned(),
            target,
            healthy: target,
            connections: (7, 1),
            ..NodePicture::default()
        };
        Picture {
            status: "READY".to_owned(),
            address: Some(([127, 100, 0, 1], 6443).into()),
            nodes: vec![node("cp-0", Server::Serves, "healthy", true), node("cp-1", Server::Killed, "refused", false)],
            leader: "cp-0".to_owned(),
            election: true,
            keys: 1,
            ..Picture::default()
        }
    }

    #[test]
    fn nodes_keys_and_the_last_events_are_on_the_screen() {
        let event = |number: u64| Event {
            at: Duration::from_secs(number),
            who: "you".to_owned(),
            what: format!("thing {number}"),
        };
        let events: Vec<Event> = (0..100).map(event).collect();
        let lines = bare(&screen(&picture(), &events, 1, (100, 20)));
        assert_eq!(lines.len(), 20);
        let has = |part: &str| assert!(lines.iter().any(|line| line.contains(part)), "{part} in {lines:#?}");
        has("127.100.0.1:6443  READY");
        has(" 1 cp-0  serves");
        has("▸2 cp-1  killed               refused       no");
        has("three; cp-0 leads");
        has("k kill");
        assert!(lines[19].ends_with("thing 99"), "{lines:#?}");
    }

    #[test]
    fn a_small_terminal_gets_what_fits() {
        let lines = screen(&picture(), &[], 0, (20, 5));
        assert_eq!(lines.len(), 5);
        assert!(bare(&lines).iter().all(|line| line.chars().count() <= 20));
        assert!(bare(&screen(&Picture::default(), &[], 0, (80, 24)))[1].contains("there is none yet"));
    }
}
