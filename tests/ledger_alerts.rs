//! Who is told when so much of a budget is spent.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "ledger_parts/smtp.rs"]
mod smtp;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::{Strait, chat, eventually, mock};
use serde_json::Value;

/// What somebody was told: the path, the signature, and the body.
type Told = Arc<Mutex<Vec<(String, Option<String>, String)>>>;

/// Takes webhooks; refuses the first one as if it were busy.
fn receiver() -> (SocketAddr, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let told = Told::default();
    let own = told.clone();
    std::thread::spawn(move || {
        let mut busy = true;
        for stream in listener.incoming().flatten() {
            if let Some(one) = taken(stream, std::mem::take(&mut busy)) {
                own.lock().unwrap().push(one);
            }
        }
    });
    (address, told)
}

fn taken(mut stream: TcpStream, busy: bool) -> Option<(String, Option<String>, String)> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        said.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&said).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned())
        };
        if body.len() < header("content-length")?.parse().ok()? {
            continue;
        }
        let status = if busy { "503 Busy" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).ok()?;
        let path = head.split(' ').nth(1)?.to_owned();
        return (!busy).then(|| (path, header("x-strait-signature"), body.to_owned()));
    }
}

#[test]
fn each_threshold_is_told_once_signed_and_again_where_the_first_try_was_refused() {
    let mock = mock(
        "[[rule]]\nsteps = [{ text = \"hello\", usage = { prompt_tokens = 1000, completion_tokens = 1000 } }]\n",
    );
    let (address, told) = receiver();
    let config = format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}/v1\"\nkey = \"k\"\nprice = {{ in = 100.0, out = 100.0 }}\n\
         [[keys]]\nname = \"team-a\"\nkey = \"key-of-team-a\"\nbudget = {{ usd = 1.0, every = \"day\" }}\n\
         [alerts]\nwebhook = \"http://{address}/hook?token=secret-of-the-url\"\nsecret = \"secret-of-the-alerts\"\n\
         slack = \"http://{address}/slack\"\npercent = [50]\nusd = [0.7]\n",
        mock.url()
    );
    let strait = Strait::start(&config);
    let mut body = chat("lab/x", "hi");
    body["max_tokens"] = 1000.into();
    let bearer = [("authorization", "Bearer key-of-team-a")];
    let mut answered = 0;
    // 0.2 USD each: over 0.5 with the third, over 0.7 with the fourth.
    for _ in 0..6 {
        let answer =
            strait
                .client()
                .post("/v1/chat/completions", &bearer, body.to_string().as_bytes());
        answered += usize::from(answer.status == 200);
    }
    assert!(answered >= 4, "{answered}");
    eventually("two thresholds, each told to two", || {
        told.lock().unwrap().len() >= 4
    });
    eventually("they are counted", || {
        strait.metric("strait_alerts_total", &["outcome=\"sent\""]) == 2.0
    });
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 4, "{told:#?}");
    let mut thresholds = Vec::new();
    for (path, signature, body) in &told {
        let json: Value = serde_json::from_str(body).unwrap();
        if path == "/slack" {
            assert!(json["text"].as_str().unwrap().contains("team-a"), "{body}");
            assert_eq!(*signature, None);
            continue;
        }
        assert_eq!(path, "/hook?token=secret-of-the-url");
        assert_eq!(json["budget_usd"], "1");
        assert_eq!(json["every"], "day");
        thresholds.push(json["threshold"].to_string());
        let signature = signature.as_ref().unwrap();
        let (time, mac) = signature.split_once(",v1=").unwrap();
        let seconds = time.strip_prefix("t=").unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret-of-the-alerts");
        let tag = ring::hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
        let expected: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(mac, expected);
    }
    thresholds.sort();
    assert_eq!(
        thresholds,
        [
            "{\"kind\":\"percent\",\"value\":50}",
            "{\"kind\":\"usd\",\"value\":\"0.7\"}"
        ]
    );
    let log = strait.log();
    assert!(log.contains("tried again"), "{log}");
    for secret in ["secret-of-the-url", "secret-of-the-alerts"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
