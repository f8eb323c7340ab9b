//! The APIs beside chat.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use strait::mock::Api;

use super::client::*;

#[test]
fn embeddings_follow_the_text_in_every_protocol() {
    for (path, body, found) in [
        (
            "/v1/embeddings",
            json!({"model": "m", "input": ["x", "a"], "dimensions": 4}),
            "/data/1/embedding",
        ),
        (
            "/v2/embed",
            json!({"model": "m", "texts": ["a"], "input_type": "search_query", "output_dimension": 4}),
            "/embeddings/float/0",
        ),
        (
            "/api/embed",
            json!({"model": "m", "input": "a", "dimensions": 4}),
            "/embeddings/0",
        ),
        (
            "/v1beta/models/g:embedContent",
            json!({"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 4}),
            "/embedding/values",
        ),
        (
            "/v1beta/models/g:batchEmbedContents",
            json!({"requests": [{"model": "models/g", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 4}]}),
            "/embeddings/0/values",
        ),
        (
            "/v1/projects/p/locations/l/publishers/google/models/g:predict",
            json!({"instances": [{"content": "a"}], "parameters": {"outputDimensionality": 4}}),
            "/predictions/0/embeddings/values",
        ),
        (
            "/model/amazon.titan-embed-text-v2%3A0/invoke",
            json!({"inputText": "a", "dimensions": 4}),
            "/embedding",
        ),
        (
            "/model/cohere.embed-v4/invoke",
            json!({"texts": ["a"], "input_type": "search_query", "output_dimension": 4}),
            "/embeddings/0",
        ),
    ] {
        let mock = mock("");
        let answer = post(&mock, path, &body).json();
        let values: Vec<f64> =
            serde_json::from_value(answer.pointer(found).unwrap().clone()).unwrap();
        assert_eq!(values.len(), 4, "{path}");
        let first = post(
            &mock,
            "/v1/embeddings",
            &json!({"model": "m", "input": "a", "dimensions": 4}),
        )
        .json();
        let first: Vec<f64> =
            serde_json::from_value(first["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(values, first, "{path}: one text, one vector");
        for call in mock.calls() {
            assert_eq!(call.problems, [""; 0], "{path}");
        }
    }
}

#[test]
fn documents_are_ranked_by_the_words_they_share() {
    let body = json!({"model": "m", "query": "red fox", "documents": ["a dog", "the red fox", "red"], "top_n": 2});
    for path in ["/v1/rerank", "/v2/rerank"] {
        let answer = post(&mock(""), path, &body).json();
        let order: Vec<u64> = answer["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["index"].as_u64().unwrap())
            .collect();
        assert_eq!(order, [1, 2]);
        assert_eq!(answer["results"][0]["relevance_score"], 1.0);
    }
}

#[test]
fn tokens_are_counted_as_a_chat_counts_them() {
    let messages = json!([{"role": "user", "content": "12345678"}]);
    let mock = mock("");
    let counted = post(
        &mock,
        "/v1/messages/count_tokens",
        &json!({"model": "m", "messages": messages}),
    )
    .json();
    assert_eq!(counted, json!({"input_tokens": 2}));
    let contents = json!([{"role": "user", "parts": [{"text": "12345678"}]}]);
    let path = "/v1beta/models/g:countTokens";
    for body in [
        json!({"contents": contents}),
        json!({"generateContentRequest": {"model": "models/g", "contents": contents}}),
    ] {
        assert_eq!(post(&mock, path, &body).json()["totalTokens"], 2, "{body}");
    }
    for call in mock.calls() {
        assert_eq!(
            (call.api, call.problems.len()),
            (Some(Api::CountTokens), 0),
            "{:?}",
            call.problems
        );
    }
}

fn form(mock: &strait::mock::Mock, path: &str, parts: &[(&str, Option<&str>, &[u8])]) -> Reply {
    let mut body = Vec::new();
    for (name, filename, content) in parts {
        let filename = filename.map_or(String::new(), |name| format!("; filename=\"{name}\""));
        body.extend_from_slice(
            format!("--xyz\r\ncontent-disposition: form-data; name=\"{name}\"{filename}\r\n\r\n")
                .as_bytes(),
        );
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--xyz--\r\n");
    let mut stream = connect(mock);
    stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: mock\r\nauthorization: Bearer k\r\n\
         content-type: multipart/form-data; boundary=xyz\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    receive(&mut stream, Duration::from_secs(2))
}

#[test]
fn an_upload_of_any_size_is_counted_and_hashed() {
    let mock = mock("");
    let content = vec![b'a'; 200 << 20];
    let reply = form(
        &mock,
        "/v1/files",
        &[
            ("purpose", None, b"batch"),
            ("file", Some("big.jsonl"), &content),
        ],
    );
    assert_eq!(reply.status, 200, "more than a buffered request may have");
    assert_eq!(reply.json()["bytes"], 200 << 20);
    assert_eq!(reply.json()["purpose"], "batch");
    let call = mock.calls().pop().unwrap();
    assert!(call.body.len() <= 1 << 20, "little of it is kept");
    assert_eq!(call.noted["upload"]["parts"][0]["text"], "batch");
    assert_eq!(call.noted["upload"]["parts"][1]["bytes"], 200 << 20);
    assert_eq!(call.problems, [""; 0]);
    let abc = form(
        &mock,
        "/v1/files",
        &[("purpose", None, b"batch"), ("file", Some("b"), b"abc")],
    )
    .json();
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(
        mock.calls().pop().unwrap().noted["upload"]["parts"][1]["sha256"],
        hash
    );
    let id = abc["id"].as_str().unwrap();
    assert_eq!(get(&mock, &format!("/v1/files/{id}/content")).text(), "abc");
    let batch =
        json!({"input_file_id": id, "endpoint": "/v1/responses", "completion_window": "24h"});
    let batch = post(&mock, "/v1/batches", &batch).json();
    assert_eq!(
        get(
            &mock,
            &format!("/v1/batches/{}", batch["id"].as_str().unwrap())
        )
        .json(),
        batch
    );
    assert_eq!(
        ask(&mock, "DELETE", &format!("/v1/files/{id}"), b"").json()["deleted"],
        true
    );
    assert_eq!(get(&mock, &format!("/v1/files/{id}")).status, 404);
}

#[test]
fn sound_is_heard_by_its_name_and_size_or_as_scripted() {
    let parts: &[(&str, Option<&str>, &[u8])] = &[
        ("model", None, b"whisper"),
        ("file", Some("a.mp3"), b"sound"),
        ("response_format", None, b"verbose_json"),
    ];
    for path in ["/v1/audio/transcriptions", "/v1/audio/translations"] {
        let plain = mock("");
        let answer = form(&plain, path, parts).json();
        assert_eq!(answer["text"], "a.mp3 has 5 bytes.");
        assert_eq!(answer["segments"][0]["text"], "a.mp3 has 5 bytes.");
        assert_eq!(plain.calls()[0].model, "whisper");
        assert_eq!(plain.calls()[0].problems, [""; 0]);
        assert_eq!(
            form(&one("text = \"Hello.\""), path, &parts[..2]).json()["text"],
            "Hello."
        );
        assert_eq!(form(&one("status = 503"), path, parts).status, 503);
    }
    let mock = mock("strict = true");
    let reply = form(
        &mock,
        "/v1/audio/transcriptions",
        &[("odd", None, b"x"), ("file", Some("a"), b"x")],
    );
    assert_eq!(reply.status, 400);
    assert_eq!(
        mock.calls()[0].problems,
        ["unknown field `odd`", "`model` is missing"]
    );
}

#[test]
fn speech_images_and_moderations_answer_from_the_request() {
    let mock = mock("");
    let spoken = post(
        &mock,
        "/v1/audio/speech",
        &json!({"model": "m", "voice": "v", "input": "hi", "response_format": "wav"}),
    );
    assert_eq!(spoken.header("content-type"), Some("audio/wav"));
    assert_eq!(spoken.text(), "mock audio: hi");
    let images = post(
        &mock,
        "/v1/images/generations",
        &json!({"model": "m", "prompt": "a cat", "n": 3}),
    )
    .json();
    assert_eq!(images["data"].as_array().map(Vec::len), Some(3));
    assert_eq!(images["data"][2]["revised_prompt"], "a cat");
    let judged = post(
        &mock,
        "/v1/moderations",
        &json!({"input": ["nice", "such violence"]}),
    )
    .json();
    let flags: Vec<&Value> = judged["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["flagged"])
        .collect();
    assert_eq!(flags, [false, true]);
}

#[test]
fn credentials_are_told_by_their_kind() {
    for (path, headers, kind, problem) in [
        (
            "/v1beta/models/g:generateContent",
            "x-goog-api-key: k\r\n",
            "x-goog-api-key",
            "",
        ),
        ("/v1beta/models/g:generateContent?key=k", "", "query", ""),
        (
            "/v1/responses",
            "x-goog-api-key: k\r\n",
            "x-goog-api-key",
            "Google alone takes it",
        ),
        (
            "/model/m/converse",
            "authorization: Bearer k\r\n",
            "bearer",
            "",
        ),
        ("/model/m/converse", "", "none", "there is no credential"),
        (
            "/model/m/converse",
            "authorization: AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00\r\n",
            "sigv4",
            "signed for \"s3\"",
        ),
        ("/api/chat", "", "none", ""),
    ] {
        let mock = mock("");
        let mut stream = connect(&mock);
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: m\r\ncontent-type: application/json\r\n{headers}content-length: 2\r\n\r\n{{}}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        receive(&mut stream, Duration::from_millis(400));
        let call = mock.calls().pop().unwrap();
        assert_eq!(call.noted["credential"]["kind"], kind, "{path}");
        let of_headers: Vec<&String> = call
            .problems
            .iter()
            .filter(|it| it.contains("header") || it.contains("query"))
            .collect();
        assert_eq!(
            of_headers.is_empty(),
            problem.is_empty(),
            "{path} {headers:?}: {of_headers:?}"
        );
        assert!(
            of_headers.iter().any(|it| it.contains(problem)) || problem.is_empty(),
            "{of_headers:?}"
        );
    }
}

#[test]
fn azure_names_the_model_in_the_path_and_wants_a_version() {
    let mock = mock("");
    let path = "/openai/deployments/my%20model/chat/completions";
    let answer = post(&mock, path, &openai(false)).json();
    assert_eq!(answer["model"], "my model");
    post(
        &mock,
        &format!("{path}?api-version=2024-10-21"),
        &openai(false),
    );
    post(
        &mock,
        "/openai/v1/responses",
        &json!({"model": "m", "input": "hi"}),
    );
    let problems: Vec<Vec<String>> = mock.calls().into_iter().map(|it| it.problems).collect();
    assert_eq!(problems[0], ["the query has no `api-version`"]);
    assert_eq!(problems[1..], [vec![], Vec::<String>::new()]);
}
