//! A histogram of durations made of relaxed atomics, and its Prometheus form.
//!
//! The `prometheus` crate's own keeps its count, its sum and its buckets consistent with a spin lock that every
//! observation pays for; here the count is the sum of the buckets, so nothing can disagree.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::proto;

/// Bounds of durations in nanoseconds; `N` counts the buckets, one more than the bounds.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    sum_ns: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; N],
            sum_ns: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Histogram<N> {
    #[inline]
    pub fn observe(&self, bounds_ns: &[u64], time: Duration) {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let at = bounds_ns
            .iter()
            .take_while(|bound| time_ns > **bound)
            .count()
            .min(N - 1);
        self.buckets[at].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(time_ns, Relaxed);
    }

    /// Adds what was counted elsewhere, with the same bounds.
    pub fn add(&self, buckets: &[u32; N], sum_ns: u64) {
        for (mine, theirs) in self.buckets.iter().zip(buckets) {
            if *theirs > 0 {
                mine.fetch_add(u64::from(*theirs), Relaxed);
            }
        }
        self.sum_ns.fetch_add(sum_ns, Relaxed);
    }

    pub fn read_into(&self, total: &mut Total<N>) {
        for (theirs, mine) in total.buckets.iter_mut().zip(&self.buckets) {
            *theirs += mine.load(Relaxed);
        }
        total.sum_ns += u128::from(self.sum_ns.load(Relaxed));
    }
}

/// The sum of several histograms at one moment.
#[derive(Debug)]
pub struct Total<const N: usize> {
    buckets: [u64; N],
    sum_ns: u128,
}

impl<const N: usize> Default for Total<N> {
    fn default() -> Self {
        Self {
            buckets: [0; N],
            sum_ns: 0,
        }
    }
}

impl<const N: usize> Total<N> {
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|count| *count == 0)
    }

    pub fn export(&self, bounds_ns: &[u64]) -> proto::Histogram {
        let mut seen = 0;
        let mut buckets = Vec::with_capacity(bounds_ns.len());
        for (count, bound) in self.buckets.iter().zip(bounds_ns) {
            seen += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(seen);
            bucket.set_upper_bound(seconds(u128::from(*bound)));
            buckets.push(bucket);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(self.buckets.iter().sum());
        histogram.set_sample_sum(seconds(self.sum_ns));
        histogram
    }
}

fn seconds(ns: u128) -> f64 {
    // Divided, not multiplied by 1e-9: 10 ms must print as 0.01.
    ns as f64 / 1e9
}
