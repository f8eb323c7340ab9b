//! `strait check`: reads the whole configuration and says everything that is wrong with it.

use std::io::Write;
use std::path::PathBuf;

use crate::config::{self, Loaded, Mistake, Snapshot, Source};

/// Arguments of `strait check`.
#[derive(Debug, Clone, clap::Args)]
pub struct Check {
    /// The configuration file [default: $STRAIT_CONFIG, ./strait.toml, /etc/strait/strait.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Check {
    /// Runs the command; returns the exit code: 1 after any mistake.
    pub fn run(&self) -> u8 {
        self.write(&config::environment, &mut std::io::stdout().lock())
    }

    /// Writes mistakes and warnings, a line each, then the summary.
    pub fn write(&self, env: config::Env<'_>, out: &mut dyn Write) -> u8 {
        let source = self.config.clone().map_or(Source::Search, Source::File);
        let result = config::load(&source, env);
        // Whoever reads may have gone (`strait check | head -1`); the exit code says it all the same.
        let (code, _) = match &result {
            Ok(loaded) => (0, write_ok(loaded, out)),
            Err(mistakes) => (1, write_mistakes(mistakes, out)),
        };
        let _ = out.flush();
        code
    }
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
