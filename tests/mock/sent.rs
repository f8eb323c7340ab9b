//! How an answer is sent, and how it goes wrong.

use std::io::Read;

use serde_json::{Value, json};
use strait::mock::Outcome;

use super::client::*;

#[test]
fn delays_come_where_they_are_set() {
    let mock = one(
        "chunks = 3, delay_head = \"60ms\", delay_first_chunk = \"60ms\", chunk_gap = \"40ms\"",
    );
    let reply = post(&mock, ANTHROPIC, &anthropic(true));
    assert_eq!(reply.end, End::Whole);
    let times: Vec<u128> = reply.reads.iter().map(|(at, _)| at.as_millis()).collect();
    assert!(times[0] >= 60, "the head waits: {times:?}");
    // Message start, block start and ping come 40 ms apart, then the first chunk 60, then the others 40.
    assert!(
        times.last().unwrap() - times[0] >= 40 * 2 + 60 + 40 * 2,
        "chunks wait: {times:?}"
    );
    assert_eq!(until(&mock, Outcome::Complete).chunks_sent, 3);
}

#[test]
fn chunks_are_as_many_as_asked_for_even_of_a_short_echo() {
    let mock = one("chunks = 100, chunk_gap = \"0ms\"");
    let body =
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true});
    let reply = post(&mock, OPENAI, &body);
    let contents = reply
        .events()
        .iter()
        .filter(|event| {
            event["choices"][0]["delta"]["content"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        })
        .count();
    assert_eq!(contents, 100);
    assert_eq!(until(&mock, Outcome::Complete).chunks_sent, 100);
}

#[test]
fn a_split_body_is_the_same_body_in_other_pieces() {
    for stream in [true, false] {
        for path in [OPENAI, ANTHROPIC] {
            let plain = post(&mock(""), path, &body_of(path, stream));
            let split = one("split = 7");
            let reply = post(&split, path, &body_of(path, stream));
            assert_eq!(reply.text(), plain.text(), "{path} stream {stream}");
            let pieces = until(&split, Outcome::Complete).chunks_sent;
            assert_eq!(pieces as usize, plain.body.len().div_ceil(7));
        }
    }
    let split = one("split = \"bytes\"");
    let reply = post(&split, OPENAI, &openai(true));
    assert_eq!(
        until(&split, Outcome::Complete).chunks_sent as usize,
        reply.body.len()
    );
}

#[test]
fn a_cut_stream_stops_after_its_chunks_without_an_end() {
    for path in [OPENAI, ANTHROPIC] {
        for after in [0, 2] {
            let mock = one(&format!("chunks = 4, text = \"abcd\", cut_after = {after}"));
            let reply = post(&mock, path, &body_of(path, true));
            assert_eq!(reply.status, 200);
            assert_eq!(reply.end, End::Closed, "{path} {after}");
            assert_eq!(
                reply.streamed_text(),
                "abcd"[..after].to_owned(),
                "{path} {after}"
            );
            let call = until(&mock, Outcome::Cut);
            assert_eq!(call.chunks_sent as usize, after);
        }
    }
}

#[test]
fn a_cut_beyond_the_last_chunk_comes_before_the_finish() {
    let mock = one("text = \"abcd\", cut_after = 99");
    let reply = post(&mock, OPENAI, &openai(true));
    assert_eq!(
        (reply.streamed_text().as_str(), reply.end),
        ("abcd", End::Closed)
    );
    assert!(!reply.text().contains("\"finish_reason\":\"stop\""));
}

#[test]
fn a_whole_answer_is_cut_too() {
    for step in ["cut_after = 1", "cut_body = 10", "cut_body = 0"] {
        let mock = one(step);
        let reply = post(&mock, OPENAI, &openai(false));
        assert_eq!((reply.status, reply.end), (200, End::Closed), "{step}");
        if step.starts_with("cut_body") {
            assert_eq!(
                reply.body.len(),
                step.strip_prefix("cut_body = ")
                    .unwrap()
                    .parse::<usize>()
                    .unwrap()
            );
        }
        until(&mock, Outcome::Cut);
    }
}

#[test]
fn a_reset_is_a_reset() {
    for stream in [true, false] {
        let mock = one("cut_after = 2, cut = \"reset\"");
        assert_eq!(post(&mock, ANTHROPIC, &anthropic(stream)).end, End::Reset);
    }
    let mock = one("close_before_head = true, cut = \"reset\"");
    assert_eq!(post(&mock, ANTHROPIC, &anthropic(false)).end, End::Reset);
}

#[test]
fn an_early_end_is_in_good_order() {
    let mock = one("chunks = 4, text = \"abcd\", end_after = 2");
    let reply = post(&mock, OPENAI, &openai(true));
    assert_eq!(
        (reply.streamed_text().as_str(), reply.end),
        ("ab", End::Whole)
    );
    assert!(!reply.text().contains("[DONE]"));
}

#[test]
fn a_stall_holds_the_connection_and_a_client_that_leaves_is_noticed() {
    let mock = one("chunks = 4, text = \"abcd\", stall_after = 2");
    for (path, stream) in [(OPENAI, true), (ANTHROPIC, true), (OPENAI, false)] {
        let reply = post(&mock, path, &body_of(path, stream));
        assert_eq!(reply.end, End::Open, "{path}");
        if stream {
            assert_eq!(reply.streamed_text(), "ab", "{path}");
        }
        until(&mock, Outcome::ClientGone);
    }
    assert_eq!(mock.counts().in_progress, 0);
}

#[test]
fn a_client_that_leaves_before_the_head_is_noticed() {
    for step in ["stall_head = true", "delay_head = \"1m\""] {
        let mock = one(step);
        let mut stream = connect(&mock);
        send(
            &mut stream,
            "POST",
            OPENAI,
            openai(false).to_string().as_bytes(),
        );
        let call = until(&mock, Outcome::InProgress);
        assert_eq!(call.status, 0, "no head was sent");
        assert_eq!(mock.counts().in_progress, 1);
        drop(stream);
        until(&mock, Outcome::ClientGone);
        assert_eq!(mock.counts().in_progress, 0);
    }
}

#[test]
fn a_client_that_leaves_between_chunks_is_noticed() {
    let mock = one("chunks = 1000, text_bytes = 5000, chunk_gap = \"5ms\"");
    let mut stream = connect(&mock);
    send(
        &mut stream,
        "POST",
        ANTHROPIC,
        anthropic(true).to_string().as_bytes(),
    );
    let mut start = [0; 100];
    stream.read_exact(&mut start).unwrap();
    drop(stream);
    let call = until(&mock, Outcome::ClientGone);
    assert!(
        call.chunks_sent < 500,
        "it stopped early: {}",
        call.chunks_sent
    );
}

#[test]
fn a_connection_closed_before_the_head_gives_no_byte() {
    let mock = one("close_before_head = true");
    let reply = post(&mock, OPENAI, &openai(false));
    assert_eq!(
        (reply.status, reply.end, reply.head.as_str()),
        (0, End::Closed, "")
    );
    until(&mock, Outcome::Cut);
}

#[test]
fn garbage_is_neither_json_nor_events() {
    let mock = one("garbage = true");
    let reply = post(&mock, OPENAI, &openai(false));
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("application/json"))
    );
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err());
    let reply = post(&mock, ANTHROPIC, &anthropic(true));
    assert_eq!(
        reply.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert!(!reply.text().contains("data: "));
    let mock = one("chunks = 4, text = \"abcd\", garbage_at = 1");
    let text = post(&mock, OPENAI, &openai(true)).text();
    let broken = text.find("{\"choices\": [{\"delta\": {\"cont").unwrap();
    assert!(
        text[..broken].contains("\"a\"") && text[broken..].contains("\"b\""),
        "it comes after one chunk"
    );
}

#[test]
fn an_error_event_comes_at_its_place() {
    for path in [OPENAI, ANTHROPIC] {
        let mock = mock(
            "[[rule]]\nsteps = [{error_event = {at = 0, type = \"overloaded_error\", message = \"busy\"}},\
             {error_event = {at = 0, after_start = true}}, {text = \"abcd\", error_event = {at = 2}},\
             {error_event = {at = 0, message = \"busy\"}}]",
        );
        let reply = post(&mock, path, &body_of(path, true));
        let events = reply.events();
        assert_eq!(
            (reply.status, reply.end, events.len()),
            (200, End::Whole, 1),
            "{path}"
        );
        assert_eq!(events[0]["error"]["message"], "busy");
        assert_eq!(events[0]["error"]["type"], "overloaded_error");
        let events = post(&mock, path, &body_of(path, true)).events();
        assert!(events.len() > 1 && events.last().unwrap()["error"].is_object());
        let reply = post(&mock, path, &body_of(path, true));
        assert_eq!(reply.streamed_text(), "ab", "{path}");
        assert!(reply.events().last().unwrap()["error"].is_object());
        let reply = post(&mock, path, &body_of(path, false));
        assert_eq!(
            (reply.status, &reply.json()["error"]["message"]),
            (200, &json!("busy")),
            "not streamed"
        );
    }
}

#[test]
fn empty_streams_and_missing_ends_come_as_scripted() {
    let mock = mock("[[rule]]\nsteps = [{repeat = 2, empty_stream = true}, {omit_done = true}]");
    let reply = post(&mock, OPENAI, &openai(true));
    assert_eq!(
        (reply.status, reply.body.len(), reply.end),
        (200, 0, End::Whole)
    );
    assert_eq!(
        reply.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(post(&mock, OPENAI, &openai(false)).body, b"");
    let text = post(&mock, OPENAI, &openai(true)).text();
    assert!(text.contains("\"finish_reason\":\"stop\"") && !text.contains("[DONE]"));
    let text = post(&mock, ANTHROPIC, &anthropic(true)).text();
    assert!(text.contains("message_delta") && !text.contains("message_stop"));
}

#[test]
fn pings_comments_and_crlf_are_sent() {
    let mock = one("ping_every = \"10ms\", delay_first_chunk = \"65ms\"");
    let text = post(&mock, OPENAI, &openai(true)).text();
    assert!(text.matches(": ping\n\n").count() >= 3, "{text}");
    let reply = post(&mock, ANTHROPIC, &anthropic(true));
    assert!(
        reply
            .events()
            .iter()
            .filter(|event| event["type"] == "ping")
            .count()
            >= 4
    );
    assert_eq!(reply.streamed_text(), "one two three four");
    let mock = one("comments = true, crlf = true");
    let reply = post(&mock, OPENAI, &openai(true));
    assert!(reply.text().starts_with(": comment\r\ndata: {"));
    assert!(
        !reply.text().replace("\r\n", "").contains('\n'),
        "every line ends in CRLF"
    );
    assert_eq!(reply.streamed_text(), "one two three four");
}

#[test]
fn a_chunked_answer_has_no_length() {
    let reply = post(&one("chunked = true"), OPENAI, &openai(false));
    assert_eq!(reply.header("content-length"), None);
    assert_eq!(reply.json()["object"], "chat.completion");
}
