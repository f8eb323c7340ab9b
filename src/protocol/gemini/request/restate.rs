//! What a request of this family says in its own words alone, said in words that other protocols know, before they
//! are asked to say it.

use serde_json::value::RawValue;

use super::super::schema;
use super::tools::Calling;
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::chat::{Format, Request, Str, Tool, ToolChoice};
use crate::protocol::text::Reader;

/// What has to change; borrowed by the request that says it.
#[derive(Debug, Default)]
pub struct Restated {
    /// By tool, where its schema was in OpenAPI's words.
    tools: Vec<Option<Box<RawValue>>>,
    format: Option<Box<RawValue>>,
    /// The functions that may be called, where not all may.
    allowed: Option<Vec<String>>,
    /// One of them must be called.
    required: bool,
}

/// Returns what has to change in `request` for another family's encoder; nothing where all can stay.
///
/// Errors: `Unsupported` for what no other family can say and nobody may leave out.
pub fn restate(request: &Request<'_>) -> Result<Option<Restated>> {
    if request.family != Protocol::Gemini {
        return Ok(None);
    }
    for (name, raw) in &request.extra {
        refuse(name, raw)?;
    }
    let mut restated = Restated::default();
    let mut changes = false;
    for tool in &request.tools {
        let schema = match tool {
            Tool::Function { schema, .. } => schema.and_then(standard),
            Tool::Opaque { .. } => None,
        };
        changes |= schema.is_some();
        restated.tools.push(schema);
    }
    if let Some(Format::JsonSchema { schema, .. }) = &request.format {
        restated.format = standard(schema);
        changes |= restated.format.is_some();
    }
    if let Some(ToolChoice::Opaque {
        family: Protocol::Gemini,
        raw,
    }) = &request.tool_choice
    {
        let calling = Calling::read(&mut Reader::of(raw.get()))?;
        restated.required = calling.mode.as_deref() == Some("ANY");
        restated.allowed = Some(calling.allowed.into_iter().map(Str::into_owned).collect());
        changes = true;
    }
    Ok(changes.then_some(restated))
}

fn standard(raw: &RawValue) -> Option<Box<RawValue>> {
    schema::is_openapi(raw)
        .then(|| schema::standard(raw))
        .flatten()
}

fn refuse(name: &str, raw: &RawValue) -> Result<()> {
    let what = match name {
        "cachedContent" => "Content that is cached at Google can't be shown to another provider",
        "generationConfig.responseMimeType" => {
            "An answer of this type can't be asked of another provider"
        }
        "generationConfig.responseModalities" if !is_text(raw) => {
            "Images and speech can't be asked of another provider in this way"
        }
        _ => return Ok(()),
    };
    Err(Error::unsupported(name.to_owned(), what))
}

fn is_text(modalities: &RawValue) -> bool {
    Reader::of(modalities.get())
        .list(Reader::string)
        .is_ok_and(|list| list.iter().all(|word| word.eq_ignore_ascii_case("text")))
}

impl Restated {
    /// Returns the request in words that others know.
    pub fn of<'r>(&'r self, request: &Request<'r>) -> Request<'r> {
        let mut request = request.clone();
        for (tool, restated) in request.tools.iter_mut().zip(&self.tools) {
            if let (Tool::Function { schema, .. }, Some(own)) = (tool, restated) {
                *schema = Some(own);
            }
        }
        if let (Some(Format::JsonSchema { schema, .. }), Some(own)) =
            (&mut request.format, &self.format)
        {
            *schema = own;
        }
        if let Some(allowed) = &self.allowed {
            if !allowed.is_empty() {
                request.tools.retain(|tool| match tool {
                    Tool::Function { name, .. } => allowed.iter().any(|one| one == name),
                    Tool::Opaque { .. } => true,
                });
            }
            request.tool_choice = Some(if self.required {
                ToolChoice::Required
            } else {
                ToolChoice::Auto
            });
        }
        request
    }
}
