//! Images and speech.

use bytes::Bytes;
use serde_json::Value;

use super::super::answers::Rendered;
use super::super::json::Object;

/// A PNG of one pixel.
pub(in crate::mock) const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
/// The most images to one request (OpenAI's own bound).
const IMAGES_MAX: u64 = 10;
/// The most of Imagen's.
const PREDICTIONS_MAX: u64 = 4;

/// Answers with as many images of one pixel as were asked for; the prompt comes back as `revised_prompt`.
pub(in crate::mock) fn images(body: &Value) -> Object {
    let prompt = body["prompt"].as_str().unwrap_or("");
    // A form's fields are texts.
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let count = number(&body["n"]).unwrap_or(1).clamp(1, IMAGES_MAX);
    let is_address = body["response_format"] == "url";
    let data: Vec<Object> = (0..count)
        .map(|at| {
            let object = Object::new();
            let object = if is_address {
                object.set("url", format!("https://images.invalid/mock-{at}.png"))
            } else {
                object.set("b64_json", PNG)
            };
            object.set("revised_prompt", prompt)
        })
        .collect();
    let text = (prompt.chars().count() as u64).div_ceil(4).max(1);
    let details = Object::new()
        .set("text_tokens", text)
        .set("image_tokens", 0u32);
    let usage = Object::new()
        .set("input_tokens", text)
        .set("input_tokens_details", details)
        .set("output_tokens", 100 * count)
        .set("total_tokens", text + 100 * count);
    Object::new()
        .set("created", 1_700_000_000u64)
        .set("background", "opaque")
        .set("data", data)
        .set(
            "output_format",
            body["output_format"].as_str().unwrap_or("png"),
        )
        .set("quality", body["quality"].as_str().unwrap_or("low"))
        .set("size", body["size"].as_str().unwrap_or("1024x1024"))
        .set("usage", usage)
}

/// Answers as Imagen does, with as many images of one pixel as were asked for.
pub(in crate::mock) fn predictions(body: &Value) -> Object {
    let count = body["parameters"]["sampleCount"].as_u64().unwrap_or(1);
    let one = || {
        Object::new()
            .set("mimeType", "image/png")
            .set("bytesBase64Encoded", PNG)
    };
    let all: Vec<Object> = (0..count.clamp(1, PREDICTIONS_MAX))
        .map(|_| one())
        .collect();
    Object::new().set("predictions", all)
}

/// Answers with the input's own bytes after a short head: no sound, but as long as its text, and telling.
pub(in crate::mock) fn speech(body: &Value) -> Rendered {
    let media_type = match body["response_format"].as_str() {
        Some("opus") => "audio/opus",
        Some("aac") => "audio/aac",
        Some("flac") => "audio/flac",
        Some("wav") => "audio/wav",
        Some("pcm") => "audio/pcm",
        _ => "audio/mpeg",
    };
    let input = body["input"].as_str().unwrap_or("");
    Rendered::Other(media_type, Bytes::from(format!("mock audio: {input}")))
}
