//! Who is asked where there is a choice to make or too much to do, through the whole program over real sockets.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod affinity;
#[path = "../common/mod.rs"]
mod common;
mod experiments;
mod overload;
mod smart;

use serde_json::Value;
use strait::mock::Mock;

use common::{Answer, Strait};

const CHAT: &str = "/v1/chat/completions";

/// A provider's table; `more` goes into it.
fn provider(name: &str, mock: &Mock, more: &str) -> String {
    format!(
        "[providers.{name}]\nprotocols = [\"openai-chat\", \"anthropic\"]\nbase_url = \"{}/v1\"\nkey = \"key-of-{name}\"\n{more}\n",
        mock.url()
    )
}

fn post(strait: &Strait, headers: &[(&str, &str)], body: &Value) -> Answer {
    strait
        .client()
        .post(CHAT, headers, body.to_string().as_bytes())
}

fn who(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-strait-provider").unwrap().to_owned()
}

/// The records of chats by what was asked for.
fn of(records: &[Value], model: &str) -> Vec<Value> {
    let asked = records
        .iter()
        .filter(|record| record["model_requested"] == model);
    asked.cloned().collect()
}
