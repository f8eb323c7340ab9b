//! Everything that runs during a measurement: the provider, the floor, strait with its configuration, the clients.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::client::Seen;
use crate::figures::{Load, SCENES};
use crate::process::{Cores, Running};
use crate::wire::{self, CLIENT_KEY, Dialect, PROVIDER_KEY, Side};
use crate::{Failure, Result};

/// A process that takes requests.
pub struct Gateway {
    pub running: Running,
    pub address: String,
}

/// Which process a load goes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    Floor,
    Strait { cache: bool, ledger: bool },
}

pub struct Lab {
    cores: Option<Cores>,
    strait: PathBuf,
    /// Ourselves, for the other roles.
    program: PathBuf,
    provider: Running,
    provider_address: String,
    /// Started when first asked for.
    gateways: HashMap<Which, Gateway>,
    /// How often one was started, for the names of files.
    starts: usize,
    /// Dropped last: it removes what the processes write.
    dir: tempfile::TempDir,
}

/// Time that a process has to answer; a debug build on a busy machine is slow.
const START: Duration = Duration::from_secs(20);

impl Lab {
    pub fn open(strait: PathBuf, cores: Option<Cores>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let program = std::env::current_exe()?;
        let provider_address = free_address()?;
        let arguments = ["role", "provider", &provider_address].map(String::from);
        let core = cores.map(|cores| cores.load);
        let provider = Running::start(
            "provider",
            &program,
            &arguments,
            core,
            Stdio::null(),
            dir.path(),
        )?;
        let mut lab = Self {
            cores,
            strait,
            program,
            provider,
            provider_address,
            gateways: HashMap::new(),
            starts: 0,
            dir,
        };
        let deadline = Instant::now() + START;
        while TcpStream::connect(&lab.provider_address).is_err() {
            lab.provider.check()?;
            if Instant::now() > deadline {
                return Err(lab.provider.failure("does not listen"));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(lab)
    }

    /// Runs a client against the side's gateway, which is started when it isn't there yet.
    pub fn client(
        &mut self,
        order: (&str, usize, &Load),
        side: Side,
        times: (Duration, Duration),
    ) -> Result<Seen> {
        let which = match side {
            Side::Floor => Which::Floor,
            Side::Strait => Which::Strait {
                cache: order.2.cache,
                ledger: order.2.ledger,
            },
        };
        if !self.gateways.contains_key(&which) {
            let gateway = self.start(side, order.2)?;
            self.gateways.insert(which, gateway);
        }
        let mut gateway = self
            .gateways
            .remove(&which)
            .ok_or("a gateway that was just started is gone")?;
        let seen = self.client_of(&mut gateway, (order.0, order.1), side, times)?;
        // After a failure it isn't put back: the next figure gets a new one.
        self.gateways.insert(which, gateway);
        Ok(seen)
    }

    /// Runs a client against this gateway.
    pub fn client_of(
        &self,
        gateway: &mut Gateway,
        (figure, load): (&str, usize),
        side: Side,
        (warm_up, measure): (Duration, Duration),
    ) -> Result<Seen> {
        let side = match side {
            Side::Floor => "floor",
            Side::Strait => "strait",
        };
        let arguments = [
            "role",
            "client",
            figure,
            &load.to_string(),
            side,
            &gateway.address,
            &gateway.running.pid().to_string(),
            &warm_up.as_millis().to_string(),
            &measure.as_millis().to_string(),
        ]
        .map(String::from);
        let core = self.cores.map(|cores| cores.load);
        let client = Running::start(
            "client",
            &self.program,
            &arguments,
            core,
            Stdio::piped(),
            self.dir.path(),
        )?;
        const DRAIN: Duration = Duration::from_secs(30);
        let said = client.finish(warm_up + measure + DRAIN);
        gateway.running.check()?;
        let seen: Seen = serde_json::from_str(&said?)?;
        match seen.failures.as_slice() {
            [] => Ok(seen),
            failures => Err(gateway.running.failure(&failures.join("; "))),
        }
    }

    /// Starts a gateway and waits until it says that it is ready.
    pub fn start(&mut self, side: Side, load: &Load) -> Result<Gateway> {
        let (mut gateway, probe) = self.spawn(side, load)?;
        let (address, request) = match probe {
            // Bare Pingora has no health page; a connection taken is all it can say.
            None => (gateway.address.clone(), None),
            Some(admin) => {
                let request = format!(
                    "GET /health/ready HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n"
                );
                (admin, Some(request))
            }
        };
        let deadline = Instant::now() + START;
        loop {
            let ready = match &request {
                None => TcpStream::connect(&address).is_ok(),
                Some(request) => answers(&address, request.as_bytes()).unwrap_or(false),
            };
            if ready {
                return Ok(gateway);
            }
            gateway.running.check()?;
            if Instant::now() > deadline {
                let what = format!("is not ready at {address} after {START:?}");
                return Err(gateway.running.failure(&what));
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Starts a gateway and returns the time until it has answered a model request.
    pub fn time_start(&mut self, load: &Load, side: Side) -> Result<Duration> {
        let began = Instant::now();
        let (mut gateway, _) = self.spawn(side, load)?;
        let request = wire::request(load, side, &gateway.address);
        while !answers(&gateway.address, &request).unwrap_or(false) {
            gateway.running.check()?;
            if began.elapsed() > START {
                let what = format!("answers nothing after {START:?}");
                return Err(gateway.running.failure(&what));
            }
            sleep(Duration::from_millis(1));
        }
        Ok(began.elapsed())
    }

    fn spawn(&mut self, side: Side, load: &Load) -> Result<(Gateway, Option<String>)> {
        self.provider.check()?;
        self.starts += 1;
        let address = free_address()?;
        let core = self.cores.map(|cores| cores.gateway);
        let dir = self.dir.path();
        match side {
            Side::Floor => {
                let arguments =
                    ["role", "floor", &address, &self.provider_address].map(String::from);
                let name = format!("floor-{}", self.starts);
                let running =
                    Running::start(&name, &self.program, &arguments, core, Stdio::null(), dir)?;
                Ok((Gateway { running, address }, None))
            }
            Side::Strait => {
                let admin = free_address()?;
                let name = format!("strait-{}", self.starts);
                let file = dir.join(format!("{name}.toml"));
                let state = dir.join(format!("{name}-state"));
                fs::create_dir(&state)?;
                let text = configuration(
                    &address,
                    &admin,
                    &self.provider_address,
                    &state.display().to_string(),
                    load,
                );
                fs::write(&file, text)?;
                let arguments = [
                    "serve".into(),
                    "--config".into(),
                    file.display().to_string(),
                ];
                // Records go to stdout: written as ever, kept nowhere.
                let running =
                    Running::start(&name, &self.strait, &arguments, core, Stdio::null(), dir)?;
                Ok((Gateway { running, address }, Some(admin)))
            }
        }
    }
}

/// A configuration with everything on that a gateway in service has on; the ledger where its figure asks for it,
/// because its rows are written beside the requests, on whatever core is free.
fn configuration(listen: &str, admin: &str, provider: &str, state: &str, load: &Load) -> String {
    let Load { cache, ledger, .. } = load;
    let mut text = format!(
        "[server]\nlisten = [\"{listen}\"]\nthreads = 1\n\n[admin]\nlisten = \"{admin}\"\ntoken = \"load-admin-token\"\n\n\
         [state]\ndir = \"{state}\"\n\n[cache]\nenabled = {cache}\nmemory = \"64MiB\"\nttl = \"1h\"\n\n\
         [ledger]\nenabled = {ledger}\n\n"
    );
    let mut models = Vec::new();
    for scene in SCENES {
        for dialect in Dialect::ALL {
            let name = wire::provider_name(scene, dialect);
            let protocol = dialect.protocol();
            // Writing into a string can't fail.
            let _ = write!(
                text,
                "[providers.{name}]\nprotocols = [\"{protocol}\"]\nbase_url = \"http://{provider}/{}/v1\"\n\
                 key = \"{PROVIDER_KEY}\"\nprice = {{ in = 0.10, out = 0.40 }}\n\n",
                scene.name
            );
            models.push(format!("\"{name}/*\""));
        }
    }
    let _ = write!(
        text,
        "[[keys]]\nname = \"load\"\nkey = \"{CLIENT_KEY}\"\nmodels = [{}]\n\
         limits = {{ rpm = 100000000, tpm = 100000000000, concurrent = 10000 }}\n",
        models.join(", ")
    );
    text
}

/// Returns an address that was free a moment ago.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

/// Asks once and returns whether the answer's status is 200.
fn answers(address: &str, request: &[u8]) -> Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request)?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    if head.starts_with(b"HTTP/1.1 ") {
        Ok(head.ends_with(b"200"))
    } else {
        Err(Failure::from("not an HTTP/1.1 answer"))
    }
}
