//! Where a value ends, and numbers.

use super::Scanner;
use super::step::{Halves, string};

/// Returns the first place from `at` on that is no white space, or the end.
pub fn past_space(body: &[u8], mut at: usize) -> usize {
    loop {
        // Indentation: as many spaces as there are among the next eight bytes before anything else.
        if let Some(eight) = body.get(at..).and_then(|rest| rest.first_chunk()) {
            let others = u64::from_le_bytes(*eight) ^ u64::from_le_bytes(*b"        ");
            at += others.trailing_zeros() as usize / 8;
        }
        match body.get(at) {
            Some(b' ' | b'\n' | b'\t' | b'\r') => at += 1,
            Some(_) | None => return at,
        }
    }
}

/// Returns the end of the value that begins at `at`; `None` where it is not JSON.
pub fn end(text: &str, at: usize) -> Option<usize> {
    let body = text.as_bytes();
    match *body.get(at)? {
        b'"' => string(body, at + 1, Halves::Allow)
            .ok()
            .map(|seen| seen.end + 1),
        b'-' | b'0'..=b'9' => number(body, at).ok(),
        _ => {
            let mut scanner = Scanner::new(body, usize::MAX);
            scanner.at = at;
            scanner.skip().ok().map(|value| value.end)
        }
    }
}

/// Reads a whole number without sign, fraction and exponent at `at`: its value and its end. `None` of anything else, and
/// of one that may be too large.
#[inline]
pub fn whole(text: &str, at: usize) -> Option<(u64, usize)> {
    let digits = text.as_bytes().get(at..)?;
    let mut value = 0;
    let mut length = 0;
    while let Some(digit @ b'0'..=b'9') = digits.get(length) {
        value = value * 10 + u64::from(digit - b'0');
        length += 1;
        if length > 18 {
            return None;
        }
    }
    let more = matches!(digits.get(length), Some(b'.' | b'e' | b'E'));
    let odd = length == 0 || (length > 1 && digits.first() == Some(&b'0'));
    (!more && !odd).then_some((value, at + length))
}

/// Returns the end of the number that begins at `at`; an error is the place of what is none.
#[inline]
pub(super) fn number(body: &[u8], mut at: usize) -> Result<usize, usize> {
    let digits = |from: usize| {
        let mut at = from;
        while let Some(b'0'..=b'9') = body.get(at) {
            at += 1;
        }
        if at > from { Ok(at) } else { Err(at) }
    };
    if body.get(at) == Some(&b'-') {
        at += 1;
    }
    if body.get(at) == Some(&b'0') {
        at += 1;
    } else {
        at = digits(at)?;
    }
    if body.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = body.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = body.get(at) {
            at += 1;
        }
        at = digits(at)?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_serde_json_ends_it() {
        for text in [
            "0",
            "-0",
            "7,",
            "12]",
            "1.5}",
            "1e9 ",
            "1E+9",
            "1.0e-9,",
            "-",
            "-x",
            "1.",
            "1.e5",
            "1e",
            "1e+",
            "01",
            "+1",
            ".5",
            "true",
            "tru",
            "false]",
            "null",
            "nul",
            "\"a\"",
            "\"a\\\"b\",",
            "\"a",
            "\"\\x\"",
            "{}",
            "[1,{\"a\":[]}] ",
            "[1",
            "{\"a\"}",
            "",
            "]",
            "\"\\ud800\"",
        ] {
            let mut values = serde_json::Deserializer::from_str(text)
                .into_iter::<&serde_json::value::RawValue>();
            let read = values
                .next()
                .and_then(Result::ok)
                .map(|raw| raw.get().len());
            // A stream of values is told apart by what follows, one value is not.
            if text != "01" {
                assert_eq!(end(text, 0), read, "{text}");
            }
        }
    }

    #[test]
    fn whole_numbers_are_read_and_others_are_left() {
        assert_eq!(whole("0,", 0), Some((0, 1)));
        assert_eq!(whole("[230]", 1), Some((230, 4)));
        assert_eq!(
            whole("999999999999999999", 0),
            Some((999_999_999_999_999_999, 18))
        );
        for text in [
            "",
            "x",
            "-1",
            "01",
            "00",
            "1.0",
            "1e3",
            "1E3",
            "9999999999999999999",
        ] {
            assert_eq!(whole(text, 0), None, "{text}");
        }
    }

    #[test]
    fn white_space_is_passed_over_and_nothing_else() {
        for length in 0..40 {
            for other in ["\n", "\t", "\r", " "] {
                let space = format!("{}{other}{}", " ".repeat(length), " ".repeat(length / 2));
                let text = format!("x{space}\u{a0}  ");
                assert_eq!(past_space(text.as_bytes(), 1), 1 + space.len(), "{text:?}");
            }
        }
        assert_eq!(past_space(b"a  ", 1), 3);
        assert_eq!(past_space(b"\x0c", 0), 0, "a form feed is none");
    }
}
