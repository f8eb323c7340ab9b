//! Google's subset of OpenAPI, in which schemas were written before JSON Schema was taken: types in capitals,
//! `nullable`, `propertyOrdering`. Other protocols are told the same in JSON Schema.

use serde_json::value::RawValue;

use super::words::{camel, word};
use crate::error::Result;
use crate::protocol::chat::Str;
use crate::protocol::text::{self, Object, Reader};

/// Deeper schemas are taken as they come.
const DEPTH: usize = 64;

/// Returns whether a schema is in OpenAPI's words and not in JSON Schema's.
pub(super) fn is_openapi(schema: &RawValue) -> bool {
    let mut found = false;
    // What can't be read is left for others to refuse.
    let _ = look(&mut Reader::of(schema.get()), 0, &mut found);
    found
}

fn look(r: &mut Reader<'_>, depth: usize, found: &mut bool) -> Result<()> {
    if r.peek() != b'{' || depth > DEPTH || *found {
        return r.raw().map(drop);
    }
    r.object(|r, key| match (&*camel(&key), r.peek()) {
        ("type", b'"' | b'0'..=b'9') => {
            *found |= lower(&word(r)?).is_some();
            Ok(())
        }
        ("nullable" | "propertyOrdering", _) => {
            *found = true;
            r.raw().map(drop)
        }
        ("properties" | "defs", b'{') => r.object(|r, _| look(r, depth + 1, found)),
        ("items", b'{') => look(r, depth + 1, found),
        ("anyOf", b'[') => r.array(|r| look(r, depth + 1, found)),
        _ => r.raw().map(drop),
    })
}

/// Returns JSON Schema's name of a type in OpenAPI's capitals, or of its number in Google's protocol buffers.
fn lower(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "STRING" | "1" => "string",
        "NUMBER" | "2" => "number",
        "INTEGER" | "3" => "integer",
        "BOOLEAN" | "4" => "boolean",
        "ARRAY" | "5" => "array",
        "OBJECT" | "6" => "object",
        "NULL" | "7" => "null",
        _ => return None,
    })
}

/// Returns the schema as JSON Schema; `None` if it is too deep or no schema.
pub(super) fn standard(schema: &RawValue) -> Option<Box<RawValue>> {
    let mut out = Vec::with_capacity(schema.get().len());
    node(&mut Reader::of(schema.get()), 0, &mut out).ok()??;
    RawValue::from_string(String::from_utf8(out).ok()?).ok()
}

/// Appends one schema. Returns nothing where it is too deep.
fn node(r: &mut Reader<'_>, depth: usize, out: &mut Vec<u8>) -> Result<Option<()>> {
    if depth > DEPTH {
        return Ok(None);
    }
    if r.peek() != b'{' {
        out.extend_from_slice(r.raw()?.get().as_bytes());
        return Ok(Some(()));
    }
    let nullable = is_nullable(r)?;
    let mut whole = true;
    let mut object = Object::open(out);
    let mut typed = false;
    r.object(|r, key| {
        match (&*camel(&key), r.peek()) {
            ("type", b'"' | b'0'..=b'9') => {
                let kind = word(r)?;
                if kind == "TYPE_UNSPECIFIED" {
                    return Ok(());
                }
                typed = true;
                write_type(lower(&kind).unwrap_or(&kind), nullable, object.key("type"));
            }
            ("nullable" | "propertyOrdering" | "example", _) => drop(r.raw()?),
            ("format", b'"') => {
                let format = r.string()?;
                // They say what the type says, and are in no vocabulary of JSON Schema.
                if !matches!(&*format, "int32" | "int64" | "float" | "double" | "enum") {
                    object.string("format", &format);
                }
            }
            ("enum", b'[') => write_enum(r, nullable, object.key("enum"))?,
            ("properties", b'{') => {
                let mut members = Object::open(object.key("properties"));
                r.object(|r, name| {
                    whole &= node(r, depth + 1, members.foreign_key(&name))?.is_some();
                    Ok(())
                })?;
                members.close();
            }
            ("items", b'{') => {
                whole &= node(r, depth + 1, object.key("items"))?.is_some();
            }
            ("anyOf", b'[') => {
                let list = object.key("anyOf");
                list.push(b'[');
                let start = list.len();
                r.array(|r| {
                    text::comma(start, list);
                    whole &= node(r, depth + 1, list)?.is_some();
                    Ok(())
                })?;
                if nullable && !typed {
                    text::comma(start, list);
                    list.extend_from_slice(b"{\"type\":\"null\"}");
                }
                list.push(b']');
            }
            (
                name @ ("minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties"
                | "maxProperties"),
                b'"',
            ) => {
                // Protocol buffers write 64-bit numbers as strings.
                let number = r.string()?;
                if let Ok(number) = number.parse() {
                    object.integer(name, number);
                }
            }
            (name, _) => {
                let value = r.raw()?;
                let name = known(name).unwrap_or(&key);
                object
                    .foreign_key(name)
                    .extend_from_slice(value.get().as_bytes());
            }
        }
        Ok(())
    })?;
    object.close();
    Ok(whole.then_some(()))
}

/// Returns the keyword, for names that were spelt in snake_case.
fn known(name: &str) -> Option<&'static str> {
    [
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "minProperties",
        "maxProperties",
        "additionalProperties",
        "prefixItems",
    ]
    .into_iter()
    .find(|known| *known == name)
}

/// Looks ahead for `nullable: true`.
fn is_nullable(r: &mut Reader<'_>) -> Result<bool> {
    let mark = r.mark();
    let mut nullable = false;
    r.object(|r, key| {
        let value = r.raw()?;
        nullable |= key == "nullable" && value.get() == "true";
        Ok(())
    })?;
    r.back(mark);
    Ok(nullable)
}

fn write_type(kind: &str, nullable: bool, out: &mut Vec<u8>) {
    if nullable && kind != "null" {
        out.push(b'[');
        text::string(kind, out);
        out.extend_from_slice(b",\"null\"]");
    } else {
        text::string(kind, out);
    }
}

fn write_enum(r: &mut Reader<'_>, nullable: bool, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'[');
    let start = out.len();
    let mut null = false;
    r.array(|r| {
        let value = r.raw()?.get();
        null |= value == "null";
        text::comma(start, out);
        out.extend_from_slice(value.as_bytes());
        Ok(())
    })?;
    if nullable && !null {
        text::comma(start, out);
        out.extend_from_slice(b"null");
    }
    out.push(b']');
    Ok(())
}

/// Returns whether the root of a schema is an object, or says nothing of its type.
pub(super) fn is_object(schema: &RawValue) -> bool {
    let kind: Option<Str<'_>> = Reader::of(schema.get()).tag("type");
    schema.get().starts_with('{')
        && kind.is_none_or(|kind| kind == "object" || kind == "OBJECT" || kind.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn openapi_becomes_json_schema() {
        for (openapi, json_schema) in [
            (r#"{"type":"STRING"}"#, r#"{"type":"string"}"#),
            (
                r#"{"type":6,"properties":{"a":{"type":5,"items":{"type":1}}}}"#,
                r#"{"type":"object","properties":{"a":{"type":"array","items":{"type":"string"}}}}"#,
            ),
            (
                r#"{"type":"OBJECT","properties":{"type":{"type":"INTEGER","format":"int32","nullable":true}},"property_ordering":["type"],"required":["type"]}"#,
                r#"{"type":"object","properties":{"type":{"type":["integer","null"]}},"required":["type"]}"#,
            ),
            (
                r#"{"type":"STRING","format":"enum","enum":["a"],"nullable":true}"#,
                r#"{"type":["string","null"],"enum":["a",null]}"#,
            ),
            (
                r#"{"any_of":[{"type":"STRING"},{"type":"ARRAY","items":{"type":"NUMBER"},"min_items":"2"}],"nullable":true}"#,
                r#"{"anyOf":[{"type":"string"},{"type":"array","items":{"type":"number"},"minItems":2},{"type":"null"}]}"#,
            ),
        ] {
            assert!(is_openapi(raw(openapi)), "{openapi}");
            assert_eq!(standard(raw(openapi)).unwrap().get(), json_schema);
            assert!(!is_openapi(raw(json_schema)), "{json_schema}");
        }
        assert!(!is_openapi(raw(
            r#"{"type":"object","properties":{"nullable":{"type":"string"}}}"#
        )));
    }

    #[test]
    fn deep_schemas_do_not_overflow_the_stack() {
        let deep = format!(
            "{}{{\"type\":\"STRING\"}}{}",
            r#"{"type":"ARRAY","items":"#.repeat(20_000),
            "}".repeat(20_000)
        );
        assert!(standard(raw(&deep)).is_none());
        assert!(is_openapi(raw(&deep)));
    }
}
