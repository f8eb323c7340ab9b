//! Names of headers that providers send with every answer.

use http::HeaderName;

/// Returns the name of a header that many providers send and that no standard knows: made once for all, where any
/// other is copied each time that it is read.
pub fn known(name: &[u8]) -> Option<HeaderName> {
    let index = NAMES.binary_search_by(|known| {
        let known = known.as_str().as_bytes();
        (known.len(), known).cmp(&(name.len(), name))
    });
    index.ok().map(|index| NAMES[index].clone())
}

/// The shorter first, as HTTP/1.1 servers write them.
static NAMES: [HeaderName; 34] = [
    HeaderName::from_static("cf-ray"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("openai-version"),
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("cf-cache-status"),
    HeaderName::from_static("x-amzn-requestid"),
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-processing-ms"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
    HeaderName::from_static("anthropic-organization-id"),
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-envoy-upstream-service-time"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-output-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-output-tokens-reset"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-output-tokens-remaining"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_and_no_other() {
        for name in &NAMES {
            assert_eq!(known(name.as_str().as_bytes()).as_ref(), Some(name));
        }
        for other in [
            "",
            "x",
            "content-type",
            "x-ratelimit-limit-tokenz",
            "CF-Ray",
        ] {
            assert_eq!(known(other.as_bytes()), None, "{other}");
        }
    }
}
