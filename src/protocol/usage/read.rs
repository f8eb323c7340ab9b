//! Reads usage objects leniently, member by member and in one pass: whatever a provider puts into one of them, the
//! others count.

use std::borrow::Cow;

use super::decimal;
use crate::error::Result;
use crate::protocol::chat::Str;
use crate::protocol::text::Reader;

/// Pico-dollars in a dollar, as a power of ten.
const PICO: u32 = 12;

/// A usage object, or one inside it.
pub trait Wire: Default {
    /// Reads the value of `key`.
    fn member(&mut self, key: &str, r: &mut Reader<'_>) -> Result<()>;
}

/// Reads a usage object; `None` of what is none.
pub fn whole<T: Wire>(json: &[u8]) -> Option<T> {
    let text = match std::str::from_utf8(json) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(json),
    };
    let mut reader = Reader::of(&text);
    if reader.peek() != b'{' {
        return None;
    }
    let wire = object(&mut reader).ok()?;
    reader.finish().ok()?;
    Some(wire)
}

/// Reads an object; anything else tells nothing.
pub fn object<T: Wire>(r: &mut Reader<'_>) -> Result<T> {
    let mut wire = T::default();
    if r.peek() == b'{' {
        r.object(|r, key| wire.member(&key, r))?;
    } else {
        r.skip()?;
    }
    Ok(wire)
}

/// Reads an array of objects; anything else is empty, and so is one in which something else stands.
pub fn list<T: Wire>(r: &mut Reader<'_>, mut each: impl FnMut(T)) -> Result<bool> {
    if r.peek() != b'[' {
        r.skip()?;
        return Ok(false);
    }
    let mut whole = true;
    r.array(|r| {
        whole &= r.peek() == b'{';
        each(object(r)?);
        Ok(())
    })?;
    Ok(whole)
}

/// Reads a count: an integer, a float or a string of one. Negative is nothing; anything else is absent.
pub fn count(r: &mut Reader<'_>) -> Result<Option<u64>> {
    if let Some(count) = r.whole() {
        return Ok(Some(count));
    }
    Ok(match r.peek() {
        b'0'..=b'9' | b'-' => {
            let number = r.raw()?.get();
            number.parse().ok().or_else(|| {
                let float: f64 = number.parse().ok()?;
                // `as` saturates, and takes what is below zero for zero.
                float.is_finite().then_some(float as u64)
            })
        }
        _ => text(r)?.and_then(|text| decimal(text.trim(), 0)),
    })
}

/// Reads a string; anything else is absent.
pub fn text<'b>(r: &mut Reader<'b>) -> Result<Option<Str<'b>>> {
    if r.peek() == b'"' {
        let mark = r.mark();
        if let Ok(text) = r.string() {
            // A word of which half a character is lost is no word that anything is priced by.
            return Ok(Some(text).filter(|text| !text.contains(char::REPLACEMENT_CHARACTER)));
        }
        r.back(mark);
    }
    r.skip()?;
    Ok(None)
}

/// Reads a string to keep.
pub fn kept(r: &mut Reader<'_>) -> Result<Option<Box<str>>> {
    Ok(text(r)?.map(|text| text.into_owned().into()))
}

/// Reads dollars, as a JSON number or a string, as pico-dollars.
pub fn money(r: &mut Reader<'_>) -> Result<Option<u64>> {
    Ok(decimal(r.raw()?.get().trim_matches('"'), PICO))
}
