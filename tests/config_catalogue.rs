//! The tables `[catalogue]` and `[responses]`: what they say, and how their mistakes are told.

use std::path::Path;
use std::time::Duration;

use strait::config::{self, Snapshot};
use strait::provider::catalogue::{Catalogue, Layer, Status, Unpriced};

fn read(text: &str) -> Result<Snapshot, String> {
    let none = |_: &str| None;
    let loaded = config::read(Path::new("strait.toml"), text, &none);
    loaded.map(|loaded| loaded.snapshot).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

#[test]
fn without_a_word_everything_is_allowed_and_kept_for_thirty_days() {
    let now = read("").unwrap();
    assert_eq!(now.responses, strait::state::Settings::default());
    assert!(now.responses.store);
    assert_eq!(now.responses.ttl, Duration::from_secs(30 * 86_400));
    assert_eq!(now.catalogue.policy.unpriced, Unpriced::Allow);
    assert_eq!(now.catalogue.refresh, Duration::from_secs(86_400));
    assert!(now.catalogue.models.is_empty() && now.catalogue.url.is_none());
}

#[test]
fn what_is_kept_of_responses_is_read() {
    let text =
        "[responses]\nstore = false\nttl = \"7d\"\nmax_item = \"1MiB\"\nmax_size = \"1GiB\"\n";
    let kept = read(text).unwrap().responses;
    assert_eq!(
        (kept.store, kept.ttl, kept.max_item, kept.max_size),
        (false, Duration::from_secs(7 * 86_400), 1 << 20, 1 << 30)
    );
    let error = read("[responses]\nmax_item = \"8GiB\"\n").unwrap_err();
    assert!(
        error.contains("responses.max_item") && error.contains("max_size"),
        "{error}"
    );
    let error = read("[responses]\nmax_size = \"1KiB\"\n").unwrap_err();
    assert!(error.contains("responses.max_size"), "{error}");
}

#[test]
fn a_model_is_written_as_people_write() {
    let text = r#"
        [catalogue]
        unpriced = "deny"
        refresh = "1h"
        url = "https://example.com/models.json?key=a"
        retired = { "gpt-4-32k" = "openai/gpt-5" }
        [[catalogue.models]]
        provider = "lab"
        id = "big"
        context = 200000
        max_output = 8192
        price = { in = 1.5, out = 6 }
        tiers = [{ above = 100000, price = { in = 3.0 } }]
        services = { flex = { price = { in = 0.75, out = 3 } } }
        fees = { ksearch = 10 }
        capabilities = ["tools", "vision"]
        status = "deprecated"
        sunset = 2027-06-30
        successor = "lab/bigger"
    "#;
    let settings = read(text).unwrap().catalogue;
    assert_eq!(settings.policy.unpriced, Unpriced::Deny);
    assert_eq!(
        settings.policy.redirected("gpt-4-32k"),
        Some("openai/gpt-5")
    );
    let url = settings.url.unwrap();
    assert_eq!(
        (url.endpoint.host.as_str(), url.path.as_str()),
        ("example.com", "/models.json?key=a")
    );
    let catalogue = Catalogue::new(None, &settings.models).unwrap();
    let model = catalogue.model("lab", "big").unwrap();
    assert_eq!(
        (model.context, model.max_output),
        (Some(200_000), Some(8192))
    );
    assert_eq!(
        (model.status, model.sunset, model.successor),
        (Status::Deprecated, Some("2027-06-30"), Some("lab/bigger"))
    );
    assert_eq!(model.price().tiers.len(), 1);
    assert_eq!(model.price().services.len(), 1);
}

#[test]
fn every_mistake_of_the_catalogue_is_told_at_once_with_its_line() {
    let text = r#"[catalogue]
unpriced = "never"
refresh = "0s"
url = "http://example.com/models.json"
retired = { "a" = "a" }
colour = "red"
[[catalogue.models]]
provider = "lab"
[[catalogue.models]]
provider = "lab"
id = "x"
prise = 1
[[catalogue.models]]
provider = "lab"
id = "y"
capabilities = ["fly"]
[[catalogue.models]]
provider = "lab"
id = "X"
[[catalogue.models]]
provider = "lab"
id = "z"
context = "large"
[[catalogue.models]]
provider = "lab"
id = "tiered"
mode = "chat"
tiers = [{ abvoe = 1000, price = { in = 1.0, out = 2.0 } }]
[[catalogue.models]]
provider = "lab"
id = "moody"
mode = 1
"#;
    let error = read(text).unwrap_err();
    for (line, wanted) in [
        (2, "unpriced"),
        (3, "more than 0"),
        (4, "https"),
        (5, "itself"),
        (6, "unknown key"),
        (7, "must be given"),
        (12, "did you mean price"),
        (16, "capabilities: `capabilities` has \"fly\""),
        (19, "given twice"),
        (23, "models[4].context: "),
        (28, "tiers: unknown key abvoe (did you mean above?)"),
        (32, "mode: must be a word"),
    ] {
        let at = format!("strait.toml:{line}:");
        assert!(
            error
                .lines()
                .any(|told| told.starts_with(&at) && told.contains(wanted)),
            "line {line}: {wanted} in\n{error}"
        );
    }
    assert_eq!(error.lines().count(), 12, "{error}");
}

#[test]
fn a_file_of_models_is_read_with_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("models.tsv");
    let text = format!("[catalogue]\nfile = \"{}\"\n", path.display());
    let error = read(&text).unwrap_err();
    assert!(error.contains("catalogue.file: can't be read"), "{error}");
    std::fs::write(&path, "lab\tx\t{\"price\":{\"in\":-1}}\n").unwrap();
    let error = read(&text).unwrap_err();
    assert!(error.contains("catalogue.file: line 1: lab/x"), "{error}");
    std::fs::write(&path, "lab\tx\t{\"ctx\":77}\n").unwrap();
    let settings = read(&text).unwrap().catalogue;
    assert_eq!(settings.file.as_deref().map(Layer::len), Some(1));
}

#[test]
fn only_this_machine_may_give_a_catalogue_without_tls() {
    for (url, good) in [
        ("http://127.0.0.1:8000/m", true),
        ("http://[::1]/m", true),
        ("http://localhost/m", true),
        ("https://10.0.0.1/m", true),
        ("http://10.0.0.1/m", false),
        ("http://localhost.example.com/m", false),
        ("ftp://example.com/m", false),
        ("https://user:secret@example.com/m", false),
        ("https://example.com/m?a b", false),
    ] {
        let outcome = read(&format!("[catalogue]\nurl = \"{url}\"\n"));
        assert_eq!(outcome.is_ok(), good, "{url}: {:?}", outcome.err());
    }
}
