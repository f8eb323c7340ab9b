//! `strait check`: reads the whole configuration and says everything that is wrong with it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Loaded, Mistake, Snapshot, Source};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file. Without it: $STRAIT_CONFIG, ./strait.toml, /etc/strait/strait.toml, defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Fails after any mistake; warnings are only shown.
pub fn run(args: Args) -> ExitCode {
    let source = args.config.map_or(Source::Search, Source::File);
    let is_ok = check(&source, &config::environment, &mut std::io::stdout().lock());
    if is_ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Writes mistakes and warnings, a line each, then the summary; returns whether there was no mistake.
pub fn check(source: &Source, env: config::Env<'_>, out: &mut dyn Write) -> bool {
    let result = config::load(source, env);
    // Whoever reads may have gone (`strait check | head -1`); the exit code says it all the same.
    let _ = match &result {
        Ok(loaded) => write_ok(loaded, out),
        Err(mistakes) => write_mistakes(mistakes, out),
    };
    let _ = out.flush();
    result.is_ok()
}

fn write_ok(loaded: &Loaded, out: &mut dyn Write) -> std::io::Result<()> {
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(out, "{}", summary(&loaded.snapshot))
}

fn write_mistakes(mistakes: &[Mistake], out: &mut dyn Write) -> std::io::Result<()> {
    for mistake in mistakes {
        writeln!(out, "{mistake}")?;
    }
    writeln!(out, "{}", count(mistakes.len(), "mistake"))
}

/// Returns one line that says what the configuration amounts to.
pub fn summary(snapshot: &Snapshot) -> String {
    format!(
        "ok: {}, {}, {}; {} not enabled",
        count(snapshot.providers.len(), "provider"),
        count(snapshot.models.len(), "model"),
        count(snapshot.keys.len(), "key"),
        count(snapshot.disabled.len(), "catalogue provider"),
    )
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}
