//! Answers of the administration API.

use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::directory::role::Least;
use crate::directory::schema::Wrong;
use crate::directory::store::Object;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    body: Value,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Where the object stands that was changed: whose auditors see it.
    path: Option<String>,
}

/// Why there is none.
#[derive(Debug)]
pub struct Fault {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
}

/// Returns the `ETag` of a version.
pub fn tag(version: i64) -> String {
    format!("\"{version}\"")
}

impl Reply {
    pub fn json(body: Value) -> Self {
        Self {
            status: StatusCode::OK,
            body,
            headers: Vec::new(),
            path: None,
        }
    }

    /// Notes which object was changed.
    pub fn of(mut self, object: &Object) -> Self {
        self.path = Some(object.path.clone());
        self
    }

    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub fn with_version(self, version: i64) -> Self {
        self.with_header("etag", &tag(version))
    }

    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    /// Adds a member to the body.
    pub fn insert(&mut self, name: &str, value: Value) {
        if let Some(body) = self.body.as_object_mut() {
            body.insert(name.to_owned(), value);
        }
    }

    /// Returns the id of the object that is told.
    pub fn id(&self) -> Option<&str> {
        self.body["id"].as_str()
    }

    pub fn into_answer(self) -> Response<Vec<u8>> {
        let mut text = self.body.to_string().into_bytes();
        text.push(b'\n');
        let mut answer = Response::new(text);
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        let kind = HeaderValue::from_static("application/json");
        headers.insert(http::header::CONTENT_TYPE, kind);
        // Some of it is shown once, and none of it is for a cache.
        let cache = HeaderValue::from_static("no-store");
        headers.insert(http::header::CACHE_CONTROL, cache);
        headers.extend(self.headers);
        answer
    }
}

impl Fault {
    pub fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self {
            status,
            code,
            message: message.to_owned(),
            param: None,
        }
    }

    pub fn missing() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is nothing at this path.",
        )
    }

    pub fn forbidden(least: Least) -> Self {
        let message = format!("This asks for the role {} there.", least.name());
        Self::new(StatusCode::FORBIDDEN, "forbidden", &message)
    }

    pub fn wrong(wrong: Wrong) -> Self {
        Self::field(wrong.field, wrong.message)
    }

    /// Returns the fault of a field; the message goes on from its name.
    pub fn field(field: impl Into<String>, message: impl AsRef<str>) -> Self {
        let field = field.into();
        Self {
            message: format!("`{field}`: {}.", message.as_ref()),
            param: Some(field),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request", "")
        }
    }

    pub fn into_answer(self) -> Response<Vec<u8>> {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(param), Some(error)) = (self.param, error.as_object_mut()) {
            error.insert("param".into(), param.into());
        }
        Reply::json(json!({"error": error}))
            .with_status(self.status)
            .into_answer()
    }
}
