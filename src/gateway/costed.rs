//! `usage.cost` in an answer, for a client that asked with `"usage": {"include": true}`.

use bytes::Bytes;

use crate::codec::json;
use crate::codec::splice::Edits;
use crate::provider::cost;

/// Returns a whole answer with `cost` and `cost_details` in its `usage`.
pub fn whole(body: Bytes, pico: u64) -> Bytes {
    match edited(&body, pico) {
        Some(edited) => edited,
        None => body,
    }
}

/// Returns a piece of a stream with the cost in the event that tells the usage, if it is there.
pub fn piece(piece: Bytes, pico: u64) -> Bytes {
    if memchr::memmem::find(&piece, b"\"usage\"").is_none() {
        return piece;
    }
    let mut out = Vec::with_capacity(piece.len() + 128);
    for line in piece.split_inclusive(|byte| *byte == b'\n') {
        let event = line.strip_prefix(b"data:").and_then(|data| {
            let data = data.trim_ascii();
            edited(&piece.slice_ref(data), pico)
        });
        match event {
            Some(event) => {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(&event);
                out.push(b'\n');
            }
            None => out.extend_from_slice(line),
        }
    }
    out.into()
}

/// Returns the object with the cost in its `usage`; `None` where there is no usage object.
fn edited(body: &Bytes, pico: u64) -> Option<Bytes> {
    let mut members = Vec::new();
    json::members(body, usize::MAX, &mut members).ok()?;
    let usage = members
        .iter()
        .find(|member| json::key(body, member) == "usage")?;
    let usage = usage.value.clone();
    if body[usage.clone()].first() != Some(&b'{') {
        return None;
    }
    let inner = body.slice(usage.clone());
    let usd = cost::usd(pico);
    let details = format!("{{\"upstream_inference_cost\":{usd}}}");
    let mut edits = Edits::new();
    edits.insert_member(&inner, "cost", usd.as_bytes());
    edits.insert_member(&inner, "cost_details", details.as_bytes());
    let mut outer = Edits::new();
    outer.replace(usage, edits.apply(&inner).to_vec());
    Some(outer.apply(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_stands_in_the_usage_and_nowhere_else() {
        let body = Bytes::from_static(br#"{"id":"a","usage":{"total_tokens":3}}"#);
        let costed = whole(body, 450_000_000);
        let json: serde_json::Value = serde_json::from_slice(&costed).expect("JSON");
        assert_eq!(json["usage"]["cost"], 0.00045);
        assert_eq!(json["usage"]["total_tokens"], 3);
        let none = Bytes::from_static(br#"{"usage":null}"#);
        assert_eq!(whole(none.clone(), 1), none);
    }

    #[test]
    fn in_a_stream_only_the_event_with_the_usage_changes() {
        let first = "data: {\"choices\":[{\"delta\":{\"content\":\"the \\\"usage\\\"\"}}]}\n\n";
        let stream = format!(
            "{first}data: {{\"choices\":[],\"usage\":{{\"total_tokens\":3}}}}\n\ndata: [DONE]\n\n"
        );
        let costed = piece(Bytes::from(stream), 2_000_000_000_000);
        let text = String::from_utf8(costed.to_vec()).expect("text");
        assert!(
            text.starts_with(first) && text.ends_with("}\n\ndata: [DONE]\n\n"),
            "{text}"
        );
        assert!(text.contains(r#""cost":2,"#), "{text}");
    }
}
