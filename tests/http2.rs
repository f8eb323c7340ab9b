//! TLS on both sides: HTTP/2 from clients, and to providers.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::authority::Authority;
use common::dialect::Dialect;
use common::http2::{H2, give, head, piece, tls, whole};
use common::provider::Provider;
use common::{Strait, eventually, mock};
use strait::mock::{Listen, Mock, Outcome, Script, Tls};

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// A gateway that speaks TLS with a certificate of `authority`.
fn secure(authority: &Authority, config: &str, server: &str) -> (Strait, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = authority.local().files(&dir);
    let server = format!(
        "{server}\ntls = {{ cert = \"{}\", key = \"{}\" }}\n",
        cert.display(),
        key.display()
    );
    (Strait::start_with(config, &server, &[]), dir)
}

fn lab(url: &str) -> String {
    format!(
        "[providers.lab]\nprotocols = [\"openai-chat\", \"anthropic\"]\nbase_url = \"{url}\"\nkey = \"lab-key\"\n"
    )
}

fn body(dialect: Dialect, size: usize) -> String {
    let empty = dialect.body("lab/x", "", false).to_string();
    let text = "ab \u{e9}\\n"
        .repeat(size / 7)
        .chars()
        .take(size)
        .collect::<String>();
    let mut body = dialect
        .body("lab/x", "PLACE", false)
        .to_string()
        .replace("PLACE", &text);
    while body.len() < size.max(empty.len()) {
        body.insert(1, ' ');
    }
    body
}

fn arrives(body: &str) -> Vec<u8> {
    body.replace("\"lab/x\"", "\"x\"").into_bytes()
}

#[test]
fn bodies_of_every_size_arrive_byte_for_byte_over_http2() {
    let (authority, provider) = (Authority::new(), Provider::keeping());
    let (strait, _dir) = secure(&authority, &lab(&provider.url()), "");
    run(async {
        let client = H2::connect(strait.addr, authority.client(&["h2"])).await;
        for dialect in Dialect::ALL {
            for size in [1 << 10, 60 << 10, 1 << 20, 40 << 20] {
                let body = body(dialect, size);
                let length = body.len().to_string();
                let all: [&[(&str, &str)]; 2] = [&[], &[("content-length", &length)]];
                for headers in all {
                    let answer = client.post(dialect.path(), headers, body.clone()).await;
                    let case = format!("{dialect:?}, {size} bytes, {headers:?}");
                    assert_eq!(answer.status, 200, "{case}: {}", answer.text());
                    assert_eq!(dialect.said(&answer).text, "taken", "{case}");
                    assert!(
                        answer.header("connection").is_none()
                            && answer.header("transfer-encoding").is_none()
                    );
                    let got = provider.take();
                    assert_eq!(got.len(), 1, "{case}");
                    assert!(
                        got[0].body == arrives(&body),
                        "{case}: another body arrived, of {} bytes",
                        got[0].body.len()
                    );
                }
            }
            let answer = client.post(dialect.path(), &[], r#"{"a":1234}"#).await;
            assert_eq!(answer.status, 400, "{}", answer.text());
        }
    });
}

#[test]
fn what_is_refused_over_http2_costs_its_stream_and_not_the_connection() {
    let (authority, provider) = (Authority::new(), Provider::keeping());
    let (strait, _dir) = secure(
        &authority,
        &lab(&provider.url()),
        "max_body = \"1MiB\"\nbody_timeout = \"1s\"",
    );
    run(async {
        let client = H2::connect(strait.addr, authority.client(&["h2"])).await;
        for dialect in Dialect::ALL {
            let refused = |answer: &common::Answer, status: u16, case: &str| {
                assert_eq!(answer.status, status, "{case}: {}", answer.text());
                assert!(
                    dialect.error(&answer.json()).is_some(),
                    "{case}: {}",
                    answer.text()
                );
            };
            // Announced, and nothing sent.
            let (answer, stream) = client
                .begin("POST", dialect.path(), &[("content-length", "1048577")])
                .await;
            refused(&whole(answer).await, 413, "announced");
            drop(stream);
            let answer = client
                .post(dialect.path(), &[], body(dialect, 8 << 20))
                .await;
            refused(&answer, 413, "not announced");
            let (answer, mut stream) = client.begin("POST", dialect.path(), &[]).await;
            stream.send_data("{\"model\":".into(), false).unwrap();
            refused(&whole(answer).await, 408, "never arrives");
            drop(stream);
            let (answer, stream) = client.begin("GET", dialect.path(), &[]).await;
            give(stream, "".into()).await;
            refused(&whole(answer).await, 405, "wrong method");
            let (answer, stream) = client.begin("GET", "/v1/messages/nothing", &[]).await;
            give(stream, "".into()).await;
            assert_eq!(whole(answer).await.status, 404);
            let answer = client.post(dialect.path(), &[], body(dialect, 1000)).await;
            assert_eq!(
                answer.status,
                200,
                "the connection serves on: {}",
                answer.text()
            );
        }
    });
    assert_eq!(provider.take().len(), 2);
}

#[test]
fn many_streams_share_one_connection_and_one_that_leaves_harms_no_other() {
    let authority = Authority::new();
    let mock = mock(
        "[[rule]]\nmodel = \"endless\"\nsteps = [{ chunks = 200, chunk_gap = \"300ms\", text_bytes = 1000 }]\n\
         [[rule]]\nmodel = \"x\"\nsteps = [{ chunks = 20, chunk_gap = \"10ms\", text = \"well then\" }]\n",
    );
    let (strait, _dir) = secure(&authority, &lab(&format!("{}/v1", mock.url())), "");
    run(async {
        let client = H2::connect(strait.addr, authority.client(&["h2"])).await;
        let mut tasks = tokio::task::JoinSet::new();
        for at in 0..40 {
            let client = client.clone();
            let dialect = Dialect::ALL[at / 2 % 2];
            tasks.spawn(async move {
                if at % 2 == 0 {
                    let answer = client
                        .post(
                            dialect.path(),
                            &[],
                            dialect.body("lab/x", "hi", true).to_string(),
                        )
                        .await;
                    assert_eq!(dialect.said(&answer).text, "well then");
                    return;
                }
                let (answer, stream) = client.begin("POST", dialect.path(), &[]).await;
                give(
                    stream,
                    dialect.body("lab/endless", "hi", true).to_string().into(),
                )
                .await;
                let (answer, mut stream) = head(answer).await;
                assert_eq!(answer.status, 200);
                assert!(piece(&mut stream).await.is_some());
                // Dropping its halves resets the stream.
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let answer = client
            .post(
                "/v1/chat/completions",
                &[],
                Dialect::OpenAi.body("lab/x", "hi", true).to_string(),
            )
            .await;
        assert_eq!(answer.status, 200);
    });
    eventually("the streams that were left are cancelled", || {
        mock.counts().in_progress == 0
    });
    let gone = mock
        .calls()
        .iter()
        .filter(|call| call.outcome == Outcome::ClientGone)
        .count();
    assert_eq!(gone, 20);
    let records = strait.records(41);
    assert_eq!(
        records
            .iter()
            .filter(|record| record["status"] == 499)
            .count(),
        20
    );
    eventually("the gauge reads 0", || {
        strait.metric("strait_inflight", &[]) == 0.0
    });
}

#[test]
fn clients_that_offer_http1_or_nothing_get_it_over_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = Authority::new();
    let (strait, _dir) = secure(&authority, "", "");
    let offers: [&[&str]; 2] = [&["http/1.1"], &[]];
    run(async {
        for alpn in offers {
            let mut stream = tls(strait.addr, authority.client(alpn)).await.unwrap();
            let body = common::chat("demo/echo", "over tls").to_string();
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream
                .write_all(&[head.as_bytes(), body.as_bytes()].concat())
                .await
                .unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains("over tls"),
                "{alpn:?}: {answer}"
            );
        }
        let other = Authority::new();
        assert!(
            tls(strait.addr, other.client(&["h2"])).await.is_err(),
            "another authority's client was served"
        );
    });
    // A client that doesn't speak TLS at all is no harm.
    assert!(strait.client().try_get("/v1/models").is_err());
}

fn secure_mock(authority: &Authority, script: &str) -> Mock {
    let identity = authority.local();
    let tls = Tls::from_pem(&identity.cert, &identity.key).unwrap();
    Mock::start_on(
        Listen {
            tls: Some(tls),
            ..Listen::default()
        },
        Script::from_toml(script).unwrap(),
    )
    .unwrap()
}

#[test]
fn a_provider_over_tls_is_spoken_to_in_http2_and_few_connections_serve_all() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let secure = secure_mock(&authority, "");
    let plain = mock("");
    for (host, port) in [
        ("127.0.0.1", secure.addr.port()),
        ("localhost", secure.addr.port()),
    ] {
        let config =
            lab(&format!("https://{host}:{port}/v1")) + &format!("ca = \"{}\"\n", ca.display());
        let strait = Strait::start(&config);
        for at in 0..100 {
            let dialect = Dialect::ALL[at % 2];
            let answer = strait.post(dialect.path(), &dialect.body("lab/x", "hello", at % 3 == 0));
            assert_eq!(answer.status, 200, "{host}: {}", answer.text());
            assert_eq!(dialect.said(&answer).text, "hello");
        }
        let calls = secure.calls();
        assert_eq!(calls.len(), 100, "{host}");
        assert!(
            calls
                .iter()
                .all(|call| call.tls && call.http_version == "HTTP/2.0"),
            "{host}: {}",
            calls[0].http_version
        );
        assert!(
            secure.counts().connections <= 3,
            "{host}: {:?}",
            secure.counts()
        );
        // Larger than any window.
        for size in [60 << 10, 1 << 20, 40 << 20] {
            let body = body(Dialect::OpenAi, size);
            let answer = strait
                .client()
                .post("/v1/chat/completions", &[], body.as_bytes());
            assert_eq!(answer.status, 200, "{size}");
            let calls = secure.calls();
            let call = calls.last().unwrap();
            let whole = arrives(&body);
            assert_eq!(call.body_len, whole.len());
            assert!(call.body == whole[..call.body.len()]);
        }
        assert!(
            strait.metric("strait_upstream_connections_total", &["reused=\"true\""]) >= 97.0,
            "{}",
            strait.metrics()
        );
        secure.clear_calls();
    }
    let strait = Strait::start(&lab(&format!("{}/v1", plain.url())));
    for at in 0..100 {
        let dialect = Dialect::ALL[at % 2];
        let answer = strait.post(dialect.path(), &dialect.body("lab/x", "hello", at % 3 == 0));
        assert_eq!(dialect.said(&answer).text, "hello");
    }
    // Pingora's pool now and then misses a connection that the other worker thread has just put there.
    let connections = plain.counts().connections;
    assert!(
        connections <= 20,
        "{connections} connections for 100 requests"
    );
}

#[test]
fn a_certificate_that_is_not_trusted_is_a_tls_failure_and_another_target_answers() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &other.pem).unwrap();
    let (secure, good) = (secure_mock(&authority, ""), mock(""));
    let strait = Strait::start(&format!(
        r#"
        [providers.bad]
        protocols = ["openai-chat", "anthropic"]
        base_url = "{}/v1"
        key = "k"
        ca = "{}"
        [providers.system]
        protocols = ["openai-chat", "anthropic"]
        base_url = "{}/v1"
        key = "k"
        [providers.good]
        protocols = ["openai-chat", "anthropic"]
        base_url = "{}/v1"
        key = "k"
        [models.both]
        targets = ["bad/x", "system/x", "good/x"]
        "#,
        secure.url(),
        ca.display(),
        secure.url(),
        good.url(),
    ));
    for dialect in Dialect::ALL {
        let answer = strait.post(dialect.path(), &dialect.body("both", "hello", true));
        assert_eq!(dialect.said(&answer).text, "hello");
        assert_eq!(answer.header("x-strait-provider"), Some("good"));
    }
    let records = strait.records(2);
    let attempts = records[0]["attempts"].as_array().unwrap();
    assert_eq!(attempts[0]["outcome"], "tls", "{}", records[0]);
    assert_eq!(attempts[1]["outcome"], "tls", "{}", records[0]);
    let answer = strait.post("/v1/chat/completions", &common::chat("bad/x", "hello"));
    assert!(
        [502, 503].contains(&answer.status),
        "{}: {}",
        answer.status,
        answer.text()
    );
    assert!(
        secure.calls().is_empty(),
        "a request went to whom nobody trusts"
    );
}
