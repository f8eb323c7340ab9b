//! The rest of an answer joined on to its beginning: what is repeated is cut, and blocks go on where they stopped.

use std::borrow::Cow;

use super::prefix::tail;
use super::{Prefill, Told};
use crate::protocol::event::{Block, Delta, Event};

/// A repetition is looked for in so many of the last bytes, and in the whole text.
const WINDOW: usize = 200;
/// So many bytes in a row are no accident, from a model that was asked in words and from one that was not.
const SURE: usize = 12;
const SURE_PREFILLED: usize = 24;
/// Longer texts are not looked for as a whole.
const MOST_ECHO: usize = 64 << 10;

/// Joins one stream on to what was told.
#[derive(Debug)]
pub struct Seam {
    way: Prefill,
    said: String,
    /// The block that was open, and the index of the next.
    open: Option<u32>,
    next: u32,
    /// Text that may be a repetition; `None` once that is decided.
    held: Option<String>,
    /// Indices of the rest and their places in the whole; `None` of what isn't told.
    blocks: Vec<(u32, Option<u32>)>,
    /// A text that is closed once something follows: it may break off again.
    closing: Option<u32>,
}

/// Takes the events of the whole.
type Each<'e> = &'e mut dyn FnMut(&Event<'_>);

impl Seam {
    pub fn new(told: &Told, way: Prefill) -> Self {
        Self {
            way,
            said: told.text.clone(),
            open: told.open_text(),
            next: told.next(),
            held: Some(String::new()),
            blocks: Vec::new(),
            closing: None,
        }
    }

    /// Takes an event of the rest; calls `each` with what the whole is told of it.
    pub fn join(&mut self, event: &Event<'_>, each: Each<'_>) {
        match event {
            // The answer has begun already.
            Event::Start { .. } => {}
            Event::Open { index, block } => self.begin(*index, block, each),
            Event::Delta { index, delta } => self.delta(*index, delta, each),
            Event::Close { index } => self.close(*index, each),
            Event::Finish { .. } => {
                self.settle(each);
                self.end_text(each);
                each(event);
            }
            Event::Error(_) => {
                self.settle(each);
                each(event);
            }
            Event::Usage(_) | Event::Ping => each(event),
        }
    }

    fn begin(&mut self, index: u32, block: &Block<'_>, each: Each<'_>) {
        match block {
            // Thoughts in the middle of a text have no place in any dialect.
            Block::Reasoning | Block::RedactedReasoning { .. } => self.blocks.push((index, None)),
            Block::Text if self.open.is_some() => {
                self.blocks.push((index, self.open));
                self.closing = None;
            }
            Block::Text => {
                let to = self.take();
                self.open = Some(to);
                self.blocks.push((index, Some(to)));
                each(&Event::Open {
                    index: to,
                    block: Block::Text,
                });
            }
            Block::Refusal | Block::ToolCall { .. } | Block::Opaque { .. } => {
                self.settle(each);
                self.end_text(each);
                let to = self.take();
                self.blocks.push((index, Some(to)));
                each(&Event::Open {
                    index: to,
                    block: same(block),
                });
            }
        }
    }

    fn take(&mut self) -> u32 {
        let index = self.next;
        self.next += 1;
        index
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>, each: Each<'_>) {
        let place = self.blocks.iter().rev().find(|(from, _)| *from == index);
        let Some(to) = place.and_then(|(_, to)| *to) else {
            return;
        };
        if let (Delta::Text(piece), Some(held)) = (delta, &mut self.held) {
            held.push_str(piece);
            if is_decided(&self.said, held) {
                self.settle(each);
            }
            return;
        }
        each(&Event::Delta {
            index: to,
            delta: like(delta),
        });
    }

    fn close(&mut self, index: u32, each: Each<'_>) {
        let place = self.blocks.iter().rev().find(|(from, _)| *from == index);
        let Some(to) = place.and_then(|(_, to)| *to) else {
            return;
        };
        if self.open == Some(to) {
            self.closing = Some(to);
        } else {
            each(&Event::Close { index: to });
        }
    }

    /// Tells the text that was held, without what it repeats.
    fn settle(&mut self, each: Each<'_>) {
        let Some(held) = self.held.take() else { return };
        let cut = repeated(&self.said, &held, self.way);
        self.said = String::new();
        let rest = &held[cut..];
        if let Some(open) = self.open.filter(|_| !rest.is_empty()) {
            each(&Event::Delta {
                index: open,
                delta: Delta::Text(Cow::Borrowed(rest)),
            });
        }
    }

    fn end_text(&mut self, each: Each<'_>) {
        self.closing = None;
        if let Some(index) = self.open.take() {
            each(&Event::Close { index });
        }
    }
}

/// Returns whether more of the rest can't change what it repeats.
fn is_decided(said: &str, held: &str) -> bool {
    let begun = held.trim_start();
    if begun.is_empty() {
        return held.len() > WINDOW;
    }
    let grows = |held: &str| {
        let echoes = said.len() <= MOST_ECHO && said.len() > held.len();
        if echoes && said.starts_with(held) {
            return true;
        }
        let from = floor(said, said.len().saturating_sub(WINDOW));
        let window = &said[from..];
        // Somewhere in the last words, but not at their very end.
        let first = held.chars().next().unwrap_or(' ');
        window
            .match_indices(first)
            .any(|(at, _)| window.len() - at > held.len() && window[at..].starts_with(held))
    };
    !(grows(held) || grows(begun))
}

/// Returns how many bytes at the beginning of `rest` repeat the end of `said`.
fn repeated(said: &str, rest: &str, way: Prefill) -> usize {
    let lead = rest.len() - rest.trim_start().len();
    let asked = way == Prefill::Ask;
    let tail = tail(said);
    // With all its white space first, then without that before its first word.
    for skip in [0, lead] {
        let begun = &rest[skip..];
        for said in [said, said.trim_end()] {
            let most = begun.len().min(said.len());
            let whole = said.len() <= most.min(MOST_ECHO);
            let most_window = if whole { most } else { most.min(WINDOW) };
            for length in (1..=most_window).rev() {
                if !begun.is_char_boundary(length) || !said.ends_with(&begun[..length]) {
                    continue;
                }
                let words = begun[..length].trim();
                let at_word = said[..said.len() - length]
                    .chars()
                    .next_back()
                    .is_none_or(|before| !before.is_alphanumeric());
                let letters = words.chars().filter(|one| one.is_alphanumeric()).count();
                let sure = if asked {
                    words.len() >= SURE
                        || words == tail.trim()
                        || (at_word && letters >= 3 && !words.is_empty())
                } else {
                    words.len() >= SURE_PREFILLED
                        || (way == Prefill::Prefix && whole && length == said.len())
                };
                if sure {
                    return skip + length;
                }
            }
        }
        if lead == 0 {
            break;
        }
    }
    // White space that was said already.
    let space = match way {
        Prefill::Ask | Prefill::Last => &rest[..lead],
        Prefill::Prefix | Prefill::Partial | Prefill::FinalMessage | Prefill::Prompt => "",
    };
    let ends = said.len() - said.trim_end().len();
    (1..=space.len().min(ends))
        .rev()
        .find(|length| space.is_char_boundary(*length) && said.ends_with(&space[..*length]))
        .unwrap_or(0)
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn same<'b>(block: &'b Block<'_>) -> Block<'b> {
    match block {
        Block::Text => Block::Text,
        Block::Refusal => Block::Refusal,
        Block::Reasoning => Block::Reasoning,
        Block::RedactedReasoning { data } => Block::RedactedReasoning {
            data: Cow::Borrowed(data),
        },
        Block::ToolCall { id, name } => Block::ToolCall {
            id: Cow::Borrowed(id),
            name: Cow::Borrowed(name),
        },
        Block::Opaque { family, raw } => Block::Opaque {
            family: *family,
            raw,
        },
    }
}

fn like<'b>(delta: &'b Delta<'_>) -> Delta<'b> {
    match delta {
        Delta::Text(text) => Delta::Text(Cow::Borrowed(text)),
        Delta::Refusal(text) => Delta::Refusal(Cow::Borrowed(text)),
        Delta::Reasoning(text) => Delta::Reasoning(Cow::Borrowed(text)),
        Delta::Signature(text) => Delta::Signature(Cow::Borrowed(text)),
        Delta::Arguments(text) => Delta::Arguments(Cow::Borrowed(text)),
        Delta::Citation { family, raw } => Delta::Citation {
            family: *family,
            raw,
        },
        Delta::Logprobs(raw) => Delta::Logprobs(raw),
        Delta::Opaque { family, raw } => Delta::Opaque {
            family: *family,
            raw,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::chat::Finish;

    /// Joins `pieces` on to `said`, and returns what is told.
    fn joined(said: &str, pieces: &[&str], way: Prefill) -> String {
        let mut told = Told::default();
        told.note(&Event::Open {
            index: 0,
            block: Block::Text,
        });
        told.note(&Event::Delta {
            index: 0,
            delta: Delta::Text(said.into()),
        });
        let mut seam = Seam::new(&told, way);
        let mut text = said.to_owned();
        let mut each = |event: &Event<'_>| {
            if let Event::Delta {
                index: 0,
                delta: Delta::Text(piece),
            } = event
            {
                text.push_str(piece);
            }
        };
        let block = Block::Text;
        seam.join(&Event::Open { index: 0, block }, &mut each);
        for piece in pieces {
            let delta = Delta::Text((*piece).into());
            seam.join(&Event::Delta { index: 0, delta }, &mut each);
        }
        seam.join(&Event::Close { index: 0 }, &mut each);
        let end = Event::Finish {
            reason: Finish::Stop,
            stop_sequence: None,
        };
        seam.join(&end, &mut each);
        text
    }

    #[test]
    fn what_is_repeated_is_cut_however_it_comes() {
        let whole = "The capital of France is Paris, and it is large.";
        for cut in (1..whole.len()).filter(|cut| *cut > 20) {
            let (said, _) = whole.split_at(cut);
            let from = said.trim_end().len() - tail(said).len();
            for rest in [&whole[from..], whole] {
                for size in [1, 3, 1000] {
                    let pieces: Vec<&str> = rest
                        .as_bytes()
                        .chunks(size)
                        .map(|piece| std::str::from_utf8(piece).expect("ASCII"))
                        .collect();
                    assert_eq!(
                        joined(said, &pieces, Prefill::Ask),
                        whole,
                        "{said:?} + {rest:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_repeated_stays() {
        for way in Prefill::ALL.map(|(_, way)| way) {
            assert_eq!(
                joined("I said a", &["bc and so on"], way),
                "I said abc and so on"
            );
            assert_eq!(joined("one two", &[" three"], way), "one two three");
            assert_eq!(joined("ha", &["ha"], Prefill::Last), "haha");
        }
    }

    #[test]
    fn white_space_is_said_once_where_it_was_trimmed() {
        assert_eq!(joined("Hello ", &[" world"], Prefill::Last), "Hello world");
        assert_eq!(joined("Hello ", &["world"], Prefill::Last), "Hello world");
        assert_eq!(joined("a\n\n", &["\n\nb"], Prefill::Last), "a\n\nb");
        assert_eq!(joined("a\n", &["\n\nb"], Prefill::Last), "a\n\nb");
        assert_eq!(joined("a ", &[" b"], Prefill::FinalMessage), "a  b");
    }

    #[test]
    fn an_echo_of_the_whole_prefix_is_cut() {
        assert_eq!(joined("Ja", &["Ja", "hr"], Prefill::Prefix), "Jahr");
        let long = "word ".repeat(500);
        assert_eq!(
            joined(&long, &[&long, "end"], Prefill::Prefix),
            format!("{long}end")
        );
    }

    #[test]
    fn a_call_after_the_rest_closes_the_text_and_comes_next() {
        let mut told = Told::default();
        told.note(&Event::Open {
            index: 0,
            block: Block::Text,
        });
        told.note(&Event::Delta {
            index: 0,
            delta: Delta::Text("I look".into()),
        });
        let mut seam = Seam::new(&told, Prefill::Ask);
        let mut lines = Vec::new();
        let mut each = |event: &Event<'_>| lines.push(format!("{event:?}"));
        seam.join(
            &Event::Open {
                index: 0,
                block: Block::Reasoning,
            },
            &mut each,
        );
        seam.join(&Event::Close { index: 0 }, &mut each);
        seam.join(
            &Event::Open {
                index: 1,
                block: Block::Text,
            },
            &mut each,
        );
        let delta = Delta::Text(" it up.".into());
        seam.join(&Event::Delta { index: 1, delta }, &mut each);
        seam.join(&Event::Close { index: 1 }, &mut each);
        let block = Block::ToolCall {
            id: "c".into(),
            name: "f".into(),
        };
        seam.join(&Event::Open { index: 2, block }, &mut each);
        seam.join(&Event::Close { index: 2 }, &mut each);
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert!(lines[0].contains(" it up.") && lines[0].contains("index: 0"));
        assert_eq!(lines[1], "Close { index: 0 }");
        assert!(lines[2].contains("ToolCall") && lines[2].contains("index: 1"));
        assert_eq!(lines[3], "Close { index: 1 }");
    }
}
