//! The built-in provider `demo`: answers by itself, so that a first request works without any key.
//!
//! `demo/echo` says the last user message back, streamed word by word when asked. It goes through the same
//! encoders, relay, limits, cache and accounting as any answer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::ask::Ask;
use super::intake::new_id;
use super::outcome::{Busy, Flow, Meta, Won};
use super::through::{Seen, Through};
use crate::protocol::chat::{Finish, Part, Response, Role};
use crate::protocol::collect::replay;
use crate::protocol::continuation::Prefill;
use crate::protocol::event::{Delta, Event};
use crate::protocol::tap::Whole;
use crate::protocol::usage::Usage;
use crate::protocol::{self, Protocol, Shape, StreamEncoder};
use crate::provider::Timeouts;
use crate::routing::Route;

/// An echo longer than this is cut off, as by a limit of output tokens.
const MOST_ECHO: usize = 64 << 10;

/// Answers for target `target` of `route`.
pub fn answer(
    ask: &Ask<'_>,
    route: &Arc<Route>,
    target: usize,
    timers: Timeouts,
    deadline: Instant,
    busy: Busy,
) -> Box<Won> {
    let shape = ask.shape(ask.wants_usage() || ask.keep);
    let text = echo(ask);
    let prefix = match ask.protocol {
        Protocol::OpenaiChat => "chatcmpl-",
        Protocol::OpenaiResponses => "resp_",
        Protocol::OpenaiCompletions => "cmpl-",
        Protocol::Anthropic => "msg_",
        Protocol::Gemini | Protocol::Bedrock | Protocol::Cohere | Protocol::Ollama => "",
    };
    let response = Response {
        family: ask.protocol,
        id: new_id(prefix, jiff::Timestamp::now()).into(),
        model: (&*route.targets[target].model).into(),
        usage: Some(Usage {
            input: ask.input_estimate().max(1),
            output: (text.len() as u64).div_ceil(4).max(1),
            ..Usage::default()
        }),
        parts: vec![Part::Text {
            text: text.into(),
            cache: None,
            citations: None,
        }],
        finish: Finish::Stop,
        stop_sequence: None,
        service_tier: None,
        logprobs: None,
        more: Vec::new(),
    };
    let flow = if ask.envelope.stream {
        Flow::Stream {
            answer: None,
            through: Box::new(Through::Made(Box::new(Seen::of(&response)))),
            held: words(&response, ask.protocol, &shape),
            raw: Vec::new(),
        }
    } else {
        let body = Bytes::from(protocol::encode_response(ask.protocol, &response, &shape));
        Flow::Whole {
            whole: Box::new(Whole::of(&response)),
            body,
        }
    };
    let meta = Meta {
        route: route.clone(),
        target,
        protocol: ask.protocol,
        status: 200,
        headers: Vec::new(),
        timers,
        deadline,
        content_type: super::reply::JSON,
        usage: None,
        prefill: Prefill::Ask,
        dropped: Vec::new(),
        left: None,
        busy: Some(busy),
        permit: None,
    };
    Box::new(Won { meta, flow })
}

/// Writes the answer as a stream, a piece for each word.
fn words(response: &Response<'_>, to: Protocol, shape: &Shape) -> Vec<Bytes> {
    let mut encoder = StreamEncoder::new(to, shape);
    let mut pieces = Vec::new();
    let mut write = |event: &Event<'_>| {
        let mut piece = Vec::new();
        encoder.write(event, &mut piece);
        if !piece.is_empty() {
            pieces.push(Bytes::from(piece));
        }
    };
    replay(response, &mut |event| {
        let Event::Delta {
            index,
            delta: Delta::Text(text),
        } = &event
        else {
            return write(&event);
        };
        for word in text.split_inclusive(' ') {
            write(&Event::Delta {
                index: *index,
                delta: Delta::Text(word.into()),
            });
        }
    });
    pieces
}

/// Returns the text of the last user message, or a greeting where there is none.
fn echo(ask: &Ask<'_>) -> String {
    let request = protocol::decode_request(ask.protocol, ask.body).ok();
    let messages = request
        .iter()
        .flat_map(|request| request.messages.iter().rev());
    let last = messages
        .filter(|message| message.role == Role::User)
        .find_map(|message| {
            let texts = message.parts.iter().filter_map(|part| {
                if let Part::Text { text, .. } = part {
                    Some(&**text)
                } else {
                    None
                }
            });
            let text = texts.collect::<Vec<_>>().join("\n");
            (!text.is_empty()).then_some(text)
        });
    let mut text = last.unwrap_or_else(|| "Hello from Strait.".to_owned());
    if text.len() > MOST_ECHO {
        let cut = (0..=MOST_ECHO)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(cut);
    }
    text
}
