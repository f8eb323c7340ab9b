//! The WebSocket, byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use strait::mock::{Api, Mock, Outcome};

use super::client::*;

fn open(mock: &Mock) -> (TcpStream, String) {
    let mut stream = connect(mock);
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream
        .write_all(
            b"GET /v1/realtime?model=rt HTTP/1.1\r\nhost: mock\r\nauthorization: Bearer k\r\nconnection: Upgrade\r\n\
              upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

fn send(stream: &mut TcpStream, first: u8, payload: &[u8]) {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    if payload.len() < 126 {
        frame.push(0x80 | payload.len() as u8);
    } else {
        frame.push(0x80 | 127);
        frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    frame.extend_from_slice(&mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    stream.write_all(&frame).unwrap();
}

fn receive(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            u16::from_be_bytes(length).into()
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length).unwrap();
            u64::from_be_bytes(length) as usize
        }
        short => short.into(),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

#[test]
fn a_socket_greets_echoes_and_closes() {
    let mock = mock("");
    let (mut stream, head) = open(&mock);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // The example of RFC 6455, section 1.3.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let (first, greeting) = receive(&mut stream);
    assert_eq!(first, 0x81);
    assert!(
        String::from_utf8(greeting)
            .unwrap()
            .contains("\"model\":\"rt\"")
    );
    for payload in [b"{}".to_vec(), vec![b'x'; 300], vec![b'y'; 100_000]] {
        send(&mut stream, 0x81, &payload);
        assert_eq!(receive(&mut stream), (0x81, payload));
    }
    send(&mut stream, 0x89, b"hey");
    assert_eq!(
        receive(&mut stream),
        (0x8a, b"hey".to_vec()),
        "a ping is answered"
    );
    // A text in two fragments.
    send(&mut stream, 0x01, b"a");
    assert_eq!(receive(&mut stream), (0x01, b"a".to_vec()));
    send(&mut stream, 0x80, b"b");
    assert_eq!(receive(&mut stream), (0x80, b"b".to_vec()));
    send(&mut stream, 0x88, &1000u16.to_be_bytes());
    assert_eq!(receive(&mut stream), (0x88, 1000u16.to_be_bytes().to_vec()));
    let call = until(&mock, Outcome::Complete);
    assert_eq!(
        (call.api, call.status, call.chunks_sent),
        (Some(Api::Realtime), 101, 5)
    );
    assert_eq!(call.model, "rt");
}

#[test]
fn a_socket_is_cut_or_refused_as_the_script_says() {
    let mock = one("cut_after = 1");
    let (mut stream, _) = open(&mock);
    receive(&mut stream);
    send(&mut stream, 0x81, b"a");
    assert_eq!(receive(&mut stream).1, b"a");
    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0, "closed after one");
    until(&mock, Outcome::Cut);
    let (_, head) = open(&one("status = 401"));
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
}

#[test]
fn a_frame_that_is_not_masked_is_an_error() {
    let mock = mock("");
    let (mut stream, _) = open(&mock);
    receive(&mut stream);
    stream.write_all(&[0x81, 1, b'x']).unwrap();
    assert_eq!(receive(&mut stream), (0x88, 1002u16.to_be_bytes().to_vec()));
}
