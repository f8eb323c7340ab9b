//! The public keys of an issuer, <https://www.rfc-editor.org/rfc/rfc7517>.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};

use crate::codec::base64;

/// Further keys of a set are not looked at.
const MOST: usize = 100;

/// How a token may be signed, <https://www.rfc-editor.org/rfc/rfc7518#section-3.1>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub const ALL: [(&'static str, Algorithm); 4] = [
        ("RS256", Algorithm::Rs256),
        ("PS256", Algorithm::Ps256),
        ("ES256", Algorithm::Es256),
        ("EdDSA", Algorithm::EdDsa),
    ];

    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(known, _)| *known == name).map(|(_, one)| one)
    }

    pub fn every() -> Vec<Self> {
        Self::ALL.map(|(_, one)| one).to_vec()
    }
}

/// What an issuer signs with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys {
    all: Vec<Key>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    id: Option<Box<str>>,
    /// The one that it is for; `None`: any that its kind allows.
    algorithm: Option<Algorithm>,
    public: Public,
}

#[derive(Debug, PartialEq, Eq)]
enum Public {
    /// Modulus and exponent, without leading zeros.
    Rsa(Vec<u8>, Vec<u8>),
    /// Uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(serde::Deserialize)]
struct Written {
    keys: Vec<serde_json::Value>,
}

#[derive(serde::Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a set. Keys of a kind that isn't used here are left out: sets may hold any.
    ///
    /// Errors: it is none, or holds no key that can be used.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let written: Written =
            serde_json::from_slice(body).map_err(|_| "the answer is no set of keys")?;
        let read = written.keys.into_iter().take(MOST);
        let all: Vec<Key> = read.filter_map(Key::read).collect();
        if all.is_empty() {
            return Err("the set holds no key that tokens could be checked with".into());
        }
        Ok(Self { all })
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the keys of that id; all where a token names none.
    pub fn of<'k>(&'k self, id: Option<&str>) -> impl Iterator<Item = &'k Key> {
        let of = move |key: &&Key| id.is_none() || key.id.as_deref() == id;
        self.all.iter().filter(of)
    }
}

impl Key {
    fn read(value: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if jwk.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: &Option<String>| base64::decode(text.as_deref()?.as_bytes());
        let public = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let number = |text| {
                    let bytes = bytes(text)?;
                    let first = bytes.iter().position(|byte| *byte != 0)?;
                    Some(bytes[first..].to_vec())
                };
                // 2048 to 8192 bits: what is checked with less proves little.
                let modulus = number(&jwk.n).filter(|n| (256..=1024).contains(&n.len()))?;
                Public::Rsa(modulus, number(&jwk.e)?)
            }
            ("EC", Some("P-256")) => {
                let part = |text| bytes(text).filter(|bytes| bytes.len() == 32);
                let mut point = vec![4];
                point.extend(part(&jwk.x)?);
                point.extend(part(&jwk.y)?);
                Public::P256(point)
            }
            ("OKP", Some("Ed25519")) => {
                Public::Ed25519(bytes(&jwk.x).filter(|bytes| bytes.len() == 32)?)
            }
            // Secrets that are shared among them.
            _ => return None,
        };
        let algorithm = match jwk.alg.as_deref() {
            None => None,
            // One that isn't used here.
            Some(name) => Some(Algorithm::named(name)?),
        };
        let key = Self {
            id: jwk.kid.map(String::into_boxed_str),
            algorithm: None,
            public,
        };
        match algorithm {
            Some(algorithm) if !key.is_for(algorithm) => None,
            algorithm => Some(Self { algorithm, ..key }),
        }
    }

    /// Returns whether a token that was signed so may be checked with it.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        let fits = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => matches!(self.public, Public::Rsa(..)),
            Algorithm::Es256 => matches!(self.public, Public::P256(_)),
            Algorithm::EdDsa => matches!(self.public, Public::Ed25519(_)),
        };
        fits && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Returns whether `signature` is this key's over `signed`.
    pub fn has_signed(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if !self.is_for(algorithm) {
            return false;
        }
        let checked = match &self.public {
            Public::Rsa(n, e) => {
                let parameters = match algorithm {
                    Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa => {
                        &RSA_PKCS1_2048_8192_SHA256
                    }
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature)
            }
            Public::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
            }
            Public::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(signed, signature)
            }
        };
        checked.is_ok()
    }
}
