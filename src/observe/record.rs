//! The record: what is kept of one exchange, filled while it runs and written once, as one JSON line.
//!
//! No headers and no bodies ever enter it, so no secret can leave by it. A line has these fields; those marked
//! `?` are absent when there is nothing to say:
//!
//! | field | value |
//! |---|---|
//! | `id` | the request id, also in `x-request-id` |
//! | `time` | when it began, RFC 3339 in UTC with microseconds |
//! | `endpoint` | `chat`, `messages`, `models`, … |
//! | `protocol` | what the client spoke |
//! | `org`? `team`? `project`? | whose the key is |
//! | `key`? `user`? `session`? `tags`? `metadata`? | who asked: the key's name, and what the client said |
//! | `model_requested`? `model`? `provider`? `upstream_protocol`? | what was asked for, and who answered |
//! | `rule`? | the name of the rule that was about the request |
//! | `mode` | `pass`, `translate`, `cache`, `demo` or `none` |
//! | `stream` | whether the answer was streamed |
//! | `status` | the HTTP status the client saw; 499 when it had gone |
//! | `error`? `error_message`? | the error's code and message |
//! | `cache` | `hit`, `miss`, `coalesced`, `stale` or `bypass` |
//! | `finish`? | why the model stopped |
//! | `candidates`? | who could answer, in the order of asking, and who was passed over: `[{target, score?, passed?}]`; absent where there was one alone |
//! | `arm`? `arm_missed`? | the arm of an experiment that answered; the one that it fell to, where that failed |
//! | `shadow_of`? | the request that this is a copy of, whose answer nobody saw |
//! | `difficulty`? | how hard a `smart` model found the prompt, from 0 to 1 |
//! | `attempts` | `[{provider, model, credential?, endpoint?, status?, outcome, ms, reused, retry_after_ms?, estimated_input?}]` |
//! | `continued`? | `true` when the stream broke off and was gone on with by another attempt |
//! | `degraded`? | `true` when the model for outages answered |
//! | `usage`? | token counts; zero counts are absent but for `input` and `output` |
//! | `cost_usd`? `cost_pico`? | the cost: an exact decimal string in USD, and an integer of 10⁻¹² USD |
//! | `saved_pico`? | what a cache hit saved |
//! | `unpriced`? | `true` when the catalogue knows no price for what was used |
//! | `dropped`? | request fields that could not be said to the provider |
//! | `duration_us` `overhead_us` `ttft_us`? | all of it; the gateway's own part; to the first token |
//! | `phases_us`? | the gateway's own part by phase |
//! | `chunks`? `inter_token_us`? | pieces of a stream, and the mean time between them |
//! | `request_bytes` `response_bytes` | sizes of the bodies on the client's side |

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::json::Object;
use crate::protocol::usage::Usage;

/// What is kept of one exchange.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// The request id.
    pub id: String,
    /// When the exchange began.
    pub at: Timestamp,
    /// `chat`, `messages`, `models`, …
    pub endpoint: &'static str,
    pub client_protocol: &'static str,
    /// Whose the key is.
    pub org: Option<Arc<str>>,
    pub team: Option<Arc<str>>,
    pub project: Option<Arc<str>>,
    /// The key's name.
    pub key: Option<Arc<str>>,
    pub user: Option<String>,
    pub session: Option<String>,
    pub tags: Vec<String>,
    /// Names, which need no escapes, and values.
    pub metadata: Vec<(String, String)>,
    /// What the client said of itself is written nowhere: its project keeps amounts alone.
    pub amounts_only: bool,
    /// As the client wrote it.
    pub model_requested: String,
    /// The rule that was about it.
    pub rule: Option<Arc<str>>,
    /// The provider's own id.
    pub model: String,
    /// The configuration or the catalogue knows `model`: it may be a label; otherwise metrics say `other`.
    pub model_known: bool,
    pub provider: String,
    pub upstream_protocol: &'static str,
    pub mode: Mode,
    pub stream: bool,
    pub status: u16,
    /// See [`crate::error::Kind::code`].
    pub error: Option<&'static str>,
    pub error_message: Option<String>,
    pub cache: CacheOutcome,
    /// Those who could answer in the order of asking, then those who were passed over.
    pub candidates: Vec<CandidateRecord>,
    /// Of the prompt, where a `smart` model judged it.
    pub difficulty: Option<f32>,
    /// Of an experiment.
    pub arms: Option<ArmRecord>,
    /// The id of the request that this is a copy of.
    pub shadow_of: Option<String>,
    pub attempts: Vec<AttemptRecord>,
    /// The stream broke off and was gone on with by another attempt.
    pub continued: bool,
    /// The model for outages answered.
    pub degraded: bool,
    pub usage: Option<Usage>,
    /// In 10⁻¹² USD.
    pub cost_pico: Option<u64>,
    /// Something was used that the catalogue has no price for.
    pub unpriced: bool,
    /// What a cache hit saved, in 10⁻¹² USD.
    pub saved_pico: Option<u64>,
    /// Request fields that could not be translated.
    pub dropped: Vec<String>,
    pub finish: Option<&'static str>,
    pub duration: Duration,
    /// Time in the gateway itself until the head of the answer.
    pub overhead: Duration,
    /// From the request's arrival to the first token; streams only.
    pub ttft: Option<Duration>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Parts of `overhead`, by [`Phase`]; zero where there was none.
    pub phases: [Duration; Phase::COUNT],
    /// Pieces of a streamed answer.
    pub chunks: u32,
    pub inter_token: InterToken,
}

/// One who could have answered.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateRecord {
    /// `provider/model`
    pub target: Arc<str>,
    /// Less is better.
    pub score: Option<f64>,
    /// Why it was not to be asked.
    pub passed: Option<String>,
}

impl CandidateRecord {
    fn write(&self, object: &mut Object<'_>) {
        object.text("target", &self.target);
        if let Some(score) = self.score {
            object.decimal("score", score);
        }
        object.text_if("passed", self.passed.as_deref().unwrap_or_default());
    }
}

/// The arms of an experiment that a request came to.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmRecord {
    /// The configured name.
    pub model: Arc<str>,
    /// The arm that it fell to.
    pub assigned: Option<Arc<str>>,
    /// The arm that answered: `Some(None)` when one answered that belongs to none.
    pub answered: Option<Option<Arc<str>>>,
}

impl ArmRecord {
    /// Returns the arm that the request counts for.
    pub fn arm(&self) -> Option<&str> {
        match &self.answered {
            Some(answered) => answered.as_deref(),
            None => self.assigned.as_deref(),
        }
    }

    /// Returns the arm that should have answered, where another did.
    pub fn missed(&self) -> Option<&str> {
        let assigned = self.assigned.as_deref()?;
        let answered = self.answered.as_ref()?;
        (answered.as_deref() != Some(assigned)).then_some(assigned)
    }
}

/// One try at one target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttemptRecord {
    pub provider: String,
    pub model: String,
    /// The credential's name, never its text; empty when there was none.
    pub credential: String,
    /// `host:port`.
    pub endpoint: String,
    pub status: Option<u16>,
    /// One of [`OUTCOMES`].
    pub outcome: &'static str,
    pub ms: u32,
    /// Sent over a connection that had been used before.
    pub reused: bool,
    pub retry_after_ms: Option<u64>,
    /// Of an attempt that was dropped because another answered first: tokens that may have been billed all the same.
    pub estimated_input: Option<u64>,
}

/// How an attempt may end; anything else counts as `other` in the metrics.
pub const OUTCOMES: [&str; 18] = [
    "ok",
    "status",
    "account",
    "resolve",
    "connect",
    "tls",
    "send",
    "timeout_connect",
    "timeout_first_byte",
    "timeout_idle",
    "timeout_total",
    "error_event",
    "empty",
    "cut",
    "garbage",
    "cancelled",
    "hedge_lost",
    "other",
];

/// How the body was treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    Pass,
    Translate,
    Cache,
    Demo,
    /// Nobody was asked.
    #[default]
    None,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Pass => "pass",
            Mode::Translate => "translate",
            Mode::Cache => "cache",
            Mode::Demo => "demo",
            Mode::None => "none",
        }
    }
}

/// What the cache did; the words of `x-strait-cache`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheOutcome {
    /// Not consulted.
    #[default]
    Bypass,
    Miss,
    Hit,
    /// Answered by an identical request that was in flight.
    Coalesced,
    /// Answered by what is over its time, because nobody else could.
    Stale,
}

impl CacheOutcome {
    pub const ALL: [CacheOutcome; 5] = [
        Self::Bypass,
        Self::Miss,
        Self::Hit,
        Self::Coalesced,
        Self::Stale,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            CacheOutcome::Bypass => "bypass",
            CacheOutcome::Miss => "miss",
            CacheOutcome::Hit => "hit",
            CacheOutcome::Coalesced => "coalesced",
            CacheOutcome::Stale => "stale",
        }
    }
}

/// Where the gateway's own time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading the request and finding its model.
    Read,
    /// Key and limits.
    Access,
    Cache,
    /// Choosing targets.
    Route,
    /// Writing the body for the provider.
    Prepare,
    /// Getting a connection, new or from the pool.
    Connect,
    /// Waiting for the provider's head: kept in the record, not counted as overhead.
    Upstream,
    /// From the provider's first bytes to the client's head.
    Write,
}

impl Phase {
    pub const COUNT: usize = 8;
    pub const ALL: [Phase; Self::COUNT] = [
        Self::Read,
        Self::Access,
        Self::Cache,
        Self::Route,
        Self::Prepare,
        Self::Connect,
        Self::Upstream,
        Self::Write,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Read => "read",
            Phase::Access => "access",
            Phase::Cache => "cache",
            Phase::Route => "route",
            Phase::Prepare => "prepare",
            Phase::Connect => "connect",
            Phase::Upstream => "upstream",
            Phase::Write => "write",
        }
    }
}

/// Upper bounds of [`InterToken`]'s buckets: OpenTelemetry's `time_per_output_token`, and 1 ms before them.
pub const INTER_TOKEN_BOUNDS_NS: [u64; 14] = [
    1_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    150_000_000,
    200_000_000,
    300_000_000,
    400_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
];

/// Times between the pieces of one stream, gathered without locks and counted once at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterToken {
    /// One more than the bounds: the last has none.
    pub(super) buckets: [u32; INTER_TOKEN_BOUNDS_NS.len() + 1],
    pub(super) sum_ns: u64,
}

impl InterToken {
    #[inline]
    pub fn observe(&mut self, gap: Duration) {
        let gap_ns = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        let at = INTER_TOKEN_BOUNDS_NS
            .iter()
            .take_while(|bound| gap_ns > **bound)
            .count();
        self.buckets[at] = self.buckets[at].saturating_add(1);
        self.sum_ns = self.sum_ns.saturating_add(gap_ns);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|count| u64::from(*count)).sum()
    }

    pub fn mean(&self) -> Option<Duration> {
        self.sum_ns
            .checked_div(self.count())
            .map(Duration::from_nanos)
    }
}

impl Record {
    /// Adds to the time of `phase`.
    #[inline]
    pub fn spent(&mut self, phase: Phase, time: Duration) {
        self.phases[phase as usize] += time;
    }

    /// Writes what the client said of itself.
    pub fn write_said(&self, line: &mut Object<'_>) {
        if self.amounts_only {
            return;
        }
        line.text_if("user", self.user.as_deref().unwrap_or_default());
        line.text_if("session", self.session.as_deref().unwrap_or_default());
        line.texts_if("tags", &self.tags);
        if !self.metadata.is_empty() {
            line.object("metadata", |object| {
                for (name, value) in &self.metadata {
                    object.text(name, value);
                }
            });
        }
    }

    /// Appends the record as one JSON line, with its line end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut line = Object::open(out);
        line.text("id", &self.id);
        line.time("time", self.at);
        line.text("endpoint", self.endpoint);
        line.text("protocol", self.client_protocol);
        line.text_if("org", self.org.as_deref().unwrap_or_default());
        line.text_if("team", self.team.as_deref().unwrap_or_default());
        line.text_if("project", self.project.as_deref().unwrap_or_default());
        line.text_if("key", self.key.as_deref().unwrap_or_default());
        self.write_said(&mut line);
        line.text_if("model_requested", &self.model_requested);
        line.text_if("rule", self.rule.as_deref().unwrap_or_default());
        line.text_if("model", &self.model);
        line.text_if("provider", &self.provider);
        line.text_if("upstream_protocol", self.upstream_protocol);
        line.text("mode", self.mode.as_str());
        line.truth("stream", self.stream);
        line.number("status", u64::from(self.status));
        line.text_if("error", self.error.unwrap_or_default());
        // A provider's words may repeat the client's.
        let message = self.error_message.as_deref().filter(|_| !self.amounts_only);
        line.text_if("error_message", message.unwrap_or_default());
        line.text("cache", self.cache.as_str());
        line.text_if("finish", self.finish.unwrap_or_default());
        if !self.candidates.is_empty() {
            line.objects("candidates", &self.candidates, CandidateRecord::write);
        }
        if let Some(arms) = &self.arms {
            line.text_if("arm", arms.arm().unwrap_or_default());
            line.text_if("arm_missed", arms.missed().unwrap_or_default());
        }
        line.text_if("shadow_of", self.shadow_of.as_deref().unwrap_or_default());
        if let Some(difficulty) = self.difficulty {
            line.decimal("difficulty", f64::from(difficulty));
        }
        line.objects("attempts", &self.attempts, AttemptRecord::write);
        for (name, is) in [("continued", self.continued), ("degraded", self.degraded)] {
            if is {
                line.truth(name, true);
            }
        }
        if let Some(usage) = &self.usage {
            line.object("usage", |object| write_usage(usage, object));
        }
        if let Some(cost) = self.cost_pico {
            line.usd("cost_usd", cost);
            line.number("cost_pico", cost);
        }
        if let Some(saved) = self.saved_pico {
            line.number("saved_pico", saved);
        }
        if self.unpriced {
            line.truth("unpriced", true);
        }
        line.texts_if("dropped", &self.dropped);
        line.micros("duration_us", self.duration);
        line.micros("overhead_us", self.overhead);
        if let Some(ttft) = self.ttft {
            line.micros("ttft_us", ttft);
        }
        if self.phases.iter().any(|time| !time.is_zero()) {
            line.object("phases_us", |object| {
                for (phase, time) in Phase::ALL.iter().zip(self.phases) {
                    if !time.is_zero() {
                        object.micros(phase.as_str(), time);
                    }
                }
            });
        }
        line.number_if("chunks", u64::from(self.chunks));
        if let Some(mean) = self.inter_token.mean() {
            line.micros("inter_token_us", mean);
        }
        line.number("request_bytes", self.request_bytes);
        line.number("response_bytes", self.response_bytes);
        line.close();
        out.push(b'\n');
    }
}

impl AttemptRecord {
    fn write(&self, object: &mut Object<'_>) {
        object.text("provider", &self.provider);
        object.text("model", &self.model);
        object.text_if("credential", &self.credential);
        object.text_if("endpoint", &self.endpoint);
        if let Some(status) = self.status {
            object.number("status", u64::from(status));
        }
        object.text("outcome", self.outcome);
        object.number("ms", u64::from(self.ms));
        object.truth("reused", self.reused);
        if let Some(wait) = self.retry_after_ms {
            object.number("retry_after_ms", wait);
        }
        if let Some(tokens) = self.estimated_input {
            object.number("estimated_input", tokens);
        }
    }
}

fn write_usage(usage: &Usage, object: &mut Object<'_>) {
    object.number("input", usage.input);
    object.number("output", usage.output);
    for (name, count) in [
        ("cache_read", usage.cache_read),
        ("cache_write", usage.cache_write),
        ("cache_write_1h", usage.cache_write_1h),
        ("cache_write_12h", usage.cache_write_12h),
        ("audio_in", usage.audio_in),
        ("image_in", usage.image_in),
        ("video_in", usage.video_in),
        ("audio_cached", usage.audio_cached),
        ("image_cached", usage.image_cached),
        ("reasoning", usage.reasoning),
        ("citation", usage.citation),
        ("audio_out", usage.audio_out),
        ("image_out", usage.image_out),
        ("searches", usage.searches),
        ("reported_pico", usage.reported.unwrap_or_default()),
    ] {
        object.number_if(name, count);
    }
    object.text_if("tier", usage.tier.as_deref().unwrap_or_default());
    object.text_if("geo", usage.geo.as_deref().unwrap_or_default());
    if usage.estimated {
        object.truth("estimated", true);
    }
}

#[cfg(test)]
mod tests {

    use serde_json::{Value, json};

    use super::*;

    fn line(record: &Record) -> Value {
        let mut out = Vec::new();
        record.write_json(&mut out);
        assert_eq!(
            out.iter().filter(|byte| **byte == b'\n').count(),
            1,
            "one line"
        );
        assert_eq!(out.last(), Some(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_empty_record_is_still_a_line() {
        let expected = json!({
            "id": "", "time": "1970-01-01T00:00:00.000000Z", "endpoint": "", "protocol": "", "mode": "none",
            "stream": false, "status": 0, "cache": "bypass", "attempts": [], "duration_us": 0, "overhead_us": 0,
            "request_bytes": 0, "response_bytes": 0,
        });
        assert_eq!(line(&Record::default()), expected);
    }

    #[test]
    fn a_full_record_says_everything() {
        let mut inter_token = InterToken::default();
        inter_token.observe(Duration::from_millis(10));
        inter_token.observe(Duration::from_millis(30));
        let mut record = Record {
            id: "req_1".into(),
            at: Timestamp::from_microsecond(1_700_000_000_000_001).unwrap(),
            endpoint: "chat",
            client_protocol: "openai-chat",
            key: Some("team \"a\"".into()),
            user: Some("u\n1".into()),
            session: Some("s".into()),
            tags: vec!["x".into(), "y".into()],
            model_requested: "fast".into(),
            model: "gpt-5".into(),
            model_known: true,
            provider: "openai".into(),
            upstream_protocol: "openai-chat",
            mode: Mode::Pass,
            stream: true,
            status: 200,
            error: Some("timeout"),
            error_message: Some("idle".into()),
            cache: CacheOutcome::Miss,
            attempts: vec![AttemptRecord {
                provider: "openai".into(),
                model: "gpt-5".into(),
                credential: "a".into(),
                endpoint: "api.openai.com".into(),
                status: Some(429),
                outcome: "status",
                ms: 12,
                reused: true,
                retry_after_ms: Some(1500),
                ..AttemptRecord::default()
            }],
            usage: Some(Usage {
                input: 10,
                output: 5,
                reasoning: 2,
                estimated: true,
                ..Usage::default()
            }),
            cost_pico: Some(1_500_000_000),
            unpriced: true,
            saved_pico: Some(7),
            dropped: vec!["logit_bias".into()],
            finish: Some("stop"),
            duration: Duration::from_millis(5),
            overhead: Duration::from_micros(80),
            ttft: Some(Duration::from_millis(2)),
            request_bytes: 100,
            response_bytes: 200,
            chunks: 3,
            inter_token,
            ..Record::default()
        };
        record.spent(Phase::Route, Duration::from_micros(3));
        record.spent(Phase::Route, Duration::from_micros(4));
        let expected = json!({
            "id": "req_1", "time": "2023-11-14T22:13:20.000001Z", "endpoint": "chat", "protocol": "openai-chat",
            "key": "team \"a\"", "user": "u\n1", "session": "s", "tags": ["x", "y"], "model_requested": "fast",
            "model": "gpt-5", "provider": "openai", "upstream_protocol": "openai-chat", "mode": "pass",
            "stream": true, "status": 200, "error": "timeout", "error_message": "idle", "cache": "miss",
            "finish": "stop",
            "attempts": [{
                "provider": "openai", "model": "gpt-5", "credential": "a", "endpoint": "api.openai.com",
                "status": 429, "outcome": "status", "ms": 12, "reused": true, "retry_after_ms": 1500,
            }],
            "usage": {"input": 10, "output": 5, "reasoning": 2, "estimated": true},
            "cost_usd": "0.0015", "cost_pico": 1_500_000_000, "saved_pico": 7, "unpriced": true,
            "dropped": ["logit_bias"], "duration_us": 5000, "overhead_us": 80, "ttft_us": 2000,
            "phases_us": {"route": 7}, "chunks": 3, "inter_token_us": 20_000,
            "request_bytes": 100, "response_bytes": 200,
        });
        assert_eq!(line(&record), expected);
    }

    #[test]
    fn gaps_fall_into_the_bucket_that_holds_them() {
        let mut gaps = InterToken::default();
        for (gap_ns, at) in [
            (0, 0),
            (1_000_000, 0),
            (1_000_001, 1),
            (2_500_000_000, 13),
            (2_500_000_001, 14),
        ] {
            let before = gaps.buckets[at];
            gaps.observe(Duration::from_nanos(gap_ns));
            assert_eq!(gaps.buckets[at], before + 1, "{gap_ns} ns");
        }
        gaps.observe(Duration::MAX);
        assert_eq!(gaps.count(), 6);
        assert!(gaps.mean().is_some());
        assert_eq!(InterToken::default().mean(), None);
    }

    #[test]
    fn phases_are_told_by_their_own_place() {
        for (at, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, at, "{phase:?}");
        }
        for (at, outcome) in CacheOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at, "{outcome:?}");
        }
    }
}
