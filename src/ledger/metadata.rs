//! What a client says of a request by names of its own, so that usage can be grouped and rows can be found by it: the
//! `metadata` of the body (`labels` for Gemini, `requestMetadata` for Bedrock), and before it `x-strait-metadata`.
//!
//! Names are letters, digits and a few signs, so that they need no escapes in JSON or SQL; values are texts, numbers and
//! truths. What is more or longer than the bounds is left out; in the header, which is ours, it is refused.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What names begin with in the administration API.
pub const PREFIX: &str = "metadata.";
/// As OpenAI has them.
pub const MOST: usize = 16;
const MOST_NAME: usize = 64;
const MOST_VALUE: usize = 512;
/// Longer texts are not read.
const MOST_TEXT: usize = 16 << 10;

/// Names and values, in the order in which they were said.
pub type Metadata = Vec<(String, String)>;

/// Returns the field that a name of the administration API means.
pub fn field(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX).filter(|field| is_name(field))
}

/// Returns whether this may be the name of a field.
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
    (1..=MOST_NAME).contains(&name.len()) && name.bytes().all(fits)
}

/// Reads an object of a body, as far as it goes, behind what is known already.
pub fn add(known: &mut Metadata, text: &[u8]) {
    if text.len() > MOST_TEXT {
        return;
    }
    // What is no object is for the provider to refuse.
    let Ok(Members(members)) = serde_json::from_slice(text) else {
        return;
    };
    for (name, value) in members {
        let is_new = |(before, _): &(String, String)| *before != *name;
        if known.len() < MOST && is_name(&name) && known.iter().all(is_new) {
            known.extend(scalar(value).map(|value| (name, value)));
        }
    }
}

/// Reads the header. Errors say what is wrong with it.
pub fn read(text: &str) -> Result<Metadata, String> {
    let members = serde_json::from_str(text);
    let Members(members) = members.map_err(|_| "takes a JSON object".to_owned())?;
    if members.len() > MOST {
        return Err(format!("takes {MOST} names at most"));
    }
    let mut metadata = Metadata::new();
    for (name, value) in members {
        if !is_name(&name) || metadata.iter().any(|(known, _)| *known == *name) {
            let signs = "1 to 64 letters, digits and _-.:/, each once";
            return Err(format!("takes names of {signs}"));
        }
        let wrong =
            || format!("takes texts, numbers and truths as values, of {MOST_VALUE} bytes at most");
        metadata.push((name, scalar(value).ok_or_else(wrong)?));
    }
    Ok(metadata)
}

/// Returns the expression for what stands under a field in a row; empty where nothing does.
pub fn column(field: &str, sqlite: bool) -> String {
    debug_assert!(is_name(field), "it needs no escapes");
    let value = if sqlite {
        format!("json_extract(metadata, '$.\"{field}\"')")
    } else {
        format!("CAST(metadata AS json) ->> '{field}'")
    };
    format!("CASE WHEN metadata = '' THEN '' ELSE COALESCE({value}, '') END")
}

/// Returns what a value says; `None` for what holds others, for `null`, and for what is too long.
fn scalar(value: &RawValue) -> Option<String> {
    let text = value.get();
    let said = match text.as_bytes().first()? {
        // PostgreSQL takes no NUL.
        b'"' => serde_json::from_str::<String>(text)
            .ok()?
            .replace('\0', "\u{fffd}"),
        b'{' | b'[' | b'n' => return None,
        _ => text.to_owned(),
    };
    (said.len() <= MOST_VALUE).then_some(said)
}

/// The first members of an object, one more than are taken.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Gather)
    }
}

struct Gather;

impl<'de> Visitor<'de> for Gather {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while members.len() <= MOST {
            match map.next_entry()? {
                Some(member) => members.push(member),
                None => return Ok(Members(members)),
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> Metadata {
        let mut metadata = vec![("team".to_owned(), "of the header".to_owned())];
        add(&mut metadata, text.as_bytes());
        metadata.split_off(1)
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Metadata {
        pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    }

    #[test]
    fn what_fits_of_a_body_is_taken_and_the_rest_left() {
        let text = r#"{"a":"x\u0000\"y","n":1.50,"t":true,"no":null,"deep":{"a":1},"list":[1],"team":"b","bad name":"x","q'":"x","":"x"}"#;
        let expected = pairs([("a", "x\u{fffd}\"y"), ("n", "1.50"), ("t", "true")]);
        assert_eq!(added(text), expected);
        for text in ["", "[]", "\"x\"", "{", "null"] {
            assert_eq!(added(text), [], "{text}");
        }
        let long = format!(r#"{{"a":"{}","b":"x"}}"#, "y".repeat(MOST_VALUE + 1));
        assert_eq!(added(&long), pairs([("b", "x")]));
        let many: Vec<String> = (0..100).map(|at| format!(r#""n{at}":{at}"#)).collect();
        assert_eq!(added(&format!("{{{}}}", many.join(","))).len(), MOST - 1);
        assert_eq!(
            added(&format!(r#"{{"a":"{}"}}"#, "y".repeat(MOST_TEXT))),
            []
        );
    }

    #[test]
    fn a_header_is_taken_whole_or_refused() {
        let read_well = read(r#"{"team":"red","n":7}"#);
        assert_eq!(read_well, Ok(pairs([("team", "red"), ("n", "7")])));
        for wrong in [
            "team=red",
            "[]",
            r#"{"a":{}}"#,
            r#"{"a":null}"#,
            r#"{"a b":"c"}"#,
            r#"{"a":1,"a":2}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let many: Vec<String> = (0..=MOST).map(|at| format!(r#""n{at}":{at}"#)).collect();
        assert!(read(&format!("{{{}}}", many.join(","))).is_err());
    }

    #[test]
    fn a_field_is_named_without_anything_that_sql_reads() {
        assert_eq!(field("metadata.team"), Some("team"));
        for no in [
            "metadata.",
            "metadata.a'b",
            "metadata.a\"b",
            "metadata.a b",
            "team",
        ] {
            assert_eq!(field(no), None, "{no}");
        }
    }
}
