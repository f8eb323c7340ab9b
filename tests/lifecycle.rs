//! The process: how it starts, what it refuses to start with, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::dialect::{Dialect, events};
use common::wire::Wire;
use common::{Client, Strait, eventually, free, mock};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// The program with nothing around it: in `dir`, with no variables, its output in files there.
fn program(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(dir)
        .args(args);
    command
        .stdout(File::create(dir.join("out")).unwrap())
        .stderr(File::create(dir.join("err")).unwrap());
    command
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap_or_default()
}

/// A running program, killed when it drops.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts, and waits until it is ready.
    fn start(dir: &Path, args: &[&str], env: &[(&str, &str)], admin: SocketAddr) -> Self {
        let mut running = Self(
            program(dir, args)
                .envs(env.iter().copied())
                .spawn()
                .unwrap(),
        );
        let until = Instant::now() + SOON;
        while !Client::new(admin)
            .try_get("/health/ready")
            .is_ok_and(|answer| answer.status == 200)
        {
            let ended = running.0.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "not ready ({ended:?}): {}",
                read(dir, "err")
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }

    fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + SOON;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

/// Runs to the end: exit code, standard output, standard error.
fn run(dir: &Path, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut running = Running(program(dir, args).stdin(Stdio::piped()).spawn().unwrap());
    running
        .0
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let status = running.end();
    (status.code(), read(dir, "out"), read(dir, "err"))
}

fn slow(gap: &str) -> strait::mock::Mock {
    mock(&format!(
        "[[rule]]\nsteps = [{{ text = \"said slowly and to the end\", chunks = 30, chunk_gap = \"{gap}\" }}]\n"
    ))
}

fn lab(mock: &strait::mock::Mock) -> String {
    format!(
        "[providers.lab]\nprotocols = [\"openai-chat\", \"anthropic\"]\nbase_url = \"{}/v1\"\nkey = \"k\"\n",
        mock.url()
    )
}

fn open(strait: &Strait, dialect: Dialect) -> common::http::Stream {
    let body = dialect.body("lab/x", "hi", true).to_string();
    let stream = strait
        .client()
        .send("POST", dialect.path(), &[], body.as_bytes())
        .unwrap();
    assert_eq!(stream.status, 200);
    stream
}

#[test]
fn on_sigterm_streams_end_by_themselves_and_then_the_process() {
    let mock = slow("100ms");
    let mut strait = Strait::start_with(&lab(&mock), "drain = \"20s\"", &[]);
    let mut streams = Dialect::ALL.map(|dialect| (dialect, open(&strait, dialect)));
    let starts = streams.each_mut().map(|(_, stream)| stream.until("data: "));
    // A connection that is kept, and idle.
    let mut idle = Wire::open(strait.addr);
    idle.request("GET", "/health", &[], b"");
    assert_eq!(idle.answer().unwrap().status, 200);
    let stopped = Instant::now();
    strait.signal("TERM");
    eventually("new connections are refused, or told", || {
        let answer = strait.client().try_get("/v1/models");
        answer.is_err() || answer.is_ok_and(|answer| answer.status == 503)
    });
    for ((dialect, stream), start) in streams.into_iter().zip(starts) {
        let mut answer = stream.whole().unwrap();
        answer.body.splice(0..0, start.into_bytes());
        answer
            .headers
            .push(("content-type".into(), "text/event-stream".into()));
        assert!(
            dialect.said(&answer).text.contains("to the end"),
            "{}",
            answer.text()
        );
    }
    let status = strait.wait_exit(SOON).expect("the process ends");
    assert_eq!(status.code(), Some(0), "{}", strait.log());
    assert!(
        stopped.elapsed() < Duration::from_secs(15),
        "it waited for the drain time with nothing in flight"
    );
    let records = strait.records(2);
    assert!(
        records
            .iter()
            .filter(|record| record["stream"] == true)
            .all(|record| record["status"] == 200)
    );
}

#[test]
fn a_stream_that_outlasts_the_drain_time_is_told_so_in_its_dialect() {
    let mock =
        mock("[[rule]]\nsteps = [{ chunks = 600, chunk_gap = \"100ms\", text_bytes = 3000 }]\n");
    let silent = mock_silent();
    let config = lab(&mock) + &lab(&silent).replace("[providers.lab]", "[providers.silent]");
    let mut strait = Strait::start_with(&config, "drain = \"6s\"", &[]);
    let streams = Dialect::ALL.map(|dialect| {
        ["lab/x", "silent/x"].map(|model| {
            let body = dialect.body(model, "hi", true).to_string();
            let mut stream = strait
                .client()
                .send("POST", dialect.path(), &[], body.as_bytes())
                .unwrap();
            let start = stream.until("data: ");
            (dialect, model, stream, start)
        })
    });
    strait.signal("TERM");
    for (dialect, model, stream, start) in streams.into_iter().flatten() {
        let answer = stream.whole().unwrap();
        let text = start + &answer.text();
        let case = format!(
            "{model}, {dialect:?}: {}",
            &text[text.len().saturating_sub(500)..]
        );
        assert!(answer.complete, "cut: {case}");
        let last: Value = events(&answer).pop().unwrap();
        assert!(
            dialect.error(&last).is_some(),
            "no error at the end: {case}"
        );
        assert!(!text.contains("message_stop"), "a false end: {case}");
    }
    let status = strait.wait_exit(SOON).expect("the process ends");
    assert_eq!(status.code(), Some(0), "{}", strait.log());
    for record in strait.records(4) {
        assert_eq!(record["error"], "overloaded", "{record}");
    }
}

fn mock_silent() -> strait::mock::Mock {
    mock("[[rule]]\nsteps = [{ text = \"so\", chunks = 10, stall_after = 2 }]\n")
}

#[test]
fn a_second_interrupt_ends_what_the_first_let_go_on() {
    let mock = slow("1s");
    let mut strait = Strait::start_with(&lab(&mock), "drain = \"1h\"", &[]);
    let mut stream = open(&strait, Dialect::OpenAi);
    stream.until("data: ");
    strait.signal("INT");
    eventually("it stops", || strait.log().contains("stopping"));
    assert!(
        strait.wait_exit(Duration::from_secs(1)).is_none(),
        "the stream was not waited for"
    );
    strait.signal("INT");
    let status = strait.wait_exit(SOON).expect("the process ends");
    assert_eq!(status.code(), Some(0), "{}", strait.log());
}

#[test]
fn with_nothing_in_flight_the_process_ends_at_once_and_can_start_again() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, admin) = (free(), free());
    write(
        dir.path(),
        &format!("[server]\nlisten = [\"{addr}\"]\n[admin]\nlisten = \"{admin}\"\n"),
    );
    for signal in ["TERM", "TERM", "INT"] {
        let mut running = Running::start(dir.path(), &[], &[], admin);
        // A client that keeps its connection holds nobody up.
        let mut idle = Wire::open(addr);
        idle.request("GET", "/health", &[], b"");
        assert_eq!(idle.answer().unwrap().status, 200);
        let stopped = Instant::now();
        running.signal(signal);
        assert_eq!(
            running.end().code(),
            Some(0),
            "{signal}: {}",
            read(dir.path(), "err")
        );
        assert!(stopped.elapsed() < Duration::from_secs(10), "{signal}");
    }
}

fn write(dir: &Path, config: &str) {
    std::fs::write(dir.join("strait.toml"), config).unwrap();
}

#[test]
fn an_admin_token_is_made_and_kept_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, admin) = (free(), free());
    let state = dir.path().join("deep/state");
    write(
        dir.path(),
        &format!(
            "[server]\nlisten = [\"{addr}\"]\n[admin]\nlisten = \"{admin}\"\n[state]\ndir = \"{}\"\n[log]\nlevel = \"debug\"\n",
            state.display()
        ),
    );
    let mut tokens = Vec::new();
    for start in 0..2 {
        let running = Running::start(dir.path(), &[], &[], admin);
        let file = state.join("admin-token");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let token = std::fs::read_to_string(&file).unwrap().trim().to_owned();
        assert!(token.len() >= 32, "{} characters", token.len());
        let ask = |token: &str| {
            let value = format!("Bearer {token}");
            Client::new(admin)
                .request("GET", "/admin/v1/status", &[("authorization", &value)], b"")
                .status
        };
        assert_eq!((ask(&token), ask("wrong"), ask("")), (200, 401, 401));
        for name in ["out", "err"] {
            assert!(
                !read(dir.path(), name).contains(&token),
                "the token is in {name}"
            );
        }
        if start == 0 {
            assert!(
                read(dir.path(), "err").contains("admin-token"),
                "the file is named: {}",
                read(dir.path(), "err")
            );
        }
        tokens.push(token);
        drop(running);
    }
    assert_eq!(tokens[0], tokens[1], "a restart keeps it");
}

#[test]
fn an_open_gateway_on_every_address_has_to_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (port, admin) = (free().port(), free());
    let config = |more: &str| {
        format!("[server]\nlisten = [\"0.0.0.0:{port}\"]\n{more}\n[admin]\nlisten = \"{admin}\"\n")
    };
    write(dir.path(), &config(""));
    for args in [&["serve"][..], &["check"], &[]] {
        let (code, out, err) = run(dir.path(), args, "");
        assert_eq!(code, Some(1), "{args:?}");
        assert!((out + &err).contains("server.open"), "{args:?}");
    }
    write(dir.path(), &config("open = true"));
    drop(Running::start(dir.path(), &[], &[], admin));
    write(
        dir.path(),
        &(config("") + "[[keys]]\nname = \"a\"\nkey = \"key-of-the-test\"\n"),
    );
    drop(Running::start(dir.path(), &[], &[], admin));
}

#[test]
fn a_bad_configuration_is_told_whole_by_check_and_by_serve() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "[server]\nlisten = [\"nowhere\"]\nmax_bodi = \"1MiB\"\nbody_timeout = 5\n[providers.lab]\nprotocols = [\"openai-chat\"]\n\
         base_url = \"ftp://a\"\nkey = \"env:STRAIT_TEST_KEY_THAT_IS_NOT_SET\"\n[models.m]\ntargets = [\"labb/x\"]\n",
    );
    for args in [
        &["check"][..],
        &["serve"],
        &[],
        &["check", "--config", "strait.toml"],
    ] {
        let (code, out, err) = run(dir.path(), args, "");
        let told = out + &err;
        assert_eq!(code, Some(1), "{args:?}: {told}");
        for mistake in [
            "server.listen",
            "max_bodi",
            "body_timeout",
            "base_url",
            "STRAIT_TEST_KEY_THAT_IS_NOT_SET",
            "labb",
        ] {
            assert!(
                told.contains(mistake),
                "{args:?} does not tell {mistake}: {told}"
            );
        }
        assert!(told.contains("strait.toml:2"), "with file and line: {told}");
        assert!(
            told.contains("max_body") && told.contains("lab"),
            "with a suggestion: {told}"
        );
    }
    let (code, _, err) = run(dir.path(), &["serve", "--config", "not-there.toml"], "");
    assert_eq!(code, Some(1));
    assert!(err.contains("not-there.toml"), "{err}");
    write(dir.path(), "");
    let (code, out, _) = run(dir.path(), &["check"], "");
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for config in [
        format!(
            "[server]\nlisten = [\"{addr}\"]\n[admin]\nlisten = \"{}\"\n",
            free()
        ),
        format!(
            "[server]\nlisten = [\"{}\"]\n[admin]\nlisten = \"{addr}\"\n",
            free()
        ),
    ] {
        write(dir.path(), &config);
        let (code, _, err) = run(dir.path(), &[], "");
        assert_eq!(code, Some(1));
        assert!(
            err.contains(&addr.to_string()) && !err.contains("panicked"),
            "{err}"
        );
    }
}

#[test]
fn two_addresses_of_which_one_covers_the_other_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let port = free().port();
    write(
        dir.path(),
        &format!(
            "[server]\nopen = true\nlisten = [\"127.0.0.1:{port}\", \"127.0.0.2:{port}\", \"0.0.0.0:{port}\"]\n[admin]\nlisten = \"{}\"\n",
            free()
        ),
    );
    let (code, _, err) = run(dir.path(), &[], "");
    assert_eq!(code, Some(1));
    assert!(
        err.contains("0.0.0.0") && !err.contains("panicked"),
        "{err}"
    );
}

#[test]
fn a_certificate_needs_its_own_key() {
    let dir = tempfile::tempdir().unwrap();
    let authority = common::authority::Authority::new();
    let (ours, other) = (authority.local(), authority.local());
    let files = [("cert.pem", ours.cert), ("key.pem", other.key)];
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let listen = format!("listen = [\"{}\"]", free());
    write(
        dir.path(),
        &format!("[server]\n{listen}\ntls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n"),
    );
    let (code, out, _) = run(dir.path(), &["check"], "");
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("strait.toml:3:") && out.contains("key is not the key of cert"),
        "{out}"
    );
    assert_eq!(run(dir.path(), &[], "").0, Some(1), "nor does it serve");
    std::fs::write(dir.path().join("key.pem"), ours.key).unwrap();
    let (code, out, _) = run(dir.path(), &["check"], "");
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn a_hand_over_that_nobody_takes_part_in_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &format!(
            "[server]\nlisten = [\"{}\"]\n[admin]\nlisten = \"{}\"\n",
            free(),
            free()
        ),
    );
    let (code, _, err) = run(dir.path(), &["serve", "--upgrade"], "");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("SIGQUIT"), "{err}");
}

#[test]
fn an_admin_token_that_was_never_written_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, admin) = (free(), free());
    write(
        dir.path(),
        &format!(
            "[server]\nlisten = [\"{addr}\"]\n[admin]\nlisten = \"{admin}\"\n[state]\ndir = \"state\"\n"
        ),
    );
    // As a disk that was full leaves it.
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::write(dir.path().join("state/admin-token"), "").unwrap();
    let _running = Running::start(dir.path(), &[], &[], admin);
    let token = std::fs::read_to_string(dir.path().join("state/admin-token")).unwrap();
    let value = format!("Bearer {}", token.trim());
    let answer =
        Client::new(admin).request("GET", "/admin/v1/status", &[("authorization", &value)], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_database_that_can_not_be_read_is_no_fault_of_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, admin) = (free(), free());
    write(
        dir.path(),
        &format!(
            "[server]\nlisten = [\"{addr}\"]\n[admin]\nlisten = \"{admin}\"\n[state]\ndir = \"state\"\n"
        ),
    );
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let text = "not a database, but somebody's notes\n".repeat(100);
    std::fs::write(dir.path().join("state/strait.db"), text).unwrap();
    let _running = Running::start(dir.path(), &[], &[], admin);
    for key in [&[][..], &[("authorization", "Bearer any")]] {
        let body = common::chat("demo/echo", "hello").to_string();
        let answer = Client::new(addr).post("/v1/chat/completions", key, body.as_bytes());
        // There may be keys in it: nobody is let in, and whoever asks again later may be.
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "state_unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    let log = read(dir.path(), "err");
    assert!(!log.contains("everyone who can connect"), "{log}");
}

fn echoes(addr: SocketAddr) {
    for dialect in Dialect::ALL {
        for stream in [false, true] {
            let body = dialect.body("demo/echo", "hello there", stream).to_string();
            let answer = Client::new(addr).post(dialect.path(), &[], body.as_bytes());
            assert_eq!(
                answer.status,
                200,
                "{dialect:?}, stream {stream}: {}",
                answer.text()
            );
            assert_eq!(common::dialect::is_stream(&answer), stream);
            assert_eq!(
                dialect.said(&answer).text,
                "hello there",
                "{dialect:?}, stream {stream}"
            );
            assert!(answer.header("x-request-id").is_some());
        }
    }
}

#[test]
fn the_program_alone_answers_a_first_request_and_says_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, admin) = (free(), free());
    write(
        dir.path(),
        &format!("[server]\nlisten = [\"{addr}\"]\n[admin]\nlisten = \"{admin}\"\n"),
    );
    let key = "sk-test-a-key-that-must-not-be-shown";
    let running = Running::start(dir.path(), &[], &[("MISTRAL_API_KEY", key)], admin);
    echoes(addr);
    let log = read(dir.path(), "err");
    for told in [
        &*addr.to_string(),
        &*admin.to_string(),
        "demo",
        "mistral",
        "OPENAI_API_KEY",
    ] {
        assert!(log.contains(told), "{told} is not told: {log}");
    }
    assert!(!log.contains(key));
    eventually("a record for each on standard output", || {
        read(dir.path(), "out").lines().count() >= 4
    });
    let out = read(dir.path(), "out");
    let records: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        records
            .iter()
            .all(|record| record["status"] == 200 && record["provider"] == "demo"),
        "{out}"
    );
    drop(running);
}

#[test]
fn with_no_file_at_all_it_listens_where_the_manual_says() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, admin) = (
        SocketAddr::from(([127, 0, 0, 1], 8080)),
        SocketAddr::from(([127, 0, 0, 1], 8081)),
    );
    if [addr, admin]
        .iter()
        .any(|addr| std::net::TcpListener::bind(addr).is_err())
    {
        eprintln!("port 8080 or 8081 is taken on this machine: not tested");
        return;
    }
    let _running = Running::start(dir.path(), &[], &[], admin);
    echoes(addr);
}

#[test]
fn explain_tells_who_would_be_asked_and_asks_nobody() {
    let mock = mock("");
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &(lab(&mock) + "[models.two]\ntargets = [\"lab/x\", \"demo/echo\"]\n"),
    );
    let body = common::chat("two", "hello").to_string();
    let (code, out, err) = run(dir.path(), &["explain"], &body);
    assert_eq!(code, Some(0), "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let candidates = told["candidates"].as_array().unwrap();
    let names: Vec<_> = candidates
        .iter()
        .map(|candidate| candidate["provider"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["lab", "demo"]);
    assert!(candidates.iter().all(|candidate| {
        candidate["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())
    }));
    assert!(mock.calls().is_empty());
    for (body, named) in [
        ("{", ""),
        (
            r#"{"model":"twoo","messages":[{"role":"user","content":"a"}]}"#,
            "Closest: two",
        ),
    ] {
        let (code, out, err) = run(dir.path(), &["explain"], body);
        assert_eq!(code, Some(1), "{out}");
        assert!(out.is_empty() && err.contains(named), "{out}{err}");
    }
}

#[test]
fn explain_asks_for_a_key_at_a_path_as_a_request_would() {
    let mock = mock("");
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &(lab(&mock)
            + r#"
            [models.two]
            targets = ["lab/x", "demo/echo"]
            [[keys]]
            name = "careful"
            key = "a-careful-key"
            constraints = { deny = ["lab"] }
            [[keys]]
            name = "narrow"
            key = "a-narrow-key"
            models = ["lab/*"]
            "#),
    );
    let claude =
        r#"{"model":"two","max_tokens":9,"system":"s","messages":[{"role":"user","content":"a"}]}"#;
    let responses = r#"{"model":"two","input":"a"}"#;
    let told = |args: &[&str], body: &str| -> Value {
        let (code, out, err) = run(dir.path(), &[&["explain"], args].concat(), body);
        assert_eq!(code, Some(0), "{args:?} {err}");
        serde_json::from_str(&out).unwrap()
    };
    for (args, body, endpoint) in [
        (&[][..], claude, "messages"),
        (&[], responses, "responses"),
        (&["--endpoint", "/v1/chat/completions"], claude, "chat"),
        (&["--endpoint", "/v1/messages"], claude, "messages"),
        (
            &["--endpoint", "/v1beta/models/two:streamGenerateContent"],
            r#"{"contents":[{"parts":[{"text":"a"}]}]}"#,
            "generate_content",
        ),
    ] {
        let told = told(args, body);
        assert_eq!(told["endpoint"], endpoint, "{args:?} {told}");
        assert_eq!(told["candidates"][0]["provider"], "lab", "{args:?} {told}");
    }
    for args in [
        &["--key", "careful"][..],
        &["--header", "x-strait-constraints: deny=lab"],
    ] {
        let told = told(args, claude);
        assert_eq!(told["candidates"][0]["provider"], "demo", "{args:?} {told}");
        assert_eq!(told["passed"][0]["provider"], "lab", "{args:?} {told}");
    }
    for (args, named) in [
        (&["--key", "narrow"][..], "may not use the model `two`"),
        (&["--key", "nobody"], "the name of a key"),
        (&["--endpoint", "/v1/files"], "a path that asks a model"),
    ] {
        let (code, out, err) = run(dir.path(), &[&["explain"], args].concat(), claude);
        assert_eq!(code, Some(1), "{out}");
        assert!(err.contains(named), "{args:?} {err}");
    }
    assert!(mock.calls().is_empty());
}

/// Asks again and again, on connections that are kept where they can be, until told to stop; returns how often, and
/// every answer that was not a good one.
fn ask_on(addr: SocketAddr, stop: &std::sync::atomic::AtomicBool) -> (usize, Vec<String>) {
    let body = Dialect::OpenAi
        .body("demo/echo", "hello there", false)
        .to_string();
    let headers = [("content-type", "application/json")];
    let (mut good, mut bad) = (0, Vec::new());
    let mut wire: Option<Wire> = None;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let is_new = wire.is_none();
        let mut one = wire.take().unwrap_or_else(|| Wire::open(addr));
        let length = body.len().to_string();
        let head = [headers[0], ("content-length", &*length)];
        let head = common::wire::head_of("POST", "/v1/chat/completions", &head);
        let sent = one.send(&[head.as_bytes(), body.as_bytes()].concat());
        match sent.and_then(|()| one.answer()) {
            Ok(answer) if answer.status == 200 => {
                good += 1;
                wire = (answer.header("connection") != Some("close")).then_some(one);
            }
            Ok(answer) => bad.push(format!("{}: {}", answer.status, answer.text())),
            // A kept connection may be closed between two requests; a new one must be served.
            Err(_) if !is_new => {}
            Err(error) => bad.push(error.to_string()),
        }
    }
    (good, bad)
}

#[test]
fn a_hand_over_under_load_fails_no_request_and_cuts_no_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, admin) = (free(), free());
    let provider = slow("200ms");
    write(
        dir.path(),
        &format!(
            "[server]\nlisten = [\"{addr}\"]\ndrain = \"30s\"\n[admin]\nlisten = \"{admin}\"\n[state]\ndir = \"state\"\n{}",
            lab(&provider)
        ),
    );
    let mut old = Running::start(dir.path(), &[], &[], admin);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| ask_on(addr, &stop)))
            .collect();
        let body = Dialect::OpenAi.body("lab/x", "hi", true).to_string();
        let path = Dialect::OpenAi.path();
        let mut stream = Client::new(addr)
            .send("POST", path, &[], body.as_bytes())
            .unwrap();
        let begun = stream.until("data: ");
        let new = program(dir.path(), &["serve", "--upgrade"])
            .spawn()
            .unwrap();
        let mut new = Running(new);
        eventually("the new process waits for the sockets", || {
            dir.path().join("state/upgrade.sock").exists()
        });
        old.signal("QUIT");
        assert!(old.end().success(), "{}", read(dir.path(), "err"));
        let rest = stream.whole().unwrap();
        let said = format!("{begun}{}", rest.text());
        assert!(said.trim_end().ends_with("data: [DONE]"), "{said}");
        eventually("the new process is ready", || {
            let ready = Client::new(admin).try_get("/health/ready");
            ready.is_ok_and(|answer| answer.status == 200)
        });
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for asked in asking {
            let (good, bad) = asked.join().unwrap();
            assert!(bad.is_empty(), "{bad:?}, {good} good");
            assert!(good > 0);
        }
        assert!(new.0.try_wait().unwrap().is_none(), "the new one goes on");
    });
}
