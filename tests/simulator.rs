//! Strategies in a simulated world: providers whose latency, errors, prices and capacity change over time, in
//! virtual time, with seeds; against two reference algorithms that are rebuilt here from their published formulas.
//!
//! `cargo test --test simulator -- --nocapture table` prints the table of the README.

#[path = "simulator/policies.rs"]
mod policies;
#[path = "simulator/references.rs"]
mod references;
#[path = "simulator/scenarios.rs"]
mod scenarios;
#[path = "simulator/vectors.rs"]
mod vectors;
#[path = "simulator/verdicts.rs"]
mod verdicts;
#[path = "simulator/world.rs"]
mod world;
