//! The arms of experiments: what each answered, how fast, and what it cost.
//!
//! Only arms of the configuration are counted, so there are as many rows as somebody wrote.

use prometheus::{
    CounterVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, core::Collector,
};

use super::record::Record;

/// Upper bounds, in seconds: doubling from 10 ms.
const SECONDS: [f64; 15] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
];

pub struct Arms {
    requests: IntCounterVec,
    duration: HistogramVec,
    ttft: HistogramVec,
    cost: CounterVec,
    tokens: IntCounterVec,
}

impl Arms {
    pub fn new(registry: &Registry) -> Self {
        let labels = ["model", "arm"];
        let times = |name: &str, help: &str| {
            let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            register(registry, HistogramVec::new(opts, &labels))
        };
        Self {
            requests: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "strait_arm_requests_total",
                        "Requests by the arm that they fell to: by status, or `failover` where another answered.",
                    ),
                    &["model", "arm", "status"],
                ),
            ),
            duration: times(
                "strait_arm_duration_seconds",
                "From the request's first byte to the answer's last, by arm.",
            ),
            ttft: times(
                "strait_arm_time_to_first_token_seconds",
                "From the request to a stream's first token, by arm.",
            ),
            cost: register(
                registry,
                CounterVec::new(
                    Opts::new("strait_arm_cost_usd_total", "Cost in US dollars, by arm."),
                    &labels,
                ),
            ),
            tokens: register(
                registry,
                IntCounterVec::new(
                    Opts::new("strait_arm_tokens_total", "Tokens used, by arm."),
                    &["model", "arm", "type"],
                ),
            ),
        }
    }

    pub fn observe(&self, record: &Record) {
        let Some(arms) = &record.arms else { return };
        let model = &*arms.model;
        if let Some(assigned) = arms.missed() {
            let labels = [model, assigned, "failover"];
            self.requests.with_label_values(&labels).inc();
        }
        let Some(arm) = arms.arm() else { return };
        let class = match record.status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[model, arm, class]).inc();
        let labels = [model, arm];
        let seconds = record.duration.as_secs_f64();
        self.duration.with_label_values(&labels).observe(seconds);
        if let Some(ttft) = record.ttft {
            self.ttft
                .with_label_values(&labels)
                .observe(ttft.as_secs_f64());
        }
        if let Some(pico) = record.cost_pico {
            self.cost
                .with_label_values(&labels)
                .inc_by(pico as f64 / 1e12);
        }
        if let Some(usage) = &record.usage {
            for (kind, count) in [("input", usage.input), ("output", usage.output)] {
                let labels = [model, arm, kind];
                self.tokens.with_label_values(&labels).inc_by(count);
            }
        }
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("names and labels are constants that a test makes");
    registry
        .register(Box::new(metric.clone()))
        .expect("every name is used once, and a test makes them all");
    metric
}
