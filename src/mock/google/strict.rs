//! The strict check of a Gemini request, <https://ai.google.dev/api/generate-content>.
//!
//! Google takes every field in two spellings (`systemInstruction`, `system_instruction`); so does this.

use serde_json::{Map, Value};

use super::super::strict::{At, Problems, is_list, is_object, is_text};

const FIELDS: &[&str] = &[
    "cachedContent",
    "contents",
    "generationConfig",
    "labels",
    "model",
    "modelArmorConfig",
    "safetySettings",
    "serviceTier",
    "store",
    "systemInstruction",
    "toolConfig",
    "tools",
];

const CONFIG: &[&str] = &[
    "audioTimestamp",
    "candidateCount",
    "enableAffectiveDialog",
    "enableEnhancedCivicAnswers",
    "frequencyPenalty",
    "imageConfig",
    "logprobs",
    "maxOutputTokens",
    "mediaResolution",
    "presencePenalty",
    "responseFormat",
    "responseJsonSchema",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "responseSchema",
    "routingConfig",
    "seed",
    "speechConfig",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
];

/// What a part may hold, one of each; and what may stand beside it.
const DATA: &[&str] = &[
    "codeExecutionResult",
    "executableCode",
    "fileData",
    "functionCall",
    "functionResponse",
    "inlineData",
    "text",
    "toolCall",
    "toolResponse",
];
const BESIDE: &[&str] = &[
    "mediaResolution",
    "partMetadata",
    "thought",
    "thoughtSignature",
    "videoMetadata",
];

/// The words of a schema in Google's own subset of OpenAPI.
const SCHEMA: &[&str] = &[
    "additionalProperties",
    "anyOf",
    "default",
    "defs",
    "description",
    "enum",
    "example",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "prefixItems",
    "properties",
    "propertyOrdering",
    "ref",
    "required",
    "title",
    "type",
];

/// Checks a `generateContent`.
pub(in crate::mock) fn check(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let body = camel(body);
    let top = At::top(&body, false);
    top.fields(FIELDS, &["contents"], problems);
    check_contents(&top, problems);
    if let Some(system) = top.inner("systemInstruction", problems) {
        check_content(&system, problems);
    }
    if let Some(config) = top.inner("generationConfig", problems) {
        config.fields(CONFIG, &[], problems);
        config.range("temperature", 0.0, 2.0, problems);
        config.range("topP", 0.0, 1.0, problems);
        config.typed(
            &["maxOutputTokens", "candidateCount", "seed", "topK"],
            |value| value.as_f64().is_some_and(|number| number.fract() == 0.0),
            "a whole number",
            problems,
        );
        config.typed(&["stopSequences"], is_list, "a list", problems);
        if config
            .get("stopSequences")
            .as_array()
            .is_some_and(|list| list.len() > 5)
        {
            problems.add("generationConfig: `stopSequences` has more than 5");
        }
        if let Some(thinking) = config.inner("thinkingConfig", problems) {
            let known = &["includeThoughts", "thinkingBudget", "thinkingLevel"];
            thinking.fields(known, &[], problems);
            let both = ["thinkingBudget", "thinkingLevel"];
            if both.iter().all(|name| thinking.object.contains_key(*name)) {
                problems.add(format_args!(
                    "{}has both a budget and a level",
                    thinking.place
                ));
            }
        }
        check_schema(&config, "responseSchema", problems);
        let has_schema = ["responseSchema", "responseJsonSchema"]
            .iter()
            .any(|name| config.object.contains_key(*name));
        if has_schema && config.get("responseMimeType").is_null() {
            problems.add("generationConfig: there is a schema without `responseMimeType`");
        }
    }
    check_tools(&top, problems);
    for setting in top.each("safetySettings", problems) {
        setting.fields(
            &["category", "threshold", "method"],
            &["category", "threshold"],
            problems,
        );
    }
}

/// Checks a `countTokens`, which holds either contents or a whole request.
pub(in crate::mock) fn check_count(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let body = camel(body);
    let top = At::top(&body, false);
    if let Some(inner) = top.inner("generateContentRequest", problems) {
        top.fields(&["generateContentRequest"], &[], problems);
        return check(inner.object, problems);
    }
    // Vertex takes the parts of a request beside each other.
    let known = &[
        "contents",
        "generationConfig",
        "instances",
        "model",
        "systemInstruction",
        "tools",
    ];
    top.fields(known, &["contents"], problems);
    check_contents(&top, problems);
}

/// Checks an `embedContent`.
pub(in crate::mock) fn check_embedding(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let body = camel(body);
    embedding(&At::top(&body, false), problems);
}

/// Checks a `batchEmbedContents`.
pub(in crate::mock) fn check_embeddings(body: &Map<String, Value>, problems: &mut Problems<'_>) {
    let top = At::top(body, false);
    top.fields(&["requests"], &["requests"], problems);
    for request in top.each("requests", problems) {
        embedding(&request, problems);
        if request.text("model").is_empty() {
            problems.add(format_args!("{}`model` is missing", request.place));
        }
    }
}

fn embedding(at: &At<'_>, problems: &mut Problems<'_>) {
    let known = &[
        "autoTruncate",
        "content",
        "embedContentConfig",
        "model",
        "outputDimensionality",
        "taskType",
        "title",
    ];
    at.fields(known, &["content"], problems);
    if let Some(content) = at.inner("content", problems) {
        check_content(&content, problems);
    }
}

fn check_contents(top: &At<'_>, problems: &mut Problems<'_>) {
    let contents = top.each("contents", problems);
    if contents.is_empty() {
        problems.add("`contents` is not a list with at least one content");
    }
    // The calls of the model's turn, which the next one must answer.
    let mut open = 0;
    for content in &contents {
        content.one_of("role", &["user", "model", "function"], problems);
        let parts = check_content(content, problems);
        let count = |name: &str| {
            let parts = parts.iter();
            parts.filter(|part| part.object.contains_key(name)).count()
        };
        let answers = count("functionResponse");
        if open != answers && (open > 0 || answers > 0) {
            problems.add(format_args!(
                "{}there are {answers} function responses after {open} function calls",
                content.place
            ));
        }
        open = count("functionCall");
        if open > 0 && content.text("role") != "model" {
            problems.add(format_args!(
                "{}a function call is not the model's",
                content.place
            ));
        }
    }
    if open > 0 {
        problems.add("`contents` ends with no response to a function call");
    }
}

fn check_content<'v>(content: &At<'v>, problems: &mut Problems<'_>) -> Vec<At<'v>> {
    content.fields(&["role", "parts"], &["parts"], problems);
    let parts = content.each("parts", problems);
    if parts.is_empty() {
        problems.add(format_args!("{}`parts` is empty", content.place));
    }
    for part in &parts {
        part.fields(&[DATA, BESIDE].concat(), &[], problems);
        let held: Vec<&str> = DATA
            .iter()
            .copied()
            .filter(|name| part.object.contains_key(*name))
            .collect();
        if held.len() != 1 {
            problems.add(format_args!(
                "{}holds {} of the things a part may hold, not one",
                part.place,
                held.len()
            ));
        }
        part.typed(&["text", "thoughtSignature"], is_text, "a text", problems);
        let inner: (&str, &[&str], &[&str]) = match held.first() {
            Some(&"inlineData") => (
                "inlineData",
                &["mimeType", "data", "displayName"],
                &["mimeType", "data"],
            ),
            Some(&"fileData") => (
                "fileData",
                &["mimeType", "fileUri", "displayName"],
                &["fileUri"],
            ),
            Some(&"functionCall") => (
                "functionCall",
                &["id", "name", "args", "partialArgs", "willContinue"],
                &["name"],
            ),
            Some(&"functionResponse") => (
                "functionResponse",
                &[
                    "id",
                    "name",
                    "response",
                    "parts",
                    "willContinue",
                    "scheduling",
                ],
                &["name", "response"],
            ),
            _ => continue,
        };
        if let Some(inside) = part.inner(inner.0, problems) {
            inside.fields(inner.1, inner.2, problems);
            inside.typed(&["args", "response"], is_object, "an object", problems);
        }
    }
    parts
}

fn check_tools(top: &At<'_>, problems: &mut Problems<'_>) {
    let mut names = Vec::new();
    for tool in top.each("tools", problems) {
        let known = &[
            "codeExecution",
            "computerUse",
            "enterpriseWebSearch",
            "fileSearch",
            "functionDeclarations",
            "googleMaps",
            "googleSearch",
            "googleSearchRetrieval",
            "mcpServers",
            "retrieval",
            "urlContext",
        ];
        tool.fields(known, &[], problems);
        for function in tool.each("functionDeclarations", problems) {
            let known = &[
                "behavior",
                "description",
                "name",
                "parameters",
                "parametersJsonSchema",
                "response",
                "responseJsonSchema",
            ];
            function.fields(known, &["name"], problems);
            let both = ["parameters", "parametersJsonSchema"];
            if both.iter().all(|name| function.object.contains_key(*name)) {
                problems.add(format_args!("{}has two schemas", function.place));
            }
            check_schema(&function, "parameters", problems);
            names.push(function.text("name"));
        }
    }
    let Some(config) = top.inner("toolConfig", problems) else {
        return;
    };
    let known = &[
        "functionCallingConfig",
        "includeServerSideToolInvocations",
        "retrievalConfig",
    ];
    config.fields(known, &[], problems);
    if let Some(calling) = config.inner("functionCallingConfig", problems) {
        let known = &[
            "mode",
            "allowedFunctionNames",
            "streamFunctionCallArguments",
        ];
        calling.fields(known, &[], problems);
        calling.one_of(
            "mode",
            &["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"],
            problems,
        );
        for name in calling
            .get("allowedFunctionNames")
            .as_array()
            .into_iter()
            .flatten()
        {
            if !name.as_str().is_some_and(|name| names.contains(&name)) {
                problems.add(format_args!(
                    "{}{name} is not among the tools",
                    calling.place
                ));
            }
        }
    }
}

/// Checks a schema that is not JSON Schema.
fn check_schema(at: &At<'_>, field: &str, problems: &mut Problems<'_>) {
    let Some(value) = at.object.get(field) else {
        return;
    };
    let mut left = vec![(at.name(field), value, 0)];
    while let Some((place, value, depth)) = left.pop() {
        let Some(schema) = At::new(place.clone(), value, problems) else {
            continue;
        };
        schema.fields(SCHEMA, &[], problems);
        schema.typed(&["type"], is_text, "one type", problems);
        if depth == 64 {
            continue;
        }
        if let Some(items) = schema.object.get("items") {
            left.push((format!("{place}.items"), items, depth + 1));
        }
        for (name, property) in schema.get("properties").as_object().into_iter().flatten() {
            left.push((format!("{place}.properties.{name}"), property, depth + 1));
        }
        for (at, option) in schema
            .get("anyOf")
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            left.push((format!("{place}.anyOf[{at}]"), option, depth + 1));
        }
    }
}

/// Returns an object with its fields, and those of the objects that are Google's own, in one spelling.
fn camel(body: &Map<String, Value>) -> Map<String, Value> {
    body.iter()
        .map(|(name, value)| (spelled(name), respelled(name, value, 0)))
        .collect()
}

fn respelled(name: &str, value: &Value, depth: usize) -> Value {
    // What is the caller's own keeps its names.
    let is_callers = matches!(
        name,
        "args"
            | "response"
            | "properties"
            | "parametersJsonSchema"
            | "parameters_json_schema"
            | "responseJsonSchema"
            | "response_json_schema"
            | "labels"
            | "partMetadata"
    );
    if is_callers || depth == 64 {
        return value.clone();
    }
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| (spelled(name), respelled(name, value, depth + 1)))
            .collect(),
        Value::Array(list) => list
            .iter()
            .map(|value| respelled("", value, depth + 1))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn spelled(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_new_word = false;
    for character in name.chars() {
        if character == '_' && !out.is_empty() {
            is_new_word = true;
        } else if is_new_word {
            out.push(character.to_ascii_uppercase());
            is_new_word = false;
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one() {
        assert_eq!(spelled("system_instruction"), "systemInstruction");
        assert_eq!(spelled("topP"), "topP");
        assert_eq!(spelled("_x"), "_x");
    }
}
