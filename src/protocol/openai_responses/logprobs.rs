//! Log probabilities: a plain list of tokens here, an object with such a list in OpenAI chat.

use serde_json::value::RawValue;

use super::citation::raw;
use crate::error::Result;
use crate::protocol::chat::Str;
use crate::protocol::text::{self, Object, Reader};

/// Returns this protocol's list as the object that the hub carries; `None` of none.
pub(super) fn to_hub(list: &RawValue) -> Option<Box<RawValue>> {
    if !Reader::of(list.get())
        .list(Reader::raw)
        .is_ok_and(|tokens| !tokens.is_empty())
    {
        return None;
    }
    let mut out = b"{\"content\":".to_vec();
    text::raw_line(list, &mut out);
    out.extend_from_slice(b",\"refusal\":null}");
    raw(out)
}

/// Appends the tokens of the hub's object, or of this protocol's own list, with commas between them.
///
/// Each has its bytes, which this protocol demands and others leave out.
pub(super) fn write_tokens(logprobs: &RawValue, out: &mut Vec<u8>) {
    let mut tokens = Vec::new();
    let mut reader = Reader::of(logprobs.get());
    // What can't be read tells no probability.
    let read = match reader.peek() {
        b'[' => list(&mut reader, &mut tokens),
        _ => reader.object(|r, key| match (&*key, r.peek()) {
            ("content", b'[') => list(r, &mut tokens),
            _ => r.raw().map(drop),
        }),
    };
    if read.is_ok() {
        out.extend_from_slice(&tokens);
    }
}

fn list(r: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    r.array(|r| {
        if r.peek() != b'{' {
            return r.raw().map(drop);
        }
        text::comma(start, out);
        token(r, true, out)
    })
}

fn token<'b>(r: &mut Reader<'b>, has_top: bool, out: &mut Vec<u8>) -> Result<()> {
    let mut word: Option<Str<'b>> = None;
    let (mut logprob, mut bytes, mut top) = (None, None, Vec::new());
    r.object(|r, key| {
        match (&*key, r.peek()) {
            ("token", b'"') => word = Some(r.string()?),
            ("logprob", b'-' | b'0'..=b'9') => logprob = Some(r.raw()?),
            ("bytes", b'[') => bytes = Some(r.raw()?),
            ("top_logprobs", b'[') if has_top => r.array(|r| {
                if r.peek() != b'{' {
                    return r.raw().map(drop);
                }
                text::comma(0, &mut top);
                token(r, false, &mut top)
            })?,
            _ => drop(r.raw()?),
        }
        Ok(())
    })?;
    let word = word.unwrap_or_default();
    let mut object = Object::open(out);
    object.string("token", &word);
    match bytes {
        Some(bytes) => text::raw_line(bytes, object.key("bytes")),
        None => {
            let out = object.key("bytes");
            out.push(b'[');
            let start = out.len();
            for byte in word.bytes() {
                text::comma(start, out);
                text::integer(byte.into(), out);
            }
            out.push(b']');
        }
    }
    match logprob {
        Some(logprob) => object.raw("logprob", logprob),
        None => object.integer("logprob", 0),
    }
    if has_top {
        let out = object.key("top_logprobs");
        out.push(b'[');
        out.extend_from_slice(&top);
        out.push(b']');
    }
    object.close();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_chat_get_their_bytes() {
        let chat: Box<RawValue> = serde_json::from_str(
            r#"{"content":[{"token":"é","logprob":-0.5,"bytes":null,"top_logprobs":[{"token":"a","logprob":-1}]}],"refusal":null}"#,
        )
        .unwrap();
        let mut out = Vec::new();
        write_tokens(&chat, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"token":"é","bytes":[195,169],"logprob":-0.5,"top_logprobs":[{"token":"a","bytes":[97],"logprob":-1}]}"#
        );
    }

    #[test]
    fn an_empty_list_tells_nothing() {
        let list: Box<RawValue> = serde_json::from_str("[ ]").unwrap();
        assert!(to_hub(&list).is_none());
    }
}
