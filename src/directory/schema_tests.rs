//! Bodies that are right, and what is said of those that are not.

use super::*;

fn body(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

#[test]
fn what_is_wrong_is_named_to_the_last_element() {
    for (kind, given, field) in [
        (Kind::Organisation, json!({}), "name"),
        (Kind::Organisation, json!({"name": ""}), "name"),
        (Kind::Organisation, json!({"name": " a"}), "name"),
        (Kind::Organisation, json!({"name": "a\nb"}), "name"),
        (Kind::Organisation, json!({"name": 5}), "name"),
        (Kind::Organisation, json!({"name": "a", "nam": 1}), "nam"),
        (Kind::Team, json!({"name": "a"}), "organisation"),
        (
            Kind::Team,
            json!({"name": "a", "organisation": "team_1"}),
            "organisation",
        ),
        (
            Kind::Team,
            json!({"name": "a", "organisation": "org_'; DROP"}),
            "organisation",
        ),
        (
            Kind::Key,
            json!({"name": "a", "project": "proj_1", "expires": "soon"}),
            "expires",
        ),
        (
            Kind::User,
            json!({"name": "a", "organisation": "org_1", "roles": [{"role": "king", "of": "org_1"}]}),
            "roles[0].role",
        ),
        (
            Kind::User,
            json!({"name": "a", "organisation": "org_1", "roles": [{"role": "owner"}]}),
            "roles[0].of",
        ),
        (Kind::Policy, json!({"on": "key_1"}), "allow"),
        (Kind::Policy, json!({"on": "key_1", "allow": {}}), "allow"),
        (
            Kind::Policy,
            json!({"on": "key_1", "allow": {"models": []}}),
            "allow.models",
        ),
        (
            Kind::Policy,
            json!({"on": "key_1", "allow": {"models": ["a", "**"]}}),
            "allow.models[1]",
        ),
        (
            Kind::Policy,
            json!({"on": "key_1", "deny": {"addresses": ["10.0.0.0/99"]}}),
            "deny.addresses[0]",
        ),
        (
            Kind::Policy,
            json!({"on": "key_1", "max_price": {"in": -1}}),
            "max_price.in",
        ),
        (Kind::Limit, json!({"on": "org_1"}), "rpm"),
        (Kind::Limit, json!({"on": "org_1", "rpm": 0}), "rpm"),
        (Kind::Limit, json!({"on": "org_1", "rpm": 1.5}), "rpm"),
        (
            Kind::Budget,
            json!({"on": "org_1", "usd": 0, "every": "day"}),
            "usd",
        ),
        (
            Kind::Budget,
            json!({"on": "org_1", "usd": 1, "every": "year"}),
            "every",
        ),
        (
            Kind::Budget,
            json!({"on": "org_1", "usd": 1, "every": "ever", "rolling": true}),
            "rolling",
        ),
        (
            Kind::Budget,
            json!({"on": "org_1", "usd": 1, "every": "day", "timezone": "../../etc/passwd"}),
            "timezone",
        ),
        (
            Kind::Credential,
            json!({"provider": "openai", "name": "a", "key": "a\r\nb"}),
            "key",
        ),
    ] {
        let wrong = check_new(kind, &body(given.clone())).expect_err("it is wrong");
        assert_eq!(wrong.field, field, "{given}: {}", wrong.message);
    }
}

#[test]
fn what_is_right_is_taken() {
    for (kind, given) in [
        (Kind::Organisation, json!({"name": "Acme – Köln"})),
        (
            Kind::User,
            json!({"name": "a", "organisation": "org_1", "roles": [{"role": "owner", "of": "org_1"}]}),
        ),
        (
            Kind::Key,
            json!({"name": "a", "project": "proj_1", "user": "user_1", "expires": "2030-01-01T00:00:00Z"}),
        ),
        (
            Kind::Policy,
            json!({"on": "key_1", "allow": {"models": ["gpt-*"], "regions": ["eu"]}, "max_price": {"in": 0.25}}),
        ),
        (
            Kind::Budget,
            json!({"on": "user_1", "usd": 0.5, "every": "month", "timezone": "UTC"}),
        ),
    ] {
        assert_eq!(check_new(kind, &body(given.clone())), Ok(()), "{given}");
    }
}

#[test]
fn a_change_is_merged_and_nothing_fixed_is_changed() {
    let before = body(json!({"project": "proj_1", "name": "a", "expires": "2030-01-01T00:00:00Z"}));
    let after = change(
        Kind::Key,
        before.clone(),
        &body(json!({"name": "b", "expires": null, "disabled": true, "project": "proj_1"})),
    );
    let wanted = body(json!({"project": "proj_1", "name": "b", "disabled": true}));
    assert_eq!(after, Ok(wanted));
    for (given, field) in [
        (json!({"project": "proj_2"}), "project"),
        (json!({"name": null}), "name"),
        (json!({"user": "user_1"}), "user"),
    ] {
        let wrong = change(Kind::Key, before.clone(), &body(given)).expect_err("it is fixed");
        assert_eq!(wrong.field, field);
    }
}
