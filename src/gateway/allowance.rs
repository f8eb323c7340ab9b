//! What a provider's answer tells of our allowance with it: read so that others are asked before it says 429.

use std::time::Duration;

use http::HeaderMap;

use super::verdict;
use crate::routing::Allowance;

/// Returns what the rate-limit headers of an answer say is left; `None` where there are none.
///
/// OpenAI's (`x-ratelimit-remaining-requests`), Anthropic's (`anthropic-ratelimit-requests-remaining`) and the plain
/// ones (`ratelimit-remaining`, `x-ratelimit-remaining`) are known. Where several speak of one thing, the least is
/// taken.
pub fn left(headers: &HeaderMap, now: impl Fn() -> jiff::Timestamp) -> Option<Allowance> {
    let mut allowance = Allowance::default();
    let mut resets = [[None; 4]; 2];
    let mut found = false;
    for (name, value) in headers {
        let name = name.as_str();
        let Some(at) = memchr::memmem::find(name.as_bytes(), b"ratelimit-") else {
            continue;
        };
        let Some((what, says)) = read(&name[..at], &name[at + "ratelimit-".len()..]) else {
            continue;
        };
        let Some(text) = value.to_str().ok().map(str::trim) else {
            continue;
        };
        match says {
            Says::Remaining => {
                let Ok(number) = text.parse::<u64>() else {
                    continue;
                };
                let place = match what {
                    What::Requests => &mut allowance.requests,
                    What::Tokens(_) => &mut allowance.tokens,
                };
                *place = Some(place.map_or(number, |least| least.min(number)));
                found = true;
            }
            Says::Reset => {
                let wait = reset(text, &now);
                match what {
                    What::Requests => resets[0][0] = wait,
                    What::Tokens(kind) => resets[1][kind] = wait,
                }
            }
        }
    }
    // The kinds of tokens come back together, or nearly: the latest is waited for.
    allowance.requests_reset = resets[0].into_iter().flatten().max();
    allowance.tokens_reset = resets[1].into_iter().flatten().max();
    found.then_some(allowance)
}

#[derive(Clone, Copy)]
enum What {
    Requests,
    /// Of input and output together, or of one of them.
    Tokens(usize),
}

#[derive(Clone, Copy)]
enum Says {
    Remaining,
    Reset,
}

/// Reads a header's name, in its parts before and after `ratelimit-`.
fn read(before: &str, after: &str) -> Option<(What, Says)> {
    let says = |word: &str| match word {
        "remaining" => Some(Says::Remaining),
        "reset" => Some(Says::Reset),
        _ => None,
    };
    let what = |word: &str| match word {
        "requests" => Some(What::Requests),
        "tokens" => Some(What::Tokens(0)),
        "input-tokens" => Some(What::Tokens(1)),
        "output-tokens" => Some(What::Tokens(2)),
        _ => None,
    };
    match before {
        "anthropic-" => {
            let (of, word) = after.rsplit_once('-')?;
            Some((what(of)?, says(word)?))
        }
        "" | "x-" => match after.split_once('-') {
            Some((word, of)) => Some((what(of)?, says(word)?)),
            None => Some((What::Requests, says(after)?)),
        },
        _ => None,
    }
}

/// Reads when there is more: `6m0s`, seconds, an RFC 3339 time, or seconds or milliseconds since 1970.
fn reset(text: &str, now: impl Fn() -> jiff::Timestamp) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        if number < 1e9 {
            return verdict::seconds(number);
        }
        let seconds = if number < 1e12 { number } else { number / 1e3 };
        return verdict::seconds((seconds - now().as_second() as f64).max(0.0));
    }
    let at = || text.parse::<jiff::Timestamp>().ok();
    verdict::span(text).or_else(|| at().map(|at| verdict::until(at, now())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(pairs: &[(&'static str, &'static str)]) -> Option<Allowance> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let now = || "2026-11-25T12:00:00Z".parse().expect("a time");
        left(&headers, now)
    }

    #[test]
    fn what_is_left_is_read_in_every_way_it_is_said() {
        let openai = of(&[
            ("content-type", "application/json"),
            ("x-ratelimit-limit-requests", "5000"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "12ms"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        let openai = openai.expect("it is said");
        assert_eq!((openai.requests, openai.tokens), (Some(0), Some(149_984)));
        assert_eq!(openai.requests_reset, Some(Duration::from_millis(12)));
        assert_eq!(openai.tokens_reset, Some(Duration::from_secs(360)));
        let anthropic = of(&[
            ("anthropic-ratelimit-requests-remaining", "7"),
            ("anthropic-ratelimit-requests-reset", "2026-11-25T12:00:05Z"),
            ("anthropic-ratelimit-input-tokens-remaining", "100"),
            ("anthropic-ratelimit-output-tokens-remaining", "20"),
            (
                "anthropic-ratelimit-output-tokens-reset",
                "2026-11-25T12:00:09Z",
            ),
        ]);
        let anthropic = anthropic.expect("it is said");
        assert_eq!((anthropic.requests, anthropic.tokens), (Some(7), Some(20)));
        assert_eq!(anthropic.requests_reset, Some(Duration::from_secs(5)));
        assert_eq!(anthropic.tokens_reset, Some(Duration::from_secs(9)));
        for plain in ["ratelimit-remaining", "x-ratelimit-remaining"] {
            let left = of(&[(plain, "3"), ("ratelimit-reset", "30")]).expect("it is said");
            assert_eq!(left.requests, Some(3), "{plain}");
            assert_eq!(left.requests_reset, Some(Duration::from_secs(30)));
        }
        let epoch = of(&[
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1795608060000"),
        ]);
        let epoch = epoch.expect("it is said").requests_reset;
        assert_eq!(epoch, Some(Duration::from_secs(60)));
    }

    #[test]
    fn what_says_nothing_is_nothing() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("content-type", "text/plain")]), None);
        for (name, value) in [
            ("x-ratelimit-remaining-requests", "many"),
            ("x-ratelimit-limit-requests", "1"),
            ("x-ratelimit-", "1"),
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-remaining", "0"),
            ("my-ratelimit-remaining", "0"),
        ] {
            assert_eq!(of(&[(name, value)]), None, "{name}");
        }
    }
}
