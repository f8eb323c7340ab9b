//! The catalogue: models found, facts, near names, and the rows of providers.

use strait::protocol::Protocol;
use strait::protocol::chat::Effort;
use strait::provider::catalogue::{self, Cap, Mode, Status};

#[test]
fn every_line_is_read_and_found_again() {
    let text = include_str!("../../conf/models.tsv");
    let mut count = 0;
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (provider, id) = (fields.next().unwrap(), fields.next().unwrap());
        let model = catalogue::model(provider, id)
            .unwrap_or_else(|| panic!("{provider}/{id} is not found"));
        assert_eq!((model.provider, model.id), (provider, id));
        assert!(
            catalogue::bare(id).any(|found| found == (provider, id)),
            "{provider}/{id}"
        );
        count += 1;
    }
    assert_eq!(count, 3595);
}

#[test]
fn the_models_of_a_provider_are_its_own_and_all() {
    let text = include_str!("../../conf/models.tsv");
    // The first provider, one in the middle, the last.
    for provider in ["ai21", "openai", "zhipu"] {
        let lines = text
            .lines()
            .filter(|line| line.split('\t').next() == Some(provider))
            .count();
        assert_eq!(catalogue::of(provider).count(), lines, "{provider}");
        assert!(
            catalogue::of(provider).all(|model| model.provider == provider),
            "{provider}"
        );
    }
    assert_eq!(catalogue::of("nobody").count(), 0);
    assert_eq!(catalogue::of("~").count(), 0);
}

#[test]
fn models_are_found_by_id_then_without_case_then_by_profile() {
    let exact = catalogue::model("fireworks", "accounts/fireworks/models/kimi-k3").unwrap();
    assert_eq!(exact.mode, Mode::Chat);
    let other_case = catalogue::model("together", "qwen/qwen3.8-flash").unwrap();
    assert_eq!(other_case.id, "Qwen/Qwen3.8-Flash");
    let bare = catalogue::model("bedrock", "anthropic.claude-fable-5").unwrap();
    let us = catalogue::model("bedrock", "us.anthropic.claude-fable-5").unwrap();
    assert!(
        std::ptr::eq(bare, us),
        "the profile costs what the bare id costs"
    );
    for (provider, id) in [
        ("openai", "gpt-4o-xyz"),
        ("openai", ""),
        ("", ""),
        ("nobody", "gpt-4o"),
        ("bedrock", "mars.amazon.nova-pro-v1:0"),
    ] {
        assert!(catalogue::model(provider, id).is_none(), "{provider}/{id}");
    }
}

#[test]
fn facts_say_how_to_think_the_least() {
    for (id, least) in [
        ("gpt-5", Some(Effort::Minimal)),
        ("gpt-5-2025-08-07", Some(Effort::Minimal)),
        ("gpt-5-codex", None),
        ("gpt-5-chat-latest", None),
        ("gpt-5.1", Some(Effort::None)),
        ("gpt-5.4-mini-2026-03-17", Some(Effort::None)),
        ("gpt-5.6", Some(Effort::None)),
        ("o3", None),
        ("gpt-4o", None),
    ] {
        let model = catalogue::model("openai", id).unwrap();
        assert_eq!(catalogue::facts(model).reasoning_off, least, "{id}");
    }
}

#[test]
fn facts_say_what_a_request_may_hold() {
    let opus = catalogue::model("anthropic", "claude-opus-5").unwrap();
    let facts = catalogue::facts(opus);
    assert_eq!(facts.max_output, Some(128_000));
    assert_eq!(facts.json_schema, Some(true));
    assert!(facts.no_sampling && facts.reasoning && facts.adaptive_thinking);
    assert!(opus.can(Cap::Vision) && !opus.can(Cap::AudioIn));
    let old = catalogue::facts(catalogue::model("anthropic", "claude-sonnet-4-5").unwrap());
    assert!(!old.adaptive_thinking && !old.no_sampling && old.reasoning);
    let dated =
        catalogue::facts(catalogue::model("anthropic", "claude-opus-4-6-20260205").unwrap());
    assert!(dated.adaptive_thinking, "told by its undated row");
    let newest = catalogue::facts(catalogue::model("anthropic", "claude-fable-5-2").unwrap());
    assert!(newest.adaptive_thinking && newest.json_schema == Some(true));
    assert_eq!(newest.max_output, Some(128_000));
    let routed =
        catalogue::facts(catalogue::model("openrouter", "anthropic/claude-3.7-sonnet").unwrap());
    assert!(
        routed.reasoning && routed.json_schema == Some(false),
        "{routed:?}"
    );
    let sonnet = catalogue::model("anthropic", "claude-sonnet-4-5").unwrap();
    assert_eq!(
        (sonnet.status, sonnet.sunset),
        (Status::Deprecated, Some("2026-11-30"))
    );
    assert_eq!(sonnet.context, Some(200_000));
}

#[test]
fn a_bare_id_is_served_by_its_maker_first() {
    assert_eq!(catalogue::bare("gpt-4o").next(), Some(("openai", "gpt-4o")));
    assert_eq!(
        catalogue::bare("claude-sonnet-4-5").next(),
        Some(("anthropic", "claude-sonnet-4-5"))
    );
    assert!(catalogue::bare("gpt-4o").count() > 1);
    assert_eq!(catalogue::bare("GPT-4O").next(), Some(("openai", "gpt-4o")));
    assert_eq!(catalogue::bare("no such model").next(), None);
}

#[test]
fn the_nearest_names_come_first() {
    assert_eq!(catalogue::closest("gpt-4o-minii")[0], "openai/gpt-4o-mini");
    let dotted = catalogue::closest("claude-sonnet-4.5");
    assert!(
        dotted
            .iter()
            .any(|name| name == "anthropic/claude-sonnet-4-5"),
        "{dotted:?}"
    );
    assert_eq!(
        catalogue::closest("anthropic/claude-sonet-5")[0],
        "anthropic/claude-sonnet-5"
    );
    assert!(
        catalogue::closest("GPT-OSS-120")
            .iter()
            .any(|name| name == "groq/openai/gpt-oss-120b")
    );
    assert!(catalogue::closest("").is_empty());
    assert!(catalogue::closest("zzzzzzzzzzzzzzzzzzzzzzzz").is_empty());
    let long = "x".repeat(1 << 20);
    assert!(catalogue::closest(&long).len() <= 40);
    assert!(catalogue::closest("ünïcödé/模型").len() <= 40);
}

#[test]
fn distances_are_edit_distances() {
    // Through `closest` alone: the order of known names around one of them.
    let near = catalogue::closest("openai/gpt-4o");
    assert_eq!(near[0], "openai/gpt-4o", "distance 0");
    assert!(
        near.iter().any(|name| name == "openai/gpt-4"),
        "one deletion: {near:?}"
    );
}

#[test]
fn catalogue_is_cheap() {
    let before = resident();
    let start = std::time::Instant::now();
    let found = catalogue::model("openai", "gpt-4o").is_some();
    let load = start.elapsed();
    let after = resident();
    assert!(found);
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(catalogue::model("openai", "gpt-4o"));
    }
    let look_up = start.elapsed() / 1000;
    let start = std::time::Instant::now();
    std::hint::black_box(catalogue::closest("gpt-4o-minii"));
    let closest = start.elapsed();
    eprintln!(
        "load {load:?}, resident +{} KiB, look-up {look_up:?}, closest {closest:?}",
        (after - before) / 1024
    );
    assert!(load < std::time::Duration::from_millis(200), "{load:?}");
}

/// Bytes of this process in memory.
fn resident() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<i64>().ok())
        .unwrap_or(0)
        * 4096
}

#[test]
fn every_provider_row_is_whole() {
    let file: toml::Table = include_str!("../../conf/providers.toml").parse().unwrap();
    let rows = file["providers"].as_table().unwrap();
    assert!(rows.len() >= 60, "{}", rows.len());
    let mut names: Vec<&str> = rows.keys().map(String::as_str).collect();
    for (name, row) in rows {
        let row = row.as_table().unwrap();
        names.extend(
            row.get("aliases")
                .into_iter()
                .flat_map(|list| list.as_array().unwrap())
                .map(|alias| alias.as_str().unwrap()),
        );
        let protocols = row["protocols"].as_array().unwrap();
        assert!(!protocols.is_empty(), "{name}");
        for protocol in protocols {
            let spoken = protocol.as_str().and_then(Protocol::from_name);
            assert!(spoken.is_some(), "{name}: {protocol:?}");
        }
        // Where a platform is, and how it is signed in to, is its user's to say.
        if row.contains_key("platform") {
            continue;
        }
        let url = row["base_url"].as_str().unwrap();
        assert!(!url.contains('{') && !url.ends_with('/'), "{name}: {url}");
        let local = row.get("local").is_some();
        assert!(url.starts_with("https://") || local, "{name}: {url}");
        assert_eq!(row.get("env").is_none(), local, "{name}");
        let auth = row["auth"].as_str().unwrap();
        assert!(
            auth == "bearer" || auth.starts_with("header:") || (auth == "none" && local),
            "{name}: {auth}"
        );
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "names and aliases are unique");
    let openai = rows["openai"].as_table().unwrap();
    assert_eq!(
        openai["base_url"].as_str(),
        Some("https://api.openai.com/v1")
    );
    let quirks = openai["quirks"].as_table().unwrap();
    for name in ["developer_role", "max_completion_tokens", "stream_options"] {
        assert_eq!(quirks[name].as_bool(), Some(true), "{name}");
    }
    let anthropic = rows["anthropic"].as_table().unwrap();
    assert_eq!(anthropic["auth"].as_str(), Some("header:x-api-key"));
    assert_eq!(
        anthropic["headers"]["anthropic-version"].as_str(),
        Some("2023-06-01")
    );
}
