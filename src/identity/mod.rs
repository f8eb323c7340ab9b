//! Who we are to a provider that takes no plain key: tokens, fetched ahead of need, and signatures.
//!
//! An [`Identity`] lives by its provider, through reloads, for as long as the provider signs in the same way. A request
//! waits for it only when there is nothing good to send; a failure leaves what is still good in use.

mod aws;
mod entra;
mod google;
pub(crate) mod http;
mod kept;
mod sign;
mod token;

use std::time::SystemTime;

use ::http::{HeaderName, HeaderValue};

pub use self::sign::Signable;
use crate::error::{Error, Kind, Result};
use crate::provider::account;
use crate::provider::{Auth, Provider};
use kept::Kept;

/// A provider's way to sign in, with what it has fetched.
pub struct Identity {
    provider: String,
    auth: Auth,
    way: Way,
}

enum Way {
    Google(Kept<account::google::Source>),
    Entra(Kept<account::entra::App>),
    Aws {
        keys: Kept<account::aws::Source>,
        region: String,
        service: &'static str,
    },
}

impl Identity {
    /// Returns the way to sign in to `provider`; `None` when it takes a plain key, or none.
    pub fn new(provider: &Provider) -> Option<Self> {
        let name = || provider.name.clone();
        let way = match &provider.auth {
            Auth::None | Auth::Bearer | Auth::Header(_) => return None,
            Auth::Google(source) => Way::Google(Kept::new(name(), source.clone())),
            Auth::Entra(app) => Way::Entra(Kept::new(name(), app.clone())),
            Auth::SigV4 {
                service,
                region,
                source,
            } => Way::Aws {
                keys: Kept::new(name(), source.clone()),
                region: region.clone(),
                service,
            },
        };
        Some(Self {
            provider: name(),
            auth: provider.auth.clone(),
            way,
        })
    }

    /// Returns whether it is still how `provider` signs in.
    pub fn fits(&self, provider: &Provider) -> bool {
        self.provider == provider.name && self.auth == provider.auth
    }

    /// Returns the headers that prove who sends `request`. Cancel-safe: who waits next fetches anew.
    ///
    /// Errors: `UpstreamAccount` when there is no credential to be had; the log says why.
    pub async fn headers(&self, request: Signable<'_>) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let made = match &self.way {
            Way::Google(kept) => kept.get().await.map(|token| bearer(&token)),
            Way::Entra(kept) => kept.get().await.map(|token| bearer(&token)),
            Way::Aws {
                keys,
                region,
                service,
            } => match keys.get().await {
                Ok(keys) => sign::sign(request, &keys, region, service, SystemTime::now()),
                Err(why) => Err(why),
            },
        };
        made.map_err(|why| {
            let message = "The gateway could not sign in to the provider of this model.";
            Error::new(Kind::UpstreamAccount, message).with_cause(why)
        })
    }

    /// Fetches anew for the next request: the provider refused what it was shown.
    pub fn distrust(&self) {
        match &self.way {
            Way::Google(kept) => kept.distrust(),
            Way::Entra(kept) => kept.distrust(),
            Way::Aws { keys, .. } => keys.distrust(),
        }
    }
}

fn bearer(token: &HeaderValue) -> Vec<(HeaderName, HeaderValue)> {
    vec![(::http::header::AUTHORIZATION, token.clone())]
}

#[cfg(test)]
mod tests;
