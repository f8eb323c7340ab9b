//! A Redis of a test's own: Debian's package, on a private port, in a temporary folder.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// In every URL, so that tests can look whether it ever shows.
pub const PASSWORD: &str = "redis-p4ssword-of-the-tests";

/// Stopped when it drops.
pub struct Redis {
    dir: tempfile::TempDir,
    pub port: u16,
    program: &'static str,
    args: Vec<String>,
    tls: bool,
    child: Option<Child>,
}

impl Redis {
    /// Starts one that asks for a password and keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(more: &[&str]) -> Self {
        let mut redis = Self::new("redis-server", more);
        let port = redis.port.to_string();
        redis.say(&["--port", &port]);
        redis.begin();
        redis
    }

    /// Starts one that takes no connection without TLS, nor of anybody whom the authority doesn't know.
    pub fn start_mutual_tls(identity: &super::authority::Identity, ca: &str) -> Self {
        Self::start_tls_with(identity, ca, "yes")
    }

    /// Starts one that takes no connection without TLS.
    pub fn start_tls(identity: &super::authority::Identity, ca: &str) -> Self {
        Self::start_tls_with(identity, ca, "no")
    }

    fn start_tls_with(identity: &super::authority::Identity, ca: &str, clients: &str) -> Self {
        let mut redis = Self::new("redis-server", &[]);
        redis.tls = true;
        let (cert, key) = identity.files(&redis.dir);
        let file = redis.dir.path().join("ca.pem");
        std::fs::write(&file, ca).unwrap();
        let port = redis.port.to_string();
        redis.say(&[
            "--port",
            "0",
            "--tls-port",
            &port,
            "--tls-auth-clients",
            clients,
        ]);
        for (option, path) in [
            ("--tls-cert-file", &cert),
            ("--tls-key-file", &key),
            ("--tls-ca-cert-file", &file),
        ] {
            redis.say(&[option, path.to_str().unwrap()]);
        }
        redis.begin();
        redis
    }

    /// Starts three that share the keys between them.
    pub fn start_cluster() -> [Self; 3] {
        let nodes = [(); 3].map(|()| {
            let bus = super::free().port().to_string();
            let more = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            Self::start_with(&more)
        });
        const SLOTS: [[&str; 2]; 3] = [["0", "5460"], ["5461", "10922"], ["10923", "16383"]];
        for (node, [first, last]) in nodes.iter().zip(SLOTS) {
            assert_eq!(node.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]), "OK");
        }
        let (first, others) = nodes.split_first().unwrap();
        for other in others {
            let bus = other.ask(&["CONFIG", "GET", "cluster-port"]);
            let bus = bus.lines().last().unwrap().to_owned();
            let port = other.port.to_string();
            let met = first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            assert_eq!(met, "OK");
        }
        for node in &nodes {
            super::eventually("the cluster is whole", || {
                let info = node.ask(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            });
        }
        nodes
    }

    /// Starts one that copies another.
    pub fn start_replica(of: &Redis) -> Self {
        let port = of.port.to_string();
        let more = ["--replicaof", "127.0.0.1", &port, "--masterauth", PASSWORD];
        let replica = Self::start_with(&more);
        super::eventually("the replica has copied", || {
            let told = replica.ask(&["INFO", "replication"]);
            told.contains("master_link_status:up")
        });
        replica
    }

    /// Starts a sentinel that watches `master` under that name.
    pub fn start_sentinel(name: &str, master: &Redis) -> Self {
        let mut sentinel = Self::new("redis-sentinel", &[]);
        let file = sentinel.dir.path().join("sentinel.conf");
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nrequirepass {PASSWORD}\n\
             sentinel monitor {name} 127.0.0.1 {} 1\nsentinel auth-pass {name} {PASSWORD}\n\
             sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 5000\n",
            sentinel.port,
            sentinel.dir.path().display(),
            master.port,
        );
        std::fs::write(&file, text).unwrap();
        sentinel.args = vec![file.to_str().unwrap().to_owned()];
        sentinel.begin();
        sentinel
    }

    fn new(program: &'static str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut redis = Self {
            port: super::free().port(),
            program,
            args: Vec::new(),
            tls: false,
            child: None,
            dir,
        };
        let place = redis.dir.path().to_str().unwrap().to_owned();
        redis.say(&[
            "--bind",
            "127.0.0.1",
            "--dir",
            &place,
            "--requirepass",
            PASSWORD,
        ]);
        redis.say(&[
            "--save",
            "",
            "--appendonly",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ]);
        redis.say(more);
        redis
    }

    fn say(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    /// Starts it, or starts it again with nothing in it.
    pub fn begin(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let child = Command::new(self.program)
            .args(&self.args)
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("Redis is installed: `bash .ci/setup tests`");
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(30);
        while self.ask(&["PING"]) != "PONG" {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "Redis did not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it: what was in it is gone.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Holds it still, or lets it go on: a server that takes connections and never answers.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let pid = self.child.as_ref().unwrap().id().to_string();
        let _ = Command::new("kill").args([signal, &pid]).status();
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Runs a command and returns what it printed, without the last line break.
    pub fn ask(&self, command: &[&str]) -> String {
        let port = self.port.to_string();
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &port])
            .env("REDISCLI_AUTH", PASSWORD);
        if self.tls {
            let ca = self.dir.path().join("ca.pem");
            cli.arg("--tls").arg("--cacert").arg(ca);
            let [cert, key] = ["cert.pem", "key.pem"].map(|file| self.dir.path().join(file));
            cli.arg("--cert").arg(cert).arg("--key").arg(key);
        }
        let done = cli.args(command).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout);
        text.trim_end_matches('\n').to_owned()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
