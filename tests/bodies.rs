//! Request bodies over HTTP/1.1: every size, both framings, what is refused and how, and connections that are kept.

mod common;

use common::dialect::Dialect;
use common::provider::Provider;
use common::wire::{Wire, chunked, head_of};
use common::{Strait, mock};

type Headers<'a> = &'a [(&'a str, &'a str)];

/// A body of about `size` bytes that no JSON library would write so: what arrives must be what was sent, byte for
/// byte, but for the model.
fn odd(dialect: Dialect, size: usize) -> String {
    let start = "{ \"zeta\" : [1.50e+3, {\"b\":1,\"a\":2, \"b\\u0032\": null}],\r\n\t\"model\" :  \"lab/x\" ,\"temperature\":1.00,";
    let middle = match dialect {
        Dialect::OpenAi => "\"messages\":[{ \"content\":\"",
        Dialect::Anthropic => "\"max_tokens\":  100,\"messages\":[{ \"content\":\"",
    };
    let end = "\",\"role\":\"user\" , \"own_field\":{} } ]\n , \"alpha\":\"\\u00e9\\/é\"   }";
    let fill = "é\\u00e9 \\\"q\\\" ";
    let room = size.saturating_sub(start.len() + middle.len() + end.len());
    format!(
        "{start}{middle}{}{}{end}",
        fill.repeat(room / fill.len()),
        "x".repeat(room % fill.len())
    )
}

fn arrives(body: &str) -> Vec<u8> {
    assert_eq!(body.matches("\"lab/x\"").count(), 1);
    body.replace("\"lab/x\"", "\"x\"").into_bytes()
}

fn keeping(server: &str) -> (Strait, Provider) {
    let provider = Provider::keeping();
    let config = format!(
        "[providers.lab]\nprotocols = [\"openai-chat\", \"anthropic\"]\nbase_url = \"{}\"\nkey = \"lab-key\"\n",
        provider.url()
    );
    (Strait::start_with(&config, server, &[]), provider)
}

#[test]
fn bodies_of_every_size_arrive_byte_for_byte() {
    let (strait, provider) = keeping("");
    for dialect in Dialect::ALL {
        for size in [1 << 10, 60 << 10, 1 << 20, 40 << 20] {
            let body = odd(dialect, size);
            assert_eq!(body.len(), size);
            let sent: [(&str, &str, Vec<u8>); 2] = [
                (
                    "content-length",
                    &size.to_string(),
                    body.clone().into_bytes(),
                ),
                (
                    "transfer-encoding",
                    "chunked",
                    chunked(body.as_bytes(), (size / 7).min(100_000)),
                ),
            ];
            for (name, value, bytes) in sent {
                let mut wire = Wire::open(strait.addr);
                let head = head_of(
                    "POST",
                    dialect.path(),
                    &[("content-type", "application/json"), (name, value)],
                );
                wire.send(head.as_bytes()).unwrap();
                wire.send(&bytes).unwrap();
                let answer = wire.answer().unwrap();
                let case = format!("{dialect:?}, {size} bytes, {name}");
                assert_eq!(answer.status, 200, "{case}: {}", answer.text());
                assert_eq!(dialect.said(&answer).text, "taken", "{case}");
                let got = provider.take();
                assert_eq!(got.len(), 1, "{case}");
                assert_eq!(got[0].path, dialect.path(), "{case}");
                // Not `assert_eq`: nobody wants to read 40 MiB.
                assert!(
                    got[0].body == arrives(&body),
                    "{case}: another body arrived, of {} bytes",
                    got[0].body.len()
                );
            }
        }
    }
}

#[test]
fn a_body_in_many_small_pieces_arrives_whole() {
    let (strait, provider) = keeping("");
    let body = odd(Dialect::OpenAi, 600);
    let mut wire = Wire::open(strait.addr);
    let head = head_of(
        "POST",
        "/v1/chat/completions",
        &[("transfer-encoding", "chunked")],
    );
    for piece in [head.as_bytes(), &chunked(body.as_bytes(), 9)]
        .concat()
        .chunks(13)
    {
        wire.send(piece).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(wire.answer().unwrap().status, 200);
    assert!(provider.take()[0].body == arrives(&body));
}

#[test]
fn a_client_that_expects_100_continue_gets_it_before_it_sends_the_body() {
    let (strait, provider) = keeping("max_body = \"1MiB\"");
    let body = odd(Dialect::OpenAi, 60 << 10);
    let mut wire = Wire::open(strait.addr);
    for _ in 0..2 {
        let length = body.len().to_string();
        let headers = [
            ("expect", "100-continue"),
            ("content-length", length.as_str()),
        ];
        wire.send(head_of("POST", "/v1/chat/completions", &headers).as_bytes())
            .unwrap();
        assert_eq!(wire.head().unwrap().status, 100);
        wire.send(body.as_bytes()).unwrap();
        assert_eq!(wire.answer().unwrap().status, 200);
        assert!(provider.take()[0].body == arrives(&body));
    }
    // What would be refused anyway is never asked for.
    let headers = [("expect", "100-continue"), ("content-length", "5000000")];
    wire.send(head_of("POST", "/v1/chat/completions", &headers).as_bytes())
        .unwrap();
    assert_eq!(wire.answer().unwrap().status, 413);
}

#[test]
fn a_body_that_is_too_large_is_refused_in_the_dialect_and_the_answer_is_seen() {
    let (strait, provider) = keeping("max_body = \"1MiB\"");
    for dialect in Dialect::ALL {
        let refused = |answer: &common::Answer, case: &str| {
            assert_eq!(answer.status, 413, "{case}: {}", answer.text());
            assert!(
                dialect.error(&answer.json()).is_some(),
                "{case}: {}",
                answer.text()
            );
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{case}");
        };
        // Announced: answered before a byte of the body was sent.
        let mut wire = Wire::open(strait.addr);
        wire.send(head_of("POST", dialect.path(), &[("content-length", "1048577")]).as_bytes())
            .unwrap();
        refused(&wire.answer().unwrap(), "announced, nothing sent");
        // Announced, and sent all the same, before anything is read.
        let body = odd(dialect, 20 << 20);
        let mut wire = Wire::open(strait.addr);
        let length = body.len().to_string();
        wire.send(
            head_of(
                "POST",
                dialect.path(),
                &[("content-length", length.as_str())],
            )
            .as_bytes(),
        )
        .unwrap();
        wire.send(body.as_bytes()).unwrap();
        refused(&wire.answer().unwrap(), "announced and sent");
        // Chunked: found while reading.
        let mut wire = Wire::open(strait.addr);
        wire.send(head_of("POST", dialect.path(), &[("transfer-encoding", "chunked")]).as_bytes())
            .unwrap();
        wire.send(&chunked(body.as_bytes(), 50_000)).unwrap();
        refused(&wire.answer().unwrap(), "chunked");
        // As large as is allowed.
        let mut wire = Wire::open(strait.addr);
        assert_eq!(
            wire.post(dialect.path(), odd(dialect, 1 << 20).as_bytes())
                .status,
            200
        );
    }
    assert_eq!(provider.take().len(), 2);
}

#[test]
fn a_body_that_never_arrives_is_answered_408() {
    let (strait, provider) = keeping("body_timeout = \"300ms\"");
    for dialect in Dialect::ALL {
        let starts: [(Headers<'_>, &[u8]); 3] = [
            (&[("content-length", "1000")], b""),
            (&[("content-length", "1000")], b"{\"model\":"),
            (&[("transfer-encoding", "chunked")], b"9\r\n{\"model\":\r\n"),
        ];
        for (headers, start) in starts {
            let mut wire = Wire::open(strait.addr);
            wire.send(&[head_of("POST", dialect.path(), headers).as_bytes(), start].concat())
                .unwrap();
            let answer = wire.answer().unwrap();
            assert_eq!(answer.status, 408, "{}", answer.text());
            assert!(dialect.error(&answer.json()).is_some(), "{}", answer.text());
        }
    }
    assert!(provider.take().is_empty());
}

#[test]
fn what_is_not_a_request_is_refused_by_name_and_asked_of_nobody() {
    let (strait, provider) = keeping("");
    let deep = format!(
        "{{\"model\":\"lab/x\",\"messages\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let deep_objects = format!(
        "{{\"model\":\"lab/x\",\"metadata\":{}",
        "{\"a\":".repeat(300_000)
    );
    let table: [(&str, &str, &str); 13] = [
        ("ten bytes", r#"{"a":1234}"#, "model"),
        ("nothing", "", ""),
        ("no JSON", "hello, there", "JSON"),
        ("cut", r#"{"model":"lab/x","messages":[{"role":"us"#, ""),
        (
            "more behind it",
            r#"{"model":"lab/x","messages":[{"role":"user","content":"a"}],"max_tokens":1} {}"#,
            "",
        ),
        ("no object", r#"["model"]"#, "object"),
        (
            "no UTF-8 escape",
            r#"{"model":"lab/x","messages":[{"role":"user","content":"\x41"}],"max_tokens":1}"#,
            "",
        ),
        ("deep lists", &deep, "deep"),
        ("deep objects", &deep_objects, "deep"),
        (
            "a key twice",
            r#"{"model":"lab/x","messages":[],"max_tokens":1,"model":"lab/y"}"#,
            "model",
        ),
        (
            "a key twice, with escapes",
            r#"{"model":"lab/x","messages":[],"max_tokens":1,"\u006dodel":"lab/y"}"#,
            "model",
        ),
        (
            "another key twice",
            r#"{"model":"lab/x","messages":[],"max_tokens":1,"tools":[],"tool\u0073":[]}"#,
            "tools",
        ),
        (
            "a model that is no text",
            r#"{"model":7,"messages":[{"role":"user","content":"a"}],"max_tokens":1}"#,
            "model",
        ),
    ];
    for dialect in Dialect::ALL {
        // One connection for all: a refusal must not cost the client its connection.
        let mut wire = Wire::open(strait.addr);
        for (name, body, told) in table {
            let answer = wire.post(dialect.path(), body.as_bytes());
            let case = format!("{dialect:?}, {name}: {}", answer.text());
            assert_eq!(answer.status, 400, "{case}");
            let message = dialect.error(&answer.json());
            assert!(
                message.is_some_and(|message| message.contains(told)),
                "{case}"
            );
        }
        let answer = wire.post(dialect.path(), odd(dialect, 1000).as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(
        provider.take().len(),
        2,
        "only what was a request was asked"
    );
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let (strait, provider) = keeping("");
    for dialect in Dialect::ALL {
        let mut body = odd(dialect, 1000).into_bytes();
        let at = body.iter().rposition(|byte| *byte == b'x').unwrap();
        body[at] = 0xff;
        let answer = strait.client().post(dialect.path(), &[], &body);
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert!(provider.take().is_empty());
}

#[test]
fn a_connection_serves_one_request_after_another_also_after_errors() {
    let mock = mock("[[rule]]\nmodel = \"bad\"\nsteps = [{ status = 500 }]\n");
    let strait = Strait::start(&format!(
        "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}/v1\"\nkey = \"k\"\n",
        mock.url()
    ));
    let mut wire = Wire::open(strait.addr);
    let dialect = Dialect::OpenAi;
    let body = |model, stream| {
        dialect
            .body(model, "hello", stream)
            .to_string()
            .into_bytes()
    };
    for _ in 0..5 {
        assert_eq!(wire.post(dialect.path(), &body("lab/x", false)).status, 200);
        assert_eq!(wire.post(dialect.path(), b"{").status, 400);
        assert_eq!(
            wire.post(dialect.path(), &body("none/such", false)).status,
            404
        );
        assert_eq!(
            dialect
                .said(&wire.post(dialect.path(), &body("lab/x", true)))
                .text,
            "hello"
        );
        wire.request("GET", "/v1/models", &[], b"");
        assert_eq!(wire.answer().unwrap().status, 200);
        wire.request("GET", "/nothing/here", &[], b"");
        assert_eq!(wire.answer().unwrap().status, 404);
        wire.request("GET", dialect.path(), &[], b"");
        assert_eq!(wire.answer().unwrap().status, 405);
        let answer = wire.post(dialect.path(), &body("lab/bad", false));
        assert!(answer.status >= 500, "{}", answer.text());
    }
}

#[test]
fn pipelined_requests_harm_nobody() {
    let (strait, provider) = keeping("");
    let body = odd(Dialect::OpenAi, 1000);
    let head = head_of(
        "POST",
        "/v1/chat/completions",
        &[("content-length", "1000")],
    );
    let one = [head.as_bytes(), body.as_bytes()].concat();
    for apart in [false, true] {
        let mut wire = Wire::open(strait.addr);
        wire.send(&one).unwrap();
        if apart {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        wire.send(&one).unwrap();
        for number in 0..2 {
            let answer = wire.answer().unwrap();
            assert_eq!(answer.status, 200, "{apart}, {number}: {}", answer.text());
        }
    }
    let answer = strait
        .client()
        .post("/v1/chat/completions", &[], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    for got in provider.take() {
        assert!(got.body == arrives(&body), "two requests were mixed up");
    }
}

#[test]
fn a_request_that_is_sent_ahead_leaves_the_one_before_it_alone() {
    let slow = "delay_head = \"300ms\"\ndelay_first_chunk = \"100ms\"\nchunk_gap = \"50ms\"";
    let mock = mock(&format!("[default]\n{slow}\n"));
    let strait = Strait::start(&format!(
        "[providers.lab]\nprotocols = [\"openai-chat\", \"anthropic\"]\nbase_url = \"{}/v1\"\nkey = \"k\"\n",
        mock.url()
    ));
    for dialect in Dialect::ALL {
        let mut wire = Wire::open(strait.addr);
        for (number, stream) in [false, true, false].into_iter().enumerate() {
            let text = format!("this is number {number}");
            let body = dialect.body("lab/x", &text, stream).to_string();
            wire.request("POST", dialect.path(), &[], body.as_bytes());
            // While the first is being asked for.
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        for number in 0..3 {
            let answer = wire.answer().unwrap();
            assert_eq!(answer.status, 200, "{number}: {}", answer.text());
            let said = dialect.said(&answer).text;
            assert_eq!(said, format!("this is number {number}"));
        }
    }
    assert_eq!(mock.calls().len(), 6, "each was asked for once");
}

#[test]
fn a_connection_goes_on_after_a_body_that_was_refused_unread() {
    let (strait, provider) = keeping("max_body = \"1MiB\"");
    for dialect in Dialect::ALL {
        let large = odd(dialect, 3 << 20);
        let mut wire = Wire::open(strait.addr);
        for _ in 0..2 {
            let answer = wire.post(dialect.path(), large.as_bytes());
            assert_eq!(answer.status, 413, "{}", answer.text());
            wire.send(
                head_of("POST", dialect.path(), &[("transfer-encoding", "chunked")]).as_bytes(),
            )
            .unwrap();
            wire.send(&chunked(large.as_bytes(), 50_000)).unwrap();
            assert_eq!(wire.answer().unwrap().status, 413);
            assert_eq!(wire.post("/nothing/here", large.as_bytes()).status, 404);
            let compressed = [("content-encoding", "gzip")];
            wire.request("POST", dialect.path(), &compressed, b"\x1f\x8b and so on");
            let answer = wire.answer().unwrap();
            assert_eq!(answer.status, 400);
            let said = dialect.error(&answer.json()).unwrap();
            assert!(said.contains("content-encoding"), "{said}");
            let whole = odd(dialect, 1000);
            assert_eq!(wire.post(dialect.path(), whole.as_bytes()).status, 200);
        }
        // Who asked for leave may or may not send the body after a no: nobody can tell what comes next.
        let length = large.len().to_string();
        let asks = [("content-length", &*length), ("expect", "100-continue")];
        wire.send(head_of("POST", dialect.path(), &asks).as_bytes())
            .unwrap();
        let answer = wire.answer().unwrap();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (413, Some("close"))
        );
    }
    assert_eq!(provider.take().len(), 4);
}

#[test]
fn heads_unknown_paths_and_wrong_methods_are_answered_in_the_dialect() {
    let (strait, provider) = keeping("");
    let mut wire = Wire::open(strait.addr);
    for path in ["/", "/health", "/v1/models"] {
        wire.request("HEAD", path, &[], b"");
        let head = wire.head().unwrap();
        assert_eq!(head.status, 200, "{path}");
        // A body after it would be read as the next answer.
        wire.request("GET", path, &[], b"");
        let answer = wire.answer().unwrap();
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            head.header("content-length"),
            answer.header("content-length"),
            "{path}"
        );
    }
    let version = ("anthropic-version", "2023-06-01");
    let cases: [(Dialect, &str, Headers<'_>); 3] = [
        (Dialect::OpenAi, "/v1/nothing", &[]),
        (Dialect::Anthropic, "/v1/nothing", &[version]),
        (Dialect::Anthropic, "/v1/messages/nothing", &[]),
    ];
    for (dialect, path, headers) in cases {
        wire.request("GET", path, headers, b"");
        let answer = wire.answer().unwrap();
        assert_eq!(answer.status, 404, "{path}");
        assert!(
            dialect
                .error(&answer.json())
                .is_some_and(|message| message.contains(path)),
            "{}",
            answer.text()
        );
        assert!(answer.header("x-request-id").is_some());
    }
    for dialect in Dialect::ALL {
        for method in ["GET", "DELETE", "PUT"] {
            wire.request(method, dialect.path(), &[], b"");
            let answer = wire.answer().unwrap();
            assert_eq!(
                (answer.status, answer.header("allow")),
                (405, Some("POST")),
                "{method}"
            );
            assert!(dialect.error(&answer.json()).is_some(), "{}", answer.text());
        }
        wire.request("HEAD", dialect.path(), &[], b"");
        assert_eq!(wire.head().unwrap().status, 405);
    }
    wire.request("POST", "/v1/models", &[], b"{}");
    let answer = wire.answer().unwrap();
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD"))
    );
    assert!(provider.take().is_empty());
}

#[test]
fn a_connection_ends_where_its_client_or_its_version_wants_it() {
    let (strait, _provider) = keeping("");
    let body = odd(Dialect::OpenAi, 1000);
    let cases = [
        ("1.1", "", "keep-alive"),
        ("1.1", "connection: close\r\n", "close"),
        ("1.0", "", "close"),
        ("1.0", "connection: keep-alive\r\n", "keep-alive"),
        // Two lengths are how requests are smuggled: nothing that follows is believed.
        ("1.1", "transfer-encoding: chunked\r\n", "close"),
    ];
    for (version, header, told) in cases {
        let mut wire = Wire::open(strait.addr);
        let sent = if header.starts_with("transfer") {
            chunked(body.as_bytes(), 300)
        } else {
            body.clone().into_bytes()
        };
        let head = format!(
            "POST /v1/chat/completions HTTP/{version}\r\nhost: a\r\ncontent-length: 1000\r\n{header}\r\n"
        );
        wire.send(&[head.as_bytes(), &sent].concat()).unwrap();
        let answer = wire.answer().unwrap();
        let case = format!("{version} {header}");
        assert_eq!(answer.header("connection"), Some(told), "{case}");
        if told == "close" {
            assert!(wire.is_closed(), "{case}");
        } else {
            assert_eq!(answer.status, 200, "{case}: {}", answer.text());
            assert_eq!(
                wire.post("/v1/chat/completions", body.as_bytes()).status,
                200,
                "{case}"
            );
        }
    }
}
