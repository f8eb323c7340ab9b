//! What is done about models without a price, and about those at the end of their life.

use std::collections::HashMap;

use super::super::Provider;
use super::{Model, Status};
use crate::error::{Error, Kind, Result};

/// What is done about a model that nobody prices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unpriced {
    /// It is asked, and counted in `strait_unpriced_requests_total`.
    #[default]
    Allow,
    Deny,
}

/// The part of the `[catalogue]` table that decides over requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    pub unpriced: Unpriced,
    /// Names of retired models, as clients send them, and what is asked in their place.
    pub retired: HashMap<String, String>,
}

/// Where a model stands in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Current,
    /// Deprecated or retired: it answers, with this as the value of a `warning` header.
    Deprecated(String),
}

impl Policy {
    /// Returns the name that is asked in place of `name`, where the configuration says so.
    pub fn redirected<'p>(&'p self, name: &'p str) -> Option<&'p str> {
        self.retired.get(name).map(String::as_str)
    }

    /// Decides whether a provider's model may be asked. `entry` is what the catalogue knows of it.
    ///
    /// A retired model is asked all the same, with a warning: its provider knows best, and some serve it on.
    /// Errors: it has no price and must have one (403); the message names it.
    pub fn check(
        &self,
        provider: &Provider,
        model: &str,
        entry: Option<&Model>,
    ) -> Result<Standing> {
        // What the gateway answers itself costs nothing.
        let priced = provider.demo || provider.price.is_some();
        self.decide(&provider.name, model, entry, priced)
    }

    /// As [`Policy::check`]; `priced`: the provider has a price for what the catalogue doesn't price.
    pub fn decide(
        &self,
        provider: &str,
        model: &str,
        entry: Option<&Model>,
        priced: bool,
    ) -> Result<Standing> {
        let name = || format!("{provider}/{}", shown(model));
        let refused = |kind, message: String| Error {
            param: Some("model".into()),
            ..Error::new(kind, message)
        };
        if self.unpriced == Unpriced::Deny
            && !priced
            && entry.is_none_or(|entry| entry.price().unknown)
        {
            let message = format!(
                "The model `{}` has no known price, and only priced models are served here (catalogue.unpriced = \"deny\").",
                name()
            );
            return Err(refused(Kind::ModelNotAllowed, message));
        }
        Ok(
            match entry.filter(|entry| entry.status != Status::Current) {
                Some(entry) => Standing::Deprecated(warning(&name(), entry)),
                None => Standing::Current,
            },
        )
    }
}

/// Returns the value of a `warning` header (RFC 9111's obsolete 299, which clients show).
fn warning(name: &str, entry: &Model) -> String {
    let mut text = format!("299 - \"model {} is ", plain(name));
    let (state, when) = if entry.status == Status::Retired {
        ("retired", " since ")
    } else {
        ("deprecated", ", retires on ")
    };
    text.push_str(state);
    if let Some(day) = entry.sunset {
        text.push_str(when);
        text.push_str(&plain(day));
    }
    if let Some(successor) = entry.successor {
        text.push_str(&format!("; use {}", plain(successor)));
    }
    text.push('"');
    text
}

fn shown(model: &str) -> String {
    model.chars().take(100).collect()
}

/// Returns text that may stand in a quoted string of a header.
fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    text.chars()
        .map(|c| if fits(c) { c } else { '?' })
        .collect()
}
