//! What the tests share.

use serde_json::Value;

use strait::error::Error;
use strait::protocol::api::{self, Api};
use strait::protocol::{Protocol, Shape};

pub fn shape() -> Shape {
    Shape {
        model: "asked".into(),
        id: "7".into(),
        ..Shape::default()
    }
}

/// Builds a request and returns it with what was dropped.
pub fn built(
    api: Api,
    client: Protocol,
    to: Protocol,
    body: &Value,
    model: &str,
) -> (Value, Vec<String>) {
    let body = body.to_string();
    let built = api::build(api, client, to, body.as_bytes(), model)
        .unwrap_or_else(|error| panic!("{body}: {error}"));
    let sent = serde_json::from_slice(&built.body).expect("what is built is JSON");
    (sent, built.dropped)
}

pub fn refused(api: Api, client: Protocol, to: Protocol, body: &Value, model: &str) -> Error {
    api::build(api, client, to, body.to_string().as_bytes(), model).expect_err("this can't be said")
}

pub fn answered(
    api: Api,
    from: Protocol,
    client: Protocol,
    request: &Value,
    answer: &Value,
) -> Value {
    let request = request.to_string();
    let answer = answer.to_string();
    let told = api::answer(
        api,
        from,
        client,
        request.as_bytes(),
        answer.as_bytes(),
        &shape(),
    )
    .unwrap_or_else(|error| panic!("{answer}: {error}"));
    serde_json::from_slice(&told).expect("what is answered is JSON")
}
