//! The document of the administration API, held against what is served.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::*;

#[test]
#[ignore = "needs `bash .ci/setup frameworks`, half a gigabyte"]
fn whatever_the_document_lets_a_client_send_is_answered_as_it_says() {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/.venv-frameworks/bin");
    let lab = lab();
    let strait = &lab.strait;
    tree(strait, "acme");
    let document = strait.dir.path().join("openapi.json");
    let told = call(strait, OPERATOR, "GET", "openapi.json", &Value::Null);
    std::fs::write(&document, &told.body).unwrap();
    let valid = Command::new(bin.join("openapi-spec-validator"))
        .arg(&document)
        .output()
        .unwrap();
    assert!(
        valid.status.success(),
        "{}",
        String::from_utf8_lossy(&valid.stdout)
    );
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let fuzzed = Command::new(bin.join("schemathesis"))
        .args([
            "run",
            "--phases",
            "coverage,fuzzing",
            "--max-examples",
            "30",
        ])
        .args(["--checks", checks, "--suppress-health-check", "all"])
        .args(["--url", &format!("http://{}", strait.admin)])
        .args(["-H", &format!("authorization: Bearer {OPERATOR}")])
        .arg(&document)
        .current_dir(strait.dir.path())
        .output()
        .unwrap();
    assert!(
        fuzzed.status.success(),
        "{}",
        String::from_utf8_lossy(&fuzzed.stdout)
    );
}
