use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use pingora::protocols::l4::stream::Stream as L4;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Head;
use super::plain::{Broken, Plain};
use crate::codec::splice::{Edits, Pieces};

/// A provider that says what it was given, piece by piece, and then closes.
#[derive(Debug)]
struct Script {
    says: VecDeque<Vec<u8>>,
    heard: Arc<Mutex<Vec<u8>>>,
    /// Takes so much at once.
    takes: usize,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.says.pop_front() else {
            return Poll::Ready(Ok(()));
        };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        if !rest.is_empty() {
            self.says.push_front(rest);
        }
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = buf.len().min(self.takes);
        self.heard.lock().extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl VirtualSocket for Script {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

const REST: Duration = Duration::from_secs(50);

fn plain(pieces: &[&[u8]], takes: usize) -> (Plain, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let script = Script {
        says: pieces.iter().map(|piece| piece.to_vec()).collect(),
        heard: heard.clone(),
        takes,
    };
    let stream = L4::from(VirtualSocketStream::new(Box::new(script)));
    let address = ([127, 0, 0, 1], 1).into();
    (Plain::new(Box::new(stream), address, REST), heard)
}

/// What comes of an answer: status, headers, body, and how long the connection may rest.
#[derive(Debug, PartialEq)]
struct Told {
    status: u16,
    kind: Option<String>,
    body: Vec<u8>,
    rest: Option<Duration>,
}

async fn told(pieces: &[&[u8]], bare: bool) -> Result<Told, Broken> {
    let (mut plain, _) = plain(pieces, usize::MAX);
    plain.read_head(bare).await?;
    let kind = plain.head.headers.get("content-type");
    let kind = kind.map(|kind| kind.to_str().unwrap().to_owned());
    let mut body = Vec::new();
    while let Some(piece) = plain.read().await? {
        assert!(!piece.is_empty());
        body.extend_from_slice(&piece);
    }
    Ok(Told {
        status: plain.head.status.as_u16(),
        kind,
        body,
        rest: plain.into_rest().map(|(_, _, rest)| rest),
    })
}

/// Answers, what is in them, and whether the connection can be used again.
const ANSWERS: &[(&str, u16, &str, Option<u64>)] = &[
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        200,
        "hello",
        Some(50),
    ),
    (
        "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
        200,
        "hello",
        Some(50),
    ),
    (
        "HTTP/1.1 200 OK\ncontent-length:5\n\nhello",
        200,
        "hello",
        Some(50),
    ),
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        200,
        "hello",
        Some(50),
    ),
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
        200,
        "hello",
        Some(50),
    ),
    (
        "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        500,
        "",
        Some(50),
    ),
    ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", Some(50)),
    (
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
        304,
        "",
        Some(50),
    ),
    // More than was announced: whose is it?
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhello",
        200,
        "he",
        None,
    ),
    ("HTTP/1.1 204 No Content\r\n\r\nx", 204, "", None),
    // With the connection's end.
    ("HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello", None),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello",
        200,
        "hello",
        None,
    ),
    // How long the connection lives.
    (
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhe",
        200,
        "he",
        None,
    ),
    (
        "HTTP/1.1 200 OK\r\nconnection: x, CLOSE\r\ncontent-length: 2\r\n\r\nhe",
        200,
        "he",
        None,
    ),
    (
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhe",
        200,
        "he",
        None,
    ),
    (
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhe",
        200,
        "he",
        Some(50),
    ),
    (
        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=5, max=100\r\ncontent-length: 2\r\n\r\nhe",
        200,
        "he",
        Some(4),
    ),
    (
        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=500\r\ncontent-length: 2\r\n\r\nhe",
        200,
        "he",
        Some(50),
    ),
    // Chunks.
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        200,
        "hello",
        Some(50),
    ),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        200,
        "hello",
        Some(50),
    ),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n03 ; x=\"y\"\r\nllo\r\nA\r\n0123456789\r\n0;last\r\nx-a: b\r\nx-c: d\r\n\r\n",
        200,
        "hello0123456789",
        Some(50),
    ),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        200,
        "hello",
        None,
    ),
    (
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        200,
        "hello",
        None,
    ),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 400",
        200,
        "",
        None,
    ),
    // Informational ones come before.
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        200,
        "hello",
        Some(50),
    ),
];

#[tokio::test]
async fn an_answer_is_read_wherever_it_is_cut() {
    for (answer, status, body, rest) in ANSWERS {
        let expected = Told {
            status: *status,
            kind: None,
            body: body.as_bytes().to_vec(),
            rest: rest.map(Duration::from_secs),
        };
        for cut in 0..answer.len() {
            let (first, second) = answer.as_bytes().split_at(cut);
            let pieces: Vec<&[u8]> = [first, second]
                .into_iter()
                .filter(|p| !p.is_empty())
                .collect();
            let mut told = told(&pieces, false).await.unwrap();
            // What comes too late to be read at all says nothing of the connection here; it is found when it is used.
            if rest.is_none() && told.rest.is_some() && cut >= answer.len() - 12 {
                told.rest = None;
            }
            assert_eq!(told, expected, "{answer:?} cut at {cut}");
        }
        let bytes: Vec<&[u8]> = answer.as_bytes().chunks(1).collect();
        let told = told(&bytes, false).await.unwrap();
        assert_eq!(
            (told.status, told.body),
            (expected.status, expected.body),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\ncontent-type: text/x\r\n\r\n";
    let told = told(&[answer], true).await.unwrap();
    assert_eq!((told.body.len(), told.rest), (0, Some(REST)));
    assert_eq!(told.kind.as_deref(), Some("text/x"));
}

#[tokio::test]
async fn what_is_no_answer_is_refused() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let large = "x".repeat(300 << 10);
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(257));
    let cases = [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 099 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\na: {large}\r\n\r\n"),
        many,
        format!("{chunked}x\r\n"),
        format!("{chunked}fffffffffffffffff\r\n"),
        format!("{chunked}5\r\nhello!\r\n"),
        format!("{chunked}5;{}\r\n", &large[..10 << 10]),
        format!("{chunked}0\r\n{}", &large[..10 << 10]),
        format!("{chunked}0\r\n{}\r\n", "a: b\r\n".repeat(20_000)),
    ];
    for case in cases {
        for size in [case.len(), 4096] {
            let pieces: Vec<&[u8]> = case.as_bytes().chunks(size).collect();
            let outcome = told(&pieces, false).await;
            let shown = &case[..case.len().min(80)];
            assert!(
                matches!(outcome, Err(Broken::Garbage(_))),
                "{shown:?}: {outcome:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_is_no_whole_one() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let sized = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    for answer in [chunked, sized] {
        for end in 0..answer.len() {
            let pieces = [&answer.as_bytes()[..end]];
            let pieces = if end == 0 { &pieces[1..] } else { &pieces[..] };
            let outcome = told(pieces, false).await;
            assert!(matches!(outcome, Err(Broken::Closed)), "{end}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_request_arrives_whole_however_it_is_taken() {
    let accept = HeaderValue::from_static("*/*");
    let json = HeaderValue::from_static("application/json");
    let other = HeaderValue::from_static("text/plain");
    let x = HeaderName::from_static("x-a");
    let mut head = Head {
        method: &Method::POST,
        target: b"/v1/x?y=z",
        headers: vec![(&http::header::ACCEPT, &accept), (&x, &other)],
    };
    head.set(&x, &json);
    head.set(&http::header::CONTENT_TYPE, &json);
    let start = "POST /v1/x?y=z HTTP/1.1\r\naccept: */*\r\nx-a: application/json\r\ncontent-type: application/json\r\n\r\n";
    for size in [0, 1, 1000, 16 << 10, (16 << 10) + 1, 300_000] {
        let text = format!("{{\"model\":\"a\",\"b\":\"{}\"}}", "y".repeat(size));
        let body = Bytes::from(text.clone());
        let mut edits = Edits::new();
        edits.replace(9..12, &b"\"bcd\""[..]);
        edits.insert_member(&body, "c", b"1");
        let pieces = edits.apply_in_pieces(&body);
        let expected = text.replace("\"a\"", "\"bcd\"");
        let expected = format!("{start}{},\"c\":1}}", &expected[..expected.len() - 1]);
        assert_eq!(pieces.len() + start.len(), expected.len());
        for takes in [usize::MAX, 10_000, 700] {
            let (mut plain, heard) = plain(&[], takes);
            plain.send(&head, &pieces, REST).await.unwrap();
            assert_eq!(
                *heard.lock(),
                expected.as_bytes(),
                "{size}, {takes} at once"
            );
        }
    }
    let (mut plain, heard) = plain(&[], usize::MAX);
    let none = Pieces::from(Bytes::new());
    plain.send(&head, &none, REST).await.unwrap();
    assert_eq!(*heard.lock(), start.as_bytes());
}

proptest! {
    /// Whatever is said in chunks is read, wherever what carries them is cut.
    #[test]
    fn chunks_are_joined(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9000), 0..8),
        cuts in prop::collection::vec(1usize..5000, 1..40),
    ) {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            answer.extend_from_slice(chunk);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"0\r\n\r\n");
        let mut pieces = Vec::new();
        let mut rest = &answer[..];
        for cut in cuts {
            if rest.is_empty() {
                break;
            }
            let (piece, others) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = others;
        }
        if !rest.is_empty() {
            pieces.push(rest);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let told = runtime.block_on(told(&pieces, false)).unwrap();
        prop_assert_eq!(told.body, chunks.concat());
        prop_assert_eq!(told.rest, Some(REST));
    }
}
