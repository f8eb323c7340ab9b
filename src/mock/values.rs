//! The values of a script, checked while they are read.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::script::HeaderMatch;

/// The most bytes that one generated answer may have.
const TEXT_BYTES_MAX: u64 = 64 << 20;
/// The most pieces that one block of an answer is cut into.
const CHUNKS_MAX: u64 = 100_000;

/// The JSON text of a call's arguments.
#[derive(Debug, Clone)]
pub struct Arguments(pub String);

impl Default for Arguments {
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(text_or_json(serde_json::Value::deserialize(
            deserializer,
        )?)))
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A body sent as it is: a string as its bytes, anything else as JSON.
#[derive(Debug, Clone, Default)]
pub struct Raw(pub bytes::Bytes);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(
            text_or_json(serde_json::Value::deserialize(deserializer)?).into(),
        ))
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The size of the pieces in which a body is written, whatever its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split(pub usize);

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pieces;
        impl Visitor<'_> for Pieces {
            type Value = Split;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"bytes\" or a number of bytes from 1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Split, E> {
                if text == "bytes" {
                    Ok(Split(1))
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }

            fn visit_u64<E: de::Error>(self, size: u64) -> Result<Split, E> {
                match usize::try_from(size) {
                    Ok(size) if size > 0 => Ok(Split(size)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(size), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, size: i64) -> Result<Split, E> {
                match u64::try_from(size) {
                    Ok(size) => self.visit_u64(size),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(size), &self)),
                }
            }
        }
        deserializer.deserialize_any(Pieces)
    }
}

impl Serialize for Split {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0 as u64)
    }
}

/// A duration with its unit: `"250us"`, `"50ms"`, `"1.5s"`, `"2m"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl Wait {
    fn parse(text: &str) -> Option<Self> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = text.split_at(unit_at);
        let scale = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale)
            .ok()
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Wait;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"50ms\", \"1.5s\" or \"2m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wait, E> {
                Wait::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Serialize for Wait {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}us", self.0.as_micros()))
    }
}

/// The headers of an answer, checked; they replace the default ones of the same name.
#[derive(Debug, Clone, Default)]
pub struct Headers(pub HeaderMap);

impl Headers {
    fn add<E: de::Error>(&mut self, name: &str, value: &str) -> Result<(), E> {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| E::custom(format_args!("`{name}` is not a header name")))?;
        if parsed == hyper::header::CONTENT_LENGTH || parsed == hyper::header::TRANSFER_ENCODING {
            return Err(E::custom(format_args!(
                "`{name}` is the framing of the body; see `chunked` and `cut_body`"
            )));
        }
        let value = HeaderValue::from_str(value).map_err(|_| {
            E::custom(format_args!(
                "the value of `{name}` can't be sent as a header"
            ))
        })?;
        self.0.append(parsed, value);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a table of header names and values (a text, a number, or a list of texts)",
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some(name) = map.next_key::<String>()? {
                    match map.next_value::<HeaderSaid>()? {
                        HeaderSaid::One(value) => headers.add(&name, &value)?,
                        HeaderSaid::Number(value) => headers.add(&name, &value.to_string())?,
                        HeaderSaid::Many(values) => {
                            for value in values {
                                headers.add(&name, &value)?;
                            }
                        }
                    }
                }
                Ok(headers)
            }
        }
        deserializer.deserialize_map(Table)
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a header's value is a text, a whole number, or a list of texts"
)]
enum HeaderSaid {
    One(String),
    Number(i64),
    Many(Vec<String>),
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, value) in &self.0 {
            lines
                .entry(name.as_str())
                .or_default()
                .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        serializer.collect_map(lines)
    }
}

/// What is told of the tokens: numbers counted from the request (`true`), none (`false`), or those given.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum UsageSaid {
    #[default]
    Counted,
    Missing,
    Given(Numbers),
}

/// Explicit usage, by the names of either protocol, each written as given where the protocol has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Numbers {
    #[serde(alias = "input_tokens")]
    pub prompt_tokens: Option<u64>,
    #[serde(alias = "output_tokens")]
    pub completion_tokens: Option<u64>,
    #[serde(alias = "cache_read_input_tokens")]
    pub cached_tokens: Option<u64>,
    #[serde(alias = "cache_creation_input_tokens")]
    pub cache_write_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
    /// JSON text, written in place of the whole usage object.
    pub raw: Option<String>,
}

impl<'de> Deserialize<'de> for UsageSaid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Said;
        impl<'de> Visitor<'de> for Said {
            type Value = UsageSaid;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a table of token numbers")
            }

            fn visit_bool<E: de::Error>(self, told: bool) -> Result<UsageSaid, E> {
                Ok(if told {
                    UsageSaid::Counted
                } else {
                    UsageSaid::Missing
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UsageSaid, A::Error> {
                let numbers = Numbers::deserialize(de::value::MapAccessDeserializer::new(map))?;
                if let Some(raw) = &numbers.raw {
                    serde_json::from_str::<de::IgnoredAny>(raw).map_err(|error| {
                        de::Error::custom(format_args!("`raw` is not JSON: {error}"))
                    })?;
                }
                Ok(UsageSaid::Given(numbers))
            }
        }
        deserializer.deserialize_any(Said)
    }
}

impl Serialize for UsageSaid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Counted => serializer.serialize_bool(true),
            Self::Missing => serializer.serialize_bool(false),
            Self::Given(numbers) => numbers.serialize(serializer),
        }
    }
}

fn text_or_json(value: serde_json::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<HeaderMatch>, D::Error> {
    struct Matches;
    impl<'de> Visitor<'de> for Matches {
        type Value = Vec<HeaderMatch>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table {name, value} or a list of them")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            HeaderMatch::deserialize(de::value::MapAccessDeserializer::new(map))
                .map(|one| vec![one])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))
        }
    }
    deserializer.deserialize_any(Matches)
}

pub(super) fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    within(deserializer, 200, 599, "a final HTTP status, 200 to 599")
        .map(|value| value.map(|value| value as u16))
}

pub(super) fn repeat<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    within(deserializer, 1, 1 << 40, "a number of calls from 1")
}

pub(super) fn chunks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    within(
        deserializer,
        1,
        CHUNKS_MAX,
        "a number of chunks, 1 to 100000",
    )
}

pub(super) fn text_bytes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    within(
        deserializer,
        0,
        TEXT_BYTES_MAX,
        "a number of bytes, at most 64 MiB",
    )
}

fn within<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: u64,
    most: u64,
    expected: &'static str,
) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(deserializer)? {
        Some(value) if value < least || value > most => Err(de::Error::invalid_value(
            de::Unexpected::Unsigned(value),
            &expected,
        )),
        checked => Ok(checked),
    }
}
