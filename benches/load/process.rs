//! Child processes that never outlive us, and what the kernel knows of them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Failure, Result};

/// The two cores of a measurement.
#[derive(Clone, Copy)]
pub struct Cores {
    /// The load generator's and the fake provider's.
    pub load: usize,
    /// The gateway's, or the floor's.
    pub gateway: usize,
}

impl Cores {
    /// Returns the first two cores that we may run on; `None` when there is one only, or no `taskset`.
    pub fn find() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let mut cores = list.trim().split(',').flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse().unwrap_or(0), last.parse().unwrap_or(0));
            first..=last
        });
        let found = Self {
            load: cores.next()?,
            gateway: cores.next()?,
        };
        is_there("taskset").then_some(found)
    }
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// A child that is killed when this is dropped, and by the kernel when we die without dropping it.
pub struct Running {
    child: Child,
    name: String,
    log: File,
}

impl Running {
    /// Starts a program on one core; its stderr goes to a file in `dir`, for the report of a failure.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        core: Option<usize>,
        stdout: Stdio,
        dir: &Path,
    ) -> Result<Self> {
        let mut words: Vec<String> = Vec::new();
        if is_there("setpriv") {
            words.extend(["setpriv", "--pdeathsig", "KILL"].map(String::from));
        }
        if let Some(core) = core {
            words.extend(["taskset".into(), "-c".into(), core.to_string()]);
        }
        words.push(program.display().to_string());
        words.extend_from_slice(arguments);
        let log = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(dir.join(format!("{name}.log")))?;
        // Both wrappers replace themselves by the program: the child's id is the program's.
        let child = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log.try_clone()?)
            .spawn()
            .map_err(|error| format!("cannot start {name} ({}): {error}", words.join(" ")))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the process has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.failure(&format!("ended ({status})"))),
        }
    }

    /// Waits for the end, at most so long, and returns what it wrote to a piped stdout.
    pub fn finish(mut self, within: Duration) -> Result<String> {
        let mut stdout = self.child.stdout.take().ok_or("stdout is not piped")?;
        let deadline = Instant::now() + within;
        // What a role writes fits into the pipe, so it ends without being read.
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                return Err(self.failure(&format!("did not end within {within:?}")));
            }
            sleep(Duration::from_millis(5));
        };
        if !status.success() {
            return Err(self.failure(&format!("failed ({status})")));
        }
        let mut said = String::new();
        stdout.read_to_string(&mut said)?;
        Ok(said)
    }

    /// Returns an error with the end of what the process wrote to stderr.
    pub fn failure(&mut self, what: &str) -> Failure {
        let mut log = Vec::new();
        let read = self
            .log
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.log.read_to_end(&mut log));
        let log = match read {
            Ok(_) => String::from_utf8_lossy(&log).into_owned(),
            Err(error) => format!("(its log cannot be read: {error})"),
        };
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n    ");
        format!("{} {what}\n    {tail}", self.name).into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process at one moment.
pub struct Cpu {
    /// From the process's own utime and stime, in ticks of 10 ms; knows of threads that have ended.
    ticks_ns: u64,
    /// By thread, exact.
    threads_ns: HashMap<String, u64>,
}

impl Cpu {
    /// Returns the nanoseconds between two moments: exact, unless a thread ended in between.
    pub fn since(&self, before: &Cpu) -> u64 {
        let all_there = !before.threads_ns.is_empty()
            && before
                .threads_ns
                .keys()
                .all(|thread| self.threads_ns.contains_key(thread));
        if !all_there {
            return self.ticks_ns - before.ticks_ns;
        }
        self.threads_ns
            .iter()
            .map(|(thread, now)| now - before.threads_ns.get(thread).copied().unwrap_or(0))
            .sum()
    }
}

pub fn cpu(pid: u32) -> Result<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; what follows the last one is numbers.
    let numbers: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let number = |at: usize| -> Result<u64> {
        Ok(numbers.get(at).ok_or("a short /proc/PID/stat")?.parse()?)
    };
    const TICK_NS: u64 = 10_000_000;
    let ticks_ns = (number(11)? + number(12)?) * TICK_NS;

    let mut threads_ns = HashMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        // A kernel without scheduler statistics, or a thread that ended just now: the ticks serve then.
        let Ok(line) = fs::read_to_string(thread.path().join("schedstat")) else {
            continue;
        };
        let spent = line.split_whitespace().next().unwrap_or("0").parse()?;
        threads_ns.insert(thread.file_name().to_string_lossy().into_owned(), spent);
    }
    Ok(Cpu {
        ticks_ns,
        threads_ns,
    })
}

/// Returns the resident memory of a process in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmRSS in /proc/PID/status")?
        .parse()?;
    Ok(kib / 1024.0)
}
