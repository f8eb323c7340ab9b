//! The official SDKs for Python against the fake provider: their own types take what it says, see `sdks.py`.

use std::path::Path;
use std::process::Command;

use super::client::*;

#[test]
fn the_official_sdks_take_what_is_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("STRAIT_PYTHON")
        .map_or_else(|| folder.join("tests/clients/.venv/bin/python"), Into::into);
    assert!(
        python.exists(),
        "{} is absent: run `bash .ci/setup tests` first",
        python.display()
    );
    let mock = mock("");
    let ran = Command::new(&python)
        .arg(folder.join("tests/mock/sdks.py"))
        .arg(mock.url())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}
