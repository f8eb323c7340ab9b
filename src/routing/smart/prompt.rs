//! What is looked at of a request to judge how hard it is.

use std::borrow::Cow;

use crate::protocol::chat::{Format, Part, Reasoning, Request, Role, Source};

/// A request as the classifier sees it: what is asked now, and the outlines of the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt<'p> {
    /// The last turn of the user.
    pub text: Cow<'p, str>,
    /// Bytes of all other text: system, earlier turns, results of tools.
    pub context: usize,
    /// Messages of the conversation, the system's included.
    pub turns: usize,
    /// Tools that may be called.
    pub tools: usize,
    /// Images, audio and documents.
    pub media: usize,
    /// The answer must be JSON.
    pub structured: bool,
    /// The client asked the model to think.
    pub reasoning: bool,
}

impl<'p> Prompt<'p> {
    /// Returns the prompt of a lone question.
    pub fn text(text: &'p str) -> Self {
        Self {
            text: Cow::Borrowed(text),
            turns: 1,
            ..Self::default()
        }
    }

    /// Returns the prompt of a request in the hub. Copies only where the last turn has several texts.
    pub fn of<'b>(request: &'p Request<'b>) -> Self
    where
        'b: 'p,
    {
        let asked = request
            .messages
            .iter()
            .rposition(|message| message.role == Role::User && message.parts.iter().any(is_text));
        let mut prompt = Self {
            turns: request.messages.len(),
            tools: request.tools.len(),
            structured: match request.format {
                Some(Format::JsonObject | Format::JsonSchema { .. }) => true,
                Some(Format::Text) | None => false,
            },
            reasoning: match &request.reasoning {
                Some(Reasoning::Budget(_) | Reasoning::Effort(_) | Reasoning::Adaptive(_)) => true,
                Some(Reasoning::Off) | None => false,
            },
            ..Self::default()
        };
        for (index, message) in request.messages.iter().enumerate() {
            for part in &message.parts {
                prompt.add(part, Some(index) == asked);
            }
        }
        prompt
    }

    fn add<'b>(&mut self, part: &'p Part<'b>, asked: bool)
    where
        'b: 'p,
    {
        match part {
            Part::Text { text, .. } if asked => {
                if self.text.is_empty() {
                    self.text = Cow::Borrowed(text);
                } else {
                    let all = self.text.to_mut();
                    all.push('\n');
                    all.push_str(text);
                }
            }
            Part::Text { text, .. } | Part::Refusal { text } | Part::Reasoning { text, .. } => {
                self.context += text.len();
            }
            Part::ToolCall { arguments, .. } => self.context += arguments.len(),
            Part::ToolResult { parts, .. } => {
                // A result holds texts and media, never a result.
                for part in parts {
                    match part {
                        Part::Text { text, .. } => self.context += text.len(),
                        Part::Image { .. } | Part::Audio { .. } | Part::File { .. } => {
                            self.media += 1;
                        }
                        Part::Refusal { .. }
                        | Part::ToolCall { .. }
                        | Part::ToolResult { .. }
                        | Part::Reasoning { .. }
                        | Part::RedactedReasoning { .. }
                        | Part::Opaque { .. } => {}
                    }
                }
            }
            Part::File {
                source: Source::Text(text),
                ..
            } => self.context += text.len(),
            Part::Image { .. } | Part::Audio { .. } | Part::File { .. } => self.media += 1,
            Part::RedactedReasoning { .. } | Part::Opaque { .. } => {}
        }
    }
}

fn is_text(part: &Part<'_>) -> bool {
    matches!(part, Part::Text { text, .. } if !text.trim_ascii().is_empty())
}
