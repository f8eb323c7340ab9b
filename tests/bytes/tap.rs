use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value;
use strait::protocol::Protocol::{self, Anthropic, OpenaiChat};
use strait::protocol::chat::Finish;
use strait::protocol::event::FailureClass;
use strait::protocol::tap::{self, Tap};

const MOST: usize = 1 << 20;

/// What a tap knows when all is over, as text to compare.
fn state(tap: &Tap) -> String {
    format!(
        "{:?}",
        (
            tap.semantic,
            tap.events,
            tap.finished,
            tap.done_marker,
            &tap.failure,
            &tap.usage,
            &tap.model,
            tap.finish,
            &tap.service_tier,
            tap.output_chars,
        )
    )
}

fn run(protocol: Protocol, hide: bool, pieces: &[&[u8]]) -> (Tap, Vec<u8>) {
    let mut tap = Tap::new(protocol, hide, MOST);
    let mut out = Vec::new();
    for piece in pieces {
        tap.feed(Bytes::copy_from_slice(piece), &mut out);
    }
    tap.finish(&mut out);
    (tap, out.concat())
}

/// Runs a stream whole, cut at every byte, and byte by byte, and returns the one result of all.
fn everywhere(protocol: Protocol, hide: bool, stream: &[u8]) -> (Tap, Vec<u8>) {
    let (tap, out) = run(protocol, hide, &[stream]);
    for cut in 0..=stream.len() {
        let (other, bytes) = run(protocol, hide, &[&stream[..cut], &stream[cut..]]);
        assert_eq!(state(&other), state(&tap), "cut at {cut}");
        if tap.failure.is_none() || (hide && protocol == OpenaiChat) {
            assert_eq!(bytes, out, "cut at {cut}");
        } else {
            // The frame that failed is withheld, but for the part that was already sent.
            assert!(
                bytes.starts_with(&out) && stream.starts_with(&bytes),
                "cut at {cut}"
            );
        }
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(state(&run(protocol, hide, &bytes).0), state(&tap));
    (tap, out)
}

const OPENAI: &str = concat!(
    "data: {\"id\":\"c\",\"model\":\"gpt-x\",\"service_tier\":\"default\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    ": comment\n\n",
    "data: {\"id\":\"c\",\"usage\":null,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"say \\\"usage\\\":{\\\"error\\\":1} \\u00e4\\n\"},\"finish_reason\":null}]}\n\n",
    "data: {\"usage\" : null , \"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\r\n\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}] , \"usage\": null }\n\n",
    "data: {\"choices\":[],\"usage\": {\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn an_openai_stream_passes_as_it_came() {
    let (tap, out) = everywhere(OpenaiChat, false, OPENAI.as_bytes());
    assert_eq!(out, OPENAI.as_bytes());
    assert!(tap.semantic && tap.finished && tap.done_marker && tap.failure.is_none());
    assert_eq!(
        (tap.events, tap.finish, tap.output_chars),
        (6, Some(Finish::ToolCalls), 29)
    );
    assert_eq!(
        (tap.model.as_deref(), tap.service_tier.as_deref()),
        (Some("gpt-x"), Some("default"))
    );
    let usage = tap.usage.unwrap();
    assert_eq!(
        (usage.input, usage.output, usage.tier.as_deref()),
        (5, 7, Some("default"))
    );
}

#[test]
fn usage_that_the_client_did_not_ask_for_is_hidden() {
    for ends in ["\n", "\r\n", "\r"] {
        let stream = OPENAI.replace("\r\n", "\n").replace('\n', ends);
        // Escapes in the text are no line ends.
        let stream = stream.replace(&format!("\\{ends}"), "\\n");
        let (tap, out) = everywhere(OpenaiChat, true, stream.as_bytes());
        let out = String::from_utf8(out).unwrap().replace(ends, "\n");
        assert_eq!(
            out,
            concat!(
                "data: {\"id\":\"c\",\"model\":\"gpt-x\",\"service_tier\":\"default\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
                ": comment\n\n",
                "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"say \\\"usage\\\":{\\\"error\\\":1} \\u00e4\\n\"},\"finish_reason\":null}]}\n\n",
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n",
                "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}] }\n\n",
                "data: [DONE]\n\n",
            )
        );
        assert_eq!(tap.usage.unwrap().total(), 12);
        assert!(tap.finished && tap.done_marker);
    }
}

#[test]
fn a_hidden_chunk_leaves_the_rest_uncopied() {
    let chunk = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n");
    let mut out = Vec::new();
    Tap::new(OpenaiChat, true, MOST).feed(chunk.slice(..47), &mut out);
    assert_eq!((out[0].as_ptr(), out[0].len()), (chunk.as_ptr(), 47));
    out.clear();
    Tap::new(OpenaiChat, true, MOST).feed(chunk.clone(), &mut out);
    assert_eq!(out.concat(), chunk[..47]);
    out.clear();
    Tap::new(OpenaiChat, false, MOST).feed(chunk.clone(), &mut out);
    assert_eq!((out.len(), out[0].as_ptr()), (1, chunk.as_ptr()));
}

#[test]
fn an_unfinished_frame_leaves_at_once_unless_it_may_have_to_be_hidden() {
    let (head, tail) = (
        "data: {\"choices\":[{\"delta\":{\"con",
        "tent\":\"x\"}}]}\n\n",
    );
    for hide in [false, true] {
        let mut tap = Tap::new(OpenaiChat, hide, MOST);
        let mut out = Vec::new();
        assert!(tap.at_boundary());
        tap.feed(Bytes::from(head), &mut out);
        assert_eq!(out.concat(), if hide { b"" } else { head.as_bytes() });
        assert_eq!((tap.at_boundary(), tap.semantic), (hide, false));
        tap.feed(Bytes::from(tail), &mut out);
        assert_eq!(out.concat(), format!("{head}{tail}").into_bytes());
        assert!(tap.at_boundary() && tap.semantic);
    }
}

const ANTHROPIC: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-x\",\"content\":[],\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"\\\"error\\\":{} ü\"},\"type\":\"content_block_delta\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0   }\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":40}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[test]
fn an_anthropic_stream_passes_as_it_came() {
    let (tap, out) = everywhere(Anthropic, true, ANTHROPIC.as_bytes());
    assert_eq!(out, ANTHROPIC.as_bytes());
    assert!(tap.semantic && tap.finished && tap.done_marker && tap.failure.is_none());
    assert_eq!(
        (tap.events, tap.finish, tap.output_chars),
        (8, Some(Finish::Length), 18)
    );
    assert_eq!(tap.model.as_deref(), Some("claude-x"));
    let usage = tap.usage.unwrap();
    assert_eq!((usage.input, usage.output), (9, 40));
    // Some leave the event's name away: the type tells.
    let unnamed = ANTHROPIC
        .lines()
        .filter(|line| !line.starts_with("event:"))
        .collect::<Vec<_>>()
        .join("\n")
        + "\n\n";
    let (other, _) = everywhere(Anthropic, false, unnamed.as_bytes());
    assert!(other.finished && other.semantic && other.output_chars == 18);
}

#[test]
fn the_first_word_is_told_from_what_comes_before_it() {
    let openai = |delta: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n"
        )
    };
    for (expected, stream) in [
        (false, String::new()),
        (false, ": keep-alive\n\ndata: \n\n".to_owned()),
        (
            false,
            "data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n".to_owned(),
        ),
        (
            false,
            openai(
                "{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null,\"reasoning_content\":null,\"tool_calls\":null}",
            ),
        ),
        (
            false,
            openai("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[],\"audio\":null}"),
        ),
        (true, openai("{\"content\":\" \"}")),
        (true, openai("{\"reasoning\":\"x\"}")),
        (true, openai("{\"reasoning_content\":\"x\"}")),
        (true, openai("{\"reasoning_details\":[{}]}")),
        (true, openai("{\"refusal\":\"no\"}")),
        (true, openai("{\"tool_calls\":[{\"index\":0}]}")),
        (true, openai("{\"function_call\":{\"name\":\"f\"}}")),
        (true, openai("{\"audio\":{\"id\":\"a\"}}")),
        (
            true,
            openai(
                "{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"x\"}]}]}",
            ),
        ),
        (true, openai("{\"c\\u006fntent\":\"x\"}")),
        (
            true,
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".to_owned(),
        ),
    ] {
        assert_eq!(
            everywhere(OpenaiChat, false, stream.as_bytes()).0.semantic,
            expected,
            "{stream}"
        );
    }
    let events: Vec<&str> = ANTHROPIC.split_inclusive("\n\n").collect();
    for count in 0..events.len() {
        let (tap, _) = everywhere(Anthropic, false, events[..count].concat().as_bytes());
        assert_eq!((tap.semantic, tap.finished), (count > 3, false), "{count}");
    }
    for (block, expected) in [
        ("{\"type\":\"thinking\",\"thinking\":\"\"}", false),
        ("{\"text\":\"x\",\"type\":\"text\"}", true),
        ("{\"type\":\"tool_use\",\"name\":\"text\"}", true),
        ("{\"type\":\"redacted_thinking\",\"data\":\"x\"}", true),
    ] {
        let stream =
            format!("data: {{\"type\":\"content_block_start\",\"content_block\":{block}}}\n\n");
        assert_eq!(
            everywhere(Anthropic, false, stream.as_bytes()).0.semantic,
            expected,
            "{block}"
        );
    }
}

#[test]
fn failures_inside_a_stream_are_told_and_withheld() {
    use FailureClass::{Cut, Garbage, InvalidRequest, Overloaded, RateLimited, Server};
    let good = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    for (protocol, frame, class, said) in [
        (
            OpenaiChat,
            "data: {\"error\":{\"message\":\"boom\",\"type\":\"server_error\"}}\n\n",
            Server,
            "boom",
        ),
        (
            OpenaiChat,
            "data: {\"id\":1,\"choices\":[],\"error\":{\"code\":429,\"message\":\"slow\"}}\n\n",
            RateLimited,
            "slow",
        ),
        (
            OpenaiChat,
            "data: {\"error\":{\"code\":\"503\",\"message\":\"busy\"}}\n\n",
            Overloaded,
            "busy",
        ),
        (
            OpenaiChat,
            "data: {\"error\":\"just words\"}\n\n",
            Server,
            "just words",
        ),
        (
            OpenaiChat,
            "event: error\ndata: {\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\"}}\n\n",
            InvalidRequest,
            "m",
        ),
        (
            OpenaiChat,
            "event: error\ndata: {\"message\":\"m\"}\n\n",
            Server,
            "m",
        ),
        (
            OpenaiChat,
            "data: {\"choices\":[{\"error\":{\"message\":\"in\"},\"finish_reason\":\"error\"}]}\n\n",
            Server,
            "in",
        ),
        (
            OpenaiChat,
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
            Server,
            "ended its answer with an error",
        ),
        (
            OpenaiChat,
            "data: Internal Server Error\n\n",
            Garbage,
            "not JSON",
        ),
        (
            OpenaiChat,
            "data: {\"choices\":[{\"delta\":{\"content\":\"\n\n",
            Garbage,
            "not JSON",
        ),
        (OpenaiChat, "data: [1]\n\n", Garbage, "not JSON"),
        (
            Anthropic,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
            Overloaded,
            "Overloaded",
        ),
        (
            Anthropic,
            "data: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\"}}\n\n",
            RateLimited,
            "m",
        ),
        (
            Anthropic,
            "data: {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"m\"}}\n\n",
            Server,
            "m",
        ),
        (
            Anthropic,
            "data: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"m\"}}\n\n",
            InvalidRequest,
            "m",
        ),
        (
            Anthropic,
            "event: error\ndata: oops\n\n",
            Garbage,
            "not JSON",
        ),
    ] {
        for hide in [false, true] {
            let stream = if protocol == Anthropic {
                format!(": first\n\n{frame}{ANTHROPIC}")
            } else {
                format!("{good}{frame}{good}data: [DONE]\n\n")
            };
            let (tap, out) = everywhere(protocol, hide, stream.as_bytes());
            let (found, message) = tap.failure.clone().unwrap_or_else(|| panic!("{frame}"));
            assert_eq!(found, class, "{frame}");
            assert!(message.contains(said), "{message}");
            assert_eq!(out.len(), stream.find(frame).unwrap(), "{frame}");
            assert!(!tap.finished && !tap.done_marker && tap.at_boundary());
        }
    }
    let (tap, out) = everywhere(
        OpenaiChat,
        false,
        b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\ndata: [DONE]\n\n",
    );
    assert_eq!(tap.failure.map(|failure| failure.0), Some(Cut));
    assert!(!tap.finished && !out.ends_with(b"[DONE]\n\n"));
}

#[test]
fn a_byte_order_mark_is_passed_and_read_over() {
    let stream = format!("\u{feff}{OPENAI}");
    let (tap, out) = everywhere(OpenaiChat, false, stream.as_bytes());
    assert_eq!(out, stream.as_bytes());
    assert_eq!((tap.events, tap.model.as_deref()), (6, Some("gpt-x")));
    let (_, out) = everywhere(OpenaiChat, true, stream.as_bytes());
    assert!(!String::from_utf8(out).unwrap().contains("null}]}],\"usage"));
}

#[test]
fn a_null_error_is_none() {
    let stream = b"data: {\"error\":null,\"choices\":[{\"delta\":{\"content\":\"x\"},\"error\":null,\"finish_reason\":\"stop\"}]}\n\n";
    let (tap, _) = everywhere(OpenaiChat, false, stream);
    assert!(tap.failure.is_none() && tap.finished && !tap.done_marker);
}

#[test]
fn usage_is_found_wherever_providers_put_it() {
    for stream in [
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"x_groq\":{\"id\":\"r\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\" :\t{ \"prompt_tokens\" : 3, \"completion_tokens\" : 4 }}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n",
    ] {
        let (tap, _) = everywhere(OpenaiChat, false, stream.as_bytes());
        let usage = tap.usage.unwrap();
        assert_eq!((usage.input, usage.output), (3, 4), "{stream}");
    }
}

#[test]
fn a_last_frame_without_its_blank_line_is_ended() {
    let frame = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}";
    for hide in [false, true] {
        for (given, expected) in [
            (frame.to_owned(), format!("{frame}\n\n")),
            (format!("{frame}\n"), format!("{frame}\n\n")),
        ] {
            let (tap, out) = everywhere(OpenaiChat, hide, given.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            assert!(tap.finished && tap.at_boundary());
        }
        // Half an event is a cut: nothing that we could end.
        let (tap, out) = everywhere(OpenaiChat, hide, &frame.as_bytes()[..40]);
        assert_eq!(out, if hide { b"" } else { &frame.as_bytes()[..40] });
        assert!(tap.failure.is_none() && !tap.finished && tap.at_boundary() == hide);
    }
}

#[test]
fn frames_have_a_bound() {
    for hide in [false, true] {
        for cut in [0, 50, 99] {
            let stream = format!("data: \"{}\n\n", "x".repeat(100));
            let mut tap = Tap::new(OpenaiChat, hide, 90);
            let mut out = Vec::new();
            tap.feed(Bytes::copy_from_slice(&stream.as_bytes()[..cut]), &mut out);
            tap.feed(Bytes::copy_from_slice(&stream.as_bytes()[cut..]), &mut out);
            tap.finish(&mut out);
            assert_eq!(tap.failure.unwrap().0, FailureClass::Garbage);
        }
    }
}

#[test]
fn hostile_streams_are_read_once() {
    const SIZE: usize = 1 << 20;
    for unit in [
        "[",
        "{\"choices\":",
        "\\",
        "\"",
        "\n",
        "data: {}\n\n",
        "data: {\"a\":\n",
        "\r",
    ] {
        for protocol in [OpenaiChat, Anthropic] {
            for hide in [false, true] {
                let stream = Bytes::from(format!("data: {}", unit.repeat(SIZE / unit.len())));
                for size in [SIZE * 2, 100] {
                    let mut tap = Tap::new(protocol, hide, SIZE * 2);
                    let mut out = Vec::new();
                    for from in (0..stream.len()).step_by(size) {
                        tap.feed(stream.slice(from..stream.len().min(from + size)), &mut out);
                    }
                    tap.finish(&mut out);
                    assert!(!tap.finished);
                }
            }
        }
    }
}

#[test]
fn whole_answers_are_read() {
    let read = |protocol, body: &str| tap::whole(protocol, body.as_bytes());
    let openai = read(
        OpenaiChat,
        r#"{"model":"m","service_tier":"flex","choices":[{"message":{"content":"\"error\""},"finish_reason":"length"}],
            "usage":{"prompt_tokens":2,"completion_tokens":3},"error":null}"#,
    );
    assert!(openai.is_answer && openai.truncated && !openai.is_error);
    assert_eq!(
        (
            openai.model.as_deref(),
            openai.finish,
            openai.service_tier.as_deref()
        ),
        (Some("m"), Some(Finish::Length), Some("flex"))
    );
    let usage = openai.usage.unwrap();
    assert_eq!((usage.total(), usage.tier.as_deref()), (5, Some("flex")));

    let anthropic = read(
        Anthropic,
        r#"{"type":"message","model":"c","content":[],"stop_reason":"end_turn","usage":{"input_tokens":2,"output_tokens":3,"service_tier":"standard"}}"#,
    );
    assert!(anthropic.is_answer && !anthropic.truncated && !anthropic.is_error);
    assert_eq!(
        (anthropic.finish, anthropic.service_tier.as_deref()),
        (Some(Finish::Stop), Some("standard"))
    );
    assert_eq!(anthropic.usage.unwrap().total(), 5);

    for (protocol, body) in [
        (OpenaiChat, r#"{"error":{"message":"m"}}"#),
        (OpenaiChat, r#"{"error":"m","choices":[{}]}"#),
        (
            OpenaiChat,
            r#"{"choices":[{"error":{"code":502},"finish_reason":"error"}]}"#,
        ),
        (
            Anthropic,
            r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
        ),
    ] {
        let whole = read(protocol, body);
        assert!(whole.is_error && !whole.is_answer, "{body}");
    }
    for body in [
        "",
        "<html>",
        "{}",
        "[]",
        r#"{"choices":[]}"#,
        r#"{"choices":{}}"#,
        r#"{"choices":[{}]"#,
        r#"{"content":"x"}"#,
    ] {
        for protocol in [OpenaiChat, Anthropic] {
            let whole = read(protocol, body);
            assert!(!whole.is_answer && !whole.is_error, "{body}");
        }
    }
}

fn recordings() -> Option<PathBuf> {
    let shared = std::env::var_os("STRAIT_SHARED").map(PathBuf::from);
    let shared =
        shared.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")));
    let folder = shared.join("recordings");
    if !folder.is_dir() {
        eprintln!("no recordings here: nothing to replay");
        return None;
    }
    Some(folder)
}

/// All events of a recording as trees, for the cases that the tap must agree with.
fn trees(stream: &str) -> Vec<Value> {
    stream
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?).ok())
        .collect()
}

#[test]
fn every_recording_passes_and_is_read() {
    let Some(folder) = recordings() else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let api = entry.unwrap().path();
        let name = api.file_name().unwrap().to_string_lossy().into_owned();
        let protocol = match &*name {
            "anthropic-messages" => Anthropic,
            "ollama-v1-chat-completions" => OpenaiChat,
            other
                if other.ends_with("-chat")
                    && !other.starts_with("cohere")
                    && !other.starts_with("ollama-api") =>
            {
                OpenaiChat
            }
            _ => continue,
        };
        for file in std::fs::read_dir(&api).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_none_or(|extension| extension != "sse") {
                continue;
            }
            let stream = std::fs::read(&file).unwrap();
            count += 1;
            replay(protocol, &stream, &file.display().to_string());
        }
    }
    assert!(count > 100, "{count}");
}

fn replay(protocol: Protocol, stream: &[u8], name: &str) {
    let text = String::from_utf8_lossy(stream);
    let trees = trees(&text);
    let (tap, out) = run(protocol, false, &[stream]);
    // Pieces of several sizes stand for the cut at every byte, which the streams above have.
    for size in [1, 7, 64, 1500] {
        let pieces: Vec<&[u8]> = stream.chunks(size).collect();
        let (other, bytes) = run(protocol, false, &pieces);
        assert_eq!(state(&other), state(&tap), "{name}");
        assert!(bytes.starts_with(&out), "{name}");
        let (whole, hidden) = run(protocol, true, &[stream]);
        let (other, bytes) = run(protocol, true, &pieces);
        assert_eq!(state(&other), state(&whole), "{name}");
        assert!(bytes == hidden, "{name}");
        assert_eq!(
            format!("{:?}", (&tap.usage, tap.finished, tap.output_chars)),
            format!("{:?}", (&whole.usage, whole.finished, whole.output_chars))
        );
    }
    let fails = trees
        .iter()
        .any(|tree| tree.get("error").is_some_and(|error| !error.is_null()));
    assert_eq!(tap.failure.is_some(), fails, "{name}: {:?}", tap.failure);
    if fails {
        return;
    }
    assert!(out.starts_with(stream), "{name}");
    assert!(
        tap.finished && tap.semantic && tap.model.is_some(),
        "{name}: {}",
        state(&tap)
    );
    let objects = |tree: &Value| {
        [
            &tree["usage"],
            &tree["message"]["usage"],
            &tree["x_groq"]["usage"],
            &tree["choices"][0]["usage"],
        ]
        .iter()
        .any(|usage| usage.is_object())
    };
    assert_eq!(tap.usage.is_some(), trees.iter().any(objects), "{name}");
    if let Some(usage) = &tap.usage {
        assert!(usage.input > 0, "{name}: {usage:?}");
    }
    if protocol == OpenaiChat {
        let (_, hidden) = run(protocol, true, &[stream]);
        let shown = String::from_utf8(hidden).unwrap();
        for tree in self::trees(&shown) {
            assert!(
                !tree
                    .as_object()
                    .unwrap()
                    .get("usage")
                    .is_some_and(Value::is_null),
                "{name}"
            );
            assert!(
                tree["choices"] != Value::Array(Vec::new()) || !tree["usage"].is_object(),
                "{name}"
            );
        }
        let chars: usize = trees
            .iter()
            .flat_map(|tree| tree["choices"].as_array().cloned().unwrap_or_default())
            .map(|choice| choice["delta"]["content"].as_str().map_or(0, str::len))
            .sum();
        assert!(tap.output_chars >= chars as u64, "{name}");
    }
}
