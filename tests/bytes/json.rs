use proptest::prelude::*;
use strait::codec::json::{self, JsonErrorKind, Member};

use super::text;

fn read(body: &[u8]) -> Result<Vec<Member>, json::JsonError> {
    let mut members = Vec::new();
    json::members(body, usize::MAX, &mut members).map(|()| members)
}

fn agrees(body: &[u8]) {
    let expected = text::reference(body);
    let found = read(body);
    assert_eq!(
        found.is_ok(),
        expected.is_some(),
        "{found:?} for {:?}",
        String::from_utf8_lossy(body)
    );
    let (Ok(found), Some(expected)) = (found, expected) else {
        return;
    };
    assert_eq!(found.len(), expected.0.len());
    for (member, (key, value)) in found.iter().zip(expected.0) {
        assert_eq!(json::key(body, member), key);
        assert_eq!(&body[member.value.clone()], value.as_bytes());
        assert_eq!(
            (member.whole.start, member.whole.end),
            (member.key.start - 1, member.value.end)
        );
        let as_string = serde_json::from_str::<String>(&value).ok();
        assert_eq!(
            json::string(body, member.value.clone()).map(|text| text.into_owned()),
            as_string
        );
        assert_eq!(
            json::unsigned(body, member.value.clone()),
            serde_json::from_str::<u64>(&value)
                .ok()
                .filter(|_| value != "-0")
        );
        assert_eq!(
            json::boolean(body, member.value.clone()),
            serde_json::from_str::<bool>(&value).ok()
        );
        if let Some(decoded) = as_string {
            assert_eq!(
                json::decoded_len(&value.as_bytes()[1..value.len() - 1]),
                decoded.len()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_scanner_finds_what_serde_finds(body in text::object()) {
        prop_assert!(read(body.as_bytes()).is_ok());
        agrees(body.as_bytes());
    }

    #[test]
    fn the_scanner_refuses_what_serde_refuses(body in text::broken()) {
        agrees(&body);
    }

    #[test]
    fn the_scanner_and_serde_agree_on_any_tokens(body in text::soup()) {
        agrees(&body);
    }

    #[test]
    fn a_written_string_reads_back(text in any::<String>()) {
        let mut out = Vec::new();
        json::write_string(&text, &mut out);
        prop_assert_eq!(&serde_json::from_slice::<String>(&out).unwrap(), &text);
        prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
    }
}

#[test]
fn every_byte_is_judged_alike_wherever_it_stands_in_a_string() {
    for length in 0..120 {
        for at in 0..length {
            for odd in [
                &b"\""[..],
                b"\\",
                b"\\n",
                b"\\u00e4",
                b"\\x",
                b"\x1f",
                b"\x7f",
                b"\x80",
                b"\xc3\xa4",
                b"\xff",
            ] {
                let mut body = b"{\"k\":\"".to_vec();
                body.resize(body.len() + at, b'a');
                body.extend_from_slice(odd);
                body.resize(body.len() + (length - at), b'b');
                body.extend_from_slice(b"\"}");
                agrees(&body);
            }
        }
    }
}

#[test]
fn every_short_text_is_judged_as_serde_judges_it() {
    for text in [
        "",
        " ",
        "{}",
        " { } ",
        "[]",
        "1",
        "\"a\"",
        "null",
        "{",
        "}",
        "{}}",
        "{},",
        "{}{}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":-}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":-0.0e-0}",
        "{\"a\":tru}",
        "{\"a\":truex}",
        "{\"a\":nul}",
        "{\"a\":NaN}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":[}",
        "{\"a\":{]}",
        "{\"a\":[{}]}",
        "{\"a\":\"\\ud800\"}",
        "{\"\\ud800\":1}",
        "{\"\\u0061\":1}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":1}\u{a0}",
        "\u{feff}{}",
        "{\"a\":1}\0",
        "{\"a\":/**/1}",
        "{\"a\":\"\\\"}",
    ] {
        agrees(text.as_bytes());
    }
}

#[test]
fn depth_is_bounded_and_counts_the_body_as_one() {
    let nested = |depth: usize| {
        format!(
            "{{\"a\":{}{}}}",
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        )
    };
    let mut members = Vec::new();
    for depth in 1..200 {
        let body = if depth == 1 {
            "{}".to_owned()
        } else {
            nested(depth)
        };
        assert_eq!(
            json::members(body.as_bytes(), depth, &mut members),
            Ok(()),
            "{depth}"
        );
        let error = json::members(body.as_bytes(), depth - 1, &mut members).unwrap_err();
        assert_eq!(error.kind, JsonErrorKind::Depth, "{depth}");
    }
    // Siblings don't add up.
    let wide = format!("{{\"a\":[{}[]]}}", "[],{},".repeat(500));
    assert_eq!(json::members(wide.as_bytes(), 3, &mut members), Ok(()));
}

#[test]
fn containers_of_both_kinds_nest_in_any_order() {
    for count in [1, 63, 64, 65, 127, 128, 129, 1000] {
        for pattern in [0x5555_5555_5555_5555u64, 0x0f0f_3c3c_9999_a5a5, 0, u64::MAX] {
            let object = |at: usize| pattern >> (at % 64) & 1 == 1;
            let open: String = (0..count)
                .map(|at| if object(at) { "{\"k\":" } else { "[" })
                .collect();
            let close: String = (0..count)
                .rev()
                .map(|at| if object(at) { "}" } else { "]" })
                .collect();
            agrees(format!("{{\"a\":{open}1{close}}}").as_bytes());
            let wrong: String = close
                .replacen('}', "?", 1)
                .replacen(']', "}", 1)
                .replacen('?', "]", 1);
            agrees(format!("{{\"a\":{open}1{wrong}}}").as_bytes());
        }
    }
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    for (body, kind, at, said) in [
        (
            &b"{\"a\":1,}"[..],
            JsonErrorKind::Syntax,
            7,
            "not valid JSON at byte 7",
        ),
        (
            b"[1]",
            JsonErrorKind::NotObject,
            0,
            "not a JSON object at byte 0",
        ),
        (
            b"  ",
            JsonErrorKind::NotObject,
            2,
            "not a JSON object at byte 2",
        ),
        (
            b"{\"a\":\"ab\xff\"}",
            JsonErrorKind::Utf8,
            8,
            "not valid UTF-8 at byte 8",
        ),
        (
            b"{\"a\":\"x\n\"}",
            JsonErrorKind::Syntax,
            7,
            "not valid JSON at byte 7",
        ),
    ] {
        let error = read(body).unwrap_err();
        assert_eq!(
            (error.kind, error.at, error.to_string().as_str()),
            (kind, at, said)
        );
    }
}

#[test]
fn hostile_bodies_are_read_once() {
    // Anything that isn't linear takes hours here.
    const SIZE: usize = 4 << 20;
    let filled = |unit: &str| format!("{{\"a\":{}", unit.repeat(SIZE / unit.len()));
    for unit in [
        "[",
        "{\"a\":",
        "\"",
        "\\",
        "\"\\\\",
        "[],",
        "0",
        "{\"\\u0061\":",
        "\u{0}",
        "ä",
    ] {
        assert!(read(filled(unit).as_bytes()).is_err(), "{unit}");
        let error = json::members(filled(unit).as_bytes(), 64, &mut Vec::new()).unwrap_err();
        assert!(error.at <= SIZE + 8, "{unit}");
    }
    let body = format!("{{\"a\":\"{}\"}}", "\\\\".repeat(SIZE / 2));
    assert_eq!(read(body.as_bytes()).unwrap().len(), 1);
    assert_eq!(
        json::decoded_len(&body.as_bytes()[6..body.len() - 2]),
        SIZE / 2
    );
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(SIZE), "]".repeat(SIZE));
    assert_eq!(read(deep.as_bytes()).unwrap().len(), 1);
    let many = format!("{{\"a\":1{}}}", ",\"a\":1".repeat(SIZE / 6));
    assert_eq!(read(many.as_bytes()).unwrap().len(), SIZE / 6 + 1);
}
