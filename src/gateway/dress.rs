//! The last step of a stream before the client: its media type, and the wrapping that some clients ask for.

use bytes::Bytes;
use http::HeaderValue;

use super::endpoint::Coat;
use super::through::MOST_FRAME;
use crate::protocol::bedrock::invoke::Chunker;
use crate::protocol::gemini::stream::ArrayWriter;
use crate::protocol::{Framing, Protocol};

/// Returns the media type of a stream.
pub fn media_type(protocol: Protocol, coat: Coat) -> HeaderValue {
    HeaderValue::from_static(match (coat, protocol.framing()) {
        (Coat::Array, _) => "application/json; charset=utf-8",
        (Coat::Chunks, _) | (Coat::None, Framing::EventStream) => {
            "application/vnd.amazon.eventstream"
        }
        (Coat::None, Framing::Lines) => "application/x-ndjson",
        (Coat::None, Framing::Events) => "text/event-stream; charset=utf-8",
    })
}

/// Wraps a stream piece by piece.
pub enum Dress {
    Plain,
    Array(Box<ArrayWriter>),
    Chunks(Box<Chunker>),
}

impl Dress {
    pub fn new(coat: Coat) -> Self {
        match coat {
            Coat::Chunks => Self::Chunks(Box::new(Chunker::new(MOST_FRAME))),
            Coat::Array => Self::Array(Box::new(ArrayWriter::new(MOST_FRAME))),
            Coat::None => Self::Plain,
        }
    }

    /// Takes a piece; returns what the client gets.
    pub fn put(&mut self, piece: Bytes) -> Bytes {
        match self {
            Self::Plain => piece,
            Self::Array(writer) => {
                let mut out = Vec::new();
                // Our own frames: none is too large.
                let _ = writer.feed(&piece, &mut out);
                out.into()
            }
            Self::Chunks(chunker) => {
                let mut out = Vec::new();
                // Our own frames: none is too large.
                let _ = chunker.push(&piece, &mut out);
                out.into()
            }
        }
    }

    /// Ends the stream; returns what is still to be sent.
    pub fn end(&mut self) -> Bytes {
        match self {
            Self::Plain => Bytes::new(),
            Self::Array(writer) => {
                let mut out = Vec::new();
                writer.finish(&mut out);
                out.into()
            }
            Self::Chunks(chunker) => {
                let mut out = Vec::new();
                chunker.finish(&mut out);
                out.into()
            }
        }
    }
}
