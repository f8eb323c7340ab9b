//! `GET /v1/responses/{id}/input_items`: everything that the model was given for a response, in pages.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::codec::json::{self, Member, write_string};
use crate::codec::splice::Edits;
use crate::error::{Error, Kind, Result};
use crate::state::Chain;

use super::conversation::{member, members, output};

/// Which items to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub limit: usize,
    pub order: Order,
    /// Begin behind the item of this id.
    pub after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

impl Default for Page {
    /// As OpenAI documents it.
    fn default() -> Self {
        Self {
            limit: 20,
            order: Order::Descending,
            after: None,
        }
    }
}

/// An item where it stands.
struct Item<'c> {
    raw: &'c str,
    /// The response it belongs to, and its number there: what its id is made of where it has none.
    response: &'c str,
    number: usize,
}

/// Returns the page of the items that led to the last answer of the chain: its own input, and before it all inputs
/// and outputs of the conversation.
pub fn list(chain: &Chain, page: &Page) -> Result<Bytes> {
    let mut items = Vec::new();
    let last = chain.links.len().saturating_sub(1);
    for (at, link) in chain.links.iter().enumerate() {
        gather(&link.input, &link.id, &mut items)?;
        if at != last
            && let Some(output) = output(&link.response)
        {
            gather(output, &link.id, &mut items)?;
        }
    }
    if page.order == Order::Descending {
        items.reverse();
    }
    let first = match &page.after {
        None => 0,
        Some(after) => {
            let found = items.iter().position(|item| item.id() == **after);
            found.ok_or_else(|| {
                Error::field("after", "`after` is not the id of an item of this list.")
            })? + 1
        }
    };
    let rest = items.get(first..).unwrap_or_default();
    let shown = rest.get(..page.limit).unwrap_or(rest);
    let mut out = br#"{"object":"list","data":["#.to_vec();
    for (at, item) in shown.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&item.whole()?);
    }
    out.push(b']');
    for (name, item) in [("first_id", shown.first()), ("last_id", shown.last())] {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        match item {
            Some(item) => write_string(&item.id(), &mut out),
            None => out.extend_from_slice(b"null"),
        }
    }
    let more = rest.len() > shown.len();
    out.extend_from_slice(format!(",\"has_more\":{more}}}").as_bytes());
    Ok(out.into())
}

fn gather<'c>(array: &'c str, response: &'c str, items: &mut Vec<Item<'c>>) -> Result<()> {
    let elements: Vec<&RawValue> = serde_json::from_str(array).map_err(broken)?;
    items.extend(elements.into_iter().enumerate().map(|(number, raw)| Item {
        raw: raw.get(),
        response,
        number,
    }));
    Ok(())
}

fn broken(error: serde_json::Error) -> Error {
    Error::new(Kind::Internal, "A kept response can't be read.").with_cause(error)
}

impl Item<'_> {
    fn members(&self) -> Vec<Member> {
        members(self.raw.as_bytes()).unwrap_or_default()
    }

    fn text(&self, members: &[Member], name: &str) -> Option<Cow<'_, str>> {
        let bytes = self.raw.as_bytes();
        let (_, found) = member(bytes, members, name)?;
        json::string(bytes, found.value.clone())
    }

    fn id(&self) -> Cow<'_, str> {
        let members = self.members();
        self.text(&members, "id")
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| self.made_id(&members).into())
    }

    /// The same each time: clients page by it.
    fn made_id(&self, members: &[Member]) -> String {
        let prefix = match self.text(members, "type").as_deref() {
            None | Some("message") => "msg",
            Some("function_call") => "fc",
            Some("function_call_output") => "fco",
            Some("reasoning") => "rs",
            Some(_) => "item",
        };
        let response = self.response.strip_prefix("resp_");
        let number = self.number;
        format!("{prefix}_{}_{number}", response.unwrap_or(self.response))
    }

    /// Returns the item with what a listed one always has: an id, a type, and a message's content as a list.
    fn whole(&self) -> Result<Bytes> {
        let body = Bytes::copy_from_slice(self.raw.as_bytes());
        let members = self.members();
        if members.is_empty() {
            return Ok(body);
        }
        let mut edits = Edits::new();
        let set = |edits: &mut Edits<'_>, name: &str, json: Vec<u8>| match member(
            &body, &members, name,
        ) {
            Some((_, found)) => edits.replace(found.value.clone(), json),
            None => edits.insert_member(&body, name, &json),
        };
        if self.text(&members, "id").is_none_or(|id| id.is_empty()) {
            set(&mut edits, "id", quoted(&self.made_id(&members)));
        }
        let kind = self.text(&members, "type");
        if kind.is_none() {
            set(&mut edits, "type", quoted("message"));
        }
        if kind.is_none_or(|kind| kind == "message") {
            if self.text(&members, "status").is_none() {
                set(&mut edits, "status", quoted("completed"));
            }
            if let Some(text) = self.text(&members, "content") {
                let is_answer = self.text(&members, "role").as_deref() == Some("assistant");
                let mut part = if is_answer {
                    br#"[{"type":"output_text","annotations":[],"logprobs":[],"text":"#.to_vec()
                } else {
                    br#"[{"type":"input_text","text":"#.to_vec()
                };
                write_string(&text, &mut part);
                part.extend_from_slice(b"}]");
                set(&mut edits, "content", part);
            }
        }
        Ok(edits.apply(&body))
    }
}

fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_string(text, &mut out);
    out
}
