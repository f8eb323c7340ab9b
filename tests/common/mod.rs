//! What the tests of the whole program share: a running `strait`, and a plain HTTP/1.1 client that shows bytes.
#![expect(dead_code, reason = "each test file uses its own part")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

pub mod authority;
pub mod dialect;
pub mod http;
pub mod http2;
pub mod postgres;
pub mod provider;
pub mod redis;
pub mod wire;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use http::{Answer, Client};
use strait::mock::{Mock, Script};

/// A running gateway, killed when it drops.
pub struct Strait {
    child: Child,
    pub dir: tempfile::TempDir,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
}

/// Returns an address that is free now.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Returns two addresses that are free now, and differ.
fn free_pair() -> (SocketAddr, SocketAddr) {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, other] = held.each_ref().map(|held| held.local_addr().unwrap());
    (one, other)
}

impl Strait {
    /// Starts with `config`, which holds every table but `[server]`, `[admin]`, `[state]` and `[records]`.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, "", &[])
    }

    /// Starts with what `prepare` has put into the state directory (which is not made yet).
    pub fn start_prepared(config: &str, prepare: impl Fn(&std::path::Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(&dir_path(&dir, "state"));
        Self::start_in(dir, config, "", "", &[])
    }

    /// Starts with further lines for `[state]` and further variables.
    pub fn start_state(config: &str, state: &str, env: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config, "", state, env)
    }

    /// Starts with further lines for `[server]` and further variables.
    pub fn start_with(config: &str, server: &str, env: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config, server, "", env)
    }

    fn start_in(
        dir: tempfile::TempDir,
        config: &str,
        server: &str,
        state: &str,
        env: &[(&str, &str)],
    ) -> Self {
        let (addr, admin) = free_pair();
        let path = dir_path(&dir, "strait.toml");
        let text = Self::config(&dir, addr, admin, config, server, state);
        std::fs::write(&path, text).unwrap();
        let child = spawn(&dir, env);
        let mut strait = Self {
            child,
            dir,
            addr,
            admin,
        };
        strait.wait_ready();
        strait
    }

    /// Starts again, with the same files and addresses and no variables, when it has ended or been killed.
    pub fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = spawn(&self.dir, &[]);
        self.wait_ready();
    }

    fn config(
        dir: &tempfile::TempDir,
        addr: SocketAddr,
        admin: SocketAddr,
        config: &str,
        server: &str,
        further: &str,
    ) -> String {
        let (state, records) = (dir_path(dir, "state"), dir_path(dir, "records.jsonl"));
        format!(
            "[server]\nlisten = [\"{addr}\"]\nthreads = 2\n{server}\n[admin]\nlisten = \"{admin}\"\ntoken = \"admin-token-of-the-tests\"\n\
             [state]\ndir = \"{}\"\n{further}\n[records]\nto = \"file:{}\"\n{config}\n",
            state.display(),
            records.display(),
        )
    }

    fn wait_ready(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("strait ended with {status}:\n{}", self.log());
            }
            if Client::new(self.admin)
                .try_get("/health/ready")
                .is_ok_and(|answer| answer.status == 200)
                && std::net::TcpStream::connect(self.addr).is_ok()
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("strait was not ready in time:\n{}", self.log());
    }

    /// Writes another configuration in place of the one in force; nothing is reloaded by this alone.
    pub fn write_config(&self, config: &str, server: &str) {
        self.write_config_with(config, server, "");
    }

    /// The same with further lines for `[state]`.
    pub fn write_config_with(&self, config: &str, server: &str, state: &str) {
        let text = Self::config(&self.dir, self.addr, self.admin, config, server, state);
        let next = dir_path(&self.dir, "strait.toml.next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, dir_path(&self.dir, "strait.toml")).unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(dir_path(&self.dir, "log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, most: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + most;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return Some(status),
                None if Instant::now() >= until => return None,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Posts a JSON body to the data plane.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.client().post(path, &[], body.to_string().as_bytes())
    }

    /// Asks the admin port, with the token.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("authorization", "Bearer admin-token-of-the-tests")];
        Client::new(self.admin).request(method, path, &headers, body.as_bytes())
    }

    pub fn metrics(&self) -> String {
        String::from_utf8(Client::new(self.admin).get("/metrics").body).unwrap()
    }

    /// Returns the value of a metric's series whose line begins with `name` and holds every one of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until there are `count` records, and returns all in the order in which their exchanges began: a
    /// client has its answer before the record is written, and the next may overtake it.
    pub fn records(&self, count: usize) -> Vec<Value> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let text =
                std::fs::read_to_string(dir_path(&self.dir, "records.jsonl")).unwrap_or_default();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let mut records: Vec<Value> = whole
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            if records.len() >= count {
                records.sort_by(|one, other| one["time"].as_str().cmp(&other["time"].as_str()));
                return records;
            }
            assert!(
                Instant::now() < until,
                "{} records instead of {count}:\n{text}",
                records.len()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Strait {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &tempfile::TempDir, env: &[(&str, &str)]) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir_path(dir, "log"))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    // Keys of whoever runs the tests must not enable providers.
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .envs(env.iter().copied())
        .args(["serve", "--config"])
        .arg(dir_path(dir, "strait.toml"));
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn dir_path(dir: &tempfile::TempDir, name: &str) -> PathBuf {
    dir.path().join(name)
}

/// Waits until `holds`, or fails with `what`.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A fake provider that behaves as `script` (TOML) says.
pub fn mock(script: &str) -> Mock {
    Mock::start(Script::from_toml(script).unwrap()).unwrap()
}

/// Runs `each` for 0 to `count` at once, a thread for each, and returns what they returned, in order.
pub fn at_once<T: Send>(count: usize, each: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = std::sync::Barrier::new(count);
    std::thread::scope(|scope| {
        let (start, each) = (&start, &each);
        let threads: Vec<_> = (0..count)
            .map(|at| {
                scope.spawn(move || {
                    start.wait();
                    each(at)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// A minimal chat body.
pub fn chat(model: &str, text: &str) -> Value {
    serde_json::json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// A minimal Anthropic body.
pub fn message(model: &str, text: &str) -> Value {
    serde_json::json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}]})
}
