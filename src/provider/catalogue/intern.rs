//! Words and models that live as long as the process: equal ones once.
//!
//! A catalogue that changes leaves behind what changed, and no more; beyond the bounds nothing new is taken.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use parking_lot::Mutex;

use super::Model;

/// Different models and words of one process: hundreds of times what changes in a year.
const MOST_MODELS: usize = 200_000;
const MOST_WORDS: usize = 500_000;
/// Longer ones aren't kept: see [`word`].
pub const LONGEST_WORD: usize = 256;

static WORDS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
/// By provider and id: all that it has ever been.
type Versions = HashMap<(&'static str, &'static str), Vec<&'static Model>>;
static MODELS: LazyLock<Mutex<Versions>> = LazyLock::new(Mutex::default);

/// Returns the word for ever; an empty one when it is too long or there are too many.
pub fn word(text: &str) -> &'static str {
    let mut words = WORDS.lock();
    if let Some(known) = words.get(text) {
        return known;
    }
    if text.len() > LONGEST_WORD || words.len() >= MOST_WORDS {
        return "";
    }
    let kept: &'static str = Box::leak(text.into());
    words.insert(kept);
    kept
}

/// Returns the model for ever. Errors: there are too many.
pub fn model(model: Model) -> Result<&'static Model, String> {
    let mut models = MODELS.lock();
    let versions: usize = models.len();
    let same = models.entry((model.provider, model.id)).or_default();
    if let Some(known) = same.iter().find(|known| ***known == model) {
        return Ok(known);
    }
    // Versions of one model count too, or a price that changes each minute would never end.
    const MOST_VERSIONS: usize = 1000;
    if versions >= MOST_MODELS || same.len() >= MOST_VERSIONS {
        return Err(
            "the catalogue has changed too often in this process: restart it to go on".into(),
        );
    }
    let kept: &'static Model = Box::leak(Box::new(model));
    same.push(kept);
    Ok(kept)
}
