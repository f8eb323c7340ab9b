//! The tables that `strait router` prints.

use std::fmt::Write as _;

use super::Common;
use crate::routing::smart::Trained;
use crate::routing::smart::measure::{self, Curve, Interval};
use crate::routing::smart::rows::{Costs, Row};

/// A set of rows, and how a router does on it.
pub struct Group {
    pub name: String,
    pub count: usize,
    pub curve: Curve,
    /// One that knows nothing.
    pub random: Curve,
    /// One that knows the outcomes.
    perfect: Curve,
    drawn: Vec<Curve>,
}

/// How often the rows are drawn again for a confidence interval.
const DRAWS: usize = 1000;

impl Group {
    pub fn new(name: &str, rows: &[&Row], scores: &[f32], costs: Costs, seed: u64) -> Self {
        let known: Vec<f32> = rows.iter().map(|row| row.gain()).collect();
        Self {
            name: name.to_owned(),
            count: rows.len(),
            curve: Curve::new(rows, scores, costs),
            random: super::random(rows, costs),
            perfect: Curve::new(rows, &known, costs),
            drawn: measure::bootstrap(rows, scores, costs, DRAWS, seed),
        }
    }

    fn interval(&self, of: impl Fn(&Curve) -> Option<f64>) -> Option<Interval> {
        measure::interval(&self.curve, &self.drawn, of)
    }
}

/// Says what a model is made of.
pub fn learned(trained: &Trained) -> String {
    let classifier = &trained.classifier;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Learned: penalty {}, {} trees, {:.0} % of the prediction by trees.",
        trained.penalty,
        classifier.trees(),
        trained.mix * 100.0
    );
    let _ = writeln!(
        text,
        "What moves the prediction most (gain by deviation; for open questions):"
    );
    for (name, weight, open) in classifier.strongest().into_iter().take(12) {
        let _ = writeln!(text, "  {name:26} {weight:+.4}  {open:+.4}");
    }
    text
}

/// APGR and CPT of each set, against random routing and perfect knowledge.
pub fn measures(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        let _ = writeln!(
            text,
            "{}: {} prompts; quality {:.1} % weak, {:.1} % strong",
            group.name,
            group.count,
            group.curve.weak() * 100.0,
            group.curve.strong() * 100.0
        );
        let _ = writeln!(
            text,
            "  {:8} {:>22} {:>22} {:>22}",
            "", "APGR", "CPT(50 %)", "CPT(80 %)"
        );
        let line = |text: &mut String, name: &str, curve: &Curve| {
            let show =
                |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
            let _ = writeln!(
                text,
                "  {name:8} {:>22} {:>22} {:>22}",
                show(curve.apgr()),
                show(curve.cpt(0.5)),
                show(curve.cpt(0.8))
            );
        };
        line(&mut text, "random", &group.random);
        let _ = writeln!(
            text,
            "  {:8} {:>22} {:>22} {:>22}",
            "model",
            plain(group.interval(Curve::apgr)),
            plain(group.interval(|curve| curve.cpt(0.5))),
            plain(group.interval(|curve| curve.cpt(0.8)))
        );
        line(&mut text, "perfect", &group.perfect);
    }
    text
}

/// What is saved and kept at each share, and what is saved when nearly all quality is to be kept.
pub fn curves(groups: &[Group], common: &Common) -> String {
    let mut text = format!(
        "\nAgainst asking the strong tier always, with 95 % intervals; where a row tells no cost, an answer costs {} (weak) \
         or {} (strong).\n",
        common.weak_cost, common.strong_cost
    );
    for group in groups {
        let _ = writeln!(
            text,
            "\n{}\n  {:>12} {:>24} {:>26} {:>12} {:>8}",
            group.name, "to strong", "cost saved", "quality kept", "kept, random", "PGR"
        );
        for tenth in 0..=10 {
            let share = f64::from(tenth) / 10.0;
            let _ = writeln!(
                text,
                "  {:>10.0} % {:>24} {:>26} {:>10.1} % {:>8.3}",
                share * 100.0,
                percent(group.interval(|curve| Some(curve.at(share).saved))),
                percent(group.interval(|curve| Some(curve.at(share).kept))),
                group.random.at(share).kept * 100.0,
                group.curve.at(share).pgr
            );
        }
        for kept in [0.9, 0.95, 0.99] {
            let _ = writeln!(
                text,
                "  keeps {:.0} % of the quality: saves {} of the cost (random {:.1} %), {:.1} % to strong",
                kept * 100.0,
                percent(group.interval(|curve| Some(curve.keeping(kept).saved))),
                group.random.keeping(kept).saved * 100.0,
                group.curve.keeping(kept).share * 100.0
            );
        }
    }
    text
}

fn plain(interval: Option<Interval>) -> String {
    interval.map_or("-".to_owned(), |Interval { value, low, high }| {
        format!("{value:.3} [{low:.3}, {high:.3}]")
    })
}

fn percent(interval: Option<Interval>) -> String {
    // Rounded first, and without the sign of zero.
    let hundred = |part: f64| (part * 1000.0).round() / 10.0 + 0.0;
    interval.map_or("-".to_owned(), |Interval { value, low, high }| {
        format!(
            "{:.1} % [{:.1}, {:.1}]",
            hundred(value),
            hundred(low),
            hundred(high)
        )
    })
}
