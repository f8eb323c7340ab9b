//! What an answer repeats of its request.

use serde_json::value::RawValue;

use crate::error::Result;
use crate::protocol::text::{self, Object, Reader};

/// Returns what an answer repeats of its request: JSON members without braces, on one line.
///
/// Absent fields have OpenAI's defaults. The service tier is the last, so that the one that served can stand in
/// its place. Nothing for a body that is no request.
pub fn echo(body: &[u8]) -> String {
    let mut asked = Asked::default();
    let read = Reader::new(body).and_then(|mut r| r.object(|r, key| asked.field(r, &key)));
    if read.is_err() {
        return String::new();
    }
    asked.write()
}

/// The same for a request that says nothing.
pub(in crate::protocol::openai_responses) fn defaults() -> String {
    Asked::default().write()
}

/// The fields that are repeated, each of the type that SDKs demand.
#[derive(Debug, Default)]
struct Asked<'b> {
    background: Option<&'b RawValue>,
    instructions: Option<&'b RawValue>,
    max_output_tokens: Option<&'b RawValue>,
    max_tool_calls: Option<&'b RawValue>,
    metadata: Option<&'b RawValue>,
    parallel_tool_calls: Option<&'b RawValue>,
    previous_response_id: Option<&'b RawValue>,
    prompt_cache_key: Option<&'b RawValue>,
    reasoning: Option<&'b RawValue>,
    safety_identifier: Option<&'b RawValue>,
    service_tier: Option<&'b RawValue>,
    store: Option<&'b RawValue>,
    temperature: Option<&'b RawValue>,
    format: Option<&'b RawValue>,
    verbosity: Option<&'b RawValue>,
    tool_choice: Option<&'b RawValue>,
    tools: Option<&'b RawValue>,
    top_logprobs: Option<&'b RawValue>,
    top_p: Option<&'b RawValue>,
    truncation: Option<&'b RawValue>,
    user: Option<&'b RawValue>,
}

impl<'b> Asked<'b> {
    fn field(&mut self, r: &mut Reader<'b>, key: &str) -> Result<()> {
        let first = r.peek();
        if key == "text" && first == b'{' {
            return r.object(|r, key| {
                match (&*key, r.peek()) {
                    ("format", b'{') => self.format = Some(r.raw()?),
                    ("verbosity", b'"') => self.verbosity = Some(r.raw()?),
                    _ => drop(r.raw()?),
                }
                Ok(())
            });
        }
        let number = matches!(first, b'-' | b'0'..=b'9');
        let boolean = matches!(first, b't' | b'f');
        let (text, object) = (first == b'"', first == b'{');
        let place = match key {
            "background" if boolean => &mut self.background,
            "instructions" if text => &mut self.instructions,
            "max_output_tokens" if number => &mut self.max_output_tokens,
            "max_tool_calls" if number => &mut self.max_tool_calls,
            "metadata" if object => &mut self.metadata,
            "parallel_tool_calls" if boolean => &mut self.parallel_tool_calls,
            "previous_response_id" if text => &mut self.previous_response_id,
            "prompt_cache_key" if text => &mut self.prompt_cache_key,
            "reasoning" if object => &mut self.reasoning,
            "safety_identifier" if text => &mut self.safety_identifier,
            "service_tier" if text => &mut self.service_tier,
            "store" if boolean => &mut self.store,
            "temperature" if number => &mut self.temperature,
            "tool_choice" if text || object => &mut self.tool_choice,
            "tools" if first == b'[' => &mut self.tools,
            "top_logprobs" if number => &mut self.top_logprobs,
            "top_p" if number => &mut self.top_p,
            "truncation" if text => &mut self.truncation,
            "user" if text => &mut self.user,
            _ => return r.raw().map(drop),
        };
        *place = Some(r.raw()?);
        Ok(())
    }

    fn write(&self) -> String {
        let mut out = Vec::with_capacity(512);
        let mut object = Object::open(&mut out);
        for (name, asked, default) in [
            ("background", self.background, "false"),
            ("instructions", self.instructions, "null"),
            ("max_output_tokens", self.max_output_tokens, "null"),
            ("max_tool_calls", self.max_tool_calls, "null"),
            ("metadata", self.metadata, "{}"),
            ("parallel_tool_calls", self.parallel_tool_calls, "true"),
            ("previous_response_id", self.previous_response_id, "null"),
            ("prompt_cache_key", self.prompt_cache_key, "null"),
            (
                "reasoning",
                self.reasoning,
                "{\"effort\":null,\"summary\":null}",
            ),
            ("safety_identifier", self.safety_identifier, "null"),
            ("store", self.store, "true"),
            ("temperature", self.temperature, "1.0"),
        ] {
            write(asked, default, object.key(name));
        }
        let mut text = Object::open(object.key("text"));
        write(self.format, "{\"type\":\"text\"}", text.key("format"));
        write(self.verbosity, "\"medium\"", text.key("verbosity"));
        text.close();
        write(self.tool_choice, "\"auto\"", object.key("tool_choice"));
        let list = object.key("tools");
        list.push(b'[');
        if let Some(tools) = self.tools {
            let start = list.len();
            // It was read once: it can't fail.
            let _ = Reader::of(tools.get()).array(|r| tool(r, start, list));
        }
        list.push(b']');
        for (name, asked, default) in [
            ("top_logprobs", self.top_logprobs, "0"),
            ("top_p", self.top_p, "1.0"),
            ("truncation", self.truncation, "\"disabled\""),
            ("user", self.user, "null"),
            ("service_tier", self.service_tier, "\"auto\""),
        ] {
            write(asked, default, object.key(name));
        }
        // Without its braces.
        out.remove(0);
        String::from_utf8(out).unwrap_or_default()
    }
}

fn write(asked: Option<&RawValue>, default: &str, out: &mut Vec<u8>) {
    match asked {
        Some(raw) => text::raw_line(raw, out),
        None => out.extend_from_slice(default.as_bytes()),
    }
}

/// Repeats one tool; a function with all that its type has, as OpenAI does.
fn tool(r: &mut Reader<'_>, start: usize, out: &mut Vec<u8>) -> Result<()> {
    if r.tag("type").is_none() {
        return r.raw().map(drop);
    }
    let is_function = r.tag("type").is_some_and(|kind| kind == "function");
    text::comma(start, out);
    if !is_function {
        text::raw_line(r.raw()?, out);
        return Ok(());
    }
    let (mut parameters, mut strict) = (false, false);
    let mut object = Object::open(out);
    r.object(|r, key| {
        parameters |= &*key == "parameters";
        strict |= &*key == "strict";
        text::raw_line(r.raw()?, object.foreign_key(&key));
        Ok(())
    })?;
    if !parameters {
        object.key("parameters").extend_from_slice(b"null");
    }
    if !strict {
        object.boolean("strict", true);
    }
    object.close();
    Ok(())
}

/// Returns the members without the service tier, and the tier, as JSON.
pub(in crate::protocol::openai_responses) fn apart(echo: &str) -> (&str, Option<&str>) {
    const TIER: &str = ",\"service_tier\":";
    match echo.rfind(TIER) {
        // It is the last: nothing but its own text follows.
        Some(at) if is_last(&echo[at + TIER.len()..]) => {
            (&echo[..at], Some(&echo[at + TIER.len()..]))
        }
        Some(_) | None => (echo, None),
    }
}

fn is_last(value: &str) -> bool {
    value.starts_with('"')
        && value.ends_with('"')
        && value.len() > 1
        && !value[1..value.len() - 1].contains('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn told(body: &str) -> Value {
        serde_json::from_str(&format!("{{{}}}", echo(body.as_bytes()))).unwrap()
    }

    #[test]
    fn what_was_asked_is_repeated_and_the_rest_has_defaults() {
        let told = told(
            "{\"model\":\"m\",\"input\":\"q\",\"instructions\":\"be\\nkind\",\"temperature\":0.5,\n\"tools\":[\n{\"type\":\"function\",\"name\":\"f\"}],\"text\":{\"verbosity\":\"low\"},\"service_tier\":\"flex\"}",
        );
        assert_eq!(told["instructions"], "be\nkind");
        assert_eq!(told["temperature"], 0.5);
        assert_eq!(told["top_p"], 1.0);
        assert_eq!(told["tools"][0]["strict"], true);
        assert_eq!(told["tools"][0]["parameters"], Value::Null);
        assert_eq!(told["text"]["format"]["type"], "text");
        assert_eq!(told["text"]["verbosity"], "low");
        assert_eq!(told["service_tier"], "flex");
        assert_eq!(told["store"], true);
    }

    #[test]
    fn it_stays_on_one_line() {
        let echo = echo(b"{\"metadata\":{\n\"a\":\r\n\"b\"},\"tools\":[{\"type\":\"function\",\n\"name\":\"f\",\"parameters\":{\n}}]}");
        assert!(!echo.contains(['\n', '\r']), "{echo}");
    }

    #[test]
    fn fields_of_a_wrong_type_are_not_repeated() {
        let told = told(r#"{"temperature":"hot","tools":{},"metadata":[],"text":"x"}"#);
        assert_eq!(told["temperature"], 1.0);
        assert_eq!(told["tools"], Value::Array(Vec::new()));
    }

    #[test]
    fn the_tier_can_be_taken_off_its_end() {
        let whole = defaults();
        let (rest, tier) = apart(&whole);
        assert_eq!(tier, Some("\"auto\""));
        assert!(!rest.contains("service_tier"));
        assert_eq!(apart(""), ("", None));
        assert_eq!(apart("\"a\":1"), ("\"a\":1", None));
    }
}
