//! Hub events into events as OpenAI sends them.

use crate::error::{Error, Kind};
use crate::protocol::event::{Event, Failure, FailureClass};
use crate::protocol::openai_responses::output::{self, Adopted, Output};
use crate::protocol::text::Object;
use crate::protocol::{Protocol, Shape, ping_frame};

/// Writes one stream.
///
/// Promises: numbers without gaps; every item, part and summary that is added is done; the last event holds the
/// whole answer, and nothing follows it.
#[derive(Debug)]
pub struct Encoder {
    output: Box<Output>,
    ended: bool,
}

impl Encoder {
    pub fn new(shape: &Shape) -> Self {
        Self {
            output: Box::new(Output::new(shape, false)),
            ended: false,
        }
    }

    /// Goes on from frames that the provider wrote itself.
    pub fn adopt(&mut self, adopted: &Adopted) {
        self.output.adopt(adopted);
    }

    /// See [`crate::protocol::StreamEncoder::write`].
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        let output = &mut self.output;
        match event {
            Event::Start {
                id,
                model,
                usage,
                service_tier,
            } => {
                if let Some(usage) = usage {
                    output.usage(usage);
                }
                output.start(id, model, service_tier.as_deref(), out);
            }
            Event::Open { block, .. } => output.open(block, out),
            Event::Delta { delta, .. } => output.delta(delta, out),
            Event::Close { .. } => output.close_block(out),
            Event::Usage(usage) => output.usage(usage),
            Event::Finish { reason, .. } => {
                self.ended = true;
                output.finish(*reason, out);
            }
            Event::Ping => out.extend_from_slice(ping_frame(Protocol::OpenaiResponses)),
            Event::Error(failure) => {
                self.ended = true;
                output.fail(failure, out);
            }
        }
        if !self.ended && self.output.overfull() {
            self.ended = true;
            let failure = Failure {
                class: FailureClass::Server,
                message: "the answer is too large".into(),
            };
            self.output.fail(&failure, out);
        }
    }
}

/// Returns the frames that end a committed stream with an error.
///
/// The `error` event is for those who know no more of the answer, `response.failed` for clients that wait for the
/// end of a response. Their numbers are not those of the stream, which passed by.
pub fn error_frame(error: &Error, request_id: &str) -> Vec<u8> {
    let mut frame = b"event: error\ndata: ".to_vec();
    let mut object = Object::open(&mut frame);
    object.string("type", "error");
    object.string("code", error.kind.code());
    object.string("message", &error.message);
    match &error.param {
        Some(param) => object.string("param", param),
        None => object.key("param").extend_from_slice(b"null"),
    }
    object.integer("sequence_number", 0);
    object.close();
    frame.extend_from_slice(b"\n\n");
    let shape = Shape {
        id: request_id.to_owned(),
        ..Shape::default()
    };
    let failure = Failure {
        class: class(error.kind),
        message: (&*error.message).into(),
    };
    output::write_failed(&shape, &failure, &mut frame);
    frame
}

fn class(kind: Kind) -> FailureClass {
    match kind {
        Kind::RateLimited => FailureClass::RateLimited,
        Kind::Overloaded => FailureClass::Overloaded,
        Kind::InvalidRequest | Kind::Unsupported | Kind::ContextExceeded => {
            FailureClass::InvalidRequest
        }
        Kind::BodyTooLarge
        | Kind::BodyTimeout
        | Kind::InvalidKey
        | Kind::BudgetExceeded
        | Kind::ModelNotAllowed
        | Kind::NotPermitted
        | Kind::Denied
        | Kind::ModelNotFound
        | Kind::PathNotFound
        | Kind::ResponseNotFound
        | Kind::PreviousResponseNotFound
        | Kind::MethodNotAllowed
        | Kind::NotCached
        | Kind::UpstreamUnavailable
        | Kind::UpstreamBroken
        | Kind::UpstreamAccount
        | Kind::Timeout
        | Kind::StateUnavailable
        | Kind::ClientGone
        | Kind::Internal => FailureClass::Server,
    }
}
