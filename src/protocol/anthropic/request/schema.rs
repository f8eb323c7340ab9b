//! JSON schemas: what Anthropic takes natively, and what a tool may have as its input.

use serde_json::value::RawValue;

use crate::error::Result;
use crate::protocol::text::Reader;

/// Schemas nested deeper are left to the tool trick.
const DEPTH_MAX: usize = 48;

/// Returns whether Anthropic's structured outputs take `schema` as it is.
///
/// They are stricter than OpenAI's: every object must be closed, and most constraints of numbers, lengths and
/// counts are refused with a 400
/// (<https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs#json-schema-limitations>).
pub(in crate::protocol) fn is_native(schema: &RawValue) -> bool {
    node(&mut Reader::of(schema.get()), 0).unwrap_or(false)
}

fn node(reader: &mut Reader<'_>, depth: usize) -> Result<bool> {
    if reader.peek() != b'{' || depth > DEPTH_MAX {
        reader.raw()?;
        return Ok(false);
    }
    let (mut fits, mut is_object, mut is_closed) = (true, false, false);
    reader.object(|r, key| {
        fits &= match &*key {
            "type" => {
                is_object = r.raw()?.get().contains("\"object\"");
                true
            }
            "additionalProperties" => {
                is_closed = r.raw()?.get() == "false";
                is_closed
            }
            "properties" => {
                is_object = true;
                every_member(r, depth)?
            }
            "$defs" | "definitions" => every_member(r, depth)?,
            "items" => node(r, depth + 1)?,
            "anyOf" | "allOf" => {
                let mut fits = true;
                r.array(|r| {
                    fits &= node(r, depth + 1)?;
                    Ok(())
                })?;
                fits
            }
            "minItems" => matches!(r.raw()?.get(), "0" | "1"),
            "format" => is_native_format(&r.string()?),
            "$ref" => {
                let target = r.string()?;
                target.starts_with("#/")
            }
            "description" | "title" | "enum" | "const" | "default" | "required" | "$schema"
            | "$id" | "examples" | "pattern" => {
                r.raw()?;
                true
            }
            _ => {
                r.raw()?;
                false
            }
        };
        Ok(())
    })?;
    Ok(fits && (is_closed || !is_object))
}

fn every_member(reader: &mut Reader<'_>, depth: usize) -> Result<bool> {
    let mut fits = true;
    reader.object(|r, _| {
        fits &= node(r, depth + 1)?;
        Ok(())
    })?;
    Ok(fits)
}

fn is_native_format(format: &str) -> bool {
    matches!(
        format,
        "date-time"
            | "time"
            | "date"
            | "duration"
            | "email"
            | "hostname"
            | "uri"
            | "ipv4"
            | "ipv6"
            | "uuid"
    )
}

/// Appends `schema` as a tool's `input_schema`, which must have `type: object` at its root.
///
/// Returns whether it can be: a root of another type can't, and is left for the caller to refuse.
pub(in crate::protocol) fn write_input(schema: Option<&RawValue>, out: &mut Vec<u8>) -> bool {
    let Some(schema) = schema else {
        out.extend_from_slice(b"{\"type\":\"object\",\"properties\":{}}");
        return true;
    };
    let text = schema.get();
    // Nearly all say so themselves, and first.
    if Reader::of(text).tag("type").as_deref() == Some("object") {
        out.extend_from_slice(text.as_bytes());
        return true;
    }
    let mut kind = None;
    let mut members = 0usize;
    let read = Reader::of(text).object(|r, key| {
        members += 1;
        let value = r.raw()?;
        if key == "type" {
            kind = Some(value.get().to_owned());
        }
        Ok(())
    });
    if read.is_err() {
        return false;
    }
    match kind.as_deref() {
        Some("\"object\"") => out.extend_from_slice(text.as_bytes()),
        None => {
            out.extend_from_slice(b"{\"type\":\"object\"");
            if members > 0 {
                out.push(b',');
            }
            // From behind the brace.
            out.extend_from_slice(&text.as_bytes()[1..]);
        }
        Some(_) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn closed_schemas_are_native_and_others_are_not() {
        for (text, native) in [
            (
                r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#,
                true,
            ),
            (
                r##"{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":["string","null"]}},"additionalProperties":false}"##,
                true,
            ),
            (
                r#"{"type":"object","properties":{"a":{"type":"string"}}}"#,
                false,
            ),
            (
                r#"{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"additionalProperties":false}"#,
                false,
            ),
            (
                r#"{"type":"object","properties":{"minimum":{"type":"integer"}},"additionalProperties":false}"#,
                true,
            ),
            (
                r#"{"type":"object","properties":{"a":{"type":"object"}},"additionalProperties":false}"#,
                false,
            ),
            (
                r#"{"type":"array","items":{"anyOf":[{"type":"string"},{"type":"object","additionalProperties":true}]}}"#,
                false,
            ),
            ("true", false),
        ] {
            assert_eq!(is_native(raw(text)), native, "{text}");
        }
    }

    #[test]
    fn deep_schemas_do_not_overflow_the_stack() {
        let deep = format!(
            "{}{{}}{}",
            r#"{"items":"#.repeat(20_000),
            "}".repeat(20_000)
        );
        assert!(!is_native(
            serde_json::from_str::<&RawValue>(&deep).unwrap()
        ));
    }

    #[test]
    fn an_input_schema_gets_the_type_it_lacks() {
        let write = |text| {
            let mut out = Vec::new();
            write_input(text, &mut out).then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(write(None).unwrap(), r#"{"type":"object","properties":{}}"#);
        assert_eq!(write(Some(raw("{}"))).unwrap(), r#"{"type":"object"}"#);
        assert_eq!(
            write(Some(raw(r#"{"a":1}"#))).unwrap(),
            r#"{"type":"object","a":1}"#
        );
        assert_eq!(
            write(Some(raw(r#"{"type":"object"}"#))).unwrap(),
            r#"{"type":"object"}"#
        );
        assert_eq!(write(Some(raw(r#"{"type":"array"}"#))), None);
        assert_eq!(write(Some(raw("true"))), None);
    }
}
