//! The bytes of requests and answers: the scanner, the splices, the frames, the envelope and the tap, each against
//! a plain reference, on input that is cut anywhere and wishes us ill.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "bytes/envelope.rs"]
mod envelope;
#[path = "bytes/json.rs"]
mod json;
#[path = "bytes/splice.rs"]
mod splice;
#[path = "bytes/sse.rs"]
mod sse;
#[path = "bytes/tap.rs"]
mod tap;
#[path = "bytes/text.rs"]
mod text;
