//! The raw lane from outside: what only a provider understands goes by unread, with the gateway's keys, limits,
//! records and accounting around it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{Read, Write};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{self, SignableBody, SignableRequest, SigningSettings};
use aws_sigv4::sign::v4;
use common::provider::{Got, Provider, chunk};
use common::{Client, Strait, eventually, free, mock};
use serde_json::{Value, json};
use strait::codec::event_stream;
use strait::mock::Mock;

/// A gateway whose provider `openai` is `mock`, with a key for everything and one for a single model.
fn gateway(mock: &Mock) -> Strait {
    Strait::start(&format!(
        "[providers.openai]\nbase_url = \"http://{}/v1\"\nkey = \"sk-of-the-provider\"\n\
         [[keys]]\nname = \"all\"\nkey = \"sk-all-0123456789abcdef\"\n\
         [[keys]]\nname = \"few\"\nkey = \"sk-few-0123456789abcdef\"\nmodels = [\"openai/gpt-5-mini\"]\n",
        mock.addr
    ))
}

const ALL: (&str, &str) = ("authorization", "Bearer sk-all-0123456789abcdef");
const FEW: (&str, &str) = ("authorization", "Bearer sk-few-0123456789abcdef");
const JSON: (&str, &str) = ("content-type", "application/json");

fn form(field: &str, name: &str, content: &[u8]) -> (String, Vec<u8>) {
    let mut body = format!(
        "--edge\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --edge\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--edge--\r\n");
    ("multipart/form-data; boundary=edge".to_owned(), body)
}

#[test]
fn what_is_no_chat_is_priced_by_what_its_answer_tells() {
    let provider = Provider::answering(|got, socket| {
        let body = if got.path.ends_with("/ocr") {
            json!({"model": "mistral-ocr-latest", "pages": [], "usage_info": {"pages_processed": 12, "doc_size_bytes": 1}})
        } else {
            json!({"object": "list", "model": "mistral-embed", "data": [{"index": 0, "embedding": [0.5]}],
                "usage": {"prompt_tokens": 1000, "total_tokens": 1000, "cost": 0.25}})
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(&[head.as_bytes(), body.as_bytes()].concat())
    });
    let strait = Strait::start(&format!(
        "[providers.mistral]\nbase_url = \"{}\"\nkey = \"k\"\n",
        provider.url()
    ));
    // Twelve pages at 4 USD a thousand; a bill of the provider's own.
    for (path, usd, count) in [("ocr", "0.048", 1), ("embeddings", "0.25", 2)] {
        let answer = strait.post(&format!("/mistral/v1/{path}"), &json!({"model": "m"}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let records = strait.records(count);
        assert_eq!(
            records.last().unwrap()["cost_usd"],
            usd,
            "{path}: {records:?}"
        );
    }
}

#[test]
fn an_upload_arrives_whole_and_without_the_clients_secrets() {
    let provider = mock("");
    let strait = gateway(&provider);
    let (kind, body) = form("file", "x.bin", &vec![7; 24 << 20]);
    let answer = strait.client().post(
        "/v1/files",
        &[
            ALL,
            ("content-type", &kind),
            ("cookie", "a=b"),
            ("x-strait-tags", "t"),
        ],
        &body,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-strait-provider"), Some("openai"));
    assert!(answer.header("x-request-id").is_some());
    let call = provider.calls().pop().unwrap();
    assert_eq!(call.path, "/v1/files");
    assert_eq!(call.body_len, body.len());
    let header = |name: &str| {
        let found = call.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(
        header("authorization").as_deref(),
        Some("Bearer sk-of-the-provider")
    );
    assert_eq!((header("cookie"), header("x-strait-tags")), (None, None));
    let record = strait.records(1).pop().unwrap();
    assert_eq!(record["endpoint"], "raw");
    assert_eq!(record["key"], "all");
    assert_eq!(record["status"], 200);
}

#[test]
fn a_batch_file_names_no_model_that_the_key_may_not_use() {
    let provider = mock("");
    let strait = gateway(&provider);
    let line = |model: &str| {
        let body = json!({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": model, "messages": []}});
        format!("{body}\n").into_bytes()
    };
    let send = |key, model: &str| {
        let (kind, body) = form("file", "batch.jsonl", &line(model));
        strait
            .client()
            .post("/v1/files", &[key, ("content-type", &kind)], &body)
    };
    assert_eq!(send(FEW, "gpt-5-mini").status, 200);
    assert_eq!(send(ALL, "gpt-5").status, 200);
    let refused = send(FEW, "gpt-5");
    assert_eq!(refused.status, 403, "{}", refused.text());
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "model_not_allowed");
    assert_eq!(error["param"], "model");
    // Nor by a spelling that only a JSON reader sees through.
    let body = br#"{"\u006dodel":"gpt-5","messages":[]}"#;
    let hidden = strait
        .client()
        .post("/openai/v1/chat/completions", &[FEW, JSON], body);
    assert_eq!(hidden.status, 403);
}

#[test]
fn a_providers_own_api_is_accounted() {
    let provider = mock("");
    let strait = gateway(&provider);
    let body = json!({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hi"}]});
    for stream in [false, true] {
        let mut body = body.clone();
        if stream {
            body["stream"] = json!(true);
            body["stream_options"] = json!({"include_usage": true});
        }
        let body = body.to_string();
        let answer =
            strait
                .client()
                .post("/openai/v1/chat/completions", &[FEW, JSON], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for record in strait.records(2) {
        assert!(record["usage"]["input"].as_u64().unwrap() > 0, "{record}");
        assert!(record["cost_pico"].as_u64().unwrap() > 0, "{record}");
        assert_eq!(record["model"], "gpt-5-mini");
    }
}

#[test]
fn our_accounts_trouble_is_not_the_clients() {
    let provider = mock("[[rule]]\nsteps = [{ status = 401 }]\n");
    let strait = gateway(&provider);
    let path = "/openai/v1/chat/completions";
    let body = json!({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hi"}]});
    let body = body.to_string();
    let ask = |headers: &[(&str, &str)]| strait.client().post(path, headers, body.as_bytes());
    let answer = ask(&[ALL, JSON]);
    assert_eq!(answer.status, 502, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["error"]["code"], "upstream_account");
    assert_eq!(ask(&[JSON]).status, 401);
    assert_eq!(provider.calls().len(), 1);
}

#[test]
fn an_account_that_is_refused_is_not_asked_again_at_once() {
    let provider = mock(
        "[[rule]]\nheader = { name = \"authorization\", value = \"refused-key\" }\nsteps = [{ status = 401 }]\n",
    );
    let strait = Strait::start(&format!(
        "[providers.openai]\nbase_url = \"http://{}/v1\"\n\
         keys = [{{ name = \"a\", key = \"refused-key\", weight = 1000 }}, {{ name = \"b\", key = \"another-key\" }}]\n",
        provider.addr
    ));
    let body = json!({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hi"}]});
    let body = body.to_string();
    let path = "/openai/v1/chat/completions";
    let ask = || strait.client().post(path, &[JSON], body.as_bytes()).status;
    assert_eq!(ask(), 502);
    // By weight it is nearly always the turn of the refused one.
    let answers: Vec<u16> = (0..10).map(|_| ask()).collect();
    let refused = answers.iter().filter(|status| **status == 502).count();
    assert!(refused <= 5, "{answers:?}");
    assert!(answers.contains(&200), "{answers:?}");
}

#[test]
fn an_address_that_is_dead_is_tried_elsewhere_and_then_passed_over() {
    let provider = mock("");
    let strait = Strait::start(&format!(
        "[providers.openai]\nendpoints = [\"http://{}/v1\", \"http://{}/v1\"]\nkey = \"k\"\n",
        free(),
        provider.addr
    ));
    for _ in 0..20 {
        let answer = strait.client().try_get("/openai/v1/files").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let records = strait.records(20);
    let attempts = records
        .iter()
        .flat_map(|record| record["attempts"].as_array().unwrap());
    let outcomes: Vec<&Value> = attempts.map(|attempt| &attempt["outcome"]).collect();
    let dead = outcomes.iter().filter(|it| **it == "connect").count();
    assert!((1..=5).contains(&dead), "{outcomes:?}");
    assert_eq!(outcomes.len(), 20 + dead, "{outcomes:?}");
}

#[test]
fn a_restricted_key_can_not_spell_the_query_so_that_only_the_provider_reads_it() {
    let provider = mock("");
    let strait = gateway(&provider);
    let ask = |query: &str| {
        let path = format!("/openai/v1/realtime?{query}");
        strait.client().post(&path, &[FEW, JSON], b"{}")
    };
    let answer = ask("mod%65l=gpt-5&model=gpt-5-mini");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(answer.json()["error"]["param"], "query");
    assert_eq!(ask("model=gpt-5").status, 403);
    assert!(provider.calls().is_empty());
}

#[test]
fn a_path_leads_nowhere_but_where_it_says() {
    let provider = mock("");
    let strait = gateway(&provider);
    let ask = |key, path: &str| strait.client().post(path, &[key, JSON], b"{}");
    for path in [
        "/openai/../../admin",
        "/openai/v1/..%2f..%2fadmin",
        "/v1/files/%2e%2e/models",
        "/openai/v1/models/gpt-5-mini/../gpt-5",
    ] {
        for key in [ALL, FEW] {
            let answer = ask(key, path);
            assert_eq!(answer.status, 400, "{path}: {}", answer.text());
            assert_eq!(answer.json()["error"]["param"], "path", "{path}");
        }
    }
    for (path, status) in [
        ("/openai/v1/MODELS/gpt-5", 403),
        ("/openai/v1/models//gpt-5", 403),
        ("/openai/v1/models/gpt-5-mini/models/gpt-5", 403),
        ("/openai/v1/models%2Fgpt-5", 400),
    ] {
        assert_eq!(ask(FEW, path).status, status, "{path}");
    }
    // Nor does a model that a provider's path would have in it.
    for model in ["openai/../../admin", "openai/..", "openai/a/./b"] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
        let body = body.to_string();
        let answer = strait
            .client()
            .post("/v1/chat/completions", &[ALL, JSON], body.as_bytes());
        assert_eq!(answer.status, 404, "{model}: {}", answer.text());
    }
    assert!(provider.calls().is_empty());
}

#[test]
fn a_realtime_session_is_passed_both_ways() {
    let provider = mock("");
    let strait = gateway(&provider);
    let mut socket = Client::new(strait.addr).connect().unwrap();
    let head = "GET /v1/realtime?model=openai/gpt-5-mini HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\n\
                upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                sec-websocket-protocol: realtime, openai-insecure-api-key.sk-few-0123456789abcdef\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 1024];
    let mut read = |seen: &mut Vec<u8>, until: &[u8]| {
        while !seen.windows(until.len()).any(|window| window == until) {
            let size = socket.read(&mut piece).unwrap();
            assert!(size > 0, "{}", String::from_utf8_lossy(seen));
            seen.extend_from_slice(&piece[..size]);
        }
        // A masked text frame.
        let text = b"{\"type\":\"ping-me\"}";
        let mut frame = vec![0x81, 0x80 | text.len() as u8, 1, 2, 3, 4];
        frame.extend(
            text.iter()
                .zip([1, 2, 3, 4].iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        socket.write_all(&frame).unwrap();
    };
    read(&mut seen, b"session.created");
    assert!(
        seen.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&seen)
    );
    read(&mut seen, b"ping-me");
    let calls = provider.calls();
    let protocol = calls[0]
        .headers
        .iter()
        .find(|(name, _)| name == "sec-websocket-protocol");
    assert!(protocol.is_none_or(|(_, value)| !value.contains("sk-few")));
    drop(socket);
    eventually("the session is recorded", || {
        strait
            .records(1)
            .iter()
            .any(|record: &Value| record["endpoint"] == "raw")
    });
    // A key that is restricted must say which model it means.
    let refused = strait.client().request(
        "GET",
        "/v1/realtime?model=openai/gpt-5",
        &[FEW, ("connection", "Upgrade"), ("upgrade", "websocket")],
        b"",
    );
    assert_eq!(refused.status, 403);
}

#[test]
fn a_realtime_session_costs_what_its_answers_took() {
    let provider = Provider::answering(|got, socket| {
        assert_eq!(got.header("sec-websocket-extensions"), "");
        socket.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n",
        )?;
        // gpt-realtime-2: 4 USD a million in, 24 out.
        let usage = json!({"total_tokens": 1100, "input_tokens": 1000, "output_tokens": 100});
        for event in [
            json!({"type": "session.created", "session": {"model": "gpt-realtime-2"}}),
            json!({"type": "response.done", "response": {"object": "realtime.response", "output": [], "usage": usage}}),
            json!({"type": "response.done", "response": {"object": "realtime.response", "output": [], "usage": usage}}),
            json!({"type": "over"}),
        ] {
            let text = event.to_string();
            let length = u16::try_from(text.len()).unwrap().to_be_bytes();
            let head = if text.len() < 126 {
                vec![0x81, length[1]]
            } else {
                vec![0x81, 126, length[0], length[1]]
            };
            socket.write_all(&[&head[..], text.as_bytes()].concat())?;
        }
        // Until the client leaves.
        let _ = socket.read(&mut [0; 64]);
        Err(std::io::ErrorKind::ConnectionAborted.into())
    });
    let strait = Strait::start(&format!(
        "[providers.openai]\nbase_url = \"{}\"\nkey = \"k\"\n",
        provider.url()
    ));
    let mut socket = Client::new(strait.addr).connect().unwrap();
    let head = "GET /v1/realtime?model=gpt-realtime-2 HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\n\
                upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                sec-websocket-extensions: permessage-deflate\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 1024];
    while !seen.windows(6).any(|window| window == b"\"over\"") {
        let size = socket.read(&mut piece).unwrap();
        assert!(size > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..size]);
    }
    drop(socket);
    let record = &strait.records(1)[0];
    assert_eq!(record["usage"]["input"], 2000, "{record}");
    assert_eq!(record["cost_usd"], "0.0128", "{record}");
}

// Requests that are signed over their body.

const CONVERSE: &str = r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":11,"outputTokens":5,"totalTokens":16},"metrics":{"latencyMs":42}}"#;

/// A fake Bedrock: what it is asked for at `/stream` comes packed, `/refused` is not allowed.
fn bedrock() -> Provider {
    Provider::answering(|got, socket| {
        if got.path.ends_with("-stream") {
            let mut body = Vec::new();
            for (name, payload) in [
                ("messageStart", json!({"role": "assistant"})),
                (
                    "contentBlockDelta",
                    json!({"contentBlockIndex": 0, "delta": {"text": "hi"}}),
                ),
                ("messageStop", json!({"stopReason": "end_turn"})),
                (
                    "metadata",
                    json!({"usage": {"inputTokens": 11, "outputTokens": 5, "totalTokens": 16}}),
                ),
            ] {
                event_stream::write(name, payload.to_string().as_bytes(), &mut body);
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(head.as_bytes())?;
            for piece in body.chunks(50) {
                chunk(socket, piece)?;
            }
            return socket.write_all(b"0\r\n\r\n");
        }
        let (status, body) = match got.path.contains("refused") {
            true => (403, r#"{"message":"account 1234 may not"}"#),
            false => (200, CONVERSE),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        socket.write_all(&[head.as_bytes(), body.as_bytes()].concat())
    })
}

/// Signs what arrived again, as AWS does.
fn signature_of(got: &Got, method: &str) -> String {
    let credentials = Credentials::new("AKID", "the-secret", None, None, "tests");
    let identity = credentials.into();
    let stamp = got.header("x-amz-date");
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).unwrap();
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-west-1")
        .name("bedrock")
        .time(time.into())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let url = format!("https://{}{}", got.header("host"), got.path);
    let headers = std::iter::once(("host", got.header("host")));
    let body = SignableBody::Bytes(&got.body);
    let request = SignableRequest::new(method, url, headers, body).unwrap();
    let signed = http_request::sign(request, &params).unwrap();
    signed.signature().to_owned()
}

#[test]
fn a_request_that_is_signed_over_its_body_passes_whole() {
    let provider = bedrock();
    let strait = Strait::start_with(
        &format!(
            "[providers.be]\nlike = \"bedrock\"\nregion = \"eu-west-1\"\nbase_url = \"http://{}\"\naccess_key_id = \"AKID\"\nsecret_access_key = \"the-secret\"\n\
             [[keys]]\nname = \"all\"\nkey = \"sk-all-0123456789abcdef\"\n\
             [[keys]]\nname = \"few\"\nkey = \"sk-few-0123456789abcdef\"\nmodels = [\"be/amazon.nova-lite-v1:0\"]\n",
            provider.addr
        ),
        "max_body = \"100KiB\"",
        &[],
    );
    let model = "amazon.nova-lite-v1%3A0";
    let long = "x".repeat(90_000);
    let body = json!({"messages": [{"role": "user", "content": [{"text": long}]}]}).to_string();
    let post = |path: &str, headers: &[(&str, &str)], body: &str| {
        strait
            .client()
            .post(&format!("/be{path}"), headers, body.as_bytes())
    };
    for (method, path) in [("converse", "?x=a%20b"), ("converse-stream", "")] {
        let path = format!("/model/{model}/{method}{path}");
        let answer = post(
            &path,
            &[ALL, JSON, ("x-amz-target", "mine"), ("expect", "")],
            &body,
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.complete);
        assert_eq!(answer.header("x-strait-provider"), Some("be"));
        let got = provider.take().pop().unwrap();
        assert_eq!(got.path, path);
        assert_eq!(got.body, body.as_bytes());
        assert_eq!(
            got.header("x-amz-target"),
            "",
            "the client's own signing stays here"
        );
        let signed = got.header("authorization");
        assert!(
            signed.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"),
            "{signed}"
        );
        let (_, signature) = signed.rsplit_once("Signature=").unwrap();
        assert_eq!(signature, signature_of(&got, "POST"), "{path}");
        if method == "converse" {
            assert_eq!(answer.text(), CONVERSE);
        }
    }
    for record in strait.records(2) {
        assert_eq!(record["usage"]["input"], 11, "{record}");
        assert_eq!(record["usage"]["output"], 5, "{record}");
        assert_eq!(record["model"], "amazon.nova-lite-v1:0", "{record}");
        assert_eq!(record["attempts"][0]["outcome"], "ok", "{record}");
    }
    // What isn't a post of a body is signed as well.
    let listed = strait
        .client()
        .request("GET", "/be/foundation-models", &[ALL], b"");
    assert_eq!(listed.status, 200);
    let got = provider.take().pop().unwrap();
    let (_, signature) = got
        .header("authorization")
        .rsplit_once("Signature=")
        .unwrap();
    assert_eq!(signature, signature_of(&got, "GET"));

    let huge = post(
        &format!("/model/{model}/converse"),
        &[ALL, JSON],
        &"x".repeat(110_000),
    );
    assert_eq!(huge.status, 413, "{}", huge.text());
    assert!(
        huge.text().contains("signed over their whole body"),
        "{}",
        huge.text()
    );
    let refused = post("/model/refused/converse", &[ALL, JSON], "{}");
    assert_eq!(refused.status, 502);
    assert!(!refused.text().contains("1234"), "{}", refused.text());
    provider.take();
    // And a restricted key reaches its models alone, by path and by body.
    let other = post("/model/amazon.nova-pro-v1:0/converse", &[FEW, JSON], "{}");
    assert_eq!(other.status, 403, "{}", other.text());
    let inside = post(
        &format!("/model/{model}/converse"),
        &[FEW, JSON],
        r#"{"model": "amazon.nova-pro-v1:0"}"#,
    );
    assert_eq!(inside.status, 403, "{}", inside.text());
    assert!(provider.take().is_empty(), "nothing of it was sent");
}

#[test]
fn a_signed_request_to_nobody_is_said_to_be_that() {
    let strait = Strait::start(&format!(
        "[providers.be]\nlike = \"bedrock\"\nregion = \"eu-west-1\"\nbase_url = \"http://{}\"\naccess_key_id = \"AKID\"\nsecret_access_key = \"s\"\n",
        free()
    ));
    let answer = strait.client().post("/be/model/x/converse", &[JSON], b"{}");
    assert_eq!(answer.status, 503, "{}", answer.text());
    let record = strait.records(1).pop().unwrap();
    assert_eq!(record["attempts"][0]["outcome"], "connect", "{record}");
}
