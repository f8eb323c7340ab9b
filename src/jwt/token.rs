//! One token, taken apart and checked.

use std::time::Duration;

use super::claims::{Claims, texts};
use super::keys::{Algorithm, Keys};
use crate::codec::base64;

/// Longer tokens are refused unread: the longest that are handed out have some hundred groups in them.
pub const LONGEST: usize = 16 << 10;
/// Of a set without ids so many keys are tried.
const MOST_TRIED: usize = 8;

/// A token whose signature isn't checked yet.
pub struct Token<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    header: Header,
    claims: Claims,
}

#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What whoever reads it has to understand: we understand none of it.
    crit: Option<serde_json::Value>,
}

/// When a token holds, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub from: i64,
    pub until: i64,
}

/// Why a token is refused. It is said to whoever sent it, and holds nothing of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    Malformed,
    Algorithm,
    /// The issuer has no such key, as far as is known.
    UnknownKey,
    Signature,
    Issuer,
    Audience,
    Expired,
    Early,
    /// A claim isn't there, or not what is asked for.
    Claim(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fault::Malformed => "The token is malformed.",
            Fault::Algorithm => "The token is signed in a way that is not taken here.",
            Fault::UnknownKey => "The token is signed by a key that its issuer does not show.",
            Fault::Signature => "The token's signature does not hold.",
            Fault::Issuer => "The token is of an issuer that is not known here.",
            Fault::Audience => "The token is for another audience.",
            Fault::Expired => "The token has expired.",
            Fault::Early => "The token does not hold yet.",
            Fault::Claim(name) => {
                return write!(f, "The token's claim `{name}` is not what is asked for.");
            }
        })
    }
}

/// Returns whether a text has the form of a token: three parts, the first of which begins an object.
pub fn is_like(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'t> Token<'t> {
    pub fn read(text: &'t str) -> Result<Self, Fault> {
        if text.len() > LONGEST {
            return Err(Fault::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed)?;
        let bytes = |part: &str| base64::decode(part.as_bytes()).ok_or(Fault::Malformed);
        let header: Header =
            serde_json::from_slice(&bytes(header)?).map_err(|_| Fault::Malformed)?;
        let claims: Claims =
            serde_json::from_slice(&bytes(claims)?).map_err(|_| Fault::Malformed)?;
        Ok(Self {
            signed,
            signature: bytes(signature)?,
            header,
            claims,
        })
    }

    /// Returns whose it claims to be: nothing is proven yet.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Holds its signature against the issuer's keys, and returns what it says.
    pub fn proven(&self, keys: &Keys, allowed: &[Algorithm]) -> Result<&Claims, Fault> {
        let algorithm = Algorithm::named(&self.header.alg);
        let algorithm = algorithm.filter(|one| allowed.contains(one));
        let algorithm = algorithm.ok_or(Fault::Algorithm)?;
        if self.header.crit.is_some() {
            return Err(Fault::Malformed);
        }
        let id = self.header.kid.as_deref();
        let mut of = keys.of(id).peekable();
        if of.peek().is_none() {
            return Err(Fault::UnknownKey);
        }
        let mut fitting = of
            .filter(|key| key.is_for(algorithm))
            .take(MOST_TRIED)
            .peekable();
        if fitting.peek().is_none() {
            return Err(Fault::Algorithm);
        }
        let signed = self.signed.as_bytes();
        let holds = fitting.any(|key| key.has_signed(algorithm, signed, &self.signature));
        match (holds, id) {
            (true, _) => Ok(&self.claims),
            // A key that came since may be the one.
            (false, None) => Err(Fault::UnknownKey),
            (false, Some(_)) => Err(Fault::Signature),
        }
    }
}

impl Times {
    /// Returns when a token holds. One that says no end holds for ever, and is refused.
    pub fn of(claims: &Claims) -> Result<Self, Fault> {
        let seconds = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => {
                let seconds = value.as_f64().filter(|seconds| seconds.is_finite());
                let seconds = seconds.ok_or_else(|| Fault::Claim(name.into()))?;
                Ok(Some(seconds as i64))
            }
        };
        Ok(Self {
            from: seconds("nbf")?.unwrap_or(i64::MIN),
            until: seconds("exp")?.ok_or_else(|| Fault::Claim("exp".into()))?,
        })
    }

    /// Refuses what doesn't hold now: clocks may differ by `leeway`.
    pub fn check(self, now: i64, leeway: Duration) -> Result<(), Fault> {
        let leeway = i64::try_from(leeway.as_secs()).unwrap_or(i64::MAX);
        if now >= self.until.saturating_add(leeway) {
            return Err(Fault::Expired);
        }
        if now < self.from.saturating_sub(leeway) {
            return Err(Fault::Early);
        }
        Ok(())
    }
}

/// Refuses a token that is for nobody of `audiences`.
pub fn check_audience(claims: &Claims, audiences: &[String]) -> Result<(), Fault> {
    let told = claims.get("aud").map(texts).unwrap_or_default();
    match told.iter().any(|one| audiences.contains(one)) {
        true => Ok(()),
        false => Err(Fault::Audience),
    }
}
