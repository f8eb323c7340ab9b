//! What the ledger answers on the admin port, and why it does not.

use serde_json::{Value, json};

use super::{Failure, usage};

/// What the admin port answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// The `after` of the next page.
    pub next: Option<String>,
    pub body: Vec<u8>,
}

/// Why a question is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    /// The parameter at fault.
    pub param: Option<String>,
}

impl Refusal {
    pub fn parameter(name: &str, wrong: &str) -> Self {
        Self {
            status: 400,
            code: "invalid_request",
            message: format!("The parameter `{name}` {wrong}."),
            param: Some(name.to_owned()),
        }
    }

    pub fn not_found(message: &str) -> Self {
        Self {
            status: 404,
            code: "not_found",
            message: message.into(),
            param: None,
        }
    }

    pub fn into_answer(self) -> Answer {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(param) = self.param {
            error["param"] = param.into();
        }
        json_answer(self.status, &json!({"error": error}))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Off => Self::not_found("The ledger is off (ledger.enabled)."),
            Failure::Unavailable(why) => Self {
                status: 503,
                code: "state_unavailable",
                message: format!("The ledger can't be read now: {why}."),
                param: None,
            },
        }
    }
}

impl From<usage::TooMany> for Refusal {
    fn from(_: usage::TooMany) -> Self {
        Self {
            status: 400,
            code: "invalid_request",
            message: format!(
                "That is more than {} points: ask for a shorter time, a coarser `resolution` or fewer groups.",
                usage::MOST_POINTS
            ),
            param: Some("resolution".into()),
        }
    }
}

/// Never happens: a question has its own answer.
pub fn unexpected() -> Refusal {
    Failure::Unavailable("it answered another question".into()).into()
}

pub fn json_answer(status: u16, body: &Value) -> Answer {
    let mut text = body.to_string().into_bytes();
    text.push(b'\n');
    Answer {
        status,
        content_type: "application/json",
        next: None,
        body: text,
    }
}
