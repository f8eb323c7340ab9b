//! JSON written field by field, in the order that providers write it.
//!
//! Not with `serde_json::Value`, which sorts its fields; and a scripted part may be broken on purpose.

use std::borrow::Cow;

use serde_json::Value;

/// What can be written.
pub(super) trait Json {
    fn write(&self, out: &mut Vec<u8>);
}

/// An object in the making.
#[derive(Debug, Clone)]
pub(super) struct Object(Vec<u8>);

/// JSON text, written as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a>(pub &'a str);

impl Object {
    pub fn new() -> Self {
        Self(b"{".to_vec())
    }

    pub fn set(mut self, name: &str, value: impl Json) -> Self {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        quote(&mut self.0, name);
        self.0.push(b':');
        value.write(&mut self.0);
        self
    }

    /// Writes a field where there is a value; no `null`.
    pub fn some(self, name: &str, value: Option<impl Json>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

impl Json for Object {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
        out.push(b'}');
    }
}

impl Json for Raw<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl Json for str {
    fn write(&self, out: &mut Vec<u8>) {
        quote(out, self);
    }
}

impl Json for String {
    fn write(&self, out: &mut Vec<u8>) {
        quote(out, self);
    }
}

impl Json for Cow<'_, str> {
    fn write(&self, out: &mut Vec<u8>) {
        quote(out, self);
    }
}

impl Json for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Json for $number {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.to_string().as_bytes());
            }
        }
    )*};
}

// Every number of an answer is finite.
numbers!(u16, u32, u64, usize, i64, f32, f64);

impl Json for Value {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.to_string().as_bytes());
    }
}

/// `None` is `null`.
impl<T: Json> Json for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl<T: Json> Json for [T] {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, value) in self.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            value.write(out);
        }
        out.push(b']');
    }
}

impl<T: Json> Json for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_slice().write(out);
    }
}

impl<T: Json, const N: usize> Json for [T; N] {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_slice().write(out);
    }
}

impl<T: Json + ?Sized> Json for &T {
    fn write(&self, out: &mut Vec<u8>) {
        (*self).write(out);
    }
}

/// Appends a JSON string.
pub(super) fn quote(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes every byte");
}

/// Appends texts as they are.
pub(super) fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Returns an object as one server-sent event that has no name.
pub(super) fn data(object: Object) -> Vec<u8> {
    [b"data: ".as_slice(), &object.end(), b"\n\n"].concat()
}

/// Returns an object as one server-sent event with a name.
pub(super) fn event(name: &str, object: Object) -> Vec<u8> {
    [
        b"event: ",
        name.as_bytes(),
        b"\ndata: ",
        &object.end(),
        b"\n\n",
    ]
    .concat()
}

/// Returns base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group
            .iter()
            .fold(0u32, |all, byte| all << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10.
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn objects_keep_the_order_of_their_fields() {
        let inner = Object::new().set("z", true).set("a", [1u64, 2]);
        let object = Object::new()
            .set("type", "x\"y")
            .set("inner", inner)
            .some("none", None::<&str>)
            .set("null", None::<&str>)
            .set("raw", Raw("{broken"));
        assert_eq!(
            String::from_utf8_lossy(&object.end()),
            r#"{"type":"x\"y","inner":{"z":true,"a":[1,2]},"null":null,"raw":{broken}"#
        );
    }
}
