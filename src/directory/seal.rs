//! Credentials at rest: AES-256-GCM under the master key, bound to the object that they belong to.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom as _;

use super::token::{hex, unhex};
use crate::secret::Secret;
pub use crate::secret::derive;

/// The master key.
pub struct Sealer {
    key: LessSafeKey,
}

impl Sealer {
    /// Makes one of any text: its strength is that of the text.
    pub fn new(master: &Secret) -> Self {
        Self::of(master, "strait credentials")
    }

    /// Makes one whose seals no other purpose's opens.
    pub fn of(master: &Secret, purpose: &str) -> Self {
        let derived = derive(master, purpose);
        let key = UnboundKey::new(&AES_256_GCM, &derived).expect("32 bytes are a key");
        Self {
            key: LessSafeKey::new(key),
        }
    }

    /// Seals a text that belongs to the object `id`.
    pub fn seal(&self, id: &str, text: &str) -> String {
        // 96 bits at random: with one key 2³² of them are safe, and credentials are few.
        let mut nonce = [0u8; NONCE_LEN];
        ring::rand::SystemRandom::new()
            .fill(&mut nonce)
            .expect("the system gives random numbers");
        let mut bytes = text.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(id.as_bytes()),
                &mut bytes,
            )
            .expect("a credential is far shorter than what can be sealed");
        format!("v1:{}{}", hex(&nonce), hex(&bytes))
    }

    /// Opens what was sealed; `None` when it was sealed by another key, for another object, or changed.
    pub fn open(&self, id: &str, sealed: &str) -> Option<Secret> {
        let mut bytes = unhex(sealed.strip_prefix("v1:")?)?;
        let nonce = bytes.get(..NONCE_LEN)?.try_into().ok()?;
        let opened = self
            .key
            .open_within(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(id.as_bytes()),
                &mut bytes,
                NONCE_LEN..,
            )
            .ok()?;
        let text = std::str::from_utf8(opened).ok()?;
        Some(Secret::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_object_and_key_alone() {
        let sealer = Sealer::new(&Secret::new("master"));
        let sealed = sealer.seal("cred_1", "sk-very-secret");
        assert!(!sealed.contains("very") && sealed != sealer.seal("cred_1", "sk-very-secret"));
        let opened = sealer.open("cred_1", &sealed).expect("its own");
        assert_eq!(opened.expose(), "sk-very-secret");
        assert!(sealer.open("cred_2", &sealed).is_none());
        let other = Sealer::new(&Secret::new("another"));
        assert!(other.open("cred_1", &sealed).is_none());
        let mut changed = sealed.clone().into_bytes();
        for at in 0..changed.len() {
            changed[at] ^= 1;
            let text = String::from_utf8_lossy(&changed).into_owned();
            assert!(sealer.open("cred_1", &text).is_none(), "byte {at}");
            changed[at] ^= 1;
        }
        for text in ["", "v1:", "v1:00", "v2:00", &sealed[..40]] {
            assert!(sealer.open("cred_1", text).is_none(), "{text}");
        }
    }
}
