//! The one table of keys: what is not here is unknown, and `conf/strait.toml` shows what is.

use crate::provider::cost::Token;

/// A table of the file and the keys that it may hold; `*` stands for a name and `[]` for a place in an array.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    pub path: &'static str,
    pub keys: &'static [&'static str],
}

/// Every table whose keys aren't names of the user's own.
pub const SECTIONS: &[Section] = &[
    Section {
        path: "",
        keys: &[
            "server",
            "admin",
            "state",
            "providers",
            "models",
            "rules",
            "keys",
            "budgets",
            "jwt",
            "catalogue",
            "cache",
            "responses",
            "ledger",
            "alerts",
            "records",
            "log",
        ],
    },
    Section {
        path: "server",
        keys: &[
            "listen",
            "tls",
            "max_body",
            "body_timeout",
            "threads",
            "open",
            "drain",
            "region",
            "max_inflight",
            "queue",
        ],
    },
    Section {
        path: "server.queue",
        keys: &["size", "wait"],
    },
    Section {
        path: "server.tls",
        keys: &["cert", "key"],
    },
    Section {
        path: "admin",
        keys: &["listen", "token", "keys", "oidc"],
    },
    Section {
        path: "admin.oidc",
        keys: &[
            "issuer",
            "client_id",
            "client_secret",
            "redirect",
            "scopes",
            "algorithms",
            "groups",
            "roles",
            "session",
        ],
    },
    Section {
        path: "admin.oidc.roles[]",
        keys: &["group", "role", "of"],
    },
    Section {
        path: "state",
        keys: &["dir", "database", "pepper", "master_key", "redis", "shared"],
    },
    Section {
        path: "state.shared",
        keys: &["mode", "limits", "budgets"],
    },
    Section {
        path: "state.redis",
        keys: &[
            "url", "mode", "master", "user", "password", "ca", "cert", "key", "prefix", "timeout",
        ],
    },
    Section {
        path: "providers.*",
        keys: &[
            "protocols",
            "base_url",
            "endpoints",
            "key",
            "keys",
            "auth",
            "headers",
            "paths",
            "health",
            "timeouts",
            "quirks",
            "price",
            "ca",
            "max_inflight",
            "enabled",
            "like",
            "apis",
            "models_only",
            "known_as",
            "api_version",
            "entra",
            "project",
            "location",
            "service_account",
            "region",
            "access_key_id",
            "secret_access_key",
            "session_token",
            "profile",
            "data",
        ],
    },
    Section {
        path: "providers.*.data",
        keys: &["region", "no_training", "zero_retention"],
    },
    Section {
        path: "providers.*.entra",
        keys: &["tenant", "client_id", "client_secret", "scope", "authority"],
    },
    Section {
        path: "providers.*.endpoints[]",
        keys: &["url", "weight", "health_path"],
    },
    Section {
        path: "providers.*.keys[]",
        keys: &["name", "key", "weight"],
    },
    Section {
        path: "providers.*.health",
        keys: &[
            "path",
            "expect",
            "every",
            "timeout",
            "unhealthy_after",
            "healthy_after",
        ],
    },
    Section {
        path: "providers.*.timeouts",
        keys: TIMEOUTS,
    },
    Section {
        path: "providers.*.quirks",
        keys: &[
            "drop",
            "rename",
            "set",
            "clamp",
            "developer_role",
            "max_completion_tokens",
            "stream_options",
            "prefill",
        ],
    },
    Section {
        path: "providers.*.price",
        keys: &Token::NAMES,
    },
    Section {
        path: "models.*",
        keys: &[
            "targets",
            "strategy",
            "fallbacks",
            "timeouts",
            "retries",
            "latency",
            "score",
            "constraints",
            "hedge",
            "smart",
            "shadow",
            "continuation",
            "stale_if_error",
            "degraded",
        ],
    },
    Section {
        path: "models.*.constraints",
        keys: CONSTRAINTS,
    },
    Section {
        path: "models.*.constraints.max_price",
        keys: &["in", "out"],
    },
    Section {
        path: "models.*.shadow",
        keys: &["model", "share", "max_inflight"],
    },
    Section {
        path: "models.*.smart",
        keys: &["thresholds", "model"],
    },
    Section {
        path: "models.*.targets[]",
        keys: &["model", "weight", "arm"],
    },
    Section {
        path: "models.*.latency",
        keys: &["half_life"],
    },
    Section {
        path: "models.*.score",
        keys: &["price", "availability", "latency", "throughput"],
    },
    Section {
        path: "models.*.timeouts",
        keys: TIMEOUTS,
    },
    Section {
        path: "models.*.hedge",
        keys: &["percentile", "after", "min", "max_share", "whole"],
    },
    Section {
        path: "models.*.retries",
        keys: &["max_attempts", "backoff"],
    },
    Section {
        path: "models.*.continuation",
        keys: &["enabled", "max", "prompt"],
    },
    Section {
        path: "rules[]",
        keys: &["name", "when", "use", "deny", "timeouts", "timezone"],
    },
    Section {
        path: "rules[].timeouts",
        keys: TIMEOUTS,
    },
    Section {
        path: "keys[]",
        keys: &[
            "name",
            "key",
            "models",
            "limits",
            "budget",
            "constraints",
            "explain",
            "stale_if_error",
            "priority",
        ],
    },
    Section {
        path: "keys[].constraints",
        keys: CONSTRAINTS,
    },
    Section {
        path: "keys[].constraints.max_price",
        keys: &["in", "out"],
    },
    Section {
        path: "keys[].limits",
        keys: &[
            "models",
            "rpm",
            "tpm",
            "rpd",
            "tpd",
            "images_per_minute",
            "images_per_day",
            "audio_seconds_per_minute",
            "audio_seconds_per_day",
            "concurrent",
        ],
    },
    Section {
        path: "keys[].budget",
        keys: &["usd", "every", "rolling", "timezone", "end_user", "tag"],
    },
    Section {
        path: "budgets[]",
        keys: &["usd", "every", "rolling", "timezone", "end_user", "tag"],
    },
    Section {
        path: "jwt[]",
        keys: &[
            "name",
            "issuer",
            "jwks",
            "refresh",
            "audience",
            "algorithms",
            "required",
            "leeway",
            "user",
            "map",
        ],
    },
    Section {
        path: "jwt[].map[]",
        keys: &["when", "key", "place", "place_claim", "limits", "budget"],
    },
    Section {
        path: "jwt[].map[].limits",
        keys: &[
            "rpm",
            "tpm",
            "rpd",
            "tpd",
            "concurrent",
            "images_per_minute",
            "images_per_day",
            "audio_seconds_per_minute",
            "audio_seconds_per_day",
        ],
    },
    Section {
        path: "jwt[].map[].budget",
        keys: &["usd", "every", "rolling", "timezone"],
    },
    Section {
        path: "catalogue",
        keys: &["unpriced", "retired", "file", "url", "refresh", "models"],
    },
    Section {
        path: "catalogue.models[]",
        keys: &[
            "provider",
            "id",
            "mode",
            "context",
            "max_input",
            "max_output",
            "dimensions",
            "price",
            "tiers",
            "inclusive",
            "services",
            "off_peak",
            "changes",
            "multipliers",
            "fees",
            "search_per_prompt",
            "search_always",
            "least_seconds",
            "capabilities",
            "lacks",
            "efforts",
            "status",
            "sunset",
            "successor",
            "profiles",
        ],
    },
    Section {
        path: "cache",
        keys: &["enabled", "memory", "ttl", "redis"],
    },
    Section {
        path: "responses",
        keys: &["store", "ttl", "max_item", "max_size"],
    },
    Section {
        path: "ledger",
        keys: &[
            "enabled",
            "retention",
            "usage_retention",
            "usage_metadata",
            "max_journal",
            "on_failure",
            "fsync",
            "keep",
            "body_retention",
            "max_body",
            "max_body_memory",
        ],
    },
    Section {
        path: "alerts",
        keys: &["webhook", "secret", "slack", "smtp", "percent", "usd"],
    },
    Section {
        path: "alerts.smtp",
        keys: &[
            "host", "port", "tls", "ca", "user", "password", "from", "to",
        ],
    },
    Section {
        path: "records",
        keys: &["to"],
    },
    Section {
        path: "log",
        keys: &["level"],
    },
];

const TIMEOUTS: &[&str] = &["connect", "first_byte", "idle", "total"];
const CONSTRAINTS: &[&str] = &[
    "region",
    "max_price",
    "max_latency",
    "no_training",
    "zero_retention",
    "allow",
    "deny",
];

/// Keys that only rows of the built-in catalogue have, beside those of `providers.*`.
pub(super) const CATALOGUE_KEYS: &[&str] = &["env", "aliases", "local", "platform", "base_env"];

/// Keys that are planned: said so, where "unknown" would send the reader looking for a typing error.
pub(super) const LATER: &[(&str, &str)] = &[];

/// Returns the section of that path.
///
/// # Panics
/// When there is none: paths are written in this folder alone, and every one is met by a test.
pub(super) fn section(path: &str) -> &'static Section {
    SECTIONS
        .iter()
        .find(|section| section.path == path)
        .expect("sections are named in this folder alone")
}
