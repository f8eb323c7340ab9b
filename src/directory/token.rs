//! Ids and secrets: `sk-strait-<public id>-<secret>` for keys, `sat-<public id>-<secret>` for people,
//! `sst-<public id>-<secret>` for those who signed in.
//!
//! The public id may stand in a log; the whole text is kept as HMAC-SHA-256 alone.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::hmac;
use ring::rand::SecureRandom as _;

pub use crate::codec::hex::{hex, unhex};

use crate::secret::Secret;

/// What a key of the directory begins with.
pub const KEY: &str = "sk-strait-";
/// What a person's token begins with.
pub const PERSON: &str = "sat-";
/// What the token of a session begins with.
pub const SESSION: &str = "sst-";

/// Characters of an id after its prefix: 45 bits of time, so that ids are in the order of creation, and 35 at random.
const PUBLIC: usize = 16;
/// Characters of a secret: 200 bits.
const SECRET: usize = 40;
/// Without i, l, o and u, which are read for others.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The part of an id that stands in a key.
pub type Public = [u8; PUBLIC];

/// Returns a new id: `prefix` and what is unique.
pub fn new_id(prefix: &str) -> String {
    let time = next_time();
    let mut id = String::with_capacity(prefix.len() + PUBLIC);
    id.push_str(prefix);
    for at in (0..9).rev() {
        id.push(letter((time >> (5 * at)) as u8));
    }
    push_random(&mut id, PUBLIC - 9);
    id
}

/// Returns the time in milliseconds, later than any that was returned before: ids of one millisecond are in order too.
fn next_time() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    let later = |last: u64| now.max(last + 1);
    let last = LAST.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| {
        Some(later(last))
    });
    later(last.unwrap_or_default())
}

/// Returns a new secret that begins with `prefix` and shows the id `public`.
pub fn new_secret(prefix: &str, public: &str) -> Secret {
    let mut text = format!("{prefix}{public}-");
    push_random(&mut text, SECRET);
    Secret::new(text)
}

/// Returns a text that can't be guessed.
pub fn random() -> String {
    let mut text = String::with_capacity(SECRET);
    push_random(&mut text, SECRET);
    text
}

/// Returns the public id that a text shows, where it has the form of a secret that begins with `prefix`.
pub fn public_of(prefix: &str, text: &str) -> Option<Public> {
    let (public, secret) = text.strip_prefix(prefix)?.split_once('-')?;
    let fits = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte))
    };
    if !fits(public, PUBLIC) || !fits(secret, SECRET) {
        return None;
    }
    public.as_bytes().try_into().ok()
}

/// Returns the public id in an object's own id.
pub fn public_in(id: &str) -> Option<Public> {
    let (_, public) = id.split_once('_')?;
    public.as_bytes().try_into().ok()
}

/// An HMAC-SHA-256 of a secret.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(pepper: &hmac::Key, text: &str) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(pepper, text.as_bytes()).as_ref());
        Self(digest)
    }

    /// Returns whether they are equal, in a time that tells nothing of where they differ.
    pub fn is(&self, other: &Self) -> bool {
        let differ = self.0.iter().zip(&other.0);
        let differ = differ.fold(0, |all, (mine, theirs)| all | (mine ^ theirs));
        std::hint::black_box(differ) == 0
    }

    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text)?.try_into().ok().map(Self)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest(…)")
    }
}

fn push_random(text: &mut String, count: usize) {
    let mut bytes = [0u8; SECRET];
    let bytes = &mut bytes[..count];
    ring::rand::SystemRandom::new()
        .fill(bytes)
        .expect("the system gives random numbers");
    text.extend(bytes.iter().map(|byte| letter(*byte)));
}

fn letter(bits: u8) -> char {
    char::from(ALPHABET[usize::from(bits & 31)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_its_public_id_and_nothing_else_does() {
        let id = new_id("key_");
        let public = public_in(&id).expect("an id of ours");
        let shown = std::str::from_utf8(&public).expect("ASCII");
        let key = new_secret(KEY, shown);
        assert_eq!(public_of(KEY, key.expose()), Some(public));
        let text = key.expose();
        for wrong in [
            "",
            "sk-strait-",
            "sk-strait-abc-def",
            &text[..text.len() - 1],
            &format!("{text}x"),
            &text.to_uppercase(),
            &text.replace("sk-strait-", "sat-"),
            &text.replacen('-', "_", 4),
            &text.replacen("sk-strait-", "sk-strait-é", 1),
        ] {
            assert_eq!(public_of(KEY, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ids_are_in_the_order_of_their_creation_and_never_twice() {
        let ids: Vec<String> = (0..1000).map(|_| new_id("key_")).collect();
        assert!(ids.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn a_digest_is_of_the_whole_text_and_of_the_pepper() {
        let pepper = |byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]);
        let one = Digest::of(&pepper(1), "sk-strait-a");
        assert!(one.is(&Digest::from_hex(&one.hex()).expect("hex")));
        assert!(!one.is(&Digest::of(&pepper(2), "sk-strait-a")));
        assert!(!one.is(&Digest::of(&pepper(1), "sk-strait-b")));
        for wrong in [
            "",
            "0",
            "zz",
            &"0".repeat(63),
            &"0".repeat(66),
            &"é".repeat(32),
        ] {
            assert!(Digest::from_hex(wrong).is_none(), "{wrong}");
        }
    }
}
