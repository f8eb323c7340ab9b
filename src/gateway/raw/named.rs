//! Models that the path of a provider's own API names, however it is spelt.

use super::super::endpoint::unescape;
use crate::error::{Error, Result};
use crate::routing;

/// What stands before a model. Some providers read paths without regard to case.
const MARKERS: [&str; 6] = [
    "models",
    "deployments",
    "model",
    "tunedModels",
    "engines",
    "endpoints",
];

/// Refuses a path that leads elsewhere than it says: out of the provider's base, or past the model that was checked.
pub fn stays(path: &str) -> Result<()> {
    match routing::climbs(&unescape(path)) {
        false => Ok(()),
        true => Err(Error::field(
            "path",
            "`.` and `..` can't stand in the path, escaped or not.",
        )),
    }
}

/// Returns the models that a path names. Where a provider may read one that isn't seen here, `None`.
pub fn models(path: &str) -> Option<Vec<String>> {
    let read = unescape(path);
    if read.contains('%') || places(&read).len() != places(path).len() {
        return None;
    }
    let named = places(path).into_iter().map(|(before, name)| {
        let name = unescape(name);
        // Bedrock's names have colons, elsewhere a verb stands behind one.
        let has_verb = !before.eq_ignore_ascii_case("model");
        let name = name.split(':').next().filter(|_| has_verb).unwrap_or(&name);
        name.to_owned()
    });
    Some(named.collect())
}

/// Returns what stands before each name, and the name.
fn places(path: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let pairs = parts.windows(2).map(|pair| (pair[0], pair[1]));
    let is_marker = |part: &str| {
        MARKERS
            .iter()
            .any(|marker| part.eq_ignore_ascii_case(marker))
    };
    pairs.filter(|(before, _)| is_marker(before)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_however_the_path_is_spelt() {
        for (path, expected) in [
            (
                "/v1beta/models/gemini-pro:generateContent",
                &["gemini-pro"][..],
            ),
            (
                "/v1beta/MODELS/gemini-pro%3AgenerateContent",
                &["gemini-pro"],
            ),
            (
                "/v1beta/models//gemini-pro:generateContent",
                &["gemini-pro"],
            ),
            ("/v1/models/a/models/b", &["a", "b"]),
            ("/v1/models/models/b", &["models", "b"]),
            ("/openai/Deployments/gpt/chat/completions", &["gpt"]),
            (
                "/model/anthropic.claude-v2%3A0/invoke",
                &["anthropic.claude-v2:0"],
            ),
            (
                "/model/arn:aws:bedrock:eu:1:profile%2Fclaude/converse",
                &["arn:aws:bedrock:eu:1:profile/claude"],
            ),
            ("/v1beta/tunedModels/mine:generateContent", &["mine"]),
            ("/v1/files", &[]),
            ("/v1/models", &[]),
        ] {
            assert_eq!(models(path).expect(path), expected, "{path}");
        }
        for path in [
            "/v1beta/models%2Fgemini-pro:generateContent",
            "/v1beta/%6dodels/gemini-pro:generateContent",
            "/v1beta/models/gemini%252Dpro:generateContent",
        ] {
            assert_eq!(models(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_can_not_climb() {
        for path in ["/v1/a..b/...", "/v1/files/a%2Fb", "/v1/.well-known"] {
            assert!(stays(path).is_ok(), "{path}");
        }
        for path in [
            "/../x",
            "/v1/models/a/../b:generateContent",
            "/v1/%2e%2E/x",
            "/v1/..%2f..%2fadmin",
            "/v1/a%5c..%5cb",
            "/./x",
            "/v1/..",
        ] {
            assert!(stays(path).is_err(), "{path}");
        }
    }
}
