//! A PostgreSQL server of a test's own: Debian's package, on a private port, in a temporary folder.

use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Stopped when it drops.
pub struct Postgres {
    programs: PathBuf,
    dir: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
    databases: AtomicU32,
}

/// In every URL of the server, so that tests can look whether it ever shows.
pub const PASSWORD: &str = "pg-p4ssword-of-the-tests";

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Makes one that speaks TLS, and takes no connection without.
    pub fn start_tls(identity: &super::authority::Identity) -> Self {
        Self::start_with(Some(identity))
    }

    fn start_with(tls: Option<&super::authority::Identity>) -> Self {
        let programs = programs();
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self {
            programs,
            dir,
            port: super::free().port(),
            child: None,
            databases: AtomicU32::new(0),
        };
        if let Some((user, group)) = other() {
            chown(server.dir.path(), Some(user), Some(group)).unwrap();
        }
        let secret = server.dir.path().join("password");
        std::fs::write(&secret, PASSWORD).unwrap();
        let made = server
            .run("initdb")
            .args([
                "-U",
                "strait",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ])
            .args(["-A", "scram-sha-256", "--pwfile"])
            .arg(&secret)
            .arg("-D")
            .arg(server.dir.path().join("data"))
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        if let Some(identity) = tls {
            server.speak_tls(identity);
        }
        server.begin();
        server
    }

    fn speak_tls(&self, identity: &super::authority::Identity) {
        use std::os::unix::fs::PermissionsExt;
        let data = self.dir.path().join("data");
        for (name, text) in [
            ("server.crt", &identity.cert),
            ("server.key", &identity.key),
        ] {
            let file = data.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = other() {
                chown(&file, Some(user), Some(group)).unwrap();
            }
        }
        let config = data.join("postgresql.auto.conf");
        std::fs::write(config, "ssl = on\n").unwrap();
        let hosts = "hostssl all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), hosts).unwrap();
    }

    /// Starts it, or starts it again on what it had.
    pub fn begin(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let (dir, port) = (self.dir.path().to_owned(), self.port.to_string());
        let child = self
            .run("postgres")
            .arg("-D")
            .arg(dir.join("data"))
            .arg("-k")
            .arg(&dir)
            .args(["-p", &port, "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "max_connections=100"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(60);
        while !self.is_ready() {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(
                Instant::now() < until,
                "PostgreSQL did not start: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        let port = self.port.to_string();
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            && self
                .run("pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status()
                .unwrap()
                .success()
    }

    /// Stops it: at once with `QUIT`, as if it were killed; with `INT` in order. Connections are cut either way.
    pub fn stop(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = child.id().to_string();
        let _ = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status();
        let until = Instant::now() + Duration::from_secs(20);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > until {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Holds every process of it still, or lets them go on: a server that takes connections and never answers.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let child = self.child.as_ref().unwrap();
        let parent = child.id().to_string();
        let children = Command::new("pgrep")
            .args(["-P", &parent])
            .output()
            .unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let all = std::iter::once(parent.as_str()).chain(children.lines());
        let _ = Command::new("kill").arg(signal).args(all).status();
    }

    /// Makes an empty database and returns its URL.
    pub fn database(&self) -> String {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://strait:{PASSWORD}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Runs a statement and returns what it printed: columns parted by `|`, a line for each row.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let port = self.port.to_string();
        let done = self
            .run("psql")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "strait",
                "-qAtX",
                "-d",
                database,
            ])
            .args(["-v", "ON_ERROR_STOP=1", "-c", statement])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{statement}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// PostgreSQL refuses to run as root.
    fn run(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match other() {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command
                    .args([&format!("--reuid={user}"), &format!("--regid={group}")])
                    .arg("--clear-groups")
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        // psql looks for certificates there.
        command.current_dir("/").env("HOME", self.dir.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.freeze_end();
        self.stop("QUIT");
    }
}

impl Postgres {
    fn freeze_end(&self) {
        if self.child.is_some() {
            self.freeze(false);
        }
    }
}

/// Returns where the newest server's programs are.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.expect("PostgreSQL is installed: `bash .ci/setup tests`");
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let mut programs: Vec<PathBuf> = programs
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    programs.sort();
    programs
        .pop()
        .expect("PostgreSQL's server is installed: `bash .ci/setup tests`")
}

/// Returns whom to run it as, where this is root.
fn other() -> Option<(u32, u32)> {
    let id = |args: &[&str]| {
        let told = Command::new("id").args(args).output().ok()?;
        String::from_utf8(told.stdout)
            .ok()?
            .trim()
            .parse::<u32>()
            .ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?))
}
