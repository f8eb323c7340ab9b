//! Real coding tools, unmodified, drive a whole tool loop through the gateway: they ask, the model calls a tool, they
//! run it and send what it said, and the model answers. Behind the gateway is their own vendor's protocol or another.
//!
//! Asked for with `--ignored`, since not every machine has them. They are installed by
//! `.ci/setup tools`, beside this file or below `STRAIT_TOOLS_DIR`; one that was asked for and isn't there fails.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Strait, mock};
use strait::mock::{Call, Mock};

/// The protocols that answer, each under a model of its name.
const BEHIND: [(&str, &str); 7] = [
    ("anthropic", ""),
    ("openai-chat", "/v1"),
    ("openai-responses", "/v1"),
    ("gemini", "/v1beta"),
    ("bedrock", ""),
    ("cohere", "/v2"),
    ("ollama", ""),
];
const KEY: &str = "sk-of-the-tool";
/// A run of a tool, start to end.
const MOST: Duration = Duration::from_secs(180);

/// What the fake models do: call the tool that the request offers, and answer once its result is there. What the
/// command prints stands in no request before that.
const SCRIPT: &str = r#"
[[rule]]
name = "answer"
body_contains = "gateway-42"
steps = [{ text = "It said gateway-42: loop closed." }]
[[rule]]
name = "Bash"
body_contains = "\"Bash\""
steps = [{ thinking = "I run it.", signature = "c2ln", text = "Running it.", tools = [{ name = "Bash", arguments = { command = "printf 'gateway-%s' 42", description = "print" } }] }]
[[rule]]
name = "run_shell_command"
body_contains = "run_shell_command"
steps = [{ thinking = "I run it.", signature = "c2ln", tools = [{ name = "run_shell_command", arguments = { command = "printf 'gateway-%s' 42", description = "print" } }] }]
[[rule]]
name = "exec_command"
body_contains = "exec_command"
steps = [{ thinking = "I run it.", signature = "c2ln", text = "Running it.", tools = [{ name = "exec_command", arguments = { cmd = "printf 'gateway-%s' 42" } }] }]
[[rule]]
name = "bash"
body_contains = "\"bash\""
steps = [{ thinking = "I run it.", signature = "c2ln", text = "Running it.", tools = [{ name = "bash", arguments = { command = "printf 'gateway-%s' 42", description = "print" } }] }]
[[rule]]
name = "edit"
body_contains = "failed to match"
steps = [{ text = "hello.txt\n```\n<<<<<<< SEARCH\nold line\n=======\nloop closed\n>>>>>>> REPLACE\n```\n" }]
[[rule]]
name = "edit that doesn't fit"
body_contains = "hello.txt"
steps = [{ text = "hello.txt\n```\n<<<<<<< SEARCH\nnot a line of it\n=======\nloop closed\n>>>>>>> REPLACE\n```\n" }]
"#;

/// A gateway over a fake provider that speaks every protocol.
struct Lab {
    strait: Strait,
    mock: Mock,
}

impl Lab {
    fn new() -> Self {
        let mock = mock(SCRIPT);
        let mut config = format!("[[keys]]\nname = \"tool\"\nkey = \"{KEY}\"\n");
        for (protocol, base) in BEHIND {
            config += &format!(
                "[providers.to-{protocol}]\nprotocols = [\"{protocol}\"]\nbase_url = \"{}{base}\"\nkey = \"k\"\n[models.by-{protocol}]\ntargets = [\"to-{protocol}/x\"]\n",
                mock.url()
            );
        }
        Self {
            strait: Strait::start(&config),
            mock,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.strait.addr)
    }
}

/// What a tool is run with.
struct Run<'a> {
    program: &'a str,
    args: Vec<String>,
    env: Vec<(&'a str, String)>,
    /// What is there before, below the home (`~/`) or the folder that it works in.
    files: Vec<(&'a str, String)>,
}

/// How a run ended.
struct Ran {
    /// What it wrote, and what became of `hello.txt`.
    said: String,
    calls: Vec<Call>,
}

impl Lab {
    fn run(&self, run: Run<'_>) -> Ran {
        self.mock.clear_calls();
        let dir = tempfile::tempdir().unwrap();
        let (home, work) = (dir.path().join("home"), dir.path().join("work"));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        for (name, text) in &run.files {
            let path = match name.strip_prefix("~/") {
                Some(rest) => home.join(rest),
                None => work.join(name),
            };
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let log = dir.path().join("log");
        let mut child = Command::new(installed(run.program))
            .args(&run.args)
            .current_dir(&work)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .envs(run.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(File::create(dir.path().join("errors")).unwrap())
            .spawn()
            .unwrap();
        let until = Instant::now() + MOST;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= until => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let mut said = read(&log);
        let errors = read(&dir.path().join("errors"));
        assert!(
            status.is_some_and(|status| status.success()),
            "{} ended with {status:?}:\n{said}\n{errors}",
            run.program
        );
        said += &read(&work.join("hello.txt"));
        Ran {
            said,
            calls: self.mock.calls(),
        }
    }

    /// Runs a tool and checks that the loop was closed, with `protocol` behind.
    fn closes(&self, protocol: &str, run: Run<'_>) {
        let program = run.program.to_owned();
        let ran = self.run(run);
        let case = format!("{program} by {protocol}");
        assert!(ran.said.contains("loop closed"), "{case}: {}", ran.said);
        assert!(ran.calls.len() >= 2, "{case}: {} calls", ran.calls.len());
        for call in &ran.calls {
            let spoken = call.protocol.map(|protocol| protocol.name());
            assert_eq!(spoken, Some(protocol), "{case}: {}", call.path);
            // What a tool says in its own vendor's protocol is passed on as it is.
            let ours: Vec<_> = call
                .problems
                .iter()
                .filter(|problem| !problem.contains("unknown field"))
                .collect();
            assert!(ours.is_empty(), "{case}: {ours:?}");
        }
    }
}

/// Returns where a tool is; fails where it isn't.
fn installed(program: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
    let dir = std::env::var_os("STRAIT_TOOLS_DIR").map_or_else(beside, PathBuf::from);
    let places = [
        dir.join("node_modules/.bin").join(program),
        dir.join(".venv/bin").join(program),
    ];
    let found = places.iter().find(|place| place.exists());
    found
        .unwrap_or_else(|| panic!("{program} is in none of {places:?}: run .ci/setup tools"))
        .clone()
}

fn args(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

#[test]
#[ignore = "needs `bash .ci/setup tools`"]
fn claude_code_closes_its_loop() {
    let lab = Lab::new();
    for (protocol, _) in BEHIND {
        let model = format!("by-{protocol}");
        lab.closes(
            protocol,
            Run {
                program: "claude",
                args: args(&["-p", "Run it.", "--model", &model, "--allowedTools", "Bash"]),
                env: vec![
                    ("ANTHROPIC_BASE_URL", lab.url("")),
                    ("ANTHROPIC_API_KEY", KEY.into()),
                    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
                ],
                files: Vec::new(),
            },
        );
    }
}

#[test]
#[ignore = "needs `bash .ci/setup tools`"]
fn codex_closes_its_loop() {
    let lab = Lab::new();
    let provider = format!(
        "model_providers.strait={{name=\"Strait\",base_url=\"{}\",env_key=\"KEY\",wire_api=\"responses\"}}",
        lab.url("/v1")
    );
    for (protocol, _) in BEHIND {
        let model = format!("by-{protocol}");
        lab.closes(
            protocol,
            Run {
                program: "codex",
                args: args(&[
                    "exec",
                    "--skip-git-repo-check",
                    "--dangerously-bypass-approvals-and-sandbox",
                    "-c",
                    "model_provider=strait",
                    "-c",
                    &provider,
                    "-m",
                    &model,
                    "Run it.",
                ]),
                env: vec![("KEY", KEY.into())],
                files: Vec::new(),
            },
        );
    }
}

#[test]
#[ignore = "needs `bash .ci/setup tools`"]
fn gemini_cli_closes_its_loop() {
    let lab = Lab::new();
    let settings = r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#;
    for (protocol, _) in BEHIND {
        let model = format!("by-{protocol}");
        lab.closes(
            protocol,
            Run {
                program: "gemini",
                args: args(&["-p", "Run it.", "--model", &model, "--yolo"]),
                env: vec![
                    ("GOOGLE_GEMINI_BASE_URL", lab.url("")),
                    ("GEMINI_API_KEY", KEY.into()),
                    ("GEMINI_CLI_TRUST_WORKSPACE", "true".into()),
                ],
                files: vec![("~/.gemini/settings.json", settings.into())],
            },
        );
    }
}

#[test]
#[ignore = "needs `bash .ci/setup tools`"]
fn opencode_closes_its_loop_in_two_dialects() {
    let lab = Lab::new();
    for package in ["@ai-sdk/openai-compatible", "@ai-sdk/anthropic"] {
        for (protocol, _) in BEHIND {
            let model = format!("by-{protocol}");
            let config = serde_json::json!({
                "autoupdate": false,
                "share": "disabled",
                "permission": "allow",
                "small_model": format!("strait/{model}"),
                "provider": {"strait": {
                    "npm": package,
                    "options": {"baseURL": lab.url("/v1"), "apiKey": KEY},
                    "models": {model.as_str(): {"tool_call": true}},
                }},
            });
            lab.closes(
                protocol,
                Run {
                    program: "opencode",
                    args: args(&["run", "--model", &format!("strait/{model}"), "Run it."]),
                    env: vec![("OPENCODE_DISABLE_MODELS_FETCH", "1".into())],
                    files: vec![("opencode.json", config.to_string())],
                },
            );
        }
    }
}

#[test]
#[ignore = "needs `bash .ci/setup tools`"]
fn aider_closes_its_loop_in_three_dialects() {
    let lab = Lab::new();
    let dialects = [
        ("openai", "OPENAI_API_BASE", "OPENAI_API_KEY", "/v1"),
        ("anthropic", "ANTHROPIC_API_BASE", "ANTHROPIC_API_KEY", ""),
        ("gemini", "GEMINI_API_BASE", "GEMINI_API_KEY", "/v1beta"),
    ];
    for (dialect, base, key, path) in dialects {
        for (protocol, _) in BEHIND {
            let model = format!("{dialect}/by-{protocol}");
            lab.closes(
                protocol,
                Run {
                    program: "aider",
                    args: args(&[
                        "--model",
                        &model,
                        "--edit-format",
                        "diff",
                        "--no-git",
                        "--yes-always",
                        "--no-check-update",
                        "--no-show-model-warnings",
                        "--no-show-release-notes",
                        "--analytics-disable",
                        "--message",
                        "Change it.",
                        "hello.txt",
                    ]),
                    env: vec![(base, lab.url(path)), (key, KEY.into())],
                    files: vec![("hello.txt", "old line\n".into())],
                },
            );
        }
    }
}
