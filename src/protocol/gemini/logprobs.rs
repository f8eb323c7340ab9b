//! Log probabilities: Google's `logprobsResult` and OpenAI's `logprobs`.

use serde_json::value::RawValue;

use super::words::camel;
use crate::error::Result;
use crate::protocol::chat::Str;
use crate::protocol::text::{Object, Reader, comma};

/// A token, and how likely it was.
#[derive(Debug, Default)]
struct Token<'b> {
    text: Str<'b>,
    logprob: f64,
}

impl<'b> Token<'b> {
    fn read(r: &mut Reader<'b>) -> Result<Self> {
        let mut token = Self::default();
        r.object(|r, key| token.field(r, &key))?;
        Ok(token)
    }

    fn field(&mut self, r: &mut Reader<'b>, key: &str) -> Result<()> {
        match (&*camel(key), r.peek()) {
            ("token", b'"') => self.text = r.string()?,
            ("logProbability" | "logprob", b'-' | b'0'..=b'9') => self.logprob = r.number()?,
            _ => drop(r.raw()?),
        }
        Ok(())
    }

    fn write_openai(&self, top: Option<&[Token<'_>]>, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.string("token", &self.text);
        object.number("logprob", self.logprob);
        object.key("bytes").extend_from_slice(b"null");
        if let Some(top) = top {
            write_list(top, object.key("top_logprobs"), |token, out| {
                token.write_openai(None, out)
            });
        }
        object.close();
    }

    fn write_google(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.string("token", &self.text);
        object.number("logProbability", self.logprob);
        object.close();
    }
}

fn write_list<T>(items: &[T], out: &mut Vec<u8>, mut one: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    let start = out.len();
    for item in items {
        comma(start, out);
        one(item, out);
    }
    out.push(b']');
}

/// Returns a `logprobsResult` as OpenAI's `logprobs`; `None` if it tells nothing.
pub(super) fn to_openai(raw: &RawValue) -> Option<Box<RawValue>> {
    let (mut chosen, mut top) = (Vec::new(), Vec::new());
    Reader::of(raw.get())
        .object(|r, key| match (&*camel(&key), r.peek()) {
            ("chosenCandidates", b'[') => {
                chosen = r.list(Token::read)?;
                Ok(())
            }
            ("topCandidates", b'[') => {
                top = r.list(|r| {
                    let mut tokens = Vec::new();
                    r.object(|r, key| match (&*key, r.peek()) {
                        ("candidates", b'[') => {
                            tokens = r.list(Token::read)?;
                            Ok(())
                        }
                        _ => r.raw().map(drop),
                    })?;
                    Ok(tokens)
                })?;
                Ok(())
            }
            _ => r.raw().map(drop),
        })
        .ok()?;
    if chosen.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    let mut object = Object::open(&mut out);
    let mut index = 0;
    write_list(&chosen, object.key("content"), |token, out| {
        let others = top.get(index).map_or(&[][..], Vec::as_slice);
        index += 1;
        token.write_openai(Some(others), out);
    });
    object.key("refusal").extend_from_slice(b"null");
    object.close();
    RawValue::from_string(String::from_utf8(out).ok()?).ok()
}

/// What is collected of OpenAI's `logprobs`, to be told as a `logprobsResult`.
#[derive(Debug, Default)]
pub(super) struct Collected {
    chosen: Vec<u8>,
    top: Vec<u8>,
    sum: f64,
    count: u32,
}

impl Collected {
    /// Adds one `logprobs` object.
    pub fn add(&mut self, raw: &RawValue) {
        // What can't be read tells no probability.
        let _ = Reader::of(raw.get()).object(|r, key| match (&*key, r.peek()) {
            ("content" | "refusal", b'[') => r.array(|r| self.token(r)),
            _ => r.raw().map(drop),
        });
    }

    fn token(&mut self, r: &mut Reader<'_>) -> Result<()> {
        let mut token = Token::default();
        let mut others = Vec::new();
        r.object(|r, key| match (&*key, r.peek()) {
            ("top_logprobs", b'[') => {
                others = r.list(Token::read)?;
                Ok(())
            }
            (key, _) => token.field(r, key),
        })?;
        comma(0, &mut self.chosen);
        token.write_google(&mut self.chosen);
        comma(0, &mut self.top);
        let mut entry = Object::open(&mut self.top);
        write_list(&others, entry.key("candidates"), |token, out| {
            token.write_google(out)
        });
        entry.close();
        self.sum += token.logprob;
        self.count += 1;
        Ok(())
    }

    /// Appends `avgLogprobs` and `logprobsResult`, where there is anything to tell.
    pub fn write(&self, candidate: &mut Object<'_>) {
        if self.count == 0 {
            return;
        }
        candidate.number("avgLogprobs", self.sum / f64::from(self.count));
        let mut result = Object::open(candidate.key("logprobsResult"));
        for (name, items) in [
            ("topCandidates", &self.top),
            ("chosenCandidates", &self.chosen),
        ] {
            let out = result.key(name);
            out.push(b'[');
            out.extend_from_slice(items);
            out.push(b']');
        }
        result.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_go_and_come_back() {
        let google = r#"{"topCandidates":[{"candidates":[{"token":"a","logProbability":-0.5},{"token":"b","logProbability":-1}]}],"chosenCandidates":[{"token":"a","logProbability":-0.5}]}"#;
        let openai = to_openai(serde_json::from_str(google).unwrap()).unwrap();
        assert_eq!(
            openai.get(),
            r#"{"content":[{"token":"a","logprob":-0.5,"bytes":null,"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":null},{"token":"b","logprob":-1,"bytes":null}]}],"refusal":null}"#
        );
        let mut back = Collected::default();
        back.add(&openai);
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        back.write(&mut object);
        object.close();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(r#"{{"avgLogprobs":-0.5,"logprobsResult":{google}}}"#)
        );
    }
}
