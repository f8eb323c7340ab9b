//! `[[rules]]` in the configuration: what is refused when it is read, and how that is said.

use std::path::Path;

use strait::config::{self, Loaded, Mistake};
use strait::routing::rules::MOST_RULES;

/// What the rules of these tests use.
const BASE: &str = r#"
[providers.lab]
protocols = "openai-chat"
base_url = "http://127.0.0.1:1"
auth = "none"
[models.long]
targets = ["lab/x"]
[[keys]]
name = "team-a"
key = "a-key-of-team-a"
"#;

fn read(rules: &str) -> Result<Loaded, Vec<Mistake>> {
    let text = format!("{}\n{rules}", BASE.trim());
    config::read(Path::new("strait.toml"), &text, &|_| None)
}

fn lines(mistakes: &[Mistake]) -> Vec<String> {
    mistakes.iter().map(ToString::to_string).collect()
}

fn warnings(rules: &str) -> Vec<String> {
    match read(rules) {
        Ok(loaded) => lines(&loaded.warnings),
        Err(mistakes) => panic!("{:#?}", lines(&mistakes)),
    }
}

#[test]
fn mistakes_are_told_with_their_line_key_and_what_was_meant() {
    let there = "there are model, endpoint, stream, headers, metadata, tags, user, key, team, session, tokens, \
                 has_images, has_tools, hour, weekday, region";
    let unknown = format!(
        "strait.toml:11:8: rules[0].when: there is no variable `modle`: {there} (did you mean model?)"
    );
    for (rules, expected) in [
        (
            "[[rules]]\nwhen = 'modle == \"a\"'\nuse = \"long\"",
            unknown.as_str(),
        ),
        (
            "[[rules]]\nwhen = 'model = \"a\"'\nuse = \"long\"",
            "strait.toml:11:8: rules[0].when: is no expression: token recognition error at: '= ' (at its character 7) (did you mean 'model == \"a\"'?)",
        ),
        (
            "[[rules]]\nwhen = 'tokens'\nuse = \"long\"",
            "strait.toml:11:8: rules[0].when: must be true or false, but is an int",
        ),
        (
            "[[rules]]\nwhen = 'model.startswith(\"a\")'\nuse = \"long\"",
            "strait.toml:11:8: rules[0].when: there is no function `startswith` of a value: there are size, startsWith, \
             endsWith, contains, matches, lowerAscii, hasValue, orValue, value, all, exists, exists_one, map, filter (did you mean startsWith?)",
        ),
        (
            "[[rules]]\nwhen = 'stream'\nuse = \"lnog\"",
            "strait.toml:12:7: rules[0].use: is neither a [models] name nor provider/model (did you mean \"long\"?)",
        ),
        (
            "[[rules]]\nwhen = 'stream'\nuse = \"labb/x\"",
            "strait.toml:12:7: rules[0].use: there is no provider \"labb\" (did you mean \"lab/x\"?)",
        ),
        (
            "[[rules]]\nwhen = 'stream'\nuse = \"long\"\ndeny = \"no\"",
            "strait.toml:13:8: rules[0].deny: can't stand beside use or timeouts: what is refused goes nowhere",
        ),
        (
            "[[rules]]\nwhen = 'stream'",
            "strait.toml:10:1: rules[0]: must say what is done: use, deny or timeouts",
        ),
        (
            "[[rules]]\nuse = \"long\"",
            "strait.toml:10:1: rules[0].when: must be given",
        ),
        (
            "[[rules]]\nif = 'stream'\nwhen = 'stream'\nuse = \"long\"",
            "strait.toml:11:1: rules[0].if: unknown key",
        ),
        (
            "[[rules]]\nwhen = 'stream'\nuse = \"long\"\ntimezone = \"Mars/Olympus\"",
            "strait.toml:13:12: rules[0].timezone: is no time zone that this machine knows, such as \"Europe/Berlin\" or \"UTC\"",
        ),
        (
            "[[rules]]\nwhen = 'stream'\ndeny = \"\"",
            "strait.toml:12:8: rules[0].deny: must be a message of 1 to 500 bytes",
        ),
        (
            "[[rules]]\nname = \"a\"\nwhen = 'stream'\nuse = \"long\"\n[[rules]]\nname = \"a\"\nwhen = 'has_tools'\nuse = \"long\"",
            "strait.toml:15:8: rules[1].name: the name is given twice",
        ),
    ] {
        let Err(mistakes) = read(rules) else {
            panic!("no mistake was found in:\n{rules}");
        };
        assert_eq!(lines(&mistakes), [expected], "{rules}");
    }
}

#[test]
fn rules_that_never_decide_are_warned_of() {
    assert_eq!(
        warnings(
            "[[rules]]\nname = \"all\"\nwhen = 'true'\nuse = \"long\"\n[[rules]]\nwhen = 'stream'\ndeny = \"no\""
        ),
        ["strait.toml:14:1: rules[1]: is never asked: \"all\" before it is about every request"]
    );
    assert_eq!(
        warnings(
            "[[rules]]\nwhen = '1 + 1 == 2'\nuse = \"long\"\n[[rules]]\nwhen = 'stream'\ndeny = \"no\""
        ),
        ["strait.toml:13:1: rules[1]: is never asked: \"rule 1\" before it is about every request"],
        "whatever says true"
    );
    assert_eq!(
        warnings("[[rules]]\nwhen = 'false'\nuse = \"long\""),
        ["strait.toml:11:8: rules[0].when: is about no request: it is always false"]
    );
    assert_eq!(
        warnings(
            "[[rules]]\nwhen = 'stream'\nuse = \"long\"\n[[rules]]\nwhen = ' stream'\ndeny = \"no\""
        ),
        [
            "strait.toml:14:8: rules[1].when: is never met: \"rule 1\" before it has the same condition"
        ]
    );
    assert_eq!(
        warnings("[[rules]]\nwhen = 'key == \"team-b\"'\nuse = \"long\""),
        ["strait.toml:11:8: rules[0].when: there is no key \"team-b\" (did you mean \"team-a\"?)"]
    );
}

#[test]
fn what_is_right_is_read_without_a_word() {
    let text = r#"
        [[rules]]
        name = "big prompts"
        when = 'model.startsWith("gpt-") && tokens > 50000 && !has_images'
        use = "long"
        timeouts = { total = "30s" }
        [[rules]]
        when = '"x-tier" in headers && headers["x-tier"] == "gold" || metadata.tier == "gold"'
        use = "lab/y"
        [[rules]]
        when = 'key == "team-a" && (hour < 8 || weekday in ["sat", "sun"])'
        timezone = "utc"
        deny = "Not outside office hours."
        "#;
    assert_eq!(warnings(text), [""; 0]);
    let Ok(loaded) = read(text) else { panic!() };
    let names: Vec<String> = loaded
        .snapshot
        .rules
        .iter()
        .map(|rule| rule.name.to_string())
        .collect();
    assert_eq!(names, ["big prompts", "rule 2", "rule 3"]);
}

#[test]
fn there_are_only_so_many_rules() {
    let rule = "[[rules]]\nwhen = 'stream'\nuse = \"long\"\n";
    let Err(mistakes) = read(&rule.repeat(MOST_RULES + 1)) else {
        panic!("{} rules were read", MOST_RULES + 1);
    };
    assert_eq!(
        lines(&mistakes),
        ["strait.toml:10:1: rules: must be at most 1000 rules"]
    );
}
