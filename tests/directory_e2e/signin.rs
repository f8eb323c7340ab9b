//! People sign in to the administration API at a provider.

use serde_json::{Value, json};
use strait::codec::base64;

use super::idp::{CLIENT, Idp, SECRET, Signer, field, now};
use super::*;
use crate::common::Client;

const REDIRECT: &str = "http://127.0.0.1:9/admin/v1/signin/callback";

struct Signing {
    strait: Strait,
    idp: Idp,
    signer: std::sync::Arc<Signer>,
    provider: Mock,
    tree: Tree,
}

fn text(idp: &Idp, provider: &Mock, redirect: &str, tree: Option<&Tree>) -> String {
    let roles = tree.map_or_else(String::new, |tree| {
        format!(
            r#"roles = [
              {{ group = "ops", role = "operator" }},
              {{ group = "leads", role = "project_admin", of = "{}" }},
              {{ group = "watchers", role = "viewer", of = "{}" }},
            ]"#,
            tree.project, tree.organisation
        )
    });
    format!(
        "{}\n[admin.oidc]\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\nclient_secret = \"{SECRET}\"\nredirect = \"{redirect}\"\n{roles}\n",
        config(provider),
        idp.issuer(),
    )
}

/// A gateway with an organisation, whose project and itself groups have roles in.
fn signing() -> Signing {
    let signer = Signer::new("one", "RS256");
    let (idp, provider) = (Idp::start(&signer), mock(CENT));
    let strait = Strait::start(&text(&idp, &provider, REDIRECT, None));
    let tree = tree(&strait, "acme");
    strait.write_config(&text(&idp, &provider, REDIRECT, Some(&tree)), "");
    let reloaded = strait.admin("POST", "/admin/v1/reload", "");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    Signing {
        strait,
        idp,
        signer,
        provider,
        tree,
    }
}

fn get(strait: &Strait, path: &str, headers: &[(&str, &str)]) -> Answer {
    Client::new(strait.admin).request("GET", path, headers, b"")
}

/// Returns the cookie that an answer sets, as it is sent back.
fn cookie(answer: &Answer, name: &str) -> String {
    let set = answer
        .headers
        .iter()
        .filter(|(known, _)| known == "set-cookie");
    let mut set = set.map(|(_, value)| value.split(';').next().unwrap());
    let start = format!("{name}=");
    set.find(|value| value.starts_with(&start))
        .unwrap_or_else(|| panic!("no {name}: {:?}", answer.headers))
        .to_owned()
}

/// A browser on its way back from the provider: the path with code and state, and its cookie.
fn leave(strait: &Strait, query: &str) -> (String, String) {
    let away = get(strait, &format!("/admin/v1/signin{query}"), &[]);
    assert_eq!(away.status, 303, "{}", away.text());
    let ticket = cookie(&away, "strait-signin");
    let to = away.header("location").unwrap();
    let rest = to.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let authorize = Client::new(host.parse().unwrap());
    let back = authorize.request("GET", &format!("/{path}"), &[], b"");
    assert_eq!(back.status, 302, "{}", back.text());
    let back = back.header("location").unwrap();
    (
        back.strip_prefix("http://127.0.0.1:9").unwrap().to_owned(),
        ticket,
    )
}

fn come_back(strait: &Strait, (path, ticket): &(String, String)) -> Answer {
    get(strait, path, &[("cookie", ticket)])
}

/// Signs in, and returns the session's cookie.
fn sign_in(strait: &Strait) -> String {
    let back = come_back(strait, &leave(strait, ""));
    assert_eq!(back.status, 303, "{}", back.text());
    cookie(&back, "strait-session")
}

#[test]
fn whoever_signs_in_is_what_their_groups_say_until_they_sign_out() {
    let lab = signing();
    let strait = &lab.strait;
    lab.idp
        .set_person(json!({"sub": "u-1", "name": "Ada", "groups": ["staff", "leads"]}));
    let away = leave(strait, "?to=/admin/v1/keys?limit=5");
    let back = come_back(strait, &away);
    assert_eq!(back.status, 303, "{}", back.text());
    assert_eq!(back.header("location"), Some("/admin/v1/keys?limit=5"));
    let set = back
        .headers
        .iter()
        .find(|(name, value)| name == "set-cookie" && value.starts_with("strait-session="));
    let (_, set) = set.unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/"));
    assert!(
        !set.contains("Secure"),
        "without TLS a browser would drop it"
    );
    let session = cookie(&back, "strait-session");
    let me = get(strait, "/admin/v1/me", &[("cookie", &session)]);
    assert_eq!(me.status, 200, "{}", me.text());
    let me = me.json();
    assert_eq!(me["id"], "oidc:u-1", "{me}");
    assert_eq!(me["name"], "Ada", "{me}");
    let project = lab.tree.project.as_str();
    assert_eq!(
        me["roles"],
        json!([{"role": "project_admin", "of": project}])
    );
    assert_eq!(
        get(strait, "/admin/v1/status", &[("cookie", &session)]).status,
        403
    );

    // A change has to come from a page of ours.
    let body = json!({"name": "from a page", "project": project}).to_string();
    let change = |headers: &[(&str, &str)]| {
        let all = [&[("cookie", session.as_str())], headers].concat();
        Client::new(strait.admin).request("POST", "/admin/v1/keys", &all, body.as_bytes())
    };
    let own = "http://127.0.0.1:9";
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("x-strait-csrf", "1")],
        &[("origin", "https://evil.example"), ("x-strait-csrf", "1")],
        &[("origin", "null")],
        &[
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://evil.example"),
        ],
    ] {
        let refused = change(headers);
        assert_eq!(refused.status, 403, "{headers:?}: {}", refused.text());
        assert_eq!(refused.json()["error"]["code"], "cross_site_request");
    }
    let made = change(&[("sec-fetch-site", "same-origin"), ("origin", own)]);
    assert_eq!(made.status, 201, "{}", made.text());
    let again = change(&[("x-strait-csrf", "1")]);
    assert_eq!(
        again.status,
        409,
        "it is let through, and the name is taken: {}",
        again.text()
    );

    // Signed out everywhere.
    let out = |headers: &[(&str, &str)]| {
        let all = [&[("cookie", session.as_str())], headers].concat();
        Client::new(strait.admin).request("POST", "/admin/v1/signout", &all, b"")
    };
    assert_eq!(out(&[]).status, 403, "another's page signs nobody out");
    let ended = out(&[("origin", own)]);
    assert_eq!(ended.status, 200, "{}", ended.text());
    assert_eq!(cookie(&ended, "strait-session"), "strait-session=");
    assert_eq!(
        get(strait, "/admin/v1/me", &[("cookie", &session)]).status,
        401
    );
    let audit = call(strait, OPERATOR, "GET", "audit?limit=20", &Value::Null).text();
    for action in ["session.create", "session.end", "key.create"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
    assert!(audit.contains("oidc:u-1"), "{audit}");
    let secret = session.rsplit('-').next().unwrap();
    let status = call(strait, OPERATOR, "GET", "status", &Value::Null).text();
    for text in [&audit, &strait.log(), &strait.metrics(), &status] {
        for hidden in [secret, SECRET, "access-1", "code+0"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }
    let _ = &lab.provider;
}

#[test]
fn a_session_serves_without_a_browser_and_over_a_restart() {
    let mut lab = signing();
    lab.idp.set_person(json!({"sub": "op", "groups": "ops"}));
    let back = come_back(&lab.strait, &leave(&lab.strait, "?show=token"));
    assert_eq!(back.status, 200, "{}", back.text());
    let back = back.json();
    let token = back["token"].as_str().unwrap().to_owned();
    assert!(
        token.starts_with("sst-") && back["expires"].is_string(),
        "{back}"
    );
    lab.strait.restart();
    let strait = &lab.strait;
    let status = call(strait, &token, "GET", "status", &Value::Null);
    assert_eq!(status.status, 200, "an operator: {}", status.text());
    let made = call(
        strait,
        &token,
        "POST",
        "organisations",
        &json!({"name": "by bearer"}),
    );
    assert_eq!(made.status, 201, "no cookie, no question: {}", made.text());
    let audit = call(strait, &token, "GET", "audit?limit=5", &Value::Null).text();
    assert!(
        audit.contains("\"oidc:op\""),
        "who did it is known: {audit}"
    );
    let mut wrong = token.clone();
    wrong.pop();
    wrong.push(if token.ends_with('0') { '1' } else { '0' });
    assert_eq!(call(strait, &wrong, "GET", "me", &Value::Null).status, 401);
    assert_eq!(
        call(strait, &token, "POST", "signout", &Value::Null).status,
        200
    );
    assert_eq!(call(strait, &token, "GET", "me", &Value::Null).status, 401);
    // Only what signing in made is taken out of a cookie.
    let operator = format!("strait-session={OPERATOR}");
    assert_eq!(
        get(strait, "/admin/v1/me", &[("cookie", &operator)]).status,
        401
    );
}

#[test]
fn an_answer_that_is_not_to_this_sign_in_signs_nobody_in() {
    let lab = signing();
    let strait = &lab.strait;
    lab.idp
        .set_person(json!({"sub": "u-1", "groups": ["leads"]}));
    let code = |answer: &Answer| answer.json()["error"]["code"].as_str().unwrap().to_owned();
    let refused = |answer: Answer, what: &str| {
        assert!(
            (400..500).contains(&answer.status),
            "{what}: {}",
            answer.text()
        );
        let sets = |(name, value): &(String, String)| {
            name == "set-cookie" && value.starts_with("strait-session=sst")
        };
        assert!(!answer.headers.iter().any(sets), "{what}");
        code(&answer)
    };
    let (path, ticket) = leave(strait, "");
    let (other, _) = leave(strait, "");
    assert_eq!(
        refused(get(strait, &path, &[]), "no ticket"),
        "invalid_state"
    );
    let foreign = refused(
        get(strait, &other, &[("cookie", &ticket)]),
        "another's state",
    );
    assert_eq!(foreign, "invalid_state");
    let forged = format!("strait-signin=v1:{}", "0".repeat(400));
    assert_eq!(
        refused(get(strait, &path, &[("cookie", &forged)]), "forged"),
        "invalid_state"
    );
    let stateless = path.replace("state=", "stat=");
    assert_eq!(
        refused(get(strait, &stateless, &[("cookie", &ticket)]), "no state"),
        "invalid_state"
    );
    let mixed = format!("{path}&iss=https%3A%2F%2Fevil.example");
    assert_eq!(
        refused(
            get(strait, &mixed, &[("cookie", &ticket)]),
            "another issuer"
        ),
        "invalid_state"
    );
    let state = field(path.split_once('?').unwrap().1, "state");
    let denied = format!("/admin/v1/signin/callback?error=access_denied&state={state}");
    let denied = get(strait, &denied, &[("cookie", &ticket)]);
    assert!(denied.text().contains("access_denied"), "{}", denied.text());
    assert_eq!(refused(denied, "denied"), "provider_refused");
    let odd = format!("/admin/v1/signin/callback?error=%3Cscript%3E&state={state}");
    let odd = get(strait, &odd, &[("cookie", &ticket)]);
    assert!(!odd.text().contains("script"), "{}", odd.text());
    // The first time it is good, the second the code is spent.
    assert_eq!(get(strait, &path, &[("cookie", &ticket)]).status, 303);
    assert_eq!(
        refused(get(strait, &path, &[("cookie", &ticket)]), "replayed"),
        "invalid_code"
    );
}

#[test]
fn a_token_of_the_provider_that_does_not_hold_signs_nobody_in() {
    let lab = signing();
    let strait = &lab.strait;
    lab.idp
        .set_person(json!({"sub": "u-1", "groups": ["leads"]}));
    let with = |name: &'static str, value: Value| {
        let signer = lab.signer.clone();
        lab.idp.craft(move |claims| {
            let mut claims = claims.clone();
            claims[name] = value.clone();
            signer.token(&claims)
        });
        come_back(strait, &leave(strait, ""))
    };
    for (what, name, value) in [
        ("another nonce", "nonce", json!("another")),
        ("no nonce", "nonce", Value::Null),
        ("another audience", "aud", json!("them")),
        (
            "several audiences, and no party",
            "aud",
            json!([CLIENT, "them"]),
        ),
        ("another party", "azp", json!("them")),
        ("expired", "exp", json!(now() - 100)),
        ("early", "nbf", json!(now() + 1000)),
        ("another issuer", "iss", json!("https://evil.example")),
        ("nobody", "sub", json!("")),
    ] {
        let answer = with(name, value);
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "invalid_token", "{what}");
    }
    let part = |value: &Value| base64::url(value.to_string().as_bytes());
    lab.idp
        .craft(move |claims| format!("{}.{}.", part(&json!({"alg": "none"})), part(claims)));
    assert_eq!(
        come_back(strait, &leave(strait, "")).status,
        401,
        "unsigned"
    );
    let stranger = Signer::new("one", "ES256");
    lab.idp.craft(move |claims| stranger.token(claims));
    assert_eq!(
        come_back(strait, &leave(strait, "")).status,
        401,
        "a stranger's"
    );
    // A key that the provider has since.
    lab.idp.uncraft();
    let next = Signer::new("two", "ES256");
    lab.idp.show(&[&lab.signer, &next]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let answer = come_back(strait, &leave(strait, ""));
        if answer.status == 303 {
            break;
        }
        assert!(std::time::Instant::now() < until, "{}", answer.text());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

#[test]
fn nobody_is_let_in_who_is_nothing_here() {
    let lab = signing();
    let (strait, tree) = (&lab.strait, &lab.tree);
    let attempt = || come_back(strait, &leave(strait, ""));
    lab.idp
        .set_person(json!({"sub": "u-2", "groups": ["staff"]}));
    let nobody = attempt();
    assert_eq!(
        (nobody.status, nobody.json()["error"]["code"].as_str()),
        (403, Some("no_role"))
    );
    // Groups that the token doesn't have are asked for beside it, and are those of the same person.
    lab.idp.set_person(json!({"sub": "u-2"}));
    lab.idp
        .set_userinfo(json!({"sub": "u-3", "groups": ["watchers"]}));
    assert_eq!(attempt().status, 403, "another's groups");
    lab.idp
        .set_userinfo(json!({"sub": "u-2", "groups": ["watchers"]}));
    let session = sign_in(strait);
    let me = get(strait, "/admin/v1/me", &[("cookie", &session)]).json();
    assert_eq!(
        me["roles"],
        json!([{"role": "viewer", "of": tree.organisation}])
    );
    // A user of the directory by their subject, with what they are there.
    let user = json!({"name": "bob", "organisation": tree.organisation, "subject": "u-2",
        "roles": [{"role": "developer", "of": tree.project}]});
    let user = id(&make(strait, "users", user));
    let session = sign_in(strait);
    let own = get(strait, "/admin/v1/me", &[("cookie", &session)]).json();
    assert_eq!(own["id"], user.as_str(), "{own}");
    assert_eq!(own["roles"].as_array().unwrap().len(), 2, "{own}");
    let body = json!({"name": "bobs", "project": tree.project}).to_string();
    let headers = [("cookie", session.as_str()), ("x-strait-csrf", "1")];
    let key =
        Client::new(strait.admin).request("POST", "/admin/v1/keys", &headers, body.as_bytes());
    assert_eq!(key.json()["user"], user.as_str(), "{}", key.text());
    let path = format!("users/{user}");
    let disabled = call(strait, OPERATOR, "PATCH", &path, &json!({"disabled": true}));
    assert_eq!(disabled.status, 200);
    let refused = get(strait, "/admin/v1/me", &[("cookie", &session)]);
    assert_eq!(
        refused.status,
        403,
        "by their groups neither: {}",
        refused.text()
    );
    assert_eq!(attempt().status, 403);
}

#[test]
fn nobody_is_sent_elsewhere_and_a_provider_that_is_away_is_said() {
    let lab = signing();
    let strait = &lab.strait;
    for to in [
        "https://evil.example",
        "//evil.example",
        "/%5Cevil.example",
        "%09//evil.example",
        "/a%0d%0aset-cookie:x=y",
        "javascript:alert(1)",
        "",
    ] {
        let answer = get(strait, &format!("/admin/v1/signin?to={to}"), &[]);
        assert_eq!(answer.status, 400, "{to}: {}", answer.text());
        assert_eq!(answer.json()["error"]["param"], "to");
    }
    assert_eq!(get(strait, "/admin/v1/signin?tos=/", &[]).status, 400);
    let head = Client::new(strait.admin)
        .send("HEAD", "/admin/v1/signin", &[], b"")
        .unwrap();
    assert_eq!(
        head.status, 401,
        "who looks at the head of a link begins nothing"
    );
    lab.idp
        .set_person(json!({"sub": "u-1", "groups": ["leads"]}));
    let away = leave(strait, "");
    lab.idp.set_away(true);
    let answer = come_back(strait, &away);
    assert_eq!(answer.status, 503, "{}", answer.text());
    lab.idp.set_away(false);

    // Over TLS the cookie is kept to it.
    let redirect = "https://strait.example.com/admin/v1/signin/callback";
    strait.write_config(&text(&lab.idp, &lab.provider, redirect, None), "");
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    let answer = get(strait, "/admin/v1/signin", &[]);
    let set = answer.header("set-cookie").unwrap();
    assert!(
        set.contains("; Secure") && set.starts_with("__Host-"),
        "{set}"
    );
    // And without the table nobody signs in.
    strait.write_config(&config(&lab.provider), "");
    assert_eq!(strait.admin("POST", "/admin/v1/reload", "").status, 200);
    let answer = get(strait, "/admin/v1/signin", &[]);
    assert_eq!(answer.json()["error"]["code"], "not_configured");
}

#[test]
fn a_persons_token_ends_when_it_is_said_and_its_use_is_noted() {
    let lab = lab();
    let strait = &lab.strait;
    let tree = tree(strait, "acme");
    let (user, first) = person(strait, &tree.organisation, "viewer", &tree.organisation);
    let path = format!("users/{user}");
    let shown = || call(strait, OPERATOR, "GET", &path, &Value::Null).json();
    assert!(shown()["token_used"].is_null() && shown()["token_expires"].is_null());
    assert_eq!(call(strait, &first, "GET", "me", &Value::Null).status, 200);
    crate::common::eventually("the use is noted", || shown()["token_used"].is_string());
    let listed = call(strait, OPERATOR, "GET", "users", &Value::Null).json();
    assert!(listed["data"][0]["token_used"].is_string(), "{listed}");
    let make = |body: Value| call(strait, OPERATOR, "POST", &format!("{path}/token"), &body);
    for wrong in [
        json!({"expires": "2020-01-01T00:00:00Z"}),
        json!({"expires": 5}),
        json!({"ends": 1}),
    ] {
        let refused = make(wrong);
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    let end = jiff::Timestamp::from_second(now() + 3).unwrap().to_string();
    let made = make(json!({"expires": end}));
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    assert_eq!(made["token_expires"], end.as_str());
    let token = made["token"].as_str().unwrap();
    assert_eq!(
        call(strait, &first, "GET", "me", &Value::Null).status,
        401,
        "replaced"
    );
    assert_eq!(call(strait, token, "GET", "me", &Value::Null).status, 200);
    crate::common::eventually("it is over", || {
        call(strait, token, "GET", "me", &Value::Null).status == 401
    });
}

#[test]
fn a_gateway_that_was_closed_stays_closed() {
    let mut lab = lab();
    let keyless = |strait: &Strait| {
        strait
            .post("/v1/chat/completions", &chat("fast", "hi"))
            .status
    };
    assert_eq!(keyless(&lab.strait), 200);
    let tree = tree(&lab.strait, "acme");
    let path = format!("organisations/{}?all=true", tree.organisation);
    let gone = call(&lab.strait, OPERATOR, "DELETE", &path, &Value::Null);
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(keyless(&lab.strait), 401, "the last organisation is gone");
    lab.strait.restart();
    assert_eq!(keyless(&lab.strait), 401, "after a restart too");
}

#[test]
fn the_oldest_session_of_somebody_ends_when_they_have_too_many() {
    let lab = signing();
    let strait = &lab.strait;
    lab.idp
        .set_person(json!({"sub": "u-1", "groups": ["leads"]}));
    let first = sign_in(strait);
    lab.idp
        .set_person(json!({"sub": "u-2", "groups": ["leads"]}));
    let other = sign_in(strait);
    lab.idp
        .set_person(json!({"sub": "u-1", "groups": ["leads"]}));
    let mut last = String::new();
    for _ in 0..20 {
        last = sign_in(strait);
    }
    let me = |session: &str| get(strait, "/admin/v1/me", &[("cookie", session)]).status;
    assert_eq!(me(&first), 401, "the oldest of 21");
    assert_eq!(me(&last), 200);
    assert_eq!(me(&other), 200, "nobody else's");
    // Whoever leaves the house need not be waited for.
    let ended = call(
        strait,
        OPERATOR,
        "DELETE",
        "sessions?subject=u%2D1",
        &Value::Null,
    );
    assert_eq!(ended.json()["ended"], 20, "{}", ended.text());
    assert_eq!((me(&last), me(&other)), (401, 200));
    let wrong = call(strait, OPERATOR, "DELETE", "sessions?sub=u-1", &Value::Null);
    assert_eq!(
        wrong.status,
        400,
        "a spelling ends nobody's: {}",
        wrong.text()
    );
    let ended = call(strait, OPERATOR, "DELETE", "sessions", &Value::Null);
    assert_eq!(ended.json()["ended"], 1, "{}", ended.text());
}

#[test]
fn a_session_is_begun_used_and_ended_on_any_node() {
    let postgres = crate::common::postgres::Postgres::start();
    let url = postgres.database();
    let signer = Signer::new("one", "EdDSA");
    let (idp, provider) = (Idp::start(&signer), mock(CENT));
    idp.set_person(json!({"sub": "op", "groups": ["ops"]}));
    let nodes = [(); 2].map(|()| {
        let state =
            "database = \"env:DATABASE_URL\"\npepper = \"env:PEPPER\"\nmaster_key = \"env:PEPPER\"";
        let env = [
            ("DATABASE_URL", url.as_str()),
            ("PEPPER", "the-pepper-of-all-nodes-0123456789"),
        ];
        let roles = "roles = [{ group = \"ops\", role = \"operator\" }]";
        let text = format!("{}{roles}\n", text(&idp, &provider, REDIRECT, None));
        Strait::start_state(&text, state, &env)
    });
    let [first, second] = &nodes;
    // Whoever leaves from one comes back to another.
    let back = come_back(second, &leave(first, ""));
    assert_eq!(back.status, 303, "{}", back.text());
    let session = cookie(&back, "strait-session");
    for node in &nodes {
        assert_eq!(
            get(node, "/admin/v1/me", &[("cookie", &session)]).status,
            200
        );
    }
    let headers = [("cookie", session.as_str()), ("x-strait-csrf", "1")];
    let out = Client::new(first.admin).request("POST", "/admin/v1/signout", &headers, b"");
    assert_eq!(out.status, 200);
    for node in &nodes {
        assert_eq!(
            get(node, "/admin/v1/me", &[("cookie", &session)]).status,
            401
        );
    }
    let health = Client::new(first.admin).get("/health/ready").json();
    assert_eq!(health["issuers"]["status"], "ok", "{health}");
    assert!(
        first.metric("strait_issuer_keys", &[&idp.issuer()]) >= 1.0,
        "{}",
        first.metrics()
    );
}
