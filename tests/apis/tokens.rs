//! Tokens by estimate, held against what providers counted.

use serde_json::{Value, json};

use strait::protocol::Protocol::{self, Anthropic, Bedrock, Gemini, OpenaiChat, OpenaiResponses};
use strait::protocol::api::{counted, estimate_tokens, estimate_tokens_of, tokens};

use super::recorded::recordings;

#[test]
fn texts_of_many_scripts_come_near_their_tokens() {
    // Counted with o200k.
    for (real, text) in [
        (10, "The quick brown fox jumps over the lazy dog."),
        (
            43,
            "La inteligencia artificial es la disciplina que intenta replicar y desarrollar la inteligencia y sus procesos implícitos a través de computadoras. ¿Qué tiempo hace hoy en Madrid? Mañana pasearemos por el parque.",
        ),
        (
            57,
            "Искусственный интеллект — свойство искусственных интеллектуальных систем выполнять творческие функции, которые традиционно считаются прерогативой человека. Какая сегодня погода в Москве? Завтра мы пойдём гулять в парк, а потом поужинаем вместе.",
        ),
        (
            74,
            "人工知能とは、計算という概念とコンピュータという道具を用いて知能を研究する計算機科学の一分野を指す言葉である。今日の東京の天気はどうですか?明日は公園を散歩して、それから一緒に夕食を食べましょう。",
        ),
        (
            89,
            "人工智能是计算机科学的一个分支,它企图了解智能的实质,并生产出一种新的能以人类智能相似的方式做出反应的智能机器。该领域的研究包括机器人、语言识别、图像识别、自然语言处理和专家系统等。请问今天北京的天气怎么样?我们明天去公园散步,然后一起吃晚饭。",
        ),
        (
            66,
            "인공지능은 인간의 학습능력, 추론능력, 지각능력을 인공적으로 구현하려는 컴퓨터 과학의 세부분야 중 하나이다. 오늘 서울의 날씨는 어떻습니까? 내일 공원에서 산책하고 같이 저녁을 먹읍시다.",
        ),
        (
            45,
            "الذكاء الاصطناعي هو سلوك وخصائص معينة تتسم بها البرامج الحاسوبية تجعلها تحاكي القدرات الذهنية البشرية وأنماط عملها. كيف هو الطقس اليوم في القاهرة؟",
        ),
        (
            48,
            "कृत्रिम बुद्धिमत्ता कंप्यूटर विज्ञान की एक शाखा है जो मशीनों और सॉफ्टवेयर को बुद्धि के साथ विकसित करती है। आज दिल्ली में मौसम कैसा है? कल हम पार्क में घूमने जाएंगे।",
        ),
    ] {
        let found = tokens::of_text(text) as f64;
        let error = found / f64::from(real) - 1.0;
        assert!(error.abs() < 0.3, "{found} for {real}: {text}");
    }
    assert_eq!(tokens::of_text(""), 0);
}

#[test]
fn what_the_model_does_not_read_is_not_counted() {
    let bare = json!({"model": "m", "messages": [{"role": "user", "content": "Hello there"}]});
    let full = json!({"model": "m", "temperature": 0.5, "metadata": {"user_id": "a long name of somebody"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello there", "cache_control": {"type": "ephemeral"}}]}]});
    let count = |body: &Value| estimate_tokens_of(Anthropic, "m", body.to_string().as_bytes());
    assert_eq!(count(&bare), count(&full));
}

#[test]
fn images_count_by_their_size() {
    // The beginning of a PNG of 1000 by 500 pixels.
    let data = "iVBORw0KGgoAAAANSUhEUgAAA+gAAAH0";
    let claude = json!({"messages": [{"role": "user", "content": [{"type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data}}]}]});
    let count =
        |protocol, body: &Value| estimate_tokens_of(protocol, "", body.to_string().as_bytes());
    assert_eq!(count(Anthropic, &claude), 3 + 4 + 667);
    let gpt = json!({"messages": [{"role": "user", "content": [{"type": "image_url",
        "image_url": {"url": format!("data:image/png;base64,{data}")}}]}]});
    assert_eq!(count(OpenaiChat, &gpt), 3 + 4 + 85 + 2 * 170);
    let gemini =
        json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}]});
    assert_eq!(count(Gemini, &gemini), 2 * 258);
}

#[test]
fn tools_count_with_what_is_said_around_them() {
    let mut body = json!({"messages": [{"role": "user", "content": "Hello"}]});
    let count = |body: &Value| {
        estimate_tokens_of(Anthropic, "claude-opus-4-1", body.to_string().as_bytes())
    };
    let without = count(&body);
    body["tools"] = json!([{"name": "a", "input_schema": {"type": "object"}}]);
    let with = count(&body);
    assert!((346..400).contains(&(with - without)), "{}", with - without);
    body["tool_choice"] = json!({"type": "any"});
    assert_eq!(count(&body) + 33, with);
}

#[test]
fn the_model_may_stand_in_the_body() {
    let tools = json!([{"name": "a", "input_schema": {"type": "object"}}]);
    let body = json!({"model": "claude-opus-4-1", "messages": [{"role": "user", "content": "Hello"}], "tools": tools});
    let body = body.to_string();
    let told = estimate_tokens_of(Anthropic, "claude-opus-4-1", body.as_bytes());
    assert_eq!(estimate_tokens(Anthropic, body.as_bytes()), told);
    assert_ne!(estimate_tokens_of(Anthropic, "", body.as_bytes()), told);
}

#[test]
fn a_whole_request_inside_is_counted() {
    let request =
        json!({"contents": [{"role": "user", "parts": [{"text": "Hello there, how are you?"}]}]});
    let wrapped = json!({"generateContentRequest": request});
    let count = |body: &Value| estimate_tokens_of(Gemini, "", body.to_string().as_bytes());
    assert_eq!(count(&request), count(&wrapped));
    assert!(count(&request) >= 6);
}

#[test]
fn the_answer_is_said_in_the_clients_words() {
    for (protocol, text) in [
        (Anthropic, r#"{"input_tokens":7}"#),
        (Gemini, r#"{"totalTokens":7}"#),
        (
            OpenaiResponses,
            r#"{"object":"response.input_tokens","input_tokens":7}"#,
        ),
        (Bedrock, r#"{"inputTokens":7}"#),
    ] {
        assert_eq!(counted(protocol, 7), text.as_bytes());
    }
}

#[test]
fn recorded_requests_come_near_their_bill() {
    for (folder, protocol, most) in [
        ("anthropic-count_tokens", Anthropic, 0.15),
        ("anthropic-messages", Anthropic, 0.10),
        ("openai-chat", OpenaiChat, 0.12),
        ("openai-responses", OpenaiResponses, 0.20),
        ("gemini-generateContent", Gemini, 0.16),
        ("bedrock-converse", Bedrock, 0.25),
    ] {
        let mut errors: Vec<f64> = recordings(folder)
            .iter()
            .filter_map(|(_, exchange)| error_of(protocol, exchange))
            .collect();
        if errors.is_empty() {
            continue;
        }
        errors.sort_by(f64::total_cmp);
        let median = errors[errors.len() / 2];
        eprintln!(
            "{folder}: {} requests, median error {median:.3}",
            errors.len()
        );
        assert!(median <= most, "{folder}: {median}");
    }
}

fn error_of(protocol: Protocol, exchange: &Value) -> Option<f64> {
    let (request, answer) = (&exchange["request"]["body"], &exchange["response"]["body"]);
    let usage = [&answer["usage"], &answer["usageMetadata"], answer]
        .into_iter()
        .find(|value| value.is_object())?;
    let count = |name: &str| usage[name].as_u64();
    let input = count("input_tokens")
        .or_else(|| count("prompt_tokens"))
        .or_else(|| count("promptTokenCount"))
        .or_else(|| count("inputTokens"))?;
    let cached = [
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
    ];
    let real = input + cached.iter().filter_map(|name| count(name)).sum::<u64>();
    if !request.is_object() || real == 0 {
        return None;
    }
    let uri = exchange["request"]["uri"].as_str().unwrap_or_default();
    let model = request["model"].as_str().unwrap_or(uri);
    let found = estimate_tokens_of(protocol, model, request.to_string().as_bytes());
    Some((found as f64 / real as f64 - 1.0).abs())
}
