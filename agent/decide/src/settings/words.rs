//! What a single value must look like: names, identifiers, URLs, ranges, selectors.

use ipnet::IpNet;

use super::mistakes::{Complaint, complain};

type Checked = Result<(), Complaint>;

/// One term of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelTerm {
    /// The label's key.
    pub key: String,
    /// The value it must have; `None`: it must only be there.
    pub value: Option<String>,
}

/// Reads a label selector: keys and `key=value`, separated by commas; all terms must hold. The error says what is
/// wrong.
pub fn label_terms(selector: &str) -> Result<Vec<LabelTerm>, String> {
    selector
        .split(',')
        .map(|term| {
            let term = term.trim();
            let (key, value) = match term.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value.strip_prefix('=').unwrap_or(value).trim())),
                None => (term, None),
            };
            if !is_label_key(key) {
                return Err(format!("{key:?} is not a label key"));
            }
            if value.is_some_and(|v| !v.is_empty() && !is_label_value(v)) {
                return Err(format!("{:?} is not a label value", value.unwrap_or_default()));
            }
            Ok(LabelTerm { key: key.to_owned(), value: value.map(str::to_owned) })
        })
        .collect()
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label_value(name),
        None => is_label_value(key),
    }
}

fn is_label_value(value: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    value.len() <= 63
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(value.bytes().next())
        && edge(value.bytes().last())
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether a Node can have this name: a DNS-1123 subdomain.
pub fn is_node_name(text: &str) -> bool {
    is_subdomain(text)
}

/// A namespace: a DNS-1123 label.
pub(super) fn label(text: &str) -> Checked {
    if is_label(text) {
        return Ok(());
    }
    complain(
        format!("{text:?} is not a DNS-1123 label"),
        "lower-case letters, digits and -, at most 63, a letter or digit at both ends",
    )
}

/// An object's name: a DNS-1123 subdomain.
pub(super) fn subdomain(text: &str) -> Checked {
    if is_subdomain(text) {
        return Ok(());
    }
    complain(
        format!("{text:?} is not a DNS-1123 name"),
        "lower-case letters, digits, - and ., at most 253, a letter or digit around each dot and at both ends",
    )
}

/// A lower-case UUID, of version 4 where the API demands it.
pub(super) fn uuid(text: &str, strict_v4: bool) -> Checked {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 36
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        });
    if !shape {
        let hint = if text.bytes().any(|b| b.is_ascii_uppercase()) {
            format!("write it in lower case: {}", text.to_ascii_lowercase())
        } else {
            "such as 2028e5d4-af4f-45e2-98df-502be37a4317".to_owned()
        };
        return complain(format!("{text:?} is not a lower-case UUID"), hint);
    }
    if strict_v4 && !(bytes.get(14) == Some(&b'4') && matches!(bytes.get(19), Some(b'8' | b'9' | b'a' | b'b'))) {
        return complain(
            format!("{text:?} is not a version 4 UUID"),
            "the load balancer API takes no other; copy it from the network",
        );
    }
    Ok(())
}

/// A region of STACKIT, or `OpenStack`'s name for the first.
pub(super) fn region(text: &str) -> Checked {
    let letters = text.bytes().take_while(u8::is_ascii_lowercase).count();
    let digits = text.bytes().skip(letters).filter(u8::is_ascii_digit).count();
    if text == "RegionOne" || ((2..=4).contains(&letters) && digits == 2 && text.len() == letters + 2) {
        return Ok(());
    }
    complain(format!("{text:?} is not a region"), "two to four lower-case letters and two digits, such as eu01")
}

/// A technical ID: a label's value that can begin a balancer's name.
pub(super) fn technical_id(text: &str) -> Checked {
    if is_label(text) {
        return Ok(());
    }
    complain(format!("{text:?} is not a technical ID"), "copy it from the Shoot's status, such as shoot--project--name")
}

/// An absolute URL of http or https, without query and fragment.
pub(super) fn url(text: &str) -> Checked {
    let hint = "such as https://load-balancer.api.stackit.cloud";
    // The text itself is not shown: it may carry a password.
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return complain("not an absolute http or https URL", hint);
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>' | '\\')) {
        return complain("a URL with a character that no URL has", hint);
    }
    if rest.contains(['?', '#']) {
        return complain("a URL with a query or a fragment", "only scheme, host, port and path");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host_port.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, "")) => (v6, None),
        Some((v6, rest)) => (v6, Some(rest.strip_prefix(':').unwrap_or("none"))),
        None => match host_port.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_port, None),
        },
    };
    if host.is_empty() {
        return complain("a URL without a host", hint);
    }
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return complain("a URL whose port is not between 1 and 65535", hint);
    }
    Ok(())
}

/// A CIDR in its one canonical form.
pub(super) fn cidr(text: &str) -> Checked {
    let Ok(net) = text.parse::<IpNet>() else {
        let hint = match text.parse::<std::net::IpAddr>() {
            Ok(address) => format!("for a single address write {}", IpNet::from(address)),
            Err(_) => "such as 203.0.113.0/24".to_owned(),
        };
        return complain(format!("{text:?} is not a CIDR"), hint);
    };
    let canonical = net.trunc().to_string();
    if canonical == text {
        return Ok(());
    }
    complain(format!("{text:?} is not a canonical CIDR"), format!("write {canonical}"))
}

/// An address and port to listen on.
pub(super) fn bind_address(text: &str) -> Checked {
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return Ok(());
    }
    complain(format!("{text:?} is not an address and port"), "such as 127.0.0.1:9440, [::1]:9440 or 0.0.0.0:9440")
}

/// A path to a file or folder.
pub(super) fn file_path(text: &str) -> Checked {
    if text.chars().any(char::is_control) {
        return complain("a path with a control character", "write the path as ls shows it");
    }
    Ok(())
}

/// Path and query of a request.
pub(super) fn request_path(text: &str) -> Checked {
    if !text.starts_with('/') {
        return complain(format!("{text:?} does not begin with /"), format!("write /{text}"));
    }
    if text.contains('#') || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return complain(format!("{text:?} is not the path of a request"), "printable ASCII without spaces and #");
    }
    Ok(())
}
