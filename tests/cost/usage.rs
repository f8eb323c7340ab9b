//! Usage as providers send it, odd and broken.

use strait::protocol::usage::Usage;
use strait::provider::catalogue;
use strait::provider::cost::{self, Place};

use super::{snapshot, tokens};

fn chat(json: &str) -> Usage {
    let mut usage = Usage::default();
    assert!(usage.read_openai_chat(json.as_bytes()), "{json}");
    usage
}

#[test]
fn what_is_no_usage_is_left_alone() {
    let before = Usage {
        cache_read: 3,
        reported: Some(1),
        tier: Some("flex".into()),
        ..tokens(5, 7)
    };
    for json in [
        "",
        "null",
        "{}",
        "[]",
        "3",
        "{\"prompt_tokens\":null}",
        "{\"prompt_tokens\":1",
        "{\"a\":{}}",
    ] {
        let mut usage = before.clone();
        let bytes = json.as_bytes();
        assert!(!usage.read_openai_chat(bytes), "{json}");
        assert!(!usage.read_openai_responses(bytes), "{json}");
        assert!(!usage.read_openai_images(bytes), "{json}");
        assert!(!usage.read_anthropic(bytes), "{json}");
        assert!(!usage.read_gemini(bytes, false), "{json}");
        assert!(!usage.read_bedrock(bytes), "{json}");
        assert!(!usage.read_cohere(bytes), "{json}");
        assert!(!usage.read_ollama(bytes), "{json}");
        assert!(!usage.read_mistral_ocr(bytes), "{json}");
        assert_eq!(usage, before, "{json}");
    }
}

#[test]
fn numbers_come_as_floats_and_strings_and_details_as_anything() {
    let usage = chat(
        r#"{"prompt_tokens":"12","completion_tokens":3.0,"total_tokens":-1,"prompt_tokens_details":null,
            "completion_tokens_details":[],"cost":"0.5","cost_details":7,"is_byok":null,"search_context_size":4}"#,
    );
    assert_eq!(
        usage,
        Usage {
            reported: Some(cost::PICO / 2),
            ..tokens(12, 3)
        }
    );
    let usage = chat(r#"{"prompt_tokens":{"n":[1]},"completion_tokens":true,"total_tokens":9}"#);
    assert_eq!(usage, tokens(9, 0));
    assert_eq!(
        chat(r#"{"prompt_tokens":1e30,"completion_tokens":0}"#).input,
        u64::MAX
    );
}

#[test]
fn a_field_that_cannot_be_read_costs_no_other() {
    // Half a character, a number out of range, a key twice, a list for an object.
    let usage = chat(
        r#"{"prompt_tokens":10,"completion_tokens":4,"total_tokens":"\ud800","cached_tokens":1e999999,
            "is_byok":"\ud800","\ud800":1,"completion_tokens":5,"prompt_tokens_details":[1,2,{"cached_tokens":3}]}"#,
    );
    assert_eq!((usage.input, usage.output, usage.cache_read), (10, 5, 0));
    let mut usage = Usage::default();
    assert!(usage.read_anthropic(
        br#"{"input_tokens":3,"output_tokens":2,"service_tier":"\ud800","iterations":[null,1],"inference_geo":{}}"#
    ));
    assert_eq!((usage.input, usage.output, usage.tier), (3, 2, None));
    let mut usage = Usage::default();
    assert!(usage.read_gemini(
        br#"{"promptTokenCount":9,"candidatesTokenCount":"7","promptTokensDetails":[{"modality":"AUDIO","tokenCount":4},null]}"#,
        false
    ));
    assert_eq!((usage.input, usage.output, usage.audio_in), (9, 7, 0));
}

#[test]
fn parts_are_cut_to_their_wholes() {
    let usage = chat(
        r#"{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,
            "prompt_tokens_details":{"cached_tokens":80,"cache_write_tokens":70,"audio_tokens":500},
            "completion_tokens_details":{"reasoning_tokens":8,"audio_tokens":8}}"#,
    );
    assert_eq!(
        (usage.cache_read, usage.cache_write, usage.fresh()),
        (80, 20, 0)
    );
    assert_eq!(
        (usage.audio_in, usage.reasoning, usage.audio_out),
        (100, 8, 2)
    );
}

#[test]
fn reasoning_is_added_only_when_it_stands_outside() {
    let of = |completion, total, reasoning| {
        let usage = chat(&format!(
            r#"{{"prompt_tokens":10,"completion_tokens":{completion},"total_tokens":{total},
                "completion_tokens_details":{{"reasoning_tokens":{reasoning}}}}}"#
        ));
        (usage.output, usage.reasoning)
    };
    assert_eq!(of(100, 110, 60), (100, 60), "OpenAI");
    assert_eq!(of(100, 170, 60), (160, 60), "xAI");
    assert_eq!(of(160, 170, 60), (160, 60), "xAI, folded in already");
    assert_eq!(of(20, 0, 60), (80, 60), "it can't be inside");
    let research = chat(
        r#"{"prompt_tokens":33,"completion_tokens":7163,"total_tokens":7196,"citation_tokens":19694,
            "num_search_queries":28,"reasoning_tokens":193586}"#,
    );
    assert_eq!(
        (research.output, research.reasoning, research.citation),
        (220443, 193586, 19694)
    );
    assert_eq!(research.searches, 28);
}

#[test]
fn the_bill_is_read_in_each_form() {
    let tokens = r#""prompt_tokens":1,"completion_tokens":1,"total_tokens":2"#;
    let bill = |more: &str| {
        chat(&format!("{{{tokens},{more}}}"))
            .reported
            .map(cost::usd)
    };
    assert_eq!(bill(r#""cost":0.00014"#).as_deref(), Some("0.00014"));
    assert_eq!(bill(r#""cost":1.4e-05"#).as_deref(), Some("0.000014"));
    assert_eq!(
        bill(r#""cost":{"input_tokens_cost":0.1,"total_cost":0.006}"#).as_deref(),
        Some("0.006")
    );
    assert_eq!(
        bill(r#""cost_in_usd_ticks":37756000"#).as_deref(),
        Some("0.0037756")
    );
    let byok = r#""cost":0.01,"is_byok":true,"cost_details":{"upstream_inference_cost":0.2}"#;
    assert_eq!(bill(byok).as_deref(), Some("0.21"));
    let own = r#""cost":0.01,"is_byok":false,"cost_details":{"upstream_inference_cost":0.01}"#;
    assert_eq!(bill(own).as_deref(), Some("0.01"));
    assert_eq!(bill(r#""cost":null"#), None);
    assert_eq!(bill(r#""cost":{}"#), None);
}

#[test]
fn anthropic_usage_overlays_what_was_there() {
    let mut usage = Usage::default();
    assert!(usage.read_anthropic(
        br#"{"input_tokens":10,"cache_creation_input_tokens":50,"cache_read_input_tokens":100,
            "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30},
            "output_tokens":1,"service_tier":"standard","inference_geo":"us"}"#
    ));
    assert_eq!(
        (usage.input, usage.cache_write, usage.cache_write_1h),
        (160, 20, 30)
    );
    assert!(
        usage.read_anthropic(br#"{"output_tokens":90,"input_tokens":null,"cache_creation":null}"#)
    );
    assert_eq!(
        (usage.input, usage.output, usage.cache_write_1h),
        (160, 90, 30)
    );
    assert!(usage.read_anthropic(br#"{"output_tokens":95,"cache_read_input_tokens":200,"speed":"fast",
        "server_tool_use":{"web_search_requests":2},"output_tokens_details":{"thinking_tokens":40}}"#));
    assert_eq!(
        (
            usage.input,
            usage.cache_read,
            usage.reasoning,
            usage.searches
        ),
        (260, 200, 40, 2)
    );
    assert_eq!(
        (usage.tier.as_deref(), usage.geo.as_deref()),
        (Some("fast"), Some("us"))
    );
    let mut unsplit = Usage::default();
    assert!(unsplit.read_anthropic(
        br#"{"input_tokens":1,"cache_creation_input_tokens":9,"output_tokens":0}"#
    ));
    assert_eq!(
        (unsplit.cache_write, unsplit.cache_write_1h),
        (9, 0),
        "a missing split means five minutes"
    );
}

#[test]
fn passes_that_the_totals_leave_out_are_priced_on_top() {
    let mut usage = Usage::default();
    assert!(usage.read_anthropic(
        br#"{"input_tokens":1000,"output_tokens":10,"iterations":[
            {"type":"compaction","input_tokens":50000,"output_tokens":100},
            {"type":"message","input_tokens":1000,"output_tokens":10}]}"#
    ));
    assert_eq!((usage.input, usage.passes.len()), (1000, 2));
    let model = catalogue::model("anthropic", "claude-opus-5").unwrap();
    let cost = model.cost(&usage, snapshot(), Place::Anywhere);
    // 51,000 in at 5 and 110 out at 25.
    assert_eq!(cost::usd(cost.pico), "0.25775");

    let mut strange = Usage::default();
    assert!(strange.read_anthropic(
        br#"{"input_tokens":1000,"output_tokens":10,"iterations":[
            {"type":"message","input_tokens":1,"output_tokens":1},
            {"type":"advisor_message","model":"claude-no-such","input_tokens":5,"output_tokens":5}]}"#
    ));
    let cost = model.cost(&strange, snapshot(), Place::Anywhere);
    assert_eq!(
        cost::usd(cost.pico),
        "0.00525",
        "passes that don't add up leave the totals"
    );
    assert!(cost.unpriced, "an advisor that nobody knows has no price");

    let mut one = Usage::default();
    assert!(one.read_anthropic(
        br#"{"input_tokens":7,"output_tokens":3,"iterations":[{"type":"message","input_tokens":7,"output_tokens":3}]}"#
    ));
    assert_eq!(one, tokens(7, 3), "a single pass says nothing more");
}

#[test]
fn what_is_written_is_read_back() {
    let usage = Usage {
        cache_read: 20,
        cache_write: 5,
        reasoning: 30,
        audio_in: 7,
        audio_out: 3,
        ..tokens(100, 50)
    };
    let mut json = Vec::new();
    usage.write_openai_chat(&mut json);
    assert_eq!(chat(std::str::from_utf8(&json).unwrap()), usage);
    assert_eq!(
        String::from_utf8(json).unwrap(),
        "{\"prompt_tokens\":100,\"completion_tokens\":50,\"total_tokens\":150,\"prompt_tokens_details\":\
         {\"cached_tokens\":20,\"cache_write_tokens\":5,\"audio_tokens\":7},\"completion_tokens_details\":\
         {\"reasoning_tokens\":30,\"audio_tokens\":3}}"
    );

    let usage = Usage {
        cache_read: 20,
        cache_write: 5,
        cache_write_1h: 6,
        reasoning: 30,
        searches: 2,
        tier: Some("default".into()),
        ..tokens(100, 50)
    };
    let mut json = Vec::new();
    usage.write_anthropic(&mut json);
    let mut back = Usage::default();
    assert!(back.read_anthropic(&json));
    assert_eq!(
        back,
        Usage {
            tier: Some("standard".into()),
            ..usage
        }
    );
    assert_eq!(
        String::from_utf8(json).unwrap(),
        "{\"input_tokens\":69,\"cache_creation_input_tokens\":11,\"cache_read_input_tokens\":20,\"cache_creation\":\
         {\"ephemeral_5m_input_tokens\":5,\"ephemeral_1h_input_tokens\":6},\"output_tokens\":50,\
         \"output_tokens_details\":{\"thinking_tokens\":30},\"server_tool_use\":{\"web_search_requests\":2,\"web_fetch_requests\":0},\
         \"service_tier\":\"standard\"}"
    );
}

#[test]
fn gemini_grounding_covers_the_tokens_of_its_tools() {
    let json = br#"{"promptTokenCount":100,"candidatesTokenCount":20,"toolUsePromptTokenCount":60,"totalTokenCount":180}"#;
    let mut usage = Usage::default();
    assert!(usage.read_gemini(json, false));
    assert_eq!(usage, tokens(160, 20));
    assert!(usage.read_gemini(json, true));
    assert_eq!(usage, tokens(100, 20));
}

#[test]
fn a_gemini_chunk_without_the_prompt_leaves_the_input() {
    let mut usage = Usage::default();
    assert!(usage.read_gemini(
        br#"{"promptTokenCount":100,"totalTokenCount":100,"trafficType":"ON_DEMAND_PRIORITY",
            "promptTokensDetails":[{"modality":"AUDIO","tokenCount":40}]}"#,
        false
    ));
    assert!(usage.read_gemini(
        br#"{"candidatesTokenCount":23,"thoughtsTokenCount":67}"#,
        false
    ));
    let wanted = Usage {
        audio_in: 40,
        reasoning: 67,
        tier: Some("priority".into()),
        ..tokens(100, 90)
    };
    assert_eq!(usage, wanted);
    assert!(
        !usage.read_gemini(br#"{"trafficType":"ON_DEMAND"}"#, false),
        "a tier alone is no usage"
    );
    assert_eq!(
        usage,
        Usage {
            tier: None,
            ..wanted
        }
    );
}

#[test]
fn bedrock_splits_writes_by_lifetime() {
    let mut usage = Usage::default();
    assert!(usage.read_bedrock(
        br#"{"inputTokens":1,"outputTokens":2,"cacheReadInputTokens":4,"cacheWriteInputTokens":8,
            "cacheDetails":[{"ttl":"1h","inputTokens":5},{"ttl":"5m","inputTokens":3}]}"#
    ));
    let wanted = Usage {
        cache_read: 4,
        cache_write: 3,
        cache_write_1h: 5,
        ..tokens(13, 2)
    };
    assert_eq!(usage, wanted);
}
