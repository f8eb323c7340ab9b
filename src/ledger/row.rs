//! A row of the ledger, from the text of a journal's entry and to the JSON that the admin API shows.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::entry::Id;
use crate::provider::cost;

/// Of an exchange's attempts so many are kept; of each text so many bytes.
const MOST_ATTEMPTS: usize = 64;
const MOST_TEXT: usize = 1024;

/// Names of the columns, in the order of [`Row::cells`].
pub const COLUMNS: [&str; 43] = [
    "id",
    "request_id",
    "time_us",
    "state",
    "endpoint",
    "protocol",
    "org",
    "team",
    "project",
    "api_key",
    "end_user",
    "session",
    "tags",
    "model_requested",
    "model",
    "provider",
    "upstream_protocol",
    "mode",
    "stream",
    "status",
    "error",
    "cache",
    "finish",
    "rule",
    "input",
    "output",
    "cache_read",
    "cache_write",
    "reasoning",
    "token_usage",
    "estimated",
    "cost_pico",
    "unpriced",
    "saved_pico",
    "duration_us",
    "overhead_us",
    "ttft_us",
    "tries",
    "attempts",
    "request_bytes",
    "response_bytes",
    "shadow_of",
    "metadata",
];

/// The state of a row.
pub const DONE: &str = "done";
/// The process ended before the exchange did: what was reserved for it stands for what it took.
pub const INTERRUPTED: &str = "interrupted";

/// One exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub request_id: String,
    pub time_us: i64,
    pub state: String,
    pub endpoint: String,
    pub protocol: String,
    pub org: String,
    pub team: String,
    pub project: String,
    pub key: String,
    pub user: String,
    pub session: String,
    /// A JSON array; empty for none.
    pub tags: String,
    pub model_requested: String,
    pub model: String,
    pub provider: String,
    pub upstream_protocol: String,
    pub mode: String,
    pub stream: bool,
    pub status: i64,
    pub error: String,
    pub cache: String,
    pub finish: String,
    pub rule: String,
    pub input: i64,
    pub output: i64,
    pub cache_read: i64,
    pub cache_write: i64,
    pub reasoning: i64,
    /// Every bucket, as in a record's line; empty for none.
    pub usage: String,
    pub estimated: bool,
    pub cost_pico: i64,
    pub unpriced: bool,
    pub saved_pico: i64,
    pub duration_us: i64,
    pub overhead_us: i64,
    pub ttft_us: Option<i64>,
    pub tries: i64,
    /// A JSON array; empty for none.
    pub attempts: String,
    pub request_bytes: i64,
    pub response_bytes: i64,
    /// The id of the request that this one was a copy of.
    pub shadow_of: String,
    /// A JSON object; empty for none.
    pub metadata: String,
}

/// A value on its way into a row, or out of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Cell<'r> {
    Text(&'r str),
    Number(i64),
    Maybe(Option<i64>),
}

/// An entry's text.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    endpoint: Cow<'a, str>,
    #[serde(borrow, default)]
    protocol: Cow<'a, str>,
    #[serde(borrow, default)]
    org: Cow<'a, str>,
    #[serde(borrow, default)]
    team: Cow<'a, str>,
    #[serde(borrow, default)]
    project: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    user: Cow<'a, str>,
    #[serde(borrow, default)]
    session: Cow<'a, str>,
    #[serde(borrow, default)]
    tags: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model_requested: Cow<'a, str>,
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(borrow, default)]
    provider: Cow<'a, str>,
    #[serde(borrow, default)]
    upstream_protocol: Cow<'a, str>,
    #[serde(borrow, default)]
    mode: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    status: u16,
    #[serde(borrow, default)]
    error: Cow<'a, str>,
    #[serde(borrow, default)]
    cache: Cow<'a, str>,
    #[serde(borrow, default)]
    finish: Cow<'a, str>,
    #[serde(borrow, default)]
    rule: Cow<'a, str>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    attempts: Vec<&'a RawValue>,
    #[serde(default)]
    cost_pico: u64,
    #[serde(default)]
    unpriced: bool,
    #[serde(default)]
    saved_pico: u64,
    #[serde(default)]
    duration_us: u64,
    #[serde(default)]
    overhead_us: u64,
    ttft_us: Option<u64>,
    #[serde(default)]
    request_bytes: u64,
    #[serde(default)]
    response_bytes: u64,
    #[serde(borrow, default)]
    shadow_of: Cow<'a, str>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(default)]
    reserved_pico: u64,
    #[serde(default)]
    reserved_input: u64,
    #[serde(default)]
    reserved_output: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Buckets {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    cache_write_12h: u64,
    reasoning: u64,
    estimated: bool,
}

impl Row {
    /// When it ended, in microseconds since 1970.
    pub fn end_us(&self) -> i64 {
        self.time_us.saturating_add(self.duration_us)
    }

    /// Reads what an exchange came to.
    pub fn done(id: Id, text: &[u8]) -> Result<Self, serde_json::Error> {
        let line: Line<'_> = serde_json::from_slice(text)?;
        Ok(Self::of(id, &line, DONE))
    }

    /// Reads an admission that nothing followed.
    pub fn interrupted(id: Id, text: &[u8]) -> Result<Self, serde_json::Error> {
        let line: Line<'_> = serde_json::from_slice(text)?;
        Ok(Self {
            error: INTERRUPTED.into(),
            input: whole(line.reserved_input),
            output: whole(line.reserved_output),
            estimated: true,
            cost_pico: whole(line.reserved_pico),
            tries: 1,
            ..Self::of(id, &line, INTERRUPTED)
        })
    }

    fn of(id: Id, line: &Line<'_>, state: &str) -> Self {
        let usage = line.usage.map_or("", RawValue::get);
        let buckets: Buckets = serde_json::from_str(usage).unwrap_or_default();
        let written = buckets.cache_write + buckets.cache_write_1h + buckets.cache_write_12h;
        let mut attempts = String::new();
        for (at, attempt) in line.attempts.iter().take(MOST_ATTEMPTS).enumerate() {
            attempts.push(if at == 0 { '[' } else { ',' });
            attempts.push_str(attempt.get());
        }
        if !attempts.is_empty() {
            attempts.push(']');
        }
        Self {
            id: id.text(),
            request_id: text(&line.id),
            time_us: time_us(&line.time, id),
            state: state.into(),
            endpoint: text(&line.endpoint),
            protocol: text(&line.protocol),
            org: text(&line.org),
            team: text(&line.team),
            project: text(&line.project),
            key: text(&line.key),
            user: text(&line.user),
            session: text(&line.session),
            tags: line
                .tags
                .map(|tags| tags.get().to_owned())
                .unwrap_or_default(),
            model_requested: text(&line.model_requested),
            model: text(&line.model),
            provider: text(&line.provider),
            upstream_protocol: text(&line.upstream_protocol),
            mode: text(&line.mode),
            stream: line.stream,
            status: line.status.into(),
            error: text(&line.error),
            cache: text(&line.cache),
            finish: text(&line.finish),
            rule: text(&line.rule),
            input: whole(buckets.input),
            output: whole(buckets.output),
            cache_read: whole(buckets.cache_read),
            cache_write: whole(written),
            reasoning: whole(buckets.reasoning),
            usage: usage.to_owned(),
            estimated: buckets.estimated,
            cost_pico: whole(line.cost_pico),
            unpriced: line.unpriced,
            saved_pico: whole(line.saved_pico),
            duration_us: whole(line.duration_us),
            overhead_us: whole(line.overhead_us),
            ttft_us: line.ttft_us.map(whole),
            tries: i64::try_from(line.attempts.len()).unwrap_or(i64::MAX),
            attempts,
            request_bytes: whole(line.request_bytes),
            response_bytes: whole(line.response_bytes),
            shadow_of: text(&line.shadow_of),
            metadata: line
                .metadata
                .map(|metadata| metadata.get().to_owned())
                .unwrap_or_default(),
        }
    }

    /// Returns the values in the order of [`COLUMNS`].
    pub fn cells(&self) -> [Cell<'_>; COLUMNS.len()] {
        use Cell::{Maybe, Number, Text};
        [
            Text(&self.id),
            Text(&self.request_id),
            Number(self.time_us),
            Text(&self.state),
            Text(&self.endpoint),
            Text(&self.protocol),
            Text(&self.org),
            Text(&self.team),
            Text(&self.project),
            Text(&self.key),
            Text(&self.user),
            Text(&self.session),
            Text(&self.tags),
            Text(&self.model_requested),
            Text(&self.model),
            Text(&self.provider),
            Text(&self.upstream_protocol),
            Text(&self.mode),
            Number(self.stream.into()),
            Number(self.status),
            Text(&self.error),
            Text(&self.cache),
            Text(&self.finish),
            Text(&self.rule),
            Number(self.input),
            Number(self.output),
            Number(self.cache_read),
            Number(self.cache_write),
            Number(self.reasoning),
            Text(&self.usage),
            Number(self.estimated.into()),
            Number(self.cost_pico),
            Number(self.unpriced.into()),
            Number(self.saved_pico),
            Number(self.duration_us),
            Number(self.overhead_us),
            Maybe(self.ttft_us),
            Number(self.tries),
            Text(&self.attempts),
            Number(self.request_bytes),
            Number(self.response_bytes),
            Text(&self.shadow_of),
            Text(&self.metadata),
        ]
    }

    /// Returns it as JSON, with the names of a record's line; what there is not is absent.
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        let time = super::api::time(self.time_us);
        for (name, value) in [
            ("id", &self.id),
            ("request_id", &self.request_id),
            ("time", &time),
            ("state", &self.state),
            ("endpoint", &self.endpoint),
            ("protocol", &self.protocol),
            ("org", &self.org),
            ("team", &self.team),
            ("project", &self.project),
            ("key", &self.key),
            ("user", &self.user),
            ("session", &self.session),
            ("model_requested", &self.model_requested),
            ("model", &self.model),
            ("provider", &self.provider),
            ("upstream_protocol", &self.upstream_protocol),
            ("mode", &self.mode),
            ("error", &self.error),
            ("cache", &self.cache),
            ("finish", &self.finish),
            ("rule", &self.rule),
            ("shadow_of", &self.shadow_of),
        ] {
            if !value.is_empty() {
                object.insert(name.into(), value.as_str().into());
            }
        }
        for (name, raw) in [
            ("tags", &self.tags),
            ("metadata", &self.metadata),
            ("usage", &self.usage),
            ("attempts", &self.attempts),
        ] {
            // Our own writing; what is damaged is left out.
            if let Ok(value) = serde_json::from_str::<Value>(raw) {
                object.insert(name.into(), value);
            }
        }
        object.insert("stream".into(), self.stream.into());
        object.insert("status".into(), self.status.into());
        for (name, number) in [
            ("input", self.input),
            ("output", self.output),
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
            ("reasoning", self.reasoning),
            ("cost_pico", self.cost_pico),
            ("saved_pico", self.saved_pico),
            ("duration_us", self.duration_us),
            ("overhead_us", self.overhead_us),
            ("request_bytes", self.request_bytes),
            ("response_bytes", self.response_bytes),
        ] {
            object.insert(name.into(), number.into());
        }
        let usd = cost::usd(self.cost_pico.unsigned_abs());
        object.insert("cost_usd".into(), usd.into());
        if let Some(ttft) = self.ttft_us {
            object.insert("ttft_us".into(), ttft.into());
        }
        for (name, is) in [("estimated", self.estimated), ("unpriced", self.unpriced)] {
            if is {
                object.insert(name.into(), true.into());
            }
        }
        Value::Object(object)
    }
}

/// Returns a text as a database takes it: not too long, and without the character that PostgreSQL refuses.
fn text(value: &str) -> String {
    let mut end = value.len().min(MOST_TEXT);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].replace('\0', "\u{fffd}")
}

/// Returns when the exchange began: as it says, else as its id does.
fn time_us(written: &str, id: Id) -> i64 {
    let time = written.parse::<jiff::Timestamp>();
    time.map_or_else(|_| id.time_us(), |time| time.as_microsecond())
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Reserved, admission};
    use crate::observe::record::{AttemptRecord, Record};
    use crate::protocol::usage::Usage;

    const ID: Id = Id(0x0123_4567_89ab_0000_0000_0000_0000_0001);

    fn record() -> Record {
        Record {
            id: "req_1".into(),
            at: jiff::Timestamp::from_microsecond(1_700_000_000_000_001).unwrap(),
            endpoint: "chat",
            client_protocol: "openai-chat",
            key: Some("team \"a\"".into()),
            user: Some("u\0\n1".into()),
            tags: vec!["x".into(), "y,z".into()],
            metadata: vec![("team".into(), "r\"d".into())],
            model_requested: "fast".into(),
            model: "gpt-5".into(),
            provider: "openai".into(),
            status: 200,
            attempts: vec![AttemptRecord {
                provider: "openai".into(),
                outcome: "ok",
                ..AttemptRecord::default()
            }],
            usage: Some(Usage {
                input: 10,
                output: 5,
                cache_write: 1,
                cache_write_1h: 2,
                estimated: true,
                ..Usage::default()
            }),
            cost_pico: Some(u64::MAX),
            shadow_of: Some("req_0".into()),
            duration: std::time::Duration::from_millis(5),
            ..Record::default()
        }
    }

    #[test]
    fn a_records_line_becomes_a_row() {
        let mut text = Vec::new();
        record().write_json(&mut text);
        let row = Row::done(ID, &text).unwrap();
        assert_eq!(row.id, "0123456789ab00000000000000000001");
        assert_eq!(row.time_us, 1_700_000_000_000_001);
        assert_eq!((row.input, row.output, row.cache_write), (10, 5, 3));
        assert_eq!(
            row.cost_pico,
            i64::MAX,
            "what is too large is held at the largest"
        );
        assert_eq!(row.user, "u\u{fffd}\n1", "PostgreSQL takes no NUL");
        assert_eq!(row.tags, r#"["x","y,z"]"#);
        assert_eq!((row.tries, row.duration_us), (1, 5000));
        assert_eq!(row.shadow_of, "req_0");
        assert_eq!(row.metadata, r#"{"team":"r\"d"}"#);
        assert!(row.estimated && row.state == DONE);
        let json = row.json();
        assert_eq!(json["attempts"][0]["outcome"], "ok");
        assert_eq!(json["key"], "team \"a\"");
    }

    #[test]
    fn an_admission_becomes_a_row_with_what_was_reserved() {
        let mut text = Vec::new();
        let reserved = Reserved {
            pico: 77,
            input: 8,
            output: 9,
        };
        admission(&mut text, &record(), ("openai", "gpt-5"), reserved);
        let row = Row::interrupted(ID, &text).unwrap();
        assert_eq!((row.cost_pico, row.input, row.output), (77, 8, 9));
        assert_eq!((&*row.error, &*row.shadow_of), (INTERRUPTED, "req_0"));
        assert_eq!((&*row.model, &*row.provider), ("gpt-5", "openai"));
        assert!(row.estimated && row.state == INTERRUPTED);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(MOST_TEXT);
        assert_eq!(text(&long).len(), MOST_TEXT);
        let odd = format!("x{long}");
        assert_eq!(text(&odd).len(), MOST_TEXT - 1);
    }
}
