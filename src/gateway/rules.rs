//! The operator's rules, asked of one request: before its model is looked up, and after its key is known.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::intake::Controls;
use super::reply::Headers;
use super::{Exchange, Now};
use crate::access::Key;
use crate::error::{Error, Kind, Result};
use crate::routing::Route;
use crate::routing::choose::Choice;
use crate::routing::rules::{Request, Rule, Said, Verdict};

/// Names the decision, on answers to requests that ask why.
const DECISION: &str = "x-strait-decision";
/// Headers longer than this are cut off by many clients.
const MOST_DECISION: usize = 4096;

/// Finds the rule that is about a request, and notes it.
///
/// Errors: `Denied`, with the rule's own message.
pub fn ask<'n>(
    now: &'n Now,
    key: Option<&Key>,
    controls: &Controls,
    headers: &HeaderMap,
    said: Option<Said<'_>>,
    x: &mut Exchange,
) -> Result<Option<&'n Rule>> {
    let rules = &now.snapshot.rules;
    if rules.is_empty() {
        return Ok(None);
    }
    let request = Request {
        endpoint: x.record.endpoint,
        headers,
        tags: &controls.tags,
        key: key.map_or("", |key| &key.name),
        team: key
            .and_then(|key| key.owner.as_deref())
            .map_or("", |owner| &owner.team),
        session: controls.session.as_deref().unwrap_or_default(),
        region: &now.snapshot.server.region,
        at: x.record.at,
        said,
    };
    let decision = rules.decide(&request);
    for (rule, problem) in &decision.failed {
        x.core.metrics.rule_failed(&rule.name);
        if rule.is_untold() {
            tracing::warn!(rule = &*rule.name, id = x.record.id, %problem, "a rule can't be asked of some requests: it is passed over for them");
        }
    }
    let Some(rule) = decision.rule else {
        return Ok(None);
    };
    x.core.metrics.rule_met(&rule.name);
    x.record.rule = Some(rule.name.clone());
    match &rule.verdict {
        Verdict::Deny(message) => Err(Error::new(Kind::Denied, message.to_string())),
        Verdict::Use(_) | Verdict::Keep => Ok(Some(rule)),
    }
}

/// Refuses a request to an endpoint, or from an address, that the key's rules don't let through. Which models there are
/// and what it may do, a key may ask in any case.
pub fn may_enter(key: &Key, endpoint: &str, client: Option<std::net::IpAddr>) -> Result<()> {
    let mut gates = key.gates.iter();
    if gates.any(|gate| !gate.allows_address(client)) {
        let message = "This API key may not be used from this address.";
        return Err(Error::new(Kind::Denied, message));
    }
    let open = matches!(endpoint, "models" | "key");
    let mut gates = key.gates.iter();
    if !open && gates.any(|gate| !gate.allows_endpoint(endpoint)) {
        let message = format!("This API key may not use the endpoint `{endpoint}`.");
        return Err(Error::new(Kind::Denied, message));
    }
    Ok(())
}

/// Refuses a request that asks why, of a key that may not.
pub fn may_explain(controls: &Controls, key: Option<&Key>) -> Result<()> {
    if !controls.explain || key.is_none_or(|key| key.explain) {
        return Ok(());
    }
    Err(Error {
        param: Some("x-strait-explain".into()),
        ..Error::new(
            Kind::Denied,
            "This API key may not send the header `x-strait-explain`.",
        )
    })
}

/// Puts the decision among the headers of the answer, in place of what was known of it before.
pub fn tell(
    controls: &Controls,
    x: &Exchange,
    route: Option<&Route>,
    choice: Option<&Choice<'_>>,
    headers: &mut Headers,
) {
    if !controls.explain {
        return;
    }
    headers.retain(|(name, _)| name != DECISION);
    let mut all = Vec::new();
    for pick in choice.iter().flat_map(|choice| &choice.picks) {
        let candidate = pick.candidate();
        let target = format!("{}/{}", candidate.provider.name, candidate.model);
        all.push(match pick.score {
            Some(score) => json!({"target": target, "score": score}),
            None => json!({"target": target}),
        });
    }
    for passed in choice.iter().flat_map(|choice| &choice.passed) {
        let candidate = passed.candidate();
        let target = format!("{}/{}", candidate.provider.name, candidate.model);
        all.push(json!({"target": target, "passed": passed.reason.to_string()}));
    }
    let decision = |shown: usize| {
        let mut decision = json!({"asked": x.record.model_requested});
        if let Some(rule) = &x.record.rule {
            decision["rule"] = Value::from(&**rule);
        }
        if let Some(route) = route {
            decision["model"] = Value::from(route.name.as_str());
            decision["strategy"] = Value::from(route.tree.strategy.name());
        }
        if choice.is_some() {
            decision["candidates"] = Value::from(&all[..shown]);
        }
        if shown < all.len() {
            decision["more"] = Value::from(all.len() - shown);
        }
        ascii(&decision.to_string())
    };
    // Halved until it fits: names have bounds, so that none of them alone is too long but for a made-up one.
    let mut shown = all.len();
    let mut text = decision(shown);
    while text.len() > MOST_DECISION && shown > 0 {
        shown /= 2;
        text = decision(shown);
    }
    text.truncate(MOST_DECISION);
    let value = HeaderValue::from_str(&text);
    headers.extend(value.map(|value| (HeaderName::from_static(DECISION), value)));
}

/// Spells JSON in ASCII alone.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_ascii_whatever_its_names_are() {
        assert_eq!(ascii("\"ä😀\""), "\"\\u00e4\\ud83d\\ude00\"");
    }
}
