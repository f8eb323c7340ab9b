//! The two halves: away to the provider, and back with a code that is exchanged for a token.

use ring::digest::{SHA256, digest};

use super::{Settings, Ticket};
use crate::codec::base64;
use crate::identity::http::{Request, form};
use crate::jwt::{Claims, Endpoints, Fault, Issuer, Times, Token, check_audience, find, texts};
use crate::secret::Secret;

/// How far the provider's clock may be from ours.
const LEEWAY: std::time::Duration = std::time::Duration::from_secs(60);
/// Nobody waits longer for the provider.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// No code is longer.
pub const LONGEST_CODE: usize = 4096;

/// What the provider sent somebody back with.
#[derive(Debug, Default)]
pub struct Return {
    pub code: Option<String>,
    pub state: Option<String>,
    pub issuer: Option<String>,
    pub error: Option<String>,
}

/// Why nobody is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It isn't the answer to what this browser asked.
    State,
    /// The provider says so, by this code.
    Provider(String),
    /// The provider doesn't take the code.
    Code,
    Token(Fault),
    Nonce,
    /// The provider can't be asked now. The log says why.
    Away,
}

/// Returns where to send a browser that wants to sign in.
pub fn leave(settings: &Settings, endpoints: &Endpoints, ticket: &Ticket) -> String {
    let challenge = base64::url(digest(&SHA256, ticket.verifier.as_bytes()).as_ref());
    let query = form(&[
        ("response_type", "code"),
        ("client_id", &settings.client_id),
        ("redirect_uri", &settings.redirect),
        ("scope", &settings.scopes.join(" ")),
        ("state", &ticket.state),
        ("nonce", &ticket.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let to = &endpoints.authorize;
    let between = if to.contains('?') { '&' } else { '?' };
    format!("{to}{between}{query}")
}

/// Exchanges what somebody came back with for what the provider says of them: the claims, and their subject.
pub async fn exchange(
    settings: &Settings,
    issuer: &Issuer,
    ticket: &Ticket,
    back: Return,
    now: i64,
) -> Result<(Claims, String), Refused> {
    // The state first: until it is known that this browser asked, nothing else of the answer matters.
    if back.state.as_deref() != Some(ticket.state.as_str()) {
        return Err(Refused::State);
    }
    // RFC 9207: a provider that says who it is says that it is the one that was asked.
    if back
        .issuer
        .is_some_and(|told| told != settings.address.issuer)
    {
        return Err(Refused::State);
    }
    if let Some(error) = back.error {
        return Err(Refused::Provider(shown(&error)));
    }
    let code = back
        .code
        .filter(|code| (1..=LONGEST_CODE).contains(&code.len()));
    let code = code.ok_or(Refused::Code)?;
    let held = issuer.known().await.ok_or(Refused::Away)?;
    let endpoints = held.endpoints.as_ref().ok_or(Refused::Away)?;
    let answer = redeem(settings, endpoints, ticket, &code).await?;
    let token = Token::read(&answer.id_token).map_err(Refused::Token)?;
    let mut held = held.clone();
    let mut proven = token.proven(&held.keys, &settings.algorithms);
    if proven == Err(Fault::UnknownKey) {
        issuer.renewed().await;
        held = issuer.held().ok_or(Refused::Away)?;
        proven = token.proven(&held.keys, &settings.algorithms);
    }
    let claims = proven.map_err(Refused::Token)?;
    check(settings, ticket, claims, now)?;
    let subject = claims.get("sub").and_then(|value| value.as_str());
    let fits = |text: &&str| (1..=255).contains(&text.len()) && !text.contains(char::is_control);
    let subject = subject.filter(fits);
    let subject = subject.ok_or_else(|| Refused::Token(Fault::Claim("sub".into())))?;
    let (mut claims, subject) = (claims.clone(), subject.to_owned());
    if find(&claims, &settings.groups).is_none()
        && let (Some(url), Some(access)) = (&endpoints.userinfo, &answer.access_token)
    {
        further(url, access, &subject, &mut claims).await;
    }
    Ok((claims, subject))
}

/// Checks what a proven token says, <https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>.
fn check(settings: &Settings, ticket: &Ticket, claims: &Claims, now: i64) -> Result<(), Refused> {
    let token = Refused::Token;
    if claims.get("iss").and_then(|value| value.as_str()) != Some(&settings.address.issuer) {
        return Err(token(Fault::Issuer));
    }
    check_audience(claims, std::slice::from_ref(&settings.client_id)).map_err(token)?;
    let party = claims.get("azp").map(texts);
    let several = claims
        .get("aud")
        .is_some_and(|value| texts(value).len() > 1);
    let is_ours = |party: &Vec<String>| *party == [settings.client_id.clone()];
    if !party.as_ref().map_or(!several, is_ours) {
        return Err(token(Fault::Audience));
    }
    let times = Times::of(claims).map_err(token)?;
    times.check(now, LEEWAY).map_err(token)?;
    if claims.get("nonce").and_then(|value| value.as_str()) != Some(&ticket.nonce) {
        return Err(Refused::Nonce);
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Answer {
    id_token: String,
    access_token: Option<String>,
}

async fn redeem(
    settings: &Settings,
    endpoints: &Endpoints,
    ticket: &Ticket,
    code: &str,
) -> Result<Answer, Refused> {
    let secret = settings.client_secret.as_ref().map(Secret::expose);
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &settings.redirect),
        ("code_verifier", &ticket.verifier),
    ];
    let in_header = secret.filter(|_| endpoints.basic);
    if in_header.is_none() {
        fields.push(("client_id", &settings.client_id));
        fields.extend(secret.map(|secret| ("client_secret", secret)));
    }
    let mut request = Request::form(&endpoints.token, &fields);
    request.patience = PATIENCE;
    if let Some(secret) = in_header {
        // Each half is encoded as in a form, RFC 6749, section 2.3.1.
        let encoded = |text: &str| form(&[("", text)]).split_off(1);
        let pair = format!("{}:{}", encoded(&settings.client_id), encoded(secret));
        let mut basic = Vec::from(*b"Basic ");
        base64::encode(pair.as_bytes(), &mut basic);
        request = request.header("authorization", &String::from_utf8_lossy(&basic));
    }
    let reply = Box::pin(request.send()).await.map_err(|why| {
        tracing::warn!(
            issuer = settings.address.issuer,
            reason = why,
            "nobody can sign in"
        );
        Refused::Away
    })?;
    match reply.status {
        200 => serde_json::from_slice(&reply.body).map_err(|_| Refused::Token(Fault::Malformed)),
        400..=499 => {
            #[derive(serde::Deserialize)]
            struct Told {
                error: String,
            }
            let told = serde_json::from_slice::<Told>(&reply.body);
            let told = told.map_or_else(|_| String::new(), |told| shown(&told.error));
            // A wrong client secret is for the operator to know.
            tracing::warn!(
                issuer = settings.address.issuer,
                status = reply.status,
                error = told,
                "the provider did not take a code"
            );
            Err(Refused::Code)
        }
        status => {
            tracing::warn!(
                issuer = settings.address.issuer,
                status,
                "nobody can sign in"
            );
            Err(Refused::Away)
        }
    }
}

/// Adds what the provider tells of somebody beside their token; without it they have no groups.
async fn further(url: &str, access: &str, subject: &str, claims: &mut Claims) {
    let mut request = Request::get(url).header("authorization", &format!("Bearer {access}"));
    request.patience = PATIENCE;
    let Ok(reply) = Box::pin(request.send()).await else {
        return;
    };
    let told: Option<Claims> = serde_json::from_slice(&reply.body).ok();
    let told = told.filter(|told| {
        // Another's would be given to whoever signs in.
        reply.status == 200 && told.get("sub").and_then(|value| value.as_str()) == Some(subject)
    });
    for (name, value) in told.unwrap_or_default() {
        claims.entry(name).or_insert(value);
    }
}

/// Returns an OAuth error code as it may be shown.
fn shown(code: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    match (1..=64).contains(&code.len()) && code.bytes().all(fits) {
        true => code.to_owned(),
        false => "unknown".to_owned(),
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::State => f.write_str(
                "This is not the answer to a sign-in that this browser began within ten minutes: begin anew.",
            ),
            Refused::Provider(code) => write!(f, "The identity provider refused: {code}."),
            Refused::Code => f.write_str("The identity provider does not take the code."),
            Refused::Token(fault) => write!(f, "{fault}"),
            Refused::Nonce => f.write_str("The token was made for another sign-in."),
            Refused::Away => f.write_str("The identity provider can't be asked now."),
        }
    }
}
