//! Alerts: somebody is told when so much of a budget is spent, once for each threshold in each period.
//!
//! A budget tells what was spent before and after each settlement; what lies between is a crossing. Crossings go into a
//! bounded queue and to a thread of its own, which tells a webhook, signed, Slack, and people by e-mail ([`mail`]). Nobody
//! waits for it; what finds no room, and what is refused again and again, is counted and said in the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::mail;
use crate::identity::http::Request;
use crate::limit::budget::{Budgets, Every, Spending};
use crate::provider::cost::{self, PICO};
use crate::secret::Secret;

/// Alerts that may wait, and that are sent at a time.
const MOST_WAITING: usize = 256;
const MOST_SENDING: usize = 8;
/// Crossings of rolling windows that are remembered; beyond it all are forgotten.
const MOST_REMEMBERED: usize = 10_000;
/// Nobody is waited for longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between tries.
const WAITS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(25),
];

/// The `[alerts]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Told of each crossing in JSON.
    pub webhook: Option<Secret>,
    /// Signs what the webhook is told.
    pub secret: Option<Secret>,
    /// Told in a sentence, as Slack's incoming webhooks take it.
    pub slack: Option<Secret>,
    pub smtp: Option<mail::Settings>,
    /// Of each budget.
    pub percent: Vec<u64>,
    /// In 10⁻¹² USD.
    pub amounts: Vec<u64>,
}

/// How far a budget may be spent before somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Threshold {
    Percent(u64),
    /// In 10⁻¹² USD.
    Amount(u64),
}

/// A threshold that was crossed.
#[derive(Debug, Clone, PartialEq)]
pub struct Crossing {
    pub threshold: Threshold,
    pub spending: Spending,
    pub at: Timestamp,
}

/// What tells. Clones share it.
#[derive(Clone, Default)]
pub struct Alerts {
    /// `None`: nobody is to be told.
    tallies: Option<Arc<Tallies>>,
}

#[derive(Default)]
struct Tallies {
    waiting: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Settings {
    /// Returns the thresholds that a settlement crosses.
    pub fn crossed(&self, spending: &Spending) -> Vec<Threshold> {
        let percent = self.percent.iter().map(|percent| {
            let at = u128::from(spending.most_pico) * u128::from(*percent) / 100;
            (Threshold::Percent(*percent), at)
        });
        let amounts = self.amounts.iter();
        let amounts = amounts.map(|pico| (Threshold::Amount(*pico), u128::from(*pico)));
        let crossed = |at: u128| {
            u128::from(spending.before_pico) < at && at <= u128::from(spending.after_pico)
        };
        let crossed = percent.chain(amounts).filter(|(_, at)| crossed(*at));
        crossed.map(|(threshold, _)| threshold).collect()
    }

    fn is_on(&self) -> bool {
        self.webhook.is_some() || self.slack.is_some() || self.smtp.is_some()
    }
}

impl Alerts {
    /// Listens to `budgets` and starts the thread, where somebody is to be told.
    pub fn start(settings: &Settings, budgets: &Budgets) -> std::io::Result<Self> {
        if !settings.is_on() {
            return Ok(Self::default());
        }
        let tallies = Arc::new(Tallies::default());
        let (tell, told) = mpsc::channel(MOST_WAITING);
        let (own, thresholds) = (tallies.clone(), settings.clone());
        budgets.listen(Box::new(move |spending| {
            for threshold in thresholds.crossed(spending) {
                own.waiting.fetch_add(1, Relaxed);
                let crossing = Crossing {
                    threshold,
                    spending: spending.clone(),
                    at: Timestamp::now(),
                };
                if tell.try_send(crossing).is_err() {
                    own.ended(&own.dropped);
                    tracing::warn!(scope = &*spending.scope, "an alert found no room");
                }
            }
        }));
        let (own, settings) = (tallies.clone(), settings.clone());
        std::thread::Builder::new()
            .name("alerts".into())
            .spawn(move || run(&own, settings, told))?;
        Ok(Self {
            tallies: Some(tallies),
        })
    }

    /// Returns the alerts by what became of them.
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        let of = |count: fn(&Tallies) -> &AtomicU64| {
            let tallies = self.tallies.as_ref();
            tallies.map_or(0, |tallies| count(tallies).load(Relaxed))
        };
        [
            ("sent", of(|tallies| &tallies.sent)),
            ("failed", of(|tallies| &tallies.failed)),
            ("dropped", of(|tallies| &tallies.dropped)),
        ]
    }

    /// Waits until nothing waits to be told. It blocks the thread.
    pub fn flush(&self, timeout: Duration) {
        let until = Instant::now() + timeout;
        let waits = || {
            let tallies = self.tallies.as_ref();
            tallies.is_some_and(|tallies| tallies.waiting.load(Relaxed) > 0)
        };
        while waits() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Tallies {
    fn ended(&self, outcome: &AtomicU64) {
        outcome.fetch_add(1, Relaxed);
        self.waiting.fetch_sub(1, Relaxed);
    }
}

fn run(tallies: &Arc<Tallies>, settings: Settings, told: mpsc::Receiver<Crossing>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(tallies, Arc::new(settings), told)),
        Err(error) => tracing::error!(%error, "nobody is told of budgets"),
    }
}

async fn serve(
    tallies: &Arc<Tallies>,
    settings: Arc<Settings>,
    mut told: mpsc::Receiver<Crossing>,
) {
    let mut remembered = Remembered::default();
    let mut sending = JoinSet::new();
    while let Some(crossing) = told.recv().await {
        if !remembered.is_new(&crossing) {
            tallies.waiting.fetch_sub(1, Relaxed);
            continue;
        }
        while sending.len() >= MOST_SENDING {
            sending.join_next().await;
        }
        let (tallies, settings) = (tallies.clone(), settings.clone());
        sending.spawn(async move {
            let all = send(&settings, &crossing).await;
            let outcome = if all { &tallies.sent } else { &tallies.failed };
            tallies.ended(outcome);
        });
        while sending.try_join_next().is_some() {}
    }
}

/// What was told of rolling windows, which can fall below a threshold and cross it again: once in each length of one.
#[derive(Default)]
struct Remembered(HashMap<(Arc<str>, Every, Threshold), Timestamp>);

impl Remembered {
    fn is_new(&mut self, crossing: &Crossing) -> bool {
        let spending = &crossing.spending;
        if !spending.rolling {
            return true;
        }
        let length = match spending.every {
            Every::Ever => return true,
            Every::Hour => 3600,
            Every::Day => 86_400,
            Every::Week => 7 * 86_400,
            Every::Month => 30 * 86_400,
        };
        let over = |at: &Timestamp| crossing.at.as_second() - at.as_second() >= length;
        let key = (spending.scope.clone(), spending.every, crossing.threshold);
        if self.0.get(&key).is_some_and(|at| !over(at)) {
            return false;
        }
        if self.0.len() >= MOST_REMEMBERED {
            self.0.clear();
        }
        self.0.insert(key, crossing.at);
        true
    }
}

/// One who is told, and what.
enum Way<'s> {
    Post(&'s Secret, Option<&'s Secret>, Bytes),
    Mail(&'s mail::Settings, String, String),
}

/// Tells whoever is to be told. Returns whether all took it.
async fn send(settings: &Settings, crossing: &Crossing) -> bool {
    let webhook = settings.webhook.as_ref().map(|webhook| {
        let body = Bytes::from(of_crossing(crossing).to_string());
        Way::Post(webhook, settings.secret.as_ref(), body)
    });
    let scope = &crossing.spending.scope;
    let slack = settings.slack.as_ref().map(|slack| {
        let scope = scope.replace('&', "&amp;");
        let scope = scope.replace('<', "&lt;").replace('>', "&gt;");
        let body = json!({"text": sentence(crossing, &scope)});
        Way::Post(slack, None, Bytes::from(body.to_string()))
    });
    let mail = settings.smtp.as_ref().map(|smtp| {
        let subject = format!("Budget {scope} is spent to {}", crossed(crossing));
        Way::Mail(smtp, subject, sentence(crossing, scope))
    });
    // Whoever is slow holds up nobody.
    let told = [webhook, slack, mail].map(|way| Box::pin(again(way)));
    futures_util::future::join_all(told)
        .await
        .into_iter()
        .all(|took| took)
}

/// Tries, and again where that may help.
async fn again(way: Option<Way<'_>>) -> bool {
    let Some(way) = way else { return true };
    for wait in WAITS.map(Some).into_iter().chain([None]) {
        let told = match &way {
            Way::Post(url, secret, body) => post(url, *secret, body.clone()).await,
            Way::Mail(smtp, subject, text) => mail::send(smtp, PATIENCE, (subject, text)).await,
        };
        let Err(mail::Failure { why, again }) = told else {
            return true;
        };
        match wait {
            _ if !again => {
                tracing::error!(why, "an alert is refused");
                return false;
            }
            Some(wait) => {
                tracing::warn!(why, "an alert is not taken; it is tried again");
                tokio::time::sleep(wait).await;
            }
            None => tracing::error!(why, "an alert is not taken, and given up"),
        }
    }
    false
}

/// Posts. The address isn't said in the log: it may hold a secret.
async fn post(url: &Secret, secret: Option<&Secret>, body: Bytes) -> Result<(), mail::Failure> {
    let kind = HeaderValue::from_static("application/json");
    let mut headers = vec![(http::header::CONTENT_TYPE, kind)];
    if let Some(secret) = secret {
        let signed = signature(secret, Timestamp::now().as_second(), &body);
        if let Ok(value) = HeaderValue::try_from(signed) {
            headers.push((HeaderName::from_static("x-strait-signature"), value));
        }
    }
    let request = Request {
        method: Method::POST,
        url: url.expose(),
        headers,
        body,
        patience: PATIENCE,
    };
    match request.send().await {
        Ok(reply) if (200..300).contains(&reply.status) => Ok(()),
        Ok(reply) => Err(mail::Failure {
            why: format!("status {}", reply.status),
            again: matches!(reply.status, 408 | 425 | 429 | 500..),
        }),
        Err(why) => Err(mail::Failure { why, again: true }),
    }
}

/// Returns `t=SECONDS,v1=HEX`: the HMAC-SHA-256 of the seconds, a dot and the body.
pub fn signature(secret: &Secret, seconds: i64, body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.expose().as_bytes());
    let mut signed = ring::hmac::Context::with_key(&key);
    signed.update(seconds.to_string().as_bytes());
    signed.update(b".");
    signed.update(body);
    let tag = signed.sign();
    let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

fn of_crossing(crossing: &Crossing) -> Value {
    let spending = &crossing.spending;
    let threshold = match crossing.threshold {
        Threshold::Percent(percent) => json!({"kind": "percent", "value": percent}),
        Threshold::Amount(pico) => json!({"kind": "usd", "value": cost::usd(pico)}),
    };
    json!({
        "type": "budget.threshold",
        "scope": &*spending.scope,
        "every": spending.every.name(),
        "rolling": spending.rolling,
        "threshold": threshold,
        "budget_usd": cost::usd(spending.most_pico),
        "spent_usd": cost::usd(spending.after_pico),
        "fired_at": crossing.at.to_string(),
    })
}

/// Returns the threshold, for people.
fn crossed(crossing: &Crossing) -> String {
    match crossing.threshold {
        Threshold::Percent(percent) => format!("{percent} %"),
        Threshold::Amount(pico) => format!("{} USD", cost::usd(pico)),
    }
}

/// Returns the alert, for people. `scope` is that of the budget, with whatever escapes it needs.
fn sentence(crossing: &Crossing, scope: &str) -> String {
    let spending = &crossing.spending;
    let window = match (spending.every, spending.rolling) {
        (Every::Ever, _) => "in all".to_owned(),
        (every, false) => format!("each {}", every.name()),
        (every, true) => format!("in any {}", every.name()),
    };
    // To the cent: it is for people. Of what is less than a dollar, all of it.
    let cent = PICO / 100;
    let grain = if spending.most_pico < PICO { 1 } else { cent };
    let spent = cost::usd(spending.after_pico / grain * grain);
    format!(
        "The budget {scope} of {} USD {window} is spent to {}: {spent} USD.",
        cost::usd(spending.most_pico),
        crossed(crossing),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spending(before: u64, after: u64) -> Spending {
        Spending {
            scope: "key:<a>".into(),
            every: Every::Day,
            rolling: false,
            most_pico: 10 * PICO,
            before_pico: before,
            after_pico: after,
        }
    }

    fn settings() -> Settings {
        Settings {
            percent: vec![50, 80, 100],
            amounts: vec![9 * PICO],
            ..Settings::default()
        }
    }

    #[test]
    fn a_threshold_is_crossed_once_however_the_money_is_spent() {
        let settings = settings();
        for step in [PICO / 7, PICO, 3 * PICO, 11 * PICO] {
            let (mut spent, mut crossed) = (0, Vec::new());
            while spent < 12 * PICO {
                crossed.extend(settings.crossed(&spending(spent, spent + step)));
                spent += step;
            }
            let amount = Threshold::Amount(9 * PICO);
            for threshold in [50, 80, 100]
                .map(Threshold::Percent)
                .into_iter()
                .chain([amount])
            {
                let times = crossed.iter().filter(|known| **known == threshold).count();
                assert_eq!(times, 1, "{threshold:?} in steps of {step}");
            }
        }
        assert_eq!(settings.crossed(&spending(0, 5 * PICO - 1)), []);
        assert_eq!(
            settings.crossed(&spending(0, 5 * PICO)),
            [Threshold::Percent(50)]
        );
        assert_eq!(settings.crossed(&spending(5 * PICO, 6 * PICO)), []);
    }

    #[test]
    fn a_rolling_window_that_crosses_again_is_told_once_in_its_length() {
        let at = |seconds: i64| Crossing {
            threshold: Threshold::Percent(80),
            spending: Spending {
                rolling: true,
                ..spending(0, 8 * PICO)
            },
            at: Timestamp::from_second(seconds).expect("a time"),
        };
        let mut remembered = Remembered::default();
        let told = [0, 10, 86_399, 86_400, 86_401].map(|seconds| remembered.is_new(&at(seconds)));
        assert_eq!(told, [true, false, false, true, false]);
    }

    #[test]
    fn what_is_told_names_the_budget_and_can_be_checked() {
        let crossing = Crossing {
            threshold: Threshold::Percent(80),
            spending: spending(0, 8 * PICO + 1),
            at: Timestamp::UNIX_EPOCH,
        };
        let told = of_crossing(&crossing);
        assert_eq!(told["threshold"], json!({"kind": "percent", "value": 80}));
        assert_eq!(
            (&told["budget_usd"], &told["every"]),
            (&json!("10"), &json!("day"))
        );
        assert_eq!(
            sentence(&crossing, "key:<a>"),
            "The budget key:<a> of 10 USD each day is spent to 80 %: 8 USD."
        );
        let mut small = crossing;
        small.spending.most_pico = PICO / 100;
        small.spending.after_pico = PICO / 125;
        assert_eq!(
            sentence(&small, "key:<a>"),
            "The budget key:<a> of 0.01 USD each day is spent to 80 %: 0.008 USD."
        );
        // RFC 4231, case 2, has the key "Jefe".
        let secret = Secret::new("Jefe");
        let signed = signature(&secret, 7, b"{}");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"Jefe");
        let tag = ring::hmac::sign(&key, b"7.{}");
        let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(signed, format!("t=7,v1={hex}"));
    }
}
