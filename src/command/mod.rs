//! The command line: one file for each subcommand.

pub mod audit;
pub mod check;
pub mod client;
pub mod explain;
pub mod keys;
pub mod mock;
pub mod router;
pub mod serve;
pub mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An LLM gateway: every provider behind one API.
#[derive(Debug, Parser)]
#[command(
    name = "strait",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway (the default).
    Serve(serve::Args),
    /// Loads the configuration and prints every mistake.
    Check(check::Args),
    /// Runs a scriptable fake provider. It records everything that it is sent.
    Mock(mock::Args),
    /// Prints who would be asked for the request on standard input, and why. Nothing is sent.
    Explain(explain::Args),
    /// Makes and measures the models by which `smart` picks a tier.
    Router(router::Args),
    /// Makes keys and looks after them; asks the running gateway.
    Keys(keys::Args),
    /// Prints what was used and what it cost; asks the running gateway.
    Usage(usage::Args),
    /// Looks after the log of administrative actions.
    Audit(audit::Args),
}

/// Reads the arguments and runs the command.
pub fn run() -> ExitCode {
    let line = Line::parse();
    match line.command.unwrap_or(Command::Serve(line.serve)) {
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Mock(args) => mock::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Router(args) => router::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Usage(args) => usage::run(args),
        Command::Audit(args) => audit::run(args),
    }
}
