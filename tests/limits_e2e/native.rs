//! What is held of budgets for requests that nobody reads.

use crate::KEY;
use crate::common::dialect::Dialect;
use crate::common::{Strait, eventually, mock};
use crate::kept::{CENT, config, post, spent, told};

#[test]
fn native_requests_at_once_pass_a_budget_by_no_more_than_a_few_cost() {
    let provider = mock("[default]\ndelay_head = \"60s\"");
    let budget = "budget = { usd = 1.0, every = \"day\" }";
    let strait = Strait::start(&config(&provider, budget));
    let authorization = format!("Bearer {KEY}");
    let headers = [("authorization", &*authorization)];
    let path = "/lab/v1/chat/completions";
    let body = Dialect::OpenAi.body("x", "hi", false);
    let text = body.to_string();
    // A twentieth of the budget is held for each.
    let waiting: Vec<_> = (0..20)
        .map(|_| strait.client().send_only(path, &headers, text.as_bytes()))
        .collect();
    eventually("all are asked for", || provider.calls().len() == 20);
    let refused = post(&strait, path, &[], &body);
    assert_eq!(refused.status, 402, "{}", refused.text());
    assert!(
        refused
            .text()
            .contains("1 USD are held for requests under way"),
        "{}",
        refused.text()
    );
    let list = strait
        .client()
        .request("GET", "/lab/v1/models", &headers, b"");
    assert_eq!(list.status, 402, "there is nothing left: {}", list.text());
    assert_eq!(provider.calls().len(), 20);
    drop(waiting);
    eventually("nothing is held any more", || {
        told(&strait, &[])["budgets"][0]["reserved_usd"] == "0"
    });
}

#[test]
fn a_native_request_spends_what_it_cost_and_the_last_cent_can_be_spent() {
    let provider = mock(CENT);
    let budget = "budget = { usd = 0.025, every = \"day\" }";
    let strait = Strait::start(&config(&provider, budget));
    let body = Dialect::OpenAi.body("x", "hi", false);
    for cents in [1.0, 2.0, 3.0] {
        let answer = post(&strait, "/lab/v1/chat/completions", &[], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        eventually("it is spent", || spent(&strait) == [cents]);
    }
    let refused = post(&strait, "/lab/v1/chat/completions", &[], &body);
    assert_eq!(refused.status, 402, "{}", refused.text());
}
