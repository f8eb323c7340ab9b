//! Names of tools that only this protocol has: functions in a namespace, and tools whose input is plain text.
//!
//! To other protocols both are said as functions: the namespace goes before the name, the plain text becomes the
//! one argument. What a model calls by such a name is called by its own again when it is told to the client.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::Result;
use crate::protocol::Protocol;
use crate::protocol::chat::{Str, Tool};
use crate::protocol::text::{Object, Reader};

/// Between a namespace and a name.
const BETWEEN: &str = "__";
/// No provider takes longer names than this, and some no longer ones.
const NAME_MOST: usize = 64;
/// The one argument of a function that stands for a tool of plain text.
pub(super) const INPUT: &str = "input";

/// Returns the one name of a function in a namespace.
pub(super) fn flat<'b>(namespace: Option<&str>, name: Str<'b>) -> Str<'b> {
    match namespace {
        // A function that was loaded when it was searched for is its own namespace.
        Some(space) if !space.is_empty() && space != name => {
            let joined = format!("{space}{BETWEEN}{name}");
            if joined.len() > NAME_MOST {
                name
            } else {
                Cow::Owned(joined)
            }
        }
        Some(_) | None => name,
    }
}

/// Returns the arguments that stand for plain text.
pub(super) fn wrap(input: &str) -> String {
    let mut out = Vec::with_capacity(input.len() + 16);
    let mut object = Object::open(&mut out);
    object.string(INPUT, input);
    object.close();
    String::from_utf8(out).unwrap_or_default()
}

/// Returns the plain text that arguments stand for; what is no such object is the text itself.
pub(super) fn unwrap(arguments: &str) -> Cow<'_, str> {
    let mut reader = Reader::of(arguments);
    let mut input = None;
    let read = reader.object(|r, key| {
        match (&*key, r.peek()) {
            (INPUT, b'"') => input = Some(r.string()?),
            _ => drop(r.raw()?),
        }
        Ok(())
    });
    match (read, input) {
        (Ok(()), Some(input)) => input,
        (Ok(()) | Err(_), _) => Cow::Borrowed(arguments),
    }
}

/// What a client calls a tool that others know by one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub namespace: Option<String>,
    pub name: String,
    /// It takes plain text.
    pub custom: bool,
}

/// The tools of a request whose names are not their own elsewhere.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<String, Own>);

impl Names {
    /// Reads them from what an answer repeats of its request: JSON members without braces.
    pub fn of(echo: &str) -> Self {
        let mut names = Self::default();
        if memchr::memmem::find(echo.as_bytes(), b"\"namespace\"").is_none()
            && memchr::memmem::find(echo.as_bytes(), b"\"custom\"").is_none()
        {
            return names;
        }
        let text = format!("{{{echo}}}");
        // What can't be read names nothing.
        let _ = Reader::of(&text).object(|r, key| match (&*key, r.peek()) {
            ("tools", b'[') => r.array(|r| names.tool(r, None)),
            _ => r.raw().map(drop),
        });
        names
    }

    /// Reads them from the tools of a request that this protocol's client made.
    pub fn of_tools(tools: &[Tool<'_>]) -> Self {
        let mut names = Self::default();
        for tool in tools {
            if let Tool::Opaque {
                family: Protocol::OpenaiResponses,
                raw,
                ..
            } = tool
            {
                // What can't be read names nothing.
                let _ = names.tool(&mut Reader::of(raw.get()), None);
            }
        }
        names
    }

    fn tool(&mut self, r: &mut Reader<'_>, namespace: Option<&str>) -> Result<()> {
        if r.peek() != b'{' {
            return r.raw().map(drop);
        }
        let (kind, name) = (r.tag("type"), r.tag("name"));
        match (kind.as_deref(), name, namespace) {
            (Some("namespace"), Some(space), None) => r.object(|r, key| match (&*key, r.peek()) {
                ("tools", b'[') => r.array(|r| self.tool(r, Some(&space))),
                _ => r.raw().map(drop),
            }),
            (kind @ Some("function" | "custom"), Some(name), namespace) => {
                let custom = kind == Some("custom");
                if custom || namespace.is_some() {
                    let own = Own {
                        namespace: namespace.map(str::to_owned),
                        name: name.clone().into_owned(),
                        custom,
                    };
                    // Of two that are called the same the first is known.
                    let flat = flat(namespace, name).into_owned();
                    self.0.entry(flat).or_insert(own);
                }
                r.raw().map(drop)
            }
            _ => r.raw().map(drop),
        }
    }

    /// Returns what the client calls the tool that others know as `name`; `None` where it is the same.
    pub fn own(&self, name: &str) -> Option<&Own> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_called_by_their_own_names_again() {
        let names = Names::of(
            r#""tools":[{"type":"function","name":"plain"},{"type":"custom","name":"patch"},
               {"type":"namespace","name":"agents","tools":[{"type":"function","name":"spawn"}]}],"x":1"#,
        );
        assert_eq!(names.own("plain"), None);
        assert!(names.own("patch").is_some_and(|own| own.custom));
        let spawn = names.own("agents__spawn").unwrap();
        assert_eq!(
            (spawn.namespace.as_deref(), &*spawn.name),
            (Some("agents"), "spawn")
        );
    }

    #[test]
    fn plain_text_comes_back_out_of_its_arguments() {
        let text = "*** Begin\n\"quoted\" \\ é";
        assert_eq!(unwrap(&wrap(text)), text);
        assert_eq!(unwrap("{\"input\": 1}"), "{\"input\": 1}");
        assert_eq!(unwrap("not json"), "not json");
    }

    #[test]
    fn a_name_that_grows_too_long_stays_short() {
        let name = "n".repeat(50);
        assert_eq!(flat(Some("a-long-namespace"), name.clone().into()), name);
        assert_eq!(flat(Some("same"), "same".into()), "same");
    }
}
