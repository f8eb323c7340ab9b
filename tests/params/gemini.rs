//! Gemini's generateContent: <https://ai.google.dev/api/generate-content>, with what Vertex adds.

use serde_json::json;
use strait::protocol::Protocol;

use super::{Dialect, Param};

pub fn dialect() -> Dialect {
    Dialect {
        protocol: Protocol::Gemini,
        least: json!({
            "contents": [
                {"role": "user", "parts": [{"text": "q"}, {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "r"}}}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}}]}],
        }),
        plain: json!({"contents": [{"role": "user", "parts": [{"text": "q"}]}]}),
        params: params(),
        aliases: &[
            ("system_instruction", "systemInstruction"),
            ("generationConfig.stop_sequences", "stopSequences"),
            (
                "generationConfig.responseMimeType",
                "generationConfig.responseSchema",
            ),
            ("contents.1.parts.0.thoughtSignature", "thought"),
        ],
        silent: &[
            (
                "contents.0.parts.1.inlineData.displayName",
                "",
                "is shown to no model",
            ),
            (
                "generationConfig.thinkingConfig",
                "\"thinkingBudget\":0",
                "is what a model does that does not think",
            ),
            (
                "toolConfig",
                "VALIDATED",
                "a call may be made or not, as without it",
            ),
        ],
    }
}

fn params() -> Vec<Param> {
    let schema =
        json!({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["a"]});
    let json_schema =
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    vec![
        ("systemInstruction", json!({"parts": [{"text": "s"}]})),
        ("system_instruction", json!({"parts": [{"text": "s"}]})),
        ("cachedContent", json!("cachedContents/1")),
        (
            "safetySettings",
            json!([{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_NONE"}]),
        ),
        ("store", json!(true)),
        ("serviceTier", json!("flex")),
        ("labels", json!({"a": "b"})),
        ("modelArmorConfig", json!({"promptTemplateName": "x"})),
        (
            "toolConfig",
            json!({"functionCallingConfig": {"mode": "ANY"}}),
        ),
        (
            "toolConfig",
            json!({"functionCallingConfig": {"mode": "NONE"}}),
        ),
        (
            "toolConfig",
            json!({"functionCallingConfig": {"mode": "VALIDATED"}}),
        ),
        (
            "toolConfig",
            json!({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}),
        ),
        ("toolConfig.retrievalConfig", json!({"languageCode": "en"})),
        ("toolConfig.includeServerSideToolInvocations", json!(true)),
        ("tools.1", json!({"googleSearch": {}})),
        ("tools.1", json!({"codeExecution": {}})),
        ("tools.1", json!({"urlContext": {}})),
        ("tools.1", json!({"googleMaps": {}})),
        (
            "tools.1",
            json!({"fileSearch": {"fileSearchStoreNames": ["x"]}}),
        ),
        (
            "tools.1",
            json!({"computerUse": {"environment": "ENVIRONMENT_BROWSER"}}),
        ),
        ("tools.1", json!({"googleSearchRetrieval": {}})),
        ("tools.1", json!({"functionDeclarations": [{"name": "g"}]})),
        (
            "tools.0.functionDeclarations.0.description",
            json!("what it does"),
        ),
        ("tools.0.functionDeclarations.0.response", schema.clone()),
        (
            "tools.0.functionDeclarations.0.responseJsonSchema",
            json_schema.clone(),
        ),
        (
            "tools.0.functionDeclarations.0.behavior",
            json!("NON_BLOCKING"),
        ),
        (
            "contents.0.parts.1.mediaResolution",
            json!({"level": "MEDIA_RESOLUTION_LOW"}),
        ),
        ("contents.0.parts.1.inlineData.displayName", json!("n")),
        (
            "contents.0.parts.2",
            json!({"inlineData": {"mimeType": "audio/wav", "data": "QUJD"}}),
        ),
        (
            "contents.0.parts.2",
            json!({"inlineData": {"mimeType": "application/pdf", "data": "QUJD"}}),
        ),
        (
            "contents.0.parts.2",
            json!({"inlineData": {"mimeType": "video/mp4", "data": "QUJD"}, "videoMetadata": {"fps": 2}}),
        ),
        (
            "contents.0.parts.2",
            json!({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/1", "mimeType": "image/png"}}),
        ),
        (
            "contents.0.parts.2",
            json!({"executableCode": {"language": "PYTHON", "code": "1"}}),
        ),
        ("contents.1.parts.0.thoughtSignature", json!("QUJD")),
        ("contents.1.parts.0.functionCall.id", json!("id-1")),
        (
            "contents.2.parts.0.functionResponse.willContinue",
            json!(true),
        ),
        (
            "contents.2.parts.0.functionResponse.scheduling",
            json!("SILENT"),
        ),
        ("generationConfig.stopSequences", json!(["x"])),
        ("generationConfig.stop_sequences", json!(["x"])),
        (
            "generationConfig.responseMimeType",
            json!("application/json"),
        ),
        ("generationConfig.responseMimeType", json!("text/x.enum")),
        (
            "generationConfig",
            json!({"responseMimeType": "application/json", "responseSchema": schema}),
        ),
        (
            "generationConfig",
            json!({"responseMimeType": "application/json", "responseJsonSchema": json_schema}),
        ),
        (
            "generationConfig",
            json!({"responseMimeType": "application/json", "_responseJsonSchema": json_schema}),
        ),
        (
            "generationConfig.responseModalities",
            json!(["TEXT", "IMAGE"]),
        ),
        ("generationConfig.candidateCount", json!(2)),
        ("generationConfig.maxOutputTokens", json!(77)),
        ("generationConfig.max_output_tokens", json!(77)),
        ("generationConfig.temperature", json!(0.5)),
        ("generationConfig.topP", json!(0.5)),
        ("generationConfig.topK", json!(5)),
        ("generationConfig.seed", json!(5)),
        ("generationConfig.presencePenalty", json!(0.5)),
        ("generationConfig.frequencyPenalty", json!(0.5)),
        ("generationConfig.responseLogprobs", json!(true)),
        (
            "generationConfig",
            json!({"responseLogprobs": true, "logprobs": 3}),
        ),
        ("generationConfig.enableEnhancedCivicAnswers", json!(true)),
        (
            "generationConfig.speechConfig",
            json!({"languageCode": "en-US"}),
        ),
        (
            "generationConfig.thinkingConfig",
            json!({"thinkingBudget": 2000}),
        ),
        (
            "generationConfig.thinkingConfig",
            json!({"thinkingBudget": 0}),
        ),
        (
            "generationConfig.thinkingConfig",
            json!({"thinkingLevel": "low"}),
        ),
        (
            "generationConfig.thinkingConfig",
            json!({"includeThoughts": true}),
        ),
        (
            "generationConfig.imageConfig",
            json!({"aspectRatio": "1:1"}),
        ),
        (
            "generationConfig.mediaResolution",
            json!("MEDIA_RESOLUTION_LOW"),
        ),
        ("generationConfig.audioTimestamp", json!(true)),
        ("generationConfig.routingConfig", json!({"autoMode": {}})),
        (
            "generationConfig.modelSelectionConfig",
            json!({"featureSelectionPreference": "BALANCED"}),
        ),
        ("generationConfig.xNeverHeardOf", json!(true)),
        ("xNeverHeardOf", json!(true)),
    ]
}
