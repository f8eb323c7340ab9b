//! What a request of this family says in its own words alone, said in words that other protocols know, before they
//! are asked to say it.
//!
//! Functions in a namespace and tools of plain text become functions (see [`names`]), their calls too. Tools that
//! the provider runs are left out where the model has others to do the work with: agents list them in every
//! request, whether they are used or not.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::items;
use super::tools;
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::chat::{Message, Part, Request, Str, Tool, ToolChoice};
use crate::protocol::openai_responses::names;
use crate::protocol::text::Reader;

/// Tools whose absence an agent with tools of its own does not feel.
const SPARED: [&str; 4] = [
    "web_search",
    "web_search_preview",
    "tool_search",
    "image_generation",
];

/// The arguments of a function that stands for a tool of plain text.
const PLAIN: &str = r#"{"type":"object","properties":{"input":{"type":"string","description":"The whole input of the tool, as plain text."}},"required":["input"],"additionalProperties":false}"#;

/// What has to change.
#[derive(Debug)]
pub struct Restated {
    plain: Box<RawValue>,
    /// What is left out, by name.
    pub dropped: Vec<String>,
}

/// Returns what has to change in `request` for another family's encoder; nothing where all can stay.
///
/// Errors: `Unsupported` for what no other family can say and nobody may leave out.
pub fn restate(request: &Request<'_>) -> Result<Option<Restated>> {
    if request.family != Protocol::OpenaiResponses {
        return Ok(None);
    }
    for (name, raw) in &request.extra {
        refuse(name, raw)?;
    }
    let tools = request
        .tools
        .iter()
        .any(|tool| matches!(tool, Tool::Opaque { .. }));
    let choice = matches!(request.tool_choice, Some(ToolChoice::Opaque { .. }));
    let parts = request
        .messages
        .iter()
        .any(|message| message.parts.iter().any(is_own));
    if !tools && !choice && !parts {
        return Ok(None);
    }
    let plain = RawValue::from_string(PLAIN.to_owned()).expect("the schema is JSON");
    let mut restated = Restated {
        plain,
        dropped: Vec::new(),
    };
    // Whoever chooses a tool by name or kind means it.
    let forced = match &request.tool_choice {
        Some(ToolChoice::Opaque { raw, .. }) => {
            kind(raw).is_none_or(|kind| SPARED.contains(&&*kind))
        }
        Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Required | ToolChoice::Named(_))
        | None => false,
    };
    let dropped = {
        let all = restated.tools(request);
        let works = all.iter().any(|tool| matches!(tool, Tool::Function { .. }));
        let spared = all.iter().filter_map(spared).map(Cow::into_owned);
        spared.filter(|_| works && !forced).collect()
    };
    restated.dropped = dropped;
    Ok(Some(restated))
}

/// Refuses what makes an answer another one when it is left out.
fn refuse(name: &str, raw: &RawValue) -> Result<()> {
    let what = match name {
        "background" if raw.get() == "true" => "runs nothing in the background",
        "previous_response_id" => "doesn't know the response that this one goes on from",
        "conversation" => "keeps no conversations: send all of it",
        "prompt" => "has no prompt templates: send the instructions themselves",
        _ => return Ok(()),
    };
    let message = format!("The provider of the model {what}");
    Err(Error::unsupported(name.to_owned(), message))
}

/// Returns the kind of a tool that may be left out.
fn spared<'r>(tool: &Tool<'r>) -> Option<Str<'r>> {
    match tool {
        Tool::Opaque {
            family: Protocol::OpenaiResponses,
            raw,
            ..
        } => kind(raw)
            .filter(|kind| SPARED.contains(&&**kind) || kind.starts_with("web_search_preview_")),
        Tool::Opaque { .. } | Tool::Function { .. } => None,
    }
}

fn kind(raw: &RawValue) -> Option<Str<'_>> {
    Reader::of(raw.get()).tag("type")
}

/// Returns whether `part` is an item that only this family understands.
fn is_own(part: &Part<'_>) -> bool {
    matches!(
        part,
        Part::Opaque {
            family: Protocol::OpenaiResponses,
            ..
        }
    )
}

impl Restated {
    /// Returns the request in words that others know.
    pub fn of<'r>(&'r self, request: &Request<'r>) -> Request<'r> {
        let mut request = request.clone();
        let mut tools = self.tools(&request);
        if !self.dropped.is_empty() {
            tools.retain(|tool| spared(tool).is_none());
        }
        self.choose(&mut request, &mut tools);
        request.tools = tools;
        for message in &mut request.messages {
            self.turn(message);
        }
        request.messages.retain(|message| !message.parts.is_empty());
        request
    }

    /// Returns the tools, those that the conversation brought included.
    fn tools<'r>(&'r self, request: &Request<'r>) -> Vec<Tool<'r>> {
        let mut tools = Vec::with_capacity(request.tools.len());
        for tool in &request.tools {
            self.tool(tool.clone(), None, &mut tools);
        }
        let mut brought = Vec::new();
        for part in request.messages.iter().flat_map(|one| &one.parts) {
            if let Part::Opaque {
                family: Protocol::OpenaiResponses,
                raw,
            } = part
                && matches!(
                    kind(raw).as_deref(),
                    Some("additional_tools" | "tool_search_output")
                )
            {
                for tool in listed(raw) {
                    self.tool(tool, None, &mut brought);
                }
            }
        }
        if brought.is_empty() {
            return tools;
        }
        let mut known: HashSet<Str<'r>> = tools.iter().filter_map(function).cloned().collect();
        brought.retain(|tool| function(tool).is_some_and(|name| known.insert(name.clone())));
        tools.append(&mut brought);
        tools
    }

    fn tool<'r>(&'r self, tool: Tool<'r>, namespace: Option<&str>, tools: &mut Vec<Tool<'r>>) {
        let Tool::Opaque {
            family: Protocol::OpenaiResponses,
            raw,
            ..
        } = tool
        else {
            tools.push(match (tool, namespace) {
                (
                    Tool::Function {
                        name,
                        description,
                        schema,
                        strict,
                        cache,
                    },
                    Some(_),
                ) => Tool::Function {
                    name: names::flat(namespace, name),
                    description,
                    schema,
                    strict,
                    cache,
                },
                (tool, _) => tool,
            });
            return;
        };
        match kind(raw).as_deref() {
            Some("namespace") if namespace.is_none() => {
                let space = Reader::of(raw.get()).tag("name");
                let listed = listed(raw);
                for inner in listed {
                    self.tool(inner, space.as_deref(), tools);
                }
            }
            Some("custom") => match self.custom(raw, namespace) {
                Some(function) => tools.push(function),
                None => tools.push(tool),
            },
            Some(_) | None => tools.push(tool),
        }
    }

    /// Returns the function that stands for a tool of plain text.
    fn custom<'r>(&'r self, raw: &'r RawValue, namespace: Option<&str>) -> Option<Tool<'r>> {
        let (mut name, mut about, mut grammar) = (None, None, None);
        Reader::of(raw.get())
            .object(|r, key| {
                match (&*key, r.peek()) {
                    ("name", b'"') => name = Some(r.string()?),
                    ("description", b'"') => about = Some(r.string()?),
                    ("format", b'{') => r.object(|r, key| {
                        match (&*key, r.peek()) {
                            ("definition", b'"') => grammar = Some(r.string()?),
                            _ => drop(r.raw()?),
                        }
                        Ok(())
                    })?,
                    _ => drop(r.raw()?),
                }
                Ok(())
            })
            .ok()?;
        let description = match (about, grammar) {
            (about, Some(grammar)) => Some(Cow::Owned(format!(
                "{}\n\nThe input must match this grammar:\n{grammar}",
                about.unwrap_or_default()
            ))),
            (about, None) => about,
        };
        Some(Tool::Function {
            name: names::flat(namespace, name?),
            description,
            schema: Some(&self.plain),
            strict: None,
            cache: None,
        })
    }

    /// Says a choice among some tools by leaving the others out.
    fn choose<'r>(&'r self, request: &mut Request<'r>, tools: &mut Vec<Tool<'r>>) {
        let Some(ToolChoice::Opaque {
            family: Protocol::OpenaiResponses,
            raw,
        }) = request.tool_choice
        else {
            return;
        };
        match kind(raw).as_deref() {
            Some("custom") => {
                if let Some(name) = Reader::of(raw.get()).tag("name") {
                    request.tool_choice = Some(ToolChoice::Named(name));
                }
            }
            Some("allowed_tools") => {
                let mut allowed = HashSet::new();
                let required = Reader::of(raw.get()).tag("mode").as_deref() == Some("required");
                // What can't be read allows nothing.
                let _ = Reader::of(raw.get()).object(|r, key| match (&*key, r.peek()) {
                    ("tools", b'[') => r.array(|r| {
                        allowed.extend(r.tag("name"));
                        r.raw().map(drop)
                    }),
                    _ => r.raw().map(drop),
                });
                tools.retain(|tool| match tool {
                    Tool::Function { name, .. } => allowed.contains(name),
                    Tool::Opaque { .. } => true,
                });
                request.tool_choice = Some(if required {
                    ToolChoice::Required
                } else {
                    ToolChoice::Auto
                });
            }
            Some(_) | None => {}
        }
    }

    /// Says calls of tools of plain text, and their results, as those of functions.
    fn turn(&self, message: &mut Message<'_>) {
        message.parts.retain_mut(|part| {
            let Part::Opaque {
                family: Protocol::OpenaiResponses,
                raw,
            } = part
            else {
                return true;
            };
            let said = match kind(raw).as_deref() {
                Some("custom_tool_call") => custom_call(raw),
                Some("custom_tool_call_output") => items::output(&mut Reader::of(raw.get())).ok(),
                // They are among the tools.
                Some("additional_tools" | "tool_search_output" | "tool_search_call") => {
                    return false;
                }
                Some(_) | None => None,
            };
            if let Some(said) = said {
                *part = said;
            }
            true
        });
    }
}

/// Returns the name of a function.
fn function<'t, 'r>(tool: &'t Tool<'r>) -> Option<&'t Str<'r>> {
    match tool {
        Tool::Function { name, .. } => Some(name),
        Tool::Opaque { .. } => None,
    }
}

/// Returns the tools that an object lists; what can't be read lists none.
fn listed(raw: &RawValue) -> Vec<Tool<'_>> {
    let mut found = Vec::new();
    let _ = Reader::of(raw.get()).object(|r, key| match (&*key, r.peek()) {
        ("tools", b'[') => r.array(|r| {
            found.push(tools::tool(r)?);
            Ok(())
        }),
        _ => r.raw().map(drop),
    });
    found
}

fn custom_call(raw: &RawValue) -> Option<Part<'_>> {
    let (mut id, mut name, mut namespace, mut input) = (None, None, None, None);
    Reader::of(raw.get())
        .object(|r, key| {
            match (&*key, r.peek()) {
                ("call_id", b'"') => id = Some(r.string()?),
                ("name", b'"') => name = Some(r.string()?),
                ("namespace", b'"') => namespace = Some(r.string()?),
                ("input", b'"') => input = Some(r.string()?),
                _ => drop(r.raw()?),
            }
            Ok(())
        })
        .ok()?;
    Some(Part::ToolCall {
        id: id?,
        name: names::flat(namespace.as_deref(), name?),
        arguments: names::wrap(&input.unwrap_or_default()).into(),
        cache: None,
    })
}
