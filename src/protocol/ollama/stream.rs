//! Streams of this protocol.

use crate::error::Error;
use crate::protocol::Shape;
use crate::protocol::event::Event;

/// Reads a provider's stream.
#[derive(Debug)]
pub struct Decoder;

impl Decoder {
    pub fn new(_shape: &Shape) -> Self {
        Self
    }

    pub fn feed(&mut self, _name: &[u8], _data: &[u8], _each: &mut dyn FnMut(Event<'_>)) {}

    pub fn end(&mut self, _each: &mut dyn FnMut(Event<'_>)) {}
}

/// Writes a client's stream.
#[derive(Debug)]
pub struct Encoder;

impl Encoder {
    pub fn new(_shape: &Shape) -> Self {
        Self
    }

    pub fn write(&mut self, _event: &Event<'_>, _out: &mut Vec<u8>) {}
}

/// Returns the frame that ends a committed stream with an error.
pub fn error_frame(error: &Error, _request_id: &str) -> Vec<u8> {
    crate::protocol::openai_chat::stream::error_frame(error)
}
