//! The `smart` strategy: which tier a prompt takes, judged by the prompt alone.
//!
//! A small model predicts what the strong tier would add to the answer of the weak one: a linear part over hashed
//! words and pairs of words and over some sixty numbers (lengths, options, numbers, kinds of words), and small trees
//! over the same numbers. It reads a bounded part of the text, asks nobody, and takes some microseconds.
//!
//! [`Classifier::score`] says how much a prompt wants the strong tier as a share of the prompts that the model
//! learned from, so that thresholds are shares of traffic; [`tier`] applies them. `strait router train` makes
//! models from outcomes ([`rows`]), `strait router eval` measures them ([`measure`]).

pub mod features;
mod linear;
pub mod measure;
mod model;
mod prompt;
pub mod rows;
mod tiers;
mod train;
mod trees;
mod words;

pub use model::{Classifier, tier};
pub use prompt::Prompt;
pub use tiers::{COUNT, Difficulty, Tiers, built_in, outgrows};
pub use train::{LEAST_ROWS, Trained, train};

/// The model that is built in; `conf/README.md` says how it was made.
pub const DEFAULT: &[u8] = include_bytes!("../../../conf/router-default.bin");
