//! What a provider repeats of our credentials goes no further: some quote the key that they refuse.

use memchr::memmem;

use super::Provider;
use crate::error::Error;

/// What is shorter is no secret, and may be a word.
const SHORTEST: usize = 12;

impl Provider {
    /// Returns `said` with asterisks in place of our credentials; `None` where there are none in it.
    ///
    /// It stays as long as it was: its length may have been told already.
    pub fn masked(&self, said: &[u8]) -> Option<Vec<u8>> {
        let keys = self.credentials.iter().map(|own| own.key.expose());
        let headers = self.headers.iter();
        let headers = headers.filter_map(|(name, value)| is_secret(name).then_some(value.as_str()));
        let mut masked = None;
        for secret in keys.chain(headers).map(str::as_bytes) {
            // As it travels: `Bearer KEY` may be told without its scheme.
            let secret = secret.strip_prefix(b"Bearer ").unwrap_or(secret);
            if secret.len() < SHORTEST {
                continue;
            }
            for at in memmem::find_iter(said, secret) {
                let masked = masked.get_or_insert_with(|| said.to_vec());
                masked[at..at + secret.len()].fill(b'*');
            }
        }
        masked
    }

    /// Overwrites our credentials in what an error tells.
    pub fn mask(&self, error: &mut Error) {
        let masked = self.masked(error.message.as_bytes());
        if let Some(masked) = masked.and_then(|masked| String::from_utf8(masked).ok()) {
            error.message = masked.into();
        }
    }
}

/// Returns whether a header is one that tells who asks.
fn is_secret(name: &str) -> bool {
    let words = ["auth", "key", "token", "secret", "cookie", "password"];
    words.iter().any(|word| name.contains(word))
}
