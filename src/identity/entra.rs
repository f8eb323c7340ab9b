//! Fetches tokens of Microsoft Entra ID by an application's secret.

use http::HeaderValue;

use super::http::Request;
use super::kept::{Fetched, Source};
use super::token;
use crate::provider::account::entra::App;

impl Source for App {
    type Value = HeaderValue;

    async fn fetch(&self) -> Result<Fetched<HeaderValue>, String> {
        let url = format!("{}/{}/oauth2/v2.0/token", self.authority, self.tenant);
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.expose()),
            ("scope", self.scope.as_str()),
        ];
        let reply = Request::form(&url, &fields).send().await?;
        token::read(&reply, &[&self.client_secret])
    }
}
