use std::sync::Arc;

use serde_json::{Value, json};

use super::listing::list;
use super::*;
use crate::state::{Asker, Chain, Settings};

fn stored(id: &str, previous: Option<&str>, input: Value, output: Value) -> Stored {
    Stored {
        id: id.into(),
        tenant: "a".into(),
        created: 1,
        expires: i64::MAX,
        model: "gpt-5".into(),
        status: "completed".into(),
        maker: String::new(),
        previous: previous.map(Into::into),
        input: input.to_string(),
        response: json!({"id": id, "object": "response", "output": output}).to_string(),
        asker: Asker::default(),
    }
}

fn chain(links: Vec<Stored>) -> Chain {
    Chain {
        links: links.into_iter().map(Arc::new).collect(),
    }
}

fn two() -> Chain {
    let first = stored(
        "resp_1",
        None,
        json!([{"role": "user", "content": "one"}]),
        json!([
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
        ]),
    );
    let second = stored(
        "resp_2",
        Some("resp_1"),
        json!([{"type": "function_call_output", "call_id": "c1", "output": "42"}]),
        json!([{"type": "message", "id": "msg_2", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "two", "annotations": []}]}]),
    );
    chain(vec![first, second])
}

fn expanded(body: &str, chain: &Chain) -> Value {
    let body = Bytes::copy_from_slice(body.as_bytes());
    serde_json::from_slice(&expand(&body, chain, 1 << 20).expect("it fits")).expect("JSON")
}

#[test]
fn a_conversation_is_put_before_the_new_input_in_its_order() {
    let body = r#"{"model":"m","input":"three","previous_response_id":"resp_2","store":true}"#;
    let whole = expanded(body, &two());
    assert!(whole.get("previous_response_id").is_none());
    assert_eq!(
        (&whole["model"], &whole["store"]),
        (&json!("m"), &json!(true))
    );
    let kinds: Vec<&str> = whole["input"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|item| item["type"].as_str().unwrap_or("(none)"))
        .collect();
    assert_eq!(
        kinds,
        [
            "(none)",
            "reasoning",
            "function_call",
            "function_call_output",
            "message",
            "message"
        ]
    );
    assert_eq!(
        whole["input"][5],
        json!({"type": "message", "role": "user", "content": "three"})
    );
}

#[test]
fn every_shape_of_input_goes_on_from_a_conversation() {
    let first = stored(
        "resp_1",
        None,
        json!([{"role": "user", "content": "é\n\"x\""}]),
        json!([]),
    );
    for (input, more) in [
        (r#""input":"a \"b\" \u00e9","#, 1),
        (
            r#""input":[{"role":"user","content":"b"},{"role":"user","content":"c"}],"#,
            2,
        ),
        (r#""input": [ ] ,"#, 0),
        (r#""input":null,"#, 0),
        ("", 0),
    ] {
        let body = format!(r#"{{{input}"previous_response_id":"resp_1"}}"#);
        let whole = expanded(&body, &chain(vec![first.clone()]));
        let items = whole["input"].as_array().expect(input);
        assert_eq!(items.len(), 1 + more, "{body}");
        assert_eq!(items[0]["content"], "é\n\"x\"");
        assert_eq!(whole.as_object().expect("an object").len(), 1, "{body}");
    }
    let body = Bytes::from_static(br#"{"input":7,"previous_response_id":"resp_1"}"#);
    let error = expand(&body, &two(), 1 << 20).expect_err("a number");
    assert_eq!(error.param.as_deref(), Some("input"));
}

#[test]
fn what_the_conversation_says_is_copied_byte_for_byte() {
    let mut one = stored("resp_1", None, json!([]), json!([]));
    one.input = r#"[ {"role":"user", "content" : "x", "n": 1.50e+1 } ]"#.into();
    one.response = r#"{"id":"resp_1", "output" : [ {"type":"x","deep":[[ ]]} ] ,"z":1}"#.into();
    let body = Bytes::from_static(br#"{"a" : 1 , "input":"y","previous_response_id":"resp_1"}"#);
    let whole = expand(&body, &chain(vec![one]), 1 << 20).expect("it fits");
    assert_eq!(
        std::str::from_utf8(&whole).expect("text"),
        r#"{"a" : 1 , "input":[{"role":"user", "content" : "x", "n": 1.50e+1 },{"type":"x","deep":[[ ]]},{"type":"message","role":"user","content":"y"}]}"#
    );
}

#[test]
fn a_conversation_that_is_too_long_is_refused_with_the_field() {
    let body = Bytes::from_static(br#"{"input":"y","previous_response_id":"resp_2"}"#);
    let error = expand(&body, &two(), 100).expect_err("too long");
    assert_eq!(error.kind, Kind::InvalidRequest);
    assert_eq!(error.param.as_deref(), Some("previous_response_id"));
}

#[test]
fn what_a_request_asks_of_the_store_is_read_or_refused_by_name() {
    let read = |body: &'static str| asked(body.as_bytes());
    assert!(read("{}").expect("fine").store);
    assert!(read(r#"{"store":null}"#).expect("fine").store);
    assert!(!read(r#"{"store":false}"#).expect("fine").store);
    let both = read(r#"{"previous_response_id":"resp_\u0031","store":true}"#).expect("fine");
    assert_eq!(both.previous.as_deref(), Some("resp_1"));
    assert_eq!(
        read(r#"{"previous_response_id":null}"#)
            .expect("fine")
            .previous,
        None
    );
    for (body, field) in [
        (r#"{"store":"yes"}"#, "store"),
        (r#"{"previous_response_id":7}"#, "previous_response_id"),
        (r#"{"previous_response_id":""}"#, "previous_response_id"),
        (
            r#"{"previous_response_id":"r","conversation":"c"}"#,
            "previous_response_id",
        ),
    ] {
        let error = read(body).expect_err(body);
        assert_eq!(error.param.as_deref(), Some(field), "{body}");
        assert_eq!(error.kind.status(), 400, "{body}");
    }
    assert_eq!(
        read("[]").expect_err("no object").kind,
        Kind::InvalidRequest
    );
}

#[test]
fn what_is_kept_is_the_new_input_and_the_whole_answer() {
    let body = br#"{"model":"m","input":"hi","previous_response_id":"resp_0"}"#;
    let response = Bytes::from_static(
        br#"{"id":"resp_1","created_at":77,"model":"gpt-5-2025","status":"incomplete","output":[]}"#,
    );
    let asker = Asker {
        user: "eve".into(),
        at_us: 100_500_000,
    };
    let kept = keep(
        "a",
        "openai/main",
        body,
        response.clone(),
        |at| at + 10,
        asker.clone(),
    )
    .expect("a response");
    assert_eq!(
        kept,
        Stored {
            id: "resp_1".into(),
            tenant: "a".into(),
            created: 77,
            expires: 110,
            model: "gpt-5-2025".into(),
            status: "incomplete".into(),
            maker: "openai/main".into(),
            previous: Some("resp_0".into()),
            input: r#"[{"type":"message","role":"user","content":"hi"}]"#.into(),
            response: String::from_utf8(response.to_vec()).expect("text"),
            asker,
        }
    );
    for broken in ["{}", "[]", r#"{"id":7}"#, "{", r#"{"id":""}"#] {
        let response = broken.as_bytes().to_vec().into();
        let kept = keep("a", "", body, response, |at| at, Asker::default());
        assert_eq!(kept, None, "{broken}");
    }
}

#[test]
fn items_are_listed_newest_first_with_all_that_came_before() {
    let listed = |page: &Page| -> Value {
        serde_json::from_slice(&list(&two(), page).expect("a list")).expect("JSON")
    };
    let all = listed(&Page::default());
    let ids = |list: &Value| -> Vec<String> {
        let items = list["data"].as_array().expect("an array").iter();
        items
            .map(|item| item["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(ids(&all), ["fco_2_0", "fc_1", "rs_1", "msg_1_0"]);
    assert_eq!(
        (&all["object"], &all["has_more"]),
        (&json!("list"), &json!(false))
    );
    assert_eq!(all["first_id"], "fco_2_0");
    assert_eq!(all["last_id"], "msg_1_0");
    assert_eq!(
        all["data"][3],
        json!({"role": "user", "content": [{"type": "input_text", "text": "one"}],
            "id": "msg_1_0", "type": "message", "status": "completed"})
    );
    // Page by page it is the same list.
    for order in [Order::Ascending, Order::Descending] {
        let mut walked = Vec::new();
        let mut page = Page {
            limit: 1,
            order,
            after: None,
        };
        loop {
            let one = listed(&page);
            walked.extend(ids(&one));
            if one["has_more"] == false {
                break;
            }
            page.after = one["last_id"].as_str().map(str::to_owned);
        }
        let mut wanted = ids(&all);
        if order == Order::Ascending {
            wanted.reverse();
        }
        assert_eq!(walked, wanted, "{order:?}");
    }
    let nowhere = Page {
        after: Some("msg_x".into()),
        ..Page::default()
    };
    let error = list(&two(), &nowhere).expect_err("unknown");
    assert_eq!(error.param.as_deref(), Some("after"));
}

#[test]
fn an_empty_list_has_no_first_and_no_last() {
    let none = chain(vec![stored("resp_1", None, json!([]), json!([]))]);
    let body = list(&none, &Page::default()).expect("a list");
    assert_eq!(
        &*body,
        br#"{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false}"#
    );
}

#[test]
fn a_query_is_read_or_refused_by_name() {
    let read = page(Some("limit=5&order=asc&after=msg%5F1&include%5B%5D=x")).expect("fine");
    assert_eq!(
        read,
        Page {
            limit: 5,
            order: Order::Ascending,
            after: Some("msg_1".into())
        }
    );
    assert_eq!(page(None).expect("fine"), Page::default());
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("order=up", "order"),
    ] {
        let error = page(Some(query)).expect_err(query);
        assert_eq!(error.param.as_deref(), Some(field), "{query}");
    }
    assert_eq!(decoded("a%2"), "a%2");
    assert_eq!(decoded("%zz+%e9"), "%zz \u{fffd}");
}

#[test]
fn a_response_is_read_listed_and_deleted_by_its_owner_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = State::open(dir.path(), Settings::default()).expect("a database");
    for link in two().links {
        state.responses().put((*link).clone());
    }
    let mut background = stored("resp_b", None, json!([]), json!([]));
    background.response = r#"{"id":"resp_b","background":true,"status":"completed"}"#.into();
    state.responses().put(background);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let run = |action: Action, tenant: &str, id: &str, query: Option<&str>| {
        runtime.block_on(action.run(&state, tenant, id, query))
    };
    let json = |reply: Result<Reply>| -> Value {
        let (status, body) = reply.expect("an answer");
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&body).expect("JSON")
    };
    assert_eq!(json(run(Action::Read, "a", "resp_2", None))["id"], "resp_2");
    let items = json(run(Action::InputItems, "a", "resp_2", Some("limit=2")));
    assert_eq!(
        (items["data"].as_array().map(Vec::len), &items["has_more"]),
        (Some(2), &json!(true))
    );
    assert_eq!(
        json(run(Action::Cancel, "a", "resp_b", None))["id"],
        "resp_b"
    );
    let error = run(Action::Cancel, "a", "resp_1", None).expect_err("not in the background");
    assert_eq!(
        (error.kind, &*error.message),
        (
            Kind::InvalidRequest,
            "Cannot cancel a synchronous response."
        )
    );
    let error = run(Action::Read, "a", "resp_1", Some("stream=true")).expect_err("no stream");
    assert_eq!(error.param.as_deref(), Some("stream"));
    for action in [
        Action::Read,
        Action::InputItems,
        Action::Cancel,
        Action::Delete,
    ] {
        for (tenant, id) in [("b", "resp_1"), ("a", "resp_x")] {
            let error = run(action, tenant, id, None).expect_err("not theirs");
            assert_eq!(
                error.kind,
                Kind::ResponseNotFound,
                "{action:?} {tenant} {id}"
            );
            assert_eq!(
                &*error.message,
                format!("Response with id '{id}' not found.")
            );
        }
    }
    let deleted = json(run(Action::Delete, "a", "resp_1", None));
    assert_eq!(
        deleted,
        json!({"id": "resp_1", "object": "response", "deleted": true})
    );
    let error = run(Action::Read, "a", "resp_1", None).expect_err("gone");
    assert_eq!(error.kind.status(), 404);
    // What it began with is gone: it says so.
    let error = run(Action::InputItems, "a", "resp_2", None).expect_err("broken");
    assert_eq!(error.kind, Kind::ResponseNotFound);
    assert!(error.message.contains("resp_1"), "{}", error.message);
}

#[test]
fn an_answer_says_what_it_goes_on_from_where_its_provider_did_not_know() {
    let said = |body: &'static str| {
        let whole = shown::whole(Bytes::from_static(body.as_bytes()), "resp_\"1");
        String::from_utf8(whole.into()).expect("text")
    };
    assert_eq!(
        said(r#"{"id":"r","previous_response_id":null,"x":[ 1]}"#),
        r#"{"id":"r","previous_response_id":"resp_\"1","x":[ 1]}"#
    );
    assert_eq!(
        said(r#"{"id":"r"}"#),
        r#"{"id":"r","previous_response_id":"resp_\"1"}"#
    );
    for same in [
        r#"{"id":"r","previous_response_id":"own"}"#,
        r#"{"error":{"message":"no"}}"#,
        "[]",
        "<html>",
    ] {
        assert_eq!(said(same), same);
    }
}

#[test]
fn a_stream_says_what_it_goes_on_from_wherever_it_is_cut() {
    let stream = "event: response.created\r\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"a\",\"previous_response_id\":null}}\r\n\r\n\
                  : ping\n\n\
                  data: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"previous_response_id\\\":null\"}\n\n\
                  event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"a\",\"previous_response_id\":null,\"output\":[]}}";
    let wanted = stream.replace(
        "\"previous_response_id\":null}}\r\n",
        "\"previous_response_id\":\"p\"}}\n",
    );
    let wanted = wanted.replace(
        "\"previous_response_id\":null,\"output\":[]}}",
        "\"previous_response_id\":\"p\",\"output\":[]}}\n",
    );
    for cut in 0..=stream.len() {
        let mut shown = Shown::new("p", 1 << 20);
        let (one, other) = stream.as_bytes().split_at(cut);
        let mut out = Vec::new();
        for piece in [one, other] {
            out.extend_from_slice(&shown.put(Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&shown.end());
        assert_eq!(
            String::from_utf8(out).expect("text"),
            wanted,
            "cut at {cut}"
        );
    }
    let mut small = Shown::new("p", 10);
    assert_eq!(
        &small.put(Bytes::from_static(b"data: 12345"))[..],
        b"data: 12345"
    );
}

#[test]
fn items_that_are_named_are_put_in_from_the_callers_answers_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = State::open(dir.path(), Settings::default()).expect("a database");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for link in two().links {
        state.responses().put(Stored::clone(&link));
    }
    let body = Bytes::from_static(
        br#"{"input":[{"role":"user","content":"one"}, {"type":"item_reference","id":"rs_1"},{"id":"fc_1","type":"item_reference"},
            {"type":"item_reference","id":"rs_0"},{"type":"item_reference","id":"msg_2"}],"model":"m"}"#,
    );
    let resolved = |tenant: &str, most| {
        let done = runtime.block_on(resolve(&state, tenant, body.clone(), most));
        done.map(|body| serde_json::from_slice::<Value>(&body).expect("JSON"))
    };
    let kinds = |body: &Value| -> Vec<String> {
        let items = body["input"].as_array().expect("a list").iter();
        items
            .map(|item| item["type"].as_str().unwrap_or("(none)").to_owned())
            .collect()
    };
    for flushed in [false, true] {
        let mine = resolved("a", 1 << 20).expect("it fits");
        assert_eq!(
            kinds(&mine),
            [
                "(none)",
                "reasoning",
                "function_call",
                "item_reference",
                "message"
            ],
            "flushed: {flushed}"
        );
        assert_eq!(mine["input"][1]["encrypted_content"], "e");
        assert_eq!(mine["model"], "m");
        let theirs = resolved("b", 1 << 20).expect("nothing is put in");
        assert_eq!(
            theirs,
            serde_json::from_slice::<Value>(&body).expect("JSON")
        );
        let error = resolved("a", 300).expect_err("too long");
        assert_eq!(error.param.as_deref(), Some("input"));
        assert!(state.flush(std::time::Duration::from_secs(20)));
    }
    // With the answer its items are gone, and those that another one has too are found there.
    runtime
        .block_on(state.responses().delete("a", "resp_1"))
        .expect("a database");
    let mine = resolved("a", 1 << 20).expect("it fits");
    assert_eq!(
        kinds(&mine),
        [
            "(none)",
            "item_reference",
            "item_reference",
            "item_reference",
            "message"
        ]
    );
    let many = vec![json!({"type": "item_reference", "id": "x"}); 1001];
    let body = Bytes::from(json!({"input": many}).to_string());
    let error = runtime
        .block_on(resolve(&state, "a", body, 1 << 20))
        .expect_err("too many");
    assert_eq!(error.param.as_deref(), Some("input"));
}
