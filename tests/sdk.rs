//! The official SDKs, in Python and in Node, against a running gateway: each to a provider of its own protocol and
//! to those of others. The cases are in `clients/`, one script for each SDK and language.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::Strait;
use strait::mock::{Mock, Script};

/// A script that runs longer than this hangs.
const MOST: Duration = Duration::from_secs(180);

#[test]
fn the_openai_sdk_for_python_gets_what_it_expects() {
    run(&python(), "openai_chat.py");
}

#[test]
fn the_anthropic_sdk_for_python_gets_what_it_expects() {
    run(&python(), "anthropic_messages.py");
}

#[test]
fn the_openai_sdk_for_node_gets_what_it_expects() {
    run(&node("openai"), "openai_chat.mjs");
}

#[test]
fn the_anthropic_sdk_for_node_gets_what_it_expects() {
    run(&node("@anthropic-ai/sdk"), "anthropic_messages.mjs");
}

#[test]
fn the_sdks_of_openai_and_anthropic_get_the_same_from_every_protocol() {
    run(&python(), "everywhere.py");
}

#[test]
fn the_openai_sdk_gets_what_it_expects_of_responses() {
    run(&python(), "openai_responses.py");
}

#[test]
fn the_openai_sdk_gets_what_it_expects_beside_chats() {
    run(&python(), "openai_tasks.py");
}

#[test]
fn the_google_sdk_for_python_gets_what_it_expects() {
    run(&python_with("google.genai"), "google_content.py");
}

#[test]
fn the_google_sdk_for_node_gets_what_it_expects() {
    run(&node("@google/genai"), "google_content.mjs");
}

#[test]
fn the_aws_sdk_for_python_gets_what_it_expects() {
    run(&python_with("boto3"), "bedrock_converse.py");
}

#[test]
fn the_cohere_sdk_for_python_gets_what_it_expects() {
    run(&python_with("cohere"), "cohere_chat.py");
}

#[test]
fn the_mistral_sdk_for_python_gets_what_it_expects() {
    run(&python_with("mistralai"), "mistral_chat.py");
}

#[test]
#[ignore = "needs `bash .ci/setup frameworks`, half a gigabyte"]
fn frameworks_for_python_get_what_they_expect() {
    let python = clients().join(".venv-frameworks/bin/python");
    assert!(
        python.exists(),
        "{} is absent: run `bash .ci/setup frameworks` first",
        python.display()
    );
    run(&python, "frameworks.py");
}

#[test]
#[ignore = "needs `bash .ci/setup frameworks`"]
fn the_ai_sdk_for_node_gets_what_it_expects() {
    run(&node("@ai-sdk/google"), "frameworks.mjs");
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn python() -> PathBuf {
    let python = clients().join(".venv/bin/python");
    assert!(
        python.exists(),
        "{} is absent: run `bash .ci/setup tests` first",
        python.display()
    );
    python
}

/// The interpreter, where this package is installed too.
fn python_with(package: &str) -> PathBuf {
    let python = python();
    let found = Command::new(&python)
        .args(["-c", &format!("import {package}")])
        .status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "{package} is not installed: run `bash .ci/setup tests` first"
    );
    python
}

fn node(package: &str) -> PathBuf {
    let folder = clients().join("node_modules").join(package);
    assert!(
        folder.exists(),
        "{} is absent: run `bash .ci/setup tests` first",
        folder.display()
    );
    "node".into()
}

/// The providers of every protocol, two of them under the names that the catalogue knows, models that are asked once
/// and no more for everything that fails, and keys.
fn config(openai: &Mock, anthropic: &Mock, rest: &Mock) -> String {
    let mut config = providers(openai, anthropic, rest);
    for (name, known, protocol, base) in [
        (
            "oa",
            "openai",
            "openai-chat",
            format!("{}/v1", openai.url()),
        ),
        ("an", "anthropic", "anthropic", anthropic.url()),
    ] {
        config.push_str(&format!(
            r#"
            # A credential of its own: one that is refused is not asked again for a while.
            [providers.{name}-account]
            protocols = ["{protocol}"]
            base_url = "{base}"
            key = "refused-key"
            [providers.{known}]
            base_url = "{base}"
            key = "key-of-{known}"
            "#
        ));
        let statuses = [400, 404, 413, 422, 429, 500, 503, 529];
        let failing = statuses
            .iter()
            .flat_map(|status| [format!("{status}-whole"), format!("{status}-stream")]);
        for what in failing.chain(["retried".to_owned(), "slow".to_owned()]) {
            config.push_str(&format!(
                "[models.{name}-{what}]\ntargets = [\"{name}/{what}\"]\nretries = {{ max_attempts = 1 }}\n"
            ));
        }
        config.push_str(&format!(
            "[models.{name}-account]\ntargets = [\"{name}-account/m\"]\nretries = {{ max_attempts = 1 }}\n"
        ));
    }
    config.push_str(
        r#"
        [cache]
        enabled = true
        [models.oa-then-the-other]
        targets = ["oa/fails", "an/m"]
        retries = { backoff = "10ms" }
        [models.an-then-the-other]
        targets = ["an/fails", "oa/m"]
        retries = { backoff = "10ms" }
        [[keys]]
        name = "all"
        key = "sk-strait-of-the-tests"
        [[keys]]
        name = "narrow"
        key = "sk-strait-narrow"
        models = ["oa/allowed"]
        [[keys]]
        name = "limited"
        key = "sk-strait-limited"
        limits = { rpm = 1 }
        [[keys]]
        name = "single"
        key = "sk-strait-single"
        limits = { concurrent = 1 }
        "#,
    );
    config
}

/// One provider of each protocol, and for each SDK's script models that are asked once and no more for what fails.
fn providers(openai: &Mock, anthropic: &Mock, rest: &Mock) -> String {
    let rest = rest.url();
    let key = "key = \"key\"";
    let mut config = String::new();
    for (name, speaks, base, shown) in [
        (
            "oa",
            r#"protocols = ["openai-chat"]"#,
            format!("{}/v1", openai.url()),
            key,
        ),
        ("an", r#"protocols = ["anthropic"]"#, anthropic.url(), key),
        (
            "rs",
            r#"protocols = ["openai-responses"]"#,
            format!("{rest}/v1"),
            key,
        ),
        ("ge", r#"protocols = ["gemini"]"#, rest.clone(), key),
        (
            "be",
            "like = \"bedrock\"\nregion = \"eu-west-1\"",
            rest.clone(),
            "access_key_id = \"AKID\"\nsecret_access_key = \"secret\"",
        ),
        ("co", r#"protocols = ["cohere"]"#, format!("{rest}/v2"), key),
        (
            "ol",
            r#"protocols = ["ollama"]"#,
            rest.clone(),
            "auth = \"none\"",
        ),
        (
            "az",
            "like = \"azure\"\napi_version = \"2024-10-21\"",
            rest.clone(),
            key,
        ),
    ] {
        config.push_str(&format!(
            "[providers.{name}]\n{speaks}\nbase_url = \"{base}\"\n{shown}\n"
        ));
        for sdk in [
            "chat",
            "messages",
            "responses",
            "gemini",
            "bedrock",
            "cohere",
            "mistral",
        ] {
            for what in [400, 404, 429, 500]
                .iter()
                .flat_map(|status| ["whole", "stream"].map(|form| format!("{status}-{sdk}-{form}")))
            {
                config.push_str(&format!(
                    "[models.{name}-{what}]\ntargets = [\"{name}/{what}\"]\nretries = {{ max_attempts = 1 }}\n"
                ));
            }
        }
    }
    config.push_str(&format!(
        "[providers.gemini]\nbase_url = \"{rest}\"\nkey = \"key\"\n"
    ));
    config
}

/// Runs a script with the gateway and three fake providers of its own, which it scripts and asks itself.
fn run(program: &Path, script: &str) {
    let (openai, anthropic, rest) = (start_mock(), start_mock(), start_mock());
    let config = config(&openai, &anthropic, &rest);
    let strait = Strait::start_with(&config, "max_body = \"2MiB\"", &[]);
    let output = strait.dir.path().join("output");
    let file = std::fs::File::create(&output).expect("the folder is there");
    let errors = file.try_clone().expect("a file can be opened twice");
    let mut command = Command::new(program);
    // Neither keys nor a proxy of whoever runs the tests may get into it.
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1");
    command.envs([
        ("GATEWAY_URL", format!("http://{}", strait.addr)),
        ("ADMIN_URL", format!("http://{}", strait.admin)),
        ("OPENAI_MOCK", openai.url()),
        ("ANTHROPIC_MOCK", anthropic.url()),
        ("REST_MOCK", rest.url()),
        ("KEY", "sk-strait-of-the-tests".to_owned()),
        ("NARROW_KEY", "sk-strait-narrow".to_owned()),
        ("LIMITED_KEY", "sk-strait-limited".to_owned()),
        ("SINGLE_KEY", "sk-strait-single".to_owned()),
    ]);
    command
        .arg(clients().join(script))
        .stdout(file)
        .stderr(errors);
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!(
            "{} can't be run ({error}): run `bash .ci/setup tests` first",
            program.display()
        )
    });
    let until = Instant::now() + MOST;
    let status = loop {
        match child.try_wait().expect("it is our own child") {
            Some(status) => break Some(status),
            None if Instant::now() >= until => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let said = std::fs::read_to_string(&output).unwrap_or_default();
    match status {
        Some(status) if status.success() => {
            assert!(
                said.contains("0 failed"),
                "{script} ended before its end:\n{said}"
            );
        }
        Some(status) => panic!(
            "{script} ended with {status}:\n{said}\nthe gateway's log:\n{}",
            strait.log()
        ),
        None => panic!(
            "{script} did not end within {MOST:?}:\n{said}\nthe gateway's log:\n{}",
            strait.log()
        ),
    }
}

fn start_mock() -> Mock {
    Mock::start(Script::default()).expect("a free port of the loopback address")
}
