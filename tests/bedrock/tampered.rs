//! Streams cut at every byte, and bytes that are no stream.

use bytes::Bytes;
use proptest::prelude::*;
use strait::codec::event_stream;
use strait::protocol::bedrock::invoke::{Chunker, Reframer, write_chunk};
use strait::protocol::event::Event;
use strait::protocol::{
    Protocol, Shape, StreamDecoder, decode_request, decode_response, encode_request,
    encode_response,
};

use super::{able, bedrock_bytes, golden, models, recode, shape};

#[test]
fn streams_cut_anywhere_say_the_same() {
    for path in golden("from-stream") {
        let wire = bedrock_bytes(&std::fs::read(&path).unwrap());
        for to in [Protocol::OpenaiChat, Protocol::Anthropic, Protocol::Bedrock] {
            let whole = recode(Protocol::Bedrock, to, &[&wire], &shape());
            for cut in 0..=wire.len() {
                let (head, tail) = wire.split_at(cut);
                let found = recode(Protocol::Bedrock, to, &[head, tail], &shape());
                assert_eq!(found, whole, "{} cut at {cut}", path.display());
            }
        }
    }
}

#[test]
fn streams_that_end_early_end_well_formed() {
    for path in golden("from-stream") {
        let wire = bedrock_bytes(&std::fs::read(&path).unwrap());
        for length in 0..=wire.len() {
            let mut promises = Promises::default();
            let mut decoder = StreamDecoder::new(Protocol::Bedrock, &shape());
            let mut splitter = event_stream::Splitter::new(1 << 20);
            let read = splitter.push(&Bytes::copy_from_slice(&wire[..length]), |message| {
                decoder.feed(message.name().as_bytes(), &message.data(), &mut |event| {
                    promises.see(&event)
                });
            });
            read.unwrap();
            decoder.end(&mut |event| promises.see(&event));
            promises.kept();
        }
    }
}

/// What every decoder promises.
#[derive(Debug, Default)]
struct Promises {
    started: bool,
    ended: bool,
    open: Vec<u32>,
    next: u32,
}

impl Promises {
    fn see(&mut self, event: &Event<'_>) {
        assert!(!self.ended, "something follows the end");
        match event {
            Event::Start { .. } => {
                assert!(!self.started, "a second start");
                self.started = true;
                return;
            }
            Event::Open { index, .. } => {
                assert_eq!(*index, self.next, "blocks count from 0 in order");
                self.next += 1;
                self.open.push(*index);
            }
            Event::Delta { index, .. } => {
                assert!(self.open.contains(index), "a delta without its block");
            }
            Event::Close { index } => {
                let at = self.open.iter().position(|open| open == index);
                self.open.remove(at.expect("only open blocks are closed"));
            }
            Event::Usage(_) | Event::Ping => {}
            Event::Finish { .. } | Event::Error(_) => {
                assert!(self.open.is_empty(), "all blocks are closed");
                self.ended = true;
            }
        }
        assert!(self.started, "something comes before the start");
    }

    fn kept(&self) {
        assert!(self.started && self.ended, "{self:?}");
    }
}

const NAMES: [&str; 9] = [
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
    "throttlingException",
    "InternalFailure",
    "somethingNew",
];

fn payload() -> impl Strategy<Value = String> {
    let index = 0u32..3;
    prop_oneof![
        index.clone().prop_map(|i| format!(r#"{{"contentBlockIndex":{i}}}"#)),
        (index.clone(), "[a-z\"\\\\]{0,6}").prop_map(|(i, text)| {
            let text = serde_json::to_string(&text).unwrap();
            format!(r#"{{"delta":{{"text":{text}}},"contentBlockIndex":{i}}}"#)
        }),
        (index.clone(), any::<bool>()).prop_map(|(i, schema)| {
            let name = if schema { "structured_output" } else { "f" };
            format!(r#"{{"start":{{"toolUse":{{"toolUseId":"t","name":"{name}"}}}},"contentBlockIndex":{i}}}"#)
        }),
        index.clone().prop_map(|i| {
            format!(r#"{{"delta":{{"toolUse":{{"input":"{{}}"}}}},"contentBlockIndex":{i}}}"#)
        }),
        (index.clone(), prop_oneof![Just("text"), Just("signature"), Just("redactedContent")])
            .prop_map(|(i, kind)| {
                format!(r#"{{"delta":{{"reasoningContent":{{"{kind}":"QUJD"}}}},"contentBlockIndex":{i}}}"#)
            }),
        index.clone().prop_map(|i| {
            format!(r#"{{"start":{{"toolResult":{{"toolUseId":"t"}}}},"contentBlockIndex":{i}}}"#)
        }),
        index.prop_map(|i| {
            format!(r#"{{"delta":{{"citation":{{"title":"t","location":{{"web":{{"url":"u"}}}}}}}},"contentBlockIndex":{i}}}"#)
        }),
        Just(r#"{"stopReason":"tool_use"}"#.to_owned()),
        Just(r#"{"usage":{"inputTokens":1,"outputTokens":2},"serviceTier":{"type":"flex"}}"#.to_owned()),
        Just(r#"{"message":"m","originalStatusCode":429}"#.to_owned()),
        "\\PC{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoders_keep_their_promises_whatever_comes(
        events in prop::collection::vec((0..NAMES.len(), payload()), 0..24),
        schema_tool in any::<bool>(),
    ) {
        let shape = Shape { schema_tool, ..shape() };
        let mut promises = Promises::default();
        let mut decoder = StreamDecoder::new(Protocol::Bedrock, &shape);
        for (name, payload) in &events {
            decoder.feed(NAMES[*name].as_bytes(), payload.as_bytes(), &mut |event| {
                promises.see(&event)
            });
        }
        decoder.end(&mut |event| promises.see(&event));
        promises.kept();
        // And every client's encoder takes them.
        let mut wire = Vec::new();
        for (name, payload) in &events {
            event_stream::write(NAMES[*name], payload.as_bytes(), &mut wire);
        }
        for to in [Protocol::OpenaiChat, Protocol::Anthropic, Protocol::Bedrock] {
            recode(Protocol::Bedrock, to, &[&wire], &shape);
        }
    }

    #[test]
    fn reframing_takes_whatever_comes(
        events in prop::collection::vec(("\\PC{0,40}", any::<bool>()), 0..8),
        cut in 0usize..2000,
    ) {
        let mut wire = Vec::new();
        for (text, whole) in &events {
            if *whole {
                write_chunk(text.as_bytes(), &mut wire);
            } else {
                event_stream::write("chunk", text.as_bytes(), &mut wire);
            }
        }
        let (head, tail) = wire.split_at(cut.min(wire.len()));
        let mut reframer = Reframer::new(1 << 16);
        let mut out = Vec::new();
        for piece in [head, tail] {
            let read = reframer.push(&Bytes::copy_from_slice(piece), &mut out);
            prop_assert!(read.is_ok());
        }
        // What came out is text, and every event of it ends.
        prop_assert!(out.is_empty() || out.ends_with(b"\n\n"));
        let mut chunker = Chunker::new(1 << 16);
        let mut back = Vec::new();
        let _ = chunker.push(&Bytes::from(out), &mut back);
        let sse: String = events.iter().map(|(text, _)| format!("data: {text}\n\n")).collect();
        let _ = chunker.push(&Bytes::from(sse), &mut back);
        chunker.finish(&mut back);
        let mut splitter = event_stream::Splitter::new(1 << 20);
        let read = splitter.push(&Bytes::from(back), |_| ());
        prop_assert!(read.is_ok());
    }

    #[test]
    fn bytes_that_are_no_stream_end_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut splitter = event_stream::Splitter::new(1 << 16);
        let _ = splitter.push(&Bytes::from(bytes), |_| {});
        prop_assert!(splitter.pending() < 1 << 16);
    }

    #[test]
    fn whole_streams_with_one_byte_changed_never_panic(at in 0usize..4000, byte in any::<u8>()) {
        for path in golden("from-stream").into_iter().take(3) {
            let mut wire = bedrock_bytes(&std::fs::read(&path).unwrap());
            let place = at % wire.len();
            wire[place] = byte;
            let mut splitter = event_stream::Splitter::new(1 << 16);
            let mut decoder = StreamDecoder::new(Protocol::Bedrock, &shape());
            let mut promises = Promises::default();
            let _ = splitter.push(&Bytes::from(wire), |message| {
                decoder.feed(message.name().as_bytes(), &message.data(), &mut |event| {
                    promises.see(&event)
                });
            });
            decoder.end(&mut |event| promises.see(&event));
            promises.kept();
        }
    }

    #[test]
    fn bodies_that_were_cut_or_changed_never_panic(
        at in 0usize..4000, byte in prop_oneof![any::<u8>(), Just(b'"'), Just(b'{'), Just(b'n')],
    ) {
        for path in golden("from-re") {
            let mut body = std::fs::read(&path).unwrap();
            let place = at % body.len();
            body[place] = byte;
            for body in [&body[..], &body[..place]] {
                if let Ok(hub) = decode_request(Protocol::Bedrock, body) {
                    for (_, model, facts) in models() {
                        let _ = encode_request(Protocol::Bedrock, &hub, model, &facts);
                    }
                    let _ = encode_request(Protocol::OpenaiChat, &hub, "m", &able());
                }
                if let Ok(hub) = decode_response(Protocol::Bedrock, body, &shape()) {
                    encode_response(Protocol::Bedrock, &hub, &shape());
                    encode_response(Protocol::Anthropic, &hub, &shape());
                }
            }
        }
    }
}

#[test]
fn deep_bodies_do_not_overflow_the_stack() {
    for part in [
        "{\"toolResult\":{\"toolUseId\":\"t\",\"content\":[",
        "{\"document\":{\"name\":\"d\",\"source\":{\"content\":[",
    ] {
        let body = format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":[{}",
            part.repeat(50_000)
        );
        assert!(decode_request(Protocol::Bedrock, body.as_bytes()).is_err());
    }
}
