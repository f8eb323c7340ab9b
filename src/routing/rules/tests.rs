use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::facts::Facts;
use super::language::{MOST_LENGTH, compile, compile_whole};
use super::*;
use crate::protocol::Protocol;
use crate::protocol::envelope::Envelope;

/// A request to ask rules of.
struct Case {
    protocol: Protocol,
    body: String,
    headers: Vec<(&'static str, &'static str)>,
    tags: Vec<String>,
    at: &'static str,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            protocol: Protocol::OpenaiChat,
            body: r#"{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"stream":true,"user":"ann",
                "metadata":{"tier":"gold","n":3,"deep":{"list":[1,2]}},"tools":[{"type":"function"}]}"#
                .to_owned(),
            headers: vec![
                ("x-tier", "gold"),
                ("x-tier", "silver"),
                ("authorization", "Bearer secret"),
                ("x-api-key", "secret"),
            ],
            tags: vec!["batch".to_owned()],
            at: "2026-01-03T07:30:00Z",
        }
    }
}

impl Case {
    fn ask(&self, expression: &Expression, zone: &TimeZone) -> Result<bool, Problem> {
        let envelope = Envelope::read(self.body.as_bytes(), self.protocol, 128).expect("a body");
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let request = Request {
            endpoint: "chat",
            headers: &headers,
            tags: &self.tags,
            key: "team-a",
            team: "",
            session: "s1",
            region: "eu",
            at: self.at.parse().expect("a time"),
            said: Some(Said {
                protocol: self.protocol,
                body: self.body.as_bytes(),
                envelope: &envelope,
                user: envelope.user.as_deref().unwrap_or_default(),
            }),
        };
        expression.ask(&Facts::new(&request), zone)
    }
}

fn ask(source: &str) -> Result<bool, Problem> {
    let expression = compile(source).unwrap_or_else(|fault| panic!("{source}: {fault:?}"));
    Case::default().ask(&expression, &TimeZone::UTC)
}

#[test]
fn every_variable_can_be_asked() {
    for source in [
        r#"model == "gpt-5""#,
        r#"endpoint == "chat""#,
        "stream",
        r#"headers["x-tier"] == "gold, silver""#,
        r#"headers.?missing.orValue("none") == "none""#,
        r#"headers[?"x-no"].orValue("") == """#,
        r#"metadata.tier == "gold""#,
        "metadata.n == 3 && metadata.n < 4.5",
        "metadata.deep.list[1] == 2",
        r#""batch" in tags"#,
        r#"tags.exists(tag, tag.startsWith("ba"))"#,
        "size(tags) == 1",
        r#"user == "ann""#,
        r#"key == "team-a""#,
        r#"team == """#,
        r#"session == "s1""#,
        "tokens > 10 && tokens < 1000",
        "!has_images",
        "has_tools",
        "hour == 7",
        r#"weekday == "sat""#,
        r#"weekday in ["sat", "sun"]"#,
        r#"region == "eu""#,
        r#"model.matches("^gpt-[0-9]+$")"#,
        r#"model.lowerAscii().contains("PT".lowerAscii())"#,
        r#"has(metadata.tier) && !has(metadata.none)"#,
        r#"(model.startsWith("o") ? 1 : 2) == 2"#,
        r#"{"gpt-5": 10}[model] < tokens"#,
    ] {
        assert_eq!(ask(source), Ok(true), "{source}");
    }
}

#[test]
fn credentials_are_not_there() {
    for name in super::facts::HIDDEN {
        let fault = compile(&format!("headers[{name:?}] == \"x\"")).expect_err(name);
        assert!(fault.message.contains("credentials"), "{}", fault.message);
    }
    let all =
        r#"headers.exists(name, name == "authorization" || headers[name].contains("secret"))"#;
    assert_eq!(ask(all), Ok(false), "nor by a loop");
    let made_up = r#""x-api-" + "key" in headers"#;
    assert_eq!(ask(made_up), Ok(false), "nor by a name put together");
}

#[test]
fn what_is_missing_fails_and_is_overruled_as_in_cel() {
    for plain in [true, false] {
        let compile = if plain { compile } else { compile_whole };
        let ask = |source: &str| {
            let expression = compile(source).unwrap_or_else(|fault| panic!("{source}: {fault:?}"));
            Case::default().ask(&expression, &TimeZone::UTC)
        };
        let missing = Err(Problem::NoKey("x-no".into()));
        assert_eq!(ask(r#"headers["x-no"] == "a""#), missing, "plain: {plain}");
        assert_eq!(ask(r#"headers["x-no"] == "a" && stream"#), missing);
        assert_eq!(ask(r#"headers["x-no"] == "a" && !stream"#), Ok(false));
        assert_eq!(ask(r#"!stream && headers["x-no"] == "a""#), Ok(false));
        assert_eq!(ask(r#"headers["x-no"] == "a" || stream"#), Ok(true));
        assert_eq!(ask(r#"headers["x-no"] == "a" || !stream"#), missing);
        assert_eq!(ask(r#"!(headers["x-no"] == "a")"#), missing);
        assert_eq!(
            ask(r#""x-no" in headers && headers["x-no"] == "a""#),
            Ok(false)
        );
    }
}

#[test]
fn hours_are_those_of_the_zone() {
    let berlin = TimeZone::fixed(jiff::tz::offset(1));
    let expression = compile(r#"hour == 8 && weekday == "sat""#).expect("an expression");
    assert_eq!(Case::default().ask(&expression, &berlin), Ok(true));
    let far = TimeZone::fixed(jiff::tz::offset(-10));
    let expression = compile(r#"hour == 21 && weekday == "fri""#).expect("an expression");
    assert_eq!(Case::default().ask(&expression, &far), Ok(true));
}

#[test]
fn images_and_tools_are_seen_in_every_protocol() {
    let image = r#"{"type":"image_url","image_url":{"url":"https://x/a.png"}}"#;
    let cases = [
        (Protocol::OpenaiChat, format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{image}]}}]}}"#), true),
        (Protocol::OpenaiChat, r#"{"model":"m","messages":[{"role":"user","content":"\"type\":\"image_url\""}]}"#.into(), false),
        (Protocol::OpenaiResponses, r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"data:"}]}]}"#.into(), true),
        (Protocol::OpenaiResponses, r#"{"model":"m","input":"an image"}"#.into(), false),
        (Protocol::Anthropic, r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{}}]}]}"#.into(), true),
        (Protocol::Anthropic, r#"{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"image"}]}]}]}"#.into(), true),
        (Protocol::Anthropic, r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"image"}]}]}"#.into(), false),
        (Protocol::Gemini, r#"{"model":"m","contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"AA"}}]}]}"#.into(), true),
        (Protocol::Gemini, r#"{"model":"m","contents":[{"parts":[{"inlineData":{"mimeType":"audio/wav","data":"AA"}}]}]}"#.into(), false),
        (Protocol::Bedrock, r#"{"model":"m","messages":[{"role":"user","content":[{"image":{"format":"png"}}]}]}"#.into(), true),
        (Protocol::Ollama, r#"{"model":"m","messages":[{"role":"user","content":"a","images":["AA"]}]}"#.into(), true),
        (Protocol::Ollama, r#"{"model":"m","messages":[{"role":"user","content":"a","images":[]}]}"#.into(), false),
    ];
    let expression = compile("has_images").expect("an expression");
    for (protocol, body, has) in cases {
        let case = Case {
            protocol,
            body: body.clone(),
            ..Case::default()
        };
        assert_eq!(
            case.ask(&expression, &TimeZone::UTC),
            Ok(has),
            "{protocol:?} {body}"
        );
    }
    let tools = compile("has_tools").expect("an expression");
    for (member, has) in [
        (r#""tools":[{}]"#, true),
        (r#""tools":[{"type":"web_search"}]"#, true),
        (r#""tools":[ ]"#, false),
        (r#""tools":null"#, false),
        (r#""functions":[{}]"#, true),
        (r#""toolConfig":{"tools":[{}]}"#, true),
        (r#""x":1"#, false),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{{}}],{member}}}"#);
        let case = Case {
            body,
            ..Case::default()
        };
        assert_eq!(case.ask(&tools, &TimeZone::UTC), Ok(has), "{member}");
    }
}

#[test]
fn mistakes_are_told_with_what_was_meant() {
    let meant = |fault: Fault| match fault.meant {
        Meant::Unknown => String::new(),
        Meant::This(meant) => meant,
        Meant::Nearest { name, .. } => format!("near {name}"),
    };
    for (source, message, suggestion) in [
        ("", "must hold an expression", ""),
        ("model = \"a\"", "is no expression", "'model == \"a\"'"),
        (
            "stream and has_tools",
            "is no expression",
            "'stream && has_tools'",
        ),
        (
            "modle == \"a\"",
            "there is no variable `modle`",
            "near modle",
        ),
        (
            "model.startswith(\"a\")",
            "there is no function `startswith`",
            "near startswith",
        ),
        (
            "startsWith(model, \"a\")",
            "there is no function `startsWith`",
            "VALUE.startsWith(…)",
        ),
        ("tokens", "must be true or false, but is an int", ""),
        (
            "stream && tokens",
            "`&&` takes true or false, not an int",
            "",
        ),
        ("!model", "`!` takes true or false, not a string", ""),
        (
            "tokens > \"5\"",
            "`>` can't be used of an int and a string",
            "",
        ),
        (
            "stream && tokens > \"5\"",
            "`>` can't be used of an int and a string",
            "",
        ),
        ("tokens == \"5\"", "compares an int with a string", ""),
        ("model in [1]", "compares a string with an int", ""),
        ("1 in tags", "looks for an int among strings", ""),
        (
            "headers[\"X-Tier\"] == \"a\"",
            "headers have lower-case names",
            "\"x-tier\"",
        ),
        (
            "headers[\"x-tier\"] == 5",
            "compares a string with an int",
            "",
        ),
        ("weekday == \"Saturday\"", "`weekday` is never", "\"sat\""),
        (
            "endpoint == \"/v1/messages\"",
            "`endpoint` is never",
            "near messages",
        ),
        ("model.matches(\"(\")", "can't be read: unclosed group", ""),
        ("model.matches(user)", "takes its pattern in quotes", ""),
        ("tags.exists(a, tags.exists(b, a == b))", "a loop", ""),
        (
            "tags.exists(a)",
            "`exists` is written LIST.exists(each, CONDITION)",
            "",
        ),
        ("Thing{a: 1} == 1", "there is no type", ""),
    ] {
        let fault = compile(source).expect_err(source);
        assert!(
            fault.message.contains(message),
            "{source}: {}",
            fault.message
        );
        assert_eq!(meant(fault), suggestion, "{source}");
    }
}

#[test]
fn expressions_are_bounded() {
    let many = |part: &str, with: &str, times: usize| vec![part; times].join(with);
    for hostile in [
        format!("{}1{}", "(".repeat(500), ")".repeat(500)),
        format!("{}true{}", "(".repeat(128), ")".repeat(128)),
        format!("{}1{} == 1", "[".repeat(100), "]".repeat(100)),
        format!("{}stream", "!".repeat(1900)),
        format!("{}1 == 1", "-".repeat(1900)),
        format!("{} == 1", many("1", "+", 900)),
        format!("metadata{} == 1", ".a".repeat(900)),
        format!("metadata{} == 1", "[0]".repeat(127)),
        many("stream ? true", ":", 100) + ":false",
        "\"".to_owned(),
        "\"\\".to_owned(),
        "'\\u12'".to_owned(),
        "b\"\\377\" == b\"\\400\"".to_owned(),
        "0x == 1".to_owned(),
        "99999999999999999999 == 1".to_owned(),
        "1.e == 1".to_owned(),
        "`a` == 1".to_owned(),
        "a".repeat(MOST_LENGTH + 1),
        "\u{0}".to_owned(),
        "model.\u{1F600}".to_owned(),
        "[?1, ?2] == []".to_owned(),
        "{?'a': 1} == {}".to_owned(),
        "{1: 2, 1: 3} == {}".to_owned(),
        "-9223372036854775808 / -1 == tokens".to_owned(),
        "-(-9223372036854775808) == tokens".to_owned(),
        "tokens % 0 == 1".to_owned(),
    ] {
        // None of them may end the process; those that can be read must be answered.
        if let Ok(expression) = compile(&hostile) {
            let _ = Case::default().ask(&expression, &TimeZone::UTC);
        }
    }
    let long = many("stream", " && ", 100);
    assert_eq!(
        ask(&long),
        Ok(true),
        "a long chain of conditions is no deep one"
    );
    let fault = compile(&format!("{} == 1", many("tokens", "+", 100))).expect_err("a deep one");
    assert!(fault.message.contains("nested"), "{}", fault.message);
}

#[test]
fn what_a_rule_looks_at_is_bounded() {
    let list = vec!["1"; 250].join(",");
    let body = format!(r#"{{"model":"m","messages":[{{}}],"metadata":{{"l":[{list}]}}}}"#);
    let case = Case {
        body,
        ..Case::default()
    };
    let modest =
        compile("metadata.l.exists(x, x == 2) || size(metadata.l) == 250").expect("an expression");
    assert_eq!(case.ask(&modest, &TimeZone::UTC), Ok(true));
    let greedy =
        compile("metadata.l.exists(x, size(metadata.l + metadata.l) == x)").expect("an expression");
    assert_eq!(case.ask(&greedy, &TimeZone::UTC), Err(Problem::TooMuch));
    let list = vec!["1"; 300].join(",");
    let body = format!(r#"{{"model":"m","messages":[{{}}],"metadata":{{"l":[{list}]}}}}"#);
    let case = Case {
        body,
        ..Case::default()
    };
    assert!(
        case.ask(&modest, &TimeZone::UTC).is_err(),
        "more values than may be asked"
    );
}

fn rule(name: &str, when: &str, verdict: Verdict) -> Rule {
    let when = compile(when).unwrap_or_else(|fault| panic!("{when}: {fault:?}"));
    Rule::new(
        name,
        when,
        TimeZone::UTC,
        verdict,
        TimeoutOverrides::default(),
    )
}

#[test]
fn the_first_rule_that_holds_decides_and_those_that_fail_are_told() {
    let rules = Rules::new(vec![
        rule("not", "!stream && false", Verdict::Keep),
        rule("fails", r#"headers["x-no"] == "a""#, Verdict::Keep),
        rule("holds", r#"key == "team-a""#, Verdict::Use("other".into())),
        rule("late", "true", Verdict::Deny("no".into())),
    ]);
    let headers = HeaderMap::new();
    let head = Request {
        endpoint: "raw",
        headers: &headers,
        tags: &[],
        key: "team-a",
        team: "",
        session: "",
        region: "",
        at: Timestamp::UNIX_EPOCH,
        said: None,
    };
    let decision = rules.decide(&head);
    assert_eq!(decision.rule.map(|rule| &*rule.name), Some("holds"));
    let failed: Vec<&str> = decision
        .failed
        .iter()
        .map(|(rule, _)| &*rule.name)
        .collect();
    assert_eq!(failed, ["fails"]);
    let rules = Rules::new(vec![
        rule(
            "body",
            r#"model == "" || !has_images"#,
            Verdict::Deny("no".into()),
        ),
        rule("cel", "tokens + 1 > 0", Verdict::Deny("no".into())),
    ]);
    assert!(
        rules.decide(&head).rule.is_none(),
        "of what passes unread nothing of the body is known"
    );
}

/// Conditions of the forms that need no CEL, and some beside.
fn condition() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "gpt-5", "gpt", "", "gold", "chat", "sat", "team-a", "ann", "5", "é",
    ]);
    let text = prop::sample::select(vec![
        "model",
        "user",
        "key",
        "team",
        "session",
        "region",
        r#"headers["x-tier"]"#,
        r#"headers["x-no"]"#,
        "headers.lower",
        "headers.none",
    ]);
    let number = prop::sample::select(vec!["tokens", "hour"]);
    let compare = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "true",
            "false",
            "stream",
            "has_tools",
            "has_images",
            "stream == true",
            "false != has_tools",
            r#""x-tier" in headers"#,
            "has(headers.none)",
            r#""x-no" in headers"#,
            r#"weekday in ["sat", "sun"]"#,
            r#"endpoint == "chat""#,
            r#""batch" in tags"#,
            r#""no" in tags"#
        ])
        .prop_map(str::to_owned),
        (
            text.clone(),
            word.clone(),
            prop::sample::select(vec!["==", "!="]),
            any::<bool>()
        )
            .prop_map(|(text, word, is, turned)| {
                if turned {
                    format!("{word:?} {is} {text}")
                } else {
                    format!("{text} {is} {word:?}")
                }
            }),
        (
            text.clone(),
            word.clone(),
            prop::sample::select(vec!["startsWith", "endsWith", "contains", "matches"])
        )
            .prop_map(|(text, word, how)| format!("{text}.{how}({word:?})")),
        (text, word.clone(), word)
            .prop_map(|(text, one, other)| format!("{text} in [{one:?}, {other:?}]")),
        (number, compare, 0..80_i64, any::<bool>()).prop_map(|(number, compare, than, turned)| {
            if turned {
                format!("{than} {compare} {number}")
            } else {
                format!("{number} {compare} {than}")
            }
        }),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("!({one})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} && {other})")),
            (inner.clone(), inner).prop_map(|(one, other)| format!("({one} || {other})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The fast matcher means what CEL means.
    #[test]
    fn the_fast_matcher_agrees_with_cel(source in condition(), is_stream: bool) {
        let case = Case {
            body: format!(r#"{{"model":"gpt-5","messages":[{{}}],"stream":{is_stream},"user":"ann"}}"#),
            headers: vec![("x-tier", "gold"), ("lower", "5")],
            ..Case::default()
        };
        let (Ok(plain), Ok(whole)) = (compile(&source), compile_whole(&source)) else {
            return Err(TestCaseError::fail(format!("{source}: {:?}", compile(&source).err())));
        };
        prop_assert!(plain.is_plain(), "{} has a usual form", source);
        let (one, other) = (case.ask(&plain, &TimeZone::UTC), case.ask(&whole, &TimeZone::UTC));
        // Which of two failures is told is no matter.
        prop_assert_eq!(one.is_err(), other.is_err(), "{}: {:?} {:?}", source, one, other);
        if let (Ok(one), Ok(other)) = (one, other) {
            prop_assert_eq!(one, other, "{}", source);
        }
    }

    /// Whatever is written, it is read or refused, and what is read is answered.
    #[test]
    fn no_text_breaks_the_language(source in r#"[a-z0-9 .,:?!()\[\]{}"'`\\&|=<>+*/%@_\-\u{e9}]{0,60}"#) {
        if let Ok(expression) = compile(&source) {
            let _ = Case::default().ask(&expression, &TimeZone::UTC);
        }
    }

    /// The same, nearer to the language.
    #[test]
    fn no_words_break_the_language(words in prop::collection::vec(prop::sample::select(vec![
        "model", "tokens", "tags", "headers", "metadata", "stream", "true", "null", "1", "-1", "0", "2u", "1.5", "\"a\"", "'\\x41'", "b'a'",
        "r\"\\\"", "[", "]", "(", ")", "{", "}", ".", ",", ":", "?", "&&", "||", "!", "==", "!=", "<", ">=", "in", "+", "-", "*", "/", "%",
        ".size()", ".map(x, x)", ".filter(x, x == 1)", ".all(x, true)", "size(", "string(", "int(", "double(", "dyn(", "type(", "has(",
        ".startsWith(", ".matches(", ".lowerAscii()", ".?a", "[?0]", ".orValue(1)", ".value()", ".hasValue()",
    ]), 1..14)) {
        let source = words.concat();
        if let Ok(expression) = compile(&source) {
            let _ = Case::default().ask(&expression, &TimeZone::UTC);
        }
    }
}
