//! In which order the targets of a route are asked.

use std::sync::atomic::Ordering;

use super::{Route, Strategy};

/// Returns the indices of the route's targets in the order of asking, with the reason for the first.
pub fn order(route: &Route) -> Vec<usize> {
    let count = route.targets.len();
    let mut order: Vec<usize> = (0..count).collect();
    if count < 2 {
        return order;
    }
    match route.strategy {
        Strategy::Fallback => {}
        Strategy::Weighted => {
            // Efraimidis and Spirakis: sorting by -ln(u)/w draws without replacement in proportion to weight.
            let draw = |index: &usize| {
                -(1.0 - fastrand::f64()).ln() / f64::from(route.targets[*index].weight.max(1))
            };
            let mut drawn: Vec<(f64, usize)> =
                order.iter().map(|index| (draw(index), *index)).collect();
            drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
            order = drawn.into_iter().map(|(_, index)| index).collect();
        }
        Strategy::RoundRobin => {
            let turn = route.turn.fetch_add(1, Ordering::Relaxed) % count;
            order.rotate_left(turn);
        }
        Strategy::LeastBusy => {
            // Ties go round, so that an idle set is used evenly.
            let turn = route.turn.fetch_add(1, Ordering::Relaxed) % count;
            order.rotate_left(turn);
            let busy = |index: usize| {
                let target = &route.targets[index];
                f64::from(target.inflight.load(Ordering::Relaxed)) / f64::from(target.weight.max(1))
            };
            let mut loads: Vec<(f64, usize)> =
                order.iter().map(|index| (busy(*index), *index)).collect();
            loads.sort_by(|a, b| a.0.total_cmp(&b.0));
            order = loads.into_iter().map(|(_, index)| index).collect();
        }
    }
    order
}
