//! Bodies and streams that were tampered with: nothing panics, what goes out is JSON, streams keep their promises.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use strait::protocol::gemini::stream::ArrayWriter;
use strait::protocol::tap::{Tap, whole};
use strait::protocol::{
    Facts, Protocol, Shape, StreamDecoder, StreamEncoder, decode_request, decode_response,
    encode_request, encode_response,
};

use super::{MODELS, Promises, able, frames, golden, shape};

type Cut = (prop::sample::Index, u8, u8);

fn tampered(mut body: Vec<u8>, cuts: &[Cut]) -> Vec<u8> {
    for (at, kind, byte) in cuts {
        if body.is_empty() {
            break;
        }
        let at = at.index(body.len());
        match kind % 5 {
            0 => body[at] = *byte,
            1 => drop(body.remove(at)),
            2 => body.truncate(at),
            3 => {
                // Another type where one was expected.
                let words: [&[u8]; 8] = [
                    b"null",
                    b"7",
                    b"{}",
                    b"[]",
                    b"\"x\"",
                    b"true",
                    b"-1.5",
                    b"\"STRING\"",
                ];
                let end = body[at..]
                    .iter()
                    .position(|byte| matches!(byte, b',' | b'}' | b']'));
                let end = at + end.unwrap_or(0);
                body.splice(at..end, words[usize::from(*byte) % 8].iter().copied());
            }
            _ => {
                let piece = body[at..(at + 40).min(body.len())].to_vec();
                body.splice(at..at, piece);
            }
        }
    }
    body
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    prop::collection::vec(
        (any::<prop::sample::Index>(), any::<u8>(), any::<u8>()),
        0..4,
    )
}

fn bodies(what: &str) -> Vec<(Protocol, Vec<u8>)> {
    golden(what, ".json")
        .into_iter()
        .map(|(from, path)| (from, std::fs::read(path).unwrap()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_read_or_refused_and_what_goes_out_is_json(
        which in any::<prop::sample::Index>(),
        cuts in cuts(),
    ) {
        let bodies = bodies("request-");
        let (from, body) = &bodies[which.index(bodies.len())];
        let body = tampered(body.clone(), &cuts);
        if let Ok(mut hub) = decode_request(*from, &body) {
            prop_assert!(serde_json::from_slice::<Value>(&body).is_ok(), "serde_json refuses it");
            for family in Protocol::ALL {
                hub.family = family;
                for model in MODELS {
                    if let Ok(said) = encode_request(Protocol::Gemini, &hub, model, &able()) {
                        let said: Value = serde_json::from_slice(&said.body).unwrap();
                        prop_assert!(said["contents"].is_array());
                    }
                }
            }
            hub.family = *from;
            for to in [Protocol::OpenaiChat, Protocol::Anthropic] {
                if let Ok(said) = encode_request(to, &hub, "m", &Facts::default()) {
                    serde_json::from_slice::<Value>(&said.body).unwrap();
                }
            }
        }
    }

    #[test]
    fn answers_are_read_or_refused_and_what_goes_out_is_json(
        which in any::<prop::sample::Index>(),
        cuts in cuts(),
        schema_tool: bool,
    ) {
        let bodies = bodies("response-");
        let (from, body) = &bodies[which.index(bodies.len())];
        let body = tampered(body.clone(), &cuts);
        let shape = Shape { schema_tool, ..shape() };
        if let Ok(hub) = decode_response(*from, &body, &shape) {
            for to in [Protocol::Gemini, Protocol::OpenaiChat, Protocol::Anthropic] {
                serde_json::from_slice::<Value>(&encode_response(to, &hub, &shape)).unwrap();
            }
            if *from == Protocol::Gemini {
                let tapped = whole(Protocol::Gemini, &body);
                prop_assert_eq!(tapped.usage.is_some(), hub.usage.is_some());
            }
        } else {
            whole(Protocol::Gemini, &body);
        }
    }

    #[test]
    fn streams_keep_their_promises(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, cuts()), 0..5),
        schema_tool: bool,
    ) {
        let streams = golden("stream-", ".sse");
        let (from, path) = &streams[which.index(streams.len())];
        let text = std::fs::read_to_string(path).unwrap();
        let mut events: Vec<_> = frames(&text)
            .into_iter()
            .map(|(name, data)| (name, data.into_bytes()))
            .collect();
        for (at, kind, cuts) in &edits {
            if events.is_empty() {
                break;
            }
            let at = at.index(events.len());
            match kind {
                0 => drop(events.remove(at)),
                1 => events.insert(at, events[at].clone()),
                2 => events.swap(0, at),
                _ => events[at].1 = tampered(events[at].1.clone(), cuts),
            }
        }
        let shape = Shape { schema_tool, ..shape() };
        let mut decoder = StreamDecoder::new(*from, &shape);
        let mut encoder = StreamEncoder::new(Protocol::Gemini, &shape);
        let mut promises = Promises::default();
        let mut out = Vec::new();
        let mut tap = Tap::new(Protocol::Gemini, false, 1 << 20);
        for (name, data) in &events {
            decoder.feed(name.as_bytes(), data, &mut |event| {
                promises.hear(&event);
                encoder.write(&event, &mut out);
            });
            let mut frame = b"data: ".to_vec();
            frame.extend_from_slice(data);
            frame.extend_from_slice(b"\r\n\r\n");
            tap.feed(frame.into(), &mut Vec::new());
        }
        decoder.end(&mut |event| {
            promises.hear(&event);
            encoder.write(&event, &mut out);
        });
        prop_assert!(promises.ended.is_some(), "no end");
        let mut writer = ArrayWriter::new(1 << 20);
        let mut array = Vec::new();
        writer.feed(&Bytes::from(out), &mut array).unwrap();
        writer.finish(&mut array);
        let elements: Vec<Value> = serde_json::from_slice(&array).unwrap();
        let last = elements.last().unwrap();
        let finished = !last["candidates"][0]["finishReason"].is_null();
        prop_assert!(finished || last["error"].is_object(), "{last}");
    }
}
