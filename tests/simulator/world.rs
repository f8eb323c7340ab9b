//! The world: requests that come, providers that answer, and a clock that jumps from one event to the next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use strait::routing::stats::normal;

/// How a provider is at one moment.
#[derive(Clone, Copy)]
pub struct Provider {
    /// The median time to the first token of a short prompt, in seconds.
    pub ttft: f64,
    /// The deviation of its logarithm.
    pub noise: f64,
    /// Tokens a second.
    pub speed: f64,
    /// The share of requests that fail.
    pub failing: f64,
    /// How long a failure takes.
    pub fails_after: f64,
    /// Requests in flight at which it answers half as fast; three times as many are refused.
    pub capacity: f64,
    /// Dollars per million tokens.
    pub price: (f64, f64),
}

pub const USUAL: Provider = Provider {
    ttft: 0.6,
    noise: 0.4,
    speed: 60.0,
    failing: 0.005,
    fails_after: 1.0,
    capacity: f64::INFINITY,
    price: (1.0, 4.0),
};

pub struct Scenario {
    pub name: &'static str,
    pub seconds: f64,
    /// Requests a second.
    pub rate: f64,
    pub providers: usize,
    pub at: fn(usize, f64) -> Provider,
}

#[derive(Clone, Copy)]
pub struct Request {
    pub stream: bool,
    pub input: u64,
    pub output: u64,
}

/// What a policy learns, when it happens.
#[derive(Clone, Copy)]
pub enum News {
    /// The first token of a stream, or the whole of another answer.
    First {
        took: f64,
    },
    /// The end; `generation` is the time since the first token.
    End {
        generation: f64,
    },
    Failed {
        took: f64,
    },
}

/// What a policy sees when it chooses.
pub struct Sight<'a> {
    pub now: f64,
    pub request: Request,
    pub inflight: &'a [u32],
    /// Dollars per million tokens, of now.
    pub prices: &'a [(f64, f64)],
}

/// Who is asked, and how often.
pub trait Policy {
    /// Returns the providers in the order of asking; one may come twice.
    fn order(&mut self, sight: &Sight<'_>) -> Vec<usize>;
    /// Returns how long to wait before the attempt, the first being 0.
    fn wait(&self, attempt: usize) -> f64;
    fn news(&mut self, provider: usize, request: Request, news: News, now: f64);
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Dollars for a thousand requests.
    pub cost: f64,
    /// Of streams: seconds from the request to its first token, failed attempts included.
    pub p50: f64,
    pub p95: f64,
    /// The share of requests that no attempt answered.
    pub failed: f64,
    /// The share of attempts that failed.
    pub wasted: f64,
}

enum Event {
    Request,
    Attempt(Job),
    Failure(Job),
    First(Job),
    End(Job),
}

struct Job {
    request: Request,
    came: f64,
    order: Vec<usize>,
    attempt: usize,
    began: f64,
    generation: f64,
    price: (f64, f64),
}

struct Timed {
    at: f64,
    /// Events of one time in the order in which they were made.
    turn: u64,
    event: Event,
}

struct World<'a> {
    scenario: &'a Scenario,
    rng: fastrand::Rng,
    events: BinaryHeap<Timed>,
    turn: u64,
    inflight: Vec<u32>,
    firsts: Vec<f64>,
    cost: f64,
    requests: u64,
    failed: u64,
    attempts: u64,
    wasted: u64,
}

/// Runs `policy` through `scenario`. The same seed brings the same requests.
pub fn run(scenario: &Scenario, policy: &mut dyn Policy, seed: u64) -> Outcome {
    let mut world = World {
        scenario,
        rng: fastrand::Rng::with_seed(seed),
        events: BinaryHeap::new(),
        turn: 0,
        inflight: vec![0; scenario.providers],
        firsts: Vec::new(),
        cost: 0.0,
        requests: 0,
        failed: 0,
        attempts: 0,
        wasted: 0,
    };
    let mut coming = fastrand::Rng::with_seed(seed ^ 0xc0ffee);
    world.plan(0.0, Event::Request);
    while let Some(Timed { at, event, .. }) = world.events.pop() {
        match event {
            Event::Request => {
                let request = request(&mut coming);
                let next = at - (1.0 - coming.f64()).ln() / scenario.rate;
                if next < scenario.seconds {
                    world.plan(next, Event::Request);
                }
                world.come(request, policy, at);
            }
            Event::Attempt(job) => world.attempt(job, at),
            Event::Failure(job) => world.fail(job, policy, at),
            Event::First(job) => world.first(job, policy, at),
            Event::End(job) => world.end(job, policy, at),
        }
    }
    world.outcome()
}

/// Prompts of some hundred to some ten thousand tokens; one in five is no stream.
fn request(rng: &mut fastrand::Rng) -> Request {
    let mut log_normal =
        |median: f64, deviation: f64| median * (deviation * normal(rng.f64())).exp();
    let input = log_normal(1500.0, 1.3).clamp(20.0, 150_000.0);
    let output = log_normal(250.0, 0.7).clamp(5.0, 4000.0);
    Request {
        stream: rng.f64() < 0.8,
        input: input as u64,
        output: output as u64,
    }
}

impl World<'_> {
    fn plan(&mut self, at: f64, event: Event) {
        self.turn += 1;
        let turn = self.turn;
        self.events.push(Timed { at, turn, event });
    }

    fn come(&mut self, request: Request, policy: &mut dyn Policy, now: f64) {
        self.requests += 1;
        let providers = 0..self.scenario.providers;
        let prices: Vec<_> = providers
            .map(|index| (self.scenario.at)(index, now).price)
            .collect();
        let order = policy.order(&Sight {
            now,
            request,
            inflight: &self.inflight,
            prices: &prices,
        });
        let job = Job {
            request,
            came: now,
            order,
            attempt: 0,
            began: now,
            generation: 0.0,
            price: (0.0, 0.0),
        };
        self.plan(now + policy.wait(0), Event::Attempt(job));
    }

    fn attempt(&mut self, mut job: Job, now: f64) {
        let index = job.order[job.attempt];
        let provider = (self.scenario.at)(index, now);
        let load = f64::from(self.inflight[index]) / provider.capacity;
        self.inflight[index] += 1;
        self.attempts += 1;
        job.began = now;
        job.price = provider.price;
        if load >= 3.0 {
            return self.plan(now + 0.05, Event::Failure(job));
        }
        if self.rng.f64() < provider.failing {
            return self.plan(now + provider.fails_after, Event::Failure(job));
        }
        // Long prompts take longer to read.
        let reading = 1.0 + job.request.input as f64 / 8000.0;
        let slow = 1.0 + load * load;
        let noise = (provider.noise * normal(self.rng.f64())).exp();
        let ttft = provider.ttft * reading * slow * noise;
        let pace = (0.15 * normal(self.rng.f64())).exp() / slow;
        job.generation = job.request.output as f64 / (provider.speed * pace);
        self.plan(now + ttft, Event::First(job));
    }

    fn fail(&mut self, mut job: Job, policy: &mut dyn Policy, now: f64) {
        let index = job.order[job.attempt];
        self.inflight[index] -= 1;
        self.wasted += 1;
        let took = now - job.began;
        policy.news(index, job.request, News::Failed { took }, now);
        job.attempt += 1;
        if job.attempt == job.order.len() {
            self.failed += 1;
            return;
        }
        self.plan(now + policy.wait(job.attempt), Event::Attempt(job));
    }

    fn first(&mut self, job: Job, policy: &mut dyn Policy, now: f64) {
        if job.request.stream {
            self.firsts.push(now - job.came);
            let took = now - job.began;
            policy.news(
                job.order[job.attempt],
                job.request,
                News::First { took },
                now,
            );
        }
        self.plan(now + job.generation, Event::End(job));
    }

    fn end(&mut self, job: Job, policy: &mut dyn Policy, now: f64) {
        let index = job.order[job.attempt];
        self.inflight[index] -= 1;
        let (input, output) = job.price;
        let Request {
            input: read,
            output: wrote,
            stream,
        } = job.request;
        self.cost += (read as f64 * input + wrote as f64 * output) / 1e6;
        if !stream {
            let took = now - job.began;
            policy.news(index, job.request, News::First { took }, now);
        }
        let generation = job.generation;
        policy.news(index, job.request, News::End { generation }, now);
    }

    fn outcome(mut self) -> Outcome {
        self.firsts.sort_unstable_by(f64::total_cmp);
        let share = |p: f64| self.firsts[((self.firsts.len() - 1) as f64 * p) as usize];
        let requests = self.requests as f64;
        Outcome {
            cost: self.cost / (requests - self.failed as f64) * 1000.0,
            p50: share(0.5),
            p95: share(0.95),
            failed: self.failed as f64 / requests,
            wasted: self.wasted as f64 / self.attempts as f64,
        }
    }
}

impl Ord for Timed {
    /// The heap gives its greatest first: that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        let later = self.at.total_cmp(&other.at);
        later.then(self.turn.cmp(&other.turn)).reverse()
    }
}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timed {}
