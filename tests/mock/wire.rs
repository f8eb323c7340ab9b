//! Connections: kept, HTTP/2, TLS, and the end of them all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use strait::mock::{Listen, Mock, Outcome, Script, Tls};

use super::client::*;

#[test]
fn keep_alive_serves_many_calls_on_one_connection() {
    let mock = mock("");
    let mut stream = connect(&mock);
    for _ in 0..20 {
        send(
            &mut stream,
            "POST",
            OPENAI,
            openai(true).to_string().as_bytes(),
        );
        assert_eq!(receive(&mut stream, Duration::from_secs(1)).status, 200);
    }
    assert_eq!(mock.counts().connections, 1);
    assert!(mock.calls().iter().all(|call| call.connection == 1));
}

#[test]
fn http2_with_prior_knowledge_is_spoken() {
    let mock = mock("[[rule]]\nsteps = [{}, {cut_after = 1}]");
    let mut stream = connect(&mock);
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let (body, end) = http2(&mut stream, OPENAI, &openai(false));
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap()["object"],
        "chat.completion"
    );
    assert_eq!(end, Http2End::Stream);
    let call = until(&mock, Outcome::Complete);
    assert_eq!((call.http_version, call.problems), ("HTTP/2.0", Vec::new()));
    let mut stream = connect(&mock);
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let (body, end) = http2(&mut stream, OPENAI, &openai(true));
    assert_eq!(end, Http2End::Reset, "{}", String::from_utf8_lossy(&body));
    until(&mock, Outcome::Cut);
}

#[derive(Debug, PartialEq, Eq)]
enum Http2End {
    Stream,
    Reset,
}

/// Says one request in HTTP/2 frames, and returns the data of the answer.
fn http2(stream: &mut (impl Read + Write), path: &str, body: &Value) -> (Vec<u8>, Http2End) {
    let frame = |kind: u8, flags: u8, id: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, id], payload].concat()
    };
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "mock"),
        ("content-type", "application/json"),
        ("authorization", "Bearer k"),
    ] {
        // Literal, without indexing, not compressed.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(4, 0, 0, &[]));
    sent.extend(frame(1, 4, 1, &block));
    sent.extend(frame(0, 1, 1, body.to_string().as_bytes()));
    stream.write_all(&sent).unwrap();
    let mut data = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        match head[3] {
            0 => data.extend(payload),
            3 => return (data, Http2End::Reset),
            4 if head[4] & 1 == 0 => stream.write_all(&frame(4, 1, 0, &[])).unwrap(),
            _ => {}
        }
        if head[3] <= 1 && head[4] & 1 == 1 {
            return (data, Http2End::Stream);
        }
    }
}

#[test]
fn tls_offers_both_versions() {
    use std::sync::Arc;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring,
    };

    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = Tls::from_pem(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
    let mock = Mock::start_on(
        Listen {
            tls: Some(tls),
            threads: 2,
            ..Listen::default()
        },
        Script::default(),
    )
    .unwrap();
    assert!(mock.url().starts_with("https://127.0.0.1:"));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(made.cert.der().to_vec()))
        .unwrap();
    let connect_tls = |alpn: &[&[u8]]| {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let session =
            ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap())
                .unwrap();
        let stream = connect(&mock);
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        StreamOwned::new(session, stream)
    };
    let mut stream = connect_tls(&[b"http/1.1"]);
    send(
        &mut stream,
        "POST",
        OPENAI,
        openai(false).to_string().as_bytes(),
    );
    assert_eq!(
        receive(&mut stream, Duration::from_secs(2)).json()["object"],
        "chat.completion"
    );
    let mut stream = connect_tls(&[b"h2", b"http/1.1"]);
    let (body, _) = http2(&mut stream, ANTHROPIC, &anthropic(false));
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap()["type"],
        "message"
    );
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    let versions: Vec<(&str, bool)> = mock
        .calls()
        .iter()
        .map(|call| (call.http_version, call.tls))
        .collect();
    assert_eq!(versions, [("HTTP/1.1", true), ("HTTP/2.0", true)]);
}

#[test]
fn a_stopped_mock_refuses_and_drops_its_connections() {
    let mock = one("stall_head = true");
    let addr = mock.addr;
    let mut stream = connect(&mock);
    send(
        &mut stream,
        "POST",
        OPENAI,
        openai(false).to_string().as_bytes(),
    );
    until(&mock, Outcome::InProgress);
    drop(mock);
    let mut rest = Vec::new();
    assert!(
        !matches!(stream.read_to_end(&mut rest), Ok(length) if length > 0),
        "no answer came"
    );
    assert!(TcpStream::connect(addr).is_err(), "nobody listens");
}
