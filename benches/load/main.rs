//! The whole program against bare Pingora, in one run: `cargo bench --bench load -- [flags]`.
//!
//! This one program plays every part but strait's: it starts itself again as the fake provider, as the floor (bare
//! Pingora) and as the client, each a process on its own, and strait beside them. What the numbers mean stands in
//! `benches/README.md`.
//!
//! The parts: `figures` says what is measured, `wire` which bytes travel, `lab` starts what is needed, `measure`
//! takes the rounds, `report` prints. `provider`, `floor` and `client` are the roles.

mod client;
mod figures;
mod floor;
mod lab;
mod measure;
mod process;
mod provider;
mod report;
mod wire;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use figures::{FIGURES, Figure, Measured};
use lab::Lab;
use measure::Plan;
use process::Cores;
use wire::Side;

/// The floor must not lose or win by another allocator than strait's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

const USAGE: &str = "\
Measures strait against bare Pingora and prints the figures as a Markdown table.
  --quick         only checks that everything works: one short round, no matter what the times are
  --rounds N      rounds of both sides in turn (5; at most 50)
  --seconds S     measured time of each side in a round (3; at most 60)
  --only NAMES    only these figures, separated by commas
  --list          prints the names of the figures
The program is that of this build, or $STRAIT_BIN.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("role") => role(&arguments[1..]),
        Some(_) | None => Flags::parse(&arguments).and_then(run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

struct Flags {
    quick: bool,
    rounds: Option<usize>,
    seconds: Option<f64>,
    only: Vec<String>,
    list: bool,
}

impl Flags {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut flags = Self {
            // `cargo bench` says `--bench`; whoever runs benchmarks as tests wants to know whether they work.
            quick: !arguments.iter().any(|argument| argument == "--bench"),
            rounds: None,
            seconds: None,
            only: Vec::new(),
            list: false,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || {
                rest.next()
                    .ok_or(format!("{argument} wants a value\n{USAGE}"))
            };
            match argument.as_str() {
                "--bench" => {}
                "--quick" => flags.quick = true,
                "--list" => flags.list = true,
                "--rounds" => flags.rounds = Some(value()?.parse()?),
                "--seconds" => flags.seconds = Some(value()?.parse()?),
                "--only" => flags.only.extend(value()?.split(',').map(String::from)),
                "--help" | "-h" => return Err(USAGE.into()),
                other => return Err(format!("unknown flag {other}\n{USAGE}").into()),
            }
        }
        if let Some(name) = flags.only.iter().find(|name| find(name).is_none()) {
            return Err(format!("no figure is called {name}; see --list").into());
        }
        Ok(flags)
    }

    fn plan(&self) -> Plan {
        let (rounds, seconds, warm_up) = if self.quick {
            (1, 0.4, 0.2)
        } else {
            (5, 3.0, 0.7)
        };
        Plan {
            rounds: self.rounds.unwrap_or(rounds).clamp(1, 50),
            warm_up: Duration::from_secs_f64(warm_up),
            measure: Duration::from_secs_f64(self.seconds.unwrap_or(seconds).clamp(0.1, 60.0)),
        }
    }
}

fn find(name: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.name == name)
}

fn run(flags: Flags) -> Result<()> {
    let mut out = std::io::stdout();
    if flags.list {
        for figure in FIGURES {
            writeln!(out, "{:24}{}", figure.name, figure.title)?;
        }
        return Ok(());
    }
    let strait = std::env::var_os("STRAIT_BIN")
        .or(option_env!("CARGO_BIN_EXE_strait").map(Into::into))
        .map(PathBuf::from)
        .ok_or("set STRAIT_BIN to the program to measure")?;
    let strait = strait
        .canonicalize()
        .map_err(|error| format!("{}: {error}", strait.display()))?;
    let cores = Cores::find();
    if cores.is_none() {
        eprintln!(
            "load: one core only, or no taskset: nothing is pinned, so the numbers mean little"
        );
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let plan = flags.plan();
    let mut lab = Lab::open(strait.clone(), cores)?;
    let (mut rows, mut details, mut failed) = (Vec::new(), Vec::new(), 0);
    for figure in FIGURES {
        if !flags.only.is_empty() && !flags.only.iter().any(|name| name == figure.name) {
            continue;
        }
        eprintln!("load: {} …", figure.name);
        match measure::figure(&mut lab, figure, &plan) {
            Ok((more_rows, more_details)) => {
                rows.extend(more_rows);
                details.extend(more_details);
            }
            Err(failure) => {
                failed += 1;
                eprintln!("load: {} failed: {failure}", figure.name);
            }
        }
    }
    writeln!(
        out,
        "{} rounds of {:?}, {}; load average at the start {}\n\n{}\n{}",
        plan.rounds,
        plan.measure,
        strait.display(),
        load.trim(),
        report::figures(&rows, flags.quick),
        report::details(&details)
    )?;
    if flags.quick {
        writeln!(
            out,
            "A short run: it shows that everything works; its times mean nothing."
        )?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} figures failed").into()),
    }
}

/// Plays one part of the lab until killed, or to its end.
fn role(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["provider", listen] => provider::run(listen),
        ["floor", listen, provider] => floor::run(listen, provider),
        ["client", figure, load, side, address, pid, warm_up, measure] => {
            let figure = find(figure).ok_or("no such figure")?;
            let loads = match &figure.measured {
                Measured::Cpu(load)
                | Measured::FirstToken(load)
                | Measured::Stalls(load)
                | Measured::Start(load) => std::slice::from_ref(load),
                Measured::Memory(loads) => loads,
            };
            let seen = client::run(client::Order {
                load: *loads.get(load.parse::<usize>()?).ok_or("no such load")?,
                side: if *side == "floor" {
                    Side::Floor
                } else {
                    Side::Strait
                },
                address: (*address).to_owned(),
                pid: pid.parse()?,
                warm_up: Duration::from_millis(warm_up.parse()?),
                measure: Duration::from_millis(measure.parse()?),
            })?;
            serde_json::to_writer(std::io::stdout(), &seen)?;
            Ok(())
        }
        other => Err(format!("no such role: {other:?}").into()),
    }
}
