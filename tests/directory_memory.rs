//! Many keys of the directory: what they weigh. Alone in its process, so that its memory is its own.

use std::time::Instant;

use strait::directory::schema::Kind;
use strait::directory::store::Object;
use strait::directory::token::{self, KEY};
use strait::directory::view::{Found, KeySecret, View};

fn object(kind: Kind, id: &str, above: &str, body: &str, secret: Option<String>) -> Object {
    Object {
        id: id.to_owned(),
        kind,
        parent: above.rsplit('/').next().map(str::to_owned),
        path: format!("{above}/{id}"),
        name: id.to_owned(),
        version: 1,
        created: 0,
        changed: 0,
        body: body.to_owned(),
        secret,
    }
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_hundred_thousand_keys_take_under_sixty_mebibytes() {
    const COUNT: usize = 100_000;
    let view = View::new(&[7; 32], false);
    view.put(&object(Kind::Organisation, "org_1", "", "{}", None));
    view.put(&object(
        Kind::Limit,
        "lim_1",
        "/org_1",
        r#"{"on":"org_1","rpm":1000000}"#,
        None,
    ));
    view.put(&object(
        Kind::Policy,
        "pol_1",
        "/org_1",
        r#"{"on":"org_1","deny":{"models":["none"]}}"#,
        None,
    ));
    let before = resident_kib();
    let mut shown = Vec::new();
    for at in 0..COUNT {
        let id = token::new_id("key_");
        let text = token::new_secret(KEY, id.strip_prefix("key_").unwrap());
        let above = format!("/org_1/team_{}/proj_{}", at / 1000, at / 100);
        let secret = KeySecret {
            digest: view.digest(text.expose()),
            previous: None,
        };
        let body = format!(r#"{{"name":"key {at}","project":"proj_{}"}}"#, at / 100);
        view.put(&object(Kind::Key, &id, &above, &body, Some(secret.write())));
        // Every key is used, so that all of what it amounts to is there.
        view.load(false);
        assert!(matches!(view.find(text.expose(), || 0), Found::Key(_)));
        if at % 1000 == 0 {
            shown.push(text);
        }
    }
    if let (Some(before), Some(after)) = (before, resident_kib()) {
        let kib = after.saturating_sub(before);
        eprintln!("100,000 keys in use: {:.1} MiB", kib as f64 / 1024.0);
        assert!(kib < 60 << 10, "{kib} KiB");
    }
    let begun = Instant::now();
    for _ in 0..100 {
        for text in &shown {
            assert!(matches!(view.find(text.expose(), || 0), Found::Key(_)));
        }
    }
    let each = begun.elapsed() / 10_000;
    eprintln!("a look-up takes {each:?}");
    assert_eq!(view.keys(), COUNT);
}
