//! A request that goes on from a kept response, made whole: bytes in, bytes out.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::codec::json::{self, JsonError, JsonErrorKind, Member};
use crate::codec::splice::Edits;
use crate::error::{Error, Kind, Result};
use crate::state::{Asker, Chain, Stored};

/// Answers and requests deeper than this are refused at the door.
const MOST_DEPTH: usize = 128;

/// What a request says of being kept, and of what it goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'b> {
    /// `store`: true when absent.
    pub store: bool,
    pub previous: Option<Cow<'b, str>>,
    /// It has a `conversation`, which the gateway doesn't keep.
    pub conversation: bool,
}

/// Reads what the body of `POST /v1/responses` says of being kept.
pub fn asked(body: &[u8]) -> Result<Asked<'_>> {
    let mut asked = Asked {
        store: true,
        previous: None,
        conversation: false,
    };
    for member in members(body)? {
        let value = member.value.clone();
        let is_null = json::is_null(body, value.clone());
        match &*json::key(body, &member) {
            _ if is_null => {}
            "store" => {
                asked.store = json::boolean(body, value)
                    .ok_or_else(|| Error::field("store", "`store` must be true or false."))?;
            }
            "previous_response_id" => {
                let id = json::string(body, value).filter(|id| !id.is_empty());
                asked.previous = Some(id.ok_or_else(|| {
                    Error::field(
                        "previous_response_id",
                        "`previous_response_id` must be the id of a response.",
                    )
                })?);
            }
            "conversation" => asked.conversation = true,
            _ => {}
        }
    }
    if asked.conversation && asked.previous.is_some() {
        return Err(Error::field(
            "previous_response_id",
            "`previous_response_id` and `conversation` exclude each other.",
        ));
    }
    Ok(asked)
}

/// Returns the body with the whole conversation as its `input`, and without `previous_response_id`.
///
/// For each answer of the chain its own input items and then its output items, then what is new; all of it byte for
/// byte, but that a string becomes the message that it stands for. Instructions are not carried over, as with OpenAI.
/// Errors: it would be larger than `most_bytes`.
pub fn expand(body: &Bytes, chain: &Chain, most_bytes: usize) -> Result<Bytes> {
    let members = members(body)?;
    let mut items = Items::default();
    for link in &chain.links {
        items.add(link.input.as_bytes());
        if let Some(output) = output(&link.response) {
            items.add(output.as_bytes());
        }
    }
    let input = member(body, &members, "input");
    if let Some((_, input)) = input {
        items.add_input(body, input.value.clone())?;
    }
    if items.out.len().saturating_add(body.len()) > most_bytes {
        return Err(Error::field(
            "previous_response_id",
            "The conversation that `previous_response_id` goes on from is too long.",
        ));
    }
    let whole = items.close();
    let mut edits = Edits::new();
    match input {
        Some((_, input)) => edits.replace(input.value.clone(), whole),
        None => edits.insert_member(body, "input", &whole),
    }
    if let Some((index, _)) = member(body, &members, "previous_response_id") {
        edits.remove_member(body, &members, index);
    }
    Ok(edits.apply(body))
}

/// Returns what is to be kept of an answer: `body` is the request as the client sent it, `response` the whole answer
/// as the client got it. `None` when it isn't a response with an id.
pub fn keep(
    tenant: &str,
    maker: &str,
    body: &[u8],
    response: Bytes,
    expiry: impl FnOnce(i64) -> i64,
    asker: Asker,
) -> Option<Stored> {
    let now = asker.at_us.div_euclid(1_000_000);
    let asked = asked(body).ok()?;
    let request = members(body).ok()?;
    let mut items = Items::default();
    if let Some((_, input)) = member(body, &request, "input") {
        items.add_input(body, input.value.clone()).ok()?;
    }
    let answer = members(&response).ok()?;
    let text = |name| {
        let (_, found) = member(&response, &answer, name)?;
        json::string(&response, found.value.clone()).map(Cow::into_owned)
    };
    let id = text("id").filter(|id| !id.is_empty())?;
    let created = member(&response, &answer, "created_at")
        .and_then(|(_, found)| json::unsigned(&response, found.value.clone()))
        .and_then(|created| i64::try_from(created).ok())
        .unwrap_or(now);
    Some(Stored {
        id,
        tenant: tenant.to_owned(),
        created,
        // By our own clock: the provider's may be wrong.
        expires: expiry(now),
        model: text("model").unwrap_or_default(),
        status: text("status").unwrap_or_default(),
        maker: maker.to_owned(),
        previous: asked.previous.map(Cow::into_owned),
        input: String::from_utf8(items.close()).ok()?,
        response: String::from_utf8(response.into()).ok()?,
        asker,
    })
}

/// Returns the output items of a whole answer: a JSON array.
pub(super) fn output(response: &str) -> Option<&str> {
    let bytes = response.as_bytes();
    let members = members(bytes).ok()?;
    let (_, output) = member(bytes, &members, "output")?;
    response.get(output.value.clone())
}

/// Returns whether the answer was made in the background.
pub(super) fn is_background(response: &str) -> bool {
    let bytes = response.as_bytes();
    let Ok(members) = members(bytes) else {
        return false;
    };
    member(bytes, &members, "background")
        .and_then(|(_, found)| json::boolean(bytes, found.value.clone()))
        .unwrap_or(false)
}

pub(super) fn members(body: &[u8]) -> Result<Vec<Member>> {
    let mut found = Vec::with_capacity(16);
    json::members(body, MOST_DEPTH, &mut found).map_err(not_json)?;
    Ok(found)
}

fn not_json(error: JsonError) -> Error {
    let message = match error.kind {
        JsonErrorKind::NotObject => "The request body must be a JSON object.".to_owned(),
        JsonErrorKind::Syntax | JsonErrorKind::Depth | JsonErrorKind::Utf8 => {
            format!("The request body is {error}.")
        }
    };
    Error::new(Kind::InvalidRequest, message)
}

/// Returns the last member of that name, which is the one that counts, and its index.
pub(super) fn member<'m>(
    body: &[u8],
    members: &'m [Member],
    name: &str,
) -> Option<(usize, &'m Member)> {
    let mut all = members.iter().enumerate().rev();
    all.find(|(_, member)| json::key(body, member) == name)
}

/// Items of one array, gathered from several.
#[derive(Default)]
struct Items {
    out: Vec<u8>,
}

impl Items {
    /// Adds those of a JSON array.
    fn add(&mut self, array: &[u8]) {
        let inner = array
            .trim_ascii()
            .strip_prefix(b"[")
            .and_then(|rest| rest.strip_suffix(b"]"))
            .unwrap_or_default()
            .trim_ascii();
        self.push(inner);
    }

    fn push(&mut self, items: &[u8]) {
        if items.is_empty() {
            return;
        }
        let before = if self.out.is_empty() { b'[' } else { b',' };
        self.out.push(before);
        self.out.extend_from_slice(items);
    }

    /// Adds a request's `input`: an array, or a string, which is a message of the user.
    fn add_input(&mut self, body: &[u8], value: Range<usize>) -> Result<()> {
        let text = body.get(value).unwrap_or_default();
        match text.first() {
            Some(b'[') => self.add(text),
            Some(b'"') => {
                let mut message = br#"{"type":"message","role":"user","content":"#.to_vec();
                message.extend_from_slice(text);
                message.push(b'}');
                self.push(&message);
            }
            Some(b'n') | None => {}
            Some(_) => {
                return Err(Error::field(
                    "input",
                    "`input` must be a string or an array of items.",
                ));
            }
        }
        Ok(())
    }

    fn close(mut self) -> Vec<u8> {
        if self.out.is_empty() {
            self.out.push(b'[');
        }
        self.out.push(b']');
        self.out
    }
}
