//! A small OpenID provider: discovery, keys, authorize, token, userinfo, with keys of its own.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use strait::codec::base64;

use crate::common::provider::{Got, Provider};

const PEM: &str = include_str!("../../src/identity/tests/key.pem");
pub const CLIENT: &str = "strait-client";
pub const SECRET: &str = "client secret with a % and a +";

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A key that tokens are signed with.
pub struct Signer {
    pub kid: String,
    alg: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub fn new(kid: &str, alg: &'static str) -> Arc<Self> {
        let random = SystemRandom::new();
        let pair = match alg {
            "ES256" => {
                let of = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let made = EcdsaKeyPair::generate_pkcs8(of, &random).unwrap();
                Pair::P256(EcdsaKeyPair::from_pkcs8(of, made.as_ref(), &random).unwrap())
            }
            "EdDSA" => {
                let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
            }
            // Its own key takes seconds to make.
            _ => {
                let der = PrivatePkcs8KeyDer::from_pem_slice(PEM.as_bytes()).unwrap();
                Pair::Rsa(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap())
            }
        };
        Arc::new(Self {
            kid: kid.to_owned(),
            alg,
            pair,
        })
    }

    pub fn jwk(&self) -> Value {
        let mut jwk = json!({"kid": self.kid, "use": "sig"});
        let more = match &self.pair {
            Pair::Rsa(pair) => {
                let PublicKeyComponents { n, e } =
                    PublicKeyComponents::<Vec<u8>>::from(pair.public());
                // Some issuers write the sign's zero before it.
                let n = [vec![0], n].concat();
                json!({"kty": "RSA", "n": base64::url(&n), "e": base64::url(&e)})
            }
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (base64::url(&point[1..33]), base64::url(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256"})
            }
            Pair::Ed25519(pair) => {
                let x = base64::url(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "x": x})
            }
        };
        let more = more.as_object().unwrap().clone();
        jwk.as_object_mut().unwrap().extend(more);
        jwk
    }

    pub fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": self.alg, "typ": "JWT", "kid": self.kid});
        self.token_as(&header, claims)
    }

    /// Signs with any header.
    pub fn token_as(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| base64::url(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let padding: &'static dyn ring::signature::RsaEncoding = match self.alg {
                    "PS256" => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                pair.sign(padding, &random, signed.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Pair::P256(pair) => pair
                .sign(&random, signed.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Pair::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", base64::url(&signature))
    }
}

/// What a code stands for.
struct Code {
    nonce: String,
    challenge: String,
    redirect: String,
}

type Craft = Box<dyn Fn(&Value) -> String + Send>;

struct State {
    issuer: String,
    /// What the set shows.
    shown: Vec<Arc<Signer>>,
    signer: Arc<Signer>,
    codes: HashMap<String, Code>,
    /// Whoever signs in, as the token says.
    person: Value,
    userinfo: Value,
    /// Makes another token than it should.
    craft: Option<Craft>,
    away: bool,
}

pub struct Idp {
    pub provider: Provider,
    state: Arc<Mutex<State>>,
}

impl Idp {
    pub fn start(signer: &Arc<Signer>) -> Self {
        let state = Arc::new(Mutex::new(State {
            issuer: String::new(),
            shown: vec![signer.clone()],
            signer: signer.clone(),
            codes: HashMap::new(),
            person: json!({"sub": "u-1", "name": "Ada", "email": "ada@example.com"}),
            userinfo: Value::Null,
            craft: None,
            away: false,
        }));
        let kept = state.clone();
        let provider = Provider::answering(move |got, socket| {
            let (status, headers, body) = kept.lock().unwrap().answer(got);
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
            socket.write_all(&[head.as_bytes(), body.as_bytes()].concat())
        });
        state.lock().unwrap().issuer = format!("http://{}", provider.addr);
        Self { provider, state }
    }

    pub fn issuer(&self) -> String {
        self.state.lock().unwrap().issuer.clone()
    }

    /// Shows these keys, and signs with the last.
    pub fn show(&self, signers: &[&Arc<Signer>]) {
        let mut state = self.state.lock().unwrap();
        state.shown = signers.iter().map(|one| (*one).clone()).collect();
        state.signer = state.shown.last().unwrap().clone();
    }

    pub fn set_away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    pub fn set_person(&self, person: Value) {
        self.state.lock().unwrap().person = person;
    }

    pub fn set_userinfo(&self, userinfo: Value) {
        self.state.lock().unwrap().userinfo = userinfo;
    }

    pub fn craft(&self, craft: impl Fn(&Value) -> String + Send + 'static) {
        self.state.lock().unwrap().craft = Some(Box::new(craft));
    }

    pub fn uncraft(&self) {
        self.state.lock().unwrap().craft = None;
    }
}

impl State {
    fn answer(&mut self, got: &Got) -> (u16, String, String) {
        let (path, query) = got.path.split_once('?').unwrap_or((&got.path, ""));
        let plain = |status: u16, body: Value| (status, String::new(), body.to_string());
        if self.away {
            return plain(503, json!({}));
        }
        match path {
            "/.well-known/openid-configuration" => {
                let at = |path: &str| format!("{}{path}", self.issuer);
                plain(
                    200,
                    json!({
                        "issuer": self.issuer,
                        "jwks_uri": at("/keys"),
                        "authorization_endpoint": at("/authorize"),
                        "token_endpoint": at("/token"),
                        "userinfo_endpoint": at("/userinfo"),
                    }),
                )
            }
            "/keys" => {
                let mut keys: Vec<Value> = self.shown.iter().map(|one| one.jwk()).collect();
                // What others use them for.
                keys.push(json!({"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}));
                keys.push(json!({"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}));
                plain(200, json!({"keys": keys}))
            }
            "/authorize" => {
                let field = |name: &str| field(query, name);
                assert_eq!(field("response_type"), "code");
                assert_eq!(field("client_id"), CLIENT);
                assert_eq!(field("code_challenge_method"), "S256");
                assert!(field("scope").split(' ').any(|one| one == "openid"));
                let code = format!("code+{}", self.codes.len());
                self.codes.insert(
                    code.clone(),
                    Code {
                        nonce: field("nonce"),
                        challenge: field("code_challenge"),
                        redirect: field("redirect_uri"),
                    },
                );
                let code = code.replace('+', "%2B");
                let to = format!(
                    "{}?code={code}&state={}&session_state=x",
                    field("redirect_uri"),
                    field("state")
                );
                (302, format!("location: {to}\r\n"), String::new())
            }
            "/token" => self.token(got),
            "/userinfo" if got.header("authorization") == "Bearer access-1" => {
                plain(200, self.userinfo.clone())
            }
            _ => plain(404, json!({})),
        }
    }

    fn token(&mut self, got: &Got) -> (u16, String, String) {
        let refused = |code: &str| (400, String::new(), json!({"error": code}).to_string());
        let form = String::from_utf8(got.body.clone()).unwrap();
        let mut basic = Vec::from(*b"Basic ");
        let pair = format!("{CLIENT}:client%20secret%20with%20a%20%25%20and%20a%20%2B");
        base64::encode(pair.as_bytes(), &mut basic);
        if got.header("authorization").as_bytes() != basic {
            return refused("invalid_client");
        }
        // Used once.
        let Some(code) = self.codes.remove(&field(&form, "code")) else {
            return refused("invalid_grant");
        };
        let verifier = field(&form, "code_verifier");
        let challenge = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
        if base64::url(challenge.as_ref()) != code.challenge
            || field(&form, "redirect_uri") != code.redirect
            || field(&form, "grant_type") != "authorization_code"
        {
            return refused("invalid_grant");
        }
        let mut claims = json!({
            "iss": self.issuer, "aud": CLIENT, "nonce": code.nonce,
            "iat": now(), "exp": now() + 300,
        });
        let person = self.person.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(person);
        let token = match &self.craft {
            Some(craft) => craft(&claims),
            None => self.signer.token(&claims),
        };
        let answer = json!({"id_token": token, "access_token": "access-1", "token_type": "Bearer"});
        (200, String::new(), answer.to_string())
    }
}

/// Returns a field of a query or a form, decoded.
pub fn field(text: &str, name: &str) -> String {
    let mut pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(known, _)| *known == name).unwrap_or_default();
    let mut out = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let digits = std::str::from_utf8(&after[..2]).unwrap();
                out.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &after[2..];
            }
            b'+' => out.push(b' '),
            byte => out.push(*byte),
        }
    }
    String::from_utf8(out).unwrap()
}
