//! Every optional parameter of the four client dialects, to every protocol: passed, mapped, dropped with a note, or
//! refused with its name. None is lost in silence, and none is an error of ours.
//!
//! A parameter is found again when the request with it is said otherwise than the request without it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "params/anthropic.rs"]
mod anthropic;
#[path = "params/chat.rs"]
mod chat;
#[path = "params/gemini.rs"]
mod gemini;
#[path = "params/responses.rs"]
mod responses;

use std::fmt::Write as _;

use serde_json::{Value, json};
use strait::error::{Error, Kind};
use strait::protocol::chat::Effort;
use strait::protocol::{Facts, Protocol, Shape, decode_request, decode_response, encode_request};

/// A parameter: where it stands (`generationConfig.topK`, `messages.0.name`), and a value other than its default.
type Param = (&'static str, Value);

/// A client's dialect: the least request and its parameters.
struct Dialect {
    protocol: Protocol,
    least: Value,
    params: Vec<Param>,
    /// What a model that completes text can be asked: no tools, no images, no earlier turns.
    plain: Value,
    /// Parameters that are also told by another name.
    aliases: &'static [(&'static str, &'static str)],
    /// Parameters of which nothing need be said: where, what the value holds, and why.
    silent: &'static [(&'static str, &'static str, &'static str)],
}

fn dialects() -> Vec<Dialect> {
    let all = [
        chat::dialect(),
        responses::dialect(),
        anthropic::dialect(),
        gemini::dialect(),
    ];
    all.into_iter()
        .filter(|dialect| spoken(dialect.protocol))
        .collect()
}

/// Whether the protocol has its translation yet.
fn spoken(protocol: Protocol) -> bool {
    decode_response(protocol, b"{}", &Shape::default())
        .err()
        .is_none_or(|error| !error.message.contains("not spoken"))
}

/// Models that can do everything, nothing, and think as they like; with the names that make a difference.
fn models() -> [(&'static str, Facts); 6] {
    let able = Facts {
        max_output: Some(64_000),
        json_schema: Some(true),
        no_sampling: false,
        reasoning: true,
        reasoning_off: Some(Effort::Minimal),
        adaptive_thinking: false,
        developer_role: true,
        max_completion_tokens: true,
    };
    let adaptive = Facts {
        adaptive_thinking: true,
        no_sampling: true,
        ..able.clone()
    };
    [
        ("target-model", Facts::default()),
        ("gemini-2.5-flash", able.clone()),
        ("gemini-3-pro-preview", able.clone()),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", able.clone()),
        ("us.amazon.nova-2-lite-v1:0", able),
        ("anthropic.claude-sonnet-4-6", adaptive),
    ]
}

/// Puts a value where a path says.
fn put(body: &mut Value, path: &str, value: Value) {
    let mut place = body;
    for step in path.split('.') {
        place = match step.parse::<usize>() {
            Ok(index) => {
                if place.is_null() {
                    *place = json!([]);
                }
                let list = place.as_array_mut().unwrap();
                while list.len() <= index {
                    list.push(Value::Null);
                }
                &mut list[index]
            }
            Err(_) => &mut place[step],
        };
    }
    *place = value;
}

impl Dialect {
    /// The request that a protocol can be asked without any of the parameters.
    fn bare(&self, to: Protocol) -> &Value {
        if to == Protocol::OpenaiCompletions {
            &self.plain
        } else {
            &self.least
        }
    }

    /// The request with a parameter; `None` where its place isn't in it.
    fn with(&self, to: Protocol, path: &str, value: &Value) -> Option<Value> {
        let mut body = self.bare(to).clone();
        let inside = path.split('.').any(|step| step.parse::<usize>().is_ok());
        if inside && to == Protocol::OpenaiCompletions {
            return None;
        }
        put(&mut body, path, value.clone());
        Some(body)
    }

    /// Whether a text names the parameter: its last step, what the value holds of an object that has no meaning of its
    /// own, or the list that it stands in.
    fn names(&self, text: &str, path: &str, value: &Value) -> bool {
        let steps: Vec<&str> = path.split('.').collect();
        let is_name = |step: &&&str| step.parse::<usize>().is_err();
        let last = steps.iter().rfind(is_name).unwrap();
        let list = steps
            .get(1)
            .is_some_and(|step| step.parse::<usize>().is_ok());
        let inner = matches!(
            *last,
            "generationConfig" | "toolConfig" | "text" | "reasoning"
        );
        text.contains(last)
            || (list && text.contains(steps[0]))
            || (inner
                && value
                    .as_object()
                    .is_some_and(|map| map.keys().any(|key| text.contains(key))))
            || self
                .aliases
                .iter()
                .any(|(known, alias)| *known == path && text.contains(alias))
    }

    /// A refusal is the client's to read, and names the field.
    fn is_refusal(&self, error: &Error, path: &str, value: &Value) -> bool {
        let param = error.param.as_deref().unwrap_or("");
        matches!(error.kind, Kind::Unsupported | Kind::InvalidRequest)
            && self.names(param, path, value)
    }

    /// Whether a note that isn't there without the parameter names it.
    fn notes(&self, notes: &[String], bare: &[String], path: &str, value: &Value) -> bool {
        let mut new = notes.iter().filter(|note| !bare.contains(note));
        new.any(|note| self.names(note, path, value))
    }

    fn is_silent(&self, path: &str, value: &Value) -> bool {
        let value = value.to_string();
        let mut silent = self.silent.iter();
        silent.any(|(known, part, _)| *known == path && value.contains(part))
    }
}

/// What becomes of a body: the request and the notes.
type Outcome = Result<(Value, Vec<String>), Error>;

fn said(from: Protocol, body: &Value, to: Protocol, model: &str, facts: &Facts) -> Outcome {
    let text = body.to_string();
    let hub = decode_request(from, text.as_bytes())?;
    let translated = encode_request(to, &hub, model, facts)?;
    let body = serde_json::from_slice(&translated.body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&translated.body)));
    Ok((body, translated.dropped))
}

#[test]
fn no_parameter_is_lost_in_silence() {
    let mut faults = String::new();
    let (mut mapped, mut dropped, mut refused) = (0, 0, 0);
    for dialect in dialects() {
        let from = dialect.protocol;
        for (path, value) in &dialect.params {
            for to in Protocol::ALL.into_iter().filter(|to| spoken(*to)) {
                let Some(body) = dialect.with(to, path, value) else {
                    continue;
                };
                for (model, facts) in models() {
                    let bare = said(from, dialect.bare(to), to, model, &facts).unwrap();
                    match said(from, &body, to, model, &facts) {
                        Ok((found, _)) if found != bare.0 => mapped += 1,
                        Ok((_, notes)) if dialect.notes(&notes, &bare.1, path, value) => {
                            dropped += 1
                        }
                        Ok(_) if dialect.is_silent(path, value) => {}
                        Err(error) if dialect.is_refusal(&error, path, value) => refused += 1,
                        Ok((_, notes)) => writeln!(
                            faults,
                            "{} to {} for {model}: {path} {value} is lost ({notes:?})",
                            from.name(),
                            to.name()
                        )
                        .unwrap(),
                        Err(error) => writeln!(
                            faults,
                            "{} to {} for {model}: {path} {value}: {error} ({:?})",
                            from.name(),
                            to.name(),
                            error.param
                        )
                        .unwrap(),
                    }
                }
            }
        }
    }
    eprintln!("{mapped} mapped, {dropped} dropped, {refused} refused");
    assert!(faults.is_empty(), "{faults}");
}

/// Values that can't be right where `value` is.
fn wrong(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(_) => vec![json!(7), json!([[1]])],
        Value::Array(_) => vec![json!(7), json!({"wrong": 1})],
        Value::String(_) => vec![json!(7), json!({"wrong": 1}), json!([[1]])],
        Value::Number(_) | Value::Bool(_) | Value::Null => {
            vec![json!("wrong"), json!({"wrong": 1}), json!([[1]])]
        }
    }
}

/// Whether two protocols are of one maker, who has the same fields in both.
fn is_own(from: Protocol, to: Protocol) -> bool {
    let openai = |protocol| matches!(protocol, Protocol::OpenaiChat | Protocol::OpenaiResponses);
    from == to || (openai(from) && openai(to))
}

#[test]
fn a_parameter_of_the_wrong_type_is_refused_by_name_or_passed_to_its_own() {
    let mut faults = String::new();
    let mut refused = 0;
    for dialect in dialects() {
        let from = dialect.protocol;
        for (path, value) in &dialect.params {
            for wrong in wrong(value) {
                for to in Protocol::ALL.into_iter().filter(|to| spoken(*to)) {
                    let Some(body) = dialect.with(to, path, &wrong) else {
                        continue;
                    };
                    let (model, facts) = &models()[3];
                    let bare = said(from, dialect.bare(to), to, model, facts).unwrap();
                    match said(from, &body, to, model, facts) {
                        Err(error) if dialect.is_refusal(&error, path, value) => refused += 1,
                        // Its own maker knows better what it takes: it is told what the client said.
                        Ok((found, _))
                            if is_own(from, to)
                                && found.to_string().contains(&wrong.to_string()) => {}
                        Ok((found, notes))
                            if found == bare.0 && dialect.notes(&notes, &bare.1, path, value) => {}
                        Ok((found, notes)) => writeln!(
                            faults,
                            "{} to {}: {path} {wrong} becomes {found} ({notes:?})",
                            from.name(),
                            to.name()
                        )
                        .unwrap(),
                        Err(error) => writeln!(
                            faults,
                            "{} to {}: {path} {wrong}: {error} ({:?})",
                            from.name(),
                            to.name(),
                            error.param
                        )
                        .unwrap(),
                    }
                }
            }
        }
    }
    eprintln!("{refused} refused");
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn a_parameter_that_is_null_is_not_there_or_refused_by_name() {
    let mut faults = String::new();
    for dialect in dialects() {
        let from = dialect.protocol;
        for (path, value) in &dialect.params {
            let mut body = dialect.least.clone();
            put(&mut body, path, Value::Null);
            let text = body.to_string();
            if let Err(error) = decode_request(from, text.as_bytes())
                && !dialect.is_refusal(&error, path, value)
            {
                writeln!(
                    faults,
                    "{}: {path}: {error} ({:?})",
                    from.name(),
                    error.param
                )
                .unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
}
