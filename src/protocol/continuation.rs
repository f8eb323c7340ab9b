//! An answer that broke off, gone on with in the same voice: what was said, how another model is asked for the rest,
//! and how that is joined on.
//!
//! Only text is gone on with. Calls, refusals and signed reasoning belong to the model that began them.

mod prefix;
mod seam;
mod told;
mod voice;

pub use prefix::{Prefill, Prefix};
pub use seam::Seam;
pub use told::Told;
pub use voice::Voice;

/// How an answer that broke off is gone on with: `[models.NAME.continuation]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Of one stream.
    pub max: u32,
    /// Asks a model that takes no prefix for the rest; `{tail}` stands for the last words that were said.
    pub prompt: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max: 2,
            prompt: PROMPT.to_owned(),
        }
    }
}

const PROMPT: &str = "Your answer above was cut off. Go on with it exactly where it stopped, without a comment and \
                      without starting over. Begin by repeating its last words, character for character: {tail}";
