//! A request for the rest of an answer.

use std::borrow::Cow;

use super::Settings;
use crate::codec::json::{self, Scanner};
use crate::codec::splice::Edits;
use crate::protocol::Protocol;
use crate::protocol::chat::{Message, Part, Reasoning, Request, Role};

use bytes::Bytes;

/// How a provider is told that the last message of a request is the beginning of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefill {
    /// It can't be: it is asked in words.
    #[default]
    Ask,
    /// By its being the last message (Anthropic, OpenRouter).
    Last,
    /// By `prefix: true` on the message (Mistral, DeepSeek's beta).
    Prefix,
    /// By `partial: true` on the message (Moonshot).
    Partial,
    /// By `continue_final_message: true` in the request (vLLM).
    FinalMessage,
    /// By its standing at the end of the prompt (OpenAI completions).
    Prompt,
}

impl Prefill {
    /// Those that a provider may have, by the words of the configuration.
    pub const ALL: [(&'static str, Prefill); 5] = [
        ("none", Prefill::Ask),
        ("last", Prefill::Last),
        ("prefix", Prefill::Prefix),
        ("partial", Prefill::Partial),
        ("continue_final_message", Prefill::FinalMessage),
    ];
}

/// The beginning of an answer whose rest is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Prefix<'a> {
    pub text: &'a str,
    pub settings: &'a Settings,
}

/// The words that a model repeats to show where it goes on: so many bytes at least, from the beginning of a word.
const TAIL_LEAST: usize = 16;
const TAIL_MOST: usize = 120;
/// Fewer tokens are not asked for.
const LEAST_OUTPUT: u32 = 16;

impl<'a> Prefix<'a> {
    /// Returns how this very request is told, by a provider that is told by `prefill`.
    pub fn way(&self, request: &Request<'_>, to: Protocol, prefill: Prefill) -> Prefill {
        let thinks = !matches!(request.reasoning, None | Some(Reasoning::Off));
        match (to, prefill) {
            // Claude thinks before it answers, and an answer that has begun leaves no place for that.
            (Protocol::Anthropic | Protocol::Bedrock, Prefill::Last) if thinks => Prefill::Ask,
            (Protocol::OpenaiCompletions, _) => Prefill::Prompt,
            (_, Prefill::Last) => Prefill::Last,
            (Protocol::OpenaiChat, way) => way,
            _ => Prefill::Ask,
        }
    }

    /// Puts what was said at the end of `request`. Returns false where the request can't be gone on with that way.
    pub fn put<'r>(&self, request: &mut Request<'r>, way: Prefill) -> bool
    where
        'a: 'r,
    {
        use crate::protocol::chat::Format;
        let structured = !matches!(request.format, None | Some(Format::Text));
        if structured && way == Prefill::Ask {
            // Words around JSON would break it.
            return false;
        }
        // A grammar begins at the beginning: the rest of a document doesn't fit it.
        if structured {
            request.format = None;
        }
        if way == Prefill::Prompt {
            let last = request.messages.last_mut();
            let Some(Part::Text { text, .. }) = last.and_then(|last| last.parts.last_mut()) else {
                return false;
            };
            text.push_str(self.text);
            self.bound(request);
            return true;
        }
        let text = match way {
            // Claude refuses an answer that ends in white space.
            Prefill::Last => self.text.trim_end(),
            Prefill::Ask
            | Prefill::Prefix
            | Prefill::Partial
            | Prefill::FinalMessage
            | Prefill::Prompt => self.text,
        };
        let part = |text: Cow<'r, str>| Part::Text {
            text: text.into(),
            cache: None,
            citations: None,
        };
        let begun = part(Cow::Borrowed(text));
        match request.messages.last_mut() {
            // The client had begun the answer itself.
            Some(last) if last.role == Role::Assistant => last.parts.push(begun),
            Some(_) | None => request.messages.push(Message {
                role: Role::Assistant,
                parts: vec![begun],
                name: None,
            }),
        }
        if way == Prefill::Ask {
            let prompt = self.settings.prompt.replace("{tail}", tail(self.text));
            request.messages.push(Message {
                role: Role::User,
                parts: vec![part(Cow::Owned(prompt))],
                name: None,
            });
        }
        self.bound(request);
        true
    }

    /// Leaves the rest what the whole was allowed, but for what was said.
    fn bound(&self, request: &mut Request<'_>) {
        let said = u32::try_from(self.text.len() / 4).unwrap_or(u32::MAX);
        if let Some(most) = &mut request.max_output {
            *most = most.saturating_sub(said).max(LEAST_OUTPUT.min(*most));
        }
        request.n = None;
    }

    /// Marks the last message of an encoded body, where that is how it is told.
    pub fn mark(body: Bytes, way: Prefill) -> Bytes {
        let mut members = Vec::new();
        if json::members(&body, usize::MAX, &mut members).is_err() {
            return body;
        }
        let mut edits = Edits::new();
        let word = match way {
            Prefill::Ask | Prefill::Last | Prefill::Prompt => return body,
            Prefill::Prefix => "prefix",
            Prefill::Partial => "partial",
            Prefill::FinalMessage => {
                edits.insert_member(&body, "continue_final_message", b"true");
                edits.insert_member(&body, "add_generation_prompt", b"false");
                return edits.apply(&body);
            }
        };
        let messages = members
            .iter()
            .find(|member| json::key(&body, member) == "messages");
        let Some(messages) = messages.map(|member| member.value.clone()) else {
            return body;
        };
        let mut last = None;
        let mut scanner = Scanner::new(&body[messages.clone()], usize::MAX);
        let read = scanner.array(|scanner| {
            last = Some(scanner.skip()?);
            Ok(())
        });
        let (Ok(()), Some(last)) = (read, last) else {
            return body;
        };
        let last = messages.start + last.start..messages.start + last.end;
        let message = body.slice(last.clone());
        let mut inner = Edits::new();
        inner.insert_member(&message, word, b"true");
        edits.replace(last, inner.apply(&message).to_vec());
        edits.apply(&body)
    }
}

/// Returns the last words of a text, from the beginning of a word.
pub(super) fn tail(text: &str) -> &str {
    let text = text.trim_end();
    let mut from = text.len().saturating_sub(TAIL_LEAST);
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    let most = text.len().saturating_sub(TAIL_MOST);
    let word = text[..from].rfind(char::is_whitespace);
    match word {
        Some(at) if at >= most => text[at..].trim_start(),
        None if from <= TAIL_MOST => text,
        Some(_) | None => &text[from..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_begins_with_a_word() {
        assert_eq!(tail("The capital of France is Par"), "of France is Par");
        assert_eq!(tail("The capital of France  "), "capital of France");
        assert_eq!(tail("Hi"), "Hi");
        assert_eq!(tail(""), "");
        let long = "é".repeat(500);
        assert!(!tail(&long).is_empty() && tail(&long).len() < 30);
    }

    #[test]
    fn marks_stand_on_the_last_message() {
        let body = Bytes::from_static(
            br#"{"messages":[{"role":"user"},{"role":"assistant","content":"a"}],"n":1}"#,
        );
        let marked = Prefix::mark(body.clone(), Prefill::Prefix);
        let json: serde_json::Value = serde_json::from_slice(&marked).expect("JSON");
        assert_eq!(json["messages"][1]["prefix"], true);
        assert!(json["messages"][0]["prefix"].is_null());
        let json: serde_json::Value =
            serde_json::from_slice(&Prefix::mark(body.clone(), Prefill::FinalMessage))
                .expect("JSON");
        assert_eq!(json["continue_final_message"], true);
        assert_eq!(json["add_generation_prompt"], false);
        assert_eq!(Prefix::mark(body.clone(), Prefill::Last), body);
    }
}
