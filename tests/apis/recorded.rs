//! Real answers of providers: their numbers are read, and their vectors said to an OpenAI client.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use strait::codec::base64;
use strait::protocol::Protocol::{self, Bedrock, Cohere, Gemini, OpenaiChat};
use strait::protocol::api::{self, Api, embeddings};

use super::common::shape;

/// Returns every recorded exchange of a folder that ended well.
pub fn recordings(folder: &str) -> Vec<(String, Value)> {
    let shared = std::env::var("STRAIT_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let folder = PathBuf::from(shared).join("recordings").join(folder);
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("no recordings in {}", folder.display());
        return Vec::new();
    };
    let mut found: Vec<(String, Value)> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|name| name == "json"))
        .map(|path| {
            let text = fs::read(&path).expect("a file");
            let json = serde_json::from_slice(&text).expect("JSON");
            (path.display().to_string(), json)
        })
        .filter(|(_, exchange): &(String, Value)| exchange["response"]["status"] == 200)
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

#[test]
fn recorded_embeddings_are_counted_and_said_again() {
    let mut lines = Vec::new();
    for (folder, from) in [
        ("openai-embeddings", OpenaiChat),
        ("mistral-embeddings", OpenaiChat),
        ("voyageai-embeddings", OpenaiChat),
        ("cohere-v2-embed", Cohere),
        ("gemini-batchEmbedContents", Gemini),
        ("bedrock-invoke", Bedrock),
    ] {
        for (path, exchange) in recordings(folder) {
            let (request, answer) = (&exchange["request"]["body"], &exchange["response"]["body"]);
            if answer["embeddings"].is_null()
                && answer["embedding"].is_null()
                && answer["data"].is_null()
            {
                assert_eq!(folder, "bedrock-invoke", "{path} has no embeddings");
                continue;
            }
            check(&path, from, request, answer, &mut lines);
        }
    }
    eprintln!("{} answers with recorded embeddings", lines.len());
    hold_against_sdks("embeddings", &lines);
}

fn check(path: &str, from: Protocol, request: &Value, answer: &Value, lines: &mut Vec<Value>) {
    let (sent, told) = (request.to_string(), answer.to_string());
    let usage = api::usage(Api::Embeddings, from, sent.as_bytes(), told.as_bytes());
    let number = [
        &answer["usage"]["prompt_tokens"],
        &answer["usage"]["total_tokens"],
        &answer["usageMetadata"]["promptTokenCount"],
        &answer["meta"]["billed_units"]["input_tokens"],
        &answer["inputTextTokenCount"],
    ]
    .into_iter()
    .find_map(Value::as_u64);
    match (number, usage) {
        (Some(number), Some(usage)) => {
            assert_eq!(usage.input, number, "{path}: the provider's own count");
            assert!(!usage.estimated, "{path}");
        }
        (None, Some(usage)) => assert!(usage.estimated, "{path}"),
        // InvokeModel's requests are no client's, and its counts stand in the headers.
        (None, None) => assert_eq!(from, Bedrock, "{path}"),
        (Some(number), None) => panic!("{path}: {number} tokens were not read"),
    }
    // An OpenAI client that asked for as many, in both encodings.
    let inputs = embeddings::read(from, sent.as_bytes()).map_or(1, |read| read.inputs.len());
    let mut say = |encoding: &str| {
        let asked = json!({"input": vec!["a"; inputs], "encoding_format": encoding}).to_string();
        let (asked, told) = (asked.as_bytes(), told.as_bytes());
        let said = api::answer(Api::Embeddings, from, OpenaiChat, asked, told, &shape())
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let said: Value = serde_json::from_slice(&said).expect("JSON");
        let line = json!({"name": path, "kind": "openai.embeddings", "body": said});
        // The type knows numbers alone; the client turns base64 into them, which `bytes` below does too.
        if encoding == "float" {
            lines.push(line);
        }
        said
    };
    let coded = say("base64");
    let said = say("float");
    let list = said["data"].as_array().expect("a list");
    assert_eq!(list.len(), inputs, "{path}");
    for one in list {
        let vector: Vec<f32> = serde_json::from_value(one["embedding"].clone()).expect("numbers");
        let text = coded["data"][one["index"].as_u64().unwrap_or(0) as usize]["embedding"].as_str();
        let bytes = base64::decode(text.expect("base64").as_bytes()).expect("base64");
        let same: Vec<u8> = vector
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        assert_eq!(bytes, same, "{path}: both encodings say the same");
        let length: f32 = vector.iter().map(|number| number * number).sum();
        assert!(vector.len() >= 128, "{path}: {}", vector.len());
        assert!(length > 0.1, "{path}: a vector that says nothing");
        assert_eq!(one["object"], "embedding", "{path}");
    }
    if let Some(number) = number {
        assert_eq!(said["usage"]["prompt_tokens"], number, "{path}");
    }
}

/// Holds the lines against the official SDK.
fn hold_against_sdks(name: &str, lines: &[Value]) {
    let clients = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let clients = std::env::var_os("STRAIT_CLIENTS").map_or(clients, PathBuf::from);
    let venv = clients.join(".venv/bin/python");
    let python = std::env::var_os("STRAIT_PYTHON").map_or(venv, PathBuf::from);
    assert!(
        python.exists(),
        "{} is absent: run `bash .ci/setup tests` first",
        python.display()
    );
    let file =
        std::env::temp_dir().join(format!("strait-apis-{name}-{}.jsonl", std::process::id()));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&file, text).expect("a place for the lines");
    let run = Command::new(&python)
        .arg(clients.join("validate_types.py"))
        .arg(&file)
        .output()
        .expect("Python runs");
    fs::remove_file(&file).expect("the lines were there");
    let told = String::from_utf8_lossy(&run.stdout);
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{told}{errors}");
}

#[test]
fn recorded_images_and_sounds_are_counted() {
    let mut lines = Vec::new();
    for (path, exchange) in recordings("openai-images") {
        let (request, answer) = (&exchange["request"]["body"], &exchange["response"]["body"]);
        let (sent, told) = (request.to_string(), answer.to_string());
        let usage = api::usage(Api::Images, OpenaiChat, sent.as_bytes(), told.as_bytes());
        let usage = usage.unwrap_or_else(|| panic!("{path}: no usage"));
        let images = answer["data"].as_array().map_or(0, Vec::len);
        assert_eq!(usage.images, images as u64, "{path}");
        lines.push(json!({"name": path, "kind": "openai.images", "body": answer}));
    }
    for (path, exchange) in recordings("openai-audio") {
        let told = exchange["response"]["body"].to_string();
        let usage = api::usage(Api::Transcriptions, OpenaiChat, b"", told.as_bytes());
        let seconds = exchange["response"]["body"]["usage"]["seconds"].as_u64();
        assert_eq!(
            usage.map(|usage| usage.duration.as_secs()),
            seconds,
            "{path}"
        );
        let answer = &exchange["response"]["body"];
        lines.push(json!({"name": path, "kind": "openai.transcription", "body": answer}));
    }
    hold_against_sdks("media", &lines);
}
