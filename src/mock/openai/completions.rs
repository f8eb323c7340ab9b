//! Answers in the words of OpenAI's legacy completions, <https://platform.openai.com/docs/api-reference/completions>.

use super::super::answers::{Piece, Said, Usage, pieces};
use super::super::json::{Json, Object, Raw, data};
use super::chat::{CREATED, finish, write_usage};

/// Returns a whole `text_completion`.
pub(in crate::mock) fn whole(said: &Said<'_>) -> Vec<u8> {
    let text = said.text.as_deref().unwrap_or("");
    let choices: Vec<Object> = (0..said.n)
        .map(|index| choice(index, text, Some(finish(said))))
        .collect();
    head(said)
        .set("choices", choices)
        .some("usage", said.usage.as_ref().map(Counted))
        .end()
}

/// Returns the frames of a stream of `text_completion`s.
pub(in crate::mock) fn stream(said: &Said<'_>) -> Vec<Piece> {
    let chunk = |choices: Vec<Object>| {
        let object = head(said).set("choices", choices);
        data(if said.usage_chunk {
            object.set("usage", Raw("null"))
        } else {
            object
        })
    };
    let mut frames = Vec::with_capacity(said.chunks + 3);
    for index in 0..said.n {
        for piece in pieces(said.text.as_deref().unwrap_or(""), said.chunks) {
            frames.push(Piece::content(chunk(vec![choice(index, piece, None)])));
        }
        frames.push(Piece::frame(chunk(vec![choice(
            index,
            "",
            Some(finish(said)),
        )])));
    }
    if let Some(usage) = said.usage.as_ref().filter(|_| said.usage_chunk) {
        let object = head(said).set("choices", Raw("[]"));
        frames.push(Piece::frame(data(object.set("usage", Counted(usage)))));
    }
    if !said.omit_done {
        frames.push(Piece::frame(b"data: [DONE]\n\n".to_vec()));
    }
    frames
}

/// The usage, as chat writes it.
struct Counted<'a>(&'a Usage);

impl Json for Counted<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        write_usage(out, self.0);
    }
}

fn head(said: &Said<'_>) -> Object {
    Object::new()
        .set("id", "cmpl-mock")
        .set("object", "text_completion")
        .set("created", Raw(CREATED))
        .set("model", said.model)
}

fn choice(index: u32, text: &str, finish: Option<&str>) -> Object {
    Object::new()
        .set("text", text)
        .set("index", index)
        .set("logprobs", Raw("null"))
        .set("finish_reason", finish)
}
