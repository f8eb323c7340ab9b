//! Listeners, the admin port, signals: the process around the gateway.

mod admin;
mod build;
mod caller;
mod control;
mod ledger;
mod objects;
mod openapi;
mod redis;
mod refresh;
mod reply;
pub mod routes;
mod share;
mod shared;
mod signin;
mod spent;
pub mod state;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::apps::http_app::HttpServer;
use pingora::listeners::ListenerConfig;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{
    RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, UnixShutdownSignalWatch,
};
use pingora::services::background::background_service;
use pingora::services::listening::Service;

use crate::config::{Snapshot, Store};
use crate::gateway::Gateway;
use crate::limit::overload::Queue;
use crate::secret::{self, Secret};

use build::Parts;
pub use build::dry;

/// Buffers of a client connection: enough for a head and a small answer in one write, small enough that ten thousand
/// idle streams fit. What is read is buffered for TLS alone, which reads a little at a time: HTTP reads as much as
/// there is.
const READ_BUFFER: usize = 8192;
const WRITE_BUFFER: usize = 16384;

/// The `[server]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub listen: Vec<String>,
    pub tls: Option<Tls>,
    /// Bytes.
    pub max_body: u64,
    /// The whole request body must arrive within this.
    pub body_timeout: Duration,
    /// Worker threads; 0 is one for each core.
    pub threads: usize,
    /// Serve without client keys on an address that is not loopback.
    pub open: bool,
    /// In-flight requests and streams get this long to end after SIGTERM.
    pub drain: Duration,
    /// Where this gateway is, as rules name it; may be empty.
    pub region: String,
    /// Requests in flight, at most; `None`: [`MOST_INFLIGHT`](crate::limit::overload::MOST_INFLIGHT).
    pub max_inflight: Option<u32>,
    /// Of those above it, and above a provider's.
    pub queue: Queue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The `[admin]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    pub listen: String,
    /// `None`: generated into the state directory at first start.
    pub token: Option<Secret>,
    /// Nobody is served without a key, even before the first is made over the administration API.
    pub keys: bool,
    /// How people sign in; `None`: they don't.
    pub oidc: Option<Arc<crate::signin::Settings>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:8080".into()],
            tls: None,
            max_body: 64 << 20,
            body_timeout: Duration::from_secs(60),
            threads: 0,
            open: false,
            drain: Duration::from_secs(30),
            region: String::new(),
            max_inflight: None,
            queue: Queue::default(),
        }
    }
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".into(),
            token: None,
            keys: false,
            oidc: None,
        }
    }
}

/// Serves until it is told to stop.
pub fn run(store: Arc<Store>, upgrade: bool) -> ExitCode {
    let snapshot = store.full();
    if let Err(error) = std::fs::create_dir_all(&snapshot.state_dir) {
        tracing::error!(dir = %snapshot.state_dir.display(), %error, "state.dir can't be made");
        return ExitCode::FAILURE;
    }
    let token = match admin_token(&snapshot) {
        Ok(token) => token,
        Err(error) => {
            tracing::error!(dir = %snapshot.state_dir.display(), %error, "the admin token can't be kept in state.dir");
            return ExitCode::FAILURE;
        }
    };
    if !upgrade && let Err((address, error)) = can_listen(&snapshot) {
        tracing::error!(address, %error, "can't listen there");
        return ExitCode::FAILURE;
    }
    let parts = match Parts::new(&snapshot) {
        Ok(parts) => parts,
        Err(error) => {
            tracing::error!(records = ?snapshot.records, %error, "records.to can't be opened");
            return ExitCode::FAILURE;
        }
    };
    let mut server = Server::new_with_opt_and_conf(
        Opt {
            upgrade,
            ..Opt::default()
        },
        process(&snapshot),
    );
    let phases = server.watch_execution_phase();
    if upgrade {
        // Pingora ends the process, and says nothing, where nobody comes.
        let socket = snapshot.state_dir.join("upgrade.sock");
        tracing::info!(
            socket = %socket.display(),
            "waiting for the running process to hand over its sockets: send it SIGQUIT; this one ends in 5 s if it doesn't"
        );
    }
    server.bootstrap();
    let mut proxy = pingora::proxy::ProxyServiceBuilder::new(
        &server.configuration,
        Gateway {
            core: parts.core.clone(),
        },
    )
    .name("strait")
    .server_options(options())
    .build();
    for address in &snapshot.server.listen {
        let read = snapshot.server.tls.as_ref().map_or(0, |_| READ_BUFFER);
        let buffers = L4BufferSettings::new(read, WRITE_BUFFER);
        let mut listener = ListenerConfig::tcp(address).l4_buffer(buffers);
        if let Some(tls) = &snapshot.server.tls {
            match tls_settings(tls) {
                Ok(settings) => listener = listener.tls(settings),
                Err(error) => {
                    tracing::error!(cert = %tls.cert.display(), %error, "server.tls can't be used");
                    return ExitCode::FAILURE;
                }
            }
        }
        proxy.add_listener(listener);
    }
    let control = control::Control::new(parts, store.clone(), phases);
    let mut admin = Service::new(
        "admin".to_owned(),
        HttpServer::new_app(admin::Admin::new(control.link(), token)),
    );
    admin.threads = Some(1);
    admin.add_tcp(&snapshot.admin.listen);
    server.add_service(proxy);
    server.add_service(admin);
    server.add_service(background_service(
        "catalogue",
        refresh::Refresh::new(control.link()),
    ));
    server.add_service(background_service(
        "issuers",
        build::Vouchers(control.link().core.issuers.clone()),
    ));
    server.add_service(background_service("control", control));
    server.run(RunArgs {
        shutdown_signal: Box::new(Stop),
    });
    ExitCode::SUCCESS
}

/// SIGQUIT hands the sockets over; SIGTERM and SIGINT stop gracefully. Pingora's fast way on SIGINT would lose records,
/// and now and then it never ends.
struct Stop;

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        match UnixShutdownSignalWatch.recv().await {
            ShutdownSignal::GracefulUpgrade => ShutdownSignal::GracefulUpgrade,
            ShutdownSignal::GracefulTerminate | ShutdownSignal::FastShutdown => {
                ShutdownSignal::GracefulTerminate
            }
        }
    }
}

fn options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(Duration::from_secs(300));
    options
}

/// Returns Pingora's own settings.
fn process(snapshot: &Snapshot) -> ServerConf {
    let threads = match snapshot.server.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let state = |name: &str| snapshot.state_dir.join(name).to_string_lossy().into_owned();
    ServerConf {
        threads,
        // Every thread its own runtime: as fast when idle, and 15 % cheaper when the machine is busy.
        work_stealing: false,
        upgrade_sock: state("upgrade.sock"),
        pid_file: state("strait.pid"),
        // The control service ends the process as soon as nothing is in flight; this is the bound.
        grace_period_seconds: Some(snapshot.server.drain.as_secs().max(1)),
        graceful_shutdown_timeout_seconds: Some(2),
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    }
}

fn tls_settings(tls: &Tls) -> pingora::Result<TlsSettings> {
    let mut settings =
        TlsSettings::intermediate(&tls.cert.to_string_lossy(), &tls.key.to_string_lossy())?;
    settings.enable_h2();
    Ok(settings)
}

/// Pingora panics where it can't listen: say it kindly first.
fn can_listen(snapshot: &Snapshot) -> Result<(), (String, std::io::Error)> {
    // Held until all are: two that are the same, or of which one covers the other, don't go together.
    let mut held = Vec::new();
    for address in snapshot
        .server
        .listen
        .iter()
        .chain([&snapshot.admin.listen])
    {
        let listener = std::net::TcpListener::bind(address.as_str());
        held.push(listener.map_err(|error| (address.clone(), error))?);
    }
    Ok(())
}

/// Returns the admin token: the configured one, or one made at the first start and kept in the state directory.
fn admin_token(snapshot: &Snapshot) -> std::io::Result<Secret> {
    if let Some(token) = &snapshot.admin.token {
        return Ok(token.clone());
    }
    let path = snapshot.state_dir.join("admin-token");
    if let Some(token) = read_token(&path)? {
        return Ok(token);
    }
    // What is empty says nothing: whoever emptied it, or a disk that was full, wants another one.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let token = secret::make(&path)?;
    tracing::info!(file = %path.display(), "made an admin token");
    Ok(token)
}

fn read_token(path: &Path) -> std::io::Result<Option<Secret>> {
    let mut text = String::new();
    match std::fs::File::open(path) {
        Ok(file) => file.take(4096).read_to_string(&mut text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = text.trim();
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}
