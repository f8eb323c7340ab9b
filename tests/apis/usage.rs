//! What answers took, in the units that are billed.

use std::time::Duration;

use strait::protocol::Protocol::{Bedrock, Cohere, Gemini, OpenaiChat};
use strait::protocol::api::{Api, usage};
use strait::protocol::usage::Usage;

fn told(api: Api, request: &str, answer: &str) -> Option<Usage> {
    usage(api, OpenaiChat, request.as_bytes(), answer.as_bytes())
}

#[test]
fn embeddings_that_nobody_counted_are_estimated() {
    let request = br#"{"requests":[{"content":{"parts":[{"text":"Some text goes here"}]}}]}"#;
    let answer = br#"{"embeddings":[{"values":[1]}]}"#;
    let found = usage(Api::Embeddings, Gemini, request, answer).expect("an estimate");
    assert!(found.estimated);
    assert!((2..=8).contains(&found.input), "{}", found.input);
}

#[test]
fn image_tokens_of_embeddings_are_told_apart() {
    let answer = br#"{"embeddings":[{"values":[1]}],"usageMetadata":{"promptTokenCount":261,
        "promptTokenDetails":[{"modality":"IMAGE","tokenCount":258},{"modality":"TEXT","tokenCount":3}]}}"#;
    let found = usage(Api::Embeddings, Gemini, b"{}", answer).expect("usage");
    assert_eq!((found.input, found.image_in), (261, 258));
    let answer = br#"{"embeddings":{"float":[[1]]},"meta":{"billed_units":{"input_tokens":3,"image_tokens":7}}}"#;
    let found = usage(Api::Embeddings, Cohere, b"{}", answer).expect("usage");
    assert_eq!((found.input, found.image_in), (10, 7));
}

#[test]
fn a_bill_is_read_whatever_was_asked_for() {
    let embedded = r#"{"object":"list","data":[{"index":0,"embedding":[1]}],"usage":{"prompt_tokens":5,"total_tokens":5,"cost":0.0000001}}"#;
    let found = told(Api::Embeddings, "{}", embedded).expect("usage");
    assert_eq!((found.input, found.reported), (5, Some(100_000)));
    let ranked =
        r#"{"results":[{"index":0,"relevance_score":1}],"usage":{"total_tokens":5,"cost":0.001}}"#;
    let request = r#"{"query":"q","documents":["d"]}"#;
    let found = told(Api::Rerank, request, ranked).expect("usage");
    assert_eq!(found.reported, Some(1_000_000_000));
    let made =
        r#"{"created":1,"data":[{"url":"http://x"}],"usage":{"cost_in_usd_ticks":200000000}}"#;
    let found = told(Api::Images, "{}", made).expect("usage");
    assert_eq!((found.images, found.reported), (1, Some(20_000_000_000)));
}

#[test]
fn rankings_are_billed_by_unit_or_token() {
    let request = format!(
        r#"{{"query":"q","documents":[{}"d"]}}"#,
        "\"d\",".repeat(150)
    );
    let results = r#"{"results":[{"index":0,"relevance_score":1}]"#;
    let cohere = format!("{results},\"meta\":{{\"billed_units\":{{\"search_units\":3}}}}}}");
    let found = usage(Api::Rerank, Cohere, request.as_bytes(), cohere.as_bytes()).expect("usage");
    assert_eq!((found.queries, found.input, found.estimated), (3, 0, false));
    let fifth = format!("{results},\"meta\":{{\"billed_units\":{{\"input_tokens\":90}}}}}}");
    let found = usage(Api::Rerank, Cohere, request.as_bytes(), fifth.as_bytes()).expect("usage");
    assert_eq!(
        (found.queries, found.input, found.estimated),
        (0, 90, false)
    );
    let bare = format!("{results}}}");
    let found = usage(Api::Rerank, Bedrock, request.as_bytes(), bare.as_bytes()).expect("usage");
    assert_eq!((found.queries, found.estimated), (2, true));
    let jina = format!("{results},\"usage\":{{\"total_tokens\":38}}}}");
    let found = told(Api::Rerank, &request, &jina).expect("usage");
    assert_eq!((found.queries, found.input), (0, 38));
}

#[test]
fn images_are_counted_and_their_tokens_read() {
    let found = told(
        Api::Images,
        r#"{"prompt":"p"}"#,
        r#"{"created":1,"data":[{"url":"a"},{"url":"b"}]}"#,
    )
    .expect("usage");
    assert_eq!((found.images, found.total()), (2, 0));
    let answer = r#"{"data":[{"b64_json":"AA=="}],"usage":{"input_tokens":50,"output_tokens":1000,
        "input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#;
    let found = told(Api::Images, "{}", answer).expect("usage");
    assert_eq!(
        (found.images, found.input, found.image_in, found.image_out),
        (1, 50, 40, 1000)
    );
    let events = "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\"}\n\n\
        event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"usage\":{\"input_tokens\":5,\"output_tokens\":70}}\n\n";
    let found = told(Api::Images, "{}", events).expect("usage");
    assert_eq!((found.input, found.image_out), (5, 70));
}

#[test]
fn speech_is_billed_by_character_or_token() {
    let request = r#"{"model":"tts-1","input":"héllo \u00e9"}"#;
    let found = told(Api::Speech, request, "\u{1}\u{2}sound").expect("usage");
    assert_eq!((found.characters, found.total()), (7, 0));
    let events = "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AA==\"}\n\n\
        data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":101,\"total_tokens\":115}}\n\n";
    let found = told(Api::Speech, request, events).expect("usage");
    assert_eq!((found.input, found.output, found.audio_out), (14, 101, 101));
}

#[test]
fn what_was_heard_is_billed_by_time_or_token() {
    for (answer, millis) in [
        (
            r#"{"text":"a","usage":{"type":"duration","seconds":7}}"#,
            7000,
        ),
        (r#"{"text":"a","duration":8.47,"segments":[]}"#, 8470),
        (r#"{"text":"a","duration":"8.470000267028809"}"#, 8470),
        (
            "1\n00:00:00,000 --> 00:00:03,500\na\n\n2\n00:01:00,000 --> 00:01:04,250\nb\n",
            64_250,
        ),
        ("WEBVTT\n\n00:00.000 --> 00:02.5\na\n", 2500),
    ] {
        let found = told(Api::Transcriptions, "", answer).expect(answer);
        assert_eq!(found.duration, Duration::from_millis(millis), "{answer}");
    }
    for answer in [
        r#"{"text":"a","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":4,"audio_tokens":10},"output_tokens":45}}"#,
        "lta\":\"a\"}\n\ndata: {\"type\":\"transcript.text.done\",\"usage\":{\"input_tokens\":14,\"input_token_details\":{\"audio_tokens\":10},\"output_tokens\":45}}\n\n",
        "data: {\"type\":\"transcript.text.delta\",\"delta\":\"a\"}\n\ndata: {\"type\":\"transcript.text.done\",\"usage\":{\"input_tokens\":14,\"input_token_details\":{\"audio_tokens\":10},\"output_tokens\":45}}\n\n",
    ] {
        let found = told(Api::Transcriptions, "", answer).expect(answer);
        assert_eq!((found.input, found.audio_in, found.output), (14, 10, 45));
    }
    assert_eq!(told(Api::Transcriptions, "", "just text"), None);
    assert_eq!(told(Api::Translations, "", r#"{"text":"a"}"#), None);
}
