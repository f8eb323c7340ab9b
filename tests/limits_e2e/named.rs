//! Budgets of end users and tags.

use serde_json::json;

use super::*;

/// Every answer costs a cent: 100 tokens out at 100 USD a million.
const CENT: &str = "[default]\nusage = { prompt_tokens = 10, completion_tokens = 100 }";

fn config(provider: &Mock) -> String {
    format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat", "anthropic"]
        base_url = "{}/v1"
        key = "the-provider-key"
        price = {{ in = 0, out = 100 }}
        [models.fast]
        targets = ["lab/x"]
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        budget = {{ usd = 0.02, every = "day", tag = "batch" }}
        [[keys]]
        name = "team-b"
        key = "another-key-of-the-tests-0123456789"
        [[budgets]]
        end_user = "*"
        usd = 0.01
        every = "day"
        [[budgets]]
        end_user = "vip"
        usd = 0.03
        every = "month"
        "#,
        provider.url()
    )
}

#[test]
fn each_end_user_has_a_budget_and_one_by_name_has_another() {
    let provider = mock(CENT);
    let strait = Strait::start(&config(&provider));
    let headed = |key: &str, user: &str, tags: &str| {
        let mut body = Dialect::OpenAi.body("fast", "hi", false);
        body["max_tokens"] = json!(100);
        let authorization = format!("Bearer {key}");
        let mut headers = vec![("authorization", &*authorization)];
        headers.extend(
            [("x-strait-user", user), ("x-strait-tags", tags)]
                .into_iter()
                .filter(|(_, value)| !value.is_empty()),
        );
        post(&strait, Dialect::OpenAi, &headers, &body)
    };
    let settled =
        |count: usize| eventually("it to be spent", || strait.records(count).len() >= count);
    let other = "another-key-of-the-tests-0123456789";
    assert_eq!(headed(KEY, "42", "").status, 200);
    settled(1);
    let refused = headed(other, "42", "");
    assert_eq!(refused.status, 402, "the same user with another key");
    assert!(
        refused
            .text()
            .contains("`end_user:42` of 0.01 USD each day"),
        "{}",
        refused.text()
    );
    assert_eq!(headed(KEY, "43", "").status, 200, "another user");
    for turn in 0..3 {
        assert_eq!(headed(KEY, "vip", "").status, 200, "{turn}");
        settled(4 + turn);
    }
    assert_eq!(headed(KEY, "vip", "").status, 402);
    // A tag of one key, and the same tag of another.
    for turn in 0..2 {
        assert_eq!(headed(KEY, "", "batch").status, 200);
        settled(8 + turn);
    }
    let refused = headed(KEY, "", "nightly, batch");
    assert_eq!(refused.status, 402);
    assert!(
        refused.text().contains("`key:team-a/tag:batch`"),
        "{}",
        refused.text()
    );
    assert_eq!(headed(other, "", "batch").status, 200);
    assert_eq!(headed(KEY, "", "nightly").status, 200);
}

#[test]
fn the_user_in_the_body_is_the_end_user_in_every_protocol() {
    let provider = mock(CENT);
    let strait = Strait::start(&config(&provider));
    let authorization = format!("Bearer {KEY}");
    let headers = [("authorization", &*authorization)];
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["max_tokens"] = json!(100);
    body["user"] = json!("eve");
    assert_eq!(post(&strait, Dialect::OpenAi, &headers, &body).status, 200);
    eventually("it to be spent", || strait.records(1).len() == 1);
    let mut body = Dialect::Anthropic.body("fast", "hi", false);
    body["max_tokens"] = json!(100);
    body["metadata"] = json!({"user_id": "eve"});
    let refused = post(&strait, Dialect::Anthropic, &headers, &body);
    assert_eq!(refused.status, 402, "{}", refused.text());
    body["metadata"] = json!({"user_id": "adam"});
    assert_eq!(
        post(&strait, Dialect::Anthropic, &headers, &body).status,
        200
    );
}

#[test]
fn a_key_is_told_of_the_budgets_of_whom_its_request_names() {
    let provider = mock(CENT);
    let budgets = "budget = [{ usd = 1.0, every = \"day\" }, { end_user = \"*\", usd = 0.5, every = \"day\" }, \
                   { tag = \"batch\", usd = 0.25, every = \"month\" }]";
    let all = "\n[[budgets]]\nend_user = \"eve\"\nusd = 0.75\nevery = \"hour\"\n";
    let strait = Strait::start(&(kept::config(&provider, budgets) + all));
    let mut body = Dialect::OpenAi.body("fast", "hi", false);
    body["max_tokens"] = json!(100);
    let named = [("x-strait-user", "eve"), ("x-strait-tags", "batch,other")];
    let path = Dialect::OpenAi.path();
    assert_eq!(kept::post(&strait, path, &named, &body).status, 200);
    eventually("it is spent", || kept::spent(&strait) == [1.0]);
    let shown = |headers: &[(&str, &str)]| {
        let told = kept::told(&strait, headers);
        let budgets = told["budgets"].as_array().unwrap().iter();
        let mut shown: Vec<String> = budgets
            .map(|one| {
                let of = [
                    &one["on"],
                    &one["end_user"],
                    &one["tag"],
                    &one["usd"],
                    &one["spent_usd"],
                ];
                of.map(|one| one.as_str().unwrap_or("-").to_owned())
                    .join(" ")
            })
            .collect();
        shown.sort_unstable();
        shown
    };
    assert_eq!(shown(&[]), ["team-a - - 1 0.01"]);
    assert_eq!(
        shown(&named),
        [
            "- eve - 0.75 0.01",
            "team-a - - 1 0.01",
            "team-a - batch 0.25 0.01",
            "team-a eve - 0.5 0.01",
        ]
    );
    let other = [("x-strait-user", "adam")];
    assert_eq!(shown(&other), ["team-a - - 1 0.01", "team-a adam - 0.5 0"]);
}
