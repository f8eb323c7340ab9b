//! Items that a request names instead of repeating them: `{"type": "item_reference", "id": "msg_…"}`.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::conversation::{member, members};
use crate::codec::json::{self, Scanner};
use crate::codec::splice::Edits;
use crate::error::{Error, Result};
use crate::state::{State, Stored};

/// The most items that one request may name.
const MOST: usize = 1000;

/// An item that is named, and where.
struct Reference {
    place: Range<usize>,
    id: String,
}

/// Returns the body with the items that the kept answers know in the place of their names.
///
/// A name that nobody here knows stays: the provider may know it. Errors: more than 1000 of them, or the items are
/// larger than `most_bytes`.
pub async fn resolve(state: &State, tenant: &str, body: Bytes, most_bytes: usize) -> Result<Bytes> {
    if memchr::memmem::find(&body, b"\"item_reference\"").is_none() {
        return Ok(body);
    }
    let references = find(&body)?;
    let mut known: Vec<Arc<Stored>> = Vec::new();
    let mut edits = Edits::new();
    let mut size = body.len();
    for Reference { place, id } in references {
        let mut at = known.iter().position(|stored| stored.item(&id).is_some());
        if at.is_none() {
            // Whoever can't be asked knows nothing.
            let asked = state.responses().by_item(tenant, &id).await;
            if let Ok(Some(stored)) = asked {
                known.push(stored);
                at = Some(known.len() - 1);
            }
        }
        let Some(item) = at.and_then(|at| known[at].item(&id)) else {
            continue;
        };
        size = size.saturating_add(item.len());
        edits.replace(place, item.as_bytes().to_vec());
        if size > most_bytes {
            return Err(Error::field(
                "input",
                "The items that `input` refers to are too long together.",
            ));
        }
    }
    Ok(edits.apply(&body))
}

/// Finds the names in `input`; what can't be read has none, and is refused by others.
fn find(body: &[u8]) -> Result<Vec<Reference>> {
    let members = members(body)?;
    let mut found = Vec::new();
    let Some((_, input)) = member(body, &members, "input") else {
        return Ok(found);
    };
    let start = input.value.start;
    let input = body.get(input.value.clone()).unwrap_or_default();
    let mut scanner = Scanner::new(input, usize::MAX);
    if scanner.peek() != Some(b'[') {
        return Ok(found);
    }
    let read = scanner.array(|scanner| {
        if scanner.peek() != Some(b'{') {
            return scanner.pass();
        }
        let from = scanner.at();
        let (mut id, mut is_reference) = (None, false);
        scanner.object(|scanner, key| {
            let name = json::unescape(input, key);
            let value = scanner.skip()?;
            match name.as_deref() {
                Some("type") => {
                    is_reference = json::string(input, value).as_deref() == Some("item_reference");
                }
                Some("id") => id = json::string(input, value),
                Some(_) | None => {}
            }
            Ok(())
        })?;
        if let (true, Some(id)) = (is_reference, id) {
            found.push(Reference {
                place: start + from..start + scanner.at(),
                id: id.into_owned(),
            });
        }
        Ok(())
    });
    if read.is_err() {
        found.clear();
    }
    if found.len() > MOST {
        let message = format!("`input` refers to more than {MOST} items.");
        return Err(Error::field("input", message));
    }
    Ok(found)
}
