//! `strait router`: makes and measures the models of the `smart` strategy.

mod chart;
mod report;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::routing::smart::measure::Curve;
use crate::routing::smart::rows::{self, Costs, Row};
use crate::routing::smart::{Classifier, DEFAULT, train};

use report::Group;

/// Makes and measures the models by which `smart` picks a tier.
///
/// Rows are JSON lines: {"prompt", "weak", "strong"} with the quality of both tiers' answers (and weak_cost,
/// strong_cost); or one answer each, {"prompt", "tier" or "model", "quality", "cost"}; or {"prompt", "label"} with weak
/// or strong. `messages` may stand for `prompt`; `set` names the set, and what stands before its / is measured apart.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Learns a model from outcomes. The same rows and seed give the same bytes.
    Train(Train),
    /// Prints what a model saves and keeps, with 95 % confidence intervals, against random routing.
    Eval(Eval),
}

#[derive(Debug, clap::Args)]
struct Train {
    /// Outcomes, as JSON lines
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to write the model; without it only the report is made
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Eval {
    /// Outcomes, as JSON lines
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The model; the one that is built in if not given
    #[arg(long, value_name = "FILE", conflicts_with = "cross_validate")]
    model: Option<PathBuf>,
    /// Measures the features and not a model: a fifth of the rows at a time is predicted from the others
    #[arg(long)]
    cross_validate: bool,
    /// Also draws the curves
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Of the folds and of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// What an answer of the weak tier costs, where a row does not tell
    #[arg(long, value_name = "COST", default_value_t = 0.05, value_parser = cost)]
    weak_cost: f64,
    /// What an answer of the strong tier costs, where a row does not tell
    #[arg(long, value_name = "COST", default_value_t = 1.0, value_parser = cost)]
    strong_cost: f64,
}

fn cost(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|cost: &f64| cost.is_finite() && *cost >= 0.0)
        .ok_or_else(|| "a cost is a number, 0 or more".to_owned())
}

/// Runs the subcommand.
pub fn run(args: Args) -> ExitCode {
    let done = match args.command {
        Command::Train(args) => learn(&args),
        Command::Eval(args) => evaluate(&args),
    };
    let written = done.and_then(|text| {
        std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| format!("standard output: {error}"))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _unheard = writeln!(std::io::stderr(), "router: {message}");
            ExitCode::FAILURE
        }
    }
}

fn learn(args: &Train) -> Result<String, String> {
    let rows = read(&args.files)?;
    let trained = train(&rows, args.common.seed).map_err(|error| error.message.into_owned())?;
    let groups = groups(&rows, &trained.held_out, &args.common);
    let mut text = report::learned(&trained);
    text.push_str("\nEach row predicted from the other folds:\n\n");
    text.push_str(&report::measures(&groups));
    if let Some(path) = &args.out {
        let bytes = trained.classifier.save();
        std::fs::write(path, &bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        text.push_str(&format!("\n{}: {} bytes\n", path.display(), bytes.len()));
    }
    Ok(text)
}

fn evaluate(args: &Eval) -> Result<String, String> {
    let rows = read(&args.files)?;
    let gains = if args.cross_validate {
        let trained = train(&rows, args.common.seed);
        trained
            .map_err(|error| error.message.into_owned())?
            .held_out
    } else {
        let model = model(args.model.as_ref())?;
        rows.iter().map(|row| model.gain(&row.prompt)).collect()
    };
    let groups = groups(&rows, &gains, &args.common);
    let mut text = report::measures(&groups);
    text.push_str(&report::curves(&groups, &args.common));
    if let Some(path) = &args.svg {
        std::fs::write(path, chart::draw(&groups))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(text)
}

fn model(path: Option<&PathBuf>) -> Result<Classifier, String> {
    let Some(path) = path else {
        return Classifier::load(DEFAULT).map_err(|error| error.message.into_owned());
    };
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Classifier::load(&bytes).map_err(|error| format!("{}: {}", path.display(), error.message))
}

fn read(files: &[PathBuf]) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for file in files {
        let name = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
        rows.extend(rows::read(&text).map_err(|error| format!("{name}: {}", error.message))?);
    }
    if rows.is_empty() {
        return Err("no rows".to_owned());
    }
    Ok(rows)
}

/// Parts the rows by set; where there are several, all together come last.
fn groups(rows: &[Row], gains: &[f32], common: &Common) -> Vec<Group> {
    let mut sets: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let set = row.set.split('/').next().unwrap_or_default();
        sets.entry(if set.is_empty() { "rows" } else { set })
            .or_default()
            .push(index);
    }
    let several = sets.len() > 1;
    let all = several.then(|| ("all", (0..rows.len()).collect()));
    let costs = Costs {
        weak: common.weak_cost,
        strong: common.strong_cost,
    };
    sets.into_iter()
        .chain(all)
        .map(|(name, indexes)| {
            let scores: Vec<f32> = indexes.iter().map(|index| gains[*index]).collect();
            let rows: Vec<&Row> = indexes.iter().map(|index| &rows[*index]).collect();
            Group::new(name, &rows, &scores, costs, common.seed)
        })
        .collect()
}

/// A router that knows nothing: every row has one score.
fn random(rows: &[&Row], costs: Costs) -> Curve {
    Curve::new(rows, &vec![0.0; rows.len()], costs)
}
