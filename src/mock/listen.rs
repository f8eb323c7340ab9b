//! The listener and its connections, over HTTP/1.1, HTTP/2 and TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::realtime::Upgraded;
use super::server::{Shared, answer};
use super::wire::Wire;

const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Serves connections until `stop` changes or its sender is gone; then all of them are dropped.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, tls.clone(), shared.clone()));
                }
                // Out of file descriptors: waiting is all that helps.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
            _ = stop.changed() => return Ok(()),
        }
    }
}

/// One connection, as its requests see it.
#[derive(Debug)]
pub(super) struct Connection {
    pub number: u64,
    pub tls: bool,
    /// The script wants the TCP connection reset.
    pub reset: Arc<AtomicBool>,
    pub shared: Arc<Shared>,
    /// What goes on after the last request of HTTP: a WebSocket.
    pub upgraded: Mutex<Option<Upgraded>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared
            .calls
            .connections_open
            .fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(
    stream: TcpStream,
    _peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
) {
    shared
        .calls
        .connections_open
        .fetch_add(1, Ordering::Relaxed);
    let number = 1 + shared.calls.connections.fetch_add(1, Ordering::Relaxed);
    let reset = Arc::new(AtomicBool::new(false));
    let connection = Arc::new(Connection {
        number,
        tls: tls.is_some(),
        reset: reset.clone(),
        shared,
        upgraded: Mutex::default(),
    });
    if stream.set_nodelay(true).is_err() {
        return; // It is gone already.
    }
    match tls {
        None => {
            let is_h2 = speaks_h2(&stream).await;
            speak(Wire::new(stream, reset), is_h2, connection).await;
        }
        Some(acceptor) => {
            let handshake = acceptor.accept(Wire::new(stream, reset));
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, handshake).await else {
                return;
            };
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(stream, is_h2, connection).await;
        }
    }
}

/// Looks whether the client begins with HTTP/2's preface. No HTTP/1.1 method begins like it.
async fn speaks_h2(stream: &TcpStream) -> bool {
    const PREFACE: &[u8] = b"PRI ";
    let mut start = [0; PREFACE.len()];
    loop {
        let Ok(length) = stream.peek(&mut start).await else {
            return false;
        };
        if length == 0 || !PREFACE.starts_with(&start[..length]) {
            return false;
        }
        if length == PREFACE.len() {
            return true;
        }
        // A part of it: `peek` would return the same at once.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn speak(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_h2: bool,
    connection: Arc<Connection>,
) {
    let own = connection.clone();
    let service = hyper::service::service_fn(move |request| answer(connection.clone(), request));
    // How a connection ends is told call by call; its own error says nothing more.
    let _ended = if is_h2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(1024)
            .serve_connection(TokioIo::new(io), service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
            .await
    };
    let upgraded = own.upgraded.lock().take();
    if let Some(upgraded) = upgraded {
        upgraded.echo().await;
    }
}
