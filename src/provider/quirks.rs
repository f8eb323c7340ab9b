//! Quirks: how a provider departs from its protocol, as data.

use std::borrow::Cow;

use crate::codec::json::{self, Member};
use crate::codec::splice::Edits;
use crate::protocol::continuation::Prefill;

/// Edits of every request's top-level fields. Applied after translation or, on a pass, as splices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quirks {
    /// Fields that the provider rejects.
    pub drop: Vec<String>,
    /// From → to, where only the name differs.
    pub rename: Vec<(String, String)>,
    /// Name → JSON text, set whatever the client sent.
    pub set: Vec<(String, String)>,
    /// Name → highest value that the provider takes.
    pub clamp: Vec<(String, f64)>,
    /// It takes `role: developer`; otherwise the hub writes `system`.
    pub developer_role: bool,
    /// It takes `max_completion_tokens`; otherwise the hub writes `max_tokens`.
    pub max_completion_tokens: bool,
    /// It sends no usage in streams unless asked, and takes `stream_options`.
    pub stream_options: bool,
    /// How it is told that it has begun its answer; `None` where its protocol and model decide.
    pub prefill: Option<Prefill>,
}

impl Quirks {
    /// Returns whether [`Quirks::apply`] would never edit anything.
    pub fn is_plain(&self) -> bool {
        self.drop.is_empty()
            && self.rename.is_empty()
            && self.set.is_empty()
            && self.clamp.is_empty()
    }

    /// Adds the edits of a request's top-level `members`, at most one for each of them.
    ///
    /// No edit makes a name stand twice: what is set wins over what is renamed to it, and so does what the client
    /// sent under the new name itself.
    pub fn apply<'e>(&'e self, body: &[u8], members: &[Member], edits: &mut Edits<'e>) {
        let names: Vec<Cow<'_, str>> = members
            .iter()
            .map(|member| json::key(body, member))
            .collect();
        let stays = |name: &str| {
            !self.drop.iter().any(|dropped| dropped == name)
                && !self.rename.iter().any(|(from, _)| from == name)
        };
        // Renamed to, in this body.
        let mut taken: Vec<&str> = Vec::new();
        for (index, (member, name)) in members.iter().zip(&names).enumerate() {
            if self.drop.iter().any(|dropped| dropped == name) {
                edits.remove_member(body, members, index);
            } else if let Some((_, value)) = self.set.iter().find(|(set, _)| set == name) {
                edits.replace(member.value.clone(), value.as_bytes());
            } else if let Some((_, to)) = self.rename.iter().find(|(from, _)| from == name) {
                let set = self.set.iter().any(|(set, _)| set == to);
                if set
                    || taken.contains(&to.as_str())
                    || names.iter().any(|name| name == to && stays(name))
                {
                    edits.remove_member(body, members, index);
                } else {
                    taken.push(to);
                    edits.replace(member.key.clone(), inside_quotes(to));
                    self.clamp(to, body, member, edits);
                }
            } else {
                self.clamp(name, body, member, edits);
            }
        }
        for (set, value) in &self.set {
            let dropped = self.drop.iter().any(|dropped| dropped == set);
            if !dropped && !names.iter().any(|name| name == set) {
                edits.insert_member(body, set, value.as_bytes());
            }
        }
    }

    fn clamp(&self, name: &str, body: &[u8], member: &Member, edits: &mut Edits<'_>) {
        let Some((_, most)) = self.clamp.iter().find(|(clamped, _)| clamped == name) else {
            return;
        };
        let value = serde_json::from_slice::<f64>(&body[member.value.clone()]);
        if value.is_ok_and(|value| value > *most) {
            edits.replace(member.value.clone(), most.to_string().into_bytes());
        }
    }
}

/// Returns `text` as it stands between the quotes of a JSON string.
fn inside_quotes(text: &str) -> Vec<u8> {
    let mut string = Vec::with_capacity(text.len() + 2);
    json::write_string(text, &mut string);
    string.pop();
    string.remove(0);
    string
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn edited(quirks: &Quirks, body: &'static str) -> String {
        let body = Bytes::from_static(body.as_bytes());
        let mut members = Vec::new();
        json::members(&body, 64, &mut members).unwrap();
        let mut edits = Edits::new();
        quirks.apply(&body, &members, &mut edits);
        let edited = edits.apply(&body);
        json::members(&edited, 64, &mut members).unwrap();
        let mut names: Vec<_> = members
            .iter()
            .map(|member| json::key(&edited, member))
            .collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "no name stands twice");
        String::from_utf8(edited.to_vec()).unwrap()
    }

    #[test]
    fn a_plain_provider_gets_the_very_bytes() {
        let quirks = Quirks {
            developer_role: true,
            ..Quirks::default()
        };
        assert!(quirks.is_plain());
        assert_eq!(edited(&quirks, r#"{ "a" : 1 }"#), r#"{ "a" : 1 }"#);
    }

    #[test]
    fn dropped_fields_are_gone_with_their_comma() {
        let quirks = Quirks {
            drop: vec!["user".into(), "seed".into()],
            ..Quirks::default()
        };
        assert!(!quirks.is_plain());
        assert_eq!(
            edited(&quirks, r#"{"user":"u","model":"m","seed":1}"#),
            r#"{"model":"m"}"#
        );
        assert_eq!(edited(&quirks, r#"{"user":{"seed":[1]}}"#), "{}");
        assert_eq!(
            edited(&quirks, r#"{"\u0075ser":"u","a":1}"#),
            r#"{"a":1}"#,
            "spelt with an escape"
        );
        assert_eq!(
            edited(&quirks, r#"{"a":{"user":1}}"#),
            r#"{"a":{"user":1}}"#,
            "top level alone"
        );
    }

    #[test]
    fn renamed_fields_keep_their_value_and_place() {
        let quirks = Quirks {
            rename: pairs(&[("max_completion_tokens", "max_tokens")]),
            ..Quirks::default()
        };
        assert_eq!(
            edited(&quirks, r#"{"a":1,"max_completion_tokens" : 5,"b":2}"#),
            r#"{"a":1,"max_tokens" : 5,"b":2}"#
        );
        assert_eq!(
            edited(&quirks, r#"{"max_completion_tokens":5,"max_tokens":6}"#),
            r#"{"max_tokens":6}"#,
            "the name that the provider takes was there already"
        );
    }

    #[test]
    fn two_fields_renamed_to_one_leave_the_first() {
        let quirks = Quirks {
            rename: pairs(&[("a", "c"), ("b", "c")]),
            ..Quirks::default()
        };
        assert_eq!(edited(&quirks, r#"{"a":1,"b":2}"#), r#"{"c":1}"#);
    }

    #[test]
    fn names_can_be_exchanged() {
        let quirks = Quirks {
            rename: pairs(&[("a", "b"), ("b", "a")]),
            ..Quirks::default()
        };
        assert_eq!(edited(&quirks, r#"{"a":1,"b":2}"#), r#"{"b":1,"a":2}"#);
    }

    #[test]
    fn a_new_name_is_escaped() {
        let quirks = Quirks {
            rename: pairs(&[("a", "b\"c")]),
            ..Quirks::default()
        };
        assert_eq!(edited(&quirks, r#"{"a":1}"#), r#"{"b\"c":1}"#);
    }

    #[test]
    fn set_fields_win_over_everything_but_drop() {
        let quirks = Quirks {
            set: pairs(&[("safe", "true"), ("max_tokens", "7")]),
            rename: pairs(&[("max_completion_tokens", "max_tokens")]),
            ..Quirks::default()
        };
        assert_eq!(
            edited(&quirks, r#"{"safe":false,"max_completion_tokens":5}"#),
            r#"{"safe":true,"max_tokens":7}"#
        );
        assert_eq!(edited(&quirks, "{}"), r#"{"safe":true,"max_tokens":7}"#);
        let dropped = Quirks {
            drop: vec!["safe".into()],
            ..quirks
        };
        assert_eq!(edited(&dropped, r#"{"safe":false}"#), r#"{"max_tokens":7}"#);
    }

    #[test]
    fn numbers_above_the_highest_are_lowered() {
        let quirks = Quirks {
            clamp: vec![
                ("temperature".into(), 1.0),
                ("n".into(), 0.5),
                ("max_tokens".into(), 8192.0),
            ],
            rename: pairs(&[("max_completion_tokens", "max_tokens")]),
            ..Quirks::default()
        };
        assert_eq!(
            edited(&quirks, r#"{"temperature":1.5}"#),
            r#"{"temperature":1}"#
        );
        assert_eq!(
            edited(&quirks, r#"{"temperature":0.7,"n":2}"#),
            r#"{"temperature":0.7,"n":0.5}"#
        );
        assert_eq!(
            edited(&quirks, r#"{"temperature":null}"#),
            r#"{"temperature":null}"#
        );
        assert_eq!(
            edited(&quirks, r#"{"temperature":"hot"}"#),
            r#"{"temperature":"hot"}"#
        );
        assert_eq!(
            edited(&quirks, r#"{"max_completion_tokens":9000}"#),
            r#"{"max_tokens":8192}"#
        );
    }
}
