//! `strait mock`: runs the fake provider.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::mock::{Listen, Mock, Script, Tls};

/// Runs a scriptable fake provider, to try applications and gateways with.
///
/// It answers every protocol that the gateway speaks to providers, as its script says. It keeps all that it is sent, credentials
/// included, and shows it to anyone who asks for GET /_calls: never point it at real traffic.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// What to answer: TOML, or JSON where the name ends in .json (conf/mock-example.toml shows every key)
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Certificate chain (PEM); makes it speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Threads, each with its own share of the connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// Runs until the process is ended.
pub fn run(args: Args) -> ExitCode {
    match start(args) {
        Ok(mock) => {
            let url = mock.url();
            say(&format!(
                "fake provider on {url}; GET {url}/_calls tells what it was sent"
            ));
            mock.wait();
            ExitCode::SUCCESS
        }
        Err(message) => {
            say(&format!("mock: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> Result<Mock, String> {
    let script = match &args.script {
        Some(file) => Script::load(file).map_err(|error| error.to_string())?,
        None => Script::default(),
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificates), Some(key)) => {
            Some(Tls::load(certificates, key).map_err(|error| error.to_string())?)
        }
        (None, _) | (_, None) => None,
    };
    let listen = Listen {
        addr: args.listen,
        tls,
        threads: usize::from(args.threads),
    };
    Mock::start_on(listen, script).map_err(|error| format!("{}: {error}", args.listen))
}

/// Writes a line to stderr; nothing can be done where that fails.
fn say(line: &str) {
    let _unheard = writeln!(std::io::stderr(), "{line}");
}
