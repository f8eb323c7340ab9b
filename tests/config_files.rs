//! The configuration on disk: the files that come with the program, `check`, reload and watch.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use strait::command::check;
use strait::config::{self, Loaded, Mistake, Snapshot, Source, Store, known, watch};
use strait::protocol::api::Api;
use strait::provider::{self, Timeouts};
use strait::routing::{Retries, Strategy};

fn conf(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(file)
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn good(loaded: Result<Loaded, Vec<Mistake>>) -> Loaded {
    loaded.unwrap_or_else(|mistakes| panic!("{}", lines(&mistakes)))
}

fn read(text: &str) -> Snapshot {
    good(config::read(Path::new("strait.toml"), text, &no_env)).snapshot
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes
        .iter()
        .map(|mistake| format!("{mistake}\n"))
        .collect()
}

// The files that come with the program.

#[test]
fn every_row_of_the_catalogue_makes_a_provider() {
    let rows: toml::Table =
        toml::from_str(&std::fs::read_to_string(conf("providers.toml")).unwrap()).unwrap();
    let rows = rows["providers"].as_table().unwrap();
    let mut names = BTreeSet::new();
    let mut text = String::new();
    for (name, row) in rows {
        assert!(names.insert(name.as_str()), "{name} is another's alias");
        for alias in row
            .get("aliases")
            .and_then(|aliases| aliases.as_array())
            .into_iter()
            .flatten()
        {
            assert!(
                names.insert(alias.as_str().unwrap()),
                "{alias:?} of {name} is taken"
            );
        }
        let needs_key = row.get("auth").and_then(|auth| auth.as_str()) != Some("none");
        let platform = row.get("platform").and_then(|platform| platform.as_str());
        text += &format!(
            "[providers.{name}]\n{}{}",
            if needs_key { "key = \"k\"\n" } else { "" },
            match platform {
                Some("azure") => "base_url = \"https://x.openai.azure.com\"\n",
                Some("vertex") => "project = \"p\"\n",
                Some("bedrock") => "region = \"us-east-1\"\n",
                other => {
                    assert_eq!(other, None, "{name}");
                    ""
                }
            }
        );
    }
    let now = read(&text);
    assert_eq!(now.providers.len(), rows.len() + 1, "all of them, and demo");
    assert!(now.disabled.is_empty());
    assert!(rows.len() >= 60, "{} rows", rows.len());
    for provider in now.providers.iter().filter(|provider| !provider.demo) {
        let name = &provider.name;
        for endpoint in &provider.endpoints {
            let is_local = ["localhost", "127.0.0.1"].contains(&endpoint.host.as_str());
            assert!(endpoint.tls || is_local, "{name} is asked without TLS");
            assert!(endpoint.host.contains('.') || is_local, "{name}");
            for speaks in &provider.protocols {
                let path = provider::path(
                    &provider.platform,
                    endpoint,
                    speaks,
                    Api::Chat,
                    "model",
                    true,
                );
                assert!(
                    path.starts_with('/') && !path.contains("//") && !path.contains('{'),
                    "{name}: {path}"
                );
            }
        }
        assert!(!provider.protocols.is_empty(), "{name}");
        for (field, _) in &provider.quirks.rename {
            assert!(!provider.quirks.drop.contains(field), "{name}: {field}");
        }
    }
    // And by their usual variables alone.
    let any = |name: &str| name.ends_with("_KEY").then(|| "k".to_string());
    let now = good(config::read(Path::new("strait.toml"), "", &any)).snapshot;
    for (name, reason) in &now.disabled {
        assert!(
            reason.contains("is written") || reason.contains(" set"),
            "{name}: {reason}"
        );
    }
    assert!(now.providers.len() > rows.len() / 2);
}

#[test]
fn the_small_file_is_right() {
    let loaded = good(config::load(&Source::File(conf("minimal.toml")), &no_env));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.snapshot.file, Some(conf("minimal.toml")));
}

#[test]
fn the_reference_changes_nothing_as_it_stands() {
    let shown = good(config::load(&Source::File(conf("strait.toml")), &no_env)).snapshot;
    let default = read("");
    assert_eq!(shown.server, default.server);
    assert_eq!(shown.admin, default.admin);
    assert_eq!(shown.cache, default.cache);
    assert_eq!(shown.records, default.records);
    assert_eq!(shown.state_dir, default.state_dir);
    assert_eq!(shown.log_level, default.log_level);
    assert_eq!(shown.providers, default.providers);
}

/// Returns the reference with its examples in force.
fn uncommented() -> String {
    let text = std::fs::read_to_string(conf("strait.toml")).unwrap();
    let bare = |line: &str| {
        let example = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()));
        format!("{}\n", example.unwrap_or(line))
    };
    text.lines().map(bare).collect()
}

#[test]
fn the_examples_of_the_reference_are_right_and_show_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("x.pem");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let both = [made.cert.pem(), made.signing_key.serialize_pem()].concat();
    std::fs::write(&pem, both).unwrap();
    let mut text = uncommented();
    for file in [
        "/etc/strait/cert.pem",
        "/etc/strait/key.pem",
        "/etc/strait/ca.pem",
    ] {
        assert!(text.contains(file));
        text = text.replace(file, pem.to_str().unwrap());
    }
    let google = dir.path().join("google.json");
    std::fs::write(
        &google,
        r#"{"type":"service_account","client_email":"a@b","private_key":"-----BEGIN X"}"#,
    )
    .unwrap();
    text = text.replace("/etc/strait/google.json", google.to_str().unwrap());
    let models = dir.path().join("models.json");
    std::fs::write(&models, r#"{"models":[{"provider":"lab","id":"m"}]}"#).unwrap();
    text = text.replace("/etc/strait/models.json", models.to_str().unwrap());
    let router = dir.path().join("router.bin");
    std::fs::write(&router, strait::routing::smart::DEFAULT).unwrap();
    text = text.replace("/etc/strait/router.bin", router.to_str().unwrap());
    let named = text.clone();
    let env = move |name: &str| {
        named
            .contains(&format!("\"env:{name}\""))
            .then(|| format!("value-of-{name}"))
    };
    let loaded = good(config::read(Path::new("strait.toml"), &text, &env));
    assert_eq!(loaded.warnings, [], "{}", lines(&loaded.warnings));
    let now = loaded.snapshot;
    let lab = &now.providers[now.provider_index["lab"]];
    let plain = read(
        "[providers.lab]\nprotocols = \"openai-chat\"\nbase_url = \"http://h\"\nauth = \"none\"\nhealth = { path = \"/health\" }",
    );
    let plain = &plain.providers[plain.provider_index["lab"]];
    assert_eq!(lab.health, plain.health);
    assert_eq!(lab.timeouts, plain.timeouts);
    assert_eq!(lab.quirks.stream_options, plain.quirks.stream_options);
    assert_eq!(lab.quirks.developer_role, plain.quirks.developer_role);
    assert_eq!(
        lab.quirks.max_completion_tokens,
        plain.quirks.max_completion_tokens
    );
    let fast = &now.models["fast"];
    assert_eq!(
        (fast.retries, fast.strategy),
        (Retries::default(), Strategy::default())
    );
    assert_eq!(Timeouts::default().with(fast.timeouts), Timeouts::default());
}

#[test]
fn the_reference_shows_every_key() {
    let table: toml::Table = toml::from_str(&uncommented()).unwrap();
    let mut shown = BTreeSet::new();
    walk("", &table, &mut shown);
    for section in known::SECTIONS {
        for key in section.keys {
            let is_shown = shown.contains(&(section.path.to_string(), key.to_string()));
            assert!(
                is_shown,
                "[{}] {key} is not in conf/strait.toml",
                section.path
            );
        }
    }
}

/// Collects the keys that a document has, by the section they belong to.
fn walk(section: &str, table: &toml::Table, shown: &mut BTreeSet<(String, String)>) {
    let is_section = |path: &str| known::SECTIONS.iter().any(|section| section.path == path);
    for (key, value) in table {
        shown.insert((section.to_string(), key.clone()));
        let below = if section.is_empty() {
            key.clone()
        } else {
            format!("{section}.{key}")
        };
        let (named, listed) = (format!("{below}.*"), format!("{below}[]"));
        if let Some(inner) = value.as_table() {
            if is_section(&below) {
                walk(&below, inner, shown);
            } else if is_section(&named) {
                inner
                    .values()
                    .filter_map(|value| value.as_table())
                    .for_each(|table| walk(&named, table, shown));
            }
        }
        // Where one table may stand, or several in an array, all have the same keys.
        for path in [&listed, &below] {
            if is_section(path) {
                let elements = value.as_array().into_iter().flatten();
                elements
                    .filter_map(|value| value.as_table())
                    .for_each(|table| walk(path, table, shown));
            }
        }
    }
}

#[test]
fn a_damaged_reference_is_reported_and_never_panics() {
    let whole = uncommented();
    let pieces = [
        "\"",
        "[",
        "]",
        "{",
        "}",
        "=",
        "\n",
        "#",
        "é",
        "\0",
        "'''",
        "0x",
        "-",
        "99999999999999999999",
        "*",
        "env:",
        "/",
        "nan",
        ".",
        ",",
    ];
    let mut random = numbers(7);
    for _ in 0..600 {
        let mut text = whole.clone();
        for _ in 0..=random(3) {
            let at = floor(&text, random(text.len()));
            if random(2) == 0 {
                let end = floor(&text, (at + random(40)).min(text.len()));
                text.replace_range(at..end, "");
            } else {
                text.insert_str(at, pieces[random(pieces.len())]);
            }
        }
        let env = |name: &str| (name == "LAB_A").then(|| "x".to_string());
        if let Err(mistakes) = config::read(Path::new("strait.toml"), &text, &env) {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(
                    mistake.line >= 1 && mistake.line <= text.lines().count() + 1,
                    "{mistake}"
                );
                assert!(!mistake.message.is_empty());
            }
        }
    }
}

/// Returns a generator of numbers below its argument; the same every time.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

// Reading, checking, reloading.

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strait.toml");
    let load = || config::load(&Source::File(file.clone()), &no_env);
    assert!(
        lines(&load().unwrap_err()).contains("strait.toml: can't be read"),
        "no file"
    );
    std::fs::write(&file, b"[server]\nx = \"\xff\"").unwrap();
    assert!(lines(&load().unwrap_err()).contains("strait.toml:2:6: is not UTF-8 here"));
    // A mark at the start, and lines that end as in Windows.
    std::fs::write(&file, "\u{feff}[server]\r\nopen = false\r\n").unwrap();
    good(load());
}

#[test]
fn the_named_file_goes_before_those_that_are_found() {
    let env = |name: &str| (name == "STRAIT_CONFIG").then(|| "/nonexistent/a.toml".to_string());
    assert_eq!(
        Source::Search.path(&env),
        Some("/nonexistent/a.toml".into())
    );
    assert_eq!(
        Source::File("b.toml".into()).path(&env),
        Some("b.toml".into())
    );
    let mistakes = config::load(&Source::Search, &env).unwrap_err();
    assert_eq!(
        mistakes[0].file, "/nonexistent/a.toml",
        "a named file must be there"
    );
}

#[test]
fn check_prints_all_mistakes_or_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strait.toml");
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let is_ok = check::check(&Source::File(file.clone()), &no_env, &mut out);
        (is_ok, String::from_utf8(out).unwrap())
    };
    let (is_ok, out) = run("[server]\nlisen = 1\nopen = 5\n");
    assert!(!is_ok);
    assert!(
        out.contains("strait.toml:2:1: server.lisen: unknown key (did you mean listen?)\n"),
        "{out}"
    );
    assert!(out.ends_with("2 mistakes\n"), "{out}");
    let (is_ok, out) = run("[[keys]]\nname = \"a\"\nkey = \"short\"\n");
    assert!(is_ok, "a warning is no mistake");
    assert!(out.starts_with("warning: "), "{out}");
    assert!(out.contains("\nok: 1 provider, 0 models, 1 key; "), "{out}");
    assert!(out.ends_with(" catalogue providers not enabled\n"), "{out}");
}

/// Returns a store over `file`, and the generations that it swaps in.
fn store(file: &Path) -> (Store, Receiver<u64>) {
    let source = Source::File(file.to_path_buf());
    let loaded = good(config::load(&source, &no_env));
    let store = Store::with_environment(source, loaded.snapshot, Box::new(no_env));
    let (swapped, swaps) = channel();
    store.on_swap(Box::new(move |snapshot: &Arc<Snapshot>| {
        let _ = swapped.send(snapshot.generation);
    }));
    (store, swaps)
}

#[test]
fn a_reload_swaps_the_whole_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strait.toml");
    std::fs::write(&file, "[log]\nlevel = \"warn\"").unwrap();
    let (store, swaps) = store(&file);
    let pinned = store.full();
    std::fs::write(&file, "[log]\nlevel = \"debug\"\n[cache]\nenabled = 1").unwrap();
    let mistakes = store.reload().unwrap_err();
    assert_eq!(mistakes[0].key, "cache.enabled");
    assert_eq!(
        (store.load().generation, store.load().log_level.as_str()),
        (1, "warn"),
        "the old one stays"
    );
    assert!(
        swaps.try_recv().is_err(),
        "nobody is told of a reload that failed"
    );
    std::fs::remove_file(&file).unwrap();
    assert!(
        store.reload().is_err(),
        "a file that is gone is a mistake, not the defaults"
    );
    std::fs::write(&file, "[log]\nlevel = \"debug\"").unwrap();
    assert_eq!(store.reload(), Ok(2));
    assert_eq!(swaps.try_recv(), Ok(2));
    assert_eq!(store.load().log_level, "debug");
    assert_eq!(pinned.log_level, "warn", "who holds a snapshot keeps it");
}

#[test]
fn reloads_side_by_side_count_one_after_another() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strait.toml");
    std::fs::write(&file, "").unwrap();
    let (store, swaps) = store(&file);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| assert!(store.reload().is_ok())));
        }
    });
    assert_eq!(store.load().generation, 21);
    let told: Vec<u64> = swaps.try_iter().collect();
    assert_eq!(told, (2..=21).collect::<Vec<_>>());
}

// Watching.

const SOON: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(700);

/// Returns the contents that a watch of `file` calls back for.
fn watched(file: &Path) -> (watch::Watch, Receiver<String>) {
    let (changed, changes) = channel();
    let read = file.to_path_buf();
    let guard = watch::watch(file, move || {
        let _ = changed.send(std::fs::read_to_string(&read).unwrap_or_default());
    });
    (guard.unwrap(), changes)
}

#[test]
fn a_write_and_a_rename_over_the_file_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strait.toml");
    std::fs::write(&file, "1").unwrap();
    let (_guard, changes) = watched(&file);
    std::fs::write(&file, "2").unwrap();
    assert_eq!(changes.recv_timeout(SOON).as_deref(), Ok("2"), "a write");
    for text in ["3", "4"] {
        let new = dir.path().join("strait.toml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
        assert_eq!(
            changes.recv_timeout(SOON).as_deref(),
            Ok(text),
            "a rename over it"
        );
    }
    std::fs::remove_file(&file).unwrap();
    assert!(
        changes.recv_timeout(QUIET).is_err(),
        "a file that vanishes is no change"
    );
    std::fs::write(&file, "5").unwrap();
    assert_eq!(
        changes.recv_timeout(SOON).as_deref(),
        Ok("5"),
        "it came back"
    );
}

#[test]
fn a_swapped_link_is_seen_as_kubernetes_does_it() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let (real, mount) = (dir.path().join("real"), dir.path().join("mount"));
    for version in ["v1", "v2"] {
        std::fs::create_dir_all(real.join(version)).unwrap();
        std::fs::write(real.join(version).join("strait.toml"), version).unwrap();
    }
    std::fs::create_dir(&mount).unwrap();
    symlink(real.join("v1"), mount.join("..data")).unwrap();
    symlink("..data/strait.toml", mount.join("strait.toml")).unwrap();
    let (_guard, changes) = watched(&mount.join("strait.toml"));
    symlink(real.join("v2"), mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    assert_eq!(changes.recv_timeout(SOON).as_deref(), Ok("v2"));
    std::fs::write(real.join("v2/strait.toml"), "v3").unwrap();
    assert_eq!(
        changes.recv_timeout(SOON).as_deref(),
        Ok("v3"),
        "what the new link leads to is watched too"
    );
}

#[test]
fn many_writes_are_one_change_and_other_files_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strait.toml");
    std::fs::write(&file, "0").unwrap();
    let (guard, changes) = watched(&file);
    std::fs::write(dir.path().join("other.toml"), "x").unwrap();
    std::fs::write(&file, "0").unwrap();
    assert!(
        changes.recv_timeout(QUIET).is_err(),
        "the same content again is no change"
    );
    for number in 1..=10 {
        std::fs::write(&file, number.to_string()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(changes.recv_timeout(SOON).as_deref(), Ok("10"));
    assert!(
        changes.recv_timeout(QUIET).is_err(),
        "one call for all of them"
    );
    drop(guard);
    std::fs::write(&file, "11").unwrap();
    // The callback goes with the thread, and with it the sender.
    assert_eq!(
        changes.recv_timeout(SOON),
        Err(RecvTimeoutError::Disconnected),
        "no call after the guard is dropped"
    );
}

#[test]
fn a_file_that_is_not_there_yet_can_be_watched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strait.toml");
    let (_guard, changes) = watched(&file);
    std::fs::write(&file, "now").unwrap();
    assert_eq!(changes.recv_timeout(SOON).as_deref(), Ok("now"));
}
