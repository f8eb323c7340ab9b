use bytes::Bytes;
use proptest::prelude::*;
use strait::codec::sse::{Splitter, TooLarge};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    event: Vec<u8>,
    data: Vec<u8>,
}

/// What comes of a stream that arrives in these pieces: its events, and all its bytes.
fn split(pieces: &[&[u8]]) -> (Vec<Event>, Vec<u8>) {
    let mut splitter = Splitter::new(1 << 20);
    let mut events = Vec::new();
    let mut raw = Vec::new();
    let mut note = |frame: strait::codec::sse::Frame<'_>| {
        raw.extend_from_slice(frame.raw);
        if !frame.is_comment {
            events.push(Event {
                event: frame.event.to_vec(),
                data: frame.data.to_vec(),
            });
        }
    };
    for piece in pieces {
        splitter
            .push(&Bytes::copy_from_slice(piece), &mut note)
            .unwrap();
    }
    splitter.finish(&mut note);
    assert_eq!(splitter.pending(), 0);
    (events, raw)
}

/// The standard's own words: lines first, then fields, and an event at each blank line.
fn reference(stream: &[u8]) -> Vec<Event> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut bytes = stream.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                lines.push(Vec::new());
            }
            b'\n' => lines.push(Vec::new()),
            byte => lines.last_mut().unwrap().push(byte),
        }
    }
    // The end of the stream ends the last event, as `finish` does.
    lines.push(Vec::new());
    let mut events = Vec::new();
    let (mut event, mut data) = (Vec::new(), None::<Vec<u8>>);
    for line in lines {
        if line.is_empty() {
            if let Some(data) = data.take() {
                events.push(Event {
                    event: std::mem::take(&mut event),
                    data,
                });
            }
            event.clear();
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let name = &line[..colon.unwrap_or(line.len())];
        let value = colon.map_or(&b""[..], |colon| &line[colon + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => event = value.to_vec(),
            b"data" => match &mut data {
                None => data = Some(value.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            _ => {}
        }
    }
    events
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        &b"data: one"[..],
        b"data:",
        b"data",
        b"dat",
        b"data:  two",
        b"event: ping",
        b"event",
        b": note",
        b":",
        b"id: 1",
        b"retry:3",
        b" ",
        b"\n",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\r\r",
        b"\xef\xbb\xbf",
        "ä€".as_bytes(),
    ]);
    prop::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_cut_anywhere_gives_the_events_of_the_standard(stream in stream(), first in any::<prop::sample::Index>(), second in any::<prop::sample::Index>()) {
        let expected = reference(&stream);
        for cut in 0..=stream.len() {
            let (events, raw) = split(&[&stream[..cut], &stream[cut..]]);
            prop_assert_eq!(&events, &expected, "cut at {}", cut);
            prop_assert_eq!(&raw, &stream);
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&split(&bytes).0, &expected);
        let (one, two) = (first.index(stream.len() + 1), second.index(stream.len() + 1));
        let (one, two) = (one.min(two), one.max(two));
        prop_assert_eq!(&split(&[&stream[..one], &stream[one..two], &stream[two..]]).0, &expected);
    }
}

#[test]
fn a_frame_comes_as_soon_as_its_blank_line_is_there() {
    for ends in ["\n\n", "\r\n\r\n", "\r\r", "\r\n\r"] {
        let mut splitter = Splitter::new(100);
        let mut count = 0;
        let text = format!("data: x{ends}");
        for (at, _) in text.char_indices() {
            assert_eq!(count, 0, "{ends:?}");
            let piece = Bytes::copy_from_slice(&text.as_bytes()[at..=at]);
            splitter
                .push(&piece, |frame| count += usize::from(!frame.is_comment))
                .unwrap();
            if count == 1 {
                break;
            }
        }
        assert_eq!(count, 1, "{ends:?}");
    }
}

#[test]
fn whole_frames_are_not_copied() {
    let chunk = Bytes::from_static(b"data: a\n\nevent: b\ndata: c\n\n");
    let mut splitter = Splitter::new(100);
    let mut at = chunk.as_ptr();
    splitter
        .push(&chunk, |frame| {
            assert_eq!(frame.raw.as_ptr(), at);
            assert!(matches!(frame.data, std::borrow::Cow::Borrowed(_)));
            at = at.wrapping_add(frame.raw.len());
        })
        .unwrap();
    assert_eq!(at, chunk.as_ptr().wrapping_add(chunk.len()));
    assert_eq!(splitter.pending(), 0);
}

#[test]
fn a_frame_larger_than_allowed_ends_it_wherever_it_is_cut() {
    let stream = b"data: 1\n\ndata: 123456789\n\ndata: 2\n\n";
    for max in [8, 9, 16, 17, 18] {
        for cut in 0..=stream.len() {
            let mut splitter = Splitter::new(max);
            let mut seen = 0;
            let mut failed = false;
            for piece in [&stream[..cut], &stream[cut..]] {
                failed |=
                    splitter.push(&Bytes::copy_from_slice(piece), |_| seen += 1) == Err(TooLarge);
            }
            assert_eq!(
                (failed, seen),
                match max {
                    8 => (true, 0),
                    9..=16 => (true, 1),
                    _ => (false, 3),
                },
                "{max} {cut}"
            );
            assert!(splitter.pending() <= max);
        }
    }
}

#[test]
fn hostile_streams_are_read_once() {
    const SIZE: usize = 1 << 20;
    for unit in [
        "\n",
        "\r",
        ":",
        "data:\n",
        "data:x\r\n",
        "\r\n\r\n",
        "event:x\n",
    ] {
        let stream = Bytes::from(unit.repeat(SIZE / unit.len()));
        for size in [SIZE, 1000, 1] {
            let mut splitter = Splitter::new(SIZE);
            let mut length = 0;
            for from in (0..stream.len()).step_by(size) {
                let piece = stream.slice(from..stream.len().min(from + size));
                splitter
                    .push(&piece, |frame| length += frame.raw.len())
                    .unwrap();
            }
            splitter.finish(|frame| length += frame.raw.len());
            assert_eq!(length, stream.len(), "{unit:?} {size}");
        }
    }
}
