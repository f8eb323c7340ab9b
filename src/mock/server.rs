//! What is done with each request: the script's answer, or the `/_…` paths.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use parking_lot::RwLock;
use serde_json::{Value, json};

use super::admin;
use super::answers::{ErrorSaid, Rendered, error_body, render, render_whole};
use super::apis::files::{Kept, Sent};
use super::body::{Answer, Dropped, Plan};
use super::calls::{BODY_MAX, Call, Calls, Guard, Outcome};
use super::dialect::Dialect;
use super::listen::Connection;
use super::realtime;
use super::realtime::Upgraded;
use super::request::Asked;
use super::route::{Api, Route};
use super::rules::{Running, Sight};
use super::script::{Behaviour, Cut, Script};
use super::scripted::{error_said, failure, scripted};
use super::signatures::Signatures;
use super::upload::Upload;
use super::{apis, bedrock, credentials, openai, strict};

/// The most bytes of one request.
const REQUEST_MAX: usize = 128 << 20;

/// What all threads and connections share.
#[derive(Debug)]
pub(super) struct Shared {
    running: RwLock<Arc<Running>>,
    pub calls: Arc<Calls>,
    /// What was uploaded and can be asked for again.
    pub kept: Kept,
}

impl Shared {
    pub fn new(script: Script) -> Self {
        Self {
            running: RwLock::new(Arc::new(Running::new(script))),
            calls: Arc::new(Calls::new()),
            kept: Kept::default(),
        }
    }

    /// Replaces the script; every rule begins with its first step.
    pub fn set_script(&self, script: Script) {
        *self.running.write() = Arc::new(Running::new(script));
    }

    pub fn running(&self) -> Arc<Running> {
        self.running.read().clone()
    }
}

pub(super) async fn answer(
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Dropped> {
    let upgrade = realtime::is_asked_for(&request).then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path.starts_with("/_") {
        let body = read(body).await.map_err(|_| Dropped)?;
        let (status, body) = admin::answer(&connection.shared, &head, &body);
        return Ok(plain(&connection, status, body, None));
    }
    if path == "/health" {
        return health(&connection, &head).await;
    }
    let at = connection.shared.calls.started.elapsed();
    let mut guard = connection.shared.calls.begin();
    let running = connection.shared.running();
    let path = head.uri.path();
    let route = Route::of(path, head.uri.query());
    let dialect = route.as_ref().map(|route| route.dialect);
    if let (Some(route), Some(upgrade)) = (&route, upgrade) {
        return socket(&connection, &head, upgrade, route, &running, guard, at).await;
    }
    if let Some(route) = &route
        && route.is_upload()
        && route.rest.is_empty()
        && head.method == Method::POST
    {
        return upload(&connection, &head, body, route, &running, guard, at).await;
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(Unread::Gone) => return Err(Dropped),
        Err(Unread::TooLarge) => {
            let said = ErrorSaid {
                status: 413,
                ..ErrorSaid::default()
            };
            let dialect = dialect.unwrap_or(Dialect::OpenaiChat);
            return Ok(plain(
                &connection,
                413,
                error_body(dialect, &said).into(),
                Some(guard),
            ));
        }
    };
    if let Some(route) = &route
        && head.method == Method::POST
        && route.takes(&Method::POST)
        && route.rest.is_empty()
    {
        return call(&connection, &head, &body, route, &running, guard, at).await;
    }
    let sight = Sight {
        path,
        model: "",
        headers: &head.headers,
        body: &body,
    };
    let picked = running.pick(&sight, true);
    if running.script.calls {
        let mut call = described(&connection, &head, &body, at);
        call.n = guard.n;
        call.rule = picked.map(|(_, rule)| running.name(rule));
        guard.record(call);
    }
    let member = route
        .as_ref()
        .filter(|route| route.has_members() && route.takes(&head.method));
    let (status, rendered) = match member {
        Some(route) => connection.shared.kept.answer(route, &head.method),
        None => {
            let (status, body) = admin::other(&head, route.as_ref(), &running.script);
            (status, Rendered::Whole(body))
        }
    };
    let Some((behaviour, _)) = picked else {
        let mut response = plain(&connection, status, rendered.bytes(), Some(guard));
        let media_type = HeaderValue::from_static(rendered.media_type());
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        return Ok(response);
    };
    let dialect = dialect.unwrap_or(Dialect::OpenaiChat);
    act(&connection, behaviour, dialect, guard, || rendered).await
}

/// Answers a health check: 200, or what a rule for this path says.
async fn health(connection: &Connection, head: &Parts) -> Result<Response<Answer>, Dropped> {
    connection
        .shared
        .calls
        .health_checks
        .fetch_add(1, Ordering::Relaxed);
    let running = connection.shared.running();
    let sight = Sight {
        path: "/health",
        model: "",
        headers: &head.headers,
        body: b"",
    };
    let ok = Bytes::from_static(b"{\"status\":\"ok\"}");
    match running.pick(&sight, true) {
        None => Ok(plain(connection, 200, ok, None)),
        Some((behaviour, _)) => {
            act(connection, behaviour, Dialect::OpenaiChat, None, || {
                Rendered::Whole(ok)
            })
            .await
        }
    }
}

/// Answers a call whose body is JSON.
async fn call(
    connection: &Connection,
    head: &Parts,
    body: &Bytes,
    route: &Route<'_>,
    running: &Running,
    mut guard: Guard,
    at: Duration,
) -> Result<Response<Answer>, Dropped> {
    let script = &running.script;
    let dialect = route.dialect;
    let is_checked = script.calls || script.strict;
    let mut asked = Asked::scan(route, body);
    let mut parsed = is_checked.then(|| serde_json::from_slice::<Value>(body));
    if let Some(Ok(value)) = &parsed {
        asked = Asked::read(route, value);
    }
    let sight = Sight {
        path: head.uri.path(),
        model: &asked.model,
        headers: &head.headers,
        body,
    };
    let picked = running.pick(&sight, false);
    let behaviour = picked.map_or(&script.default, |(behaviour, _)| behaviour);
    let mut refused = None;
    if let Some(parsed) = &parsed {
        let mut problems = strict::check(route, head, body, parsed, &script.allow);
        let mut noted = json!({"credential": credentials::told(head)});
        let signatures = parsed
            .as_ref()
            .ok()
            .and_then(|body| Signatures::of(dialect, body, script));
        if let Some(signatures) = signatures {
            noted["signatures"] = signatures.told();
            problems.extend(signatures.problems(dialect, &asked.model));
        }
        if script.strict && !problems.is_empty() {
            refused = Some(problems.join("; "));
        }
        if script.calls {
            let mut call = described(connection, head, body, at);
            call.n = guard.n;
            call.protocol = Some(dialect);
            call.api = Some(route.api);
            call.model.clone_from(&asked.model);
            call.stream = asked.stream;
            call.rule = picked.map(|(_, rule)| running.name(rule));
            call.noted = noted;
            call.problems = problems;
            guard.record(call);
        }
    } else if !(behaviour.is_fixed() && route.api == Api::Chat) {
        let value = serde_json::from_slice(body);
        if let Ok(value) = &value {
            asked = Asked::read(route, value);
        }
        parsed = Some(value);
    }
    if let Some(message) = refused {
        return Ok(refusal(connection, dialect, &message, guard));
    }
    act(connection, behaviour, dialect, guard, || {
        scripted(behaviour, dialect, asked.stream, asked.sse).unwrap_or_else(|| {
            if route.api == Api::Chat {
                if dialect == Dialect::OpenaiResponses
                    && let Some(Ok(body)) = &parsed
                {
                    keep(&connection.shared.kept, behaviour, &asked, body);
                }
                return render(behaviour, &asked);
            }
            let body = parsed.and_then(Result::ok).unwrap_or(Value::Null);
            apis::answer(route, &asked, &body)
        })
    })
    .await
}

/// Keeps a response that may be asked for again, unless the request says not to.
fn keep(kept: &Kept, behaviour: &Behaviour, asked: &Asked, body: &Value) {
    let response = serde_json::from_slice::<Value>(&render_whole(behaviour, asked));
    // A script may have broken it.
    if let Ok(response) = response
        && body["store"] != false
        && let Some(id) = response["id"].as_str()
    {
        let items = openai::ask::input_items(body).to_string();
        kept.keep(
            Api::Responses,
            id.to_owned(),
            response.clone(),
            items.into(),
        );
    }
}

/// Answers a call whose body may have any size: it is looked at while it passes.
async fn upload(
    connection: &Connection,
    head: &Parts,
    mut body: Incoming,
    route: &Route<'_>,
    running: &Running,
    mut guard: Guard,
    at: Duration,
) -> Result<Response<Answer>, Dropped> {
    let script = &running.script;
    let mut upload = Upload::new(&head.headers);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| Dropped)?.into_data() {
            upload.push(&data);
        }
    }
    let start = Bytes::from(std::mem::take(&mut upload.start));
    let length = upload.length;
    let (parts, told) = upload.end();
    let sent = Sent::new(route, &start, parts);
    let sight = Sight {
        path: head.uri.path(),
        model: &sent.model,
        headers: &head.headers,
        body: &start,
    };
    let picked = running.pick(&sight, false);
    let behaviour = picked.map_or(&script.default, |(behaviour, _)| behaviour);
    let mut refused = None;
    if script.calls || script.strict {
        let problems = sent.check(head, &start, &script.allow);
        if script.strict && !problems.is_empty() {
            refused = Some(problems.join("; "));
        }
        if script.calls {
            let mut call = described(connection, head, &start, at);
            call.n = guard.n;
            call.body_len = usize::try_from(length).unwrap_or(usize::MAX);
            call.protocol = Some(route.dialect);
            call.api = Some(route.api);
            call.model.clone_from(&sent.model);
            call.rule = picked.map(|(_, rule)| running.name(rule));
            call.noted = json!({"credential": credentials::told(head), "upload": told});
            call.problems = problems;
            guard.record(call);
        }
    }
    if let Some(message) = refused {
        return Ok(refusal(connection, route.dialect, &message, guard));
    }
    act(connection, behaviour, route.dialect, guard, || {
        scripted(behaviour, route.dialect, false, true)
            .unwrap_or_else(|| sent.answer(behaviour, &connection.shared.kept))
    })
    .await
}

/// Opens a WebSocket, which echoes, or does with the request what the script says.
async fn socket(
    connection: &Connection,
    head: &Parts,
    upgrade: OnUpgrade,
    route: &Route<'_>,
    running: &Running,
    mut guard: Guard,
    at: Duration,
) -> Result<Response<Answer>, Dropped> {
    let script = &running.script;
    let model = realtime::model(head.uri.query());
    let sight = Sight {
        path: head.uri.path(),
        model,
        headers: &head.headers,
        body: b"",
    };
    let picked = running.pick(&sight, false);
    let behaviour = picked.map_or(&script.default, |(behaviour, _)| behaviour);
    if script.calls {
        let mut call = described(connection, head, &Bytes::new(), at);
        call.n = guard.n;
        call.protocol = Some(route.dialect);
        call.api = Some(route.api);
        model.clone_into(&mut call.model);
        call.stream = true;
        call.rule = picked.map(|(_, rule)| running.name(rule));
        call.noted = json!({"credential": credentials::told(head)});
        guard.record(call);
    }
    let is_refused = behaviour.status.is_some_and(|status| status >= 300);
    if is_refused || behaviour.stall_head || behaviour.close_before_head {
        return act(connection, behaviour, route.dialect, guard, || {
            Rendered::Whole(Bytes::new())
        })
        .await;
    }
    if let Some(wait) = behaviour.delay_head {
        tokio::time::sleep(wait.0).await;
    }
    let answer = Answer::new(Plan::whole(Bytes::new()), None, connection.reset.clone());
    let Some(response) = realtime::accepted(&head.headers, answer) else {
        let message = "the handshake of the WebSocket is not right";
        return Ok(refusal(connection, route.dialect, message, guard));
    };
    guard.status(101);
    *connection.upgraded.lock() = Some(Upgraded::new(upgrade, guard, behaviour, model));
    Ok(response)
}

/// Answers 400 to what a strict provider refuses.
fn refusal(
    connection: &Connection,
    dialect: Dialect,
    message: &str,
    guard: Guard,
) -> Response<Answer> {
    let said = ErrorSaid {
        status: 400,
        message: Some(message),
        ..ErrorSaid::default()
    };
    plain(
        connection,
        400,
        error_body(dialect, &said).into(),
        Some(guard),
    )
}

/// Does what `behaviour` says; `success` is the body where it says nothing of an error.
async fn act(
    connection: &Connection,
    behaviour: &Behaviour,
    dialect: Dialect,
    guard: impl Into<Option<Guard>>,
    success: impl FnOnce() -> Rendered,
) -> Result<Response<Answer>, Dropped> {
    let mut guard = guard.into();
    if let Some(wait) = behaviour.delay_head {
        tokio::time::sleep(wait.0).await;
    }
    if behaviour.stall_head {
        std::future::pending::<()>().await;
    }
    if behaviour.close_before_head {
        if let Some(guard) = &mut guard {
            guard.end(Outcome::Cut);
        }
        if behaviour.cut == Cut::Reset {
            connection.reset.store(true, Ordering::Release);
        }
        return Err(Dropped);
    }
    let status = behaviour.status.unwrap_or(200);
    let rendered = if status < 300 {
        success()
    } else {
        Rendered::Whole(failure(behaviour, status, dialect))
    };
    let media_type = rendered.media_type();
    let plan = Plan::new(behaviour, dialect, rendered);
    if let Some(guard) = &guard {
        guard.status(status);
    }
    let number = guard.as_ref().map(|guard| guard.n);
    let mut response = Response::new(Answer::new(plan, guard, connection.reset.clone()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if status >= 300
        && matches!(dialect, Dialect::Bedrock | Dialect::BedrockInvoke)
        && let Ok(value) =
            HeaderValue::from_str(bedrock::error_words(&error_said(behaviour, status)).0)
    {
        headers.insert(HeaderName::from_static("x-amzn-errortype"), value);
    }
    if let Some(number) = number
        && let Ok(value) = HeaderValue::try_from(format!("req_mock_{number}"))
    {
        headers.insert(HeaderName::from_static(dialect.request_id_header()), value);
    }
    for name in behaviour.headers.0.keys() {
        headers.remove(name);
        for value in behaviour.headers.0.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    Ok(response)
}

/// Describes a call as it was received.
fn described(connection: &Connection, head: &Parts, body: &Bytes, at: Duration) -> Call {
    let headers = head.headers.iter().map(|(name, value)| {
        (
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    });
    Call {
        n: 0,
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        protocol: None,
        api: None,
        http_version: if head.version == Version::HTTP_2 {
            "HTTP/2.0"
        } else {
            "HTTP/1.1"
        },
        tls: connection.tls,
        headers: headers.collect(),
        // Copied, so that the connection's larger buffer isn't held.
        body: Bytes::copy_from_slice(&body[..body.len().min(BODY_MAX)]),
        body_len: body.len(),
        model: String::new(),
        stream: false,
        at,
        connection: connection.number,
        rule: None,
        noted: Value::Null,
        problems: Vec::new(),
        status: 0,
        outcome: Outcome::InProgress,
        chunks_sent: 0,
        bytes_sent: 0,
    }
}

fn plain(
    connection: &Connection,
    status: u16,
    body: Bytes,
    guard: Option<Guard>,
) -> Response<Answer> {
    if let Some(guard) = &guard {
        guard.status(status);
    }
    let mut response = Response::new(Answer::new(
        Plan::whole(body),
        guard,
        connection.reset.clone(),
    ));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Why a request's body was not read to its end.
enum Unread {
    Gone,
    TooLarge,
}

async fn read(mut body: Incoming) -> Result<Bytes, Unread> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::Gone)?.into_data() else {
            continue;
        };
        if all.is_empty() && first.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            let expected = body.size_hint().lower().min(REQUEST_MAX as u64) as usize;
            all.reserve(first.len() + data.len() + expected);
            all.extend_from_slice(&first);
        }
        if all.len() + data.len() > REQUEST_MAX {
            return Err(Unread::TooLarge);
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
