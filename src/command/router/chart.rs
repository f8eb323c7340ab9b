//! The curves of cost against quality, as SVG.

use std::fmt::Write as _;

use super::report::Group;
use crate::routing::smart::measure::Curve;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 480.0;
const MARGIN: f64 = 60.0;
/// Points of a line.
const STEPS: u32 = 100;
/// Told apart by people who see colours otherwise, too.
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];

/// Draws one line for each group, and a dashed one for random routing.
pub fn draw(groups: &[Group]) -> String {
    let lines: Vec<[Vec<(f64, f64)>; 2]> = groups
        .iter()
        .map(|group| [points(&group.curve), points(&group.random)])
        .collect();
    let all = || lines.iter().flatten().flatten();
    let low = all().fold(1.0f64, |low, point| low.min(point.1));
    let high = all().fold(1.0f64, |high, point| high.max(point.1));
    let (low, high) = ((low * 20.0).floor() / 20.0, (high * 20.0).ceil() / 20.0);
    let high = high.max(low + 0.05);
    let x = |cost: f64| MARGIN + cost.clamp(0.0, 1.0) * (WIDTH - 2.0 * MARGIN);
    let y = |kept: f64| HEIGHT - MARGIN - (kept - low) / (high - low) * (HEIGHT - 2.0 * MARGIN);

    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
"##
    );
    for fifth in 0..=5 {
        let part = f64::from(fifth) / 5.0;
        let kept = low + part * (high - low);
        let _ = writeln!(
            svg,
            r##"<path d="M{:.1} {:.1}V{:.1}M{:.1} {:.1}H{:.1}" stroke="#ddd"/>
<text x="{:.1}" y="{:.1}" text-anchor="middle">{:.0} %</text>
<text x="{:.1}" y="{:.1}" text-anchor="end">{:.0} %</text>"##,
            x(part),
            y(low),
            y(high),
            x(0.0),
            y(kept),
            x(1.0),
            x(part),
            HEIGHT - MARGIN + 18.0,
            part * 100.0,
            MARGIN - 8.0,
            y(kept) + 4.0,
            kept * 100.0
        );
    }
    for (lines, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        for (line, dashes) in lines.iter().zip(["", r#" stroke-dasharray="4 4""#]) {
            let _ = write!(
                svg,
                r#"<polyline fill="none" stroke="{colour}" stroke-width="1.5"{dashes} points=""#
            );
            for (cost, kept) in line {
                let _ = write!(svg, "{:.1},{:.1} ", x(*cost), y(*kept));
            }
            svg.push_str("\"/>\n");
        }
    }
    for (index, (group, colour)) in groups.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end" fill="{colour}">{}</text>"#,
            x(1.0) - 8.0,
            y(low) - 24.0 - 16.0 * index as f64,
            escape(&group.name)
        );
    }
    let _ = writeln!(
        svg,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="end">dashed: random</text>
<text x="{:.1}" y="{:.1}" text-anchor="middle">cost, of asking the strong tier always</text>
<text x="16" y="{:.1}" text-anchor="middle" transform="rotate(-90 16 {:.1})">quality, of the strong tier</text>
</svg>"#,
        x(1.0) - 8.0,
        y(low) - 8.0,
        WIDTH / 2.0,
        HEIGHT - 16.0,
        HEIGHT / 2.0,
        HEIGHT / 2.0
    );
    svg
}

/// Returns cost and quality, both as parts of the strong tier's.
fn points(curve: &Curve) -> Vec<(f64, f64)> {
    (0..=STEPS)
        .map(|step| {
            let point = curve.at(f64::from(step) / f64::from(STEPS));
            (1.0 - point.saved, point.kept)
        })
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
