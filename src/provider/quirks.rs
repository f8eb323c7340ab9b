//! Quirks: how a provider departs from its protocol, as data.

/// Edits of every request's top-level fields. Applied after translation or, on a pass, as splices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quirks {
    /// Fields that the provider rejects.
    pub drop: Vec<String>,
    /// From → to, where only the name differs.
    pub rename: Vec<(String, String)>,
    /// Name → JSON text, set whatever the client sent.
    pub set: Vec<(String, String)>,
    /// Name → highest value that the provider takes.
    pub clamp: Vec<(String, f64)>,
    /// It takes `role: developer`; otherwise the hub writes `system`.
    pub developer_role: bool,
    /// It takes `max_completion_tokens`; otherwise the hub writes `max_tokens`.
    pub max_completion_tokens: bool,
    /// It sends no usage in streams unless asked, and takes `stream_options`.
    pub stream_options: bool,
}
