//! JSON texts to try things on, good and bad, and what `serde_json` makes of them.

use std::fmt;

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object in order, double ones too: what an ordered map of raw values would hold.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Ordered(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Ordered;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    members.push((key, value.get().to_owned()));
                }
                Ok(Ordered(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// What `serde_json` makes of a body.
pub fn reference(body: &[u8]) -> Option<Ordered> {
    serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
}

pub fn space() -> impl Strategy<Value = String> {
    prop_oneof![8 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

/// A string as JSON text, with escapes that need not be there.
pub fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[ -!#-\\[\\]-~]{0,12}",
        2 => "[äöü€漢🙂]{1,4}",
        1 => "[a-zA-Z0-9+/]{24,90}",
        1 => prop::sample::select(vec!["\\n", "\\\"", "\\\\", "\\/", "\\b\\f\\r\\t", "\\u0061", "\\u20AC", "\\ud83d\\ude42", "\u{7f}"])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => string(),
        1 => prop::sample::select(vec!["true", "false", "null", "0", "-0", "1e999", "-1.5E+3", "12345678901234567890123"])
            .prop_map(str::to_owned),
        1 => any::<i32>().prop_map(|number| number.to_string()),
    ]
}

/// Any value.
pub fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (prop::collection::vec((inner.clone(), space()), 0..4)).prop_map(|items| {
                let items: Vec<String> = items
                    .into_iter()
                    .map(|(item, space)| format!("{space}{item}{space}"))
                    .collect();
                format!("[{}]", items.join(","))
            }),
            object_of(inner),
        ]
    })
}

fn object_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = prop_oneof![3 => "\"[a-e]\"", 1 => string()];
    (
        prop::collection::vec((key, value, space(), space()), 0..6),
        space(),
    )
        .prop_map(|(members, inner)| {
            if members.is_empty() {
                return format!("{{{inner}}}");
            }
            let members: Vec<String> = members
                .into_iter()
                .map(|(key, value, one, two)| format!("{one}{key}{two}:{one}{value}{two}"))
                .collect();
            format!("{{{}}}", members.join(","))
        })
}

/// An object.
pub fn object() -> impl Strategy<Value = String> {
    (space(), object_of(value()), space())
        .prop_map(|(before, object, after)| format!("{before}{object}{after}"))
}

/// An object with a few bytes changed, taken out or put in: most often broken.
pub fn broken() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b"{}[]\",:\\ \n\r\t01-+.eEtfnu\x00\x1f\x7f\xc3\xa4\xe2\xf0\xff".to_vec()),
        1 => any::<u8>(),
    ];
    (
        object(),
        prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, byte), 0..4),
    )
        .prop_map(|(object, edits)| {
            let mut bytes = object.into_bytes();
            for (place, kind, byte) in edits {
                let at = place.index(bytes.len() + 1);
                match kind {
                    0 => bytes.insert(at, byte),
                    1 if at < bytes.len() => bytes[at] = byte,
                    _ if at < bytes.len() => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            bytes
        })
}

/// Tokens in any order.
pub fn soup() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "1", "-", "0", ".5", "e1", "true",
        "null", " ", "{\"a\":", "\\u12", "ä",
    ]);
    prop::collection::vec(token, 0..12)
        .prop_map(|tokens| format!("{{{}", tokens.concat()).into_bytes())
}
