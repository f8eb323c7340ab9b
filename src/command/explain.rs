//! `strait explain`: a dry run of routing for the request on standard input.
//!
//! It knows what the configuration says, and nothing of what a running gateway has learnt: `POST /admin/v1/explain`
//! asks one.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::config::{self, Source};
use crate::gateway::explain::{self, Given};
use crate::server;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file; searched for as by `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Asks in the name of this key: its models and its constraints count.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Where the request would be posted, such as /v1/messages. Without it the body shows what it is, and is a chat
    /// as OpenAI's when it doesn't.
    #[arg(long, value_name = "PATH")]
    endpoint: Option<String>,
    /// A header of the request, as in `x-strait-constraints: region=eu`; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
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
    let given = Given {
        endpoint: args.endpoint.as_deref(),
        headers: args.headers.into_iter().collect(),
        key: args.key.as_deref(),
        directory: None,
    };
    let explained = explain::explain(&now, &body, given).map_err(|error| error.to_string())?;
    serde_json::to_string_pretty(&explained)
        .map(|text| text + "\n")
        .map_err(|error| error.to_string())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("must be a name and a value, with a colon between them")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|error| error.to_string())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}
