//! Keeps the answers of OpenAI responses, so that they can be read again and gone on from with any provider.

use bytes::Bytes;

use super::{Core, Exchange, responses};
use crate::codec::json;
use crate::codec::sse::Splitter;
use crate::error::{Error, Result};
use crate::state::Asker;

use super::through::MOST_FRAME;

/// The duty to keep one answer.
#[derive(Debug, Clone)]
pub struct Storing {
    /// The name of the key that asked.
    pub tenant: String,
    /// The request as the client sent it, with the items that it refers to.
    pub asked: Bytes,
}

/// A request of OpenAI responses, made whole.
pub struct Continued {
    /// With the whole conversation in it, where it goes on from a kept answer.
    pub body: Bytes,
    /// The kept answer whose conversation was put into it.
    pub previous: Option<String>,
    pub storing: Option<Storing>,
    /// Why what it goes on from was not found: its provider may still know it.
    pub unknown: Option<Error>,
}

/// Looks up what a request goes on from.
pub async fn continued(
    core: &Core,
    tenant: &str,
    body: Bytes,
    most_bytes: usize,
) -> Result<Continued> {
    let body = responses::resolve(&core.state, tenant, body, most_bytes).await?;
    let asked = responses::asked(&body)?;
    let kept = core.state.responses();
    let storing = (asked.store && !asked.conversation && kept.are_kept()).then(|| Storing {
        tenant: tenant.to_owned(),
        asked: body.clone(),
    });
    let Some(previous) = asked.previous else {
        return Ok(Continued {
            body,
            previous: None,
            storing,
            unknown: None,
        });
    };
    match kept.chain(tenant, &previous, most_bytes).await {
        Ok(chain) => Ok(Continued {
            body: responses::expand(&body, &chain, most_bytes)?,
            previous: Some(previous.into_owned()),
            storing,
            unknown: None,
        }),
        Err(error) => Ok(Continued {
            body,
            previous: None,
            storing,
            unknown: Some(error),
        }),
    }
}

impl Storing {
    /// Keeps a whole answer. Called when the record names who answered.
    pub fn keep(&self, response: Bytes, x: &Exchange) {
        let credential = x.record.attempts.last();
        let credential = credential.map_or("", |attempt| attempt.credential.as_str());
        let maker = format!("{}/{credential}", x.record.provider);
        let kept = x.core.state.responses();
        let stored = responses::keep(
            &self.tenant,
            &maker,
            &self.asked,
            response,
            |created| kept.expiry(created),
            Asker {
                user: x.record.user.clone().unwrap_or_default(),
                at_us: x.record.at.as_microsecond(),
            },
        );
        if let Some(stored) = stored {
            // What becomes of it is counted there.
            let _ = kept.put(stored);
        }
    }
}

/// Finds the whole answer in the last event of its stream.
pub struct Capture {
    splitter: Splitter,
    found: Option<Bytes>,
}

impl Capture {
    pub fn new() -> Self {
        Self {
            splitter: Splitter::new(MOST_FRAME),
            found: None,
        }
    }

    pub fn feed(&mut self, piece: &Bytes) {
        let found = &mut self.found;
        // A frame too large to be read is not kept.
        let _ = self.splitter.push(piece, |frame| {
            let data = frame.data.trim_ascii_start();
            let ends = [
                &b"{\"type\":\"response.completed\""[..],
                b"{\"type\":\"response.incomplete\"",
                b"{\"type\":\"response.failed\"",
            ];
            let named = matches!(
                frame.event,
                b"response.completed" | b"response.incomplete" | b"response.failed"
            );
            if named || ends.iter().any(|end| data.starts_with(end)) {
                *found = response_of(&frame.data).or(found.take());
            }
        });
    }

    pub fn take(&mut self) -> Option<Bytes> {
        self.found.take()
    }
}

fn response_of(data: &[u8]) -> Option<Bytes> {
    let mut members = Vec::new();
    json::members(data, usize::MAX, &mut members).ok()?;
    let response = members
        .iter()
        .find(|member| json::key(data, member) == "response")?;
    Some(Bytes::copy_from_slice(&data[response.value.clone()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_holds_the_whole_answer() {
        let stream = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"a\"}}\n\n\
                      event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"a\",\"x\":1}}\n\n";
        let mut capture = Capture::new();
        for piece in stream.as_bytes().chunks(7) {
            capture.feed(&Bytes::copy_from_slice(piece));
        }
        assert_eq!(capture.take().as_deref(), Some(&br#"{"id":"a","x":1}"#[..]));
    }
}
