//! The script: what the fake provider does, rule by rule and call by call.
//!
//! `conf/mock-example.toml` shows every key. JSON says the same with the same names. Whatever is out of range
//! is refused while reading, so that the message can name the line.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::answers;
use super::values::{
    Arguments, Headers, Raw, Split, UsageSaid, Wait, chunks, one_or_many, repeat, status,
    text_bytes,
};

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
    /// 200 to 599; from 300 on, the body is an error.
    #[serde(deserialize_with = "status")]
    pub status: Option<u16>,
    /// They replace the default ones of the same name; a list sends a name several times.
    pub headers: Headers,
    /// Before the head of the answer.
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
    /// The content. Without it, the last user text comes back, or what the request forces: a tool call, or JSON
    /// that fits the wanted schema.
    pub text: Option<String>,
    /// Generated text of that many bytes.
    #[serde(deserialize_with = "text_bytes")]
    pub text_bytes: Option<u64>,
    /// Several are parallel calls.
    pub tools: Vec<ToolCall>,
    /// The reasoning, where and how the protocol tells it (OpenAI chat: `reasoning_content`).
    pub thinking: Option<String>,
    /// What the reasoning is signed with: Anthropic's and Bedrock's `signature`, Gemini's `thoughtSignature`, the
    /// `encrypted_content` of responses.
    pub signature: Option<String>,
    /// Reasoning that can't be read: Anthropic, Bedrock, and responses.
    pub redacted_thinking: Option<String>,
    /// OpenAI: `refusal`; the others: a text, and the reason for a filtered end (Anthropic: `refusal`).
    pub refusal: Option<String>,
    /// Why it ended, in the words of any protocol; an unknown word is written as it is.
    pub finish: Option<String>,
    /// The stop sequence that ended it.
    pub stop_sequence: Option<String>,
    /// What is told of the tokens: `true`, `false`, or numbers.
    pub usage: UsageSaid,
    /// OpenAI: the usage chunk comes with `stream_options.include_usage` alone (true).
    pub usage_only_if_asked: Option<bool>,

    // How it is sent.
    /// The pieces that every block of a stream is cut into (4).
    #[serde(deserialize_with = "chunks")]
    pub chunks: Option<u64>,
    /// Before the first content chunk, or before the body of an answer that is not streamed.
    pub delay_first_chunk: Option<Wait>,
    /// Before every piece but the first; `"0ms"` gives each piece a write of its own.
    pub chunk_gap: Option<Wait>,
    /// Writes the body in pieces of `"bytes"` (1) or N bytes, whatever its frames.
    pub split: Option<Split>,
    /// A whole answer without `content-length`.
    pub chunked: bool,
    /// Sends a ping whenever nothing was sent for so long (streams of events that are not split).
    pub ping_every: Option<Wait>,
    /// A comment line before every event.
    pub comments: bool,
    /// Lines end in CRLF.
    pub crlf: bool,

    // How it goes wrong.
    /// Drops the connection after N content chunks; not streamed, after half of the body.
    pub cut_after: Option<u64>,
    /// Drops the connection after N bytes of the body.
    pub cut_body: Option<u64>,
    /// How it is dropped.
    pub cut: Cut,
    /// Ends the body in good order after N content chunks, without finish and end.
    pub end_after: Option<u64>,
    /// Sends nothing after N content chunks, and holds the connection.
    pub stall_after: Option<u64>,
    /// Sends neither JSON nor events.
    pub garbage: bool,
    /// Puts one broken event after N content chunks.
    pub garbage_at: Option<u64>,
    /// Puts an error inside a 200; not streamed, it is the body.
    pub error_event: Option<ErrorEvent>,
    /// Sends no event at all; not streamed, an empty body.
    pub empty_stream: bool,
    /// No `[DONE]`, no `message_stop`, or whatever else ends a stream of the protocol's.
    pub omit_done: bool,

    /// Answers rendered before, for calls that can't differ; start with the default.
    // Public, because `..Behaviour::default()` is refused outside this module otherwise.
    #[serde(skip)]
    #[doc(hidden)]
    pub rendered: answers::Prebuilt,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
