//! Platforms and their credentials, through the whole program: what arrives at a provider, and what a client sees when
//! nobody can sign in.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::{Value, json};

use common::Strait;
use common::provider::{Got, Provider};

const PEM: &str = include_str!("../src/identity/tests/key.pem");

fn answer(socket: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    socket.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

/// Hands out `t1` to everyone.
fn tokens() -> Provider {
    Provider::answering(|_, socket| {
        answer(socket, 200, r#"{"access_token":"t1","expires_in":3600}"#)
    })
}

fn refusing() -> Provider {
    Provider::answering(|_, socket| answer(socket, 401, r#"{"error":"invalid_client"}"#))
}

fn root(provider: &Provider) -> String {
    format!("http://{}", provider.addr)
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

fn one(provider: &Provider) -> Arc<Got> {
    let mut got = provider.take();
    assert_eq!(got.len(), 1, "requests");
    got.pop().unwrap()
}

#[test]
fn azure_is_asked_at_the_deployment_with_a_token_of_entra() {
    let (login, azure) = (tokens(), Provider::keeping());
    let strait = Strait::start(&format!(
        "[providers.azure]\nbase_url = \"{}\"\napi_version = \"2024-10-21\"\nentra = {{ tenant = \"t\", client_id = \"c\", client_secret = \"s\", authority = \"{}\" }}",
        root(&azure),
        root(&login),
    ));
    for _ in 0..3 {
        let answer = strait.post("/v1/chat/completions", &chat("azure/my-gpt"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let got = one(&azure);
        assert_eq!(
            got.path,
            "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
        );
        assert_eq!(got.header("authorization"), "Bearer t1");
        assert_eq!(got.header("api-key"), "");
    }
    assert_eq!(
        one(&login).path,
        "/t/oauth2/v2.0/token",
        "one token for all"
    );
}

#[test]
fn azure_with_a_key_speaks_the_style_without_versions() {
    let azure = Provider::keeping();
    let env = [
        ("AZURE_OPENAI_API_KEY", "azure-key"),
        ("AZURE_OPENAI_ENDPOINT", &*root(&azure)),
    ];
    let strait = Strait::start_with("", "", &env);
    let answer = strait.post("/v1/chat/completions", &chat("azure/my-gpt"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = one(&azure);
    assert_eq!(got.path, "/openai/v1/chat/completions");
    assert_eq!(got.header("api-key"), "azure-key");
    assert_eq!(got.header("authorization"), "");
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(body["model"], "my-gpt");
}

const CLAUDE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"x","content":[{"type":"text","text":"taken"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#;

#[test]
fn vertex_is_asked_in_the_words_of_the_model_with_a_token_of_the_key_file() {
    let login = tokens();
    let vertex = Provider::answering(|_, socket| answer(socket, 200, CLAUDE));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.json");
    let key = json!({"type": "service_account", "project_id": "p1", "client_email": "me@p1", "private_key": PEM, "token_uri": root(&login)});
    std::fs::write(&file, key.to_string()).unwrap();
    let strait = Strait::start(&format!(
        "[providers.vertex]\nbase_url = \"{}\"\nlocation = \"us-east5\"\nservice_account = \"file:{}\"",
        root(&vertex),
        file.display(),
    ));
    let body = json!({"model": "vertex/claude-opus-4-1@20250805", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]});
    let answer = strait.post("/v1/messages", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = one(&vertex);
    assert_eq!(
        got.path,
        "/v1/projects/p1/locations/us-east5/publishers/anthropic/models/claude-opus-4-1@20250805:rawPredict"
    );
    assert_eq!(got.header("authorization"), "Bearer t1");
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(body["anthropic_version"], "vertex-2023-10-16");
    assert!(body.get("model").is_none(), "{body}");
}

/// Returns the signature over a request, made as the documentation says and not as the program does,
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
fn signature(got: &Got, secret: &str, day: &str, region: &str) -> String {
    use ring::{digest, hmac};
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let sha = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    let (host, date) = (got.header("host"), got.header("x-amz-date"));
    let path = got.path.replace('%', "%25");
    let canonical = format!(
        "POST\n{path}\n\nhost:{host}\nx-amz-date:{date}\n\nhost;x-amz-date\n{}",
        sha(&got.body)
    );
    let scope = format!("{day}/{region}/bedrock/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        sha(canonical.as_bytes())
    );
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, "bedrock", "aws4_request", &text] {
        let signer = hmac::Key::new(hmac::HMAC_SHA256, &key);
        key = hmac::sign(&signer, part.as_bytes()).as_ref().to_vec();
    }
    hex(&key)
}

#[test]
fn what_arrives_at_bedrock_is_what_was_signed() {
    let converse = r#"{"output":{"message":{"role":"assistant","content":[{"text":"taken"}]}},"stopReason":"end_turn","usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2},"metrics":{"latencyMs":1}}"#;
    let bedrock = Provider::answering(move |_, socket| answer(socket, 200, converse));
    let strait = Strait::start(&format!(
        "[providers.bedrock]\nbase_url = \"{}\"\nregion = \"eu-west-1\"\naccess_key_id = \"AKIDLAB\"\nsecret_access_key = \"a/secret+key\"",
        root(&bedrock),
    ));
    for model in [
        "amazon.nova-lite-v1:0",
        "arn:aws:bedrock:eu-west-1:1:inference-profile/x",
    ] {
        let answer = strait.post("/v1/chat/completions", &chat(&format!("bedrock/{model}")));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let got = one(&bedrock);
        let escaped = model.replace(':', "%3A").replace('/', "%2F");
        assert_eq!(got.path, format!("/model/{escaped}/converse"));
        let date = got.header("x-amz-date").to_owned();
        let day = &date[..8];
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDLAB/{day}/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, Signature={}",
            signature(&got, "a/secret+key", day, "eu-west-1")
        );
        assert_eq!(got.header("authorization"), expected, "{model}");
    }
}

#[test]
fn who_cannot_sign_in_is_passed_over_and_the_client_hears_no_secret() {
    let (login, azure, other) = (refusing(), Provider::keeping(), Provider::keeping());
    let strait = Strait::start(&format!(
        "[providers.azure]\nbase_url = \"{}\"\nentra = {{ tenant = \"t\", client_id = \"c\", client_secret = \"HIDDEN-1\", authority = \"{}\" }}\n\
         [providers.lab]\nprotocols = \"openai-chat\"\nbase_url = \"{}\"\nauth = \"none\"\n\
         [models.both]\ntargets = [\"azure/x\", \"lab/x\"]",
        root(&azure),
        root(&login),
        other.url(),
    ));
    let answer = strait.post("/v1/chat/completions", &chat("both"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(other.take().len(), 1);
    let answer = strait.post("/v1/chat/completions", &chat("azure/x"));
    assert_eq!(answer.status, 502, "{}", answer.text());
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["code"], "upstream_account");
    assert!(azure.take().is_empty(), "nothing is sent without a token");
    assert_eq!(
        login.take().len(),
        1,
        "and who refused is not asked for every request"
    );
    let records = strait.records(2);
    assert_eq!(records[0]["attempts"][0]["outcome"], "account");
    let log = strait.log();
    assert!(log.contains("no new credential could be had") && log.contains("invalid_client"));
    for place in [log, answer.text(), records[1].to_string()] {
        assert!(!place.contains("HIDDEN"), "{place}");
    }
}

#[test]
fn a_token_lasts_through_a_reload_and_ends_with_its_application() {
    let (login, azure) = (tokens(), Provider::keeping());
    let config = |client: &str| {
        format!(
            "[providers.azure]\nbase_url = \"{}\"\nentra = {{ tenant = \"t\", client_id = \"{client}\", client_secret = \"s\", authority = \"{}\" }}",
            root(&azure),
            root(&login),
        )
    };
    let strait = Strait::start(&config("c"));
    let ask = || {
        let answer = strait.post("/v1/chat/completions", &chat("azure/x"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    ask();
    strait.write_config(&config("c"), "max_body = \"1MiB\"");
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    ask();
    assert_eq!(login.take().len(), 1, "kept");
    strait.write_config(&config("another"), "");
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    ask();
    assert_eq!(login.take().len(), 1, "another application's token");
}
