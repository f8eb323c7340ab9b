//! The process's own figures, read from `/proc` at each scrape; where there is no `/proc` they are absent.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::metrics::{Rows, desc};

/// What the kernel calls `USER_HZ`: 100 on every architecture that Linux still has.
const TICKS_A_SECOND: f64 = 100.0;

pub struct Process {
    descs: Vec<Desc>,
}

const NAMES: [(&str, &str); 6] = [
    (
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    ),
    (
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
    ),
    (
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
    ),
    ("process_threads", "Number of threads of the process."),
    ("process_open_fds", "Number of open file descriptors."),
    (
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
    ),
];

impl Process {
    pub fn new() -> Self {
        Self {
            descs: NAMES
                .iter()
                .map(|(name, help)| desc(name, help, &[]))
                .collect(),
        }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        let stat = Stat::read();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let fds = std::fs::read_dir("/proc/self/fd").map(|entries| entries.count());
        let values = [
            stat.as_ref().map(|stat| stat.cpu_seconds),
            // In kB whatever the page size is, unlike `/proc/self/statm`.
            field(&status, "VmRSS:").map(|kib| kib * 1024.0),
            field(&status, "VmSize:").map(|kib| kib * 1024.0),
            field(&status, "Threads:"),
            // The descriptor of the reading itself is one of them.
            fds.ok().map(|count| count.saturating_sub(1) as f64),
            stat.and_then(|stat| stat.started()),
        ];
        for ((name, help), value) in NAMES.into_iter().zip(values) {
            let Some(value) = value else { continue };
            let mut rows = if name.ends_with("_total") {
                Rows::counter(name, help)
            } else {
                Rows::gauge(name, help)
            };
            rows.push(&[], value);
            rows.end(&mut families);
        }
        families
    }
}

struct Stat {
    cpu_seconds: f64,
    /// Since the machine's start.
    started_seconds: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The program's name may hold blanks and parentheses: fields are counted after its end.
        let mut fields = text.get(text.rfind(')')? + 2..)?.split_ascii_whitespace();
        let user: f64 = fields.nth(11)?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        let started: f64 = fields.nth(6)?.parse().ok()?;
        Some(Self {
            cpu_seconds: (user + system) / TICKS_A_SECOND,
            started_seconds: started / TICKS_A_SECOND,
        })
    }

    fn started(&self) -> Option<f64> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        Some(field(&text, "btime")? + self.started_seconds)
    }
}

/// Returns the first number of the line that begins with `name`.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
