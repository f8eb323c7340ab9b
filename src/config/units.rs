//! Durations, sizes and addresses as people write them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use toml::de::DeValue;

use super::mistake::Wrong;
use super::read::{Parsed, text, unlike};
use crate::provider::Endpoint;

/// Longer than this is a typing error, and would overflow clocks that add it to now.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads `"250ms"`, `"5s"`, `"2m"`, `"1h"`, `"7d"`, or several after each other (`"1h30m"`).
pub(super) fn duration_or_zero(value: &DeValue<'_>) -> Parsed<Duration> {
    let Some(written) = value.as_str() else {
        let seconds = value.as_integer().map(|integer| format!("\"{integer}s\""));
        return Err(Wrong {
            suggestion: seconds,
            ..unlike("a duration such as \"250ms\", \"5s\" or \"1h\"", value)
        });
    };
    let wrong = |suggestion| {
        Wrong::suggest(
            "is no duration: write a whole number and ms, s, m, h or d",
            suggestion,
        )
    };
    let compact: String = written.split_whitespace().collect();
    match read_duration(&compact) {
        Some(_) if compact.len() != written.len() => Err(wrong(Some(format!("{compact:?}")))),
        Some(duration) if duration <= LONGEST => Ok(duration),
        Some(_) => Err("must be at most 366d".into()),
        None => Err(wrong(like_duration(&compact))),
    }
}

/// Reads a duration that is more than nothing.
pub(super) fn duration(value: &DeValue<'_>) -> Parsed<Duration> {
    match duration_or_zero(value)? {
        Duration::ZERO => Err("must be more than 0".into()),
        duration => Ok(duration),
    }
}

fn read_duration(written: &str) -> Option<Duration> {
    let mut rest = written;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        };
        sum = sum.checked_add(unit)?;
        rest = &rest[unit_len..];
    }
    (!written.is_empty()).then_some(sum)
}

/// Returns the duration that `5`, `5sec`, `5 minutes` or `0.5s` was meant to be.
fn like_duration(written: &str) -> Option<String> {
    let digits = written
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(written.len());
    let number: f64 = written[..digits].parse().ok()?;
    let (unit, smaller) = match written[digits..].to_ascii_lowercase().as_str() {
        "" | "sec" | "secs" | "second" | "seconds" | "s" => ("s", Some((1000.0, "ms"))),
        "ms" | "msec" | "millis" | "milliseconds" => ("ms", None),
        "m" | "min" | "mins" | "minute" | "minutes" => ("m", Some((60.0, "s"))),
        "h" | "hr" | "hour" | "hours" => ("h", Some((60.0, "m"))),
        "d" | "day" | "days" => ("d", Some((24.0, "h"))),
        _ => return None,
    };
    let suggestion = match smaller {
        Some((factor, smaller)) if number.fract() != 0.0 => {
            format!("{}{smaller}", (number * factor).round())
        }
        _ => format!("{}{unit}", number.round()),
    };
    read_duration(&suggestion).map(|_| format!("{suggestion:?}"))
}

/// Reads `"64MiB"`, `"512KiB"`, `"1GiB"`, `"10MB"` (1000²), or a plain number of bytes; more than nothing.
pub(super) fn size(value: &DeValue<'_>) -> Parsed<u64> {
    if value.is_integer() {
        return super::read::whole(1..=i64::MAX.unsigned_abs())(value);
    }
    let Some(written) = value.as_str() else {
        return Err(unlike("a size such as \"64MiB\", or bytes", value));
    };
    let digits = written
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(written.len());
    let unit = match &written[digits..] {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1_u64 << 40),
        "kB" => Some(1000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        _ => None,
    };
    let bytes = unit.and_then(|unit| written[..digits].parse::<u64>().ok()?.checked_mul(unit));
    match bytes {
        Some(0) => Err("must be more than 0".into()),
        Some(bytes) if bytes <= i64::MAX.unsigned_abs() => Ok(bytes),
        _ => Err(Wrong::suggest(
            "is no size: write a whole number and B, KiB, MiB, GiB or TiB",
            like_size(written),
        )),
    }
}

fn like_size(written: &str) -> Option<String> {
    let compact: String = written.split_whitespace().collect();
    let digits = compact.find(|c: char| !c.is_ascii_digit())?;
    let number: u32 = compact[..digits].parse().ok()?;
    let unit = match compact[digits..].to_ascii_lowercase().as_str() {
        "b" | "bytes" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        _ => return None,
    };
    Some(format!("\"{number}{unit}\""))
}

/// Reads the base URL of a provider.
pub(super) fn url(value: &DeValue<'_>) -> Parsed<Endpoint> {
    read_url(&text(value)?)
}

// What is wrong is said without the URL: it may hold a password.
pub(super) fn read_url(written: &str) -> Parsed<Endpoint> {
    let (tls, default_port, rest) = match written.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, 443, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, 80, rest),
        Some(_) => return Err("the URL must begin with http:// or https://".into()),
        None => {
            let guess = format!(
                "{}{written}",
                if looks_local(written) {
                    "http://"
                } else {
                    "https://"
                }
            );
            let suggestion = read_url(&guess).is_ok().then(|| format!("{guess:?}"));
            return Err(Wrong::suggest(
                "the URL must begin with http:// or https://",
                suggestion,
            ));
        }
    };
    if rest.contains(['?', '#']) {
        return Err("the URL must have no query (?) and no fragment (#)".into());
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("the URL must hold no user and no password; give the credential as key".into());
    }
    let (host, port) = split_port(authority)?;
    let port = port.unwrap_or(default_port);
    let base_path = path.trim_end_matches('/');
    if !is_path(base_path) {
        return Err("the path of the URL must be of visible ASCII, without `..`".into());
    }
    for suffix in ["/chat/completions", "/v1/messages"] {
        if let Some(base) = base_path.strip_suffix(suffix) {
            let shown = &written[..written.len() - path.len()];
            let message = format!("the URL must be the base that {suffix} is appended to");
            return Err(Wrong::suggest(message, Some(format!("\"{shown}{base}\""))));
        }
    }
    Ok(Endpoint {
        tls,
        host,
        port,
        base_path: base_path.to_string(),
        weight: 1,
        health_path: None,
    })
}

fn looks_local(written: &str) -> bool {
    written.starts_with("localhost")
        || written.starts_with('[')
        || written.starts_with(|c: char| c.is_ascii_digit())
}

fn split_port(authority: &str) -> Parsed<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest
                .split_once(']')
                .ok_or("an IPv6 address needs a closing ]")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("between [ and ] must be an IPv6 address".into());
            }
            match rest.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if rest.is_empty() => (address, None),
                None => return Err("after ] only :port may follow".into()),
            }
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address needs [ ] around it".into());
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("the URL names no host".into());
    }
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    if host.len() > 253 || !host.bytes().all(is_name) {
        return Err(
            "the host must be a name of letters, digits, dots and dashes, or an address".into(),
        );
    }
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err("the port must be a number from 1 to 65535".into()),
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Reads a path to ask for, from the root; it may have a query (`/openai?api-version=1`).
pub(super) fn path(value: &DeValue<'_>) -> Parsed<String> {
    let written = text(value)?;
    if !written.starts_with('/') {
        return Err(Wrong::suggest(
            "must begin with /",
            Some(format!("\"/{written}\"")).filter(|_| is_path(&written)),
        ));
    }
    if !is_path(&written) || written.contains('#') {
        return Err("must be a path of visible ASCII, without `..` and #".into());
    }
    Ok(written)
}

fn is_path(path: &str) -> bool {
    path.bytes()
        .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
        && path.split('/').all(|part| part != "..")
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listen {
    pub address: String,
    pub loopback: bool,
}

/// Reads `127.0.0.1:8080`, `[::]:8080` or `localhost:8080`.
pub(super) fn listen(value: &DeValue<'_>) -> Parsed<Listen> {
    if let Some(port) = value.as_integer() {
        let suggestion = Some(format!("\"127.0.0.1:{port}\""));
        return Err(Wrong {
            suggestion,
            ..unlike("an address such as \"127.0.0.1:8080\"", value)
        });
    }
    let address = text(value)?;
    let wrong = |suggestion: Option<String>| {
        Wrong::suggest(
            "must be an address and a port, such as \"127.0.0.1:8080\"",
            suggestion.map(|s| format!("{s:?}")),
        )
    };
    if let Ok(socket) = address.parse::<SocketAddr>() {
        return Ok(Listen {
            loopback: socket.ip().to_canonical().is_loopback(),
            address,
        });
    }
    if let Ok(ip) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(wrong(Some(SocketAddr::new(ip, 8080).to_string())));
    }
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, ""));
    if host.is_empty() || host == "*" {
        return Err(wrong(
            port.parse::<u16>()
                .ok()
                .map(|port| format!("0.0.0.0:{port}")),
        ));
    }
    let is_name = host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    // A name must have a letter: `300.0.0.1` is no name, but an address gone wrong.
    if !is_name || !host.bytes().any(|b| b.is_ascii_alphabetic()) || port.parse::<u16>().is_err() {
        let port = address.parse::<u16>().ok();
        return Err(wrong(port.map(|port| format!("127.0.0.1:{port}"))));
    }
    Ok(Listen {
        loopback: host.eq_ignore_ascii_case("localhost"),
        address,
    })
}
