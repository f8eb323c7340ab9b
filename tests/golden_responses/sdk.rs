//! The official SDKs' own types and clients, fed by `clients/validate_types.py`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use strait::protocol::Protocol;

use super::tests;

/// Answers to be held against the SDKs.
#[derive(Default)]
pub struct Lines(Vec<Value>);

impl Lines {
    pub fn whole(&mut self, name: &str, to: Protocol, body: &[u8]) {
        let body: Value = serde_json::from_slice(body)
            .unwrap_or_else(|error| panic!("{name}: {error}: {}", String::from_utf8_lossy(body)));
        let kind = match to {
            Protocol::OpenaiResponses => "openai.response",
            Protocol::Anthropic => "anthropic.message",
            _ => "openai.message",
        };
        self.0
            .push(json!({"name": name, "kind": kind, "body": body}));
    }

    pub fn stream(&mut self, name: &str, to: Protocol, text: &str) {
        let kind = match to {
            Protocol::OpenaiResponses => "openai.response.stream",
            Protocol::Anthropic => "anthropic.stream",
            _ => "openai.stream",
        };
        self.0
            .push(json!({"name": name, "kind": kind, "body": text}));
    }

    pub fn hold(self, name: &str) {
        let venv = tests().join("clients/.venv/bin/python");
        let python = std::env::var_os("STRAIT_PYTHON").map_or(venv, PathBuf::from);
        assert!(
            python.exists(),
            "{} is absent: run `bash .ci/setup tests` first",
            python.display()
        );
        let file = std::env::temp_dir().join(format!(
            "strait-responses-{name}-{}.jsonl",
            std::process::id()
        ));
        let mut text = String::new();
        for line in &self.0 {
            writeln!(text, "{line}").unwrap();
        }
        std::fs::write(&file, text).unwrap();
        let run = Command::new(&python)
            .arg(tests().join("clients/validate_types.py"))
            .arg(&file)
            .output()
            .unwrap();
        std::fs::remove_file(&file).unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&run.stderr)
        );
        eprintln!("{name}: {told}");
    }
}
