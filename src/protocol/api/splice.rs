//! The model's name put in place where a request goes on in its own dialect.

use bytes::Bytes;

use super::Api;
use crate::codec::json::{self, Member, Scanner};
use crate::codec::multipart::Form;
use crate::codec::splice::Edits;
use crate::error::{Error, Kind, Result};

/// Returns `body` with `model` in it, and without what is ours (`fallbacks`, `usage.include`); all else stays byte
/// for byte.
///
/// A form has the value of its one `model` part replaced. JSON gets a `model` where it has none, except Gemini's,
/// whose path names it.
pub fn splice_model(api: Api, content_type: &str, body: &Bytes, model: &str) -> Result<Bytes> {
    let kind = content_type.trim_start().as_bytes();
    let multipart = kind
        .get(..10)
        .is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/"));
    if multipart {
        form(content_type, body, model)
    } else {
        object(api, body, model)
    }
}

fn form(content_type: &str, body: &Bytes, model: &str) -> Result<Bytes> {
    let broken = |error| {
        Error::new(
            Kind::InvalidRequest,
            format!("The form is broken: {error}."),
        )
    };
    let form = Form::read(content_type, body).map_err(broken)?;
    let Some(part) = form.only("model").map_err(broken)? else {
        return Err(Error::field("model", "`model` is missing."));
    };
    let mut edits = Edits::new();
    edits.replace(part.value.clone(), model.as_bytes());
    Ok(edits.apply(body))
}

fn object(api: Api, body: &Bytes, model: &str) -> Result<Bytes> {
    let mut members = Vec::new();
    json::members(body, usize::MAX, &mut members)
        .map_err(|error| Error::new(Kind::InvalidRequest, format!("The body is {error}.")))?;
    let mut name = Vec::new();
    json::write_string(model, &mut name);
    // Google's batches name the model in each of their requests, and want it to be that of the path.
    let mut place = Vec::new();
    let bare = model.strip_prefix("models/").unwrap_or(model);
    json::write_string(&format!("models/{bare}"), &mut place);
    let keys: Vec<_> = members
        .iter()
        .map(|member| json::key(body, member))
        .collect();
    let gemini = api == Api::Embeddings
        && keys
            .iter()
            .any(|key| matches!(&**key, "content" | "requests"));
    // It stands in the path alone.
    let placed = gemini
        || api == Api::CountTokens
            && keys
                .iter()
                .any(|key| matches!(&**key, "contents" | "generateContentRequest"));
    let mut edits = Edits::new();
    let mut named = false;
    for (index, (key, member)) in keys.iter().zip(&members).enumerate() {
        match &**key {
            "model" => {
                named = true;
                let name = if gemini { &place } else { &name };
                edits.replace(member.value.clone(), name.clone());
            }
            "requests" if gemini => requests(body, member, &place, &mut edits),
            "fallbacks" => edits.remove_member(body, &members, index),
            "usage" if has_include(body, member) => edits.remove_member(body, &members, index),
            _ => {}
        }
    }
    if !named && !placed {
        edits.insert_member(body, "model", &name);
    }
    Ok(edits.apply(body))
}

fn requests<'e>(body: &[u8], member: &Member, place: &'e [u8], edits: &mut Edits<'e>) {
    let start = member.value.start;
    let text = &body[member.value.clone()];
    let mut scanner = Scanner::new(text, usize::MAX);
    // What isn't a list of objects goes on as it is, for the provider to refuse.
    let _ = scanner.array(|scanner| {
        if scanner.peek() != Some(b'{') {
            return scanner.pass();
        }
        scanner.object(|scanner, key| {
            let value = scanner.skip()?;
            if json::unescape(text, key).is_some_and(|key| key == "model") {
                edits.replace(start + value.start..start + value.end, place);
            }
            Ok(())
        })
    });
}

fn has_include(body: &[u8], member: &Member) -> bool {
    let mut inner = Vec::new();
    let value = &body[member.value.clone()];
    json::members(value, usize::MAX, &mut inner).is_ok()
        && inner
            .iter()
            .any(|member| json::key(value, member) == "include")
}
