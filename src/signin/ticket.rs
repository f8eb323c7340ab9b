//! What a browser keeps between leaving for the provider and coming back, sealed.

use std::time::Duration;

use serde_json::Value;

use crate::directory::seal::Sealer;
use crate::directory::token;

/// Whoever takes longer to sign in begins anew.
pub const LIFE: Duration = Duration::from_secs(600);
/// Longer paths to go on to aren't kept.
const LONGEST_PATH: usize = 512;
const PURPOSE: &str = "ticket";

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ticket {
    /// Comes back in the query: who comes back is who left.
    pub state: String,
    /// Comes back in the token: it was made for this.
    pub nonce: String,
    /// Shown to the provider with the code: who has the code is who left.
    pub verifier: String,
    /// Where to go then; `None`: the session's token is shown, for use without a browser.
    pub to: Option<String>,
    until: i64,
}

impl Ticket {
    pub fn new(to: Option<String>, now: i64) -> Self {
        let life = i64::try_from(LIFE.as_secs()).unwrap_or_default();
        Self {
            state: token::random(),
            nonce: token::random(),
            // RFC 7636 asks for 43 characters at least.
            verifier: format!("{}{}", token::random(), token::random()),
            to,
            until: now + life,
        }
    }

    pub fn seal(&self, sealer: &Sealer) -> String {
        let value = serde_json::to_string(self).unwrap_or_default();
        sealer.seal(PURPOSE, &value)
    }

    /// Opens a ticket; `None` for one that isn't ours, or is over.
    pub fn open(sealed: &str, sealer: &Sealer, now: i64) -> Option<Self> {
        let opened = sealer.open(PURPOSE, sealed)?;
        let ticket: Self = serde_json::from_str(opened.expose()).ok()?;
        (now < ticket.until).then_some(ticket)
    }
}

/// Returns a path to go on to, when it is one of this server's: nobody is sent elsewhere.
pub fn local(path: &str) -> Option<String> {
    let own = path.len() <= LONGEST_PATH
        && path.starts_with('/')
        && !path.starts_with("//")
        // Browsers read it as a slash.
        && !path.contains('\\')
        && path.bytes().all(|byte| byte.is_ascii_graphic());
    own.then(|| path.to_owned())
}

/// Returns a text claim, shortened to what may be shown.
pub(super) fn text(value: Option<&Value>) -> Option<String> {
    const LONGEST: usize = 200;
    let text = value?.as_str()?;
    let shown: String = text
        .chars()
        .filter(|character| !character.is_control())
        .take(LONGEST)
        .collect();
    (!shown.is_empty()).then_some(shown)
}
