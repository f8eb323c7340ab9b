//! What is printed: two Markdown tables.

use std::fmt::Write;

/// A line of the table of figures.
pub struct Row {
    pub title: String,
    pub floor: String,
    pub strait: String,
    /// The ratio, or the difference where that is what counts.
    pub compared: String,
    pub goal: String,
    pub reached: bool,
}

/// A line of the table that tells under which conditions a figure came about.
pub struct Detail {
    pub what: String,
    pub rate: String,
    /// Share of its core that the gateway took.
    pub busy: f64,
    /// p50 and p99 to the first byte of the body.
    pub first_us: (f64, f64),
    /// p50 and p99 to the last byte.
    pub whole_us: (f64, f64),
    /// Connections that the gateway closed after an answer.
    pub closed: u64,
}

/// One value for each round.
pub struct Values(Vec<f64>);

impl Values {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Returns the one in the middle, or the mean of the two there.
    pub fn median(&self) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else {
            return f64::NAN;
        };
        (self.0[last / 2] + self.0[last.div_ceil(2)]) / 2.0
    }

    /// Returns the median, and the least and the greatest where there is more than one.
    pub fn show(&self, number: impl Fn(f64) -> String) -> String {
        match self.0.as_slice() {
            [least, .., greatest] => format!(
                "{} ({} to {})",
                number(self.median()),
                number(*least),
                number(*greatest)
            ),
            [_] | [] => number(self.median()),
        }
    }
}

/// Returns the table of figures; a short run isn't held to the goals.
pub fn figures(rows: &[Row], short: bool) -> String {
    let mut text = String::from(
        "| figure | bare Pingora | strait | compared: median (least to greatest) | goal | reached |\n|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let reached = match (short, row.reached) {
            (true, _) => "",
            (false, true) => "yes",
            (false, false) => "**no**",
        };
        // Writing into a string can't fail, here and below.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {reached} |",
            row.title, row.floor, row.strait, row.compared, row.goal
        );
    }
    text
}

/// Returns the table of conditions.
pub fn details(details: &[Detail]) -> String {
    let mut text = String::from(
        "| load, side | rate | core busy | to first byte p50 / p99 | to last byte p50 / p99 | closed |\n|---|---|---|---|---|---|\n",
    );
    for detail in details {
        let (first_p50, first_p99) = detail.first_us;
        let (whole_p50, whole_p99) = detail.whole_us;
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} % | {first_p50:.0} / {first_p99:.0} µs | {whole_p50:.0} / {whole_p99:.0} µs | {} |",
            detail.what,
            detail.rate,
            detail.busy * 100.0,
            detail.closed
        );
    }
    text
}
