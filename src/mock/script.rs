//! The script: what the fake provider does, rule by rule and call by call.
//!
//! `conf/mock-example.toml` shows every key. JSON says the same with the same names. Whatever is out of range
//! is refused while reading, so that the message can name the line.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::answers;

/// The most bytes that one generated answer may have.
const TEXT_BYTES_MAX: u64 = 64 << 20;
/// The most pieces that one block of an answer is cut into.
const CHUNKS_MAX: u64 = 100_000;

/// What to do with every call: the first rule that matches decides, `default` where none does.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Calls with problems (see `GET /_calls`) are answered 400.
    pub strict: bool,
    /// Calls are recorded. Without, the checks are skipped too.
    pub calls: bool,
    /// Body fields that are no problem, at any depth, although the protocol doesn't know them.
    pub allow: Vec<String>,
    /// The ids that `GET /v1/models` lists.
    pub models: Vec<String>,
    /// What is done where no rule matches.
    pub default: Behaviour,
    #[serde(rename = "rule", alias = "rules")]
    pub rules: Vec<Rule>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            strict: false,
            calls: true,
            allow: Vec::new(),
            models: vec!["mock-small".to_owned(), "mock-large".to_owned()],
            default: Behaviour::default(),
            rules: Vec::new(),
        }
    }
}

/// Calls that look alike, and what is done with them in turn. All that is given must match.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Told in `GET /_calls`; the rule's number, counted from 0, where there is none.
    pub name: Option<String>,
    /// A part of the path.
    pub path: Option<String>,
    /// The whole model; `*` stands for anything, `?` for one character.
    pub model: Option<String>,
    /// `{name, value}` or a list of them.
    #[serde(deserialize_with = "one_or_many")]
    pub header: Vec<HeaderMatch>,
    /// A part of the body, byte for byte.
    pub body_contains: Option<String>,
    /// Used call by call; the last one repeats. None: the script's `default`.
    #[serde(alias = "step")]
    pub steps: Vec<Behaviour>,
    /// After the last step comes the first again.
    pub cycle: bool,
}

/// A header that must be there. `value` is a part of what it must hold; none matches any.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    pub name: String,
    #[serde(default)]
    pub value: String,
}

/// One answer. Everything is optional; nothing given is a plain success.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// How many calls this step serves (1).
    #[serde(deserialize_with = "repeat")]
    pub repeat: Option<u64>,

    // The head.
    #[serde(deserialize_with = "status")]
    pub status: Option<u16>,
    pub headers: Headers,
    pub delay_head: Option<Wait>,
    /// Never answers, holds the connection.
    pub stall_head: bool,
    /// Reads the request, then closes the connection.
    pub close_before_head: bool,

    // What is said.
    /// Sent as it is, in place of everything below.
    pub body: Option<Raw>,
    /// The parts of a default error body.
    pub error: Option<ErrorParts>,
    /// The model that the answer names, in place of the one asked for.
    pub model: Option<String>,
    pub text: Option<String>,
    /// Generated text of that many bytes.
    #[serde(deserialize_with = "text_bytes")]
    pub text_bytes: Option<u64>,
    pub tools: Vec<ToolCall>,
    pub thinking: Option<String>,
    pub signature: Option<String>,
    pub redacted_thinking: Option<String>,
    pub refusal: Option<String>,
    pub finish: Option<String>,
    pub stop_sequence: Option<String>,
    pub usage: UsageSaid,
    /// OpenAI: the usage chunk comes with `stream_options.include_usage` alone (true).
    pub usage_only_if_asked: Option<bool>,

    // How it is sent.
    /// The pieces that every block of a stream is cut into (4).
    #[serde(deserialize_with = "chunks")]
    pub chunks: Option<u64>,
    pub delay_first_chunk: Option<Wait>,
    /// Before every piece but the first; `"0ms"` gives each piece a write of its own.
    pub chunk_gap: Option<Wait>,
    pub split: Option<Split>,
    /// A whole answer without `content-length`.
    pub chunked: bool,
    pub ping_every: Option<Wait>,
    /// A comment line before every event.
    pub comments: bool,
    /// Lines end in CRLF.
    pub crlf: bool,

    // How it goes wrong.
    pub cut_after: Option<u64>,
    pub cut_body: Option<u64>,
    pub cut: Cut,
    pub end_after: Option<u64>,
    pub stall_after: Option<u64>,
    pub garbage: bool,
    pub garbage_at: Option<u64>,
    pub error_event: Option<ErrorEvent>,
    pub empty_stream: bool,
    pub omit_done: bool,

    /// Answers rendered before, for calls that can't differ.
    #[serde(skip)]
    pub(super) rendered: answers::Prebuilt,
}

/// How a connection is dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// HTTP/1.1: closed without the end of the body; HTTP/2: the stream is reset.
    #[default]
    Close,
    /// The TCP connection is reset, with everything on it.
    Reset,
}

/// The parts of an error that the protocol's default would choose by the status.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorParts {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub message: Option<String>,
    pub code: Option<String>,
    pub param: Option<String>,
}

/// An error inside a stream whose status was 200.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorEvent {
    /// How many content chunks come before it. 0 is the first event of all, unless `after_start`.
    pub at: u64,
    /// With `at = 0`: after the events that open the stream (OpenAI's role, Anthropic's `message_start`).
    pub after_start: bool,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub message: Option<String>,
    pub code: Option<String>,
}

/// A tool call of the answer.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    pub name: String,
    #[serde(default)]
    pub id: Option<String>,
    /// JSON; a string is taken as it is, so that it may be broken.
    #[serde(default)]
    pub arguments: Arguments,
}

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

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HeaderMatch>, D::Error> {
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

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    within(deserializer, 200, 599, "a final HTTP status, 200 to 599")
        .map(|value| value.map(|value| value as u16))
}

fn repeat<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    within(deserializer, 1, 1 << 40, "a number of calls from 1")
}

fn chunks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    within(
        deserializer,
        1,
        CHUNKS_MAX,
        "a number of chunks, 1 to 100000",
    )
}

fn text_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
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

/// Why a script can't be used: where, which key, what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScriptError {}

impl Script {
    /// Reads a script from a file; JSON where the name ends in `.json`, TOML otherwise.
    pub fn load(file: &std::path::Path) -> Result<Self, ScriptError> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| ScriptError(format!("{name}: {error}")))?;
        let read = if file.extension().is_some_and(|ending| ending == "json") {
            Self::from_json(&text)
        } else {
            Self::from_toml(&text)
        };
        read.map_err(|error| ScriptError(format!("{name}: {error}")))
    }

    pub fn from_toml(text: &str) -> Result<Self, ScriptError> {
        let script: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line_start = text
                .get(..at)
                .and_then(|head| head.rfind('\n'))
                .map_or(0, |newline| newline + 1);
            // `key = value`: the last `=` of the line before the fault, or of the line itself.
            let key = text
                .get(line_start..at)
                .filter(|head| head.contains('='))
                .and_then(|head| {
                    let head = &head[..head.rfind('=')?];
                    Some(
                        head.trim_end()
                            .rsplit([' ', '\t', '{', ',', '[', '.'])
                            .next()?
                            .trim_matches(['"', '\'']),
                    )
                });
            placed(text, at, key, error.message())
        })?;
        script.check()?;
        Ok(script)
    }

    pub fn from_json(text: &str) -> Result<Self, ScriptError> {
        let script: Self = serde_json::from_str(text).map_err(|error| {
            let line_start: usize = text
                .split_inclusive('\n')
                .take(error.line().saturating_sub(1))
                .map(str::len)
                .sum();
            let at = (line_start + error.column()).min(text.len());
            let mut message = error.to_string();
            if let Some(place) = message.rfind(" at line ") {
                message.truncate(place);
            }
            // The last `"key":` before the fault.
            let key = text.get(..at).and_then(|head| {
                let head = head[..head.rfind(':')?].trim_end().strip_suffix('"')?;
                head.rsplit('"').next()
            });
            placed(text, line_start, key, &message)
        })?;
        script.check()?;
        Ok(script)
    }

    /// Returns the script as JSON, without what was not given.
    pub fn to_json(&self) -> String {
        let text =
            serde_json::to_string(self).expect("a script has no maps with keys other than text");
        let mut value: serde_json::Value =
            serde_json::from_str(&text).expect("written a line above");
        strip_nulls(&mut value);
        value.to_string()
    }

    /// Finds what contradicts itself; a single value was checked while it was read.
    fn check(&self) -> Result<(), ScriptError> {
        let steps = self
            .rules
            .iter()
            .enumerate()
            .flat_map(|(rule, it)| {
                it.steps
                    .iter()
                    .enumerate()
                    .map(move |(step, it)| (format!("rule {rule}, step {step}"), it))
            })
            .chain([("default".to_owned(), &self.default)]);
        for (place, step) in steps {
            let endings = [
                ("cut_after", step.cut_after.is_some()),
                ("cut_body", step.cut_body.is_some()),
                ("end_after", step.end_after.is_some()),
                ("stall_after", step.stall_after.is_some()),
                ("error_event", step.error_event.is_some()),
            ];
            let given: Vec<&str> = endings
                .iter()
                .filter(|(_, given)| *given)
                .map(|(name, _)| *name)
                .collect();
            if let [first, second, ..] = given[..] {
                return Err(ScriptError(format!(
                    "{place}: `{first}` and `{second}` can't both end the answer"
                )));
            }
            if step.text.is_some() && step.text_bytes.is_some() {
                return Err(ScriptError(format!(
                    "{place}: `text` and `text_bytes` say the same thing twice"
                )));
            }
        }
        Ok(())
    }
}

fn placed(text: &str, at: usize, key: Option<&str>, message: &str) -> ScriptError {
    let line = 1 + text
        .as_bytes()
        .iter()
        .take(at)
        .filter(|byte| **byte == b'\n')
        .count();
    let key = key.filter(|key| !key.is_empty() && !message.contains(&format!("`{key}`")));
    ScriptError(match key {
        Some(key) => format!("line {line}: `{key}`: {message}"),
        None => format!("line {line}: {message}"),
    })
}

fn strip_nulls(value: &mut serde_json::Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(strip_nulls);
    } else if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(strip_nulls);
    }
}

/// A script at work: with the count of calls that each rule has served.
#[derive(Debug)]
pub(super) struct Running {
    pub script: Script,
    served: Vec<AtomicU64>,
}

/// What of a call decides which rule serves it.
pub(super) struct Sight<'a> {
    pub path: &'a str,
    pub model: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

impl Running {
    pub fn new(script: Script) -> Self {
        let served = script.rules.iter().map(|_| AtomicU64::new(0)).collect();
        Self { script, served }
    }

    /// Returns the behaviour for this call, and the rule's number. `by_path` asks rules that name a path alone.
    pub fn pick(&self, call: &Sight<'_>, by_path: bool) -> Option<(&Behaviour, usize)> {
        let (number, rule) = self
            .script
            .rules
            .iter()
            .enumerate()
            .find(|(_, rule)| (!by_path || rule.path.is_some()) && rule.matches(call))?;
        let turn = self.served[number].fetch_add(1, Ordering::Relaxed);
        Some((rule.step(turn).unwrap_or(&self.script.default), number))
    }

    /// Returns what `GET /_calls` calls a rule.
    pub fn name(&self, rule: usize) -> String {
        let name = self
            .script
            .rules
            .get(rule)
            .and_then(|rule| rule.name.clone());
        name.unwrap_or_else(|| rule.to_string())
    }
}

impl Rule {
    fn matches(&self, call: &Sight<'_>) -> bool {
        self.path
            .as_ref()
            .is_none_or(|part| call.path.contains(part.as_str()))
            && self
                .model
                .as_ref()
                .is_none_or(|glob| glob_matches(glob, call.model))
            && self.header.iter().all(|wanted| {
                call.headers
                    .get_all(wanted.name.as_str())
                    .iter()
                    .any(|value| {
                        wanted.value.is_empty()
                            || memchr::memmem::find(value.as_bytes(), wanted.value.as_bytes())
                                .is_some()
                    })
            })
            && self
                .body_contains
                .as_ref()
                .is_none_or(|part| memchr::memmem::find(call.body, part.as_bytes()).is_some())
    }

    fn step(&self, turn: u64) -> Option<&Behaviour> {
        let all: u64 = self.steps.iter().map(|step| step.repeat.unwrap_or(1)).sum();
        let mut turn = if self.cycle && all > 0 {
            turn % all
        } else {
            turn
        };
        for step in &self.steps {
            let repeat = step.repeat.unwrap_or(1);
            if turn < repeat {
                return Some(step);
            }
            turn -= repeat;
        }
        self.steps.last()
    }
}

/// Compares with `*` for any run and `?` for one byte; linear but for the last star's retries.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t, mut retry) = (0, 0, None);
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                retry = Some((g + 1, t));
                g += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match retry {
                Some((after_star, from)) => {
                    retry = Some((after_star, from + 1));
                    g = after_star;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (glob, text, expected) in [
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "xgpt-4o", false),
            ("*", "", true),
            ("gpt-?", "gpt-4", true),
            ("gpt-?", "gpt-", false),
            ("*mini*", "gpt-4o-mini-2024", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} against {text}");
        }
    }

    #[test]
    fn steps_come_in_turn_and_the_last_repeats() {
        let script =
            Script::from_toml("[[rule]]\nsteps = [{status = 500, repeat = 2}, {status = 429}, {}]")
                .unwrap();
        let seen: Vec<_> = (0..6)
            .map(|turn| script.rules[0].step(turn).unwrap().status)
            .collect();
        assert_eq!(seen, [Some(500), Some(500), Some(429), None, None, None]);
    }

    #[test]
    fn a_cycle_starts_again() {
        let script =
            Script::from_toml("[[rule]]\ncycle = true\nsteps = [{status = 500}, {}]").unwrap();
        let seen: Vec<_> = (0..4)
            .map(|turn| script.rules[0].step(turn).unwrap().status)
            .collect();
        assert_eq!(seen, [Some(500), None, Some(500), None]);
    }

    #[test]
    fn mistakes_name_the_line_and_the_key() {
        for (text, line, key) in [
            (
                "strict = true\n[[rule]]\nsteps = [{statsu = 500}]\n",
                "line 3",
                "`statsu`",
            ),
            (
                "strict = true\n\n[default]\ndelay_head = \"50 parsecs\"\n",
                "line 4",
                "`delay_head`",
            ),
            ("[default]\nstatus = 99\n", "line 2", "`status`"),
            ("[default]\nsplit = 0\n", "line 2", "`split`"),
            (
                "[default]\nheaders = {\"a b\" = \"c\"}\n",
                "line 2",
                "`a b`",
            ),
            ("[default]\nusage = {prompt = 1}\n", "line 2", "`prompt`"),
            (
                "[[rule]]\n[[rule.steps]]\ncut = \"gently\"\n",
                "line 3",
                "`gently`",
            ),
        ] {
            let error = Script::from_toml(text).unwrap_err().to_string();
            assert!(
                error.contains(line) && error.contains(key),
                "{text:?} gave {error:?}"
            );
        }
        for (text, line, key) in [
            (
                "{\"strict\": true,\n \"rule\": [{\"steps\": [\n{\"statsu\": 500}]}]}",
                "line 3",
                "`statsu`",
            ),
            (
                "{\"default\":\n{\"delay_head\": \"50 parsecs\"}}",
                "line 2",
                "`delay_head`",
            ),
            ("{\"default\":\n{\"chunks\": 0}}", "line 2", "`chunks`"),
            (
                "{\"default\":\n{\"chunks\": \"many\"}}",
                "line 2",
                "`chunks`",
            ),
        ] {
            let error = Script::from_json(text).unwrap_err().to_string();
            assert!(
                error.contains(line) && error.contains(key),
                "{text:?} gave {error:?}"
            );
        }
    }

    #[test]
    fn two_endings_contradict_each_other() {
        let error = Script::from_toml("[[rule]]\nsteps = [{}, {cut_after = 1, stall_after = 2}]")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "rule 0, step 1: `cut_after` and `stall_after` can't both end the answer"
        );
    }

    #[test]
    fn a_script_reads_back_what_it_writes() {
        let script = Script::from_toml(
            "[[rule]]\nmodel = \"a*\"\nheader = {name = \"x\", value = \"y\"}\n\
             steps = [{status = 429, headers = {retry-after = 2, a = [\"b\", \"c\"]}, chunk_gap = \"1.5ms\",\
             tools = [{name = \"t\", arguments = {a = 1}}], usage = {input_tokens = 3}, split = \"bytes\"}]",
        )
        .unwrap();
        let again = Script::from_json(&script.to_json()).unwrap();
        assert_eq!(script.to_json(), again.to_json());
        assert_eq!(
            again.rules[0].steps[0].chunk_gap,
            Some(Wait(Duration::from_micros(1500)))
        );
        assert_eq!(
            again.rules[0].steps[0]
                .headers
                .0
                .get_all("a")
                .iter()
                .count(),
            2
        );
    }
}
