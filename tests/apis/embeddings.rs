//! Embeddings: each client's words to each provider, and the vectors back.

use serde_json::{Value, json};

use strait::error::Kind;
use strait::protocol::Protocol::{self, Bedrock, Cohere, Gemini, Ollama, OpenaiChat};
use strait::protocol::api::{self, Api};

use super::common::{answered, built, refused, shape};

/// The same two texts to search for, in 256 numbers, in each client's words.
fn clients() -> [(Protocol, Value); 4] {
    let one = |text: &str| {
        json!({"model": "models/asked", "content": {"parts": [{"text": text}]},
            "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 256})
    };
    [
        (
            OpenaiChat,
            json!({"model": "asked", "input": ["one", "two\n\"quoted\""], "dimensions": 256, "input_type": "query"}),
        ),
        (
            Gemini,
            json!({"requests": [one("one"), one("two\n\"quoted\"")]}),
        ),
        (
            Cohere,
            json!({"model": "asked", "texts": ["one", "two\n\"quoted\""], "input_type": "search_query", "output_dimension": 256,
                "embedding_types": ["float"]}),
        ),
        (
            Ollama,
            json!({"model": "asked", "input": ["one", "two\n\"quoted\""], "dimensions": 256}),
        ),
    ]
}

#[test]
fn every_client_is_said_to_every_provider() {
    for (client, body) in clients() {
        // Ollama's clients have no word for what the texts are for.
        let tasked = client != Ollama;
        let to = |to, model| built(Api::Embeddings, client, to, &body, model).0;

        let sent = to(OpenaiChat, "text-embedding-3-small");
        let texts = json!(["one", "two\n\"quoted\""]);
        assert_eq!(
            sent,
            json!({"model": "text-embedding-3-small", "input": texts, "dimensions": 256}),
            "{client:?}"
        );
        let sent = to(OpenaiChat, "voyage-3.5");
        let mut expected = json!({"model": "voyage-3.5", "input": texts, "output_dimension": 256});
        if tasked {
            expected["input_type"] = "query".into();
        }
        assert_eq!(sent, expected, "{client:?}");
        let sent = to(OpenaiChat, "jina-embeddings-v3");
        let mut expected =
            json!({"model": "jina-embeddings-v3", "input": texts, "dimensions": 256});
        if tasked {
            expected["task"] = "retrieval.query".into();
        }
        assert_eq!(sent, expected, "{client:?}");

        let sent = to(Gemini, "gemini-embedding-001");
        let one = |text: &str| {
            let mut one = json!({"model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": text}]}, "outputDimensionality": 256});
            if tasked {
                one["taskType"] = "RETRIEVAL_QUERY".into();
            }
            one
        };
        assert_eq!(
            sent,
            json!({"requests": [one("one"), one("two\n\"quoted\"")]}),
            "{client:?}"
        );

        let kind = if tasked {
            "search_query"
        } else {
            "search_document"
        };
        let expected = json!({"model": "embed-v4.0", "texts": texts, "input_type": kind,
            "output_dimension": 256, "embedding_types": ["float"]});
        assert_eq!(to(Cohere, "embed-v4.0"), expected, "{client:?}");
        let expected = json!({"texts": texts, "input_type": kind, "output_dimension": 256,
            "embedding_types": ["float"]});
        assert_eq!(to(Bedrock, "us.cohere.embed-v4:0"), expected, "{client:?}");

        let sent = to(Ollama, "nomic-embed-text");
        assert_eq!(
            sent,
            json!({"model": "nomic-embed-text", "input": texts, "dimensions": 256}),
            "{client:?}"
        );
    }
}

#[test]
fn every_answer_is_said_to_every_client() {
    let openai = json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5}, "data": [
        {"object": "embedding", "index": 1, "embedding": [-0.5, 2]},
        {"object": "embedding", "index": 0, "embedding": [0.25, 1e-3]}]});
    let providers = [
        (OpenaiChat, openai),
        (
            OpenaiChat,
            json!({"data": [{"embedding": "AACAPm8Sgzo=", "index": 0}, {"embedding": "AAAAvwAAAEA=", "index": 1}],
                "usage": {"total_tokens": 5}}),
        ),
        (
            Gemini,
            json!({"embeddings": [{"values": [0.25, 1e-3]}, {"values": [-0.5, 2]}],
                "usageMetadata": {"promptTokenCount": 5}}),
        ),
        (
            Cohere,
            json!({"id": "c", "embeddings": {"float": [[0.25, 1e-3], [-0.5, 2]]}, "texts": ["one", "two"],
                "meta": {"billed_units": {"input_tokens": 5}}}),
        ),
        (
            Bedrock,
            json!({"id": "c", "embeddings": [[0.25, 1e-3], [-0.5, 2]], "response_type": "embeddings_floats",
                "prompt_eval_count": 5}),
        ),
        (
            Ollama,
            json!({"model": "m", "embeddings": [[0.25, 1e-3], [-0.5, 2]], "prompt_eval_count": 5}),
        ),
    ];
    for (from, answer) in providers {
        for (client, mut request) in clients() {
            let told = answered(Api::Embeddings, from, client, &request, &answer);
            let numbers = |list: &Value| -> Vec<Vec<f32>> {
                serde_json::from_value(list.clone()).expect("lists of numbers")
            };
            let vectors = match client {
                Gemini => {
                    assert_eq!(told["usageMetadata"]["promptTokenCount"], 5, "{from:?}");
                    let list = told["embeddings"].as_array().expect("a list");
                    numbers(&list.iter().map(|one| one["values"].clone()).collect())
                }
                Cohere => {
                    assert_eq!(told["meta"]["billed_units"]["input_tokens"], 5, "{from:?}");
                    assert_eq!(told["texts"], json!(["one", "two\n\"quoted\""]));
                    numbers(&told["embeddings"]["float"])
                }
                Ollama => {
                    assert_eq!(told["prompt_eval_count"], 5, "{from:?}");
                    assert_eq!(told["model"], "asked");
                    numbers(&told["embeddings"])
                }
                Protocol::Anthropic
                | Protocol::Bedrock
                | Protocol::OpenaiChat
                | Protocol::OpenaiResponses
                | Protocol::OpenaiCompletions => {
                    let usage = json!({"prompt_tokens": 5, "total_tokens": 5});
                    assert_eq!(told["usage"], usage, "{from:?}");
                    assert_eq!(told["model"], "asked");
                    let list = told["data"].as_array().expect("a list");
                    for (index, one) in list.iter().enumerate() {
                        assert_eq!(one["index"], index, "{from:?}");
                        assert_eq!(one["object"], "embedding", "{from:?}");
                    }
                    numbers(&list.iter().map(|one| one["embedding"].clone()).collect())
                }
            };
            assert_eq!(
                vectors,
                [[0.25, 1e-3], [-0.5, 2.0]],
                "{from:?} to {client:?}"
            );
            if client == OpenaiChat {
                request["encoding_format"] = "base64".into();
                let told = answered(Api::Embeddings, from, client, &request, &answer);
                assert_eq!(
                    told["data"][0]["embedding"], "AACAPm8Sgzo=",
                    "{from:?}: little-endian bytes in base64"
                );
                assert_eq!(told["data"][1]["embedding"], "AAAAvwAAAEA=", "{from:?}");
            }
        }
    }
}

#[test]
fn cohere_gets_each_kind_it_asked_for() {
    let request = json!({"texts": ["a"], "embedding_types": ["float", "base64"]});
    let answer = json!({"data": [{"embedding": [0.25, 1e-3]}], "usage": {"total_tokens": 1}});
    let told = answered(Api::Embeddings, OpenaiChat, Cohere, &request, &answer);
    assert_eq!(
        told["embeddings"],
        json!({"float": [[0.25, 1e-3]], "base64": ["AACAPm8Sgzo="]})
    );
    assert_eq!(told["response_type"], "embeddings_by_type");

    let request = json!({"texts": ["a"], "embedding_types": ["int8", "ubinary"]});
    let (sent, _) = built(
        Api::Embeddings,
        Cohere,
        Bedrock,
        &request,
        "cohere.embed-english-v3",
    );
    assert_eq!(sent["embedding_types"], json!(["int8", "ubinary"]));
    let answer = json!({"embeddings": {"int8": [[1, -2]], "ubinary": [[3]]}});
    let told = answered(Api::Embeddings, Bedrock, Cohere, &request, &answer);
    assert_eq!(told["embeddings"], answer["embeddings"]);
    for to in [OpenaiChat, Gemini, Ollama] {
        let error = refused(Api::Embeddings, Cohere, to, &request, "m");
        assert_eq!(error.kind, Kind::Unsupported);
        assert_eq!(error.param.as_deref(), Some("embedding_types[0]"));
    }
}

#[test]
fn titan_and_nova_embed_one_text() {
    let request = json!({"input": "one", "dimensions": 512, "user": "u"});
    let (sent, dropped) = built(
        Api::Embeddings,
        OpenaiChat,
        Bedrock,
        &request,
        "amazon.titan-embed-text-v2:0",
    );
    assert_eq!(sent, json!({"inputText": "one", "dimensions": 512}));
    assert_eq!(dropped, ["user"]);
    let error = refused(
        Api::Embeddings,
        OpenaiChat,
        Bedrock,
        &request,
        "amazon.titan-embed-text-v1",
    );
    assert_eq!(error.param.as_deref(), Some("dimensions"));
    let (sent, _) = built(
        Api::Embeddings,
        OpenaiChat,
        Bedrock,
        &json!({"input": ["one"], "task_type": "RETRIEVAL_QUERY"}),
        "amazon.nova-2-multimodal-embeddings-v1:0",
    );
    assert_eq!(
        sent,
        json!({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {"embeddingPurpose": "GENERIC_RETRIEVAL",
            "text": {"truncationMode": "END", "value": "one"}}})
    );
    let two = json!({"input": ["one", "two"]});
    for model in ["amazon.titan-embed-text-v2:0", "amazon.nova-2-x"] {
        let error = refused(Api::Embeddings, OpenaiChat, Bedrock, &two, model);
        assert_eq!(error.kind, Kind::Unsupported);
        assert_eq!(error.param.as_deref(), Some("input[1]"));
    }
    for answer in [
        json!({"embedding": [1, 2], "embeddingsByType": {"float": [1, 2]}, "inputTextTokenCount": 3}),
        json!({"embeddings": [{"embeddingType": "TEXT", "embedding": [1, 2]}], "inputTextTokenCount": 3}),
    ] {
        let told = answered(Api::Embeddings, Bedrock, OpenaiChat, &request, &answer);
        assert_eq!(told["data"][0]["embedding"], json!([1, 2]));
        assert_eq!(told["usage"]["prompt_tokens"], 3);
    }
}

#[test]
fn one_content_of_gemini_gets_one_embedding() {
    let request = json!({"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "title": "t",
        "task_type": "SEMANTIC_SIMILARITY", "output_dimensionality": 8});
    let (sent, dropped) = built(
        Api::Embeddings,
        Gemini,
        OpenaiChat,
        &request,
        "text-embedding-3-large",
    );
    assert_eq!(
        sent,
        json!({"model": "text-embedding-3-large", "input": ["a\nb"], "dimensions": 8})
    );
    assert_eq!(dropped, ["title", "task_type"]);
    let answer = json!({"data": [{"index": 0, "embedding": [1, 2]}]});
    let told = answered(Api::Embeddings, OpenaiChat, Gemini, &request, &answer);
    assert_eq!(told, json!({"embedding": {"values": [1, 2]}}));
}

#[test]
fn images_go_where_they_are_understood() {
    let request = json!({"requests": [{"content": {"parts": [{"text": "a"},
        {"inline_data": {"mime_type": "image/png", "data": "iVBO"}}]}}]});
    let (sent, _) = built(Api::Embeddings, Gemini, Cohere, &request, "embed-v4.0");
    assert_eq!(
        sent["inputs"],
        json!([{"content": [{"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}]}])
    );
    let back = json!({"model": "m", "inputs": sent["inputs"]});
    let (sent, _) = built(Api::Embeddings, Cohere, Gemini, &back, "g");
    assert_eq!(
        sent["requests"][0]["content"]["parts"],
        json!([{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}])
    );
    for (to, model) in [
        (OpenaiChat, "text-embedding-3-small"),
        (OpenaiChat, "voyage-3"),
        (Ollama, "m"),
        (Bedrock, "amazon.titan-embed-text-v2:0"),
    ] {
        let error = refused(Api::Embeddings, Cohere, to, &back, model);
        assert_eq!(error.kind, Kind::Unsupported, "{to:?}");
        assert_eq!(error.param.as_deref(), Some("inputs[0]"), "{to:?}");
    }
}

#[test]
fn tokens_go_to_openai_alone() {
    for input in [json!([1, 2, 3]), json!([[1, 2], [3]])] {
        let request = json!({"model": "m", "input": input});
        for (to, model) in [
            (Gemini, "g"),
            (Cohere, "c"),
            (Ollama, "o"),
            (Bedrock, "cohere.embed-v4:0"),
            (OpenaiChat, "voyage-3"),
        ] {
            let error = refused(Api::Embeddings, OpenaiChat, to, &request, model);
            assert_eq!(error.kind, Kind::Unsupported, "{to:?}");
            assert!(
                error
                    .param
                    .as_deref()
                    .is_some_and(|param| param.starts_with("input"))
            );
        }
        let (sent, _) = built(
            Api::Embeddings,
            OpenaiChat,
            OpenaiChat,
            &request,
            "text-embedding-3-small",
        );
        let expected = if input[0].is_array() {
            input
        } else {
            json!([[1, 2, 3]])
        };
        assert_eq!(sent["input"], expected);
    }
}

#[test]
fn mistakes_are_named_as_the_client_spelt_them() {
    for (client, body, param) in [
        (OpenaiChat, json!({"input": []}), "input"),
        (OpenaiChat, json!({"input": 7}), "input"),
        (OpenaiChat, json!({"input": ["a", true]}), "input[1]"),
        (OpenaiChat, json!({"input": [1, "a"]}), "input[1]"),
        (
            OpenaiChat,
            json!({"input": "a", "dimensions": -1}),
            "dimensions",
        ),
        (
            OpenaiChat,
            json!({"input": "a", "encoding_format": "hex"}),
            "encoding_format",
        ),
        (
            OpenaiChat,
            json!({"input": "a", "input_type": "love"}),
            "input_type",
        ),
        (Gemini, json!({}), "content"),
        (Gemini, json!({"requests": []}), "requests"),
        (
            Gemini,
            json!({"requests": [{"content": {"parts": [{}]}}]}),
            "requests[0].content.parts[0].text",
        ),
        (Cohere, json!({"texts": null}), "texts"),
        (
            Cohere,
            json!({"texts": ["a"], "truncate": "MIDDLE"}),
            "truncate",
        ),
        (Ollama, json!({"input": [[1]]}), "input[0]"),
    ] {
        let error = refused(Api::Embeddings, client, Cohere, &body, "m");
        assert_eq!(error.kind, Kind::InvalidRequest, "{body}");
        assert_eq!(error.param.as_deref(), Some(param), "{body}");
    }
    let differ = json!({"requests": [{"content": {"parts": [{"text": "a"}]}},
        {"content": {"parts": [{"text": "b"}]}, "taskType": "CLUSTERING"}]});
    let error = refused(Api::Embeddings, Gemini, Cohere, &differ, "m");
    assert_eq!(error.kind, Kind::Unsupported);
    assert_eq!(error.param.as_deref(), Some("requests[1].taskType"));
}

#[test]
fn an_answer_that_is_none_is_the_providers_fault() {
    let request = br#"{"input": ["a", "b"]}"#;
    for answer in [
        "",
        "{}",
        "[]",
        r#"{"error": {"message": "no"}}"#,
        r#"{"data": [{"index": 0, "embedding": [1]}]}"#,
        r#"{"data": [{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [1]}]}"#,
        r#"{"data": [{"index": 0, "embedding": "A"}, {"index": 1, "embedding": [1]}]}"#,
        r#"{"data": [{"index": 0, "embedding": "AACAfw=="}, {"index": 1, "embedding": [1]}]}"#,
        r#"{"data": [{"index": 0, "embedding": null}, {"index": 1, "embedding": [1]}]}"#,
    ] {
        let told = api::answer(
            Api::Embeddings,
            OpenaiChat,
            OpenaiChat,
            request,
            answer.as_bytes(),
            &shape(),
        );
        let error = told.expect_err(answer);
        assert_eq!(error.kind, Kind::UpstreamBroken, "{answer}");
    }
}
