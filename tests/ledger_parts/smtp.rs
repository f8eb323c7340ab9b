//! Alerts by e-mail, to a server that speaks as much SMTP as it needs.

use std::io::{BufRead, BufReader, Write};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::common::authority::Authority;
use super::*;

/// Base64 of `\0strait\0secret-of-the-mail`.
const LOGIN: &str = "AHN0cmFpdABzZWNyZXQtb2YtdGhlLW1haWw=";

/// Whether the connection was encrypted, who should get it, and the message.
type Mail = (bool, Vec<String>, String);

struct Server {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
}

/// How a session goes on.
enum Goes {
    On,
    Encrypted,
}

/// Takes mails with `config`; with `wrapped` TLS is there from the start. The first mail meets a busy server.
fn server(config: Arc<ServerConfig>, wrapped: bool) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mails = Arc::<Mutex<Vec<_>>>::default();
    let own = mails.clone();
    std::thread::spawn(move || {
        let mut busy = true;
        for stream in listener.incoming().flatten() {
            let encrypted = |stream: TcpStream| {
                let connection = ServerConnection::new(config.clone()).unwrap();
                StreamOwned::new(connection, stream)
            };
            let mut session = |stream: &mut dyn Connection, is_encrypted: bool| {
                talk(stream, is_encrypted, &mut busy, &own)
            };
            // Whoever hangs up ends the session.
            if wrapped {
                let mut stream = encrypted(stream);
                let _ = greet(&mut stream).and_then(|()| session(&mut stream, true));
                continue;
            }
            let mut stream = stream;
            let went = greet(&mut stream).and_then(|()| session(&mut stream, false));
            if let Ok(Goes::Encrypted) = went {
                let _ = session(&mut encrypted(stream), true);
            }
        }
    });
    Server { address, mails }
}

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

fn greet(stream: &mut dyn Connection) -> std::io::Result<()> {
    stream.write_all(b"220 of.the.tests ESMTP\r\n")
}

fn talk(
    stream: &mut dyn Connection,
    is_encrypted: bool,
    busy: &mut bool,
    mails: &Mutex<Vec<Mail>>,
) -> std::io::Result<Goes> {
    let mut receivers = Vec::new();
    let mut logged_in = false;
    loop {
        let line = line(stream)?;
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = match verb.to_ascii_uppercase().as_str() {
            "EHLO" if is_encrypted => "250-of.the.tests\r\n250 AUTH PLAIN",
            "EHLO" => "250-of.the.tests\r\n250 STARTTLS",
            "STARTTLS" => {
                stream.write_all(b"220 go\r\n")?;
                return Ok(Goes::Encrypted);
            }
            "AUTH" if rest == format!("PLAIN {LOGIN}") => {
                logged_in = true;
                "235 welcome"
            }
            "AUTH" => "535 no",
            "MAIL" if is_encrypted && !logged_in => "530 who are you",
            "MAIL" if std::mem::take(busy) => "451 busy",
            "RCPT" => {
                receivers.push(rest.to_owned());
                "250 fine"
            }
            "MAIL" | "RSET" | "NOOP" => "250 fine",
            "DATA" => {
                stream.write_all(b"354 go\r\n")?;
                let mut text = String::new();
                loop {
                    match self::line(stream)?.as_str() {
                        "." => break,
                        line => text.push_str(&format!("{line}\n")),
                    }
                }
                let mail = (is_encrypted, std::mem::take(&mut receivers), text);
                mails.lock().unwrap().push(mail);
                "250 taken"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n")?;
                return Ok(Goes::On);
            }
            _ => "502 what",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes())?;
    }
}

/// Reads a line, byte by byte: what follows it may be for TLS.
fn line(stream: &mut dyn Connection) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut reader = BufReader::with_capacity(1, stream);
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[test]
fn a_crossing_is_mailed_over_tls_with_a_login_and_again_where_the_server_was_busy() {
    let authority = Authority::new();
    let identity = authority.local();
    let certs = CertificateDer::pem_slice_iter(identity.cert.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certs.map(Result::unwrap).collect(), key)
        .unwrap();
    let config = Arc::new(config);
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let mock = mock(
        "[[rule]]\nsteps = [{ text = \"hello\", usage = { prompt_tokens = 1000, completion_tokens = 1000 } }]\n",
    );
    for (tls, port_of) in [("starttls", false), ("tls", true)] {
        let server = server(config.clone(), port_of);
        let config = format!(
            "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"{}/v1\"\nkey = \"k\"\nprice = {{ in = 100.0, out = 100.0 }}\n\
             [[keys]]\nname = \"team-a\"\nkey = \"key-of-team-a\"\nbudget = {{ usd = 1.0, every = \"day\" }}\n\
             [alerts]\npercent = [50]\n[alerts.smtp]\nhost = \"localhost\"\nport = {}\ntls = \"{tls}\"\nca = \"{}\"\n\
             user = \"strait\"\npassword = \"secret-of-the-mail\"\nfrom = \"Strait <strait@example.com>\"\n\
             to = [\"ops@example.com\", \"Böss <boss@example.com>\"]\n",
            mock.url(),
            server.address.port(),
            ca.display(),
        );
        let strait = Strait::start(&config);
        let mut body = chat("lab/x", "hi");
        body["max_tokens"] = 1000.into();
        let bearer = [("authorization", "Bearer key-of-team-a")];
        for _ in 0..3 {
            let body = body.to_string();
            let client = strait.client();
            client.post("/v1/chat/completions", &bearer, body.as_bytes());
        }
        eventually("it is mailed", || {
            strait.metric("strait_alerts_total", &["outcome=\"sent\""]) == 1.0
        });
        let mails = server.mails.lock().unwrap().clone();
        let [(is_encrypted, receivers, text)] = &mails[..] else {
            panic!("{mails:?}\n{}", strait.log());
        };
        assert!(is_encrypted, "{tls}");
        let to = ["TO:<ops@example.com>", "TO:<boss@example.com>"];
        assert_eq!(receivers, &to, "{tls}");
        for part in [
            "From: Strait <strait@example.com>",
            "Subject: Budget key:team-a is spent to 50 %",
            "The budget key:team-a of 1 USD each day is spent to 50 %: 0.60 USD.",
            "Date: ",
            "Message-ID: <",
        ] {
            let part = part.replace("0.60", "0.6");
            assert!(text.contains(&part), "{part}: {text}");
        }
        let log = strait.log();
        assert!(log.contains("tried again"), "{log}");
        assert!(!log.contains("secret-of-the-mail"), "{log}");
    }
}
