//! Our strategies, as the gateway runs them: the same code ranks, learns and cools down.

use std::time::{Duration, Instant};

use strait::routing::choose::Asked;
use strait::routing::stats::{HALF_LIFE, Stats};
use strait::routing::strategy::rank::{Bill, Ranked, View};
use strait::routing::strategy::score::Weights;
use strait::routing::strategy::{cost, latency, score, weighted};
use strait::routing::{Blame, Cooldowns, Failed, Scope, Standing};

use crate::world::{News, Policy, Request, Sight};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    Weighted,
    Latency,
    Cost,
    Score,
}

pub struct Ours {
    strategy: Strategy,
    start: Instant,
    stats: Vec<Stats>,
    scopes: Vec<Scope>,
    cooldowns: Cooldowns,
    rng: fastrand::Rng,
}

/// The default of `retries.max_attempts`.
const MOST_ATTEMPTS: usize = 4;
/// The default of `retries.backoff`, between rounds over all targets.
const BACKOFF: f64 = 0.25;

impl Ours {
    pub fn new(strategy: Strategy, providers: usize, seed: u64) -> Self {
        let start = Instant::now();
        let scope = |index: usize| Scope::of(Blame::Serving, &index.to_string(), &[]);
        Self {
            strategy,
            start,
            stats: (0..providers)
                .map(|_| Stats::new(HALF_LIFE, start))
                .collect(),
            scopes: (0..providers).map(scope).collect(),
            cooldowns: Cooldowns::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn at(&self, now: f64) -> Instant {
        self.start + Duration::from_secs_f64(now)
    }

    fn rank(&mut self, sight: &Sight<'_>, now: Instant) -> Vec<Ranked> {
        let views: Vec<View<'_>> = self
            .stats
            .iter()
            .enumerate()
            .map(|(index, stats)| {
                let (input, output) = sight.prices[index];
                View {
                    stats,
                    weight: 1,
                    inflight: sight.inflight[index],
                    bill: Some(Bill {
                        input: (input * 1e6) as u64 * sight.request.input,
                        output: (output * 1e6) as u64,
                    }),
                }
            })
            .collect();
        let asked = Asked {
            stream: sight.request.stream,
            input: sight.request.input,
            output: Some(4096),
            session: None,
            difficulty: Default::default(),
        };
        let rng = &mut self.rng;
        match self.strategy {
            Strategy::Weighted => weighted::rank(views.iter().map(|_| (0, 1)), None, rng),
            Strategy::Latency => latency::rank(&views, &asked, now, rng),
            Strategy::Cost => cost::rank(&views, &asked, now, rng),
            Strategy::Score => score::rank(&views, &asked, &Weights::default(), now, rng),
        }
    }
}

impl Policy for Ours {
    fn order(&mut self, sight: &Sight<'_>) -> Vec<usize> {
        let now = self.at(sight.now);
        let ranked = self.rank(sight, now);
        let mut order: Vec<usize> = ranked.iter().map(|ranked| ranked.index).collect();
        let scopes = &self.scopes;
        // Who is cooling is asked when nothing else is left.
        order.sort_by_key(|index| self.cooldowns.standing(scopes[*index], now) != Standing::Good);
        self.cooldowns.asked(scopes[order[0]], now);
        order.into_iter().cycle().take(MOST_ATTEMPTS).collect()
    }

    fn wait(&self, attempt: usize) -> f64 {
        if attempt > 0 && attempt.is_multiple_of(self.stats.len()) {
            BACKOFF
        } else {
            0.0
        }
    }

    fn news(&mut self, provider: usize, request: Request, news: News, now: f64) {
        let now = self.at(now);
        let stats = &self.stats[provider];
        match news {
            News::First { took } => {
                let took = Duration::from_secs_f64(took);
                stats.first_token(request.stream, request.input, took, now);
                stats.succeeded(now);
                self.cooldowns.succeeded(self.scopes[provider], now, now);
            }
            News::End { generation } => {
                let generation = Duration::from_secs_f64(generation);
                stats.finished(request.output, request.stream.then_some(generation), now);
            }
            News::Failed { took } => {
                stats.failed(Duration::from_secs_f64(took), now);
                let failed = Failed {
                    scope: self.scopes[provider],
                    blame: Blame::Serving,
                    provider: "",
                    name: &String::new,
                    reason: "status",
                    told: None,
                    asked: now,
                };
                self.cooldowns.failed(&failed, now);
            }
        }
    }
}
