//! What a strict provider would refuse in a request: every fault is named, none is forgiven.
//!
//! By the published references of the protocols. A field of a content block that a provider defines for itself
//! (server tools and their results) is not looked into.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::dialect::Dialect;
use super::route::{Api, Route};
use super::{anthropic, apis, bedrock, cohere, credentials, google, ollama, openai};

/// So many problems are told; one more says that there were more.
const PROBLEMS_MAX: usize = 50;

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems<'a> {
    list: Vec<String>,
    /// Fields that are no problem although they are not known.
    allow: &'a [String],
}

impl Problems<'_> {
    pub fn add(&mut self, problem: impl fmt::Display) {
        let known = self.list.len();
        if known < PROBLEMS_MAX {
            self.list.push(problem.to_string());
        } else if known == PROBLEMS_MAX {
            self.list.push("more problems, not told".to_owned());
        }
    }

    /// Reports the fields of `object` that are not known.
    fn known(&mut self, place: &str, object: &Map<String, Value>, known: &[&str]) {
        for name in object.keys() {
            if !known.contains(&name.as_str()) && !self.allow.contains(name) {
                self.add(format_args!("{place}unknown field `{name}`"));
            }
        }
    }

    /// Reports fields that are missing.
    fn needs(&mut self, place: &str, object: &Map<String, Value>, needed: &[&str]) {
        for name in needed.iter().filter(|name| !object.contains_key(**name)) {
            self.add(format_args!("{place}`{name}` is missing"));
        }
    }

    /// Returns the object at `value`, or reports that it is none.
    fn object<'v>(&mut self, place: &str, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.add(format_args!("{place}is not an object"));
        }
        object
    }
}

/// Checks a whole call. `body` is the parsed body where it is JSON.
pub(super) fn check(
    route: &Route<'_>,
    head: &Parts,
    raw: &[u8],
    body: &Result<Value, serde_json::Error>,
    allow: &[String],
) -> Vec<String> {
    let mut problems = Problems {
        list: Vec::new(),
        allow,
    };
    let dialect = route.dialect;
    credentials::check(dialect, head, &mut problems);
    check_version(head, &mut problems);
    // Bedrock alone takes a body of a model's own that isn't said to be JSON: boto3 doesn't.
    let is_unsaid = dialect == Dialect::BedrockInvoke && !head.headers.contains_key("content-type");
    let media_type = if is_unsaid { "" } else { "application/json" };
    check_headers(&head.headers, media_type, &mut problems);
    match body {
        Err(error) => problems.add(format_args!("the body is not JSON: {error}")),
        Ok(Value::Object(object)) => {
            check_names(dialect, raw, &mut problems);
            check_body(route, object, &mut problems);
        }
        Ok(
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_),
        ) => {
            problems.add("the body is not an object");
        }
    }
    problems.list
}

/// Checks a call whose body is not JSON: a form, or nothing.
pub(super) fn check_head(route: &Route<'_>, head: &Parts, allow: &[String]) -> Vec<String> {
    let mut problems = Problems {
        list: Vec::new(),
        allow,
    };
    credentials::check(route.dialect, head, &mut problems);
    check_version(head, &mut problems);
    let media_type = if head.headers.contains_key("content-type") {
        "multipart/form-data"
    } else {
        ""
    };
    check_headers(&head.headers, media_type, &mut problems);
    problems.list
}

/// Reports a deployment of Azure's that is asked without a version; its newer paths need none.
fn check_version(head: &Parts, problems: &mut Problems<'_>) {
    let mut pairs = head.uri.query().unwrap_or("").split('&');
    if head.uri.path().contains("/openai/deployments/")
        && !pairs.any(|pair| pair.starts_with("api-version="))
    {
        problems.add("the query has no `api-version`");
    }
}

fn check_body(route: &Route<'_>, body: &Map<String, Value>, problems: &mut Problems<'_>) {
    match (route.dialect, route.api) {
        (dialect, Api::Chat) => match dialect {
            Dialect::OpenaiChat | Dialect::Openai => openai::strict_chat::check(body, problems),
            Dialect::OpenaiCompletions => {
                openai::strict_responses::check_completion(body, problems);
            }
            Dialect::OpenaiResponses => openai::strict_responses::check(body, problems),
            Dialect::Anthropic | Dialect::VertexAnthropic | Dialect::BedrockInvoke => {
                anthropic::strict::check(body, dialect, problems);
            }
            Dialect::Gemini | Dialect::VertexPredict => google::strict::check(body, problems),
            Dialect::Bedrock => bedrock::strict::check(body, problems),
            Dialect::Cohere => cohere::strict::check(body, problems),
            Dialect::Ollama => ollama::strict::check(body, problems),
        },
        (_, _) => apis::strict::check(route, body, problems),
    }
}

/// Reports headers that are missing, that a proxy must not send on, and that are the gateway's own.
fn check_headers(headers: &HeaderMap, wanted: &str, problems: &mut Problems<'_>) {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    };
    let media_type = text("content-type")
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    if media_type != wanted {
        problems.add(format_args!(
            "header content-type: `{media_type}` is not {wanted}"
        ));
    }
    for name in headers.keys() {
        let name = name.as_str();
        let hop_by_hop = match name {
            "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "trailer"
            | "upgrade" => true,
            "te" => text(name) != "trailers",
            "connection" => !matches!(
                text(name).to_ascii_lowercase().as_str(),
                "keep-alive" | "close"
            ),
            _ => false,
        };
        if hop_by_hop {
            problems.add(format_args!(
                "header {name}: is hop-by-hop and must not be sent on"
            ));
        }
        if name.starts_with("x-strait-") {
            problems.add(format_args!("header {name}: is the gateway's own"));
        }
        if SINGLE.contains(&name) && headers.get_all(name).iter().count() > 1 {
            problems.add(format_args!("header {name}: comes more than once"));
        }
    }
}

const SINGLE: [&str; 7] = [
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "content-type",
    "anthropic-version",
    "host",
];

/// Reports top-level names that come twice, and the gateway's own.
fn check_names(dialect: Dialect, raw: &[u8], problems: &mut Problems<'_>) {
    struct Names<'p, 'a>(Dialect, &'p mut Problems<'a>);
    impl<'de> Visitor<'de> for Names<'_, '_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut seen = HashSet::new();
            while let Some(name) = map.next_key::<String>()? {
                map.next_value::<IgnoredAny>()?;
                // Anthropic has one of that name too, whose type tells it apart.
                let is_fallbacks = !self.0.is_anthropic() && name == "fallbacks";
                if is_fallbacks || name.starts_with("strait") || name.starts_with("x-strait") {
                    self.1.add(format_args!("`{name}` is the gateway's own"));
                }
                if !seen.insert(name.clone()) {
                    self.1.add(format_args!("`{name}` is given twice"));
                }
            }
            Ok(())
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(raw);
    if let Err(error) = reader.deserialize_map(Names(dialect, problems)) {
        problems.add(format_args!("the body is not JSON: {error}"));
    }
}

/// Checks of one object, which start every problem with its place.
pub(super) struct At<'a> {
    pub place: String,
    pub object: &'a Map<String, Value>,
    /// A field that is null is as if it were not there.
    nulls_pass: bool,
}

impl<'a> At<'a> {
    pub fn top(object: &'a Map<String, Value>, nulls_pass: bool) -> Self {
        Self {
            place: String::new(),
            object,
            nulls_pass,
        }
    }

    /// Returns the object `value` at `place`, or reports that it is none.
    pub fn new(place: String, value: &'a Value, problems: &mut Problems<'_>) -> Option<Self> {
        let object = problems.object(&format!("{place}: "), value)?;
        Some(Self {
            place: format!("{place}: "),
            object,
            nulls_pass: false,
        })
    }

    /// Returns the object in field `name`; reports where it is something else; absent is `None`.
    pub fn inner(&self, name: &str, problems: &mut Problems<'_>) -> Option<At<'a>> {
        let value = self.given(name)?;
        Self::new(self.name(name), value, problems)
    }

    /// Returns the objects of the list in field `name`; reports where it or one of them is something else.
    pub fn each(&self, name: &str, problems: &mut Problems<'_>) -> Vec<At<'a>> {
        self.typed(&[name], is_list, "a list", problems);
        let list = self.get(name).as_array().into_iter().flatten().enumerate();
        list.filter_map(|(at, value)| {
            At::new(format!("{}[{at}]", self.name(name)), value, problems)
        })
        .collect()
    }

    fn given(&self, name: &str) -> Option<&'a Value> {
        self.object
            .get(name)
            .filter(|value| !(self.nulls_pass && value.is_null()))
    }

    /// Returns the full name of a field.
    pub fn name(&self, field: &str) -> String {
        match self.place.strip_suffix(": ") {
            Some(place) => format!("{place}.{field}"),
            None => field.to_owned(),
        }
    }

    pub fn get(&self, name: &str) -> &'a Value {
        static NULL: Value = Value::Null;
        self.object.get(name).unwrap_or(&NULL)
    }

    pub fn text(&self, name: &str) -> &'a str {
        self.get(name).as_str().unwrap_or("")
    }

    pub fn fields(&self, known: &[&str], needed: &[&str], problems: &mut Problems<'_>) {
        problems.known(&self.place, self.object, known);
        problems.needs(&self.place, self.object, needed);
    }

    /// Reports given fields that `is` doesn't hold for.
    pub fn typed(
        &self,
        names: &[&str],
        is: fn(&Value) -> bool,
        what: &str,
        problems: &mut Problems<'_>,
    ) {
        for name in names {
            if let Some(value) = self.given(name)
                && !is(value)
            {
                problems.add(format_args!("{}`{name}` is not {what}", self.place));
            }
        }
    }

    /// Reports a number that is out of range.
    pub fn range(&self, name: &str, least: f64, most: f64, problems: &mut Problems<'_>) {
        if let Some(value) = self.given(name)
            && !value
                .as_f64()
                .is_some_and(|value| value >= least && value <= most)
        {
            problems.add(format_args!(
                "{}`{name}` is not a number from {least} to {most}",
                self.place
            ));
        }
    }

    /// Reports a text that is not among `known`.
    pub fn one_of(&self, name: &str, known: &[&str], problems: &mut Problems<'_>) {
        if let Some(value) = self.given(name)
            && !value.as_str().is_some_and(|text| known.contains(&text))
        {
            problems.add(format_args!(
                "{}`{name}` is {value}, not one of {}",
                self.place,
                known.join(", ")
            ));
        }
    }

    /// Checks the name of a tool.
    pub fn tool_name(&self, most: usize, problems: &mut Problems<'_>) {
        let name = self.text("name");
        let fits = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if name.is_empty() || name.len() > most || !fits {
            problems.add(format_args!(
                "{}`name` {name:?} is not 1 to {most} of a-z A-Z 0-9 _ -",
                self.place
            ));
        }
    }
}

/// Returns ids for a message, a few of them.
pub(super) fn listed(ids: &BTreeSet<&str>) -> String {
    let few: Vec<&str> = ids.iter().take(8).copied().collect();
    few.join(", ")
}

pub(super) fn is_text(value: &Value) -> bool {
    value.is_string()
}

pub(super) fn is_bool(value: &Value) -> bool {
    value.is_boolean()
}

/// A whole number from 1.
pub(super) fn is_count(value: &Value) -> bool {
    value.as_u64().is_some_and(|number| number > 0)
}

pub(super) fn is_object(value: &Value) -> bool {
    value.is_object()
}

pub(super) fn is_list(value: &Value) -> bool {
    value.is_array()
}
