//! `strait explain`: a dry run of routing for the request on standard input.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{self, Source};
use crate::gateway::explain;
use crate::server;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file; searched for as by `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// More than this on standard input is not a request.
const MOST_INPUT: u64 = 64 << 20;

pub fn run(args: Args) -> ExitCode {
    match explained(args) {
        Ok(text) => {
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn explained(args: Args) -> Result<String, String> {
    let env = |name: &str| std::env::var(name).ok();
    let source = args.config.map_or(Source::Search, Source::File);
    let loaded = config::load(&source, &env).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let mut body = Vec::new();
    std::io::stdin()
        .take(MOST_INPUT)
        .read_to_end(&mut body)
        .map_err(|error| format!("standard input: {error}"))?;
    let now = server::dry(Arc::new(loaded.snapshot));
    let explained = explain::explain(&now, &body).map_err(|error| error.to_string())?;
    serde_json::to_string_pretty(&explained)
        .map(|text| text + "\n")
        .map_err(|error| error.to_string())
}
