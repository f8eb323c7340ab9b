//! `strait usage`: what was used and what it cost, as a table.

use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, Client, encoded};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    whom: client::Args,
    /// From when: a date, RFC 3339, or seconds since 1970. Default: a day before the end.
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// Until when. Default: now.
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
    #[arg(long, value_name = "minute|hour|day|month", default_value = "day")]
    resolution: String,
    /// Where days begin, such as Europe/Berlin. Default: UTC.
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Parted by commas: org, team, project, key, user, session, tag, model_requested, model, provider, endpoint,
    /// error, cache, state, status, shadow.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    by: Vec<String>,
    /// Only rows of this value, such as key=team-a; may be given several times.
    #[arg(long = "only", value_name = "NAME=VALUE")]
    only: Vec<String>,
    /// Print CSV, with every zero.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print the answer as it comes.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> ExitCode {
    match told(args) {
        Ok(text) => match std::io::stdout().write_all(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn told(args: Args) -> Result<Vec<u8>, String> {
    let mut path = format!("/admin/v1/usage?resolution={}", encoded(&args.resolution));
    let by = (!args.by.is_empty()).then(|| args.by.join(","));
    for (name, value) in [
        ("start", &args.start),
        ("end", &args.end),
        ("timezone", &args.timezone),
        ("group_by", &by),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    for only in &args.only {
        let (name, value) = only
            .split_once('=')
            .ok_or_else(|| format!("--only {only}: write NAME=VALUE"))?;
        path.push_str(&format!("&{}={}", encoded(name), encoded(value)));
    }
    if args.csv {
        path.push_str("&format=csv");
    }
    let body = Client::new(args.whom)?.get(&path)?.success()?;
    if args.csv || args.json {
        return Ok(body);
    }
    let usage = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    Ok(table(&usage).into_bytes())
}

const NUMBERS: [&str; 6] = [
    "requests",
    "errors",
    "input",
    "output",
    "cost_usd",
    "saved_usd",
];

/// Returns a table of what is not zero, with a line for all of it.
fn table(usage: &Value) -> String {
    let list = |name: &str| usage[name].as_array().cloned().unwrap_or_default();
    let groups: Vec<String> = list("group_by").iter().map(shown).collect();
    let mut head = vec!["time".to_owned()];
    head.extend(groups.iter().cloned());
    head.extend(NUMBERS.map(str::to_owned));
    let mut lines = vec![head];
    for point in list("data") {
        if point["requests"] == 0 {
            continue;
        }
        let names = groups.iter().map(|name| match shown(&point[name]) {
            empty if empty.is_empty() => "-".to_owned(),
            value => value,
        });
        let numbers = NUMBERS.iter().map(|name| shown(&point[*name]));
        let time = std::iter::once(shown(&point["time"]));
        lines.push(time.chain(names).chain(numbers).collect());
    }
    let mut total = vec!["total".to_owned()];
    total.extend(groups.iter().map(|_| String::new()));
    total.extend(NUMBERS.iter().map(|name| shown(&usage["total"][*name])));
    lines.push(total);
    let left = groups.len() + 1;
    aligned(&lines, left)
}

fn shown(value: &Value) -> String {
    // What users write must not move the cursor of who reads it.
    let clean = |text: &str| text.replace(char::is_control, "\u{fffd}");
    value.as_str().map_or_else(|| value.to_string(), clean)
}

/// Returns lines whose first `left` columns begin, and whose others end, below each other.
fn aligned(lines: &[Vec<String>], left: usize) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, width))| {
                if column < left {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_shows_what_is_not_zero_and_the_total() {
        let point = |time: &str, model: &str, requests: u64| {
            json!({
                "time": time, "model": model, "requests": requests, "errors": 0, "input": 10, "output": 2,
                "cost_usd": "0.5", "saved_usd": "0",
            })
        };
        let usage = json!({
            "group_by": ["model"],
            "data": [point("t1", "a\u{1b}[2J", 3), point("t2", "b", 0), point("t3", "", 12)],
            "total": {"requests": 15, "errors": 0, "input": 20, "output": 4, "cost_usd": "1", "saved_usd": "0"},
        });
        let expected = "\
time   model  requests  errors  input  output  cost_usd  saved_usd
t1     a\u{fffd}[2J         3       0     10       2       0.5          0
t3     -            12       0     10       2       0.5          0
total               15       0     20       4         1          0
";
        assert_eq!(table(&usage), expected);
    }
}
