//! From a figure's row to what is printed: rounds of both sides in turn, medians, spread.

use std::thread::sleep;
use std::time::Duration;

use crate::Result;
use crate::client::Seen;
use crate::figures::{Figure, Goal, Load, MEMORY_AFTER_LOAD_MIB, Measured, Per};
use crate::lab::Lab;
use crate::process::resident_mib;
use crate::report::{Detail, Row, Values};
use crate::wire::Side;

/// How long and how often.
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    pub warm_up: Duration,
    pub measure: Duration,
}

impl Plan {
    fn times(&self) -> (Duration, Duration) {
        (self.warm_up, self.measure)
    }
}

/// Both sides' values, one of each for every round.
struct Pair<T> {
    floor: Vec<T>,
    strait: Vec<T>,
}

pub fn figure(lab: &mut Lab, figure: &Figure, plan: &Plan) -> Result<(Vec<Row>, Vec<Detail>)> {
    let Figure {
        name, title, goal, ..
    } = figure;
    match &figure.measured {
        Measured::Cpu(load) => {
            let seen = rounds(plan, |side| lab.client((name, 0, load), side, plan.times()))?;
            let unit = match load.per {
                Per::Request => "request",
                Per::Chunk => "chunk",
            };
            let row = cpu_row(title, goal, &seen)?;
            let details = details(name, unit, &seen);
            Ok((vec![row], details))
        }
        Measured::FirstToken(load) => {
            let seen = rounds(plan, |side| lab.client((name, 0, load), side, plan.times()))?;
            let floor = Values::of(seen.floor.iter().map(|seen| seen.first_p50_us));
            let strait = Values::of(seen.strait.iter().map(|seen| seen.first_p50_us));
            let added = Values::of(
                seen.floor
                    .iter()
                    .zip(&seen.strait)
                    .map(|(floor, strait)| strait.first_p50_us - floor.first_p50_us),
            );
            let row = Row {
                title: (*title).into(),
                floor: format!("{:.0} µs", floor.median()),
                strait: format!("{:.0} µs", strait.median()),
                compared: added.show(|value| format!("{value:+.0}")) + " µs",
                goal: format!("≤ {:+.0} µs", goal.end),
                reached: added.median() <= goal.end,
            };
            Ok((vec![row], details(name, "answer", &seen)))
        }
        Measured::Stalls(load) => {
            let seen = rounds(plan, |side| lab.client((name, 0, load), side, plan.times()))?;
            let show = |side: &[Seen]| {
                let stalls: u64 = side.iter().map(|seen| seen.stalls).sum();
                let gaps: u64 = side.iter().map(|seen| seen.gaps).sum();
                let longest = side
                    .iter()
                    .map(|seen| seen.longest_gap_us)
                    .fold(0.0, f64::max);
                let text = format!("{stalls} of {gaps}, longest {:.1} ms", longest / 1000.0);
                (stalls, text)
            };
            let ((_, floor), (stalls, strait)) = (show(&seen.floor), show(&seen.strait));
            let row = Row {
                title: (*title).into(),
                floor,
                strait,
                compared: String::new(),
                goal: format!("{:.0}", goal.end),
                reached: stalls == 0,
            };
            Ok((vec![row], Vec::new()))
        }
        Measured::Memory(loads) => {
            memory(lab, name, loads, goal, plan).map(|rows| (rows, Vec::new()))
        }
        Measured::Start(load) => {
            let seen = rounds(plan, |side| lab.time_start(load, side))?;
            let ms =
                |side: &[Duration]| Values::of(side.iter().map(|time| time.as_secs_f64() * 1000.0));
            let (floor, strait) = (ms(&seen.floor), ms(&seen.strait));
            let row = Row {
                title: (*title).into(),
                floor: floor.show(|value| format!("{value:.0}")) + " ms",
                strait: strait.show(|value| format!("{value:.0}")) + " ms",
                compared: String::new(),
                goal: format!("≤ {:.0} ms", goal.end),
                reached: strait.median() <= goal.end,
            };
            Ok((vec![row], Vec::new()))
        }
    }
}

/// Measures both sides in every round, and which goes first changes with every round.
fn rounds<T>(plan: &Plan, mut measure: impl FnMut(Side) -> Result<T>) -> Result<Pair<T>> {
    let mut pair = Pair {
        floor: Vec::new(),
        strait: Vec::new(),
    };
    for round in 0..plan.rounds {
        let mut order = [Side::Floor, Side::Strait];
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let value = measure(side)?;
            match side {
                Side::Floor => pair.floor.push(value),
                Side::Strait => pair.strait.push(value),
            }
        }
    }
    Ok(pair)
}

fn cpu_row(title: &str, goal: &Goal, seen: &Pair<Seen>) -> Result<Row> {
    let each = |seen: &Seen| seen.cpu_ns as f64 / 1000.0 / seen.units as f64;
    let floor = Values::of(seen.floor.iter().map(each));
    let strait = Values::of(seen.strait.iter().map(each));
    let ratio = Values::of(
        seen.floor
            .iter()
            .zip(&seen.strait)
            .map(|(floor, strait)| each(strait) / each(floor)),
    );
    if !ratio.median().is_finite() {
        return Err("the floor took no CPU time: too short a measurement".into());
    }
    let goal_text = match goal.now {
        Some(now) => format!("≤ {now:.2} now, ≤ {:.2} in the end", goal.end),
        None => format!("≤ {:.2} in the end", goal.end),
    };
    Ok(Row {
        title: title.into(),
        floor: format!("{:.2} µs", floor.median()),
        strait: format!("{:.2} µs", strait.median()),
        compared: ratio.show(|value| format!("{value:.2}")) + " ×",
        goal: goal_text,
        reached: ratio.median() <= goal.now.unwrap_or(goal.end),
    })
}

fn details(name: &str, unit: &str, seen: &Pair<Seen>) -> Vec<Detail> {
    let of = |side: &str, seen: &[Seen]| {
        let median = |value: fn(&Seen) -> f64| Values::of(seen.iter().map(value)).median();
        Detail {
            what: format!("{name}, {side}"),
            rate: format!(
                "{:.0} {unit}s/s",
                median(|seen| seen.units as f64 / seen.seconds)
            ),
            busy: median(|seen| seen.cpu_ns as f64 / 1e9 / seen.seconds),
            first_us: (
                median(|seen| seen.first_p50_us),
                median(|seen| seen.first_p99_us),
            ),
            whole_us: (
                median(|seen| seen.whole_p50_us),
                median(|seen| seen.whole_p99_us),
            ),
            closed: seen.iter().map(|seen| seen.closed).sum(),
        }
    };
    vec![of("floor", &seen.floor), of("strait", &seen.strait)]
}

/// A process of its own, so that earlier figures leave nothing in it.
fn memory(lab: &mut Lab, name: &str, loads: &[Load], goal: &Goal, plan: &Plan) -> Result<Vec<Row>> {
    let mut at_rest = Vec::new();
    let mut after_load = Vec::new();
    for side in [Side::Floor, Side::Strait] {
        let mut gateway = lab.start(side, &loads[0])?;
        // What the start needed once may be given back in the background.
        sleep(plan.warm_up * 2);
        at_rest.push(resident_mib(gateway.running.pid())?);
        for load in 0..loads.len() {
            lab.client_of(&mut gateway, (name, load), side, plan.times())?;
        }
        after_load.push(resident_mib(gateway.running.pid())?);
    }
    let row = |title: &str, mib: &[f64], goal: String, most: f64| Row {
        title: title.into(),
        floor: format!("{:.1} MiB", mib[0]),
        strait: format!("{:.1} MiB", mib[1]),
        compared: String::new(),
        goal,
        reached: mib[1] <= most,
    };
    let now = goal.now.unwrap_or(goal.end);
    let rest_goal = format!("≤ {now:.0} MiB now, ≤ {:.0} in the end", goal.end);
    let load_goal = format!("≤ {MEMORY_AFTER_LOAD_MIB:.0} MiB in the end");
    Ok(vec![
        row("resident memory at rest", &at_rest, rest_goal, now),
        row(
            "resident memory after load",
            &after_load,
            load_goal,
            MEMORY_AFTER_LOAD_MIB,
        ),
    ])
}
