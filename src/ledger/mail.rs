//! Alerts by e-mail: to a server that takes them for others, over TLS from the start, by STARTTLS, or in the clear.

use std::time::Duration;

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls as Wire, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use crate::secret::Secret;

/// Of a subject no more is sent.
const MOST_SUBJECT: usize = 200;

/// The `[alerts.smtp]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub host: String,
    /// `None`: the usual one.
    pub port: Option<u16>,
    pub tls: Tls,
    /// Certificates in PEM that are trusted beside the system's.
    pub ca: Option<String>,
    pub login: Option<(String, Secret)>,
    pub from: Mailbox,
    /// At least one.
    pub to: Vec<Mailbox>,
}

/// How the connection is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// By STARTTLS; a server that doesn't offer it gets nothing.
    Starttls,
    /// From its start.
    Wrapped,
    /// Not at all: for a server on this machine.
    Clear,
}

impl Tls {
    pub const ALL: [(&'static str, Tls); 3] = [
        ("starttls", Tls::Starttls),
        ("tls", Tls::Wrapped),
        ("none", Tls::Clear),
    ];

    fn port(self) -> u16 {
        match self {
            Tls::Starttls => 587,
            Tls::Wrapped => 465,
            Tls::Clear => 25,
        }
    }
}

/// Why a mail was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub why: String,
    /// It may be taken later.
    pub again: bool,
}

/// Reads an address, such as `Strait <strait@example.com>`.
pub fn address(text: &str) -> Option<Mailbox> {
    text.parse().ok()
}

/// Sends a mail, to all at once.
pub async fn send(
    settings: &Settings,
    patience: Duration,
    (subject, text): (&str, &str),
) -> Result<(), Failure> {
    let message = message(settings, subject, text).map_err(|error| Failure {
        why: format!("it can't be written: {error}"),
        again: false,
    })?;
    let unfit = |error: lettre::transport::smtp::Error| Failure {
        why: format!("TLS can't be set up: {error}"),
        again: false,
    };
    let transport: AsyncSmtpTransport<Tokio1Executor> = transport(settings)
        .map_err(unfit)?
        .timeout(Some(patience))
        .build();
    // It waits for each step; all of them together must end too.
    let sent = tokio::time::timeout(patience * 2, transport.send(message)).await;
    match sent {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Failure {
            // What a server says may be long; what was sent to it is not in it.
            why: error.to_string().chars().take(MOST_SUBJECT).collect(),
            again: !error.is_permanent(),
        }),
        Err(_) => Err(Failure {
            why: "the server did not answer in time".into(),
            again: true,
        }),
    }
}

fn message(
    settings: &Settings,
    subject: &str,
    text: &str,
) -> Result<Message, lettre::error::Error> {
    // What is in it may come from a client.
    let clean = |text: &str| text.replace(|c: char| c.is_control(), " ");
    let subject: String = clean(subject).chars().take(MOST_SUBJECT).collect();
    let id = format!(
        "<{:032x}@{}>",
        fastrand::u128(..),
        settings.from.email.domain()
    );
    let mut message = Message::builder()
        .from(settings.from.clone())
        .subject(subject)
        .message_id(Some(id))
        .header(ContentType::TEXT_PLAIN);
    for to in &settings.to {
        message = message.to(to.clone());
    }
    message.body(format!("{}\n", clean(text)))
}

fn transport(
    settings: &Settings,
) -> Result<AsyncSmtpTransportBuilder, lettre::transport::smtp::Error> {
    let wire = match settings.tls {
        Tls::Clear => Wire::None,
        Tls::Starttls => Wire::Required(parameters(settings)?),
        Tls::Wrapped => Wire::Wrapper(parameters(settings)?),
    };
    let host = settings.host.as_str();
    let port = settings.port.unwrap_or(settings.tls.port());
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(port)
        .tls(wire);
    if let Some((user, password)) = &settings.login {
        let login = Credentials::new(user.clone(), password.expose().to_owned());
        transport = transport.credentials(login);
    }
    Ok(transport)
}

fn parameters(settings: &Settings) -> Result<TlsParameters, lettre::transport::smtp::Error> {
    let mut parameters = TlsParameters::builder(settings.host.clone());
    if let Some(ca) = &settings.ca {
        parameters = parameters.add_root_certificate(Certificate::from_pem(ca.as_bytes())?);
    }
    parameters.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_mail_becomes_a_header() {
        let settings = Settings {
            host: "localhost".into(),
            port: None,
            tls: Tls::Clear,
            ca: None,
            login: None,
            from: address("Strait <strait@example.com>").expect("an address"),
            to: ["a@example.com", "b@example.com"]
                .map(|to| address(to).expect("an address"))
                .into(),
        };
        let evil = "user:x\r\nBcc: thief@example.com\r\n\r\nbody";
        let message = message(&settings, evil, evil).expect("a message");
        let text = String::from_utf8(message.formatted()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(head.lines().all(|line| !line.starts_with("Bcc")), "{head}");
        assert!(head.contains("To: a@example.com, b@example.com"), "{head}");
        assert_eq!(body.lines().count(), 1, "{body}");
        assert_eq!(message.envelope().to().len(), 2);
        for wrong in ["", "x", "a@b@c", "a@example.com\r\nBcc: b@c.de"] {
            assert!(address(wrong).is_none(), "{wrong}");
        }
    }
}
