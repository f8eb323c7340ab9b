//! Streams that lost, doubled or swapped events on their way.

use super::*;
use proptest::prelude::*;

/// Holds an Anthropic stream to its order; returns whether it ended well.
fn is_whole_anthropic(text: &str) -> bool {
    let (mut open, mut next, mut ended) = (None, 0, false);
    for (count, (name, data)) in frames(text).into_iter().enumerate() {
        let event: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(event["type"], name.as_str());
        assert!(!ended, "{name} comes after the end: {text}");
        assert_eq!(count == 0, name == "message_start", "{text}");
        let index = event["index"].as_u64();
        match name.as_str() {
            "content_block_start" => {
                assert_eq!((open, index), (None, Some(next)), "{text}");
                next += 1;
                open = index;
            }
            "content_block_delta" => assert_eq!(open, index, "{text}"),
            "content_block_stop" => assert_eq!(open.take(), index, "{text}"),
            "message_stop" | "error" => ended = true,
            _ => {}
        }
    }
    assert!(ended, "no end: {text}");
    open.is_none() && !text.contains("event: error")
}

/// Holds an OpenAI stream to its shape; returns whether it ended well.
fn is_whole_openai(text: &str) -> bool {
    let frames = frames(text);
    let (_, last) = frames.last().unwrap();
    for (_, data) in &frames[..frames.len() - 1] {
        let chunk: Value = serde_json::from_str(data).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk", "{text}");
    }
    if last == "[DONE]" {
        return true;
    }
    let error: Value = serde_json::from_str(last).unwrap();
    assert!(error["error"]["message"].is_string(), "{text}");
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_in_what_goes_out_has_the_other_dialects_shape(
        anthropic: bool,
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((0u8..4, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..5),
        schema_tool: bool,
    ) {
        let (from, prefix) = if anthropic {
            (Protocol::Anthropic, "anthropic-stream-")
        } else {
            (Protocol::OpenaiChat, "openai-stream-")
        };
        let streams = golden(prefix, ".sse");
        let text = std::fs::read_to_string(&streams[which.index(streams.len())]).unwrap();
        let mut pieces: Vec<String> = text.split_inclusive("\n\n").map(str::to_owned).collect();
        for (kind, at, to) in &edits {
            if pieces.is_empty() {
                break;
            }
            let (at, to) = (at.index(pieces.len()), to.index(pieces.len()));
            match kind {
                0 => drop(pieces.remove(at)),
                1 => pieces.insert(to, pieces[at].clone()),
                2 => pieces.swap(at, to),
                _ => pieces.truncate(at),
            }
        }
        let written = recode(from, &pieces.concat(), &Shape { schema_tool, ..shape() });
        let whole = if from == Protocol::Anthropic {
            is_whole_openai(&written)
        } else {
            is_whole_anthropic(&written)
        };
        let untouched = edits.is_empty() && !text.contains("error");
        prop_assert!(whole || !untouched, "{}", written);
    }
}
