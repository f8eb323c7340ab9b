//! Whole answers and errors, as a client is told them.

use std::borrow::Cow;

use crate::error::Error;
use crate::protocol::chat::{Part, Response};
use crate::protocol::collect::replay;
use crate::protocol::event::Event;
use crate::protocol::openai_responses::output::Output;
use crate::protocol::{Shape, openai_chat};

/// Encodes an answer as a `response`.
pub fn encode(response: &Response<'_>, shape: &Shape) -> Vec<u8> {
    let mut output = Output::new(shape, true);
    let mut out = Vec::with_capacity(1024);
    let tier = response.service_tier.as_deref();
    output.start(&response.id, &response.model, tier, &mut out);
    if let Some(usage) = &response.usage {
        output.usage(usage);
    }
    for (index, part) in response.parts.iter().enumerate() {
        if let Part::Image { source, .. } = part {
            output.image(source, &mut out);
            continue;
        }
        let one = Response {
            id: Cow::Borrowed(""),
            model: Cow::Borrowed(""),
            parts: vec![part.clone()],
            usage: None,
            service_tier: None,
            stop_sequence: None,
            logprobs: response.logprobs.filter(|_| is_first_text(response, index)),
            more: Vec::new(),
            ..*response
        };
        replay(&one, &mut |event| match event {
            Event::Open { block, .. } => output.open(&block, &mut out),
            Event::Delta { delta, .. } => output.delta(&delta, &mut out),
            Event::Close { .. } => output.close_block(&mut out),
            Event::Start { .. }
            | Event::Usage(_)
            | Event::Finish { .. }
            | Event::Ping
            | Event::Error(_) => {}
        });
    }
    output.finish(response.finish, &mut out);
    out
}

/// Returns whether the part at `index` is the first text, which log probabilities are of.
fn is_first_text(response: &Response<'_>, index: usize) -> bool {
    let is_text = |part: &Part<'_>| matches!(part, Part::Text { .. });
    response.parts.iter().position(is_text) == Some(index)
}

/// Returns the body of an error answer.
pub fn error_body(error: &Error, _request_id: &str) -> Vec<u8> {
    openai_chat::response::error_body(error)
}
