//! What rules ask of a body beyond its envelope.

use std::collections::HashMap;
use std::ops::Range;

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde_json::Value;

use crate::codec::json;
use crate::protocol::Protocol;
use crate::protocol::envelope::Envelope;

/// Metadata longer than this, or of more values, can't be asked. OpenAI takes 16 of 512 bytes each.
const MOST_METADATA: usize = 16 << 10;
pub const MOST_METADATA_VALUES: usize = 256;

/// Reads the metadata of a request: an empty map where there is none, `None` where there is too much.
pub fn metadata(
    body: &[u8],
    envelope: &Envelope<'_>,
    protocol: Protocol,
) -> Option<CelMap<'static>> {
    let Some(text) = metadata_text(body, envelope, protocol) else {
        return Some(HashMap::new().into());
    };
    if text.len() > MOST_METADATA {
        return None;
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(text) else {
        return Some(HashMap::new().into());
    };
    let mut left = MOST_METADATA_VALUES;
    map(members, &mut left)
}

/// Returns where a request has its metadata.
pub fn metadata_text<'b>(
    body: &'b [u8],
    envelope: &Envelope<'_>,
    protocol: Protocol,
) -> Option<&'b [u8]> {
    let value = match protocol {
        Protocol::Bedrock => member(body, envelope, "requestMetadata"),
        Protocol::Gemini => member(body, envelope, "labels"),
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Cohere
        | Protocol::Ollama => envelope.metadata.clone(),
    };
    body.get(value?)
}

fn map(members: serde_json::Map<String, Value>, left: &mut usize) -> Option<CelMap<'static>> {
    let mut map: HashMap<CelMapKey<'static>, Box<dyn Val>> = HashMap::new();
    for (name, value) in members {
        map.insert(CelMapKey::String(name.into()), cel_value(value, left)?);
    }
    Some(map.into())
}

/// `serde_json` goes no deeper than 128, so neither does this.
fn cel_value(value: Value, left: &mut usize) -> Option<Box<dyn Val>> {
    *left = left.checked_sub(1)?;
    Some(match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(truth)),
        Value::Number(number) => {
            if let Some(number) = number.as_i64() {
                Box::new(CelInt::from(number))
            } else if let Some(number) = number.as_u64() {
                Box::new(CelUInt::from(number))
            } else {
                Box::new(CelDouble::from(number.as_f64()?))
            }
        }
        Value::String(text) => Box::new(CelString::from(text)),
        Value::Array(values) => {
            let values = values.into_iter().map(|value| cel_value(value, left));
            let values: Vec<Box<dyn Val>> = values.collect::<Option<_>>()?;
            Box::new(CelList::from(values))
        }
        Value::Object(members) => Box::new(map(members, left)?),
    })
}

fn member(body: &[u8], envelope: &Envelope<'_>, name: &str) -> Option<Range<usize>> {
    let mut members = envelope.members.iter();
    let found = members.find(|member| json::key(body, member) == name)?;
    Some(found.value.clone())
}

/// Returns whether a request offers tools: those that a provider runs too, which are no need of a model's.
pub fn has_tools(body: &[u8], envelope: &Envelope<'_>) -> bool {
    envelope.members.iter().any(|member| {
        let holds = matches!(
            &*json::key(body, member),
            // `functions` is OpenAI's older word, `toolConfig` Bedrock's.
            "tools" | "functions" | "toolConfig"
        );
        holds && !is_empty(&body[member.value.clone()])
    })
}

/// Returns whether a value is null, `[]` or `{}`.
fn is_empty(value: &[u8]) -> bool {
    match value {
        [b'[', inside @ .., b']'] | [b'{', inside @ .., b'}'] => inside.trim_ascii().is_empty(),
        _ => true,
    }
}
