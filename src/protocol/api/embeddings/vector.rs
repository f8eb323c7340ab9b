//! One vector: numbers, or their bytes in base64.

use serde_json::value::RawValue;

use super::Encoding;
use crate::codec::base64;
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::Str;

/// A vector as it came.
#[derive(Debug)]
pub enum Vector<'b> {
    /// A JSON array.
    Numbers(&'b RawValue),
    /// Little-endian `f32`.
    Base64(Str<'b>),
}

impl Vector<'_> {
    /// Appends the vector as the client wants it. Numbers that stay numbers stay as they were written.
    pub fn write(&self, encoding: Encoding, out: &mut Vec<u8>) -> Result<()> {
        match (self, encoding) {
            (Vector::Numbers(raw), Encoding::Float) => {
                out.extend_from_slice(raw.get().as_bytes());
            }
            (Vector::Base64(text), Encoding::Base64) => {
                // Checked, because it is not ours.
                floats(text)?;
                crate::protocol::text::string(text, out);
            }
            (Vector::Numbers(raw), Encoding::Base64) => {
                let numbers: Vec<f32> = serde_json::from_str(raw.get())
                    .map_err(|_| broken("an embedding is not an array of numbers"))?;
                let bytes: Vec<u8> = numbers
                    .iter()
                    .flat_map(|number| number.to_le_bytes())
                    .collect();
                out.push(b'"');
                base64::encode(&bytes, out);
                out.push(b'"');
            }
            (Vector::Base64(text), Encoding::Float) => {
                let bytes = floats(text)?;
                out.push(b'[');
                for (at, four) in bytes.chunks_exact(4).enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    let number = four.try_into().map_or(0.0, f32::from_le_bytes);
                    if !number.is_finite() {
                        return Err(broken("an embedding holds what is no number"));
                    }
                    serde_json::to_writer(&mut *out, &number)
                        .expect("a number can be written into memory");
                }
                out.push(b']');
            }
        }
        Ok(())
    }
}

/// Returns the bytes of a base64 vector.
fn floats(text: &str) -> Result<Vec<u8>> {
    base64::decode(text.as_bytes())
        .filter(|bytes| bytes.len() % 4 == 0)
        .ok_or_else(|| broken("an embedding is not base64 of 32-bit numbers"))
}

pub fn broken(what: &'static str) -> Error {
    Error::new(Kind::UpstreamBroken, what)
}
