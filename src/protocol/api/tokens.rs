//! Tokens by estimate, where no provider counts them.

/// Returns about how many tokens a text is.
pub fn of_text(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}
