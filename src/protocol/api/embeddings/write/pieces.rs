//! Requests for embeddings in as many pieces as the provider wants, and in Vertex AI's words.

use super::super::{Cut, Request};
use super::{Writer, write};
use crate::error::{Error, Result};
use crate::protocol::api::{Built, MOST_BODIES, Wants};
use crate::protocol::text::Object;
use crate::protocol::{Protocol, Translated};

/// Texts that Vertex takes at a time.
const PREDICT_MOST: usize = 250;

/// Writes a request for a provider, as several where it takes fewer inputs at a time.
pub fn write_all(to: Protocol, mut request: Request<'_>, wants: Wants<'_>) -> Result<Built> {
    let model = wants.model;
    let predict = wants.predict && to == Protocol::Gemini;
    let at_once = match to {
        // Its first embedding models take several, the later ones one.
        Protocol::Gemini if predict && model.contains("gemini-embedding") => 1,
        Protocol::Gemini if predict => PREDICT_MOST,
        Protocol::Bedrock if !model.contains("cohere.") => 1,
        Protocol::OpenaiChat
        | Protocol::OpenaiResponses
        | Protocol::OpenaiCompletions
        | Protocol::Anthropic
        | Protocol::Gemini
        | Protocol::Bedrock
        | Protocol::Cohere
        | Protocol::Ollama => usize::MAX,
    };
    let inputs = std::mem::take(&mut request.inputs);
    let count = inputs.len().div_ceil(at_once);
    if count > MOST_BODIES {
        let field = match request.family {
            Protocol::Gemini => "requests",
            Protocol::Cohere => "texts",
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Bedrock
            | Protocol::Ollama => "input",
        };
        let message = format!(
            "{field}: this model embeds {at_once} at a time, and at most {MOST_BODIES} such requests are made of one"
        );
        return Err(Error::unsupported(field, message));
    }
    let mut built = Built {
        bodies: Vec::with_capacity(count),
        dropped: Vec::new(),
    };
    let mut inputs = inputs.into_iter().peekable();
    while inputs.peek().is_some() {
        request.inputs = inputs.by_ref().take(at_once).collect();
        let translated = match predict {
            true => predicted(&request, model)?,
            false => write(to, &request, model)?,
        };
        built.bodies.push(translated.body);
        built.dropped = translated.dropped;
    }
    Ok(built)
}

fn predicted(request: &Request<'_>, model: &str) -> Result<Translated> {
    let mut out = Vec::with_capacity(256);
    let mut writer = Writer {
        request,
        model,
        dropped: request.dropped.clone(),
    };
    writer.predict(&mut out)?;
    Ok(Translated {
        body: out,
        dropped: writer.dropped,
        schema_tool: false,
    })
}

impl Writer<'_> {
    /// <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>
    fn predict(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.floats()?;
        let task = self.google_task();
        let mut object = Object::open(out);
        let list = object.key("instances");
        self.list(list, |writer, index, out| {
            let mut one = Object::open(out);
            writer.text(index, one.key("content"))?;
            one.maybe_string("task_type", task);
            one.maybe_string("title", writer.request.title.as_deref());
            one.close();
            Ok(())
        })?;
        let cut = self.request.cut.as_ref();
        let dimensions = self.request.dimensions.as_ref();
        if cut.is_some() || dimensions.is_some() {
            let mut parameters = Object::open(object.key("parameters"));
            if let Some(dimensions) = dimensions {
                parameters.integer("outputDimensionality", dimensions.value.into());
            }
            match cut.map(|cut| cut.value) {
                Some(Cut::Refuse) => parameters.boolean("autoTruncate", false),
                Some(Cut::End) => parameters.boolean("autoTruncate", true),
                Some(Cut::Start) => self.dropped.extend(cut.map(|cut| cut.field.clone())),
                None => {}
            }
            parameters.close();
        }
        object.close();
        Ok(())
    }
}
