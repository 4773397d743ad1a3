//! The metrics as text, in the two formats that scrapers ask for.

use std::fmt::Write;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// A text format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, which everything reads.
    Prometheus,
    /// `OpenMetrics` 1.0, for those that ask for it.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for.
    pub fn accepted(accept: &str) -> Self {
        let wanted = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let known = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/openmetrics-text"));
            known && parts.all(|parameter| parameter != "q=0" && parameter != "version=0.0.1")
        });
        if wanted { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// All metrics of a registry.
    pub(super) fn encode(self, registry: &Registry) -> Result<String, std::fmt::Error> {
        let mut openmetrics = String::with_capacity(16 * 1024);
        text::encode(&mut openmetrics, registry)?;
        match self {
            Self::Prometheus => to_prometheus(&openmetrics),
            Self::OpenMetrics => Ok(openmetrics),
        }
    }
}

/// The older format names a counter with its `_total` in the comments too, and has no `UNIT` and no end mark.
fn to_prometheus(openmetrics: &str) -> Result<String, std::fmt::Error> {
    let mut out = String::with_capacity(openmetrics.len() + 512);
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let mut words = line.splitn(4, ' ');
        let (mark, keyword, name, rest) = (words.next(), words.next(), words.next(), words.next().unwrap_or_default());
        match (mark, keyword, name) {
            (Some("#"), Some("TYPE"), Some(name)) if rest == "counter" => writeln!(out, "# TYPE {name}_total {rest}")?,
            (Some("#"), Some("HELP"), Some(name))
                if lines.peek() == Some(&format!("# TYPE {name} counter").as_str()) =>
            {
                writeln!(out, "# HELP {name}_total {rest}")?;
            }
            _ => writeln!(out, "{line}")?,
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_carry_their_suffix_everywhere() {
        let openmetrics = "# HELP a_b Some help.\n# TYPE a_b counter\na_b_total{x=\"y\"} 1\n# HELP c_seconds Help.\n\
                           # TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 1.0\n# EOF\n";
        let prometheus = "# HELP a_b_total Some help.\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 1\n\
                          # HELP c_seconds Help.\n# TYPE c_seconds gauge\nc_seconds 1.0\n";
        assert_eq!(to_prometheus(openmetrics).unwrap(), prometheus);
    }

    #[test]
    fn openmetrics_only_for_those_that_ask() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for accept in ["", "*/*", "text/plain", "application/openmetrics-text;q=0"] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
    }
}
