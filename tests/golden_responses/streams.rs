//! Streams as they may come: cut anywhere, with events lost, doubled and swapped, and with anything at all in them.

use proptest::prelude::*;
use serde_json::Value;
use strait::error::{Error, Kind};
use strait::protocol::event::{Block, Event};
use strait::protocol::openai_responses::stream::{Decoder, error_frame};
use strait::protocol::openai_responses::{request, response};
use strait::protocol::{Protocol, StreamEncoder, encode_request, error_body};

use super::sdk::Lines;
use super::{OWN, able, frames, recode, shape, tests};

fn golden() -> Vec<(String, String)> {
    let mut found: Vec<_> = std::fs::read_dir(tests().join("golden/responses"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.to_string_lossy().into_owned();
            name.ends_with(".sse") && !name.contains(".to-")
        })
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.display().to_string(), text)
        })
        .collect();
    found.sort();
    found
}

/// Holds a decoder to its promises; returns whether the stream ended well.
fn kept(label: &str, events: &[(String, String)]) -> bool {
    let mut decoder = Decoder::new(&shape());
    let (mut started, mut ended) = (0, None);
    let (mut open, mut next) = (None, 0);
    let mut hear = |event: Event<'_>| {
        assert!(ended.is_none(), "{label}: {event:?} after the end");
        assert_eq!(
            started == 0,
            matches!(event, Event::Start { .. }),
            "{label}: {event:?}"
        );
        match event {
            Event::Start { .. } => started += 1,
            Event::Open { index, block } => {
                assert_eq!((open, index), (None, next), "{label}: {block:?}");
                next += 1;
                open = Some(index);
                if let Block::ToolCall { id, .. } = block {
                    assert!(!id.is_empty(), "{label}");
                }
            }
            Event::Delta { index, delta } => assert_eq!(open, Some(index), "{label}: {delta:?}"),
            Event::Close { index } => assert_eq!(open.take(), Some(index), "{label}"),
            Event::Usage(_) | Event::Ping => {}
            Event::Finish { .. } => {
                assert_eq!(open, None, "{label}");
                ended = Some(true);
            }
            Event::Error(_) => {
                assert_eq!(open, None, "{label}");
                ended = Some(false);
            }
        }
    };
    for (name, data) in events {
        decoder.feed(name.as_bytes(), data.as_bytes(), &mut hear);
    }
    decoder.end(&mut hear);
    decoder.end(&mut hear);
    ended.unwrap_or_else(|| panic!("{label}: no end"))
}

/// Holds a written stream to OpenAI's choreography; returns whether it ended well.
pub fn in_order(label: &str, text: &str) -> bool {
    let (mut number, mut items) = (0u64, 0u64);
    let mut item: Option<Value> = None;
    let mut part: Option<Value> = None;
    let mut said = String::new();
    let mut ended = None;
    let mut output: Vec<Value> = Vec::new();
    for (name, data) in frames(text) {
        let event: Value =
            serde_json::from_str(&data).unwrap_or_else(|e| panic!("{label}: {e}: {data}"));
        let at = format!("{label}: {data}");
        assert_eq!(event["type"], name.as_str(), "{at}");
        assert_eq!(event["sequence_number"], number, "{at}");
        number += 1;
        assert!(ended.is_none(), "{at}: after the end");
        if event["output_index"].is_number() {
            assert_eq!(event["output_index"], items, "{at}");
        }
        match name.as_str() {
            "response.created" | "response.in_progress" => {
                assert_eq!(event["response"]["status"], "in_progress", "{at}");
                assert!(number <= 2, "{at}");
            }
            "response.output_item.added" => {
                assert!(item.is_none(), "{at}");
                item = Some(event["item"].clone());
                said.clear();
            }
            "response.output_item.done" => {
                let begun = item.take().unwrap_or_else(|| panic!("{at}: never added"));
                assert!(part.is_none(), "{at}");
                for key in ["id", "type", "call_id", "name"] {
                    assert_eq!(event["item"][key], begun[key], "{at}");
                }
                output.push(event["item"].clone());
                items += 1;
            }
            "response.content_part.added" | "response.reasoning_summary_part.added" => {
                assert!(part.is_none(), "{at}");
                part = Some(event["part"]["type"].clone());
                said.clear();
            }
            "response.content_part.done" | "response.reasoning_summary_part.done" => {
                assert_eq!(part.take(), Some(event["part"]["type"].clone()), "{at}");
                let told = event["part"]
                    .get("text")
                    .unwrap_or(&event["part"]["refusal"]);
                assert_eq!(*told, said.as_str(), "{at}");
            }
            "response.completed" | "response.incomplete" => {
                assert!(item.is_none(), "{at}");
                assert_eq!(
                    event["response"]["output"],
                    Value::Array(output.clone()),
                    "{at}"
                );
                ended = Some(true);
            }
            "response.failed" => {
                assert!(event["response"]["error"]["message"].is_string(), "{at}");
                ended = Some(false);
            }
            _ => {
                if let Some(id) = event.get("item_id") {
                    assert_eq!(Some(id), item.as_ref().map(|item| &item["id"]), "{at}");
                }
                if name.ends_with(".delta") {
                    said.push_str(event["delta"].as_str().unwrap());
                }
                let whole = ["text", "refusal", "arguments", "input"];
                if name.ends_with(".done")
                    && let Some(all) = whole.iter().find_map(|key| event.get(*key))
                {
                    assert_eq!(*all, said.as_str(), "{at}");
                }
            }
        }
    }
    ended.unwrap_or_else(|| panic!("{label}: no end: {text}"))
}

#[test]
fn what_is_written_keeps_openais_order() {
    for (label, text) in golden() {
        let whole = kept(&label, &frames(&text));
        let written = recode(OWN, OWN, &text, &shape());
        assert_eq!(in_order(&label, &written), whole, "{label}");
        // What we write we can read.
        assert_eq!(kept(&label, &frames(&written)), whole, "{label}");
    }
}

#[test]
fn a_stream_cut_anywhere_ends_with_an_error_unless_it_was_finished() {
    for (label, text) in golden() {
        let whole = kept(&label, &frames(&text));
        for cut in 0..text.len() {
            let Some(piece) = text.get(..cut) else {
                continue;
            };
            let events = frames(piece);
            // A frame that was cut is no event.
            let is_end = |data: &str| {
                ["completed", "incomplete"].iter().any(|end| {
                    data.contains(&format!("\"type\":\"response.{end}\"")) && data.ends_with('}')
                }) && serde_json::from_str::<Value>(data).is_ok()
            };
            let finished = events.iter().any(|(_, data)| is_end(data));
            assert_eq!(kept(&label, &events), whole && finished, "{label} at {cut}");
        }
    }
}

#[test]
fn an_error_frame_ends_a_stream_for_every_client() {
    let error = Error::new(Kind::UpstreamBroken, "The provider hung up.");
    let frame = String::from_utf8(error_frame(&error, "0b1c")).unwrap();
    let events = frames(&frame);
    let read = |at: usize| serde_json::from_str::<Value>(&events[at].1).unwrap();
    assert_eq!(read(0)["type"], "error");
    assert_eq!(read(0)["message"], "The provider hung up.");
    assert_eq!(read(0)["code"], "upstream_broken");
    assert_eq!(read(1)["type"], "response.failed");
    assert_eq!(read(1)["response"]["id"], "resp_0b1c");
    assert_eq!(
        read(1)["response"]["error"]["message"],
        "The provider hung up."
    );
    let mut lines = Lines::default();
    let failed = frame.split_once("\n\n").unwrap().1;
    assert!(failed.starts_with("event: response.failed"));
    let body: Value = serde_json::from_slice(&error_body(OWN, &error, "x")).unwrap();
    assert_eq!(body["error"]["code"], "upstream_broken");
    let answer = read(1)["response"].to_string();
    lines.whole("failed", OWN, answer.as_bytes());
    lines.hold("failed");
}

#[test]
fn a_failure_is_sorted_by_what_it_asks_for() {
    use strait::protocol::event::FailureClass;
    for (data, class) in [
        (
            r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#,
            FailureClass::RateLimited,
        ),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"m"}}"#,
            FailureClass::InvalidRequest,
        ),
        (
            r#"{"type":"error","error":{"type":"server_error","code":null,"message":"m"}}"#,
            FailureClass::Server,
        ),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"server_is_overloaded","message":"m"}}}"#,
            FailureClass::Overloaded,
        ),
        (
            r#"{"error":{"message":"m","type":"server_error"}}"#,
            FailureClass::Server,
        ),
        ("nonsense", FailureClass::Garbage),
        ("[1]", FailureClass::Garbage),
    ] {
        let mut decoder = Decoder::new(&shape());
        let mut found = None;
        decoder.feed(b"", data.as_bytes(), &mut |event| {
            if let Event::Error(failure) = event {
                found = Some(failure.class);
                assert!(
                    class == FailureClass::Garbage || failure.message == "m",
                    "{data}"
                );
            }
        });
        assert_eq!(found, Some(class), "{data}");
    }
}

fn tampered() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, prop::sample::Index)>> {
    prop::collection::vec(
        (
            0u8..5,
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
        ),
        0..8,
    )
}

/// JSON of any shape, with the words of this protocol in it.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type",
        "input",
        "role",
        "user",
        "assistant",
        "content",
        "input_text",
        "output_text",
        "text",
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
        "summary",
        "call_id",
        "name",
        "output",
        "arguments",
        "tools",
        "function",
        "namespace",
        "custom",
        "tool_choice",
        "encrypted_content",
        "id",
        "response",
        "item",
        "delta",
        "annotations",
        "logprobs",
        "status",
        "completed",
        "error",
        "output_index",
        "format",
        "json_schema",
        "schema",
        "effort",
        "include",
        "response.completed",
        "response.output_item.done",
        "response.output_text.delta",
        "image_url",
        "input_image",
        "file_data",
        "input_file",
        "usage",
        "parameters",
        "background",
        "é\u{0}\"",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tampered_streams_keep_the_promises(which in any::<prop::sample::Index>(), edits in tampered(), to in any::<prop::sample::Index>()) {
        let all = golden();
        let (label, text) = &all[which.index(all.len())];
        let mut events = frames(text);
        for (kind, at, other) in &edits {
            if events.is_empty() {
                break;
            }
            let (at, other) = (at.index(events.len()), other.index(events.len()));
            match kind {
                0 => drop(events.remove(at)),
                1 => events.insert(other, events[at].clone()),
                2 => events.swap(at, other),
                3 => {
                    let data = &mut events[at].1;
                    let cut = other * 7 % (data.len() + 1);
                    data.truncate(data.floor_char_boundary(cut));
                }
                _ => events[at].1 = events[at].1.replace("\"output_index\":0", "\"output_index\":1"),
            }
        }
        let whole = kept(label, &events);
        let to = Protocol::ALL[to.index(Protocol::ALL.len())];
        let mut decoder = Decoder::new(&shape());
        let mut encoder = StreamEncoder::new(to, &shape());
        let mut own = StreamEncoder::new(OWN, &shape());
        let (mut out, mut mine) = (Vec::new(), Vec::new());
        let mut hear = |event: Event<'_>| {
            encoder.write(&event, &mut out);
            own.write(&event, &mut mine);
        };
        for (name, data) in &events {
            decoder.feed(name.as_bytes(), data.as_bytes(), &mut hear);
        }
        decoder.end(&mut hear);
        prop_assert_eq!(in_order(label, std::str::from_utf8(&mine).unwrap()), whole);
    }

    #[test]
    fn anything_at_all_is_read_or_refused(value in anything(), key in prop::sample::select(vec!["input", "tools", "text", "reasoning", "tool_choice", "output", "response", "item", "x"])) {
        let mut body = serde_json::json!({"model": "m", "input": "q", "type": "response.output_item.done"});
        body[key] = value.clone();
        let text = body.to_string();
        if let Ok(hub) = request::decode(text.as_bytes()) {
            for to in Protocol::ALL {
                match encode_request(to, &hub, "m", &able()) {
                    Ok(said) => prop_assert!(serde_json::from_slice::<Value>(&said.body).is_ok(), "{}: {text}", to.name()),
                    Err(error) => prop_assert_eq!(error.kind.status(), 400, "{}: {}", to.name(), error),
                }
            }
        }
        let echo = request::echo(text.as_bytes());
        prop_assert!(serde_json::from_str::<Value>(&format!("{{{echo}}}")).is_ok(), "{echo}");
        if let Ok(hub) = response::decode(text.as_bytes(), &shape()) {
            let written = response::encode(&hub, &shape());
            prop_assert!(serde_json::from_slice::<Value>(&written).is_ok());
        }
        kept("anything", &[("".into(), text), ("".into(), value.to_string())]);
    }
}
