//! Clients' requests for embeddings.

use super::{Cut, Encoding, Input, Piece, Request, Task};
use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::protocol::api::{Named, OURS};
use crate::protocol::chat::Str;
use crate::protocol::text::Reader;

/// More than any provider takes in one call (OpenAI: 2048).
const INPUTS_MOST: usize = 4096;

/// Reads a request of `family`.
pub fn read(family: Protocol, body: &[u8]) -> Result<Request<'_>> {
    let mut reader = Reader::new(body)?;
    let mut request = blank(family);
    match family {
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::OpenaiCompletions => {
            openai(&mut reader, &mut request)?;
        }
        Protocol::Gemini => gemini(&mut reader, &mut request)?,
        Protocol::Cohere => cohere(&mut reader, &mut request)?,
        Protocol::Ollama => ollama(&mut reader, &mut request)?,
        Protocol::Anthropic | Protocol::Bedrock => {
            let message = format!("{} has no embeddings", family.name());
            return Err(Error::new(crate::error::Kind::Unsupported, message));
        }
    }
    reader.finish()?;
    for (name, _) in reader.strangers() {
        request.dropped.push(name.into_owned());
    }
    let field = match family {
        Protocol::Gemini if !request.single => "requests",
        Protocol::Gemini => "content",
        Protocol::Cohere => "texts",
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Bedrock
        | Protocol::Ollama => "input",
    };
    if request.inputs.is_empty() {
        return Err(Error::field(field, format!("{field} is empty or missing")));
    }
    if request.inputs.len() > INPUTS_MOST {
        let message = format!("{field} has more than {INPUTS_MOST} elements");
        return Err(Error::field(field, message));
    }
    Ok(request)
}

fn openai<'b>(reader: &mut Reader<'b>, request: &mut Request<'b>) -> Result<()> {
    reader.object(|r, key| {
        match &*key {
            "input" => {
                let mark = r.mark();
                match r.peek() {
                    b'"' => request.inputs.push(Input::Text(r.string()?)),
                    b'[' => {
                        let mut numbers = false;
                        r.array(|r| {
                            if matches!(r.peek(), b'-' | b'0'..=b'9') {
                                numbers = true;
                                r.integer()?;
                                return Ok(());
                            }
                            if numbers {
                                return Err(r.wrong("a token"));
                            }
                            request.inputs.push(element(r)?);
                            Ok(())
                        })?;
                        if numbers {
                            if !request.inputs.is_empty() {
                                return Err(r.misfit("all texts or all tokens"));
                            }
                            r.back(mark);
                            request.inputs.push(Input::Tokens(r.raw()?.get()));
                        }
                    }
                    _ => return Err(r.wrong("a string or an array")),
                }
            }
            "dimensions" | "output_dimension" => {
                request.dimensions = Named::maybe(r, &key, Reader::integer)?;
            }
            "encoding_format" => {
                if let Some(format) = r.maybe(Reader::string)? {
                    request.encoding = match &*format {
                        "float" => Encoding::Float,
                        "base64" => Encoding::Base64,
                        _ => return Err(r.misfit("\"float\" or \"base64\"")),
                    };
                }
            }
            "input_type" | "task_type" | "task" => {
                request.task = task(r, &key)?.or(request.task.take());
            }
            "truncate" | "truncation" => request.cut = cut(r, &key)?,
            "output_dtype" | "embedding_type" => plain_type(r, &key)?,
            "user" => {
                if r.maybe_raw()?.is_some() {
                    request.dropped.push("user".into());
                }
            }
            key if OURS.contains(&key) => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })
}

/// Reads an element of `input`: a text, a list of tokens, or Jina's object with either a text or an image.
fn element<'b>(r: &mut Reader<'b>) -> Result<Input<'b>> {
    match r.peek() {
        b'"' => Ok(Input::Text(r.string()?)),
        b'[' => {
            let mark = r.mark();
            r.array(|r| r.integer().map(drop))?;
            r.back(mark);
            Ok(Input::Tokens(r.raw()?.get()))
        }
        b'{' => {
            let mut pieces = Vec::new();
            r.object(|r, key| {
                match &*key {
                    "text" => pieces.push(Piece::Text(r.string()?)),
                    "image" => pieces.push(address(r)?),
                    _ => r.stranger()?,
                }
                Ok(())
            })?;
            if pieces.is_empty() {
                return Err(r.missing("text"));
            }
            Ok(Input::Mixed(pieces))
        }
        _ => Err(r.wrong("a string, a list of tokens or an object")),
    }
}

fn gemini<'b>(reader: &mut Reader<'b>, request: &mut Request<'b>) -> Result<()> {
    // The fields of one `embedContent` stand at the top, those of a batch in each of its requests.
    let mut batch = false;
    reader.object(|r, key| {
        if key == "requests" {
            batch = true;
            let mut first = true;
            r.array(|r| {
                let mut one = blank(request.family);
                r.object(|r, key| gemini_field(r, &key, &mut one))?;
                if one.inputs.is_empty() {
                    return Err(r.missing("content"));
                }
                if !first {
                    same(
                        r,
                        "outputDimensionality",
                        &request.dimensions,
                        &one.dimensions,
                    )?;
                    same(r, "taskType", &request.task, &one.task)?;
                    same(r, "autoTruncate", &request.cut, &one.cut)?;
                    if request.title != one.title {
                        return Err(differs(r, "title"));
                    }
                }
                first = false;
                request.inputs.append(&mut one.inputs);
                request.dimensions = one.dimensions;
                request.task = one.task;
                request.cut = one.cut;
                request.title = one.title;
                Ok(())
            })
        } else {
            gemini_field(r, &key, request)
        }
    })?;
    request.single = !batch;
    Ok(())
}

fn blank<'b>(family: Protocol) -> Request<'b> {
    Request {
        family,
        inputs: Vec::new(),
        single: false,
        dimensions: None,
        task: None,
        title: None,
        cut: None,
        encoding: Encoding::Float,
        types: Vec::new(),
        dropped: Vec::new(),
    }
}

/// Other families say these once for all inputs.
fn same<T: PartialEq>(
    r: &Reader<'_>,
    name: &str,
    one: &Option<Named<T>>,
    other: &Option<Named<T>>,
) -> Result<()> {
    match (one, other) {
        (None, None) => Ok(()),
        (Some(one), Some(other)) if one.value == other.value => Ok(()),
        (Some(_) | None, Some(_) | None) => Err(differs(r, name)),
    }
}

fn differs(r: &Reader<'_>, name: &str) -> Error {
    let path = format!("{}.{name}", r.path());
    let message = format!("{path} differs from the other requests', which this provider can't do");
    Error::unsupported(path, message)
}

fn gemini_field<'b>(r: &mut Reader<'b>, key: &str, request: &mut Request<'b>) -> Result<()> {
    match key {
        "content" => {
            let mut pieces = Vec::new();
            r.object(|r, key| {
                match &*key {
                    "parts" => r.array(|r| {
                        pieces.push(gemini_part(r)?);
                        Ok(())
                    })?,
                    "role" => drop(r.raw()?),
                    _ => r.stranger()?,
                }
                Ok(())
            })?;
            if pieces.is_empty() {
                return Err(r.missing("parts"));
            }
            request.inputs.push(Input::Mixed(pieces));
        }
        "outputDimensionality" | "output_dimensionality" => {
            request.dimensions = Named::maybe(r, key, Reader::integer)?;
        }
        "taskType" | "task_type" => request.task = task(r, key)?,
        "title" => request.title = r.maybe(Reader::string)?,
        "autoTruncate" | "auto_truncate" => request.cut = cut(r, key)?,
        "model" => drop(r.raw()?),
        key if OURS.contains(&key) => drop(r.raw()?),
        _ => r.stranger()?,
    }
    Ok(())
}

fn gemini_part<'b>(r: &mut Reader<'b>) -> Result<Piece<'b>> {
    let mut piece = None;
    r.object(|r, key| {
        match &*key {
            "text" => piece = Some(Piece::Text(r.string()?)),
            "inlineData" | "inline_data" => {
                let (mut media_type, mut data) = (None, None);
                r.object(|r, key| {
                    match &*key {
                        "mimeType" | "mime_type" => media_type = Some(r.string()?),
                        "data" => data = Some(r.string()?),
                        _ => r.stranger()?,
                    }
                    Ok(())
                })?;
                let media_type = media_type.ok_or_else(|| r.missing("mimeType"))?;
                let data = data.ok_or_else(|| r.missing("data"))?;
                piece = Some(Piece::Image { media_type, data });
            }
            "fileData" | "file_data" => {
                let path = r.path();
                let message = format!("{path} can't be said to this provider");
                return Err(Error::unsupported(path, message));
            }
            _ => r.stranger()?,
        }
        Ok(())
    })?;
    piece.ok_or_else(|| r.missing("text"))
}

fn cohere<'b>(reader: &mut Reader<'b>, request: &mut Request<'b>) -> Result<()> {
    reader.object(|r, key| {
        match &*key {
            "texts" | "images" | "inputs" if r.peek() == b'n' => drop(r.raw()?),
            "texts" => {
                let texts = r.list(|r| r.string().map(Input::Text))?;
                request.inputs.extend(texts);
            }
            "images" => {
                let images = r.list(|r| Ok(Input::Mixed(vec![address(r)?])))?;
                request.inputs.extend(images);
            }
            "inputs" => {
                let inputs = r.list(cohere_input)?;
                request.inputs.extend(inputs);
            }
            "input_type" => request.task = task(r, &key)?,
            "output_dimension" => request.dimensions = Named::maybe(r, &key, Reader::integer)?,
            "truncate" => request.cut = cut(r, &key)?,
            "embedding_types" => {
                request.types = r.maybe(|r| r.list(Reader::string))?.unwrap_or_default();
            }
            key if OURS.contains(&key) => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })
}

fn cohere_input<'b>(r: &mut Reader<'b>) -> Result<Input<'b>> {
    let mut pieces = Vec::new();
    r.object(|r, key| {
        if key != "content" {
            return r.stranger();
        }
        r.array(|r| {
            let mut piece = None;
            r.object(|r, key| {
                match &*key {
                    "text" => piece = Some(Piece::Text(r.string()?)),
                    "image_url" => r.object(|r, key| {
                        match &*key {
                            "url" => piece = Some(address(r)?),
                            _ => r.stranger()?,
                        }
                        Ok(())
                    })?,
                    "type" => drop(r.raw()?),
                    _ => r.stranger()?,
                }
                Ok(())
            })?;
            pieces.push(piece.ok_or_else(|| r.missing("text"))?);
            Ok(())
        })
    })?;
    if pieces.is_empty() {
        return Err(r.missing("content"));
    }
    Ok(Input::Mixed(pieces))
}

fn ollama<'b>(reader: &mut Reader<'b>, request: &mut Request<'b>) -> Result<()> {
    reader.object(|r, key| {
        match &*key {
            "input" => match r.peek() {
                b'"' => request.inputs.push(Input::Text(r.string()?)),
                b'[' => request.inputs = r.list(|r| r.string().map(Input::Text))?,
                _ => return Err(r.wrong("a string or an array")),
            },
            "dimensions" => request.dimensions = Named::maybe(r, &key, Reader::integer)?,
            "truncate" => request.cut = cut(r, &key)?,
            key if OURS.contains(&key) => drop(r.raw()?),
            _ => r.stranger()?,
        }
        Ok(())
    })
}

/// Reads an image's address, or its data where it holds them.
fn address<'b>(r: &mut Reader<'b>) -> Result<Piece<'b>> {
    let url = r.string()?;
    let data = |url: &str| -> Option<(String, String)> {
        let (media_type, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
        Some((media_type.to_owned(), data.to_owned()))
    };
    Ok(match data(&url) {
        Some((media_type, data)) => Piece::Image {
            media_type: Str::Owned(media_type),
            data: Str::Owned(data),
        },
        None => Piece::Url(url),
    })
}

fn task(r: &mut Reader<'_>, key: &str) -> Result<Option<Named<Task>>> {
    let named = Named::maybe(r, key, Reader::string)?;
    let Some(Named { value: name, field }) = named else {
        return Ok(None);
    };
    if name.is_empty() || name == "TASK_TYPE_UNSPECIFIED" {
        return Ok(None);
    }
    match Task::from_name(&name) {
        Some(value) => Ok(Some(Named { value, field })),
        None => Err(r.misfit("a task that embeddings are made for")),
    }
}

/// Reads Cohere's words, and everyone else's booleans.
fn cut(r: &mut Reader<'_>, key: &str) -> Result<Option<Named<Cut>>> {
    Named::maybe(r, key, |r| {
        if r.peek() != b'"' {
            let cut = r.boolean()?;
            return Ok(if cut { Cut::End } else { Cut::Refuse });
        }
        match &*r.string()? {
            "NONE" => Ok(Cut::Refuse),
            "START" => Ok(Cut::Start),
            "END" => Ok(Cut::End),
            _ => Err(r.misfit("NONE, START or END")),
        }
    })
}

/// Reads Voyage's and Jina's word for numbers of another kind, which no other family takes.
fn plain_type(r: &mut Reader<'_>, key: &str) -> Result<()> {
    match r.maybe(Reader::string)? {
        Some(kind) if kind != "float" => {
            let message = format!("{key}: only \"float\" can be said to this provider");
            Err(Error::unsupported(key.to_owned(), message))
        }
        Some(_) | None => Ok(()),
    }
}
