//! Recorded requests, to every protocol: said, or refused with a name.

use std::collections::BTreeMap;

use serde_json::Value;
use strait::error::{Error, Kind};
use strait::protocol::chat::Effort;
use strait::protocol::{Facts, Protocol, decode_request, encode_request};

use super::Faults;
use super::read::{all, spoken};

/// Models that can do everything, nothing, and think as they like; with the names that make a difference.
fn models() -> [(&'static str, Facts); 5] {
    let able = Facts {
        max_output: Some(64_000),
        json_schema: Some(true),
        no_sampling: false,
        reasoning: true,
        reasoning_off: Some(Effort::Minimal),
        adaptive_thinking: false,
        developer_role: true,
        max_completion_tokens: true,
    };
    let adaptive = Facts {
        adaptive_thinking: true,
        no_sampling: true,
        ..able.clone()
    };
    [
        ("target-model", Facts::default()),
        ("gemini-3-pro-preview", able.clone()),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", able.clone()),
        ("us.amazon.nova-2-lite-v1:0", able),
        ("anthropic.claude-sonnet-4-6", adaptive),
    ]
}

/// A refusal is the client's to read: of these kinds, and with the field's name.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind, Kind::Unsupported | Kind::InvalidRequest)
        && error.param.as_ref().is_some_and(|param| !param.is_empty())
}

#[test]
fn recorded_requests_are_said_or_refused_by_name_to_every_protocol() {
    let mut faults = Faults::default();
    let (mut count, mut said) = (0, 0);
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for recording in all() {
        let (name, from) = (&recording.name, recording.protocol);
        if !recording.request.is_object() {
            continue;
        }
        count += 1;
        let text = recording.request.to_string();
        let hub = match decode_request(from, text.as_bytes()) {
            Ok(hub) => hub,
            Err(error) => {
                if !is_refusal(&error) {
                    faults.add(name, &error);
                }
                // What a provider adds to OpenAI's protocol may not be OpenAI's; what it took from its own was right,
                // though what it alone can say may be refused at once.
                let is_own = !matches!(from, Protocol::OpenaiChat);
                if recording.status == 200 && is_own && error.kind != Kind::Unsupported {
                    faults.add(name, format!("{error} ({:?})", error.param));
                }
                *refused
                    .entry(format!("{} {error}", from.name()))
                    .or_default() += 1;
                continue;
            }
        };
        for to in Protocol::ALL.into_iter().filter(|to| spoken(*to)) {
            for (model, facts) in models() {
                let name = format!("{name} to {} for {model}", to.name());
                match encode_request(to, &hub, model, &facts) {
                    Ok(translated) => {
                        said += 1;
                        if !serde_json::from_slice::<Value>(&translated.body)
                            .is_ok_and(|body| body.is_object())
                        {
                            faults.add(&name, String::from_utf8_lossy(&translated.body));
                        } else if let Err(error) = decode_request(to, &translated.body)
                            // Bedrock takes a schema as text, which the hub can't borrow.
                            && !error.message.contains("schema as text")
                        {
                            faults.add(&name, format!("can't be read again: {error}"));
                        }
                    }
                    Err(error) if is_refusal(&error) => {
                        let why = format!("{} to {}: {error}", from.name(), to.name());
                        *refused.entry(why).or_default() += 1;
                    }
                    Err(error) => faults.add(&name, error),
                }
            }
        }
    }
    eprintln!("{count} requests, said {said} times; refused:");
    for (why, times) in &refused {
        eprintln!("{times} × {why}");
    }
    faults.none();
}
