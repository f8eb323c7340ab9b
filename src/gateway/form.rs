//! An answer in its other form: a whole one as a stream, a stream as a whole.

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::protocol::collect::{Collector, replay};
use crate::protocol::frames::Frames;
use crate::protocol::{self, Protocol, Shape, StreamDecoder, StreamEncoder, chat};

use super::through::MOST_FRAME;

/// Writes a hub answer as a whole stream of `to`.
pub fn stream_of(response: &chat::Response<'_>, to: Protocol, shape: &Shape) -> Vec<u8> {
    let mut encoder = StreamEncoder::new(to, shape);
    let mut out = Vec::new();
    replay(response, &mut |event| encoder.write(&event, &mut out));
    out
}

/// Writes a whole answer as a stream of the same protocol.
pub fn whole_to_stream(body: &[u8], protocol: Protocol, shape: &Shape) -> Result<Bytes> {
    let response = protocol::decode_response(protocol, body, shape)?;
    Ok(stream_of(&response, protocol, shape).into())
}

/// Sums a whole stream into one answer of the same protocol.
pub fn stream_to_whole(frames: &Bytes, protocol: Protocol, shape: &Shape) -> Result<Bytes> {
    let mut cut = Frames::new(protocol.framing(), MOST_FRAME);
    let mut decoder = StreamDecoder::new(protocol, shape);
    let mut collector = Collector::new(protocol);
    let whole = cut.push(frames, |name, data| {
        decoder.feed(name, data, &mut |event| collector.push(&event));
    });
    decoder.end(&mut |event| collector.push(&event));
    let broken = || Error::new(Kind::Internal, "The stream could not be summed.");
    whole.map_err(|_| broken())?;
    let response = collector.finish().ok_or_else(broken)?;
    Ok(protocol::encode_response(protocol, &response, shape).into())
}
