//! Images by Google's models: what is asked for, and what is answered.

use serde_json::{Value, json};
use strait::error::Kind;
use strait::protocol::Protocol::{Gemini, OpenaiChat};
use strait::protocol::api::{self, Api, Built, Wants};

use super::common::shape;

fn built(body: &Value, model: &str) -> Result<Built, strait::error::Error> {
    let wants = Wants {
        model,
        content_type: "application/json",
        predict: false,
    };
    api::build_all(
        Api::Images,
        OpenaiChat,
        Gemini,
        body.to_string().as_bytes(),
        wants,
    )
}

#[test]
fn sizes_become_the_nearest_shape_that_is_made() {
    for (size, model, shape, resolution) in [
        ("1024x1024", "gemini-2.5-flash-image", "1:1", None),
        ("1536x1024", "gemini-2.5-flash-image", "3:2", None),
        ("1024x1792", "gemini-2.5-flash-image", "9:16", None),
        ("4096x4096", "gemini-2.5-flash-image", "1:1", None),
        ("2048x2048", "gemini-3-pro-image", "1:1", Some("2K")),
        ("5000x100", "gemini-3-pro-image", "21:9", Some("4K")),
    ] {
        let built = built(&json!({"prompt": "p", "size": size}), model).unwrap();
        let sent: Value = serde_json::from_slice(&built.bodies[0]).unwrap();
        let config = &sent["generationConfig"]["imageConfig"];
        assert_eq!(config["aspectRatio"], shape, "{size} {model}");
        assert_eq!(config["imageSize"].as_str(), resolution, "{size} {model}");
    }
    let imagen = built(
        &json!({"prompt": "p", "size": "1536x1024", "n": 9}),
        "imagen-4.0",
    )
    .unwrap();
    let counts: Vec<u64> = imagen
        .bodies
        .iter()
        .map(|body| {
            let sent: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(sent["parameters"]["aspectRatio"], "4:3");
            sent["parameters"]["sampleCount"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(counts, [4, 4, 1]);
}

#[test]
fn odd_answers_are_errors_and_never_panic() {
    let answer = |body: &str| {
        api::answer_all(
            Api::Images,
            Gemini,
            OpenaiChat,
            b"{}",
            &[body.as_bytes()],
            &shape(),
        )
    };
    for (body, kind) in [
        ("", Kind::UpstreamBroken),
        ("[]", Kind::UpstreamBroken),
        (r#"{"candidates":5}"#, Kind::UpstreamBroken),
        ("{}", Kind::InvalidRequest),
        (
            r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
            Kind::InvalidRequest,
        ),
        (
            r#"{"predictions":[{"raiFilteredReason":"no faces"}]}"#,
            Kind::InvalidRequest,
        ),
        (
            r#"{"candidates":[{"content":{"parts":[{"text":"no"}]}}]}"#,
            Kind::InvalidRequest,
        ),
    ] {
        let error = answer(body).unwrap_err();
        assert_eq!(error.kind, kind, "{body}");
    }
    assert!(
        answer(r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#)
            .unwrap_err()
            .message
            .contains("SAFETY")
    );
    assert!(
        answer(r#"{"predictions":[{"raiFilteredReason":"no faces"}]}"#)
            .unwrap_err()
            .message
            .contains("no faces")
    );
    let good =
        answer(r#"{"predictions":[{"bytesBase64Encoded":"aGk=","mimeType":"image\/webp"}]}"#)
            .unwrap();
    let good: Value = serde_json::from_slice(&good).unwrap();
    assert_eq!(good["output_format"], "webp");
    assert_eq!(good["data"], json!([{"b64_json": "aGk="}]));
    assert!(good["usage"].is_null(), "none was told");
}

#[test]
fn what_an_image_took_is_told_in_tokens_or_in_images() {
    let usage = |body: &str| api::usage(Api::Images, Gemini, b"{}", body.as_bytes());
    let tokens = usage(
        r#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":"aGk="}}]}}],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":100,"totalTokenCount":104,"candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":90}]}}"#,
    )
    .unwrap();
    assert_eq!(
        (tokens.input, tokens.output, tokens.image_out, tokens.images),
        (4, 100, 90, 1)
    );
    let counted =
        usage(r#"{"predictions":[{"bytesBase64Encoded":"aGk="},{"bytesBase64Encoded":"aGk="}]}"#);
    let counted = counted.unwrap();
    assert_eq!((counted.total(), counted.images), (0, 2));
    assert!(usage("{}").is_none());
}
