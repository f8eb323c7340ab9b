//! `strait serve`: loads the configuration and serves.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{self, Source, Store};
use crate::{observe, server};

#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// The configuration file. Without it: $STRAIT_CONFIG, ./strait.toml, /etc/strait/strait.toml, defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Takes the listening sockets over from the running process (send it SIGQUIT).
    #[arg(long)]
    upgrade: bool,
}

pub fn run(args: Args) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    let source = args.config.map_or(Source::Search, Source::File);
    let loaded = match config::load(&source, &env) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            observe::log::init("info");
            for mistake in &mistakes {
                tracing::error!("{mistake}");
            }
            tracing::error!(
                count = mistakes.len(),
                "the configuration has mistakes; not started"
            );
            return ExitCode::FAILURE;
        }
    };
    observe::log::init(&loaded.snapshot.log_level);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    server::run(Arc::new(Store::new(source, loaded.snapshot)), args.upgrade)
}
