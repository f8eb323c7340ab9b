//! What is no chat, at providers that take it otherwise: several texts for models that embed one, Vertex AI's
//! predictions, and images by Google's models.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use strait::codec::base64;

use super::PIXEL;
use super::common::provider::{Got, Provider};
use super::common::{Answer, Strait, mock};

fn provider(answer: impl Fn(&Got, &Value) -> (u16, Value) + Send + Sync + 'static) -> Provider {
    Provider::answering(move |got, socket| {
        let asked: Value = serde_json::from_slice(&got.body).unwrap();
        let (status, body) = answer(got, &asked);
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        socket.write_all(&[head.as_bytes(), body.as_bytes()].concat())
    })
}

fn post(strait: &Strait, path: &str, body: &Value) -> Answer {
    strait.post(path, body)
}

fn bodies(provider: &Provider) -> Vec<(String, Value)> {
    let all = provider.take().into_iter();
    all.map(|got| (got.path.clone(), serde_json::from_slice(&got.body).unwrap()))
        .collect()
}

#[test]
fn several_texts_reach_a_model_that_embeds_one_at_a_time() {
    // How many are asked at once, and the most that were.
    let running: Arc<(AtomicUsize, AtomicUsize)> = Arc::default();
    let seen = running.clone();
    let titan = provider(move |got, asked| {
        let now = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
        seen.1.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(20));
        seen.0.fetch_sub(1, Ordering::SeqCst);
        assert!(got.header("authorization").starts_with("AWS4-HMAC-SHA256 "));
        let text = asked["inputText"].as_str().unwrap();
        if text == "bad" {
            return (400, json!({"message": "that text is bad"}));
        }
        let number: f64 = text.parse().unwrap();
        (
            200,
            json!({"embedding": [number, 0.5], "inputTextTokenCount": 3}),
        )
    });
    let strait = Strait::start(&format!(
        "[providers.be]\nlike = \"bedrock\"\nregion = \"eu-west-1\"\nbase_url = \"http://{}\"\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n\
         [models.titan]\ntargets = [\"be/amazon.titan-embed-text-v2:0\"]\n",
        titan.addr
    ));
    let texts: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let answer = post(
        &strait,
        "/v1/embeddings",
        &json!({"model": "titan", "input": texts, "dimensions": 256}),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 30);
    for (index, one) in data.iter().enumerate() {
        assert_eq!(one["index"], index);
        assert_eq!(
            one["embedding"][0].as_f64(),
            Some(index as f64),
            "in the order of the texts"
        );
    }
    assert_eq!(answer["usage"]["prompt_tokens"], 90);
    let most = running.1.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} at once");
    for (path, body) in bodies(&titan) {
        assert_eq!(path, "/model/amazon.titan-embed-text-v2%3A0/invoke");
        assert_eq!(body["dimensions"], 256);
    }
    let record = strait.records(1).pop().unwrap();
    assert_eq!(record["usage"]["input"], 90, "{record}");
    assert!(record["cost_pico"].as_u64().unwrap() > 0, "{record}");
    assert_eq!(record["attempts"].as_array().unwrap().len(), 1, "{record}");
    // One that fails fails all.
    let bad = post(
        &strait,
        "/v1/embeddings",
        &json!({"model": "titan", "input": ["1", "bad", "2"]}),
    );
    assert_eq!(bad.status, 400, "{}", bad.text());
    assert!(bad.text().contains("that text is bad"), "{}", bad.text());
    let texts: Vec<String> = (0..257).map(|number| number.to_string()).collect();
    titan.take();
    let many = post(
        &strait,
        "/v1/embeddings",
        &json!({"model": "titan", "input": texts}),
    );
    assert_eq!(many.status, 400, "{}", many.text());
    assert_eq!(many.json()["error"]["param"], "input", "{}", many.text());
    assert!(titan.take().is_empty());
}

#[test]
fn vertex_predicts_embeddings_for_every_client() {
    let vertex = provider(|_, asked| {
        let instances = asked["instances"].as_array().unwrap();
        let one = |instance: &Value| {
            let length = instance["content"].as_str().unwrap().len();
            json!({"embeddings": {"values": [length as f64], "statistics": {"token_count": 2, "truncated": false}}})
        };
        (
            200,
            json!({"predictions": instances.iter().map(one).collect::<Vec<_>>()}),
        )
    });
    let strait = Strait::start(&format!(
        "[providers.ve]\nlike = \"vertex\"\nproject = \"p\"\nlocation = \"us-central1\"\nbase_url = \"http://{}\"\nkey = \"k\"\n\
         [models.old]\ntargets = [\"ve/text-embedding-005\"]\n[models.new]\ntargets = [\"ve/gemini-embedding-001\"]\n",
        vertex.addr
    ));
    let openai = post(
        &strait,
        "/v1/embeddings",
        &json!({"model": "old", "input": ["a", "bbb"], "dimensions": 64, "encoding_format": "float"}),
    );
    assert_eq!(openai.status, 200, "{}", openai.text());
    let openai = openai.json();
    assert_eq!(openai["data"][1]["embedding"], json!([3.0]), "{openai}");
    assert_eq!(openai["usage"]["prompt_tokens"], 4);
    let sent = bodies(&vertex);
    let path =
        "/v1/projects/p/locations/us-central1/publishers/google/models/text-embedding-005:predict";
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, path);
    assert_eq!(
        sent[0].1,
        json!({"instances": [{"content": "a"}, {"content": "bbb"}], "parameters": {"outputDimensionality": 64}})
    );
    // A client of Gemini's own; the later model takes one at a time.
    let batch = json!({"requests": [
        {"model": "models/new", "content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY"},
        {"model": "models/new", "content": {"parts": [{"text": "bb"}]}, "taskType": "RETRIEVAL_QUERY"},
    ]});
    let gemini = post(&strait, "/v1beta/models/new:batchEmbedContents", &batch);
    assert_eq!(gemini.status, 200, "{}", gemini.text());
    let gemini = gemini.json();
    assert_eq!(gemini["embeddings"][1]["values"], json!([2.0]), "{gemini}");
    assert_eq!(gemini["usageMetadata"]["promptTokenCount"], 4, "{gemini}");
    let mut sent = bodies(&vertex);
    sent.sort_by_key(|(_, body)| body.to_string());
    assert_eq!(sent.len(), 2);
    assert_eq!(
        sent[0].1,
        json!({"instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"}]})
    );
    let single = json!({"content": {"parts": [{"text": "cccc"}]}});
    let single = post(&strait, "/v1beta/models/old:embedContent", &single);
    assert_eq!(
        single.json()["embedding"]["values"],
        json!([4.0]),
        "{}",
        single.text()
    );
}

/// A fake of Google's: images, or a refusal where the prompt says so.
fn google() -> (Provider, Arc<Mutex<u32>>) {
    let made: Arc<Mutex<u32>> = Arc::default();
    let count = made.clone();
    let google = provider(move |got, asked| {
        *count.lock().unwrap() += 1;
        if got.path.ends_with(":predict") {
            let count = asked["parameters"]["sampleCount"].as_u64().unwrap();
            let one = json!({"bytesBase64Encoded": PIXEL, "mimeType": "image/png"});
            return (200, json!({"predictions": vec![one; count as usize]}));
        }
        let parts = asked["contents"][0]["parts"].as_array().unwrap();
        let prompt = parts.last().unwrap()["text"].as_str().unwrap();
        let usage = json!({
            "promptTokenCount": 10, "candidatesTokenCount": 1290, "totalTokenCount": 1300,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
        });
        if prompt.contains("forbidden") {
            return (
                200,
                json!({"candidates": [{"finishReason": "IMAGE_SAFETY"}], "usageMetadata": usage}),
            );
        }
        let parts = json!([
            {"text": "Here it is."},
            {"inlineData": {"mimeType": "image/png", "data": "dGhvdWdodA=="}, "thought": true},
            {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        ]);
        (
            200,
            json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}], "usageMetadata": usage}),
        )
    });
    (google, made)
}

fn images(google: &Provider) -> Strait {
    Strait::start(&format!(
        "[providers.gemini]\nbase_url = \"http://{}/v1beta\"\nkey = \"k\"\n\
         [models.banana]\ntargets = [\"gemini/gemini-2.5-flash-image\"]\n[models.banana3]\ntargets = [\"gemini/gemini-3-pro-image\"]\n[models.imagen]\ntargets = [\"gemini/imagen-4.0-generate-001\"]\n",
        google.addr
    ))
}

#[test]
fn images_are_made_by_googles_models_for_openais_clients() {
    let (google, _) = google();
    let strait = images(&google);
    let ask = json!({"model": "banana", "prompt": "a cat", "n": 3, "size": "1536x1024", "quality": "high", "user": "u"});
    let answer = post(&strait, "/v1/images/generations", &ask);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 3, "{answer}");
    assert!(
        data.iter().all(|one| one["b64_json"] == PIXEL),
        "no thought is an image"
    );
    assert_eq!(answer["output_format"], "png");
    assert_eq!(answer["usage"]["output_tokens"], 3 * 1290, "{answer}");
    let sent = bodies(&google);
    assert_eq!(sent.len(), 3);
    assert_eq!(
        sent[0].0,
        "/v1beta/models/gemini-2.5-flash-image:generateContent"
    );
    let config = &sent[0].1["generationConfig"];
    assert_eq!(config["imageConfig"], json!({"aspectRatio": "3:2"}));
    assert_eq!(config["responseModalities"], json!(["TEXT", "IMAGE"]));
    let record = strait.records(1).pop().unwrap();
    assert_eq!(record["usage"]["output"], 3870, "{record}");
    // 3,870 tokens of images at 30 USD, 30 of text at 0.30 USD for a million.
    assert_eq!(
        record["cost_pico"],
        3_870 * 30_000_000u64 + 30 * 300_000,
        "{record}"
    );
    assert_eq!(record["dropped"], json!(["quality"]), "{record}");

    let large = json!({"model": "banana3", "prompt": "a cat", "size": "3840x2160"});
    assert_eq!(post(&strait, "/v1/images/generations", &large).status, 200);
    let config = bodies(&google).pop().unwrap().1["generationConfig"]["imageConfig"].clone();
    assert_eq!(config, json!({"aspectRatio": "16:9", "imageSize": "4K"}));

    let imagen = json!({"model": "imagen", "prompt": "a cat", "n": 6, "size": "1024x1024", "output_format": "jpeg"});
    let answer = post(&strait, "/v1/images/generations", &imagen);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 6);
    let mut sent = bodies(&google);
    sent.sort_by_key(|(_, body)| body["parameters"]["sampleCount"].as_u64());
    assert_eq!(sent.len(), 2, "four at a time");
    assert_eq!(sent[0].0, "/v1beta/models/imagen-4.0-generate-001:predict");
    assert_eq!(
        sent[0].1,
        json!({"instances": [{"prompt": "a cat"}], "parameters": {"sampleCount": 2, "aspectRatio": "1:1", "outputOptions": {"mimeType": "image/jpeg"}}})
    );
    let refused = json!({"model": "banana", "prompt": "something forbidden"});
    let refused = post(&strait, "/v1/images/generations", &refused);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(
        refused.text().contains("IMAGE_SAFETY"),
        "{}",
        refused.text()
    );
}

#[test]
fn images_are_edited_by_geminis_models() {
    let (google, made) = google();
    let strait = images(&google);
    let mut png = base64::decode(PIXEL.as_bytes()).unwrap();
    png.truncate(40);
    let mut form = Vec::new();
    for (name, value) in [
        ("model", "banana"),
        ("prompt", "make it blue"),
        ("size", "auto"),
    ] {
        form.extend(
            format!("--edge\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .bytes(),
        );
    }
    for (kind, bytes) in [
        ("image/webp", &b"first"[..]),
        ("application/octet-stream", &png),
    ] {
        form.extend(format!("--edge\r\ncontent-disposition: form-data; name=\"image[]\"; filename=\"a\"\r\ncontent-type: {kind}\r\n\r\n").bytes());
        form.extend_from_slice(bytes);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--edge--\r\n");
    let headers = [("content-type", "multipart/form-data; boundary=edge")];
    let answer = strait.client().post("/v1/images/edits", &headers, &form);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["data"][0]["b64_json"], PIXEL);
    let sent = bodies(&google).pop().unwrap().1;
    let parts = &sent["contents"][0]["parts"];
    assert_eq!(
        parts[0],
        json!({"inlineData": {"mimeType": "image/webp", "data": "Zmlyc3Q="}})
    );
    assert_eq!(
        parts[1]["inlineData"]["mimeType"], "image/png",
        "by its first bytes"
    );
    assert_eq!(parts[2], json!({"text": "make it blue"}));
    let json_edit = json!({"model": "banana", "prompt": "p", "images": [{"image_url": format!("data:image/png;base64,{PIXEL}")}]});
    assert_eq!(post(&strait, "/v1/images/edits", &json_edit).status, 200);
    let parts = bodies(&google).pop().unwrap().1["contents"][0]["parts"].clone();
    assert_eq!(parts[0]["inlineData"]["data"], PIXEL);
    *made.lock().unwrap() = 0;
    for (field, value) in [
        ("mask", json!({"image_url": "x"})),
        ("background", json!("transparent")),
        ("response_format", json!("url")),
        ("stream", json!(true)),
        ("n", json!(11)),
        ("size", json!("large")),
        (
            "images",
            json!([{"image_url": "https://example.com/a.png"}]),
        ),
    ] {
        let mut ask = json!({"model": "banana", "prompt": "p"});
        ask[field] = value;
        let path = if field == "images" {
            "/v1/images/edits"
        } else {
            "/v1/images/generations"
        };
        let answer = post(&strait, path, &ask);
        assert_eq!(answer.status, 400, "{field}: {}", answer.text());
        let param = answer.json()["error"]["param"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(param.starts_with(field), "{field}: {}", answer.text());
    }
    assert_eq!(*made.lock().unwrap(), 0, "nothing of it was sent");
}

#[test]
fn what_is_sent_for_images_and_predictions_is_right_by_a_strict_provider() {
    let mock = mock("");
    let strait = Strait::start(&format!(
        "[providers.gemini]\nbase_url = \"{0}/v1beta\"\nkey = \"k\"\n\
         [providers.ve]\nlike = \"vertex\"\nproject = \"p\"\nlocation = \"us-central1\"\nbase_url = \"{0}\"\nkey = \"k\"\n\
         [providers.be]\nlike = \"bedrock\"\nregion = \"eu-west-1\"\nbase_url = \"{0}\"\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n",
        mock.url()
    ));
    let image = |model: &str, n: u32| json!({"model": model, "prompt": "a cat", "n": n, "size": "1024x1536"});
    for (model, n) in [
        ("gemini/gemini-3-pro-image", 2),
        ("ve/gemini-2.5-flash-image", 1),
        ("gemini/imagen-4.0-generate-001", 5),
        ("ve/imagen-4.0-generate-001", 2),
    ] {
        let answer = post(&strait, "/v1/images/generations", &image(model, n));
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(
            answer.json()["data"].as_array().unwrap().len(),
            n as usize,
            "{model}"
        );
    }
    for model in [
        "ve/text-embedding-005",
        "ve/gemini-embedding-001",
        "be/amazon.titan-embed-text-v2:0",
    ] {
        let ask = json!({"model": model, "input": ["one", "two", "three"], "dimensions": 256});
        let answer = post(&strait, "/v1/embeddings", &ask);
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(
            answer.json()["data"].as_array().unwrap().len(),
            3,
            "{model}"
        );
    }
    let calls = mock.calls();
    assert_eq!(calls.len(), 2 + 1 + 2 + 1 + 1 + 3 + 3);
    for call in calls {
        assert_eq!(call.problems, [""; 0], "{}", call.path);
    }
}
