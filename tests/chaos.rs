//! Chaos: three providers that are processes of their own, a gateway, and load that never pauses, while a seeded
//! schedule kills, stalls, limits, breaks, slows and garbles up to two of the three at a time. Clients see nothing.
//!
//! `STRAIT_CHAOS_SECONDS` says for how long (20), `STRAIT_CHAOS_SEED` which schedule (1).
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::dialect::Dialect;
use common::{Answer, Client, Strait, free};
use serde_json::Value;

const CLIENTS: usize = 16;
/// After the last fault everybody is asked again within this: the longest cooldown of our own, and a margin.
const RECOVERY: Duration = Duration::from_secs(75);
/// What the retry budget allows beside a fifth of the requests: what is saved at the start, and what comes each second.
const SAVED: f64 = 256.0;
const STEADY: f64 = 10.0;

/// What may befall a provider, as the default step of its script.
const FAULTS: [(&str, &str); 14] = [
    ("no answer", r#"{"stall_head": true}"#),
    ("silence after the head", r#"{"delay_first_chunk": "60s"}"#),
    ("429", r#"{"status": 429}"#),
    (
        "429 with a wait",
        r#"{"status": 429, "headers": {"retry-after": "1"}}"#,
    ),
    ("500", r#"{"status": 500}"#),
    (
        "503 with a wait",
        r#"{"status": 503, "headers": {"retry-after": "2"}}"#,
    ),
    ("529", r#"{"status": 529}"#),
    ("401", r#"{"status": 401}"#),
    ("slow", r#"{"delay_head": "300ms"}"#),
    ("garbage", r#"{"garbage": true}"#),
    ("an error in a 200", r#"{"error_event": {}}"#),
    ("nothing", r#"{"empty_stream": true}"#),
    ("closes", r#"{"close_before_head": true}"#),
    ("resets", r#"{"cut_body": 1, "cut": "reset"}"#),
];

/// A provider's process.
struct Provider {
    addr: SocketAddr,
    child: Option<Child>,
}

impl Provider {
    fn start() -> Self {
        let mut provider = Self {
            addr: free(),
            child: None,
        };
        provider.restart();
        provider
    }

    /// Starts where it is not running, and waits until it answers.
    fn restart(&mut self) {
        if self.child.is_some() {
            return;
        }
        let until = Instant::now() + Duration::from_secs(20);
        let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
        command.args(["mock", "--listen", &self.addr.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        while !self.is_up() {
            assert!(Instant::now() < until, "{} does not start", self.addr);
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() {
                // The port was not free yet.
                self.child = Some(command.spawn().unwrap());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.script("{}");
    }

    fn is_up(&self) -> bool {
        let health = Client::new(self.addr).try_get("/health");
        health.is_ok_and(|answer| answer.status == 200)
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Answers from now on as `step` says.
    fn script(&self, step: &str) {
        let script = format!(r#"{{"calls": false, "default": {step}}}"#);
        let answer = Client::new(self.addr).post("/_script", &[], script.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A generator of numbers below its argument; the same for the same seed.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    }
}

fn variable(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |value| value.parse().unwrap())
}

/// Three providers of one endpoint each, and one provider that has all three.
fn config(providers: &[Provider]) -> String {
    let timeouts =
        "timeouts = { connect = \"2s\", first_byte = \"1s\", idle = \"1s\", total = \"30s\" }";
    let protocols = "protocols = [\"openai-chat\", \"anthropic\"]";
    let mut config = String::new();
    for (name, provider) in ["a", "b", "c"].iter().zip(providers) {
        config.push_str(&format!(
            "[providers.{name}]\n{protocols}\nbase_url = \"http://{}/v1\"\nkey = \"k\"\n{timeouts}\n",
            provider.addr
        ));
    }
    let endpoints: Vec<String> = providers
        .iter()
        .map(|provider| format!("\"http://{}/v1\"", provider.addr))
        .collect();
    config.push_str(&format!(
        "[providers.pool]\n{protocols}\nendpoints = [{}]\nkeys = [\"k\", \"l\"]\n{timeouts}\n\
         health = {{ path = \"/health\", every = \"500ms\" }}\n",
        endpoints.join(", ")
    ));
    for (name, targets, strategy) in [
        ("spread", "\"a/x\", \"b/x\", \"c/x\"", "round-robin"),
        ("ordered", "\"a/y\", \"b/y\", \"c/y\"", "fallback"),
        ("pooled", "\"pool/z\"", "fallback"),
        ("hedged", "\"c/w\", \"b/w\", \"a/w\"", "fallback"),
    ] {
        config.push_str(&format!(
            "[models.{name}]\ntargets = [{targets}]\nstrategy = \"{strategy}\"\n\
             retries = {{ max_attempts = 8, backoff = \"100ms\" }}\n"
        ));
        if name == "hedged" {
            config.push_str("hedge = { after = \"150ms\", whole = true, max_share = 0.2 }\n");
        }
    }
    config
}

/// What a request came to: nothing where it was answered well.
fn ask(strait: &Strait, turn: usize) -> Result<(), String> {
    let model = ["spread", "ordered", "pooled", "hedged"][turn % 4];
    let stream = (turn / 4).is_multiple_of(2);
    let dialect = Dialect::ALL[turn / 8 % 2];
    let said = format!("word {turn} of many words");
    let body = dialect.body(model, &said, stream).to_string();
    let answer = strait
        .client()
        .send("POST", dialect.path(), &[], body.as_bytes())
        .and_then(common::http::Stream::whole);
    let answer = answer.map_err(|error| format!("{model}, stream {stream}: {error}"))?;
    if answer.status == 200 && text(dialect, &answer, stream).as_deref() == Some(&said) {
        return Ok(());
    }
    let (status, text) = (answer.status, String::from_utf8_lossy(&answer.body));
    Err(format!("{model}, stream {stream}: {status} {text}"))
}

/// Returns what an answer says; nothing where it did not come to its end.
fn text(dialect: Dialect, answer: &Answer, stream: bool) -> Option<String> {
    let body = std::str::from_utf8(&answer.body).ok()?;
    if !answer.complete {
        return None;
    }
    if !stream {
        let json: Value = serde_json::from_str(body).ok()?;
        let text = match dialect {
            Dialect::OpenAi => &json["choices"][0]["message"]["content"],
            Dialect::Anthropic => &json["content"][0]["text"],
        };
        return text.as_str().map(str::to_owned);
    }
    let ended = match dialect {
        Dialect::OpenAi => body.ends_with("data: [DONE]\n\n"),
        Dialect::Anthropic => body.contains("\"message_stop\""),
    };
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    let data = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let text = data.filter_map(|event| {
        let text = match dialect {
            Dialect::OpenAi => &event["choices"][0]["delta"]["content"],
            Dialect::Anthropic => &event["delta"]["text"],
        };
        text.as_str().map(str::to_owned)
    });
    ended.then(|| text.collect())
}

#[test]
fn clients_see_nothing_of_it_while_one_of_three_is_well() {
    let seconds = variable("STRAIT_CHAOS_SECONDS", 20);
    let seed = variable("STRAIT_CHAOS_SEED", 1);
    let mut providers = [(); 3].map(|()| Provider::start());
    let strait = Strait::start(&config(&providers));
    let (stop, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    let history = Mutex::new(Vec::new());
    let began = Instant::now();
    let mut chaos = Duration::ZERO;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let turn = turns.fetch_add(1, Ordering::Relaxed);
                    if let Err(failure) = ask(&strait, turn as usize) {
                        let mut failures = failures.lock().unwrap();
                        failures.push(format!("{:?}: {failure}", began.elapsed()));
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
        let mut random = numbers(seed);
        while began.elapsed() < Duration::from_secs(seconds) {
            // Whoever was well stays so until another is.
            let well = random(3);
            providers[well].restart();
            providers[well].script("{}");
            std::thread::sleep(Duration::from_millis(300));
            for at in (0..3).filter(|at| *at != well) {
                let what = random(FAULTS.len() + 3);
                let told = match FAULTS.get(what) {
                    Some((name, step)) => {
                        providers[at].restart();
                        providers[at].script(step);
                        name
                    }
                    None if what == FAULTS.len() => {
                        providers[at].restart();
                        providers[at].script("{}");
                        "healed"
                    }
                    None => {
                        providers[at].kill();
                        "killed"
                    }
                };
                let mut history = history.lock().unwrap();
                history.push(format!(
                    "{:?}: {} {told}",
                    began.elapsed(),
                    ["a", "b", "c"][at]
                ));
            }
            std::thread::sleep(Duration::from_millis(500 + random(1500) as u64));
        }
        chaos = began.elapsed();
        // All are well again, and nobody tells the gateway.
        for provider in &mut providers {
            provider.restart();
            provider.script("{}");
        }
        let healed = strait.records(0).len();
        let until = Instant::now() + RECOVERY;
        loop {
            let missing = missing(&strait, &providers, healed);
            if missing.is_empty() || Instant::now() > until {
                stop.store(true, Ordering::Relaxed);
                assert!(missing.is_empty(), "not asked again: {missing:?}");
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let all = turns.load(Ordering::Relaxed);
    let records = strait.records(all as usize);
    let made: usize = records.iter().map(|it| attempts(it).len()).sum();
    let again = made as f64 - records.len() as f64;
    let allowed = 0.2 * records.len() as f64 + SAVED + STEADY * began.elapsed().as_secs_f64();
    let mut outcomes: HashMap<String, u32> = HashMap::new();
    for attempt in records.iter().flat_map(attempts) {
        let outcome = attempt["outcome"].as_str().unwrap().to_owned();
        *outcomes.entry(outcome).or_default() += 1;
    }
    let failures = failures.into_inner().unwrap();
    let history = history.into_inner().unwrap();
    eprintln!(
        "seed {seed}, {:.0} s of chaos, {} faults: {all} requests, {} failures; {again} further attempts of {allowed:.0} \
         allowed; all asked again {:.1} s after the last fault; {outcomes:?}",
        chaos.as_secs_f64(),
        history.len(),
        failures.len(),
        (began.elapsed() - chaos).as_secs_f64(),
    );
    let shown: Vec<&String> = failures.iter().take(10).collect();
    assert!(
        failures.is_empty(),
        "{} failures: {shown:#?}\n{history:#?}",
        failures.len()
    );
    assert!(
        again <= allowed,
        "{again} further attempts, of {allowed} allowed"
    );
    assert!(!history.is_empty() && all > 100, "something was tried");
}

fn attempts(record: &Value) -> &[Value] {
    record["attempts"].as_array().map_or(&[], Vec::as_slice)
}

/// Returns those that no request since record `from` was answered by, as a target of its own or in the pool.
fn missing(strait: &Strait, providers: &[Provider], from: usize) -> Vec<String> {
    let records = strait.records(0);
    let mut wanted: Vec<String> = providers
        .iter()
        .flat_map(|provider| {
            [
                format!("x {}", provider.addr),
                format!("z {}", provider.addr),
            ]
        })
        .collect();
    for attempt in records.iter().skip(from).flat_map(attempts) {
        if attempt["outcome"] == "ok" {
            let word = |key: &str| attempt[key].as_str().unwrap();
            let answered = format!("{} {}", word("model"), word("endpoint"));
            wanted.retain(|wanted| *wanted != answered);
        }
    }
    wanted
}
