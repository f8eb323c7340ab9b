//! The one error type: a kind that says what happened, a message for the caller, and a cause for the log.

use std::borrow::Cow;
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An answer that the gateway gives instead of a provider's.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    /// For the caller: names the field or key at fault, never a secret.
    pub message: Cow<'static, str>,
    /// The request field at fault, as the caller spelt it (OpenAI's `param`).
    pub param: Option<Cow<'static, str>>,
    /// When asking again may help (integer seconds on the wire, rounded up).
    pub retry_after: Option<Duration>,
    /// For the log alone.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What happened. Each kind has one HTTP status and one code, the same in every protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The body is not JSON, not an object, or a field has the wrong type or value.
    InvalidRequest,
    /// The field is known, but can't be said to any provider that could answer.
    Unsupported,
    /// The prompt is too long for every model that could answer.
    ContextExceeded,
    /// The body is larger than `server.max_body`.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// No key, or one that is not known.
    InvalidKey,
    /// A budget of the caller has no room for the request.
    BudgetExceeded,
    /// The key may not use this model.
    ModelNotAllowed,
    /// No target meets the constraints of the model, the key or the request.
    NotPermitted,
    /// A rule of the operator refuses the request, or the key may not ask for this.
    Denied,
    /// No model, provider or path of that name.
    ModelNotFound,
    PathNotFound,
    /// No response of that id is kept (any more).
    ResponseNotFound,
    /// `previous_response_id` names a response that is not kept (any more).
    PreviousResponseNotFound,
    MethodNotAllowed,
    /// A limit of the key: requests, tokens or concurrency.
    RateLimited,
    /// `x-strait-cache: only-if-cached`, and it was not.
    NotCached,
    /// Every target failed or is cooling down.
    UpstreamUnavailable,
    /// A target answered something that is not an answer, or died while answering.
    UpstreamBroken,
    /// The provider refused our own credential or account.
    UpstreamAccount,
    /// A timer fired; the message says which.
    Timeout,
    /// More is in flight than the gateway may hold.
    Overloaded,
    /// The answer is in the state database, and that can't be asked.
    StateUnavailable,
    /// The client went away (never seen by anyone but the record).
    ClientGone,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// Returns the HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Kind::InvalidRequest
            | Kind::Unsupported
            | Kind::ContextExceeded
            | Kind::PreviousResponseNotFound => 400,
            Kind::InvalidKey => 401,
            Kind::BudgetExceeded => 402,
            Kind::ModelNotAllowed | Kind::NotPermitted | Kind::Denied => 403,
            Kind::ModelNotFound | Kind::PathNotFound | Kind::ResponseNotFound => 404,
            Kind::MethodNotAllowed => 405,
            Kind::BodyTimeout => 408,
            Kind::BodyTooLarge => 413,
            Kind::RateLimited => 429,
            Kind::ClientGone => 499,
            Kind::Internal => 500,
            Kind::UpstreamBroken | Kind::UpstreamAccount => 502,
            Kind::UpstreamUnavailable | Kind::Overloaded | Kind::StateUnavailable => 503,
            Kind::NotCached | Kind::Timeout => 504,
        }
    }

    /// Returns the machine-readable code: OpenAI's `error.code`, and the `error` of records and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Kind::InvalidRequest => "invalid_request",
            Kind::Unsupported => "unsupported_parameter",
            Kind::ContextExceeded => "context_length_exceeded",
            Kind::BodyTooLarge => "request_too_large",
            Kind::BodyTimeout => "request_timeout",
            Kind::InvalidKey => "invalid_api_key",
            Kind::BudgetExceeded => "budget_exceeded",
            Kind::ModelNotAllowed => "model_not_allowed",
            Kind::NotPermitted => "constraints_not_met",
            Kind::Denied => "request_denied",
            Kind::ModelNotFound => "model_not_found",
            Kind::PathNotFound => "path_not_found",
            Kind::ResponseNotFound => "response_not_found",
            Kind::PreviousResponseNotFound => "previous_response_not_found",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::RateLimited => "rate_limit_exceeded",
            Kind::NotCached => "not_cached",
            Kind::UpstreamUnavailable => "upstream_unavailable",
            Kind::UpstreamBroken => "upstream_broken",
            Kind::UpstreamAccount => "upstream_account",
            Kind::Timeout => "timeout",
            Kind::Overloaded => "overloaded",
            Kind::StateUnavailable => "state_unavailable",
            Kind::ClientGone => "client_closed_request",
            Kind::Internal => "internal_error",
        }
    }

    /// Returns whether the client's own retry can't help (`x-should-retry: false`).
    pub fn is_final(self) -> bool {
        (400..=422).contains(&self.status()) && self != Kind::BodyTimeout
    }
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            cause: None,
        }
    }

    /// Returns a 400 that names the field at fault.
    pub fn field(
        param: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(Kind::InvalidRequest, message)
        }
    }

    /// Returns a 400 for something that the provider at hand can't be told.
    pub fn unsupported(
        param: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(Kind::Unsupported, message)
        }
    }

    pub fn with_cause(
        mut self,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
