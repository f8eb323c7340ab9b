//! Real sockets: every fake is a server of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant, UNIX_EPOCH};

use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::*;
use crate::provider::account::aws::{Chain, Container, Keys, Source, WebIdentity};
use crate::provider::account::entra::App;
use crate::provider::account::google::{self, ServiceAccount, User};
use crate::secret::Secret;

const PEM: &str = include_str!("tests/key.pem");

/// What a fake was asked.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// Returns a field of a form, decoded.
    fn field(&self, name: &str) -> String {
        let pairs = self.body.split('&').filter_map(|pair| pair.split_once('='));
        let mut value = pairs.filter(|(known, _)| *known == name).map(|(_, v)| v);
        let mut decoded = Vec::new();
        let mut bytes = value.next_back().unwrap_or_default().bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    let digits = std::str::from_utf8(&digits).unwrap();
                    decoded.push(u8::from_str_radix(digits, 16).unwrap());
                }
                byte => decoded.push(byte),
            }
        }
        String::from_utf8(decoded).unwrap()
    }
}

struct Fake {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Answers as `answer` does: with a status and a body. The threads end with the tests' process.
    fn new(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (kept, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (kept, answer) = (kept.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(socket);
                    while let Some(asked) = read(&mut reader) {
                        kept.lock().unwrap().push(asked.clone());
                        let (status, body) = answer(&asked);
                        let length = body.len();
                        let head =
                            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
                        let all = [head.as_bytes(), body.as_bytes()].concat();
                        if reader.get_mut().write_all(&all).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { addr, asked }
    }

    /// Answers with tokens `t1`, `t2`, … that live so many seconds.
    fn tokens(seconds: u32) -> Self {
        let count = AtomicU32::new(0);
        Self::new(move |_| {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            (200, token(&format!("t{number}"), seconds))
        })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = || {
        let mut line = String::new();
        let length = reader.read_line(&mut line).ok()?;
        (length > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut parts = first.split(' ');
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        target,
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}

fn token(token: &str, seconds: u32) -> String {
    format!(r#"{{"access_token":"{token}","expires_in":{seconds},"token_type":"Bearer"}}"#)
}

fn provider(auth: Auth) -> Provider {
    Provider {
        name: "lab".into(),
        auth,
        ..crate::config::read(std::path::Path::new("x"), "", &|_| None)
            .unwrap()
            .snapshot
            .providers[0]
            .as_ref()
            .clone()
    }
}

fn identity(auth: Auth) -> Identity {
    Identity::new(&provider(auth)).unwrap()
}

fn aws(source: Source) -> Identity {
    identity(Auth::SigV4 {
        service: "bedrock",
        region: "us-east-1".into(),
        source,
    })
}

fn entra(fake: &Fake) -> App {
    App {
        authority: fake.url(""),
        tenant: "my-tenant".into(),
        client_id: "me".into(),
        client_secret: Secret::new("SECRET-1&x"),
        scope: "https://cognitiveservices.azure.com/.default".into(),
    }
}

const REQUEST: Signable<'static> = Signable {
    method: "POST",
    host: "bedrock-runtime.us-east-1.amazonaws.com",
    target: "/model/x/converse",
    headers: &[],
    body: b"{}",
};

async fn header(identity: &Identity, name: &str) -> Result<String> {
    let headers = identity.headers(REQUEST).await?;
    let found = headers.iter().find(|(known, _)| known == name);
    Ok(found.map_or(String::new(), |(_, value)| {
        value.to_str().unwrap().to_owned()
    }))
}

async fn authorization(identity: &Identity) -> Result<String> {
    header(identity, "authorization").await
}

fn why(error: &Error) -> String {
    error.cause.as_ref().unwrap().to_string()
}

// AWS

fn example_keys(token: Option<&str>) -> Keys {
    Keys {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token: token.map(Secret::new),
    }
}

/// Returns the signature that AWS's own suite has for a request.
fn signature(
    method: &str,
    (host, target): (&str, &str),
    token: Option<&str>,
    (region, service): (&str, &str),
    time: u64,
) -> String {
    let request = Signable {
        method,
        host,
        target,
        headers: &[],
        body: b"",
    };
    let keys = example_keys(token);
    let time = UNIX_EPOCH + Duration::from_secs(time);
    let headers = sign::sign(request, &keys, region, service, time).unwrap();
    let value = headers.iter().find(|(name, _)| name == "authorization");
    let value = value.unwrap().1.to_str().unwrap().to_owned();
    assert!(value.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    value.rsplit_once("Signature=").unwrap().1.to_owned()
}

#[test]
fn requests_are_signed_as_in_the_published_suite() {
    // The cases post-vanilla, post-vanilla-query, get-vanilla-with-session-token and double-url-encode of
    // https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4
    let at = 1_440_938_160;
    let host = "example.amazonaws.com";
    let usual = ("us-east-1", "service");
    assert_eq!(
        signature("POST", (host, "/"), None, usual, at),
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    );
    assert_eq!(
        signature("POST", (host, "/?Param1=value1"), None, usual, at),
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"
    );
    let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    assert_eq!(
        signature("GET", (host, "/"), Some(token), usual, at),
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
    );
    let arn = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-west-2%3A892717189312%3Afunction%3Amy-rusty-fun/invocations";
    assert_eq!(
        signature(
            "POST",
            ("lambda.us-east-2.amazonaws.com", arn),
            None,
            ("us-east-2", "lambda"),
            1_620_747_645
        ),
        "4b93abbcc68be32bd64c18e2c71150660ab4c29bbd6c32a383a7517a88fc1804",
        "what is encoded in a path is encoded again to be signed"
    );
}

#[tokio::test]
async fn written_keys_sign_without_asking_anybody() {
    let identity = aws(Source::Keys(example_keys(Some("token"))));
    let value = authorization(&identity).await.unwrap();
    assert!(value.contains("/us-east-1/bedrock/aws4_request"), "{value}");
    assert!(value.contains("x-amz-security-token"), "{value}");
    assert_eq!(
        header(&identity, "x-amz-security-token").await.unwrap(),
        "token"
    );
}

fn chain() -> Chain {
    Chain {
        profile: "default".into(),
        region: "us-east-1".into(),
        ..Chain::default()
    }
}

fn chained(chain: Chain) -> Identity {
    aws(Source::Chain(Box::new(chain)))
}

const INSTANCE_KEYS: &str = r#"{"Code":"Success","AccessKeyId":"AKIDIMDS","SecretAccessKey":"s","Token":"session","Expiration":"2099-01-01T00:00:00Z"}"#;

#[tokio::test]
async fn an_instance_is_asked_by_the_second_version_of_its_metadata() {
    let fake = Fake::new(|asked| {
        let session = asked.header("x-aws-ec2-metadata-token");
        match (asked.method.as_str(), asked.target.as_str()) {
            ("PUT", "/latest/api/token") => (200, "SESSION".into()),
            (_, _) if session != "SESSION" => (401, String::new()),
            ("GET", "/latest/meta-data/iam/security-credentials/") => (200, "my-role\n".into()),
            ("GET", "/latest/meta-data/iam/security-credentials/my-role") => {
                (200, INSTANCE_KEYS.into())
            }
            _ => (404, String::new()),
        }
    });
    let identity = chained(Chain {
        metadata: Some(fake.url("")),
        ..chain()
    });
    for _ in 0..2 {
        let value = authorization(&identity).await.unwrap();
        assert!(value.contains("Credential=AKIDIMDS/"), "{value}");
    }
    let asked = fake.asked();
    assert_eq!(asked.len(), 3, "asked once, and kept");
    assert_eq!(
        asked[0].header("x-aws-ec2-metadata-token-ttl-seconds"),
        "21600"
    );
}

#[tokio::test]
async fn a_container_is_asked_with_its_token_and_only_nearby() {
    let fake = Fake::new(|asked| match asked.header("authorization") {
        "container-token" => (200, INSTANCE_KEYS.into()),
        _ => (403, String::new()),
    });
    let container = |url, token: &str| Chain {
        container: Some(Container {
            url,
            token: Some(Secret::new(token)),
            token_file: None,
        }),
        ..chain()
    };
    let good = chained(container(fake.url("/creds"), "container-token"));
    assert!(authorization(&good).await.unwrap().contains("AKIDIMDS"));
    let bad = chained(container(fake.url("/creds"), "another"));
    let error = authorization(&bad).await.unwrap_err();
    assert!(why(&error).contains("status 403"), "{}", why(&error));
    let far = chained(container(
        "http://example.com/creds".into(),
        "container-token",
    ));
    let error = authorization(&far).await.unwrap_err();
    assert!(why(&error).contains("neither HTTPS nor"), "{}", why(&error));
}

#[tokio::test]
async fn the_environment_goes_before_the_files_and_the_files_before_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    std::fs::write(
        &file,
        "[default]\naws_access_key_id=AKIDFILE\naws_secret_access_key=s\n",
    )
    .unwrap();
    let fake = Fake::new(|_| (500, String::new()));
    let all = |environment| Chain {
        environment,
        files: vec![file.clone()],
        metadata: Some(fake.url("")),
        ..chain()
    };
    let first = chained(all(Some(example_keys(None))));
    assert!(authorization(&first).await.unwrap().contains("AKIDEXAMPLE"));
    let second = chained(all(None));
    assert!(authorization(&second).await.unwrap().contains("AKIDFILE"));
    assert_eq!(fake.count(), 0);
    let named = chained(Chain {
        profile: "default".into(),
        only_profile: true,
        ..all(Some(example_keys(None)))
    });
    assert!(
        authorization(&named).await.unwrap().contains("AKIDFILE"),
        "a profile that is named in the configuration is meant"
    );
    let missing = chained(Chain {
        profile: "nobody".into(),
        ..all(None)
    });
    let error = authorization(&missing).await.unwrap_err();
    assert!(why(&error).contains("no profile nobody"), "{}", why(&error));
}

const STS: &str = "<R><Credentials><AccessKeyId>AKIDSTS</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>session/+=</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></R>";

#[tokio::test]
async fn a_web_identity_is_exchanged_for_keys_of_a_role() {
    let fake = Fake::new(|_| (200, STS.into()));
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, "web.token\n").unwrap();
    let identity = chained(Chain {
        web_identity: Some(WebIdentity {
            token_file,
            role_arn: "arn:aws:iam::1:role/x".into(),
            session_name: "strait".into(),
            endpoint: Some(fake.url("")),
        }),
        ..chain()
    });
    assert_eq!(
        header(&identity, "x-amz-security-token").await.unwrap(),
        "session/+="
    );
    let asked = &fake.asked()[0];
    assert_eq!(asked.field("Action"), "AssumeRoleWithWebIdentity");
    assert_eq!(asked.field("WebIdentityToken"), "web.token");
    assert_eq!(asked.field("RoleArn"), "arn:aws:iam::1:role/x");
    assert_eq!(asked.header("authorization"), "", "the token is the proof");
}

#[tokio::test]
async fn a_role_is_taken_on_with_the_keys_of_its_source() {
    let fake = Fake::new(|asked| {
        let by = asked.header("authorization");
        if by.contains("Credential=AKIDFILE/") && by.contains("/us-east-1/sts/") {
            return (200, STS.into());
        }
        let refusal = "<E><Error><Code>AccessDenied</Code><Message>no</Message></Error></E>";
        (403, refusal.into())
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let write = |id: &str| {
        let text = format!(
            "[profile a]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = b\nexternal_id = e\nendpoint_url = {}\n[profile b]\naws_access_key_id={id}\naws_secret_access_key=s\n",
            fake.url("")
        );
        std::fs::write(&file, text).unwrap();
    };
    let lab = || {
        chained(Chain {
            profile: "a".into(),
            files: vec![dir.path().join("none"), file.clone()],
            only_profile: true,
            ..chain()
        })
    };
    write("AKIDFILE");
    assert!(authorization(&lab()).await.unwrap().contains("AKIDSTS"));
    let asked = &fake.asked()[0];
    assert_eq!(asked.field("Action"), "AssumeRole");
    assert_eq!(asked.field("ExternalId"), "e");
    write("AKIDOTHER");
    let error = authorization(&lab()).await.unwrap_err();
    assert!(why(&error).contains("AccessDenied: no"), "{}", why(&error));
}

#[tokio::test]
async fn a_machine_without_credentials_says_where_they_were_looked_for() {
    let error = authorization(&chained(chain())).await.unwrap_err();
    assert_eq!(error.kind, Kind::UpstreamAccount);
    assert!(why(&error).starts_with("no AWS credentials in the environment"));
}

// Google

fn account(fake: &Fake) -> google::Source {
    google::Source::ServiceAccount(Box::new(ServiceAccount {
        email: "me@project.iam".into(),
        private_key: Secret::new(PEM),
        key_id: Some("key-1".into()),
        token_uri: fake.url("/token"),
    }))
}

fn from_base64url(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        other => panic!("{other} is no letter of base64url"),
    };
    let mut out = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let number = chunk.iter().enumerate().fold(0_u32, |sum, (at, byte)| {
            sum | u32::from(value(*byte)) << (18 - 6 * at)
        });
        out.extend(&number.to_be_bytes()[1..chunk.len()]);
    }
    out
}

#[tokio::test]
async fn a_service_account_signs_for_its_token() {
    let fake = Fake::tokens(3600);
    let identity = identity(Auth::Google(account(&fake)));
    for _ in 0..3 {
        assert_eq!(authorization(&identity).await.unwrap(), "Bearer t1");
    }
    assert_eq!(fake.count(), 1, "kept while it is good");
    let asked = &fake.asked()[0];
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/token")
    );
    assert_eq!(
        asked.field("grant_type"),
        "urn:ietf:params:oauth:grant-type:jwt-bearer"
    );
    let jwt = asked.field("assertion");
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(PEM.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key())
        .verify(signed.as_bytes(), &from_base64url(signature))
        .expect("the signature is the key's");
    let (header, claims) = signed.split_once('.').unwrap();
    let json = |part| serde_json::from_slice::<serde_json::Value>(&from_base64url(part)).unwrap();
    assert_eq!(json(header)["alg"], "RS256");
    assert_eq!(json(header)["kid"], "key-1");
    let claims = json(claims);
    assert_eq!(claims["iss"], "me@project.iam");
    assert_eq!(claims["aud"], fake.url("/token"));
    assert_eq!(
        claims["scope"],
        "https://www.googleapis.com/auth/cloud-platform"
    );
    let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(life, 3600);
}

#[tokio::test]
async fn a_machine_of_google_is_asked_at_its_metadata_server() {
    let fake = Fake::new(|asked| match asked.header("metadata-flavor") {
        "Google" => (200, token("machine", 3000)),
        _ => (403, String::new()),
    });
    let identity = identity(Auth::Google(google::Source::Metadata(fake.url(""))));
    assert_eq!(authorization(&identity).await.unwrap(), "Bearer machine");
    assert!(
        fake.asked()[0]
            .target
            .starts_with("/computeMetadata/v1/instance/service-accounts/default/token")
    );
}

#[tokio::test]
async fn a_user_is_known_by_the_refresh_token() {
    let fake = Fake::tokens(3600);
    let identity = identity(Auth::Google(google::Source::User(Box::new(User {
        client_id: "c".into(),
        client_secret: Secret::new("s"),
        refresh_token: Secret::new("1//r&x"),
        token_uri: fake.url("/"),
    }))));
    assert_eq!(authorization(&identity).await.unwrap(), "Bearer t1");
    let asked = &fake.asked()[0];
    assert_eq!(asked.field("grant_type"), "refresh_token");
    assert_eq!(asked.field("refresh_token"), "1//r&x");
}

#[tokio::test]
async fn a_key_that_is_no_key_is_said_without_showing_it() {
    let fake = Fake::tokens(3600);
    let google::Source::ServiceAccount(mut account) = account(&fake) else {
        unreachable!()
    };
    account.private_key = Secret::new("SECRET-1");
    let identity = identity(Auth::Google(google::Source::ServiceAccount(account)));
    let error = authorization(&identity).await.unwrap_err();
    assert!(why(&error).contains("no RSA key in PEM"), "{}", why(&error));
    assert!(!format!("{error:?}").contains("SECRET"));
    assert_eq!(fake.count(), 0);
}

// Microsoft

#[tokio::test]
async fn an_application_signs_in_with_its_secret() {
    let fake = Fake::tokens(3599);
    let identity = identity(Auth::Entra(entra(&fake)));
    assert_eq!(authorization(&identity).await.unwrap(), "Bearer t1");
    let asked = &fake.asked()[0];
    assert_eq!(asked.target, "/my-tenant/oauth2/v2.0/token");
    assert_eq!(asked.field("grant_type"), "client_credentials");
    assert_eq!(asked.field("client_id"), "me");
    assert_eq!(asked.field("client_secret"), "SECRET-1&x");
    assert_eq!(
        asked.field("scope"),
        "https://cognitiveservices.azure.com/.default"
    );
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words_but_never_with_the_secret() {
    let fake = Fake::new(|_| {
        let said = r#"{"error":"invalid_client","error_description":"AADSTS7000215: wrong"}"#;
        (401, said.into())
    });
    let error = authorization(&identity(Auth::Entra(entra(&fake))))
        .await
        .unwrap_err();
    assert_eq!(
        why(&error),
        "the answer was status 401: invalid_client: AADSTS7000215: wrong"
    );
    assert!(
        !error.message.contains("AADSTS"),
        "the client hears nothing of it"
    );
    let echo = Fake::new(|asked| {
        let secret = asked.field("client_secret");
        let body = format!(r#"{{"error":"bad","error_description":"{secret} is wrong"}}"#);
        (400, body)
    });
    let error = authorization(&identity(Auth::Entra(entra(&echo))))
        .await
        .unwrap_err();
    assert_eq!(why(&error), "the answer was status 400");
}

// Keeping

/// Waits until `is_so`, for at most five seconds.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_again_ahead_of_its_end_by_nobodys_request() {
    let fake = Fake::tokens(4);
    let identity = identity(Auth::Entra(entra(&fake)));
    assert_eq!(authorization(&identity).await.unwrap(), "Bearer t1");
    let began = Instant::now();
    until("the second token was never fetched", || fake.count() > 1).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "before the first one's end"
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(authorization(&identity).await.unwrap(), "Bearer t2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_nobody_uses_is_not_fetched_for_ever() {
    let fake = Fake::tokens(1);
    let identity = identity(Auth::Entra(entra(&fake)));
    authorization(&identity).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(fake.count(), 2, "once for the use that was, and no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_make_one_fetch() {
    let fake = Fake::new(|_| {
        std::thread::sleep(Duration::from_millis(200));
        (200, token("one", 3600))
    });
    let identity = Arc::new(identity(Auth::Entra(entra(&fake))));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let identity = identity.clone();
        all.spawn(async move { authorization(&identity).await.unwrap() });
    }
    while let Some(value) = all.join_next().await {
        assert_eq!(value.unwrap(), "Bearer one");
    }
    assert_eq!(fake.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_leaves_what_is_good_in_use_and_is_overcome() {
    let count = AtomicU32::new(0);
    let fake = Fake::new(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => (200, token("old", 3)),
        1 | 2 => (500, "down".into()),
        _ => (200, token("new", 3600)),
    });
    let identity = identity(Auth::Entra(entra(&fake)));
    assert_eq!(authorization(&identity).await.unwrap(), "Bearer old");
    let began = Instant::now();
    let mut seen = vec!["Bearer old".to_owned()];
    while began.elapsed() < Duration::from_secs(5) && fake.count() < 4 {
        // While the old one is good no request fails; after that a failure is said at once.
        match authorization(&identity).await {
            Ok(value) => seen.push(value),
            Err(error) => assert!(began.elapsed() > Duration::from_secs(2), "{}", why(&error)),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("it never recovered", || fake.count() == 4).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(authorization(&identity).await.unwrap(), "Bearer new");
    assert!(seen.len() > 50, "{} answers", seen.len());
}

#[tokio::test]
async fn after_a_failure_the_next_requests_do_not_wait_for_another() {
    let fake = Fake::new(|_| (500, String::new()));
    let identity = identity(Auth::Entra(entra(&fake)));
    for _ in 0..20 {
        let error = authorization(&identity).await.unwrap_err();
        assert_eq!(error.kind, Kind::UpstreamAccount);
    }
    assert_eq!(fake.count(), 1);
    tokio::time::sleep(Duration::from_millis(600)).await;
    authorization(&identity).await.unwrap_err();
    assert_eq!(fake.count(), 2, "but it is tried again");
}

#[tokio::test]
async fn nobody_there_is_a_failure_like_any_other() {
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let source = google::Source::Metadata(format!("http://{addr}"));
    // The provider for TLS is installed by the first fake.
    drop(Fake::tokens(1));
    let error = authorization(&identity(Auth::Google(source)))
        .await
        .unwrap_err();
    assert!(why(&error).contains("connect"), "{}", why(&error));
}

#[test]
fn an_identity_lasts_while_the_provider_signs_in_the_same_way() {
    let keys = |id: &str| Auth::SigV4 {
        service: "bedrock",
        region: "us-east-1".into(),
        source: Source::Keys(Keys {
            access_key_id: id.into(),
            ..example_keys(None)
        }),
    };
    let identity = identity(keys("a"));
    assert!(identity.fits(&provider(keys("a"))));
    assert!(!identity.fits(&provider(keys("b"))));
    assert!(Identity::new(&provider(Auth::Bearer)).is_none());
}
