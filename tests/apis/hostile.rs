//! Whatever comes: no panic, and base64 that comes back.

use bytes::Bytes;
use proptest::prelude::*;

use strait::codec::{base64, multipart::Form};
use strait::protocol::Protocol;
use strait::protocol::api::{self, Api};
use strait::protocol::envelope::{Envelope, Said};

use super::common::shape;

const APIS: [Api; 10] = [
    Api::Chat,
    Api::CountTokens,
    Api::Embeddings,
    Api::Rerank,
    Api::Moderations,
    Api::Images,
    Api::ImageEdits,
    Api::Speech,
    Api::Transcriptions,
    Api::Translations,
];

/// Text made of what requests and answers are made of, in any order.
fn rubble() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\"input\":"),
        Just("\"texts\":"),
        Just("\"requests\":"),
        Just("\"content\":"),
        Just("\"parts\":"),
        Just("\"text\":"),
        Just("\"documents\":"),
        Just("\"query\":"),
        Just("\"data\":"),
        Just("\"embedding\":"),
        Just("\"embeddings\":"),
        Just("\"float\":"),
        Just("\"index\":"),
        Just("\"results\":"),
        Just("\"usage\":"),
        Just("\"dimensions\":"),
        Just("\"a\""),
        Just("\"\\ud800\""),
        Just("\"AACAPw==\""),
        Just("1"),
        Just("-0.5e3"),
        Just("null"),
        Just("true"),
        Just("\"relevance_score\":"),
        Just("\u{e9}"),
        Just("--X\r\n"),
        Just("\r\n--X--"),
        Just("\r\n\r\n"),
        Just("Content-Disposition: form-data; name=\"model\""),
        Just("data:"),
        Just("-->"),
        Just("00:00:01,000"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_panics(body in rubble(), answer in rubble()) {
        let (body, answer) = (body.as_bytes(), answer.as_bytes());
        for api in APIS {
            for client in Protocol::ALL {
                let _ = Envelope::read_api(body, api, client, 16, Said::default());
                let _ = api::usage(api, client, body, answer);
                let _ = api::estimate_tokens_of(client, "m", body);
            }
            let _ = Envelope::read_form(body, "multipart/form-data; boundary=X", api, Said::default());
            for content_type in ["", "multipart/form-data; boundary=X"] {
                let _ = api::splice_model(api, content_type, &Bytes::copy_from_slice(body), "m");
            }
        }
        for client in Protocol::ALL {
            for to in Protocol::ALL {
                for api in [Api::Embeddings, Api::Rerank] {
                    let _ = api::build(api, client, to, body, "m");
                    let _ = api::answer(api, to, client, body, answer, &shape());
                }
            }
        }
    }

    #[test]
    fn a_blob_of_any_bytes_has_a_size(bytes in prop::collection::vec(any::<u8>(), 0..80), magic in 0usize..7) {
        let magics: [&[u8]; 7] = [b"", b"\x89PNG", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X", b"RIFF\0\0\0\0WEBPVP8L", b"\xff\xd8\xff", b"%PDF"];
        let bytes = [magics[magic], &bytes].concat();
        let mut data = Vec::new();
        base64::encode(&bytes, &mut data);
        let data = String::from_utf8(data).expect("text");
        let body = format!(r#"{{"messages":[{{"role":"user","content":[{{"source":{{"data":"{data}"}}}}]}}]}}"#);
        for client in Protocol::ALL {
            let tokens = api::estimate_tokens_of(client, "m", body.as_bytes());
            prop_assert!(tokens < 1_000_000, "{tokens}");
        }
    }

    #[test]
    fn what_is_read_is_answered(answer in rubble()) {
        for (client, request) in [
            (Protocol::OpenaiChat, r#"{"input":"a","encoding_format":"base64"}"#),
            (Protocol::Cohere, r#"{"texts":["a"],"embedding_types":["float","base64"]}"#),
            (Protocol::Gemini, r#"{"content":{"parts":[{"text":"a"}]}}"#),
        ] {
            for from in Protocol::ALL {
                let told = api::answer(Api::Embeddings, from, client, request.as_bytes(), answer.as_bytes(), &shape());
                if let Ok(told) = told {
                    serde_json::from_slice::<serde_json::Value>(&told).expect("an answer is JSON");
                }
            }
        }
    }

    #[test]
    fn bytes_come_back_from_base64(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut text = Vec::new();
        base64::encode(&bytes, &mut text);
        prop_assert_eq!(base64::decode(&text), Some(bytes));
    }

    #[test]
    fn numbers_come_back_through_base64(numbers in prop::collection::vec(-1e6f32..1e6, 1..50)) {
        let plain = br#"{"input":"a"}"#;
        let coded = br#"{"input":"a","encoding_format":"base64"}"#;
        let answer = serde_json::json!({"data": [{"index": 0, "embedding": numbers}]}).to_string();
        let ask = |request: &[u8], answer: &[u8]| {
            api::answer(Api::Embeddings, Protocol::OpenaiChat, Protocol::OpenaiChat, request, answer, &shape())
                .expect("a good answer")
        };
        let told = ask(plain, &ask(coded, answer.as_bytes()));
        let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
        let back: Vec<f32> = serde_json::from_value(told["data"][0]["embedding"].clone()).expect("numbers");
        prop_assert_eq!(back, numbers);
    }

    #[test]
    fn a_form_has_what_was_put_in_it(values in prop::collection::vec("[ -~\r\n]{0,60}", 0..8)) {
        prop_assume!(values.iter().all(|value| !value.contains("\r\n--boundary")));
        let mut body = String::new();
        for (index, value) in values.iter().enumerate() {
            body.push_str(&format!("--boundary\r\nContent-Disposition: form-data; name=\"f{index}\"\r\n\r\n{value}\r\n"));
        }
        body.push_str("--boundary--\r\n");
        let form = Form::read("multipart/form-data; boundary=boundary", body.as_bytes()).expect("a good form");
        prop_assert_eq!(form.parts().len(), values.len());
        for (index, value) in values.iter().enumerate() {
            prop_assert_eq!(form.text(&format!("f{index}")), Some(value.as_str()));
        }
    }
}

#[test]
fn much_of_anything_is_read_in_one_pass() {
    // Each takes milliseconds when it is linear, and minutes when it is not.
    let start = std::time::Instant::now();
    let many = |one: &str, count: usize| vec![one; count].join(",");
    let part =
        r#"{"content":{"parts":[{"text":"a"}]},"taskType":"CLUSTERING","outputDimensionality":8}"#;
    for (client, body) in [
        (
            Protocol::Gemini,
            format!(r#"{{"requests":[{}]}}"#, many(part, 4000)),
        ),
        (
            Protocol::OpenaiChat,
            format!(r#"{{"input":[{}]}}"#, many("\"a\"", 400_000)),
        ),
        (
            Protocol::OpenaiChat,
            format!(r#"{{"input":[{}]}}"#, many("[1]", 4000)),
        ),
        (
            Protocol::Cohere,
            format!(r#"{{"texts":["a"],{}}}"#, many(r#""x":{"y":[]}"#, 100_000)),
        ),
    ] {
        let _ = api::build(
            Api::Embeddings,
            client,
            Protocol::Ollama,
            body.as_bytes(),
            "m",
        );
    }
    let documents = format!(
        r#"{{"query":"q","documents":[{}]}}"#,
        many(r#"{"text":"a"}"#, 10_000)
    );
    let _ = api::build(
        Api::Rerank,
        Protocol::Cohere,
        Protocol::Cohere,
        documents.as_bytes(),
        "m",
    );
    let text = format!(
        r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "\\n \\t".repeat(400_000)
    );
    let _ = api::estimate_tokens_of(Protocol::Anthropic, "m", text.as_bytes());
    let deep = format!(r#"{{"messages":{}}}"#, "[".repeat(400_000));
    let _ = api::estimate_tokens_of(Protocol::Anthropic, "m", deep.as_bytes());
    let form = "\r\n--\r\n--X".repeat(200_000);
    let _ = Form::read("multipart/form-data; boundary=XY", form.as_bytes());
    assert!(start.elapsed().as_secs() < 20, "took {:?}", start.elapsed());
}
