//! Requests for embeddings as each provider takes them.

mod pieces;

use super::{Cut, Input, Maker, Piece, Request, Task, text_of};
use crate::error::{Error, Kind, Result};
use crate::protocol::chat::Str;
use crate::protocol::text::{self, Object};
use crate::protocol::{Protocol, Translated};
pub use pieces::write_all;

/// Writes a request for a provider. `model` is its own id.
pub fn write(to: Protocol, request: &Request<'_>, model: &str) -> Result<Translated> {
    let mut out = Vec::with_capacity(256);
    let mut writer = Writer {
        request,
        model,
        dropped: request.dropped.clone(),
    };
    match to {
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => {
            writer.openai(&mut out)?;
        }
        Protocol::Gemini => writer.gemini(&mut out)?,
        Protocol::Cohere => writer.cohere(&mut out)?,
        Protocol::Ollama => writer.ollama(&mut out)?,
        Protocol::Bedrock if model.contains("cohere.") => writer.cohere_on_bedrock(&mut out)?,
        Protocol::Bedrock if model.contains("nova") => writer.nova(&mut out)?,
        Protocol::Bedrock => writer.titan(&mut out)?,
        Protocol::Anthropic => {
            return Err(Error::new(Kind::Unsupported, "anthropic has no embeddings"));
        }
    }
    Ok(Translated {
        body: out,
        dropped: writer.dropped,
        schema_tool: false,
    })
}

struct Writer<'r> {
    request: &'r Request<'r>,
    model: &'r str,
    dropped: Vec<String>,
}

impl Writer<'_> {
    fn openai(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let maker = Maker::of(self.model);
        self.floats()?;
        self.untitled();
        let mut object = Object::open(out);
        object.string("model", self.model);
        let list = object.key("input");
        self.list(list, |writer, index, out| {
            match &writer.request.inputs[index] {
                Input::Tokens(_)
                    if matches!(maker, Maker::Voyage | Maker::Jina | Maker::Mistral) =>
                {
                    Err(writer.refused(index, "token ids"))
                }
                Input::Tokens(tokens) => {
                    out.extend_from_slice(tokens.as_bytes());
                    Ok(())
                }
                input @ (Input::Text(_) | Input::Mixed(_)) => match text_of(input) {
                    Some(content) => {
                        text::string(&content, out);
                        Ok(())
                    }
                    None if maker == Maker::Jina => writer.jina(index, out),
                    None => Err(writer.refused(index, "an image")),
                },
            }
        })?;
        if let Some(dimensions) = &self.request.dimensions {
            let name = match maker {
                Maker::Voyage | Maker::Mistral => "output_dimension",
                Maker::Openai | Maker::Jina | Maker::Other => "dimensions",
            };
            object.integer(name, dimensions.value.into());
        }
        match (maker, &self.request.task) {
            (_, None) => {}
            (Maker::Voyage, Some(task)) => match task.value {
                Task::Query | Task::Answering | Task::Verification | Task::CodeQuery => {
                    object.string("input_type", "query");
                }
                Task::Document => object.string("input_type", "document"),
                Task::Similarity | Task::Classification | Task::Clustering | Task::Image => {
                    self.dropped.push(task.field.clone());
                }
            },
            (Maker::Jina, Some(task)) => match task.value {
                Task::Query | Task::Answering | Task::Verification => {
                    object.string("task", "retrieval.query");
                }
                Task::Document => object.string("task", "retrieval.passage"),
                Task::Similarity => object.string("task", "text-matching"),
                Task::Classification => object.string("task", "classification"),
                Task::Clustering => object.string("task", "separation"),
                Task::CodeQuery => object.string("task", "code.query"),
                Task::Image => self.dropped.push(task.field.clone()),
            },
            (Maker::Openai | Maker::Mistral | Maker::Other, Some(task)) => {
                self.dropped.push(task.field.clone());
            }
        }
        if let Some(cut) = &self.request.cut {
            match (maker, cut.value) {
                (Maker::Voyage, Cut::End) => object.boolean("truncation", true),
                (Maker::Voyage, Cut::Refuse) => object.boolean("truncation", false),
                (Maker::Jina, Cut::End) => object.boolean("truncate", true),
                (Maker::Jina, Cut::Refuse) => object.boolean("truncate", false),
                // They refuse what is too long anyway.
                (Maker::Openai | Maker::Mistral | Maker::Other, Cut::Refuse) => {}
                (_, Cut::Start | Cut::End) => self.dropped.push(cut.field.clone()),
            }
        }
        object.close();
        Ok(())
    }

    fn jina(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        match &self.request.inputs[index] {
            Input::Mixed(pieces) if pieces.len() == 1 => {
                out.extend_from_slice(b"{\"image\":");
                match pieces.first() {
                    Some(Piece::Url(url)) => text::string(url, out),
                    // Jina takes the bare data.
                    Some(Piece::Image { data, .. }) => text::string(data, out),
                    Some(Piece::Text(_)) | None => return Err(self.refused(index, "an image")),
                }
                out.push(b'}');
                Ok(())
            }
            Input::Text(_) | Input::Tokens(_) | Input::Mixed(_) => {
                Err(self.refused(index, "text and images in one vector"))
            }
        }
    }

    /// Returns Google's word for what the vectors are for.
    fn google_task(&mut self) -> Option<&'static str> {
        match &self.request.task {
            None => None,
            Some(task) => match task.value {
                Task::Query => Some("RETRIEVAL_QUERY"),
                Task::Document => Some("RETRIEVAL_DOCUMENT"),
                Task::Similarity => Some("SEMANTIC_SIMILARITY"),
                Task::Classification => Some("CLASSIFICATION"),
                Task::Clustering => Some("CLUSTERING"),
                Task::Answering => Some("QUESTION_ANSWERING"),
                Task::Verification => Some("FACT_VERIFICATION"),
                Task::CodeQuery => Some("CODE_RETRIEVAL_QUERY"),
                Task::Image => {
                    self.dropped.push(task.field.clone());
                    None
                }
            },
        }
    }

    fn gemini(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.floats()?;
        let task = self.google_task();
        if let Some(cut) = &self.request.cut {
            // It cuts the end of what is too long, and can't be told otherwise.
            match cut.value {
                Cut::End => {}
                Cut::Start | Cut::Refuse => self.dropped.push(cut.field.clone()),
            }
        }
        let mut object = Object::open(out);
        let list = object.key("requests");
        self.list(list, |writer, index, out| {
            let mut one = Object::open(out);
            let model = one.key("model");
            let bare = writer.model.strip_prefix("models/").unwrap_or(writer.model);
            model.extend_from_slice(b"\"models/");
            text::escaped(bare, model);
            model.push(b'"');
            one.key("content").extend_from_slice(b"{\"parts\":[");
            let start = one.out.len();
            match &writer.request.inputs[index] {
                Input::Text(content) => {
                    one.out.extend_from_slice(b"{\"text\":");
                    text::string(content, one.out);
                    one.out.push(b'}');
                }
                Input::Tokens(_) => return Err(writer.refused(index, "token ids")),
                Input::Mixed(pieces) => {
                    for piece in pieces {
                        text::comma(start, one.out);
                        match piece {
                            Piece::Text(content) => {
                                let mut part = Object::open(one.out);
                                part.string("text", content);
                                part.close();
                            }
                            Piece::Image { media_type, data } => {
                                one.out.extend_from_slice(b"{\"inlineData\":");
                                let mut part = Object::open(one.out);
                                part.string("mimeType", media_type);
                                part.string("data", data);
                                part.close();
                                one.out.push(b'}');
                            }
                            Piece::Url(_) => {
                                return Err(writer.refused(index, "an image's address"));
                            }
                        }
                    }
                }
            }
            one.out.extend_from_slice(b"]}");
            one.maybe_string("taskType", task);
            one.maybe_string("title", writer.request.title.as_deref());
            if let Some(dimensions) = &writer.request.dimensions {
                one.integer("outputDimensionality", dimensions.value.into());
            }
            one.close();
            Ok(())
        })?;
        object.close();
        Ok(())
    }

    fn cohere(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.untitled();
        let mut object = Object::open(out);
        object.string("model", self.model);
        self.cohere_fields(&mut object, true)?;
        object.close();
        Ok(())
    }

    fn cohere_on_bedrock(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.untitled();
        // The third generation has one size, and no kinds but those of `embedding_types`.
        let third = self.model.contains("-v3");
        if let Some(dimensions) = self.request.dimensions.as_ref().filter(|_| third) {
            let message = format!("{}: this model's size is fixed", dimensions.field);
            return Err(Error::unsupported(dimensions.field.clone(), message));
        }
        let mut object = Object::open(out);
        self.cohere_fields(&mut object, !third || !self.request.types.is_empty())?;
        object.close();
        Ok(())
    }

    fn cohere_fields(&mut self, object: &mut Object<'_>, typed: bool) -> Result<()> {
        let images = self.request.inputs.iter().any(|input| match input {
            Input::Mixed(_) => text_of(input).is_none(),
            Input::Text(_) | Input::Tokens(_) => false,
        });
        let mut kind = "search_document";
        if let Some(task) = &self.request.task {
            match task.value {
                Task::Query | Task::Answering | Task::Verification | Task::CodeQuery => {
                    kind = "search_query";
                }
                Task::Document => {}
                Task::Classification => kind = "classification",
                Task::Clustering => kind = "clustering",
                Task::Image => kind = "image",
                Task::Similarity => self.dropped.push(task.field.clone()),
            }
        }
        object.string("input_type", kind);
        if typed {
            let list = object.key("embedding_types");
            if self.request.types.is_empty() {
                list.extend_from_slice(b"[\"float\"]");
            } else {
                list.push(b'[');
                let start = list.len();
                for kind in &self.request.types {
                    text::comma(start, list);
                    text::string(kind, list);
                }
                list.push(b']');
            }
        }
        if images {
            let list = object.key("inputs");
            self.list(list, |writer, index, out| writer.cohere_input(index, out))?;
        } else {
            let list = object.key("texts");
            self.list(list, |writer, index, out| writer.text(index, out))?;
        }
        if let Some(dimensions) = &self.request.dimensions {
            object.integer("output_dimension", dimensions.value.into());
        }
        if let Some(cut) = &self.request.cut {
            object.string(
                "truncate",
                match cut.value {
                    Cut::Refuse => "NONE",
                    Cut::Start => "START",
                    Cut::End => "END",
                },
            );
        }
        Ok(())
    }

    fn cohere_input(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        let one: [Piece<'_>; 1];
        let pieces: &[Piece<'_>] = match &self.request.inputs[index] {
            Input::Mixed(pieces) => pieces,
            Input::Text(text) => {
                one = [Piece::Text(Str::Borrowed(text))];
                &one
            }
            Input::Tokens(_) => return Err(self.refused(index, "token ids")),
        };
        out.extend_from_slice(b"{\"content\":[");
        let start = out.len();
        for piece in pieces {
            text::comma(start, out);
            let mut object = Object::open(out);
            match piece {
                Piece::Text(content) => {
                    object.string("type", "text");
                    object.string("text", content);
                }
                Piece::Image { media_type, data } => {
                    object.string("type", "image_url");
                    let url = object.key("image_url");
                    url.extend_from_slice(b"{\"url\":\"data:");
                    text::escaped(media_type, url);
                    url.extend_from_slice(b";base64,");
                    text::escaped(data, url);
                    url.extend_from_slice(b"\"}");
                }
                Piece::Url(address) => {
                    object.string("type", "image_url");
                    let url = object.key("image_url");
                    url.extend_from_slice(b"{\"url\":");
                    text::string(address, url);
                    url.push(b'}');
                }
            }
            object.close();
        }
        out.extend_from_slice(b"]}");
        Ok(())
    }

    fn ollama(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.floats()?;
        self.untitled();
        self.untasked();
        let mut object = Object::open(out);
        object.string("model", self.model);
        let list = object.key("input");
        self.list(list, |writer, index, out| writer.text(index, out))?;
        if let Some(dimensions) = &self.request.dimensions {
            object.integer("dimensions", dimensions.value.into());
        }
        if let Some(cut) = &self.request.cut {
            match cut.value {
                Cut::Refuse => object.boolean("truncate", false),
                Cut::End => object.boolean("truncate", true),
                Cut::Start => self.dropped.push(cut.field.clone()),
            }
        }
        object.close();
        Ok(())
    }

    fn titan(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let first = self.model.contains("titan-embed-text-v1") || self.model.contains("g1-text");
        self.only()?;
        self.floats()?;
        self.untitled();
        self.untasked();
        self.uncut();
        let mut object = Object::open(out);
        let key = object.key("inputText");
        self.text(0, key)?;
        match &self.request.dimensions {
            Some(dimensions) if first => {
                let message = format!("{}: this model's size is fixed", dimensions.field);
                return Err(Error::unsupported(dimensions.field.clone(), message));
            }
            Some(dimensions) => object.integer("dimensions", dimensions.value.into()),
            None => {}
        }
        object.close();
        Ok(())
    }

    fn nova(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.only()?;
        self.floats()?;
        self.untitled();
        let mut purpose = "GENERIC_INDEX";
        if let Some(task) = &self.request.task {
            match task.value {
                Task::Query | Task::Answering | Task::Verification | Task::CodeQuery => {
                    purpose = "GENERIC_RETRIEVAL";
                }
                Task::Document => {}
                Task::Classification => purpose = "CLASSIFICATION",
                Task::Clustering => purpose = "CLUSTERING",
                Task::Similarity | Task::Image => self.dropped.push(task.field.clone()),
            }
        }
        let cut = match self.request.cut.as_ref().map(|cut| cut.value) {
            Some(Cut::Refuse) => "NONE",
            Some(Cut::Start) => "START",
            Some(Cut::End) | None => "END",
        };
        let mut object = Object::open(out);
        object.string("taskType", "SINGLE_EMBEDDING");
        let mut single = Object::open(object.key("singleEmbeddingParams"));
        single.string("embeddingPurpose", purpose);
        if let Some(dimensions) = &self.request.dimensions {
            single.integer("embeddingDimension", dimensions.value.into());
        }
        let mut content = Object::open(single.key("text"));
        content.string("truncationMode", cut);
        let value = content.key("value");
        self.text(0, value)?;
        content.close();
        single.close();
        object.close();
        Ok(())
    }

    fn list(
        &self,
        out: &mut Vec<u8>,
        mut one: impl FnMut(&Self, usize, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        out.push(b'[');
        let start = out.len();
        for index in 0..self.request.inputs.len() {
            text::comma(start, out);
            one(self, index, out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn text(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        let input = &self.request.inputs[index];
        match text_of(input) {
            Some(content) => {
                text::string(&content, out);
                Ok(())
            }
            None => Err(self.refused(
                index,
                match input {
                    Input::Tokens(_) => "token ids",
                    Input::Text(_) | Input::Mixed(_) => "an image",
                },
            )),
        }
    }

    /// Refuses what the model embeds one by one alone.
    fn only(&self) -> Result<()> {
        if self.request.inputs.len() == 1 {
            return Ok(());
        }
        let field = self.place(1);
        let message = format!("{field}: this model embeds one text a request");
        Err(Error::unsupported(field, message))
    }

    /// Refuses numbers of another kind than the two that everyone can be brought to.
    fn floats(&self) -> Result<()> {
        match self
            .request
            .types
            .iter()
            .position(|kind| !matches!(&**kind, "float" | "base64"))
        {
            Some(index) => {
                let field = self.request.family.element("embedding_types", index);
                let message = format!("{field}: this provider gives floats alone");
                Err(Error::unsupported(field, message))
            }
            None => Ok(()),
        }
    }

    fn untitled(&mut self) {
        if self.request.title.is_some() {
            self.dropped.push("title".into());
        }
    }

    fn untasked(&mut self) {
        if let Some(task) = &self.request.task {
            self.dropped.push(task.field.clone());
        }
    }

    fn uncut(&mut self) {
        if let Some(cut) = self.request.cut.as_ref()
            && cut.value != Cut::Refuse
        {
            self.dropped.push(cut.field.clone());
        }
    }

    /// Returns what the client calls an input.
    fn place(&self, index: usize) -> String {
        let family = self.request.family;
        match family {
            Protocol::Gemini if self.request.single => "content".into(),
            Protocol::Gemini => format!("{}.content", family.element("requests", index)),
            Protocol::Cohere => match &self.request.inputs[index] {
                Input::Text(_) => family.element("texts", index),
                Input::Tokens(_) | Input::Mixed(_) => family.element("inputs", index),
            },
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Bedrock
            | Protocol::Ollama => {
                if self.request.inputs.len() == 1 {
                    "input".into()
                } else {
                    family.element("input", index)
                }
            }
        }
    }

    fn refused(&self, index: usize, what: &str) -> Error {
        let field = self.place(index);
        let message = format!("{field}: this provider does not embed {what}");
        Error::unsupported(field, message)
    }
}
