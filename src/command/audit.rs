//! `strait audit verify`: whether the audit log is as it was written.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Source};
use crate::ledger::{self, audit};
use crate::state::Location;
use crate::state::database::FILE;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Checks every row against all before it, and the last one against the file in state.dir. Ends with 1 where a row
    /// was changed, removed or moved. The database is read itself: no gateway is asked.
    Verify {
        /// The configuration file; searched for as by `serve`.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

pub fn run(args: Args) -> ExitCode {
    let What::Verify { config } = args.what;
    match verified(config) {
        Ok(told) => match writeln!(std::io::stdout(), "{told}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn verified(config: Option<PathBuf>) -> Result<String, String> {
    let source = config.map_or(Source::Search, Source::File);
    let loaded = config::load(&source, &config::environment).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let snapshot = loaded.snapshot;
    if let Location::Dir(dir) = ledger::place(&snapshot.database)
        && !dir.join(FILE).exists()
    {
        return Err(format!("there is no {}", dir.join(FILE).display()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let verifying = audit::verify(&snapshot.database, &snapshot.state_dir);
    let unread = |error| format!("{}: {error}", snapshot.database.shown());
    let head = runtime.block_on(verifying).map_err(unread)?;
    match head {
        Ok(head) if head.count == 0 => Ok("ok: the audit log is empty".into()),
        Ok(head) => Ok(format!(
            "ok: {} rows; the last one's hash is {}",
            head.count, head.hash
        )),
        Err(flaw) => Err(format!("the audit log is not as it was written: {flaw}")),
    }
}
