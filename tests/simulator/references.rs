//! Two algorithms in wide use, rebuilt from their published formulas, with what is known to be wrong in them.

use std::collections::VecDeque;

use strait::routing::stats::normal;

use crate::world::{News, Policy, Request, Sight};

/// What the score of LLM Gateway looks at.
#[derive(Clone, Copy)]
pub struct Measured {
    /// The plain mean of the prices of input and output.
    pub price: f64,
    /// In percent.
    pub uptime: f64,
    /// Milliseconds.
    pub latency: f64,
    pub throughput: f64,
    pub cached_price: bool,
}

#[derive(Clone, Copy)]
pub struct Weights {
    pub price: f64,
    pub uptime: f64,
    pub throughput: f64,
    pub latency: f64,
    pub cache: f64,
    /// Of the loss of throughput.
    pub cap: f64,
}

/// Of its newest version.
pub const NEWEST: Weights = Weights {
    price: 0.6,
    uptime: 0.5,
    throughput: 0.3,
    latency: 0.075,
    cache: 0.0,
    cap: 3.0,
};

/// Prompts from here on are long enough for the part of the cache.
const LONG: u64 = 5000;

/// Returns the scores of all providers; the lowest wins.
pub fn scores(all: &[Measured], weights: Weights, stream: bool, prompt: u64) -> Vec<f64> {
    let least = |part: fn(&Measured) -> f64| all.iter().map(part).fold(f64::INFINITY, f64::min);
    let most = |part: fn(&Measured) -> f64| all.iter().map(part).fold(0.0, f64::max);
    let price = least(|one| one.price);
    let latency = least(|one| one.latency);
    let uptime = most(|one| one.uptime);
    let throughput = most(|one| one.throughput);
    let over = |a: f64, b: f64, otherwise: f64| if b == 0.0 { otherwise } else { a / b - 1.0 };
    let score = |one: &Measured| {
        let mut parts = vec![
            (weights.price, over(one.price, price, 0.0)),
            (weights.uptime, over(uptime, one.uptime, 1.0)),
            (
                weights.throughput,
                over(throughput, one.throughput, 1.0).min(weights.cap),
            ),
        ];
        if stream {
            parts.push((weights.latency, over(one.latency, latency, 0.0)));
        }
        if prompt >= LONG {
            parts.push((weights.cache, if one.cached_price { 0.0 } else { 1.0 }));
        }
        let sum: f64 = parts.iter().map(|(weight, _)| weight).sum();
        let base: f64 = parts.iter().map(|(weight, loss)| weight * loss).sum();
        base / sum + penalty(one.uptime)
    };
    all.iter().map(score).collect()
}

/// Returns the penalty of an uptime below 95 percent.
pub fn penalty(uptime: f64) -> f64 {
    if uptime < 95.0 {
        ((95.0 - uptime) / 95.0 * 5.0).powi(2)
    } else {
        0.0
    }
}

/// One minute of one provider.
#[derive(Clone, Copy, Default)]
struct Minute {
    logs: f64,
    errors: f64,
    ttft: f64,
    output: f64,
    duration: f64,
}

/// LLM Gateway's weighted score.
pub struct LlmGateway {
    minutes: Vec<VecDeque<(u64, Minute)>>,
    /// When the averages were read, and what they were.
    cached: Option<(f64, Vec<Option<Minute>>)>,
    rng: fastrand::Rng,
}

/// The share of requests whose provider is drawn.
const EXPLORATION: f64 = 0.01;
const CACHED: f64 = 10.0;
const ATTEMPTS: usize = 3;

impl LlmGateway {
    pub fn new(providers: usize, seed: u64) -> Self {
        Self {
            minutes: vec![VecDeque::new(); providers],
            cached: None,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn averages(&mut self, now: f64) -> Vec<Option<Minute>> {
        if let Some((at, averages)) = &self.cached
            && now - at < CACHED
        {
            return averages.clone();
        }
        let minute = (now / 60.0) as u64;
        let average = |minutes: &VecDeque<(u64, Minute)>| {
            let mut sum = Minute::default();
            for (at, one) in minutes {
                let weight = match minute - at {
                    0 => 10.0,
                    1..5 => 3.0,
                    5..60 => 1.0,
                    60.. => 0.0,
                };
                sum.logs += weight * one.logs;
                sum.errors += weight * one.errors;
                sum.ttft += weight * one.ttft;
                sum.output += weight * one.output;
                sum.duration += weight * one.duration;
            }
            (sum.logs > 0.0).then_some(sum)
        };
        let averages: Vec<_> = self.minutes.iter().map(average).collect();
        self.cached = Some((now, averages.clone()));
        averages
    }
}

impl Policy for LlmGateway {
    fn order(&mut self, sight: &Sight<'_>) -> Vec<usize> {
        let averages = self.averages(sight.now);
        let measured = averages.iter().zip(sight.prices).map(|(average, price)| {
            let price = (price.0 + price.1) / 2.0;
            match average {
                // Of whom nothing is known is thought well.
                None => Measured {
                    price,
                    uptime: 100.0,
                    latency: 1000.0,
                    throughput: 50.0,
                    cached_price: false,
                },
                Some(sum) => Measured {
                    price,
                    uptime: (sum.logs - sum.errors) / sum.logs * 100.0,
                    latency: sum.ttft / sum.logs * 1000.0,
                    throughput: if sum.duration > 0.0 {
                        sum.output / sum.duration
                    } else {
                        50.0
                    },
                    cached_price: false,
                },
            }
        });
        let measured: Vec<Measured> = measured.collect();
        let scores = scores(&measured, NEWEST, sight.request.stream, sight.request.input);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        if self.rng.f64() < EXPLORATION {
            let drawn = self.rng.usize(..scores.len());
            // All scores are logged as 0: the others follow as they stand.
            order.sort_by_key(|index| *index != drawn);
        } else {
            order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        }
        order.truncate(ATTEMPTS);
        order
    }

    fn wait(&self, _attempt: usize) -> f64 {
        0.0
    }

    fn news(&mut self, provider: usize, request: Request, news: News, now: f64) {
        let minute = (now / 60.0) as u64;
        let minutes = &mut self.minutes[provider];
        if minutes.back().is_none_or(|(at, _)| *at < minute) {
            minutes.push_back((minute, Minute::default()));
            minutes.retain(|(at, _)| minute - at < 60);
        }
        let (_, sum) = minutes.back_mut().expect("pushed above");
        match news {
            News::First { took } if request.stream => sum.ttft += took,
            News::First { .. } => {}
            News::End { generation } => {
                sum.logs += 1.0;
                sum.output += request.output as f64;
                sum.duration += generation;
            }
            News::Failed { .. } => {
                sum.logs += 1.0;
                sum.errors += 1.0;
            }
        }
    }
}

/// Requesty's latency policy, in the best of its descriptions: Thompson sampling from log-normals that fade with a
/// half-life of ten minutes, for small and for large inputs; optimistic where little is known.
pub struct RequestyLatency {
    /// For each provider, small and large: count, sum and squares of the logarithm, and when.
    seen: Vec<[(f64, f64, f64, f64); 2]>,
    rng: fastrand::Rng,
}

const FADE: f64 = 600.0;
const LARGE: u64 = 4000;
const LITTLE: f64 = 5.0;

impl RequestyLatency {
    pub fn new(providers: usize, seed: u64) -> Self {
        Self {
            seen: vec![[(0.0, 0.0, 0.0, 0.0); 2]; providers],
            rng: fastrand::Rng::with_seed(seed),
        }
    }
}

impl Policy for RequestyLatency {
    fn order(&mut self, sight: &Sight<'_>) -> Vec<usize> {
        let large = usize::from(sight.request.input > LARGE);
        let drawn = self.seen.iter().enumerate().map(|(index, seen)| {
            let (count, sum, squares, at) = seen[large];
            let fade = (-(sight.now - at) / FADE).exp2();
            let (count, sum, squares) = (count * fade, sum * fade, squares * fade);
            let value = if count < LITTLE {
                f64::NEG_INFINITY
            } else {
                let mean = sum / count;
                let variance = (squares / count - mean * mean).max(0.01);
                mean + (variance / count).sqrt() * normal(self.rng.f64())
            };
            (value, index)
        });
        let mut drawn: Vec<(f64, usize)> = drawn.collect();
        self.rng.shuffle(&mut drawn);
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
        drawn.into_iter().map(|(_, index)| index).collect()
    }

    fn wait(&self, _attempt: usize) -> f64 {
        0.0
    }

    fn news(&mut self, provider: usize, request: Request, news: News, now: f64) {
        // Streams are known by their first token alone; failures say nothing of latency.
        if let News::First { took } = news
            && request.stream
        {
            let large = usize::from(request.input > LARGE);
            let (count, sum, squares, at) = &mut self.seen[provider][large];
            let fade = (-(now - *at) / FADE).exp2();
            let log = took.max(1e-4).ln();
            *count = *count * fade + 1.0;
            *sum = *sum * fade + log;
            *squares = *squares * fade + log * log;
            *at = now;
        }
    }
}

/// Requesty's fallback chain: each rung twice, half a second apart, in the order of the file.
pub struct RequestyFallback {
    providers: usize,
}

impl RequestyFallback {
    pub fn new(providers: usize) -> Self {
        Self { providers }
    }
}

impl Policy for RequestyFallback {
    fn order(&mut self, _sight: &Sight<'_>) -> Vec<usize> {
        (0..self.providers)
            .flat_map(|index| [index, index])
            .collect()
    }

    fn wait(&self, attempt: usize) -> f64 {
        if attempt % 2 == 1 { 0.5 } else { 0.0 }
    }

    fn news(&mut self, _provider: usize, _request: Request, _news: News, _now: f64) {}
}
