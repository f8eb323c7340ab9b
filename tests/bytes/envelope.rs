use proptest::prelude::*;
use strait::error::Kind;
use strait::protocol::Protocol;
use strait::protocol::envelope::Envelope;

use super::text;

const DEPTH: usize = 64;

fn read(body: &str) -> Result<Envelope<'_>, strait::error::Error> {
    Envelope::read(body.as_bytes(), Protocol::OpenaiChat, DEPTH)
}

#[test]
fn a_full_request_is_read_whole() {
    let body = r#" { "model" : "open\u0061i/gpt", "messages":[{"role":"user","content":"hi"}], "stream":true,
        "stream_options":{"include_obfuscation":false,"include_usage":true}, "max_tokens":5, "max_completion_tokens": 7, "n":2,
        "user":"u\n1", "metadata":{"user_id":"no"}, "fallbacks":["a","b\u0063"], "usage":{"include":true}, "extra":[1] } "#;
    let envelope = read(body).unwrap();
    assert_eq!(envelope.model, "openai/gpt");
    assert_eq!(
        &body[envelope.model_value.clone().unwrap()],
        r#""open\u0061i/gpt""#
    );
    assert!(envelope.stream && envelope.include_usage && envelope.include_cost);
    assert_eq!(envelope.members.len(), 12);
    assert_eq!(envelope.stream_options, Some(3));
    assert_eq!((envelope.max_output, envelope.n), (Some(7), Some(2)));
    assert_eq!(envelope.user.as_deref(), Some("u\n1"));
    assert_eq!(
        &body[envelope.metadata.clone().unwrap()],
        r#"{"user_id":"no"}"#
    );
    assert_eq!(envelope.fallbacks, ["a", "bc"]);
    assert_eq!(envelope.ours().collect::<Vec<_>>(), [9, 10]);
}

#[test]
fn the_smallest_request_has_the_defaults() {
    let body = r#"{"model":"m","messages":[{}],"stream":null,"stream_options":null,"max_tokens":9,"usage":null,"fallbacks":null}"#;
    let envelope = read(body).unwrap();
    assert!(!envelope.stream && !envelope.include_usage && !envelope.include_cost);
    assert_eq!(envelope.max_output, Some(9));
    assert_eq!(
        (
            envelope.n,
            envelope.user.as_deref(),
            envelope.fallbacks.len()
        ),
        (None, None, 0)
    );
    // A null `fallbacks` is ours all the same; a `usage` that doesn't ask for costs isn't.
    assert_eq!(envelope.ours().collect::<Vec<_>>(), [6]);
}

#[test]
fn fallbacks_that_anthropic_knows_are_its_own() {
    for (value, is_ours) in [
        (r#"[ {"model":"claude-haiku-4-5"}]"#, false),
        (r#""default""#, false),
        (r#"[ "a/b"]"#, true),
        ("[]", true),
        ("null", true),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{{}}],"fallbacks":{value}}}"#);
        let envelope = Envelope::read(body.as_bytes(), Protocol::Anthropic, DEPTH).unwrap();
        assert_eq!(envelope.ours().count(), usize::from(is_ours), "{value}");
        assert!(is_ours || envelope.fallbacks.is_empty(), "{value}");
        let read = Envelope::read(body.as_bytes(), Protocol::OpenaiChat, DEPTH);
        assert_eq!(read.is_ok(), is_ours, "{value} in OpenAI's dialect");
    }
    let body = br#"{"model":"m","messages":[{}],"fallbacks":["a",{"model":"b"}]}"#;
    assert!(Envelope::read(body, Protocol::Anthropic, DEPTH).is_err());
}

#[test]
fn anthropic_names_its_user_in_the_metadata() {
    let body = br#"{"model":"m","messages":[{}],"user":"no","metadata":{"user_id":"old","user_\u0069d":"u"}}"#;
    let envelope = Envelope::read(body, Protocol::Anthropic, DEPTH).unwrap();
    assert_eq!(envelope.user.as_deref(), Some("u"));
}

#[test]
fn every_wrong_field_is_named() {
    let long = format!(r#"{{"model":"{}","messages":[1]}}"#, "m".repeat(513));
    let many = format!(
        r#"{{"model":"m","messages":[1],"fallbacks":[{}"x"]}}"#,
        "\"x\",".repeat(16)
    );
    for (body, param) in [
        (r#"{"messages":[1]}"#, "model"),
        (r#"{"model":"","messages":[1]}"#, "model"),
        (r#"{"model":null,"messages":[1]}"#, "model"),
        (r#"{"model":["m"],"messages":[1]}"#, "model"),
        (r#"{"model":"\ud800","messages":[1]}"#, "model"),
        (long.as_str(), "model"),
        (r#"{"model":"m"}"#, "messages"),
        (r#"{"model":"m","messages":[]}"#, "messages"),
        (r#"{"model":"m","messages":[ ]}"#, "messages"),
        (r#"{"model":"m","messages":null}"#, "messages"),
        (r#"{"model":"m","messages":"hi"}"#, "messages"),
        (r#"{"model":"m","messages":{}}"#, "messages"),
        (r#"{"model":"m","messages":[1],"stream":"true"}"#, "stream"),
        (r#"{"model":"m","messages":[1],"stream":1}"#, "stream"),
        (
            r#"{"model":"m","messages":[1],"stream_options":true}"#,
            "stream_options",
        ),
        (
            r#"{"model":"m","messages":[1],"stream_options":[]}"#,
            "stream_options",
        ),
        (
            r#"{"model":"m","messages":[1],"fallbacks":"x"}"#,
            "fallbacks",
        ),
        (
            r#"{"model":"m","messages":[1],"fallbacks":[1]}"#,
            "fallbacks",
        ),
        (
            r#"{"model":"m","messages":[1],"fallbacks":[""]}"#,
            "fallbacks",
        ),
        (many.as_str(), "fallbacks"),
        (r#"{"model":"a","messages":[1],"model":"b"}"#, "model"),
        (r#"{"model":"a","messages":[1],"mod\u0065l":"b"}"#, "model"),
        (r#"{"model":"a","messages":[1],"x":1,"\u0078":1}"#, "x"),
        (
            r#"{"model":"a","messages":[1],"stream":false,"stream":true}"#,
            "stream",
        ),
    ] {
        let error = read(body).unwrap_err();
        assert_eq!(
            (error.kind, error.param.as_deref()),
            (Kind::InvalidRequest, Some(param)),
            "{body}"
        );
        assert!(error.message.contains(param), "{error}");
    }
}

#[test]
fn what_is_no_object_is_refused_with_the_place() {
    let deep = format!(
        r#"{{"model":"m","messages":{}1{}}}"#,
        "[".repeat(DEPTH),
        "]".repeat(DEPTH)
    );
    for (body, said) in [
        ("", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ("{\"model\":\"m\",}", "not valid JSON at byte 13"),
        ("{\"\\ud800\":1}", "not valid JSON at byte 2"),
        (deep.as_str(), "nested too deeply at byte"),
    ] {
        let error = read(body).unwrap_err();
        assert_eq!(
            (error.kind, error.kind.status()),
            (Kind::InvalidRequest, 400)
        );
        assert!(error.message.contains(said), "{error}");
    }
    let error = Envelope::read(b"{\"a\":\"\xff\"}", Protocol::OpenaiChat, DEPTH).unwrap_err();
    assert!(
        error.message.contains("not valid UTF-8 at byte 6"),
        "{error}"
    );
}

#[test]
fn a_key_given_twice_is_found_among_many() {
    let many = |extra: &str| {
        let keys: String = (0..5000).map(|at| format!(",\"k{at}\":{at}")).collect();
        format!("{{\"model\":\"m\",\"messages\":[1]{keys}{extra}}}")
    };
    assert!(read(&many("")).is_ok());
    let error = Envelope::read(
        many(",\"\\u006b4711\":0").as_bytes(),
        Protocol::OpenaiChat,
        DEPTH,
    )
    .unwrap_err();
    assert_eq!(error.param.as_deref(), Some("k4711"));
}

fn canonical(body: &str) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    read(body)
        .unwrap()
        .canonical(body.as_bytes(), &mut |key, value| {
            parts.push((
                String::from_utf8_lossy(key).into_owned(),
                String::from_utf8_lossy(value).into_owned(),
            ));
        });
    parts
}

#[test]
fn the_cache_key_is_all_that_can_change_the_answer() {
    let one = r#"{"model":"m","messages":[ 1 ],"temperature":0,"user":"a","stream":true,"stream_options":{},"metadata":{},"store":true,
        "safety_identifier":"s","fallbacks":["x"],"usage":{"include":true}}"#;
    let other = r#"{"te\u006dperature":0,"messages":[ 1 ],"model":"m"}"#;
    assert_eq!(canonical(one), canonical(other));
    let keys: Vec<String> = canonical(one).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["messages", "model", "temperature"]);
    // What isn't ours by its form counts.
    assert_eq!(
        canonical(r#"{"model":"m","messages":[1],"usage":3}"#).len(),
        3
    );
}

#[test]
fn the_usage_chunk_is_asked_for_beside_what_is_there() {
    for (options, expected) in [
        ("null", r#"{"include_usage":true}"#),
        ("{}", r#"{"include_usage":true}"#),
        (r#"{"include_usage":false}"#, r#"{"include_usage":true}"#),
        (
            r#"{ "a" : [1] , "include_\u0075sage":null,"b":2}"#,
            r#"{"include_usage":true,"a" : [1],"b":2}"#,
        ),
    ] {
        let body = format!(r#"{{"model":"m","messages":[1],"stream_options":{options}}}"#);
        let envelope = read(&body).unwrap();
        assert_eq!(
            String::from_utf8(envelope.stream_options_with_usage(body.as_bytes())).unwrap(),
            expected
        );
    }
}

#[test]
fn an_image_counts_as_an_image_and_not_as_text() {
    let request = |content: &str| {
        format!(r#"{{"model":"m","messages":[{{"content":"{content}"}}],"max_tokens":50}}"#)
    };
    let prose = request(&"word ".repeat(20_000));
    let image = request(&format!(
        "data:image/png;base64,{}",
        "iVBORw0KGgo/".repeat(20_000)
    ));
    let small = request("hello");
    let of = |body: &str| {
        (
            read(body).unwrap().estimate_input(),
            read(body).unwrap().estimate_tokens(),
        )
    };
    assert_eq!(
        of(&prose),
        (prose.len() as u64 / 4, prose.len() as u64 / 4 + 50)
    );
    assert_eq!(of(&small).0, small.len() as u64 / 4);
    assert!((1000..1050).contains(&of(&image).0), "{:?}", of(&image));
    let boundless = r#"{"model":"m","messages":[1],"max_tokens":18446744073709551615}"#;
    assert_eq!(read(boundless).unwrap().estimate_tokens(), u64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_envelope_reads_what_a_tree_would(
        fields in prop::collection::vec((prop::sample::select(vec![
            "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "user", "metadata",
            "usage", "fallbacks", "temperature", "mod\\u0065l", "\\u0075ser",
        ]), prop_oneof![
            4 => prop::sample::select(vec![
                "\"m\"", "[1]", "[{\"role\":\"user\"}]", "true", "false", "null", "12", "-1", "1.5", "{\"include_usage\":true}", "{\"include\":true}",
                "{\"include\":false}", "[\"a\",\"b\"]", "\"\"", "[]", "{}", "\"x\\ty\"",
            ]).prop_map(str::to_owned),
            1 => text::value(),
        ]), 0..7),
    ) {
        let mut fields = fields;
        fields.insert(fields.len() / 2, ("model", "\"m1\"".to_owned()));
        fields.push(("messages", "[0]".to_owned()));
        // Doubles most often refuse it all; half the time keep the first of each.
        if fields.len() % 2 == 0 {
            let mut seen = std::collections::HashSet::new();
            fields.retain(|(key, _)| seen.insert(key.replace("\\u0065", "e").replace("\\u0075", "u")));
        }
        let body = format!("{{{}}}", fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect::<Vec<_>>().join(", "));
        let found = read(&body);
        let members = text::reference(body.as_bytes()).unwrap().0;
        let tree: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(&body) {
            Ok(tree) => tree,
            // Numbers beyond a double are fine for us.
            Err(_) => return Ok(()),
        };
        let twice = tree.len() != members.len();
        let get = |key: &str| tree.get(key).unwrap_or(&serde_json::Value::Null);
        let names = |value: &serde_json::Value| value.as_array().is_some_and(|list| {
            list.len() <= 16 && list.iter().all(|name| name.as_str().is_some_and(|name| !name.is_empty() && name.len() <= 512))
        });
        let fine = !twice
            && get("model").as_str().is_some_and(|model| !model.is_empty() && model.len() <= 512)
            && get("messages").as_array().is_some_and(|messages| !messages.is_empty())
            && (get("stream").is_boolean() || get("stream").is_null())
            && (get("stream_options").is_object() || get("stream_options").is_null())
            && (get("fallbacks").is_null() || names(get("fallbacks")));
        prop_assert_eq!(found.is_ok(), fine, "{} {:?}", body, found);
        let Ok(found) = found else { return Ok(()) };
        prop_assert_eq!(Some(&*found.model), get("model").as_str());
        prop_assert_eq!(found.stream, get("stream") == true);
        prop_assert_eq!(found.include_usage, get("stream_options").get("include_usage") == Some(&true.into()));
        prop_assert_eq!(found.include_cost, get("usage").get("include") == Some(&true.into()));
        prop_assert_eq!(found.max_output, get("max_completion_tokens").as_u64().or(get("max_tokens").as_u64()));
        prop_assert_eq!(found.n, get("n").as_u64());
        prop_assert_eq!(found.user.as_deref(), get("user").as_str());
        prop_assert_eq!(found.fallbacks.len(), get("fallbacks").as_array().map_or(0, Vec::len));
        let ours = usize::from(tree.contains_key("fallbacks")) + usize::from(get("usage").get("include").is_some());
        prop_assert_eq!(found.ours().count(), ours);
    }

    #[test]
    fn nothing_makes_the_envelope_panic(body in text::broken(), anthropic in any::<bool>()) {
        let protocol = if anthropic { Protocol::Anthropic } else { Protocol::OpenaiChat };
        if let Ok(envelope) = Envelope::read(&body, protocol, 4) {
            envelope.canonical(&body, &mut |_, _| {});
        }
    }
}
