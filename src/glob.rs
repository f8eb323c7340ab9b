//! Globs over model names: `*` is any run of characters, `?` is one; everything else is itself.

/// A compiled pattern; case counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glob {
    Any,
    Exact(Box<str>),
    /// `openai/*`
    Prefix(Box<str>),
    General(Box<str>),
}

impl Glob {
    pub fn new(pattern: &str) -> Self {
        if pattern == "*" {
            return Glob::Any;
        }
        match pattern.find(['*', '?']) {
            None => Glob::Exact(pattern.into()),
            Some(at) if pattern[at..] == *"*" => Glob::Prefix(pattern[..at].into()),
            Some(_) => Glob::General(pattern.into()),
        }
    }

    pub fn matches(&self, name: &str) -> bool {
        match self {
            Glob::Any => true,
            Glob::Exact(text) => **text == *name,
            Glob::Prefix(text) => name.starts_with(&**text),
            Glob::General(pattern) => matches(pattern, name),
        }
    }
}

/// Matches by going back to the last `*` only: at most pattern × name steps, whatever the pattern.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    let mut left = name.chars();
    let mut back = None;
    loop {
        let mut ahead = rest.clone();
        match (ahead.next(), left.clone().next()) {
            (Some('*'), _) => {
                rest = ahead;
                back = Some((rest.clone(), left.clone()));
                continue;
            }
            (None, None) => return true,
            (Some(want), Some(have)) if want == '?' || want == have => {
                rest = ahead;
                left.next();
                continue;
            }
            (Some(_) | None, Some(_)) | (Some(_), None) => {}
        }
        // The last `*` takes one character more.
        let Some((after, mut from)) = back.take() else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        rest = after.clone();
        left = from.clone();
        back = Some((after, from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names_and_case_counts() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "openai/gpt-5", true),
            ("openai/*", "openai/gpt-5", true),
            ("openai/*", "openai/", true),
            ("openai/*", "openai", false),
            ("openai/*", "OpenAI/gpt-5", false),
            ("fast", "fast", true),
            ("fast", "faster", false),
            ("fast", "Fast", false),
            ("gpt-?", "gpt-5", true),
            ("gpt-?", "gpt-", false),
            ("gpt-?", "gpt-50", false),
            ("gpt-?", "gpt-é", true),
            ("*-mini", "gpt-5-mini", true),
            ("*-mini", "gpt-5-mini-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*a?", "banana!", true),
            ("**", "anything", true),
            ("", "", true),
            ("", "x", false),
            ("[a-z]", "b", false),
            ("[a-z]", "[a-z]", true),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(name),
                expected,
                "{pattern:?} against {name:?}"
            );
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = Glob::new(&("*a".repeat(250) + "b"));
        let begun = std::time::Instant::now();
        assert!(!pattern.matches(&"a".repeat(500)));
        assert!(begun.elapsed().as_secs() < 2, "took {:?}", begun.elapsed());
    }
}
