//! A scriptable fake provider: it speaks the upstream side of every protocol, and tells what it was sent.
//!
//! | paths | |
//! |---|---|
//! | `…/chat/completions`, `…/responses`, `…/completions` | OpenAI's, and Azure's `/openai/deployments/{model}/…`, `/openai/v1/…` |
//! | `…/messages`, `…/messages/count_tokens` | Anthropic's |
//! | `…/models/{model}:generateContent`, `:streamGenerateContent`, `:countTokens`, `:embedContent`, `:batchEmbedContents` | Gemini's, of Google AI and of Vertex; there `:predict`, and Anthropic's models by `:rawPredict` and `:streamRawPredict` too |
//! | `/model/{model}/converse`, `converse-stream`, `invoke`, `invoke-with-response-stream` | Bedrock's; by `invoke` Anthropic's bodies and embeddings of Titan's and Cohere's |
//! | `…/v2/chat`, `/v2/embed`, `/v2/rerank` | Cohere's |
//! | `…/api/chat`, `/api/embed`, `/api/tags` | Ollama's |
//! | `…/embeddings`, `/rerank`, `/moderations`, `/images/…`, `/audio/…`, `/files`, `/batches`, `/videos`, `/realtime`, `/models` | OpenAI's other APIs; `/realtime` is a WebSocket that echoes |
//!
//! All of it over HTTP/1.1, HTTP/2 with prior knowledge, and TLS with ALPN; and `GET /health`.
//!
//! What it answers is a [`Script`]: rules in order, each with a list of [`Behaviour`]s used call by call;
//! `conf/mock-example.toml` shows every key. Nothing given is a plain success, which echoes the last user text
//! (or calls the tool, or fills the schema, that the request forces); the files in `apis/` say what answers beside
//! chat are made of. The script can be replaced at run time:
//!
//! | request | |
//! |---|---|
//! | `GET /_script`, `POST /_script` | the script, as JSON; a new one begins every rule anew |
//! | `GET /_calls?path=&limit=&since=` | the calls in order: what came, what was wrong with it, how it ended |
//! | `GET /_calls/count` | `{count, in_progress, connections, connections_open, health_checks}` |
//! | `DELETE /_calls` | forgets them |
//!
//! Fast enough to feed a benchmark: 60,000 answers a second on one core, 96,000 in the best second, with other
//! work on the machine. A stream of 100 chunks costs the time of two or three such answers. Nearly all of it is
//! the kernel's and hyper's. Measured with `calls = false` and `[default] text = "…"` in `fixed.toml`, and a
//! `post.lua` that posts one short user message:
//!
//! ```text
//! taskset -c 0 strait mock --script fixed.toml &
//! taskset -c 1 wrk -t1 -c64 -d5s -s post.lua http://127.0.0.1:9100/v1/chat/completions
//! ```

mod admin;
mod answers;
mod anthropic;
mod apis;
mod bedrock;
mod body;
mod calls;
mod cohere;
mod credentials;
mod dialect;
mod google;
mod json;
mod listen;
mod ollama;
mod openai;
mod realtime;
mod request;
mod route;
mod rules;
mod script;
mod scripted;
mod server;
mod signatures;
mod strict;
mod upload;
mod values;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use calls::{Call, Counts, Outcome};
pub use dialect::Dialect;
pub use route::Api;
pub use script::{
    Behaviour, Cut, ErrorEvent, ErrorParts, HeaderMatch, Rule, Script, ScriptError, ToolCall,
};
pub use values::{Arguments, Headers, Numbers, Raw, Split, UsageSaid, Wait};

/// Where and how to listen.
pub struct Listen {
    /// Port 0 takes a free one.
    pub addr: SocketAddr,
    pub tls: Option<Tls>,
    /// Each with a runtime of its own.
    pub threads: usize,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            threads: 1,
        }
    }
}

/// A certificate chain and its key.
pub struct Tls(Arc<rustls::ServerConfig>);

impl Tls {
    /// Reads PEM files.
    pub fn load(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let fault = |file: &Path, error: &dyn std::fmt::Display| {
            TlsError(format!("{}: {error}", file.display()))
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect)
            .map_err(|error| fault(certificates, &error))?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &error))?;
        Self::new(chain, secret).map_err(|error| fault(certificates, &error))
    }

    /// Reads PEM texts.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificates.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| TlsError(format!("certificate: {error}")))?;
        let secret = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| TlsError(format!("key: {error}")))?;
        Self::new(chain, secret).map_err(|error| TlsError(error.to_string()))
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

/// Why a certificate can't be used.
#[derive(Debug)]
pub struct TlsError(String);

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// A running fake provider. Dropped, it stops, and all its connections with it.
pub struct Mock {
    pub addr: SocketAddr,
    is_tls: bool,
    shared: Arc<server::Shared>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Mock {
    /// Starts on a free port of the loopback address.
    pub fn start(script: Script) -> io::Result<Self> {
        Self::start_on(Listen::default(), script)
    }

    pub fn start_on(listen: Listen, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(listen.addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(server::Shared::new(script));
        let (stop, stopped) = watch::channel(false);
        let mut mock = Self {
            addr,
            is_tls: listen.tls.is_some(),
            shared,
            stop,
            threads: Vec::new(),
        };
        let acceptor = listen.tls.map(|tls| TlsAcceptor::from(tls.0));
        for number in 0..listen.threads.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let serving = listen::serve(
                listener.try_clone()?,
                acceptor.clone(),
                mock.shared.clone(),
                stopped.clone(),
            );
            let thread = std::thread::Builder::new()
                .name(format!("mock-{number}"))
                .spawn(move || {
                    // It fails only where the listener can't be registered; then nothing is accepted.
                    let _served = runtime.block_on(serving);
                })?;
            mock.threads.push(thread);
        }
        Ok(mock)
    }

    /// Returns the address as the start of a URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!(
            "{}://{}",
            if self.is_tls { "https" } else { "http" },
            self.addr
        )
    }

    /// Returns the calls that are kept, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.list(&calls::Filter::default())
    }

    pub fn counts(&self) -> Counts {
        self.shared.calls.counts()
    }

    pub fn clear_calls(&self) {
        self.shared.calls.clear();
    }

    /// Replaces the script; every rule begins with its first step.
    pub fn set_script(&self, script: Script) {
        self.shared.set_script(script);
    }

    /// Waits until it is stopped from elsewhere, which is: for ever.
    pub fn wait(mut self) {
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ended = thread.join();
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}
