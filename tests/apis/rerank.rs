//! Reranking: the dialects of Cohere, Jina and Voyage, and everyone's answers.

use serde_json::json;

use strait::error::Kind;
use strait::protocol::Protocol::{Bedrock, Cohere, Gemini, OpenaiChat};
use strait::protocol::api::{self, Api};

use super::common::{answered, built, refused, shape};

#[test]
fn a_request_is_said_in_each_providers_words() {
    let v2 = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1,
        "max_tokens_per_doc": 512, "return_documents": true});
    let (sent, dropped) = built(Api::Rerank, Cohere, Cohere, &v2, "rerank-v3.5");
    assert_eq!(
        sent,
        json!({"model": "rerank-v3.5", "query": "q", "documents": ["a", "b"], "top_n": 1, "max_tokens_per_doc": 512})
    );
    assert!(dropped.is_empty());
    let (sent, dropped) = built(Api::Rerank, Cohere, OpenaiChat, &v2, "rerank-2.5");
    assert_eq!(
        sent,
        json!({"model": "rerank-2.5", "query": "q", "documents": ["a", "b"], "top_k": 1})
    );
    assert_eq!(dropped, ["max_tokens_per_doc"]);
    let (sent, _) = built(Api::Rerank, Cohere, OpenaiChat, &v2, "jina-reranker-v2");
    assert_eq!(
        sent,
        json!({"model": "jina-reranker-v2", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1,
            "return_documents": false})
    );
    let (sent, _) = built(
        Api::Rerank,
        Cohere,
        OpenaiChat,
        &v2,
        "Salesforce/Llama-Rank-v1",
    );
    assert_eq!(
        sent,
        json!({"model": "Salesforce/Llama-Rank-v1", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1})
    );
    let (sent, _) = built(Api::Rerank, Cohere, Bedrock, &v2, "cohere.rerank-v3-5:0");
    assert_eq!(
        sent,
        json!({"query": "q", "documents": ["a", "b"], "top_n": 1, "max_tokens_per_doc": 512, "api_version": 2})
    );
    let (sent, _) = built(Api::Rerank, Cohere, Bedrock, &v2, "amazon.rerank-v1:0");
    assert_eq!(
        sent,
        json!({"query": "q", "documents": ["a", "b"], "top_n": 1})
    );
    let error = refused(Api::Rerank, Cohere, Gemini, &v2, "g");
    assert_eq!(error.kind, Kind::Unsupported);
}

#[test]
fn each_dialect_gets_its_answer() {
    let answers = [
        json!({"id": "r", "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.12345678901}],
            "meta": {"billed_units": {"search_units": 1}}}),
        json!({"object": "list", "data": [{"relevance_score": 0.9, "index": 1, "document": "b"},
            {"relevance_score": 0.12345678901, "index": 0}], "usage": {"total_tokens": 26}}),
        json!({"model": "jina", "results": [{"index": 1, "relevance_score": 0.9, "document": {"text": "x"}},
            {"index": 0, "relevance_score": 0.12345678901}], "usage": {"total_tokens": 26}}),
    ];
    for answer in &answers {
        let cohere = json!({"query": "q", "documents": ["a", {"text": "b", "n": 1}], "return_documents": true});
        let told = answered(Api::Rerank, Cohere, Cohere, &cohere, answer);
        assert_eq!(
            told["results"],
            json!([{"index": 1, "relevance_score": 0.9, "document": {"text": "b", "n": 1}},
                {"index": 0, "relevance_score": 0.12345678901, "document": {"text": "a"}}])
        );
        assert_eq!(told["model"], "asked");
        let id = if answer["id"].is_string() { "r" } else { "7" };
        assert_eq!(told["id"], id);
        assert_eq!(told["meta"]["api_version"]["version"], "2");

        let voyage =
            json!({"query": "q", "documents": ["a", "b"], "top_k": 2, "return_documents": true});
        let told = answered(Api::Rerank, Cohere, Cohere, &voyage, answer);
        assert_eq!(
            told["data"],
            json!([{"index": 1, "relevance_score": 0.9, "document": "b"},
                {"index": 0, "relevance_score": 0.12345678901, "document": "a"}])
        );
        let tokens = answer["usage"]["total_tokens"].as_u64().unwrap_or(0);
        assert_eq!(told["usage"]["total_tokens"], tokens);
    }
}

#[test]
fn only_what_is_said_the_same_passes() {
    let passes = |body: &str| api::passes(Api::Rerank, Cohere, Cohere, body.as_bytes(), "m");
    assert!(passes(r#"{"query":"q","documents":["a"],"top_n":1}"#));
    for other in [
        r#"{"query":"q","documents":["a"],"top_k":1}"#,
        r#"{"query":"q","documents":["a"],"return_documents":true}"#,
        r#"{"query":"q","documents":[{"text":"a"}]}"#,
    ] {
        assert!(!passes(other), "{other}");
    }
    let embeds = |model, body: &str| {
        api::passes(
            Api::Embeddings,
            OpenaiChat,
            OpenaiChat,
            body.as_bytes(),
            model,
        )
    };
    let sized = r#"{"input":"a","dimensions":256}"#;
    assert!(embeds("text-embedding-3-small", sized));
    assert!(embeds(
        "voyage-3.5",
        r#"{"input":"a","output_dimension":256}"#
    ));
    assert!(!embeds("voyage-3.5", sized));
    assert!(!embeds("codestral-embed", sized));
    assert!(!api::passes(
        Api::Embeddings,
        OpenaiChat,
        Gemini,
        b"{}",
        "m"
    ));
}

#[test]
fn mistakes_are_named() {
    for (body, kind, param) in [
        (json!({"documents": ["a"]}), Kind::InvalidRequest, "query"),
        (json!({"query": "q"}), Kind::InvalidRequest, "documents"),
        (
            json!({"query": "q", "documents": []}),
            Kind::InvalidRequest,
            "documents",
        ),
        (
            json!({"query": "q", "documents": [1]}),
            Kind::InvalidRequest,
            "documents[0]",
        ),
        (
            json!({"query": "q", "documents": ["a"], "top_n": "x"}),
            Kind::InvalidRequest,
            "top_n",
        ),
        (
            json!({"query": "q", "documents": ["a", {"title": "b"}]}),
            Kind::Unsupported,
            "documents[1]",
        ),
        (
            json!({"query": "q", "documents": ["a"], "rank_fields": ["b"]}),
            Kind::Unsupported,
            "rank_fields",
        ),
    ] {
        let error = refused(Api::Rerank, Cohere, Cohere, &body, "m");
        assert_eq!(error.kind, kind, "{body}");
        assert_eq!(error.param.as_deref(), Some(param), "{body}");
    }
    for answer in [
        "{}",
        r#"{"results": [{"index": 0}]}"#,
        r#"{"results": [{"index": 1, "relevance_score": 1}]}"#,
        r#"{"results": [{"index": 0, "relevance_score": "high"}]}"#,
    ] {
        let request = br#"{"query": "q", "documents": ["a"]}"#;
        let told = api::answer(
            Api::Rerank,
            Cohere,
            Cohere,
            request,
            answer.as_bytes(),
            &shape(),
        );
        assert_eq!(
            told.expect_err(answer).kind,
            Kind::UpstreamBroken,
            "{answer}"
        );
    }
}
