//! Images by Google's models, for clients of OpenAI's: Gemini's say them as parts of a chat
//! (<https://ai.google.dev/gemini-api/docs/image-generation>), Imagen's as predictions
//! (<https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/imagen-api>).

use std::borrow::Cow;

use crate::codec::base64;
use crate::codec::json;
use crate::codec::multipart::Form;
use crate::error::{Error, Kind, Result};
use crate::protocol::Shape;
use crate::protocol::text::{self, Object};
use crate::protocol::usage::Usage;

/// As many as OpenAI makes to one request.
const MOST: u32 = 10;
/// As many as Imagen makes to one of its own.
const IMAGEN_MOST: u32 = 4;
/// The shapes that they are made in, as width and height.
const RATIOS: [(u32, u32); 10] = [
    (1, 1),
    (2, 3),
    (3, 2),
    (3, 4),
    (4, 3),
    (4, 5),
    (5, 4),
    (9, 16),
    (16, 9),
    (21, 9),
];
/// Those of Imagen.
const IMAGEN_RATIOS: [(u32, u32); 5] = [(1, 1), (3, 4), (4, 3), (9, 16), (16, 9)];

/// Returns whether a model of Google's makes images by `:predict`.
pub fn is_imagen(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    name.starts_with("imagen")
}

/// What is to be made.
struct Request<'b> {
    prompt: Cow<'b, str>,
    n: u32,
    size: Option<(u32, u32)>,
    format: Option<Cow<'b, str>>,
    /// Media type and base64.
    images: Vec<(Cow<'b, str>, Cow<'b, str>)>,
    dropped: Vec<String>,
}

/// Writes a request for a provider: one body, or several where it makes fewer at a time than are wanted.
pub fn write(content_type: &str, body: &[u8], model: &str) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
    let mut request = read(content_type, body)?;
    let mut bodies = Vec::new();
    if is_imagen(model) {
        if !request.images.is_empty() {
            let message = "image: this model makes images of words alone";
            return Err(Error::unsupported("image", message));
        }
        let mut left = request.n;
        while left > 0 {
            let count = left.min(IMAGEN_MOST);
            bodies.push(imagen(&mut request, count));
            left -= count;
        }
    } else {
        let one = gemini(&mut request, model);
        bodies.resize(request.n as usize, one);
    }
    request.dropped.sort();
    request.dropped.dedup();
    Ok((bodies, request.dropped))
}

fn gemini(request: &mut Request<'_>, model: &str) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(512 + request.images.iter().map(|one| one.1.len()).sum::<usize>());
    out.extend_from_slice(b"{\"contents\":[{\"role\":\"user\",\"parts\":[");
    for (media_type, data) in &request.images {
        out.extend_from_slice(b"{\"inlineData\":");
        let mut part = Object::open(&mut out);
        part.string("mimeType", media_type);
        part.string("data", data);
        part.close();
        out.extend_from_slice(b"},");
    }
    let mut part = Object::open(&mut out);
    part.string("text", &request.prompt);
    part.close();
    out.extend_from_slice(b"]}],\"generationConfig\":{\"responseModalities\":[\"TEXT\",\"IMAGE\"]");
    if let Some(size) = request.size {
        let (width, height) = nearest(size, &RATIOS);
        out.extend_from_slice(
            format!(",\"imageConfig\":{{\"aspectRatio\":\"{width}:{height}\"").as_bytes(),
        );
        // The second generation has one size.
        if let Some(name) = resolution(size).filter(|_| !model.contains("gemini-2")) {
            out.extend_from_slice(format!(",\"imageSize\":\"{name}\"").as_bytes());
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"}}");
    if request
        .format
        .as_deref()
        .is_some_and(|format| format != "png")
    {
        request.dropped.push("output_format".into());
    }
    out
}

fn imagen(request: &mut Request<'_>, count: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"{\"instances\":[");
    let mut instance = Object::open(&mut out);
    instance.string("prompt", &request.prompt);
    instance.close();
    out.extend_from_slice(b"],\"parameters\":");
    let mut parameters = Object::open(&mut out);
    parameters.integer("sampleCount", count.into());
    if let Some(size) = request.size {
        let (width, height) = nearest(size, &IMAGEN_RATIOS);
        parameters.string("aspectRatio", &format!("{width}:{height}"));
        if let Some("2K") = resolution(size) {
            parameters.string("sampleImageSize", "2K");
        }
    }
    match request.format.as_deref() {
        Some(format @ ("png" | "jpeg")) => {
            let mut options = Object::open(parameters.key("outputOptions"));
            options.string("mimeType", &format!("image/{format}"));
            options.close();
        }
        Some(_) => request.dropped.push("output_format".into()),
        None => {}
    }
    parameters.close();
    out.push(b'}');
    out
}

/// Returns the shape that is nearest to a size.
fn nearest((width, height): (u32, u32), known: &[(u32, u32)]) -> (u32, u32) {
    let wanted = (f64::from(width) / f64::from(height)).ln();
    let far = |(width, height): &(u32, u32)| {
        ((f64::from(*width) / f64::from(*height)).ln() - wanted).abs()
    };
    let found = known
        .iter()
        .min_by(|one, other| far(one).total_cmp(&far(other)));
    found.copied().unwrap_or((1, 1))
}

/// Returns the name of a size that is larger than the usual one.
fn resolution((width, height): (u32, u32)) -> Option<&'static str> {
    match width.max(height) {
        3000.. => Some("4K"),
        1800.. => Some("2K"),
        _ => None,
    }
}

fn read<'b>(content_type: &str, body: &'b [u8]) -> Result<Request<'b>> {
    let mut request = Request {
        prompt: Cow::Borrowed(""),
        n: 1,
        size: None,
        format: None,
        images: Vec::new(),
        dropped: Vec::new(),
    };
    let start = content_type.trim_start().as_bytes().get(..10);
    if start.is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/")) {
        read_form(content_type, body, &mut request)?;
    } else {
        read_object(body, &mut request)?;
    }
    if request.prompt.is_empty() {
        return Err(Error::field("prompt", "`prompt` is empty or missing."));
    }
    Ok(request)
}

fn read_object<'b>(body: &'b [u8], request: &mut Request<'b>) -> Result<()> {
    let mut members = Vec::new();
    json::members(body, usize::MAX, &mut members)
        .map_err(|error| Error::new(Kind::InvalidRequest, format!("The body is {error}.")))?;
    for member in &members {
        let name = json::key(body, member);
        let value = member.value.clone();
        if json::is_null(body, value.clone()) {
            continue;
        }
        if name == "images" {
            addresses(&body[value], request)?;
            continue;
        }
        let text = match json::string(body, value.clone()) {
            Some(text) => text,
            // Numbers and truths as they stand.
            None => String::from_utf8_lossy(&body[value]),
        };
        take(&name, text, request)?;
    }
    Ok(())
}

/// Reads the images of an edit that is said in JSON: `data:` URLs.
fn addresses<'b>(list: &'b [u8], request: &mut Request<'b>) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct One<'b> {
        #[serde(borrow)]
        image_url: Option<Cow<'b, str>>,
    }
    let wrong = |_| {
        Error::field(
            "images",
            "`images` must be a list of objects with `image_url`.",
        )
    };
    let all: Vec<One<'b>> = serde_json::from_slice(list).map_err(wrong)?;
    for (index, one) in all.into_iter().enumerate() {
        let field = format!("images[{index}].image_url");
        let url = one.image_url.unwrap_or_default();
        let parted = url.strip_prefix("data:").and_then(|rest| {
            let (media_type, data) = rest.split_once(";base64,")?;
            Some((media_type.to_owned(), data.to_owned()))
        });
        let Some((media_type, data)) = parted else {
            let message = format!("{field}: this provider takes images as `data:` URLs alone");
            return Err(Error::unsupported(field, message));
        };
        request.images.push((media_type.into(), data.into()));
    }
    Ok(())
}

fn read_form<'b>(content_type: &str, body: &'b [u8], request: &mut Request<'b>) -> Result<()> {
    let form = Form::read(content_type, body).map_err(|error| {
        Error::new(
            Kind::InvalidRequest,
            format!("The form is broken: {error}."),
        )
    })?;
    for part in form.parts() {
        let value = &body[part.value.clone()];
        match &*part.name(body) {
            "image" | "image[]" => {
                let told = part.content_type.clone().map(|range| &body[range]);
                let told = told.and_then(|told| std::str::from_utf8(told).ok());
                let media_type = told
                    .map(str::trim)
                    .filter(|told| told.starts_with("image/"))
                    .unwrap_or_else(|| sniffed(value));
                let mut data = Vec::new();
                base64::encode(value, &mut data);
                let data = String::from_utf8_lossy(&data).into_owned();
                request
                    .images
                    .push((media_type.to_owned().into(), data.into()));
            }
            name => {
                let text = std::str::from_utf8(value);
                let text = text.map_err(|_| {
                    Error::field(name.to_owned(), format!("`{name}` is not valid UTF-8."))
                })?;
                take(name, Cow::Borrowed(text), request)?;
            }
        }
    }
    Ok(())
}

/// Returns what an image is by its first bytes.
fn sniffed(image: &[u8]) -> &'static str {
    match image {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "image/webp",
        _ => "image/png",
    }
}

/// Takes one field.
fn take<'b>(name: &str, text: Cow<'b, str>, request: &mut Request<'b>) -> Result<()> {
    let unsupported = |what: &str| {
        let message = format!("{name}: this provider {what}");
        Err(Error::unsupported(name.to_owned(), message))
    };
    match (name, &*text) {
        ("prompt", _) => request.prompt = text,
        ("n", number) => {
            let count = number.parse().ok().filter(|n| (1..=MOST).contains(n));
            let wrong = || Error::field("n", format!("`n` must be from 1 to {MOST}."));
            request.n = count.ok_or_else(wrong)?;
        }
        ("size", "auto") => {}
        ("size", size) => {
            let side = |text: &str| text.parse().ok().filter(|side| (1..=16_384).contains(side));
            let sides = size.split_once('x');
            let sides = sides.and_then(|(width, height)| Some((side(width)?, side(height)?)));
            let wrong = || Error::field("size", "`size` must be WIDTHxHEIGHT, or auto.");
            request.size = Some(sides.ok_or_else(wrong)?);
        }
        ("output_format", _) => request.format = Some(text),
        ("response_format", "b64_json") => {}
        ("response_format", _) => return unsupported("gives images as b64_json alone"),
        ("background", "transparent") => return unsupported("makes no transparent images"),
        ("mask", _) => return unsupported("takes no mask"),
        ("stream", "true") => return unsupported("makes images whole"),
        ("stream" | "background" | "model" | "fallbacks" | "usage" | "metadata" | "user", _) => {}
        ("quality", "auto") | ("moderation", "auto") => {}
        (_, _) => request.dropped.push(name.to_owned()),
    }
    Ok(())
}

/// What a provider says.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'b> {
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'b>>,
    #[serde(borrow, default)]
    predictions: Vec<Prediction<'b>>,
    #[serde(borrow)]
    prompt_feedback: Option<Feedback<'b>>,
    #[serde(borrow)]
    usage_metadata: Option<&'b serde_json::value::RawValue>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'b> {
    #[serde(borrow)]
    content: Option<Content<'b>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'b, str>>,
}

#[derive(serde::Deserialize)]
struct Content<'b> {
    #[serde(borrow, default)]
    parts: Vec<Part<'b>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'b> {
    #[serde(borrow)]
    inline_data: Option<Data<'b>>,
    #[serde(default)]
    thought: bool,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'b> {
    #[serde(borrow)]
    mime_type: Option<Cow<'b, str>>,
    #[serde(borrow)]
    data: Cow<'b, str>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prediction<'b> {
    #[serde(borrow)]
    bytes_base64_encoded: Option<Cow<'b, str>>,
    #[serde(borrow)]
    mime_type: Option<Cow<'b, str>>,
    #[serde(borrow)]
    rai_filtered_reason: Option<Cow<'b, str>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'b> {
    #[serde(borrow)]
    block_reason: Option<Cow<'b, str>>,
}

impl<'b> Answer<'b> {
    fn read(body: &'b [u8]) -> Result<Self> {
        serde_json::from_slice(body)
            .map_err(|_| Error::new(Kind::UpstreamBroken, "the provider's answer can't be read"))
    }

    /// Returns its images, as base64 with their media types. What was only thought of is none.
    fn images(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let parts = self
            .candidates
            .iter()
            .filter_map(|one| one.content.as_ref())
            .flat_map(|content| &content.parts);
        let made = parts.filter(|part| !part.thought).filter_map(|part| {
            let data = part.inline_data.as_ref()?;
            Some((&*data.data, data.mime_type.as_deref()))
        });
        let predicted = self.predictions.iter().filter_map(|one| {
            Some((
                one.bytes_base64_encoded.as_deref()?,
                one.mime_type.as_deref(),
            ))
        });
        made.chain(predicted)
    }

    /// Returns why there is no image.
    fn why(&self) -> String {
        let feedback = self.prompt_feedback.as_ref();
        let blocked = feedback.and_then(|feedback| feedback.block_reason.as_deref());
        let finish = self
            .candidates
            .iter()
            .find_map(|one| one.finish_reason.as_deref());
        let filtered = self
            .predictions
            .iter()
            .find_map(|one| one.rai_filtered_reason.as_deref());
        let why = blocked
            .or(filtered)
            .or(finish)
            .unwrap_or("no reason is told");
        why.chars().filter(|c| !c.is_control()).take(300).collect()
    }
}

/// Writes a provider's answers for a client of OpenAI's.
///
/// Errors: `UpstreamBroken` where one is none, `InvalidRequest` where it was refused to make an image.
pub fn answer(answers: &[&[u8]], shape: &Shape) -> Result<Vec<u8>> {
    let read: Result<Vec<Answer<'_>>> = answers.iter().map(|body| Answer::read(body)).collect();
    let read = read?;
    let mut out = Vec::with_capacity(answers.iter().map(|body| body.len()).sum::<usize>() + 256);
    let mut object = Object::open(&mut out);
    object.integer("created", shape.created);
    let list = object.key("data");
    list.push(b'[');
    let start = list.len();
    let mut format = None;
    for (data, media_type) in read.iter().flat_map(Answer::images) {
        text::comma(start, list);
        let mut one = Object::open(list);
        one.string("b64_json", data);
        one.close();
        format = format.or(media_type);
    }
    if list.len() == start {
        let why = read.first().map(Answer::why).unwrap_or_default();
        let message = format!("The provider made no image: {why}.");
        return Err(Error::new(Kind::InvalidRequest, message));
    }
    list.push(b']');
    let format = format.and_then(|kind| kind.strip_prefix("image/"));
    object.string("output_format", format.unwrap_or("png"));
    let usages = answers.iter().filter_map(|body| usage(body));
    let usage = usages.fold(Usage::default(), |sum, one| sum.plus(&one));
    if usage.total() > 0 {
        let mut told = Object::open(object.key("usage"));
        told.integer("input_tokens", usage.input);
        let mut details = Object::open(told.key("input_tokens_details"));
        details.integer("text_tokens", usage.input.saturating_sub(usage.image_in));
        details.integer("image_tokens", usage.image_in);
        details.close();
        told.integer("output_tokens", usage.output);
        told.integer("total_tokens", usage.input.saturating_add(usage.output));
        told.close();
    }
    object.close();
    Ok(out)
}

/// Returns what one answer took: tokens where they are told, and how many images there are.
pub fn usage(answer: &[u8]) -> Option<Usage> {
    let read = Answer::read(answer).ok()?;
    let mut usage = Usage::default();
    let told = read
        .usage_metadata
        .is_some_and(|raw| usage.read_gemini(raw.get().as_bytes(), false));
    usage.images = read.images().count() as u64;
    (told || usage.images > 0).then_some(usage)
}
