//! The life of a response after its answer: kept, read again, listed, deleted, gone on from.
//!
//! Everything here speaks of the gateway's own store, by the caller's key (`tenant`); an id of another key is as
//! unknown as one that never was.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;

use crate::error::{Error, Kind, Result};
use crate::state::{State, Stored};

use listing::{Order, Page};

pub use conversation::{asked, expand, keep};
pub use references::resolve;
pub use shown::Shown;

// Named by path, so that this file means the same when it is compiled from elsewhere.
#[path = "responses/conversation.rs"]
mod conversation;
#[path = "responses/listing.rs"]
mod listing;
#[path = "responses/references.rs"]
mod references;
#[path = "responses/shown.rs"]
pub mod shown;

/// A whole answer: its status, and JSON.
pub type Reply = (StatusCode, Bytes);

/// The largest conversation that is listed.
const MOST_LISTED: usize = 64 << 20;

/// What is asked of a kept response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Read,
    Delete,
    InputItems,
    Cancel,
}

impl Action {
    /// Does what is asked and returns the answer. `query` is the URL's, without its `?`.
    pub async fn run(
        self,
        state: &State,
        tenant: &str,
        id: &str,
        query: Option<&str>,
    ) -> Result<Reply> {
        match self {
            Action::Read => read(state, tenant, id, query).await,
            Action::Delete => delete(state, tenant, id).await,
            Action::InputItems => input_items(state, tenant, id, query).await,
            Action::Cancel => cancel(state, tenant, id).await,
        }
    }
}

async fn read(state: &State, tenant: &str, id: &str, query: Option<&str>) -> Result<Reply> {
    let stored = find(state, tenant, id).await?;
    let streams = parameters(query).any(|(name, value)| name == "stream" && value == "true");
    if streams {
        return Err(Error::field(
            "stream",
            "A response can be streamed again only when it was made in the background.",
        ));
    }
    Ok(ok(stored.response.clone()))
}

async fn delete(state: &State, tenant: &str, id: &str) -> Result<Reply> {
    if !state.responses().delete(tenant, id).await? {
        return Err(not_found(id));
    }
    let mut out = b"{\"id\":".to_vec();
    crate::codec::json::write_string(id, &mut out);
    out.extend_from_slice(b",\"object\":\"response\",\"deleted\":true}");
    Ok((StatusCode::OK, out.into()))
}

async fn input_items(state: &State, tenant: &str, id: &str, query: Option<&str>) -> Result<Reply> {
    let page = page(query)?;
    find(state, tenant, id).await?;
    // With all that came before it: that is what the model was given.
    let chain = state
        .responses()
        .chain(tenant, id, MOST_LISTED)
        .await
        .map_err(|error| {
            if error.kind != Kind::PreviousResponseNotFound {
                return error;
            }
            // The conversation is asked for here, not its continuation.
            Error {
                kind: Kind::ResponseNotFound,
                param: None,
                ..error
            }
        })?;
    listing::list(&chain, &page).map(|body| (StatusCode::OK, body))
}

async fn cancel(state: &State, tenant: &str, id: &str) -> Result<Reply> {
    let stored = find(state, tenant, id).await?;
    if conversation::is_background(&stored.response) {
        // It has ended before it was kept.
        return Ok(ok(stored.response.clone()));
    }
    Err(Error::new(
        Kind::InvalidRequest,
        "Cannot cancel a synchronous response.",
    ))
}

async fn find(state: &State, tenant: &str, id: &str) -> Result<std::sync::Arc<Stored>> {
    let found = state.responses().get(tenant, id).await?;
    found.ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> Error {
    let shown: String = id.chars().take(100).collect();
    Error::new(
        Kind::ResponseNotFound,
        format!("Response with id '{shown}' not found."),
    )
}

fn ok(body: String) -> Reply {
    (StatusCode::OK, body.into())
}

fn page(query: Option<&str>) -> Result<Page> {
    let mut page = Page::default();
    for (name, value) in parameters(query) {
        match &*name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=100).contains(limit));
                page.limit =
                    limit.ok_or_else(|| Error::field("limit", "`limit` must be from 1 to 100."))?;
            }
            "order" => {
                page.order = match &*value {
                    "asc" => Order::Ascending,
                    "desc" => Order::Descending,
                    _ => return Err(Error::field("order", "`order` must be asc or desc.")),
                }
            }
            "after" if !value.is_empty() => page.after = Some(value.into_owned()),
            // `include` and what else there may come change nothing of what is kept.
            _ => {}
        }
    }
    Ok(page)
}

/// Returns the query's names and values.
fn parameters(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// Returns text without its percent signs; what they spell wrongly stays.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after
            .first_chunk::<2>()
            .filter(|_| *first == b'%')
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        let (byte, skipped) = match (hex, first) {
            (Some(byte), _) => (byte, 2),
            (None, b'+') => (b' ', 0),
            (None, byte) => (*byte, 0),
        };
        bytes.push(byte);
        rest = &after[skipped..];
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
#[path = "responses/tests.rs"]
mod tests;
