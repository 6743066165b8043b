//! `process_*`: what the process takes of the machine, under the names that every Prometheus client gives
//! them (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>). Read from Linux's
//! `/proc`; elsewhere there are none.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Clock ticks in a second as `/proc` counts them: 100 on every architecture that this is built for
/// (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads them at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// What is read at one scrape; a file that cannot be read leaves out what is in it.
#[derive(Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: Option<f64>,
    start_time_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Usage {
    fn read() -> Self {
        let text = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
        let mut usage =
            Self::parse(&text("self/stat"), &text("self/status"), &text("self/limits"), &text("stat"));
        // One of them is that of the folder that is being read.
        let open = fs::read_dir("/proc/self/fd").ok().map(|folder| folder.count() as u64);
        usage.open_fds = open.map(|count| count.saturating_sub(1));
        usage
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The second field is the name, which may contain anything; what follows is counted from the third.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks =
            |field: usize| fields.get(field - 3)?.parse::<u64>().ok().map(|n| n as f64 / TICKS_PER_SECOND);
        let line = |text: &str, name: &str| -> Option<u64> {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let kibibytes = |name| line(status, name).map(|kibibytes| kibibytes << 10);
        let booted = line(system, "btime ").map(|seconds| seconds as f64);
        Self {
            cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
            start_time_seconds: booted.zip(ticks(22)).map(|(booted, after)| booted + after),
            resident_bytes: kibibytes("VmRSS:"),
            virtual_bytes: kibibytes("VmSize:"),
            threads: line(status, "Threads:"),
            open_fds: None,
            max_fds: line(limits, "Max open files "),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let usage = Usage::read();
        let float = |value: Option<f64>| value.map(ConstGauge::new);
        let whole = |value: Option<u64>| float(value.map(|value| value as f64));
        let gauges = [
            ("resident_memory_bytes", "Resident memory, in bytes", whole(usage.resident_bytes)),
            ("virtual_memory_bytes", "Virtual memory, in bytes", whole(usage.virtual_bytes)),
            ("threads", "Threads of the process", whole(usage.threads)),
            ("open_fds", "Open file descriptors", whole(usage.open_fds)),
            ("max_fds", "Most file descriptors that may be open", whole(usage.max_fds)),
            (
                "start_time_seconds",
                "When the process started, in seconds since 1970",
                float(usage.start_time_seconds),
            ),
        ];
        if let Some(seconds) = usage.cpu_seconds.map(ConstCounter::new) {
            let help = "Processor time of user and system, in seconds";
            let encoder = encoder.encode_descriptor("cpu_seconds", help, None, seconds.metric_type())?;
            seconds.encode(encoder)?;
        }
        for (name, help, gauge) in gauges {
            if let Some(gauge) = gauge {
                let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
                gauge.encode(encoder)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 200";
        let status = "Name:\ta) b\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t9\n";
        let limits =
            "Limit   Soft Limit   Hard Limit   Units\nMax open files            1024     4096      files\n";
        let found = Usage::parse(stat, status, limits, "cpu 1 2\nbtime 1000\n");
        let expected = Usage {
            cpu_seconds: Some(3.0),
            start_time_seconds: Some(1123.45),
            resident_bytes: Some(1 << 20),
            virtual_bytes: Some(2 << 20),
            threads: Some(9),
            open_fds: None,
            max_fds: Some(1024),
        };
        assert_eq!(found, expected);
        assert_eq!(Usage::parse("", "", "", ""), Usage::default());
    }

    #[test]
    fn a_limit_that_there_is_none_of_is_left_out() {
        let found = Usage::parse("", "", "Max open files            unlimited   unlimited   files\n", "");
        assert_eq!(found.max_fds, None);
    }
}
