//! An attempt that takes several requests, because its provider takes less at a time than the client asks for: they are
//! made a few at a time, and their answers are one. What fails of them fails all of it.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue};

use super::super::Exchange;
use super::super::allowance;
use super::super::ask::{Ask, Outgoing};
use super::super::outcome::{Busy, Flow, Tried, Try};
use super::super::verdict;
use super::hold::{Hold, MOST_TASK};
use super::refused::{MOST_ERROR, broken, event_error, refused, unsigned, wire};
use super::{head, passed};
use crate::error::{Error, Kind};
use crate::observe::record::Phase;
use crate::protocol::api::{self, Api};
use crate::protocol::event::FailureClass;
use crate::protocol::tap::Whole;
use crate::protocol::{Protocol, Shape};
use crate::provider::Timeouts;
use crate::upstream::{self, Answer, Failure, Stage};

/// Requests at a time; to the bound of the provider they count as one.
const AT_ONCE: usize = 8;

/// Why one of them has no answer.
enum Lack {
    Unsigned(Error),
    Wire(Failure),
    Compressed,
    Status(u16, HeaderMap, Bytes),
    TooLarge,
}

pub async fn attempt(
    ask: &Ask<'_>,
    plan: &Try<'_>,
    to: Protocol,
    target: &[u8],
    outgoing: Outgoing,
    timers: Timeouts,
    busy: Busy,
    x: &mut Exchange,
) -> Tried {
    let first = std::iter::once(outgoing.body.whole());
    let bodies: Vec<Bytes> = first.chain(outgoing.further.iter().cloned()).collect();
    let sent = Instant::now();
    // Boxed: each holds a request, and the compiler loses itself in the type.
    let one = |body: Bytes| fetch(ask, plan, to, target, body, &timers).boxed();
    let mut running = futures_util::stream::iter(bodies)
        .map(one)
        .buffered(AT_ONCE);
    let (mut answers, mut told, mut size) = (Vec::new(), None, 0);
    let mut lack = None;
    while let Some(fetched) = running.next().await {
        match fetched {
            Ok((headers, body)) => {
                size += body.len();
                told.get_or_insert(headers);
                answers.push(body);
                if size > MOST_TASK {
                    lack = Some(Lack::TooLarge);
                }
            }
            Err(why) => lack = Some(why),
        }
        if lack.is_some() {
            break;
        }
    }
    // The rest of them is given up.
    drop(running);
    let waited = x.phase(Phase::Upstream, sent) - sent;
    x.waited += waited;
    let status = match &lack {
        None | Some(Lack::TooLarge | Lack::Compressed) => Some(200),
        Some(Lack::Status(status, ..)) => Some(*status),
        Some(Lack::Unsigned(_) | Lack::Wire(_)) => None,
    };
    if let Some(record) = x.record.attempts.last_mut() {
        record.status = status;
    }
    match lack {
        None => {}
        Some(Lack::Unsigned(error)) => return unsigned(error),
        Some(Lack::Wire(failure)) => return wire(failure),
        Some(Lack::Status(status, headers, body)) => {
            if matches!(status, 401 | 403) {
                plan.candidate().distrust();
            }
            return refused(ask, to, status, &headers, body);
        }
        Some(Lack::TooLarge) => {
            return broken("The provider's answer is too large.", "garbage");
        }
        Some(Lack::Compressed) => {
            let message = "The provider compressed its answer in a way that was not asked for.";
            return broken(message, "garbage");
        }
    }
    let headers = told.unwrap_or_default();
    let hold = Hold {
        content_type: None,
        ask,
        plan,
        to,
        timers,
        outgoing,
        headers: passed(&headers),
        left: allowance::left(&headers, jiff::Timestamp::now),
        length: None,
        status: 200,
        busy,
    };
    let answers: Vec<&[u8]> = answers.iter().map(|body| &**body).collect();
    match joined(ask, to, hold.outgoing.shape.as_ref(), &answers) {
        Ok((body, whole)) => hold.won(Flow::Whole { body, whole }),
        Err(lost) => *lost,
    }
}

/// Makes one request and reads its whole answer.
async fn fetch(
    ask: &Ask<'_>,
    plan: &Try<'_>,
    to: Protocol,
    target: &[u8],
    body: Bytes,
    timers: &Timeouts,
) -> Result<(HeaderMap, Bytes), Lack> {
    let candidate = plan.candidate();
    let left = || plan.deadline.saturating_duration_since(Instant::now());
    let Some(pool) = candidate.pool.as_ref() else {
        return Err(Lack::Wire(Failure::unresolved(&candidate.provider.name)));
    };
    let mut signed = Vec::new();
    if candidate.signs() {
        let signing = candidate.authorize(plan.place.endpoint, "POST", target, &body);
        signed = match tokio::time::timeout(left(), signing).await {
            Ok(made) => made.map_err(Lack::Unsigned)?,
            Err(_) => return Err(Lack::Wire(Failure::timer(Stage::Connect, false))),
        };
    }
    // One that waited for others has less time.
    let timers = Timeouts {
        connect: timers.connect.min(left()),
        first_byte: timers.first_byte.min(left()),
        ..*timers
    };
    let length = HeaderValue::from(body.len());
    let head = head(ask, plan, to, (target, &signed), &length);
    let body = body.into();
    let sent = upstream::send(pool.wire(), &plan.place.peer, &head, &body, &timers).await;
    let mut answer = sent.map_err(Lack::Wire)?;
    if !answer.decode() {
        answer.abandon().await;
        return Err(Lack::Compressed);
    }
    let (status, headers) = (answer.head().status.as_u16(), answer.head().headers.clone());
    let is_good = (200..300).contains(&status);
    let most = if is_good { MOST_TASK } else { MOST_ERROR };
    let read = read(&mut answer, timers.idle.min(left()), most).await;
    match read {
        Ok(Some(body)) if is_good => {
            answer.release().await;
            Ok((headers, body))
        }
        Ok(Some(body)) => {
            answer.release().await;
            Err(Lack::Status(status, headers, body))
        }
        Ok(None) => {
            answer.abandon().await;
            match is_good {
                true => Err(Lack::TooLarge),
                false => Err(Lack::Status(status, headers, Bytes::new())),
            }
        }
        Err(failure) => Err(Lack::Wire(failure)),
    }
}

/// Reads a whole body; `None` when it is longer than `most`.
async fn read(answer: &mut Answer, idle: Duration, most: usize) -> Result<Option<Bytes>, Failure> {
    let mut body = BytesMut::new();
    loop {
        let piece = tokio::time::timeout(idle, answer.read()).await;
        let piece = piece.unwrap_or_else(|_| Err(Failure::timer(Stage::Body, answer.reused)));
        match piece? {
            Some(piece) => body.extend_from_slice(&piece),
            None => return Ok(Some(body.freeze())),
        }
        if body.len() > most {
            return Ok(None);
        }
    }
}

/// Says the answers to what is no chat as one, where there is a `shape` in the client's words, and tells what they took.
pub fn joined(
    ask: &Ask<'_>,
    from: Protocol,
    shape: Option<&Shape>,
    answers: &[&[u8]],
) -> Result<(Bytes, Box<Whole>), Box<Tried>> {
    let (api, asked) = (ask.api, ask.body);
    let usage = api::usage_all(api, from, asked, answers);
    let whole = Box::new(Whole {
        usage,
        is_answer: true,
        ..Whole::default()
    });
    let Some(shape) = shape else {
        return Ok((Bytes::new(), whole));
    };
    match api::answer_all(api, from, ask.protocol, asked, answers, shape) {
        Ok(written) => Ok((written.into(), whole)),
        // It was understood, and refused.
        Err(error) if error.kind == Kind::InvalidRequest && is_image(api) => {
            let class = FailureClass::InvalidRequest;
            Err(Box::new(Tried::Lost {
                lost: event_error(class, &error.message),
                judgement: verdict::of_event(class),
                outcome: "error_event",
                told: None,
            }))
        }
        Err(_) => Err(Box::new(broken(
            "The provider sent an answer that can't be read.",
            "garbage",
        ))),
    }
}

fn is_image(api: Api) -> bool {
    matches!(api, Api::Images | Api::ImageEdits)
}
