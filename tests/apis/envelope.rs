//! The envelope of what is no chat, and the model put in its place.

use bytes::Bytes;

use strait::error::Kind;
use strait::protocol::Protocol::{Anthropic, Cohere, Gemini, Ollama, OpenaiChat};
use strait::protocol::api::{Api, splice_model};
use strait::protocol::envelope::{Envelope, Said};

const FORM: &str = "multipart/form-data; boundary=X";

fn form(parts: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in parts {
        body.push_str(&format!(
            "--X\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n"
        ));
    }
    body + "--X--\r\n"
}

#[test]
fn each_api_demands_its_fields() {
    for (api, protocol, body, missing) in [
        (Api::Embeddings, OpenaiChat, r#"{"model":"m"}"#, "input"),
        (
            Api::Embeddings,
            Ollama,
            r#"{"model":"m","input":null}"#,
            "input",
        ),
        (Api::Embeddings, Cohere, r#"{"model":"m"}"#, "texts"),
        (Api::Embeddings, Gemini, r#"{"model":"m"}"#, "content"),
        (Api::Moderations, OpenaiChat, r#"{"model":"m"}"#, "input"),
        (Api::Speech, OpenaiChat, r#"{"model":"m"}"#, "input"),
        (Api::Images, OpenaiChat, r#"{"model":"m"}"#, "prompt"),
        (
            Api::Rerank,
            Cohere,
            r#"{"model":"m","query":"q"}"#,
            "documents",
        ),
        (
            Api::Rerank,
            Cohere,
            r#"{"model":"m","documents":[]}"#,
            "query",
        ),
        (
            Api::Rerank,
            Cohere,
            r#"{"documents":[],"query":"q"}"#,
            "model",
        ),
        (Api::Embeddings, OpenaiChat, r#"{"input":"a"}"#, "model"),
        (Api::CountTokens, Anthropic, r#"{"model":"m"}"#, "messages"),
    ] {
        let error = Envelope::read_api(body.as_bytes(), api, protocol, 64, Said::default())
            .expect_err("a field is missing");
        assert_eq!(error.param.as_deref(), Some(missing), "{body}");
    }
    for (api, protocol, body) in [
        (Api::Embeddings, OpenaiChat, r#"{"model":"m","input":"a"}"#),
        (Api::Embeddings, Cohere, r#"{"model":"m","inputs":[]}"#),
        (Api::Embeddings, Gemini, r#"{"model":"m","requests":[]}"#),
        (
            Api::Rerank,
            Cohere,
            r#"{"model":"m","query":"q","documents":["a"]}"#,
        ),
    ] {
        Envelope::read_api(body.as_bytes(), api, protocol, 64, Said::default())
            .unwrap_or_else(|error| panic!("{body}: {error}"));
    }
}

#[test]
fn moderations_have_a_model_even_so() {
    let read = |body: &'static str| {
        Envelope::read_api(
            body.as_bytes(),
            Api::Moderations,
            OpenaiChat,
            64,
            Said::default(),
        )
        .expect("a good body")
    };
    let envelope = read(r#"{"input":"a"}"#);
    assert_eq!(envelope.model, "omni-moderation-latest");
    assert_eq!(envelope.model_value, None);
    assert_eq!(read(r#"{"input":"a","model":"m"}"#).model, "m");
}

#[test]
fn what_is_ours_is_read_and_found() {
    let body = r#"{"model":"m","fallbacks":["n"],"input":"a","usage":{"include":true},"user":"u","metadata":{"a":1}}"#;
    let envelope = Envelope::read_api(
        body.as_bytes(),
        Api::Embeddings,
        OpenaiChat,
        64,
        Said::default(),
    )
    .expect("a good body");
    assert_eq!(envelope.fallbacks, ["n"]);
    assert!(envelope.include_cost);
    assert_eq!(envelope.ours().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(envelope.user.as_deref(), Some("u"));
    let twice = r#"{"model":"m","input":"a","m\u006fdel":"n"}"#;
    let error = Envelope::read_api(
        twice.as_bytes(),
        Api::Embeddings,
        OpenaiChat,
        64,
        Said::default(),
    )
    .expect_err("a key twice");
    assert_eq!(error.param.as_deref(), Some("model"));
}

#[test]
fn speech_streams_where_events_are_asked_for() {
    for (body, stream) in [
        (r#"{"model":"m","input":"a"}"#, false),
        (
            r#"{"model":"m","input":"a","stream_format":"audio"}"#,
            false,
        ),
        (r#"{"model":"m","input":"a","stream_format":"sse"}"#, true),
    ] {
        let envelope = Envelope::read_api(
            body.as_bytes(),
            Api::Speech,
            OpenaiChat,
            64,
            Said::default(),
        )
        .expect("a good body");
        assert_eq!(envelope.stream, stream, "{body}");
    }
}

#[test]
fn a_form_tells_its_model() {
    let body = form(&[
        ("name=\"stream\"", "true"),
        ("name=\"model\"", "whisper-1"),
        ("name=\"user\"", "u"),
        ("name=\"file\"; filename=\"a.mp3\"", "sound"),
    ]);
    let envelope = Envelope::read_form(body.as_bytes(), FORM, Api::Transcriptions, Said::default())
        .expect("a good form");
    assert_eq!(envelope.model, "whisper-1");
    assert!(envelope.stream);
    assert_eq!(envelope.user.as_deref(), Some("u"));
    let at = envelope.model_value.expect("the model has a place");
    assert_eq!(&body[at], "whisper-1");
    for (parts, param) in [
        (vec![("name=\"file\"", "x")], "model"),
        (vec![("name=\"model\"", "m")], "file"),
        (
            vec![
                ("name=\"model\"", "m"),
                ("name=\"model\"", "m"),
                ("name=\"file\"", "x"),
            ],
            "model",
        ),
        (
            vec![
                ("name=\"model\"", "m"),
                ("name=\"stream\"", "maybe"),
                ("name=\"file\"", "x"),
            ],
            "stream",
        ),
    ] {
        let body = form(&parts);
        let error =
            Envelope::read_form(body.as_bytes(), FORM, Api::Transcriptions, Said::default())
                .expect_err("a broken form");
        assert_eq!(error.param.as_deref(), Some(param), "{body}");
    }
    let edit = form(&[
        ("name=\"model\"", "m"),
        ("name=\"image[]\"; filename=a.png", "x"),
    ]);
    Envelope::read_form(edit.as_bytes(), FORM, Api::ImageEdits, Said::default())
        .expect("images may come as a list");
}

#[test]
fn edits_may_come_as_json() {
    let body = br#"{"model":"m","prompt":"p","images":[{"image_url":"u"}]}"#;
    let kind = "application/json; charset=utf-8";
    let envelope = Envelope::read_form(body, kind, Api::ImageEdits, Said::default());
    assert_eq!(envelope.expect("a good body").model, "m");
    let error = Envelope::read_form(body, kind, Api::Transcriptions, Said::default());
    assert_eq!(error.expect_err("no form").kind, Kind::InvalidRequest);
}

#[test]
fn a_spliced_model_leaves_all_else_as_it_was() {
    let splice = |api, content_type, body: &str| {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let out = splice_model(api, content_type, &body, "new \"one\"").expect("a good body");
        String::from_utf8(out.to_vec()).expect("text")
    };
    assert_eq!(
        splice(
            Api::Embeddings,
            "application/json",
            r#"{ "input" : "a", "model":"old" ,"x":1.0}"#
        ),
        r#"{ "input" : "a", "model":"new \"one\"" ,"x":1.0}"#
    );
    assert_eq!(
        splice(
            Api::Moderations,
            "application/json",
            r#"{"input":"a","fallbacks":["b"]}"#
        ),
        r#"{"input":"a","model":"new \"one\""}"#
    );
    assert_eq!(
        splice(
            Api::Embeddings,
            "application/json",
            r#"{"requests":[{"model":"models/x","content":{"model":1}},{"content":{}}]}"#
        ),
        r#"{"requests":[{"model":"models/new \"one\"","content":{"model":1}},{"content":{}}]}"#
    );
    let before = form(&[("name=\"model\"", "old"), ("name=\"file\"", "old\r\n--old")]);
    let after = form(&[
        ("name=\"model\"", "new \"one\""),
        ("name=\"file\"", "old\r\n--old"),
    ]);
    assert_eq!(splice(Api::Transcriptions, FORM, &before), after);
    let none = Bytes::from(form(&[("name=\"file\"", "x")]));
    let error = splice_model(Api::Transcriptions, FORM, &none, "m").expect_err("no model");
    assert_eq!(error.kind, Kind::InvalidRequest);
    assert_eq!(error.param.as_deref(), Some("model"));
}
