//! Tools and the choice among them, as clients write them.

use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Tool, ToolChoice};
use crate::protocol::text::Reader;

/// Reads one tool: a function, or one that this family alone understands.
pub(super) fn tool<'b>(r: &mut Reader<'b>) -> Result<Tool<'b>> {
    if r.peek() != b'{' {
        return Err(r.wrong("an object"));
    }
    let Some(kind) = r.tag("type") else {
        r.raw()?;
        return Err(r.missing("type"));
    };
    if kind != "function" {
        let name = r.tag("name").unwrap_or(kind);
        let family = Protocol::OpenaiResponses;
        let raw = r.raw_object()?;
        return Ok(Tool::Opaque { family, name, raw });
    }
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
    r.object(|r, key| {
        match &*key {
            "type" => drop(r.raw()?),
            "name" => name = Some(r.string()?),
            "description" => description = r.maybe(Reader::string)?,
            "parameters" => schema = r.maybe(Reader::raw_object)?,
            "strict" => strict = r.maybe(Reader::boolean)?,
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    Ok(Tool::Function {
        name: name.ok_or_else(|| r.missing("name"))?,
        description,
        schema,
        strict,
        cache: None,
    })
}

pub(super) fn tool_choice<'b>(r: &mut Reader<'b>) -> Result<ToolChoice<'b>> {
    const WHAT: &str = "\"none\", \"auto\", \"required\" or an object that names a tool";
    match r.peek() {
        b'"' => {
            let mark = r.mark();
            let word = r.string()?;
            Ok(match &*word {
                "auto" => ToolChoice::Auto,
                "none" => ToolChoice::None,
                "required" => ToolChoice::Required,
                _ => {
                    r.back(mark);
                    return Err(r.wrong(WHAT));
                }
            })
        }
        b'{' if r.tag("type").is_some_and(|kind| kind == "function") => {
            let mut name = None;
            r.object(|r, key| {
                match &*key {
                    "type" => drop(r.raw()?),
                    "name" => name = Some(r.string()?),
                    _ => r.stranger()?,
                }
                Ok(())
            })?;
            name.map(ToolChoice::Named).ok_or_else(|| r.missing("name"))
        }
        b'{' if r.tag("type").is_some() => {
            let family = Protocol::OpenaiResponses;
            let raw = r.raw_object()?;
            Ok(ToolChoice::Opaque { family, raw })
        }
        _ => Err(r.wrong(WHAT)),
    }
}
