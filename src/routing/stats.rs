//! What asking a provider's model has taught: how soon it answers, how often, how fast and how much it writes.
//!
//! The logarithm of a latency is taken to be normal around a level that wanders (a Kalman filter): many
//! observations make the level certain, and time makes it uncertain again, so that in one half-life without news
//! what is known becomes worth no more than one fresh observation. Streams (time to the first token) and whole
//! answers (time to the end) are kept apart, and so are prompts of different size: all of them are other numbers.
//! Whether it answers at all is a Beta posterior whose counts fade; one failure in a quiet minute proves little.
//!
//! Only what reached the provider and speaks of it is counted: no cached answers, no errors of the client, and a
//! failure says nothing of latency, however fast it came.
//!
//! Read without a lock, for hundreds of targets in one choice; an observation holds a lock of its own for some tens
//! of nanoseconds. A reader may see the halves of two neighbouring observations, which are as good as one.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A level that nobody configured forgets in this time.
pub const HALF_LIFE: Duration = Duration::from_secs(600);

/// Prompts up to so many tokens are of one size; those above the last are one more.
const SIZES: [u64; 4] = [1_000, 4_000, 16_000, 64_000];
const BUCKETS: usize = SIZES.len() + 1;

/// The variance of the logarithm of one latency before any was seen: a third of them are off by half or more.
const NOISE: f32 = 0.25;
/// That guess counts as so many observations.
const NOISE_WEIGHT: f32 = 4.0;
const NOISE_LEAST: f32 = 0.01;
const NOISE_MOST: f32 = 4.0;
/// The variance of a level of which nothing is known.
const UNKNOWN: f32 = 1.0;
/// In one half-life a level wanders by this part of the variance of the noise: a provider that is steady within a
/// minute may still be another one in an hour. What wanders with the noise follows a jump as fast as a slope.
const WANDER: f32 = 0.4;
/// What is known of another size of prompt is off by this variance for each step.
const STEP: f32 = 0.25;

/// Counts fade with each further one as if there had never been more than this: what happens now is seen within
/// some dozens of requests, however busy the hour before was.
const MEMORY: f32 = 100.0;
/// How much a model writes depends on what it is asked, and hardly on the hour.
const LONG_MEMORY: f32 = 2000.0;
/// Answers fade this many times as fast as latencies: outages are shorter than slowness.
const HASTE: f32 = 4.0;
/// Before any answer a target counts as having answered 9.8 of 10 requests.
const PRIOR: f32 = 10.0;
const PRIOR_ANSWERED: f32 = 9.8;
/// A quantile is told from so many observations on.
const LEAST: f32 = 5.0;
/// No model writes faster; a provider that sends its stream in one piece only seems to.
const FASTEST: f32 = 5_000.0;

/// What is known of one provider's model. Shared by every route to it, and kept across reloads.
pub struct Stats {
    born: Instant,
    /// The bits of its seconds.
    half_life: AtomicU32,
    writing: Mutex<()>,
    /// The time to the first token of streams.
    streams: [Level; BUCKETS],
    /// The time to the end of whole answers.
    wholes: [Level; BUCKETS],
    answers: Counts,
    /// The seconds that failures took, and their number.
    failures: Counts,
    /// Tokens written, and the seconds that took.
    speed: Counts,
    /// Tokens written, and the answers that took.
    output: Counts,
}

/// What a latency is thought to be: the logarithm of its seconds is normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub mean: f32,
    /// Of the mean: how sure it is.
    pub variance: f32,
    /// Of one latency around the mean.
    pub noise: f32,
}

/// What is thought of the chance of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Availability {
    pub mean: f32,
    pub deviation: f32,
}

impl Estimate {
    /// Of what nothing was seen.
    pub const UNKNOWN: Estimate = Estimate {
        mean: 0.0,
        variance: UNKNOWN,
        noise: NOISE,
    };
}

impl Availability {
    /// Returns what it may well be: a few failures of a few requests may be bad luck.
    pub fn likely(self) -> f32 {
        (self.mean + self.deviation).min(1.0)
    }
}

impl Stats {
    pub fn new(half_life: Duration, now: Instant) -> Self {
        Self {
            born: now,
            half_life: AtomicU32::new(half_life.as_secs_f32().max(1.0).to_bits()),
            writing: Mutex::default(),
            streams: Default::default(),
            wholes: Default::default(),
            answers: Counts::default(),
            failures: Counts::default(),
            speed: Counts::default(),
            output: Counts::default(),
        }
    }

    /// What is seen from now on, and what was, fades with this half-life.
    pub fn set_half_life(&self, half_life: Duration) {
        let seconds = half_life.as_secs_f32().max(1.0);
        self.half_life.store(seconds.to_bits(), Ordering::Relaxed);
    }

    fn half_life(&self) -> f32 {
        f32::from_bits(self.half_life.load(Ordering::Relaxed))
    }

    /// Notes when the first token of a stream came, or the whole of an answer that is none.
    pub fn first_token(&self, stream: bool, input_tokens: u64, took: Duration, now: Instant) {
        let at = self.at(now);
        let seconds = took.as_secs_f32().max(1e-4);
        let level = &self.levels(stream)[bucket(input_tokens)];
        let _writing = self.writing.lock();
        level.observe(seconds.ln(), at, self.half_life());
    }

    /// Notes how long an answer became, and how long a stream went on from its first token to its end.
    pub fn finished(&self, output_tokens: u64, generation: Option<Duration>, now: Instant) {
        let at = self.at(now);
        let tokens = output_tokens as f32;
        let _writing = self.writing.lock();
        self.output
            .add((tokens, 1.0), LONG_MEMORY, at, self.half_life());
        if let Some(generation) = generation
            && output_tokens > 1
        {
            let seconds = generation.as_secs_f32().max(tokens / FASTEST);
            self.speed
                .add((tokens, seconds), MEMORY, at, self.half_life());
        }
    }

    /// Notes that it answered.
    pub fn succeeded(&self, now: Instant) {
        let (at, half_life) = (self.at(now), self.half_life() / HASTE);
        let _writing = self.writing.lock();
        self.answers.add((1.0, 0.0), MEMORY, at, half_life);
    }

    /// Notes a failure that was its own, and how long that took.
    pub fn failed(&self, took: Duration, now: Instant) {
        let (at, half_life) = (self.at(now), self.half_life() / HASTE);
        let _writing = self.writing.lock();
        self.answers.add((0.0, 1.0), MEMORY, at, half_life);
        let took = (took.as_secs_f32(), 1.0);
        self.failures.add(took, MEMORY, at, self.half_life());
    }

    /// Returns what is known of the latency of such a request: from prompts of its own size, else of the nearest.
    pub fn latency(&self, stream: bool, input_tokens: u64, now: Instant) -> Option<Estimate> {
        let levels = self.levels(stream);
        let own = bucket(input_tokens);
        let at = self.at(now);
        if let Some(estimate) = levels[own].estimate(at, self.half_life()) {
            return Some(estimate);
        }
        (1..BUCKETS).find_map(|far| {
            let below = own.checked_sub(far).map(|near| &levels[near]);
            let near = [below, levels.get(own + far)];
            let mut near = near.into_iter().flatten();
            let mut estimate = near.find_map(|level| level.estimate(at, self.half_life()))?;
            estimate.variance = (estimate.variance + STEP * far as f32).min(UNKNOWN);
            Some(estimate)
        })
    }

    /// Returns the latency that a share `p` of such requests stay below; `None` while too few were seen.
    pub fn quantile(
        &self,
        p: f64,
        stream: bool,
        input_tokens: u64,
        now: Instant,
    ) -> Option<Duration> {
        let level = &self.levels(stream)[bucket(input_tokens)];
        let at = self.at(now);
        if level.seen(at, self.half_life()) < LEAST {
            return None;
        }
        let Estimate {
            mean,
            variance,
            noise,
        } = level.estimate(at, self.half_life())?;
        let deviation = f64::from(variance + noise).sqrt();
        let seconds = (f64::from(mean) + deviation * normal(p)).exp();
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Returns the chance that it answers.
    pub fn availability(&self, now: Instant) -> Availability {
        let (good, bad) = self.answers.read(self.at(now), self.half_life() / HASTE);
        let count = PRIOR + good + bad;
        let mean = (PRIOR_ANSWERED + good) / count;
        Availability {
            mean,
            deviation: (mean * (1.0 - mean) / (count + 1.0)).sqrt(),
        }
    }

    /// Returns the seconds that it takes to fail, on average; 0 where it never did.
    pub fn failure(&self, now: Instant) -> f32 {
        let (seconds, count) = self.failures.read(self.at(now), self.half_life());
        if count > 0.0 { seconds / count } else { 0.0 }
    }

    /// Returns the tokens a second that it writes.
    pub fn throughput(&self, now: Instant) -> Option<f32> {
        let (tokens, seconds) = self.speed.read(self.at(now), self.half_life());
        (seconds > 0.0).then(|| tokens / seconds)
    }

    /// Returns how many tokens it has written of late, and in how many answers.
    pub fn output(&self, now: Instant) -> (f32, f32) {
        self.output.read(self.at(now), self.half_life())
    }

    fn levels(&self, stream: bool) -> &[Level; BUCKETS] {
        if stream { &self.streams } else { &self.wholes }
    }

    /// Hundredths of a second since it was made, never 0: the clock of everything here.
    fn at(&self, now: Instant) -> u32 {
        let hundredths = now.saturating_duration_since(self.born).as_millis() / 10;
        u32::try_from(hundredths)
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }
}

/// Returns the tokens that stand for all prompts of a size.
pub(super) fn size(input_tokens: u64) -> u64 {
    let above = SIZES[SIZES.len() - 1] + 1;
    *SIZES.get(bucket(input_tokens)).unwrap_or(&above)
}

fn bucket(input_tokens: u64) -> usize {
    SIZES
        .iter()
        .position(|most| input_tokens <= *most)
        .unwrap_or(SIZES.len())
}

/// Seconds between two times of [`Stats::at`].
fn seconds(from: u32, to: u32) -> f32 {
    to.saturating_sub(from) as f32 / 100.0
}

/// A latency's logarithm: a level that wanders.
#[derive(Default)]
struct Level {
    /// The mean and its variance.
    mean: Pair,
    /// The noise: squares of what was off, and their number.
    noise: Pair,
    /// 0: nothing was seen.
    at: AtomicU32,
}

impl Level {
    /// The caller holds the lock.
    fn observe(&self, log: f32, at: u32, half_life: f32) {
        let (mut squares, mut count) = self.noise.load();
        match self.estimate(at, half_life) {
            None => self.mean.store(log, NOISE),
            Some(before) => {
                let off = log - before.mean;
                let gain = before.variance / (before.variance + before.noise);
                let mean = before.mean + gain * off;
                self.mean.store(mean, before.variance * (1.0 - gain));
                let idle = seconds(self.at.load(Ordering::Relaxed), at);
                let fade = fade(idle, half_life) * (1.0 - 1.0 / MEMORY);
                // What is off before times what is off after has the noise as its mean, whatever the gain.
                squares = squares * fade + off * (log - mean);
                count *= fade;
            }
        }
        self.noise.store(squares, count + 1.0);
        self.at.fetch_max(at, Ordering::Relaxed);
    }

    fn estimate(&self, at: u32, half_life: f32) -> Option<Estimate> {
        let seen = self.at.load(Ordering::Relaxed);
        if seen == 0 {
            return None;
        }
        let (mean, variance) = self.mean.load();
        let (squares, count) = self.noise.load();
        let noise = (NOISE * NOISE_WEIGHT + squares) / (NOISE_WEIGHT + count);
        let noise = noise.clamp(NOISE_LEAST, NOISE_MOST);
        let wandered = WANDER * noise.max(NOISE) * seconds(seen, at) / half_life;
        Some(Estimate {
            mean,
            variance: (variance + wandered).min(UNKNOWN),
            noise,
        })
    }

    fn seen(&self, at: u32, half_life: f32) -> f32 {
        let idle = seconds(self.at.load(Ordering::Relaxed), at);
        self.noise.load().1 * fade(idle, half_life)
    }
}

/// Two sums that fade with time, and with each addition.
#[derive(Default)]
struct Counts {
    sums: Pair,
    at: AtomicU32,
}

impl Counts {
    /// The caller holds the lock.
    fn add(&self, (a, b): (f32, f32), memory: f32, at: u32, half_life: f32) {
        let (before_a, before_b) = self.read(at, half_life);
        let fade = 1.0 - 1.0 / memory;
        self.sums.store(before_a * fade + a, before_b * fade + b);
        self.at.fetch_max(at, Ordering::Relaxed);
    }

    fn read(&self, at: u32, half_life: f32) -> (f32, f32) {
        let (a, b) = self.sums.load();
        let fade = fade(seconds(self.at.load(Ordering::Relaxed), at), half_life);
        (a * fade, b * fade)
    }
}

/// What is left of a sum after some seconds.
fn fade(seconds: f32, half_life: f32) -> f32 {
    // Most readings come right after the last observation, and an exponential costs more than all the rest.
    if seconds * 256.0 < half_life {
        return 1.0 - seconds / half_life * std::f32::consts::LN_2;
    }
    (-seconds / half_life).exp2()
}

/// Two numbers that are read together.
#[derive(Default)]
struct Pair(AtomicU64);

impl Pair {
    fn load(&self) -> (f32, f32) {
        let bits = self.0.load(Ordering::Relaxed);
        (
            f32::from_bits((bits >> 32) as u32),
            f32::from_bits(bits as u32),
        )
    }

    fn store(&self, a: f32, b: f32) {
        let bits = u64::from(a.to_bits()) << 32 | u64::from(b.to_bits());
        self.0.store(bits, Ordering::Relaxed);
    }
}

/// Returns the value that a standard normal stays below with probability `p` (Acklam; off by 1e-9 at most).
pub fn normal(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 5] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 4] = [
        7.784695709041462e-3,
        3.224671290700398e-1,
        2.445134137142996,
        3.754408661907416,
    ];
    const TAIL: f64 = 0.02425;
    let p = p.clamp(1e-12, 1.0 - 1e-12);
    let polynomial = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    };
    if p < TAIL {
        tail(p)
    } else if p > 1.0 - TAIL {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / (polynomial(&B, r) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stats() -> (Stats, Instant) {
        let now = Instant::now();
        (Stats::new(HALF_LIFE, now), now)
    }

    fn mean(stats: &Stats, stream: bool, input: u64, now: Instant) -> f32 {
        let estimate = stats.latency(stream, input, now);
        estimate.expect("something was seen").mean.exp()
    }

    #[test]
    fn a_level_follows_what_is_seen_and_jumps_within_a_minute_of_traffic() {
        let (stats, start) = stats();
        let mut now = start;
        for _ in 0..1000 {
            now += SECOND / 10;
            stats.first_token(true, 100, SECOND / 2, now);
        }
        let before = mean(&stats, true, 100, now);
        assert!((before - 0.5).abs() < 0.01, "{before}");
        for _ in 0..300 {
            now += SECOND / 10;
            stats.first_token(true, 100, SECOND * 5, now);
        }
        let after = mean(&stats, true, 100, now);
        assert!(
            after > 3.0,
            "half a minute later it should be on its way to 5: {after}"
        );
    }

    #[test]
    fn without_news_certainty_is_lost() {
        let (stats, start) = stats();
        for tick in 0..100 {
            stats.first_token(true, 100, SECOND, start + SECOND / 10 * tick);
        }
        let variance = |after| {
            let estimate = stats.latency(true, 100, start + after);
            estimate.expect("something was seen")
        };
        let fresh = variance(SECOND * 10);
        let later = variance(SECOND * 10 + HALF_LIFE);
        assert!(fresh.variance < fresh.noise / 10.0, "{fresh:?}");
        assert!(
            later.variance >= later.noise,
            "worth no more than one observation: {later:?}"
        );
        let never = variance(HALF_LIFE * 10_000);
        assert_eq!(never.variance, UNKNOWN, "and never less sure than at first");
    }

    #[test]
    fn streams_whole_answers_and_sizes_are_kept_apart() {
        let (stats, now) = stats();
        for _ in 0..50 {
            stats.first_token(true, 100, SECOND / 4, now);
            stats.first_token(false, 100, SECOND * 20, now);
            stats.first_token(true, 30_000, SECOND * 3, now);
        }
        assert!((mean(&stats, true, 100, now) - 0.25).abs() < 0.01);
        assert!((mean(&stats, false, 100, now) - 20.0).abs() < 0.1);
        assert!((mean(&stats, true, 30_000, now) - 3.0).abs() < 0.1);
    }

    #[test]
    fn an_unseen_size_borrows_from_its_neighbour_and_is_unsure() {
        let (stats, now) = stats();
        for _ in 0..50 {
            stats.first_token(true, 100, SECOND / 4, now);
        }
        let own = stats.latency(true, 100, now).expect("seen");
        let near = stats.latency(true, 2_000, now).expect("borrowed");
        let far = stats.latency(true, 1_000_000, now).expect("borrowed");
        assert_eq!(near.mean, own.mean);
        assert!(near.variance > own.variance && far.variance > near.variance);
        assert_eq!(
            stats.latency(false, 100, now),
            None,
            "never from the other kind"
        );
    }

    #[test]
    fn a_failure_says_nothing_of_latency() {
        let (stats, now) = stats();
        for _ in 0..20 {
            stats.first_token(true, 100, SECOND, now);
        }
        let before = stats.latency(true, 100, now);
        for _ in 0..200 {
            stats.failed(SECOND, now);
        }
        assert_eq!(stats.latency(true, 100, now), before);
        assert!(stats.availability(now).mean < 0.2);
    }

    #[test]
    fn one_failure_in_a_quiet_minute_proves_little() {
        let (stats, now) = stats();
        stats.failed(SECOND, now);
        let Availability { mean, deviation } = stats.availability(now);
        assert!(mean > 0.85 && mean + deviation > 0.95, "{mean} {deviation}");
    }

    #[test]
    fn availability_sees_an_outage_soon_and_forgives_it_in_time() {
        let (stats, start) = stats();
        let mut now = start;
        for _ in 0..10_000 {
            now += SECOND / 10;
            stats.succeeded(now);
        }
        assert!(stats.availability(now).mean > 0.99);
        for turn in 0..100 {
            now += SECOND / 10;
            if turn % 2 == 0 {
                stats.failed(SECOND, now);
            } else {
                stats.succeeded(now);
            }
        }
        let during = stats.availability(now).mean;
        assert!(
            during < 0.75,
            "ten seconds of every second failing: {during}"
        );
        let after = stats.availability(now + HALF_LIFE).mean;
        assert!(after > 0.85, "forgiven without any traffic: {after}");
    }

    #[test]
    fn throughput_and_output_are_means_of_what_was_written() {
        let (stats, now) = stats();
        assert_eq!(stats.throughput(now), None);
        for _ in 0..10 {
            stats.finished(200, Some(SECOND * 4), now);
            stats.finished(400, None, now);
        }
        let speed = stats.throughput(now).expect("seen");
        assert!((speed - 50.0).abs() < 0.1, "{speed}");
        let (tokens, answers) = stats.output(now);
        assert!((tokens / answers - 300.0).abs() < 2.0, "{tokens} {answers}");
        stats.finished(1000, Some(Duration::ZERO), now);
        assert!(stats.throughput(now).is_some_and(|speed| speed <= FASTEST));
    }

    #[test]
    fn a_quantile_needs_a_sample_and_holds_what_it_says() {
        let (stats, start) = stats();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut now = start;
        assert_eq!(stats.quantile(0.95, true, 10, now), None);
        for _ in 0..2000 {
            now += SECOND / 20;
            let log = -1.0 + 0.6 * normal(rng.f64());
            stats.first_token(true, 10, Duration::from_secs_f64(log.exp()), now);
        }
        for p in [0.5, 0.9, 0.95, 0.99] {
            let limit = stats.quantile(p, true, 10, now).expect("enough was seen");
            let below = (0..20_000)
                .filter(|_| (-1.0 + 0.6 * normal(rng.f64())).exp() < limit.as_secs_f64());
            let share = below.count() as f64 / 20_000.0;
            assert!((share - p).abs() < 0.06, "{p}: {share}");
        }
        let long_after = now + HALF_LIFE * 20;
        assert_eq!(
            stats.quantile(0.95, true, 10, long_after),
            None,
            "what was seen is forgotten"
        );
    }

    #[test]
    fn the_normal_quantile_is_right_in_the_middle_and_in_the_tails() {
        for (p, value) in [
            (0.5, 0.0),
            (0.975, 1.959964),
            (0.01, -2.326348),
            (0.999, 3.090232),
        ] {
            assert!((normal(p) - value).abs() < 1e-5, "{p}");
        }
    }

    #[test]
    fn no_clock_and_no_number_breaks_it() {
        let (stats, start) = stats();
        let far = start + Duration::from_secs(1 << 33);
        for now in [far, start, far] {
            stats.first_token(true, u64::MAX, Duration::MAX, now);
            stats.first_token(true, 0, Duration::ZERO, now);
            stats.finished(u64::MAX, Some(Duration::MAX), now);
            stats.succeeded(now);
            stats.failed(Duration::MAX, now);
            assert!(stats.failure(now).is_finite());
            let estimate = stats.latency(true, 0, now).expect("seen");
            assert!(
                estimate.mean.is_finite()
                    && estimate.variance.is_finite()
                    && estimate.noise.is_finite()
            );
            assert!(stats.availability(now).mean.is_finite());
            assert!(stats.output(now).0.is_finite());
            assert!(stats.throughput(now).is_none_or(f32::is_finite));
        }
    }
}
