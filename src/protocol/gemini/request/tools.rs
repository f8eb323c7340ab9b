//! `tools` and `toolConfig` into the hub.

use serde_json::value::RawValue;

use super::super::content;
use super::super::words::camel;
use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Str, Tool, ToolChoice};
use crate::protocol::text::Reader;

/// Reads `tools`: each may hold functions and, beside them, tools that Google runs itself.
pub(super) fn list<'b>(r: &mut Reader<'b>) -> Result<Vec<Tool<'b>>> {
    let mut tools = Vec::new();
    content::list(r, |r| {
        r.object(|r, key| {
            match &*camel(&key) {
                "functionDeclarations" => {
                    tools.extend(
                        r.maybe(|r| content::list(r, declaration))?
                            .unwrap_or_default(),
                    );
                }
                name => {
                    let raw = r.raw()?;
                    if raw.get() != "null" {
                        tools.push(Tool::Opaque {
                            family: Protocol::Gemini,
                            name: name.to_owned().into(),
                            raw,
                        });
                    }
                }
            }
            Ok(())
        })
    })?;
    Ok(tools)
}

fn declaration<'b>(r: &mut Reader<'b>) -> Result<Tool<'b>> {
    let (mut name, mut description) = (None, None);
    let mut schema: Option<&'b RawValue> = None;
    r.object(|r, key| {
        match &*camel(&key) {
            "name" => name = r.maybe(Reader::string)?,
            "description" => description = r.maybe(Reader::string)?,
            "parameters" | "parametersJsonSchema" => {
                schema = r.maybe(Reader::raw_object)?.or(schema);
            }
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Tool::Function {
        name: name.ok_or_else(|| r.missing("name"))?,
        description,
        schema,
        strict: None,
        cache: None,
    })
}

/// Reads `toolConfig`.
pub(super) fn choice<'b>(r: &mut Reader<'b>) -> Result<Option<ToolChoice<'b>>> {
    let mut choice = None;
    r.object(|r, key| {
        match &*camel(&key) {
            "functionCallingConfig" => choice = r.maybe(calling)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(choice)
}

fn calling<'b>(r: &mut Reader<'b>) -> Result<ToolChoice<'b>> {
    let mark = r.mark();
    let calling = Calling::read(r)?;
    let known = match calling.mode.as_deref() {
        Some("NONE") => Some(ToolChoice::None),
        None | Some("AUTO" | "MODE_UNSPECIFIED") if calling.allowed.is_empty() => {
            Some(ToolChoice::Auto)
        }
        Some("ANY") if calling.allowed.len() <= 1 => Some(
            calling
                .allowed
                .into_iter()
                .next()
                .map_or(ToolChoice::Required, ToolChoice::Named),
        ),
        Some(_) | None => None,
    };
    if let Some(choice) = known {
        return Ok(choice);
    }
    r.back(mark);
    Ok(ToolChoice::Opaque {
        family: Protocol::Gemini,
        raw: r.raw_object()?,
    })
}

/// Which functions may or must be called.
#[derive(Debug, Default)]
pub(super) struct Calling<'b> {
    pub mode: Option<Str<'b>>,
    pub allowed: Vec<Str<'b>>,
}

impl<'b> Calling<'b> {
    pub fn read(r: &mut Reader<'b>) -> Result<Self> {
        let mut calling = Self::default();
        r.object(|r, key| {
            match &*camel(&key) {
                "mode" => {
                    calling.mode = r
                        .maybe(Reader::string)?
                        .map(|mode| mode.to_ascii_uppercase().into());
                }
                "allowedFunctionNames" => {
                    calling.allowed = r
                        .maybe(|r| content::list(r, Reader::string))?
                        .unwrap_or_default();
                }
                _ => r.stranger()?,
            }
            Ok(())
        })?;
        Ok(calling)
    }
}
