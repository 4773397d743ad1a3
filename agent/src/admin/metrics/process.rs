//! The `process_*` metrics, read from `/proc/self` at each scrape. What cannot be read is left out.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks of `/proc/PID/stat` in a second: the same on every architecture this program is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` when asked.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// What is known about this process.
#[derive(Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: Option<f64>,
    start_time_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

impl Process {
    fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &text("/proc/self/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            &text("/proc/stat"),
        );
        // One of them is this folder.
        process.open_fds =
            std::fs::read_dir("/proc/self/fd").ok().map(|entries| count(entries.count().saturating_sub(1)));
        process
    }

    fn parse(stat: &str, status: &str, limits: &str, machine: &str) -> Self {
        // The name in brackets may hold spaces; what follows it is numbered from field 3.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok().map(|ticks| ticks / TICKS_PER_SECOND);
        let value = |text: &str, key: &str| -> Option<f64> {
            text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
        };
        let kibibytes = |key: &str| value(status, key).map(|kib| kib * 1024.0);
        Self {
            cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
            start_time_seconds: ticks(22).zip(value(machine, "btime")).map(|(since_boot, boot)| boot + since_boot),
            resident_bytes: kibibytes("VmRSS:"),
            virtual_bytes: kibibytes("VmSize:"),
            threads: value(status, "Threads:"),
            open_fds: None,
            max_fds: value(limits, "Max open files"),
        }
    }
}

// Far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn count(number: usize) -> f64 {
    number as f64
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let process = Process::read();
        if let Some(seconds) = process.cpu_seconds {
            let help = "Total user and system CPU time spent in seconds.";
            let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes.", process.virtual_bytes),
            ("process_threads", "Number of threads.", process.threads),
            ("process_open_fds", "Number of open file descriptors.", process.open_fds),
            ("process_max_fds", "Maximum number of open file descriptors.", process.max_fds),
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                process.start_time_seconds,
            ),
        ] {
            if let Some(value) = value {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "42 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 1000 1 1 1";
        let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 4096  files\n";
        let process = Process::parse(stat, status, limits, "cpu 1\nbtime 1700000000\n");
        let expected = Process {
            cpu_seconds: Some(2.0),
            start_time_seconds: Some(1_700_000_010.0),
            resident_bytes: Some(1_048_576.0),
            virtual_bytes: Some(2_097_152.0),
            threads: Some(3.0),
            open_fds: None,
            max_fds: Some(1024.0),
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn nothing_readable_is_nothing_known() {
        assert_eq!(Process::parse("", "Threads:", "Max open files unlimited", ""), Process::default());
    }
}
