//! An answer of `/readyz`, read.

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200, or nothing fails but the events' etcd (`etcd-override…`).
    Green,
    /// It shuts down.
    Shutdown,
    /// Checks on etcd fail, maybe others as well: those lean on it.
    Etcd,
    /// Other checks fail; their names, for people.
    Failing(String),
    /// 401 or 403.
    Denied(u16),
    /// Anything else.
    Other(u16),
}

impl Answer {
    /// Reads an answer from its HTTP status and body: one line a check, `[+]NAME ok` or `[-]NAME failed: …`.
    pub fn read(status: u16, body: &str) -> Self {
        match status {
            200 => return Answer::Green,
            401 | 403 => return Answer::Denied(status),
            500..=599 => {}
            _ => return Answer::Other(status),
        }
        let failing: Vec<&str> = body
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("[-]"))
            .filter_map(|rest| rest.split_whitespace().next())
            .collect();
        let events_etcd = |name: &&str| name.starts_with("etcd-override");
        if failing.is_empty() {
            Answer::Other(status)
        } else if failing.contains(&"shutdown") {
            Answer::Shutdown
        } else if failing.iter().all(events_etcd) {
            Answer::Green
        } else if failing.iter().any(|name| name.starts_with("etcd") && !events_etcd(name)) {
            Answer::Etcd
        } else {
            let mut names: Vec<&str> = failing.into_iter().filter(|name| !events_etcd(name)).collect();
            names.truncate(5);
            Answer::Failing(names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_by_its_status_and_the_checks_it_names() {
        let failing = |names: &str| Answer::Failing(names.to_owned());
        for (status, body, answer) in [
            (200, "ok", Answer::Green),
            (200, "[-]etcd failed: nonsense beside a 200", Answer::Green),
            (401, "Unauthorized", Answer::Denied(401)),
            (403, "{\"kind\":\"Status\"}", Answer::Denied(403)),
            (429, "Too many requests", Answer::Other(429)),
            (404, "", Answer::Other(404)),
            (301, "", Answer::Other(301)),
            (500, "", Answer::Other(500)),
            (502, "<html>Bad Gateway</html>", Answer::Other(502)),
            (503, "service unavailable", Answer::Other(503)),
            (500, "[+]ping ok\n[-]shutdown failed: reason withheld\nreadyz check failed", Answer::Shutdown),
            (500, "[-]etcd failed: x\n[-]shutdown failed: x", Answer::Shutdown),
            (500, "[+]ping ok\n[-]etcd failed: reason withheld", Answer::Etcd),
            (500, "[-]etcd-readiness failed: reason withheld", Answer::Etcd),
            (500, "[-]etcd failed: x\n[-]poststarthook/rbac failed: x", Answer::Etcd),
            (500, "[-]etcd-override-0 failed: x", Answer::Green),
            (500, "[-]etcd-override-0 failed: x\n[-]informer-sync failed: x", failing("informer-sync")),
            (500, "[-]etcd-override-0 failed: x\n[-]etcd failed: x", Answer::Etcd),
            (503, "  [-]informer-sync failed: x\n[-]b failed", failing("informer-sync, b")),
            (500, "[-]", Answer::Other(500)),
        ] {
            assert_eq!(Answer::read(status, body), answer, "{status} {body:?}");
        }
    }

    #[test]
    fn a_long_list_of_checks_is_cut() {
        let body = (0..500).map(|i| format!("[-]check-{i} failed")).collect::<Vec<_>>().join("\n");
        let names = "check-0, check-1, check-2, check-3, check-4".to_owned();
        assert_eq!(Answer::read(500, &body), Answer::Failing(names));
    }
}
