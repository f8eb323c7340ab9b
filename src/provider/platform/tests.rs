use bytes::Bytes;

use super::*;
use crate::provider::Only;

fn endpoint(base_path: &str) -> Endpoint {
    Endpoint {
        tls: true,
        host: "host".into(),
        port: 443,
        base_path: base_path.into(),
        weight: 1,
        health_path: None,
    }
}

fn speaks(protocol: Protocol, path: Option<&str>) -> Speaks {
    Speaks {
        path: path.map(str::to_owned),
        ..Speaks::new(protocol)
    }
}

fn plain_path(base: &str, protocol: Protocol, api: Api, model: &str, stream: bool) -> String {
    let speaks = Speaks::new(protocol);
    path(
        &Platform::Plain,
        &endpoint(base),
        &speaks,
        api,
        model,
        stream,
    )
}

#[test]
fn every_plain_call_has_its_path() {
    use Protocol::*;
    #[rustfmt::skip] // a table: one line each
    let cases = [
        ("/v1", OpenaiChat, Api::Chat, "/v1/chat/completions"),
        ("/v1", OpenaiResponses, Api::Chat, "/v1/responses"),
        ("/v1", OpenaiCompletions, Api::Chat, "/v1/completions"),
        ("/v1", OpenaiChat, Api::Embeddings, "/v1/embeddings"),
        ("/v1", OpenaiChat, Api::Rerank, "/v1/rerank"),
        ("/v1", OpenaiChat, Api::Moderations, "/v1/moderations"),
        ("/v1", OpenaiChat, Api::Images, "/v1/images/generations"),
        ("/v1", OpenaiChat, Api::ImageEdits, "/v1/images/edits"),
        ("/v1", OpenaiChat, Api::Speech, "/v1/audio/speech"),
        ("/v1", OpenaiChat, Api::Transcriptions, "/v1/audio/transcriptions"),
        ("/v1", OpenaiChat, Api::Translations, "/v1/audio/translations"),
        ("/v1", OpenaiResponses, Api::CountTokens, "/v1/responses/input_tokens"),
        ("", Anthropic, Api::Chat, "/v1/messages"),
        ("/v1", Anthropic, Api::Chat, "/v1/messages"),
        ("/x/v1", Anthropic, Api::CountTokens, "/x/v1/messages/count_tokens"),
        ("/v2", Cohere, Api::Chat, "/v2/chat"),
        ("/v2", Cohere, Api::Embeddings, "/v2/embed"),
        ("/v2", Cohere, Api::Rerank, "/v2/rerank"),
        ("", Ollama, Api::Chat, "/api/chat"),
        ("/v1", Ollama, Api::Chat, "/api/chat"),
        ("", Ollama, Api::Embeddings, "/api/embed"),
        ("/v1beta", Gemini, Api::Chat, "/v1beta/models/m:generateContent"),
        ("/v1beta", Gemini, Api::CountTokens, "/v1beta/models/m:countTokens"),
        ("/v1beta", Gemini, Api::Embeddings, "/v1beta/models/m:batchEmbedContents"),
        ("/v1beta", Gemini, Api::Images, "/v1beta/models/m:generateContent"),
        ("/v1beta", Gemini, Api::ImageEdits, "/v1beta/models/m:generateContent"),
        ("/v1beta", Gemini, Api::Speech, "/v1beta/models/m:generateContent"),
        ("", Bedrock, Api::Chat, "/model/m/converse"),
        ("", Bedrock, Api::Embeddings, "/model/m/invoke"),
        ("", Bedrock, Api::CountTokens, "/model/m/count-tokens"),
    ];
    for (base, protocol, api, expected) in cases {
        assert_eq!(
            plain_path(base, protocol, api, "m", false),
            expected,
            "{protocol:?} {api:?}"
        );
    }
}

#[test]
fn a_stream_has_a_path_of_its_own_where_the_protocol_says_so() {
    let stream = |protocol| plain_path("/v1", protocol, Api::Chat, "m", true);
    assert_eq!(stream(Protocol::OpenaiChat), "/v1/chat/completions");
    assert_eq!(
        stream(Protocol::Gemini),
        "/v1/models/m:streamGenerateContent?alt=sse"
    );
    assert_eq!(stream(Protocol::Bedrock), "/v1/model/m/converse-stream");
    assert_eq!(
        plain_path("", Protocol::Gemini, Api::CountTokens, "m", true),
        "/models/m:countTokens",
        "only a chat streams"
    );
}

#[test]
fn a_written_path_is_taken_as_it_is_and_the_other_calls_stand_beside_it() {
    let at = |protocol, written, api| {
        let speaks = speaks(protocol, Some(written));
        path(&Platform::Plain, &endpoint("/v9"), &speaks, api, "m", false)
    };
    let chat = "/v1beta/openai/chat/completions";
    assert_eq!(at(Protocol::OpenaiChat, chat, Api::Chat), chat);
    assert_eq!(
        at(Protocol::OpenaiChat, chat, Api::Embeddings),
        "/v1beta/openai/embeddings"
    );
    assert_eq!(
        at(
            Protocol::Anthropic,
            "/anthropic/v1/messages",
            Api::CountTokens
        ),
        "/anthropic/v1/messages/count_tokens"
    );
    assert_eq!(
        at(Protocol::OpenaiChat, "/odd?x=1", Api::Rerank),
        "/v9/rerank",
        "an odd path tells nothing of the others"
    );
    assert_eq!(
        at(Protocol::Gemini, "/google/v1/", Api::Chat),
        "/google/v1/models/m:generateContent",
        "with the model in it, a path can only be the base"
    );
}

#[test]
fn models_of_ones_own_keep_their_collection_at_gemini() {
    let at = |model| plain_path("/v1beta", Protocol::Gemini, Api::Chat, model, false);
    assert_eq!(at("models/x-1"), "/v1beta/models/x-1:generateContent");
    assert_eq!(at("tunedModels/a"), "/v1beta/tunedModels/a:generateContent");
    assert_eq!(
        at("a b?c#d%"),
        "/v1beta/models/a%20b%3Fc%23d%25:generateContent"
    );
}

#[test]
fn bedrock_puts_the_model_into_one_segment() {
    let bedrock = Platform::Bedrock {
        region: "eu-west-1".into(),
    };
    let at = |protocol, model, stream| {
        path(
            &bedrock,
            &endpoint(""),
            &Speaks::new(protocol),
            Api::Chat,
            model,
            stream,
        )
    };
    let claude = "anthropic.claude-3-7-sonnet-20250219-v1:0";
    assert_eq!(
        at(Protocol::Bedrock, claude, true),
        "/model/anthropic.claude-3-7-sonnet-20250219-v1%3A0/converse-stream"
    );
    assert_eq!(
        at(Protocol::Anthropic, claude, false),
        "/model/anthropic.claude-3-7-sonnet-20250219-v1%3A0/invoke"
    );
    assert_eq!(
        at(Protocol::Anthropic, "m", true),
        "/model/m/invoke-with-response-stream"
    );
    assert_eq!(
        at(
            Protocol::Bedrock,
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.x",
            false
        ),
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.x/converse"
    );
    assert_eq!(
        bedrock.host().as_deref(),
        Some("bedrock-runtime.eu-west-1.amazonaws.com")
    );
}

#[test]
fn vertex_names_project_location_and_publisher() {
    let vertex = |location: &str| Platform::Vertex {
        project: "my-project".into(),
        location: location.into(),
    };
    let at = |base, protocol, api, model, stream| {
        let speaks = Speaks::new(protocol);
        let europe = vertex("europe-west4");
        path(&europe, &endpoint(base), &speaks, api, model, stream)
    };
    let root = "/v1/projects/my-project/locations/europe-west4";
    #[rustfmt::skip] // a table: one line each
    let cases = [
        (Protocol::Gemini, Api::Chat, "gemini-2.5-pro", false, "/publishers/google/models/gemini-2.5-pro:generateContent"),
        (Protocol::Gemini, Api::Chat, "google/gemini-2.5-pro", true, "/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        (Protocol::Gemini, Api::CountTokens, "gemini-2.5-pro", false, "/publishers/google/models/gemini-2.5-pro:countTokens"),
        (Protocol::Gemini, Api::Embeddings, "text-embedding-005", false, "/publishers/google/models/text-embedding-005:predict"),
        (Protocol::Gemini, Api::Images, "imagen-4", false, "/publishers/google/models/imagen-4:predict"),
        (Protocol::Anthropic, Api::Chat, "claude-sonnet-4-5@20250929", false, "/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict"),
        (Protocol::Anthropic, Api::Chat, "anthropic/claude-opus-4-1", true, "/publishers/anthropic/models/claude-opus-4-1:streamRawPredict"),
        (Protocol::Anthropic, Api::CountTokens, "claude-opus-4-1", false, "/publishers/anthropic/models/count-tokens:rawPredict"),
        (Protocol::OpenaiChat, Api::Chat, "meta/llama-4", true, "/endpoints/openapi/chat/completions"),
        (Protocol::Gemini, Api::Chat, "endpoints/123", false, "/endpoints/123:generateContent"),
    ];
    for (protocol, api, model, stream, expected) in cases {
        assert_eq!(
            at("", protocol, api, model, stream),
            format!("{root}{expected}"),
            "{protocol:?} {api:?} {model}"
        );
    }
    assert!(
        at("/v1beta1", Protocol::Gemini, Api::Chat, "m", false).starts_with("/v1beta1/projects/")
    );
    let hosts = ["global", "us", "europe-west4"].map(|location| vertex(location).host());
    let hosts: Vec<_> = hosts.iter().flatten().map(String::as_str).collect();
    assert_eq!(
        hosts,
        [
            "aiplatform.googleapis.com",
            "aiplatform.us.rep.googleapis.com",
            "europe-west4-aiplatform.googleapis.com"
        ]
    );
}

#[test]
fn azure_has_two_styles() {
    let classic = Platform::Azure {
        api_version: Some("2024-10-21".into()),
    };
    let v1 = Platform::Azure { api_version: None };
    let at = |platform: &Platform, protocol, api, model| {
        path(
            platform,
            &endpoint(""),
            &Speaks::new(protocol),
            api,
            model,
            true,
        )
    };
    #[rustfmt::skip] // a table: one line each
    let cases = [
        (Protocol::OpenaiChat, Api::Chat, "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21", "/openai/v1/chat/completions"),
        (Protocol::OpenaiResponses, Api::Chat, "/openai/responses?api-version=2024-10-21", "/openai/v1/responses"),
        (Protocol::OpenaiCompletions, Api::Chat, "/openai/deployments/my%20gpt/completions?api-version=2024-10-21", "/openai/v1/completions"),
        (Protocol::OpenaiChat, Api::Embeddings, "/openai/deployments/my%20gpt/embeddings?api-version=2024-10-21", "/openai/v1/embeddings"),
        (Protocol::OpenaiResponses, Api::Embeddings, "/openai/deployments/my%20gpt/embeddings?api-version=2024-10-21", "/openai/v1/embeddings"),
        (Protocol::OpenaiChat, Api::Images, "/openai/deployments/my%20gpt/images/generations?api-version=2024-10-21", "/openai/v1/images/generations"),
        (Protocol::OpenaiChat, Api::Transcriptions, "/openai/deployments/my%20gpt/audio/transcriptions?api-version=2024-10-21", "/openai/v1/audio/transcriptions"),
        (Protocol::Anthropic, Api::Chat, "/anthropic/v1/messages", "/anthropic/v1/messages"),
    ];
    for (protocol, api, old, new) in cases {
        assert_eq!(
            at(&classic, protocol, api, "my gpt"),
            old,
            "{protocol:?} {api:?}"
        );
        assert_eq!(
            at(&v1, protocol, api, "my gpt"),
            new,
            "{protocol:?} {api:?}"
        );
    }
    for base in ["/openai", "/openai/v1"] {
        let speaks = Speaks::new(Protocol::OpenaiChat);
        assert_eq!(
            path(&v1, &endpoint(base), &speaks, Api::Chat, "m", false),
            "/openai/v1/chat/completions",
            "people copy {base} with the address"
        );
    }
}

#[test]
fn tokens_are_counted_where_the_clients_own_body_can_be() {
    let bedrock = Platform::Bedrock { region: "x".into() };
    assert!(bedrock.counts_tokens(Protocol::Bedrock));
    assert!(!bedrock.counts_tokens(Protocol::Anthropic));
    assert!(Platform::Plain.counts_tokens(Protocol::Anthropic));
    assert!(!Platform::Plain.counts_tokens(Protocol::OpenaiChat));
}

#[test]
fn streams_of_bedrock_are_framed_its_own_way() {
    let bedrock = Platform::Bedrock { region: "x".into() };
    assert_eq!(bedrock.framing(Protocol::Anthropic), Framing::EventStream);
    assert_eq!(
        Platform::Plain.framing(Protocol::Anthropic),
        Framing::Events
    );
}

#[test]
fn a_clients_query_is_joined_without_what_is_ours() {
    let joined = |path: &str, query| String::from_utf8(target(path.as_bytes(), query)).unwrap();
    assert_eq!(joined("/a", None), "/a");
    assert_eq!(joined("/a", Some("")), "/a");
    assert_eq!(joined("/a", Some("beta=true&x=1")), "/a?beta=true&x=1");
    assert_eq!(
        joined("/a:s?alt=sse", Some("alt=sse&x=1&key=SECRET")),
        "/a:s?alt=sse&x=1"
    );
    assert_eq!(
        joined("/a?api-version=1", Some("api-version=2")),
        "/a?api-version=1"
    );
}

#[test]
fn a_request_for_vertex_names_the_version_and_not_the_model() {
    let edited = |body: &'static str| {
        let body = Bytes::from_static(body.as_bytes());
        let mut members = Vec::new();
        json::members(&body, 64, &mut members).unwrap();
        let mut edits = Edits::new();
        vertex_edit(&body, &members, &mut edits);
        String::from_utf8(edits.apply(&body).to_vec()).unwrap()
    };
    assert_eq!(
        edited(r#"{"model":"claude","max_tokens":1}"#),
        r#"{"max_tokens":1,"anthropic_version":"vertex-2023-10-16"}"#
    );
    assert_eq!(
        edited(r#"{"a":1,"model":"claude","anthropic_version":"vertex-x"}"#),
        r#"{"a":1,"anthropic_version":"vertex-x"}"#,
        "the client's own version stays"
    );
}

#[test]
fn models_are_taken_in_by_a_pattern_and_out_by_another() {
    let only = Only::new(["gpt-*", "!gpt-4*"]);
    assert!(only.matches("gpt-5") && !only.matches("gpt-4o") && !only.matches("claude"));
    let not = Only::new(["!claude*"]);
    assert!(not.matches("gpt-5") && !not.matches("claude-x"));
    assert!(Only::default().matches("anything"));
}
