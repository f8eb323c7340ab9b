//! What the encoder does where the hub's blocks overlap.

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Encoder, error_frame};
use crate::error::{Error, Kind};
use crate::protocol::chat::Finish;
use crate::protocol::event::{Block, Delta, Event, Failure, FailureClass};
use crate::protocol::usage::Usage;
use crate::protocol::{Protocol, Shape};

fn encoder() -> Encoder {
    Encoder::new(&Shape {
        model: "m".into(),
        ..Shape::default()
    })
}

fn start() -> Event<'static> {
    Event::Start {
        id: "chatcmpl-1".into(),
        model: "x".into(),
        usage: None,
        service_tier: None,
    }
}

fn call(index: u32) -> Event<'static> {
    Event::Open {
        index,
        block: Block::ToolCall {
            id: format!("id{index}").into(),
            name: "f".into(),
        },
    }
}

fn text(index: u32, text: &'static str) -> Event<'static> {
    Event::Delta {
        index,
        delta: Delta::Text(text.into()),
    }
}

fn arguments(index: u32, text: &'static str) -> Event<'static> {
    Event::Delta {
        index,
        delta: Delta::Arguments(text.into()),
    }
}

fn finish() -> Event<'static> {
    Event::Finish {
        reason: Finish::ToolCalls,
        stop_sequence: None,
    }
}

/// Writes all events and returns each frame in short.
fn written(events: &[Event<'_>]) -> Vec<String> {
    let mut encoder = encoder();
    let mut out = Vec::new();
    for event in events {
        encoder.write(event, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let frames = text.split_terminator("\n\n").map(|frame| {
        let (name, data) = frame.split_once('\n').unwrap();
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
        let index = event["index"]
            .as_u64()
            .map(|index| index.to_string())
            .unwrap_or_default();
        match event["type"].as_str().unwrap() {
            "content_block_start" => format!(
                "+{index} {}",
                event["content_block"]["type"].as_str().unwrap()
            ),
            "content_block_stop" => format!("-{index}"),
            "content_block_delta" => {
                let delta = event["delta"].as_object().unwrap();
                let said = ["text", "thinking", "signature", "partial_json"]
                    .iter()
                    .find_map(|key| delta.get(*key));
                format!("{index}: {}", said.and_then(Value::as_str).unwrap_or("?"))
            }
            "message_delta" => event["delta"]["stop_reason"].as_str().unwrap().to_owned(),
            other => other.to_owned(),
        }
    });
    frames.collect()
}

#[test]
fn calls_that_overlap_are_written_one_after_the_other() {
    let frames = written(&[
        start(),
        call(0),
        call(1),
        call(2),
        arguments(1, "b1"),
        arguments(0, "a1"),
        arguments(2, "c1"),
        Event::Close { index: 1 },
        arguments(0, "a2"),
        Event::Close { index: 0 },
        arguments(2, "c2"),
        finish(),
    ]);
    assert_eq!(
        frames,
        [
            "message_start",
            "+0 tool_use",
            "0: a1",
            "0: a2",
            "-0",
            "+1 tool_use",
            "1: b1",
            "-1",
            "+2 tool_use",
            "2: c1",
            "2: c2",
            "-2",
            "tool_use",
            "message_stop",
        ]
    );
}

#[test]
fn text_is_cut_rather_than_making_calls_wait() {
    let frames = written(&[
        start(),
        Event::Open {
            index: 0,
            block: Block::Text,
        },
        text(0, "a"),
        call(1),
        arguments(1, "x"),
        text(0, "b"),
        text(0, "c"),
        Event::Close { index: 1 },
        text(0, "d"),
        Event::Close { index: 0 },
        finish(),
    ]);
    assert_eq!(
        frames,
        [
            "message_start",
            "+0 text",
            "0: a",
            "-0",
            "+1 tool_use",
            "1: x",
            "-1",
            "+2 text",
            "2: bc",
            "2: d",
            "-2",
            "tool_use",
            "message_stop",
        ]
    );
}

#[test]
fn what_another_family_alone_understands_is_left_out() {
    let raw: &RawValue = serde_json::from_str("{\n\"type\":\n\"x\"}").unwrap();
    let opaque = |index, family| Event::Open {
        index,
        block: Block::Opaque { family, raw },
    };
    let frames = written(&[
        start(),
        opaque(0, Protocol::OpenaiChat),
        Event::Delta {
            index: 0,
            delta: Delta::Opaque {
                family: Protocol::OpenaiChat,
                raw,
            },
        },
        Event::Close { index: 0 },
        opaque(1, Protocol::Anthropic),
        Event::Delta {
            index: 1,
            delta: Delta::Opaque {
                family: Protocol::Anthropic,
                raw,
            },
        },
        Event::Delta {
            index: 1,
            delta: Delta::Logprobs(raw),
        },
        Event::Close { index: 1 },
        Event::Finish {
            reason: Finish::Stop,
            stop_sequence: None,
        },
    ]);
    assert_eq!(
        frames,
        [
            "message_start",
            "+0 x",
            "0: ?",
            "-0",
            "end_turn",
            "message_stop"
        ]
    );
}

#[test]
fn more_than_can_be_held_ends_the_stream_with_an_error() {
    let mut encoder = encoder();
    let mut out = Vec::new();
    for event in [start(), call(0), call(1)] {
        encoder.write(&event, &mut out);
    }
    let piece = "x".repeat(64 * 1024);
    for _ in 0..200 {
        encoder.write(
            &Event::Delta {
                index: 1,
                delta: Delta::Arguments(piece.as_str().into()),
            },
            &mut out,
        );
    }
    encoder.write(&finish(), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.len() < 10_000, "what was held is not written");
    assert_eq!(text.matches("event: error").count(), 1);
    assert!(!text.contains("message_stop"));
}

#[test]
fn thousands_of_open_blocks_end_the_stream_with_an_error() {
    let mut encoder = encoder();
    let mut out = Vec::new();
    encoder.write(&start(), &mut out);
    for index in 0..3000 {
        encoder.write(&call(index), &mut out);
    }
    assert!(String::from_utf8(out).unwrap().contains("event: error"));
}

#[test]
fn usage_stands_in_the_last_delta() {
    let usage = Usage {
        input: 7,
        output: 9,
        ..Usage::default()
    };
    let mut encoder = encoder();
    let mut out = Vec::new();
    for event in [
        start(),
        Event::Usage(usage),
        Event::Finish {
            reason: Finish::Stop,
            stop_sequence: Some("S".into()),
        },
    ] {
        encoder.write(&event, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let delta = text
        .lines()
        .find(|line| line.contains("\"message_delta\"") && line.starts_with("data"))
        .unwrap();
    let delta: Value = serde_json::from_str(&delta[6..]).unwrap();
    assert_eq!(delta["usage"]["input_tokens"], 7);
    assert_eq!(delta["usage"]["output_tokens"], 9);
    assert_eq!(delta["delta"]["stop_sequence"], "S");
}

#[test]
fn errors_are_events_of_their_type() {
    for (class, kind) in [
        (FailureClass::Overloaded, "overloaded_error"),
        (FailureClass::RateLimited, "rate_limit_error"),
        (FailureClass::InvalidRequest, "invalid_request_error"),
        (FailureClass::Cut, "api_error"),
    ] {
        let mut out = Vec::new();
        let mut encoder = encoder();
        encoder.write(
            &Event::Error(Failure {
                class,
                message: "m\n".into(),
            }),
            &mut out,
        );
        encoder.write(&finish(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let data = text
            .strip_prefix("event: error\ndata: ")
            .unwrap()
            .trim_end();
        assert_eq!(
            serde_json::from_str::<Value>(data).unwrap()["error"]["type"],
            kind
        );
    }
    for (kind, expected) in [
        (Kind::InvalidRequest, "invalid_request_error"),
        (Kind::InvalidKey, "authentication_error"),
        (Kind::ModelNotAllowed, "permission_error"),
        (Kind::ModelNotFound, "not_found_error"),
        (Kind::BodyTooLarge, "request_too_large"),
        (Kind::RateLimited, "rate_limit_error"),
        (Kind::Internal, "api_error"),
        (Kind::UpstreamBroken, "api_error"),
        (Kind::Overloaded, "overloaded_error"),
        (Kind::Timeout, "timeout_error"),
    ] {
        let frame = String::from_utf8(error_frame(&Error::new(kind, "a \"b\""), "req_1")).unwrap();
        let data = frame
            .strip_prefix("event: error\ndata: ")
            .unwrap()
            .strip_suffix("\n\n")
            .unwrap();
        let body: Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            (&body["error"]["type"], &body["request_id"]),
            (&expected.into(), &"req_1".into())
        );
        assert_eq!(body["error"]["message"], "a \"b\"");
    }
}

mod overlapping {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Returns what each block said, by the hub's index, and the frames.
    fn run(steps: &[(u8, u8)]) -> (BTreeMap<String, String>, Vec<String>) {
        let mut events = vec![start()];
        let mut open: Vec<(u32, u8)> = Vec::new();
        let mut said: BTreeMap<String, String> = BTreeMap::new();
        let mut next = 0;
        for (count, (kind, which)) in steps.iter().enumerate() {
            let at = usize::from(*which) % open.len().max(1);
            match (kind % 8, open.get(at).copied()) {
                (0 | 1, _) => {
                    let block = match which % 3 {
                        0 => Block::Text,
                        1 => Block::Reasoning,
                        _ => Block::ToolCall {
                            id: "i".into(),
                            name: format!("f{next}").into(),
                        },
                    };
                    events.push(Event::Open { index: next, block });
                    open.push((next, which % 3));
                    next += 1;
                }
                (2, Some((index, _))) => {
                    events.push(Event::Close { index });
                    open.remove(at);
                }
                (_, Some((index, kind))) => {
                    let piece = format!("{index}.{count};");
                    said.entry(index.to_string()).or_default().push_str(&piece);
                    let delta = match kind {
                        0 => Delta::Text(piece.into()),
                        1 => Delta::Reasoning(piece.into()),
                        _ => Delta::Arguments(piece.into()),
                    };
                    events.push(Event::Delta { index, delta });
                }
                (_, None) => {}
            }
        }
        for (index, _) in open {
            events.push(Event::Close { index });
        }
        events.push(finish());
        (said, written(&events))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn blocks_never_overlap_and_nothing_is_lost(steps in prop::collection::vec(any::<(u8, u8)>(), 0..60)) {
            let (said, frames) = run(&steps);
            let mut open: Option<String> = None;
            let mut next = 0;
            let mut heard: BTreeMap<String, String> = BTreeMap::new();
            for frame in &frames {
                if let Some(start) = frame.strip_prefix('+') {
                    prop_assert_eq!(&open, &None, "two blocks are open");
                    let (index, _) = start.split_once(' ').unwrap();
                    prop_assert_eq!(index.parse::<u32>().unwrap(), next);
                    next += 1;
                    open = Some(index.to_owned());
                } else if let Some(index) = frame.strip_prefix('-') {
                    prop_assert_eq!(open.take(), Some(index.to_owned()));
                } else if let Some((index, text)) = frame.split_once(": ") {
                    prop_assert_eq!(open.as_deref(), Some(index));
                    for piece in text.split_terminator(';') {
                        // Every piece carries the hub's index.
                    let (block, _) = piece.split_once('.').unwrap();
                        heard.entry(block.to_owned()).or_default().push_str(&format!("{piece};"));
                    }
                }
            }
            prop_assert_eq!(open, None);
            prop_assert_eq!(frames.last().map(String::as_str), Some("message_stop"));
            prop_assert_eq!(heard, said);
        }
    }
}
