//! An HTTP/2 client over TLS, chosen by ALPN.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Answer;

const MOST: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct H2 {
    send: SendRequest<Bytes>,
}

/// Opens a TLS connection.
pub async fn tls(
    addr: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, socket).await
}

impl H2 {
    pub async fn connect(addr: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let stream = tls(addr, config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            // Its end is seen by each of its streams.
            let _ = connection.await;
        });
        Self { send }
    }

    /// Begins a request; the body is to be sent.
    pub async fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let uri = format!("https://localhost{path}");
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await.unwrap();
        send.send_request(request.body(()).unwrap(), false).unwrap()
    }

    /// Posts `body`, and reads the whole answer, which may come before the body was sent.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let (answer, stream) = self.begin("POST", path, headers).await;
        give(stream, body.into()).await;
        whole(answer).await
    }
}

/// Sends as much of a body as is taken.
pub async fn give(mut stream: SendStream<Bytes>, mut body: Bytes) {
    if body.is_empty() {
        let _ = stream.send_data(body, true);
        return;
    }
    while !body.is_empty() {
        stream.reserve_capacity(body.len().min(1 << 20));
        let capacity = tokio::time::timeout(MOST, poll_fn(|cx| stream.poll_capacity(cx))).await;
        let Some(Ok(room)) = capacity.expect("the body is taken in time") else {
            return;
        };
        let piece = body.split_to(room.min(body.len()));
        if stream.send_data(piece, body.is_empty()).is_err() {
            return;
        }
    }
}

pub async fn head(answer: ResponseFuture) -> (Answer, RecvStream) {
    let answer = tokio::time::timeout(MOST, answer)
        .await
        .expect("an answer in time")
        .unwrap();
    let (parts, body) = answer.into_parts();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (
        Answer {
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: Vec::new(),
            complete: false,
        },
        body,
    )
}

pub async fn whole(answer: ResponseFuture) -> Answer {
    let (mut answer, mut body) = head(answer).await;
    while let Some(piece) = piece(&mut body).await {
        answer.body.extend(piece);
    }
    answer.complete = true;
    answer
}

pub async fn piece(body: &mut RecvStream) -> Option<Bytes> {
    let piece = tokio::time::timeout(MOST, body.data())
        .await
        .expect("a piece in time")?
        .unwrap();
    body.flow_control().release_capacity(piece.len()).unwrap();
    Some(piece)
}
