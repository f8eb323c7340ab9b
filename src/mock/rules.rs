//! Which rule serves a call, and with which of its steps.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::HeaderMap;

use super::script::{Behaviour, Rule, Script};

/// A script at work: with the count of calls that each rule has served.
#[derive(Debug)]
pub(super) struct Running {
    pub script: Script,
    served: Vec<AtomicU64>,
}

/// What of a call decides which rule serves it.
pub(super) struct Sight<'a> {
    pub path: &'a str,
    pub model: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

impl Running {
    pub fn new(script: Script) -> Self {
        let served = script.rules.iter().map(|_| AtomicU64::new(0)).collect();
        Self { script, served }
    }

    /// Returns the behaviour for this call, and the rule's number. `by_path` asks rules that name a path alone.
    pub fn pick(&self, call: &Sight<'_>, by_path: bool) -> Option<(&Behaviour, usize)> {
        let (number, rule) = self
            .script
            .rules
            .iter()
            .enumerate()
            .find(|(_, rule)| (!by_path || rule.path.is_some()) && rule.matches(call))?;
        let turn = self.served[number].fetch_add(1, Ordering::Relaxed);
        Some((rule.step(turn).unwrap_or(&self.script.default), number))
    }

    /// Returns what `GET /_calls` calls a rule.
    pub fn name(&self, rule: usize) -> String {
        let name = self
            .script
            .rules
            .get(rule)
            .and_then(|rule| rule.name.clone());
        name.unwrap_or_else(|| rule.to_string())
    }
}

impl Rule {
    fn matches(&self, call: &Sight<'_>) -> bool {
        self.path
            .as_ref()
            .is_none_or(|part| call.path.contains(part.as_str()))
            && self
                .model
                .as_ref()
                .is_none_or(|glob| glob_matches(glob, call.model))
            && self.header.iter().all(|wanted| {
                call.headers
                    .get_all(wanted.name.as_str())
                    .iter()
                    .any(|value| {
                        wanted.value.is_empty()
                            || memchr::memmem::find(value.as_bytes(), wanted.value.as_bytes())
                                .is_some()
                    })
            })
            && self
                .body_contains
                .as_ref()
                .is_none_or(|part| memchr::memmem::find(call.body, part.as_bytes()).is_some())
    }

    fn step(&self, turn: u64) -> Option<&Behaviour> {
        let all: u64 = self.steps.iter().map(|step| step.repeat.unwrap_or(1)).sum();
        let mut turn = if self.cycle && all > 0 {
            turn % all
        } else {
            turn
        };
        for step in &self.steps {
            let repeat = step.repeat.unwrap_or(1);
            if turn < repeat {
                return Some(step);
            }
            turn -= repeat;
        }
        self.steps.last()
    }
}

/// Compares with `*` for any run and `?` for one byte; linear but for the last star's retries.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t, mut retry) = (0, 0, None);
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                retry = Some((g + 1, t));
                g += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match retry {
                Some((after_star, from)) => {
                    retry = Some((after_star, from + 1));
                    g = after_star;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (glob, text, expected) in [
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "xgpt-4o", false),
            ("*", "", true),
            ("gpt-?", "gpt-4", true),
            ("gpt-?", "gpt-", false),
            ("*mini*", "gpt-4o-mini-2024", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} against {text}");
        }
    }

    #[test]
    fn steps_come_in_turn_and_the_last_repeats() {
        let script =
            Script::from_toml("[[rule]]\nsteps = [{status = 500, repeat = 2}, {status = 429}, {}]")
                .unwrap();
        let seen: Vec<_> = (0..6)
            .map(|turn| script.rules[0].step(turn).unwrap().status)
            .collect();
        assert_eq!(seen, [Some(500), Some(500), Some(429), None, None, None]);
    }

    #[test]
    fn a_cycle_starts_again() {
        let script =
            Script::from_toml("[[rule]]\ncycle = true\nsteps = [{status = 500}, {}]").unwrap();
        let seen: Vec<_> = (0..4)
            .map(|turn| script.rules[0].step(turn).unwrap().status)
            .collect();
        assert_eq!(seen, [Some(500), None, Some(500), None]);
    }
}
