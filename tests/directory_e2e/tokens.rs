//! Tokens that others have signed, in place of keys.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strait::codec::base64;

use super::idp::{Idp, Signer, now};
use super::*;
use crate::common::{Client, eventually};

/// A key that looks like a token.
const ODD_KEY: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl";
const FILE_KEY: &str = "a-key-of-the-file-0123456789";

/// A gateway that trusts an issuer.
struct Trusting {
    strait: Strait,
    idp: Idp,
    provider: Mock,
}

fn text(idp: &Idp, more: &str, provider: &Mock) -> String {
    format!(
        r#"{}
        [[keys]]
        name = "team-a"
        key = "{FILE_KEY}"
        models = ["fast"]
        [[keys]]
        name = "odd"
        key = "{ODD_KEY}"
        [[jwt]]
        name = "corp"
        issuer = "{}"
        audience = ["other", "strait"]
        leeway = "0s"
        required = {{ scope = "llm" }}
        {more}
        [[jwt.map]]
        when = {{ groups = ["ml", "search-*"] }}
        key = "team-a"
        limits = {{ rpm = 3 }}
        [[jwt.map]]
        when = {{ "realm_access.roles" = "placed" }}
        place_claim = "strait_project"
        "#,
        config(provider),
        idp.issuer(),
    )
}

fn trusting(signers: &[&std::sync::Arc<Signer>]) -> Trusting {
    let (idp, provider) = (Idp::start(signers[0]), mock(CENT));
    // Before the gateway asks for them.
    idp.show(signers);
    Trusting {
        strait: Strait::start(&text(&idp, "", &provider)),
        idp,
        provider,
    }
}

impl Trusting {
    /// Claims that are good, with others in their place.
    fn claims(&self, more: Value) -> Value {
        let mut claims = json!({
            "iss": self.idp.issuer(), "aud": "strait", "sub": "ada", "exp": now() + 300,
            "scope": "openid llm", "groups": ["staff", "ml"],
        });
        let all = claims.as_object_mut().unwrap();
        for (name, value) in more.as_object().unwrap() {
            match value.is_null() {
                true => all.remove(name),
                false => all.insert(name.clone(), value.clone()),
            };
        }
        claims
    }
}

#[test]
fn a_token_is_served_as_what_it_is_mapped_to() {
    let signers = ["RS256", "PS256", "ES256", "EdDSA"].map(|alg| Signer::new(alg, alg));
    let lab = trusting(&signers.each_ref());
    let strait = &lab.strait;
    let none = strait.post("/v1/chat/completions", &chat("fast", "hi"));
    assert_eq!(none.status, 401, "who trusts an issuer is not open");
    assert_eq!(
        ask(strait, FILE_KEY, "fast").status,
        200,
        "keys are taken too"
    );
    for (at, signer) in signers.iter().enumerate() {
        let subject = format!("user-{at}");
        let token = signer.token(&lab.claims(json!({"sub": subject})));
        let answer = ask(strait, &token, "fast");
        assert_eq!(answer.status, 200, "{}: {}", signer.kid, answer.text());
        let record = strait.records(2 * at + 3).pop().unwrap();
        assert_eq!(record["key"], "team-a", "{record}");
        assert_eq!(record["user"], subject.as_str(), "{record}");
        assert_eq!(
            ask(strait, &token, "backup").status,
            403,
            "as the key's models"
        );
    }
    // What the client says of itself doesn't hide who it is.
    let token = signers[2].token(&lab.claims(json!({"sub": "eve", "groups": "search-eu"})));
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", &*authorization), ("x-strait-user", "ada")];
    let body =
        json!({"model": "fast", "user": "ada", "messages": [{"role": "user", "content": "hi"}]});
    for _ in 0..3 {
        let answer = strait.client().post(
            "/v1/chat/completions",
            &headers,
            body.to_string().as_bytes(),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let over = ask(strait, &token, "fast");
    assert_eq!(
        over.status,
        429,
        "three a minute for each subject: {}",
        over.text()
    );
    let records = strait.records(13);
    let own = records.iter().filter(|record| record["user"] == "eve");
    assert!(own.count() >= 3, "{records:?}");
    let headers = [("x-api-key", &*signers[0].token(&lab.claims(json!({}))))];
    let body =
        json!({"model": "fast", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let answer = strait
        .client()
        .post("/v1/messages", &headers, body.to_string().as_bytes());
    assert_eq!(
        answer.status,
        200,
        "in any place of a key: {}",
        answer.text()
    );
    for key in [ODD_KEY, FILE_KEY] {
        assert_eq!(key_of(strait, key), 200, "whatever it looks like");
    }
}

#[test]
fn a_token_in_a_place_of_the_directory_is_held_to_what_stands_there() {
    let signer = Signer::new("one", "ES256");
    let lab = trusting(&[&signer]);
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let placed = |place: &str| {
        let roles = json!({"roles": ["x", "placed"]});
        signer.token(
            &lab.claims(json!({"groups": null, "realm_access": roles, "strait_project": place})),
        )
    };
    let token = placed(&tree.project);
    assert_eq!(ask(strait, &token, "fast").status, 200);
    let record = strait.records(1).pop().unwrap();
    assert_eq!(record["key"], "jwt:corp:ada", "{record}");
    assert_eq!(record["project"], tree.project.as_str(), "{record}");
    let of_team = placed(&tree.team);
    assert_eq!(ask(strait, &of_team, "fast").status, 200);
    let record = strait.records(2).pop().unwrap();
    assert_eq!(record["team"], tree.team.as_str(), "{record}");
    assert!(record["project"].is_null(), "{record}");
    let rule = json!({"on": tree.team, "deny": {"models": ["fast"]}});
    let rule = id(&make(strait, "policies", rule));
    for token in [&token, &of_team] {
        assert_eq!(
            ask(strait, token, "fast").status,
            403,
            "a rule holds at once"
        );
    }
    let path = format!("policies/{rule}");
    assert_eq!(
        call(strait, OPERATOR, "DELETE", &path, &Value::Null).status,
        200
    );
    assert_eq!(ask(strait, &token, "fast").status, 200);
    let unknown = ask(strait, &placed("proj_0000000000000000"), "fast");
    assert_eq!(unknown.status, 403, "{}", unknown.text());
    let path = format!("projects/{}?all=true", tree.project);
    assert_eq!(
        call(strait, OPERATOR, "DELETE", &path, &Value::Null).status,
        200
    );
    assert_eq!(
        ask(strait, &token, "fast").status,
        403,
        "its project is gone"
    );
    let nothing = ask(
        strait,
        &signer.token(&lab.claims(json!({"groups": ["staff"]}))),
        "fast",
    );
    assert_eq!(nothing.status, 403, "{}", nothing.text());
    assert!(nothing.text().contains("no mapping"), "{}", nothing.text());
}

#[test]
fn what_a_token_spent_right_before_a_kill_is_charged_to_its_place() {
    let signer = Signer::new("one", "ES256");
    let mut lab = trusting(&[&signer]);
    let tree = tree(&lab.strait, "acme");
    let budget = json!({"on": tree.team, "usd": 1, "every": "ever"});
    let budget = format!("budgets/{}", id(&make(&lab.strait, "budgets", budget)));
    let roles = json!({"roles": ["x", "placed"]});
    let claims = json!({"groups": null, "realm_access": roles, "strait_project": tree.project});
    let token = signer.token(&lab.claims(claims));
    let body = json!({"model": "fast", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(ask_body(&lab.strait, &token, &body).status, 200);
    lab.strait.signal("KILL");
    lab.strait.restart();
    eventually("it is charged", || {
        let shown = call(&lab.strait, OPERATOR, "GET", &budget, &Value::Null);
        shown.status == 200 && shown.json()["spent_usd"] == "0.01"
    });
}

#[test]
fn an_issuer_may_be_any_name_whose_keys_are_told_and_name_no_users() {
    let (signer, second) = (Signer::new("one", "RS256"), Signer::new("two", "EdDSA"));
    let (idp, provider) = (Idp::start(&signer), mock(CENT));
    idp.show(&[&signer, &second]);
    let strait = Strait::start(&format!(
        r#"{}
        [[keys]]
        name = "team-a"
        key = "{FILE_KEY}"
        [[jwt]]
        name = "ci"
        issuer = "urn:our:ci"
        jwks = "{}/keys"
        audience = "strait"
        algorithms = ["RS256", "EdDSA"]
        user = ""
        [[jwt.map]]
        key = "team-a"
        "#,
        config(&provider),
        idp.issuer(),
    ));
    let claims = json!({"iss": "urn:our:ci", "aud": ["strait"], "exp": now() + 300});
    for (alg, signer) in [("RS256", &signer), ("EdDSA", &second)] {
        // Which key it is need not be told.
        let token = signer.token_as(&json!({"alg": alg}), &claims);
        let mut body = chat("fast", "hi");
        body["user"] = json!("whom the client says");
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", &*authorization)];
        let body = body.to_string();
        let client = strait.client();
        let answer = client.post("/v1/chat/completions", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{alg}: {}", answer.text());
    }
    for record in strait.records(2) {
        assert_eq!(record["user"], "whom the client says", "{record}");
        assert_eq!(record["key"], "team-a", "{record}");
    }
    let asked = idp.provider.take();
    assert!(
        asked.iter().all(|got| got.path == "/keys"),
        "nothing else is asked for"
    );
}

#[test]
fn a_token_that_does_not_hold_is_refused() {
    let signer = Signer::new("one", "RS256");
    let lab = trusting(&[&signer]);
    let strait = &lab.strait;
    let good = signer.token(&lab.claims(json!({})));
    assert_eq!(ask(strait, &good, "fast").status, 200);
    let claims = |more: Value| signer.token(&lab.claims(more));
    let headed = |header: Value| signer.token_as(&header, &lab.claims(json!({})));
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let part = |value: &Value| base64::url(value.to_string().as_bytes());
    let forged = part(&lab.claims(json!({"groups": ["ml"], "sub": "root"})));
    let none = part(&json!({"alg": "none", "kid": "one"}));
    // The public key, taken for a secret that is shared.
    let shared = {
        let header = part(&json!({"alg": "HS256", "kid": "one"}));
        let secret = lab_modulus(&signer);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        let tag = ring::hmac::sign(&key, format!("{header}.{body}").as_bytes());
        format!("{header}.{body}.{}", base64::url(tag.as_ref()))
    };
    let other = Signer::new("one", "ES256");
    for (what, token, says) in [
        ("expired", claims(json!({"exp": now() - 1})), "has expired"),
        ("without an end", claims(json!({"exp": null})), "`exp`"),
        ("an odd end", claims(json!({"exp": "tomorrow"})), "`exp`"),
        ("early", claims(json!({"nbf": now() + 100})), "not hold yet"),
        (
            "another's",
            claims(json!({"aud": ["them"]})),
            "another audience",
        ),
        (
            "for nobody",
            claims(json!({"aud": null})),
            "another audience",
        ),
        (
            "without a scope",
            claims(json!({"scope": "openid llmx"})),
            "`scope`",
        ),
        ("without a subject", claims(json!({"sub": null})), "`sub`"),
        (
            "a subject of two lines",
            claims(json!({"sub": "a\nb"})),
            "`sub`",
        ),
        (
            "another issuer",
            claims(json!({"iss": "https://evil.example"})),
            "not known here",
        ),
        ("no issuer", claims(json!({"iss": null})), "not known here"),
        (
            "unsigned",
            format!("{none}.{body}."),
            "a way that is not taken",
        ),
        (
            "unsigned, signature kept",
            format!("{none}.{body}.{signature}"),
            "a way that is not taken",
        ),
        ("a shared secret", shared, "a way that is not taken"),
        (
            "changed",
            format!("{head}.{forged}.{signature}"),
            "does not hold",
        ),
        ("cut", good[..good.len() - 4].to_owned(), "does not hold"),
        (
            "another algorithm of its key",
            headed(json!({"alg": "PS256", "kid": "one"})),
            "does not hold",
        ),
        (
            "another kind of key",
            other.token(&lab.claims(json!({}))),
            "a way that is not taken",
        ),
        (
            "what nobody understands",
            headed(json!({"alg": "RS256", "kid": "one", "crit": ["x"]})),
            "malformed",
        ),
        (
            "no JSON",
            format!("eyJ{}.{body}.{signature}", "x"),
            "malformed",
        ),
        ("no base64", format!("{head}.{body}.%%%"), "malformed"),
    ] {
        let answer = ask(strait, &token, "fast");
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        assert!(answer.text().contains(says), "{what}: {}", answer.text());
        assert!(!answer.text().contains(&token[..40]), "{what}");
    }
    // Huge ones are refused unread, in the client's own protocol.
    let huge = format!("eyJ{}.{body}.{signature}", "A".repeat(40_000));
    for token in [huge, "eyJ..".to_owned(), "eyJ.a.b".to_owned()] {
        let body = json!({"model": "fast", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
        let headers = [("x-api-key", token.as_str())];
        let answer = strait
            .client()
            .post("/v1/messages", &headers, body.to_string().as_bytes());
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.json()["error"]["type"],
            "authentication_error",
            "{}",
            answer.text()
        );
    }
    let log = strait.log();
    assert!(!log.contains(&good[..60]), "a token is in the log");
}

fn lab_modulus(signer: &Signer) -> Vec<u8> {
    base64::decode(signer.jwk()["n"].as_str().unwrap().as_bytes()).unwrap()
}

#[test]
fn a_token_ends_when_it_says_also_when_it_is_remembered() {
    let signer = Signer::new("one", "EdDSA");
    let lab = trusting(&[&signer]);
    let token = signer.token(&lab.claims(json!({"exp": now() + 3})));
    assert_eq!(ask(&lab.strait, &token, "fast").status, 200);
    eventually("it has expired", || {
        let headers = [("authorization", &*format!("Bearer {token}"))];
        lab.strait
            .client()
            .request("GET", "/v1/key", &headers, b"")
            .status
            == 401
    });
}

#[test]
fn keys_are_rotated_and_the_last_good_ones_hold_while_the_issuer_is_away() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "EdDSA"));
    let (idp, provider) = (Idp::start(&old), mock(CENT));
    let strait = Strait::start(&text(&idp, "refresh = \"1s\"", &provider));
    let mut lab = Trusting {
        strait,
        idp,
        provider,
    };
    let first = old.token(&lab.claims(json!({})));
    assert_eq!(key_of(&lab.strait, &first), 200);
    lab.idp.set_away(true);
    // Whatever is sent, nobody is asked all the time, and nobody waits.
    let asked = lab.idp.provider.take().len();
    let begun = Instant::now();
    for at in 0..20 {
        let unknown = Signer::new(&format!("unknown-{at}"), "ES256");
        assert_eq!(
            key_of(&lab.strait, &unknown.token(&lab.claims(json!({})))),
            401
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(asked >= 2 && lab.idp.provider.take().len() <= 6);
    assert_eq!(key_of(&lab.strait, &first), 200, "the last good keys hold");
    lab.idp.set_away(false);
    lab.idp.show(&[&old, &new]);
    let second = new.token(&lab.claims(json!({})));
    let until = Instant::now() + Duration::from_secs(40);
    while key_of(&lab.strait, &second) != 200 {
        assert!(Instant::now() < until, "a new key is never known");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(key_of(&lab.strait, &first), 200, "both hold");
    lab.idp.show(&[&new]);
    let until = Instant::now() + Duration::from_secs(40);
    while key_of(&lab.strait, &first) != 401 {
        assert!(
            Instant::now() < until,
            "a key that was taken back holds for ever"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(key_of(&lab.strait, &second), 200);
    // A start without the issuer: the token may be good, and nobody can tell.
    lab.idp.set_away(true);
    lab.strait.restart();
    let away = ask(&lab.strait, &second, "fast");
    assert_eq!(away.status, 503, "{}", away.text());
    assert!(away.header("retry-after").is_some());
    assert_eq!(
        ask(&lab.strait, FILE_KEY, "fast").status,
        200,
        "keys need no issuer"
    );
    let status = call(&lab.strait, OPERATOR, "GET", "status", &Value::Null).json();
    assert_eq!(status["issuers"][0]["keys"], 0, "{status}");
    assert!(status["issuers"][0]["failure"].is_string(), "{status}");
    let _ = &lab.provider;
}

/// Asks as whom a token counts, which costs nothing of any limit.
fn key_of(strait: &Strait, token: &str) -> u16 {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let client: Client = strait.client();
    client.request("GET", "/v1/key", &headers, b"").status
}

#[test]
fn a_token_that_was_touched_anywhere_does_not_hold() {
    use strait::jwt::{Algorithm, Fault, Keys, Token};
    let signer = Signer::new("one", "ES256");
    let set = json!({"keys": [signer.jwk()]}).to_string();
    let keys = Keys::read(set.as_bytes()).unwrap();
    let token = signer.token(&json!({"iss": "i", "exp": now() + 60}));
    let holds = |text: &str| {
        let read = Token::read(text)?;
        read.proven(&keys, &Algorithm::every()).map(|_| ())
    };
    assert_eq!(holds(&token), Ok(()));
    // The last letter of a signature has bits that say nothing.
    for at in 0..token.len() - 1 {
        for with in [b'A', b'_', b'.', b'=', b'{', 0x7f] {
            let mut touched = token.clone().into_bytes();
            if touched[at] == with {
                continue;
            }
            touched[at] = with;
            let touched = String::from_utf8(touched).unwrap();
            assert!(holds(&touched).is_err(), "{at}: {touched}");
        }
        assert!(holds(&token[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(holds(&"a".repeat(20_000)), Err(Fault::Malformed));
    for set in [
        "",
        "[]",
        "{}",
        "{\"keys\":5}",
        "{\"keys\":[]}",
        "{\"keys\":[5,null,{}]}",
        r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
        r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
        r#"{"keys":[{"kty":"RSA","n":"","e":""}]}"#,
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#,
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"%%"}]}"#,
        r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"RS256","x":"AA","y":"AA"}]}"#,
    ] {
        assert!(Keys::read(set.as_bytes()).is_err(), "{set}");
    }
}
