//! A conversation stays where it was answered: provider, credential and address.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use strait::mock::Mock;

use super::common::{Strait, chat, eventually, mock};
use super::{post, provider, who};

/// Two providers of two keys and two addresses each.
fn four(mocks: &[Mock; 4]) -> String {
    let table = |name: &str, one: &Mock, other: &Mock| {
        format!(
            "[providers.{name}]\nprotocols = \"openai-chat\"\nendpoints = [{{ url = \"{}/v1\" }}, {{ url = \"{}/v1\" }}]\n\
             keys = [{{ name = \"k1\", key = \"{name}-key-1\" }}, {{ name = \"k2\", key = \"{name}-key-2\" }}]\n",
            one.url(),
            other.url()
        )
    };
    format!(
        "{}{}[models.m]\nstrategy = \"round-robin\"\ntargets = [\"a/x\", \"b/x\"]\nretries = {{ backoff = \"1ms\" }}\n",
        table("a", &mocks[0], &mocks[1]),
        table("b", &mocks[2], &mocks[3]),
    )
}

/// Who answered: provider, credential and address.
fn place(record: &Value) -> (String, String, String) {
    let last = record["attempts"].as_array().unwrap().last().unwrap();
    let text = |name: &str| last[name].as_str().unwrap_or_default().to_owned();
    (text("provider"), text("credential"), text("endpoint"))
}

#[test]
fn a_session_stays_with_one_target_key_and_address_until_that_dies() {
    let mocks = [mock(""), mock(""), mock(""), mock("")];
    let config = four(&mocks);
    let strait = Strait::start(&config);
    let session = [("x-strait-session-id", "s1")];
    for _ in 0..100 {
        assert_eq!(post(&strait, &session, &chat("m", "hi")).status, 200);
        // Others move on meanwhile.
        assert_eq!(post(&strait, &[], &chat("m", "hi")).status, 200);
    }
    let records = strait.records(200);
    let mine = |record: &&Value| record["session"] == "s1";
    let places: BTreeSet<_> = records.iter().filter(mine).map(place).collect();
    assert_eq!(places.len(), 1, "{places:?}");
    let others: BTreeSet<_> = records.iter().filter(|r| !mine(r)).map(place).collect();
    assert!(others.len() >= 4, "the rest is spread: {others:?}");

    // A reload keeps it.
    let pinned = places.into_iter().next().unwrap();
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    assert_eq!(post(&strait, &session, &chat("m", "hi")).status, 200);
    assert_eq!(place(strait.records(201).last().unwrap()), pinned);

    // It dies: another answers, and has the session from then on.
    let dead = mocks
        .iter()
        .find(|mock| mock.url().ends_with(&pinned.2))
        .unwrap();
    let broken = "[[rule]]\nsteps = [{ close_before_head = true }]";
    dead.set_script(strait::mock::Script::from_toml(broken).unwrap());
    for _ in 0..20 {
        assert_eq!(post(&strait, &session, &chat("m", "hi")).status, 200);
    }
    let records = strait.records(221);
    let after: BTreeSet<_> = records[201..].iter().map(place).collect();
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(!after.contains(&pinned), "not the dead one");
}

#[test]
fn clients_name_their_session_in_their_own_ways() {
    let mocks = [mock(""), mock("")];
    let strait = Strait::start(&format!(
        "{}{}[models.m]\nstrategy = \"round-robin\"\ntargets = [\"a/x\", \"b/x\"]\n",
        provider("a", &mocks[0], ""),
        provider("b", &mocks[1], ""),
    ));
    let mut cached = chat("m", "hi");
    cached["prompt_cache_key"] = json!("s-body");
    let plain = chat("m", "hi");
    type Way<'w> = (&'w str, &'w [(&'w str, &'w str)], &'w Value);
    let ways: [Way<'_>; 6] = [
        (
            "s-affinity",
            &[("x-session-affinity", "s-affinity")],
            &plain,
        ),
        (
            "s-baggage",
            &[("baggage", "user.id=7, session.id=s-baggage;p=1")],
            &plain,
        ),
        ("s-codex", &[("session_id", "s-codex")], &plain),
        ("s-bf", &[("x-bf-session-id", "s-bf")], &plain),
        ("s-parent", &[("x-parent-session-id", "s-parent")], &plain),
        ("s-body", &[], &cached),
    ];
    for (session, headers, body) in ways {
        let first = who(&post(&strait, headers, body));
        for _ in 0..3 {
            // Somebody else takes a turn, so that the session's own would go to the other.
            who(&post(&strait, &[], &plain));
            who(&post(&strait, &[], &plain));
            assert_eq!(who(&post(&strait, headers, body)), first, "{session}");
        }
    }
    let claude = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
        "metadata": {"user_id": "user_1_account_2_session_s-claude"}});
    let asked: BTreeSet<String> = (0..5)
        .map(|_| who(&strait.post("/v1/messages", &claude)))
        .collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    eventually("the records name it", || {
        strait
            .records(40)
            .iter()
            .any(|record| record["session"] == "s-claude")
    });
}

#[test]
fn the_metrics_tell_how_much_was_read_from_prompt_caches() {
    let lab = mock(
        "[default]\nusage = { prompt_tokens = 100, completion_tokens = 5, cached_tokens = 75 }",
    );
    let strait = Strait::start(&format!(
        "{}[models.m]\ntargets = [\"lab/x\"]\n",
        provider("lab", &lab, "")
    ));
    who(&post(&strait, &[], &chat("m", "hi")));
    strait.records(1);
    eventually("it is told", || {
        strait.metric("strait_cache_read_ratio", &["provider=\"lab\""]) == 0.75
    });
}
