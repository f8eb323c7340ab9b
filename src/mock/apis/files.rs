//! Forms and uploads: files, batches, videos, transcriptions, edits of images.
//!
//! An id follows from what was sent, so that equal uploads have equal ids. What is kept is bounded: the last 100
//! objects, and of a file its first 64 KiB.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::super::answers::{ErrorSaid, Rendered, error_body};
use super::super::json::Object;
use super::super::route::{Api, Route};
use super::super::script::Behaviour;
use super::super::strict;
use super::super::upload::Part;
use super::media;

const KEPT_MAX: usize = 100;
const CREATED: u64 = 1_700_000_000;

/// Objects that can be asked for by their id.
#[derive(Debug, Default)]
pub(in crate::mock) struct Kept(Mutex<VecDeque<Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    api: Api,
    id: String,
    object: Value,
    content: Bytes,
}

/// An upload that has been read.
pub(in crate::mock) struct Sent<'r> {
    route: &'r Route<'r>,
    /// The fields of the form, or the body where it is JSON.
    fields: Value,
    files: Vec<Part>,
    is_form: bool,
    pub model: String,
}

impl<'r> Sent<'r> {
    pub fn new(route: &'r Route<'r>, start: &[u8], parts: Vec<Part>) -> Self {
        let is_form = !parts.is_empty();
        let mut fields = Map::new();
        let mut files = Vec::new();
        for part in parts {
            match part.text() {
                Some(text) if part.filename.is_none() => {
                    fields.insert(part.name.clone(), json!(text));
                }
                _ => files.push(part),
            }
        }
        let fields = if is_form {
            Value::Object(fields)
        } else {
            serde_json::from_slice(start).unwrap_or(Value::Null)
        };
        let model = match (&route.model, fields["model"].as_str()) {
            (Some(model), _) => model.clone().into_owned(),
            (None, Some(model)) => model.to_owned(),
            (None, None) => "mock".to_owned(),
        };
        Self {
            route,
            fields,
            files,
            is_form,
            model,
        }
    }

    /// Returns what a strict provider would refuse.
    pub fn check(&self, head: &Parts, start: &Bytes, allow: &[String]) -> Vec<String> {
        if !self.is_form && matches!(self.route.api, Api::Batches | Api::Videos | Api::ImageEdits) {
            let parsed = serde_json::from_slice(start);
            return strict::check(self.route, head, start, &parsed, allow);
        }
        let mut problems = strict::check_head(self.route, head, allow);
        let (known, needed) = form(self.route.api);
        let names: Vec<&str> = self
            .fields
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
            .chain(self.files.iter().map(|file| file.name.as_str()))
            // `image[]` is one of several.
            .map(|name| name.strip_suffix("[]").unwrap_or(name))
            .collect();
        for name in &names {
            if !known.contains(name) && !allow.iter().any(|allowed| allowed == name) {
                problems.push(format!("unknown field `{name}`"));
            }
        }
        for name in needed.iter().filter(|name| !names.contains(name)) {
            problems.push(format!("`{name}` is missing"));
        }
        problems
    }

    pub fn answer(&self, behaviour: &Behaviour, kept: &Kept) -> Rendered {
        match self.route.api {
            Api::Transcriptions | Api::Translations => self.transcribed(behaviour),
            Api::Files => self.stored(kept),
            Api::Batches => self.begun(kept),
            Api::Videos => self.filmed(kept),
            Api::ImageEdits
            | Api::Chat
            | Api::Responses
            | Api::CountTokens
            | Api::Embeddings
            | Api::BatchEmbeddings
            | Api::Rerank
            | Api::Moderations
            | Api::Images
            | Api::Speech
            | Api::Realtime
            | Api::Models => Rendered::Whole(media::images(&self.fields).end().into()),
        }
    }

    fn stored(&self, kept: &Kept) -> Rendered {
        let file = self.files.first();
        let hash = file.map_or("", |file| file.sha256.as_str());
        let object = json!({"id": format!("file-mock{}", hash.get(..16).unwrap_or("")), "object": "file",
            "bytes": file.map_or(0, |file| file.length), "created_at": CREATED, "expires_at": null,
            "filename": file.and_then(|file| file.filename.as_deref()), "status": "processed",
            "purpose": self.fields["purpose"]});
        let content = file.map_or(Bytes::new(), |file| file.start.clone().into());
        kept.add(Api::Files, object, content)
    }

    fn begun(&self, kept: &Kept) -> Rendered {
        let input = self.fields["input_file_id"].as_str().unwrap_or("");
        let id = format!("batch_mock{}", input.trim_start_matches("file-mock"));
        let object = json!({"id": id, "object": "batch", "endpoint": self.fields["endpoint"],
            "errors": null, "input_file_id": input, "completion_window": self.fields["completion_window"],
            "status": "validating", "output_file_id": null, "error_file_id": null, "created_at": CREATED,
            "metadata": self.fields["metadata"], "request_counts": {"total": 0, "completed": 0, "failed": 0}});
        kept.add(Api::Batches, object, Bytes::new())
    }

    fn filmed(&self, kept: &Kept) -> Rendered {
        let seconds = self.fields["seconds"].as_str().unwrap_or("4");
        let object = json!({"id": "video_mock", "object": "video", "model": self.model, "status": "queued",
            "progress": 0, "created_at": CREATED, "completed_at": null, "expires_at": null, "error": null,
            "size": self.fields["size"].as_str().unwrap_or("720x1280"), "seconds": seconds,
            "prompt": self.fields["prompt"], "remixed_from_video_id": null});
        kept.add(Api::Videos, object, Bytes::from_static(b"mock video"))
    }

    /// Tells the script's text, or the name and the size of the file.
    fn transcribed(&self, behaviour: &Behaviour) -> Rendered {
        let text = behaviour.text.clone().unwrap_or_else(|| {
            self.files.first().map_or_else(String::new, |file| {
                let name = file.filename.as_deref().unwrap_or("");
                format!("{name} has {} bytes.", file.length)
            })
        });
        let seconds = self
            .files
            .first()
            .map_or(1, |file| file.length / 16_000 + 1);
        let usage = Object::new()
            .set("type", "duration")
            .set("seconds", seconds);
        let object = match self.fields["response_format"].as_str() {
            Some("text") => {
                return Rendered::Other("text/plain; charset=utf-8", (text + "\n").into());
            }
            Some("srt") => {
                let body = format!("1\n00:00:00,000 --> 00:00:01,000\n{text}\n\n");
                return Rendered::Other("text/plain; charset=utf-8", body.into());
            }
            Some("vtt") => {
                let body = format!("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{text}\n\n");
                return Rendered::Other("text/plain; charset=utf-8", body.into());
            }
            Some("verbose_json") => {
                let task = if self.route.api == Api::Translations {
                    "translate"
                } else {
                    "transcribe"
                };
                let segment = Object::new()
                    .set("id", 0u32)
                    .set("seek", 0u32)
                    .set("start", 0.0)
                    .set("end", seconds as f64)
                    .set("text", &text)
                    .set("tokens", [1u32])
                    .set("temperature", 0.0)
                    .set("avg_logprob", -0.1)
                    .set("compression_ratio", 1.0)
                    .set("no_speech_prob", 0.0);
                Object::new()
                    .set("task", task)
                    .set("language", "english")
                    .set("duration", seconds as f64)
                    .set("text", text)
                    .set("segments", [segment])
            }
            _ => Object::new().set("text", text),
        };
        Rendered::Whole(object.set("usage", usage).end().into())
    }
}

/// Returns the fields that a form may have, and those that it must.
fn form(api: Api) -> (&'static [&'static str], &'static [&'static str]) {
    match api {
        Api::Transcriptions | Api::Translations => (TRANSCRIPTION, &["file", "model"]),
        Api::ImageEdits => (EDIT, &["image", "prompt"]),
        Api::Files => (FILE, &["file", "purpose"]),
        Api::Videos => (VIDEO, &["prompt"]),
        Api::Chat
        | Api::Responses
        | Api::CountTokens
        | Api::Embeddings
        | Api::BatchEmbeddings
        | Api::Rerank
        | Api::Moderations
        | Api::Images
        | Api::Speech
        | Api::Batches
        | Api::Realtime
        | Api::Models => (&[], &[]),
    }
}

const FILE: &[&str] = &[
    "expires_after[anchor]",
    "expires_after[seconds]",
    "file",
    "purpose",
];

const VIDEO: &[&str] = &["input_reference", "model", "prompt", "seconds", "size"];

const TRANSCRIPTION: &[&str] = &[
    "chunking_strategy",
    "file",
    "include",
    "known_speaker_names",
    "known_speaker_references",
    "language",
    "model",
    "prompt",
    "response_format",
    "stream",
    "temperature",
    "timestamp_granularities",
];

const EDIT: &[&str] = &[
    "background",
    "image",
    "input_fidelity",
    "mask",
    "model",
    "n",
    "output_compression",
    "output_format",
    "partial_images",
    "prompt",
    "quality",
    "response_format",
    "size",
    "stream",
    "user",
];

impl Kept {
    fn add(&self, api: Api, object: Value, content: Bytes) -> Rendered {
        let body = object.to_string();
        let id = object["id"].as_str().unwrap_or("").to_owned();
        self.keep(api, id, object, content);
        Rendered::Whole(body.into())
    }

    /// Keeps an object; one of the same id is replaced.
    pub fn keep(&self, api: Api, id: String, object: Value, content: Bytes) {
        let mut kept = self.0.lock();
        kept.retain(|entry| entry.id != id);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Entry {
            api,
            id,
            object,
            content,
        });
    }

    /// Answers what is asked of a collection or of one of its members.
    pub fn answer(&self, route: &Route<'_>, method: &Method) -> (u16, Rendered) {
        let mut kept = self.0.lock();
        let whole = |value: Value| (200, Rendered::Whole(value.to_string().into()));
        if route.rest.is_empty() {
            let all: Vec<Value> = kept
                .iter()
                .filter(|entry| entry.api == route.api)
                .map(|entry| entry.object.clone())
                .collect();
            let id = |object: Option<&Value>| object.map(|object| object["id"].clone());
            return whole(json!({"object": "list", "has_more": false,
                "first_id": id(all.first()), "last_id": id(all.last()), "data": all}));
        }
        let (id, what) = route.rest.split_once('/').unwrap_or((route.rest, ""));
        let found = kept
            .iter()
            .position(|entry| entry.api == route.api && entry.id == id);
        let missing = || {
            let message = format!("No such object: {id}");
            let said = ErrorSaid {
                status: 404,
                message: Some(&message),
                code: Some("not_found"),
                ..ErrorSaid::default()
            };
            let body = error_body(route.dialect, &said);
            (404, Rendered::Whole(body.into()))
        };
        let Some(at) = found else {
            return missing();
        };
        match (method.as_str(), what) {
            ("DELETE", "") => {
                kept.remove(at);
                let object = if route.api == Api::Responses {
                    "response"
                } else if route.api == Api::Videos {
                    "video.deleted"
                } else {
                    "file"
                };
                whole(json!({"id": id, "object": object, "deleted": true}))
            }
            ("GET", "") => whole(kept[at].object.clone()),
            ("GET", "content") => {
                let content = kept[at].content.clone();
                (200, Rendered::Other("application/octet-stream", content))
            }
            ("GET", "input_items") => {
                let input = serde_json::from_slice(&kept[at].content).unwrap_or(Value::Null);
                whole(input)
            }
            ("POST", "cancel") => {
                kept[at].object["status"] = json!("cancelled");
                whole(kept[at].object.clone())
            }
            _ => missing(),
        }
    }
}
