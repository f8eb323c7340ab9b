//! Asks the admin port of the running gateway, as the configuration says where it is and with what token.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::config::{self, Source};
use crate::secret::Secret;

/// The gateway answers within this, or is not asked further.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(5);
/// Longer answers are not read.
const MOST_ANSWER: u64 = 256 << 20;

/// Whom to ask.
#[derive(Debug, clap::Args)]
// Flattened into those of each command, which has a group of this name.
#[group(skip)]
pub struct Args {
    /// The configuration file, for admin.listen and the token; searched for as by `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin port, where it is not the configuration's.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// The environment variable that holds the admin token, where it is not the configuration's.
    #[arg(long, value_name = "VARIABLE")]
    token_env: Option<String>,
}

pub struct Client {
    address: String,
    token: Secret,
}

/// An answer of the admin port.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Client {
    /// Errors are for people.
    pub fn new(args: Args) -> Result<Self, String> {
        let source = args.config.map_or(Source::Search, Source::File);
        let named = args.token_env.map(|name| {
            let token = std::env::var(&name).ok();
            let token = token.filter(|token| !token.is_empty());
            token.map(Secret::new).ok_or(format!("{name} is not set"))
        });
        let named = named.transpose()?;
        if let (Some(address), Some(token)) = (&args.admin, &named) {
            let (address, token) = (address.clone(), token.clone());
            return Ok(Self { address, token });
        }
        let loaded = config::load(&source, &config::environment).map_err(|mistakes| {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })?;
        let snapshot = loaded.snapshot;
        let token = match named.or(snapshot.admin.token) {
            Some(token) => token,
            None => {
                let file = snapshot.state_dir.join("admin-token");
                let read = std::fs::read_to_string(&file);
                let text = read.map_err(|error| format!("{}: {error}", file.display()))?;
                Secret::new(text.trim())
            }
        };
        Ok(Self {
            address: args
                .admin
                .unwrap_or_else(|| reachable(&snapshot.admin.listen)),
            token,
        })
    }

    /// Errors: there is nobody, or what is said is no HTTP.
    pub fn get(&self, path: &str) -> Result<Answer, String> {
        self.send("GET", path, "")
    }

    /// Sends a body of JSON, or none. Errors: as of [`Client::get`].
    pub fn send(&self, method: &str, path: &str, body: &str) -> Result<Answer, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.address);
        let mut stream = self.connect().map_err(failed)?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            self.token.expose(),
            body.len(),
        );
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut said = Vec::new();
        let read = stream.take(MOST_ANSWER).read_to_end(&mut said);
        read.map_err(failed)?;
        answer(&said).ok_or_else(|| format!("{}: not an answer of strait", self.address))
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let mut last = None;
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::Error::other("no such host")))
    }
}

impl Answer {
    /// Returns the body where the answer is a success; otherwise what was said.
    pub fn success(self) -> Result<Vec<u8>, String> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let told = serde_json::from_slice::<Value>(&self.body).ok();
        let message = told.and_then(|told| Some(told["error"]["message"].as_str()?.to_owned()));
        Err(message.unwrap_or_else(|| format!("the gateway answered with status {}", self.status)))
    }
}

/// A listener on every address is found on this machine.
fn reachable(listen: &str) -> String {
    match listen.parse::<std::net::SocketAddr>() {
        Ok(mut address) if address.ip().is_unspecified() => {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
            address.to_string()
        }
        Ok(_) | Err(_) => listen.to_owned(),
    }
}

/// Reads an answer to a request that closes the connection: the admin port tells every length.
fn answer(said: &[u8]) -> Option<Answer> {
    let end = memchr::memmem::find(said, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&said[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse::<usize>().ok())?
    })?;
    let body = said.get(end + 4..)?.get(..length)?;
    Some(Answer {
        status: status.parse().ok()?,
        body: body.to_vec(),
    })
}

/// Percent-encodes a value of a query.
pub fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_only_when_it_is_whole() {
        let said = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(
            answer(said).map(|answer| answer.body),
            Some(b"abc".to_vec())
        );
        for cut in 0..said.len() {
            assert!(answer(&said[..cut]).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_this_machine() {
        assert_eq!(reachable("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(reachable("[::]:1"), "[::1]:1");
        assert_eq!(reachable("admin.internal:1"), "admin.internal:1");
    }

    #[test]
    fn values_can_hold_anything() {
        assert_eq!(encoded("a b&c=é"), "a%20b%26c%3D%C3%A9");
    }
}
