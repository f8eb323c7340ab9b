//! What is demanded of targets: how it is read, who meets it, and that what isn't known meets nothing.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::time::Duration;

use strait::config::{self, Mistake, Snapshot};
use strait::error::Kind;
use strait::provider::{catalogue, cost, region};
use strait::routing::constraints::{self, Constraints, Demands, Origin, Subject, Who};

fn read(text: &str) -> Result<Snapshot, Vec<Mistake>> {
    let env = |name: &str| (name == "AWS_REGION").then(|| "eu-central-1".to_owned());
    config::read(Path::new("strait.toml"), text, &env).map(|loaded| loaded.snapshot)
}

fn good(text: &str) -> Snapshot {
    read(text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

/// Returns what of the header's demands `provider/model` doesn't meet, in words.
fn unmet(now: &Snapshot, target: &str, header: &str) -> Option<String> {
    slow(now, target, header, None)
}

fn slow(now: &Snapshot, target: &str, header: &str, takes: Option<Duration>) -> Option<String> {
    let (name, model) = target.split_once('/').unwrap();
    let provider = &now.providers[now.provider_index[name]];
    let subject = Subject {
        names: &[],
        provider,
        model,
        entry: catalogue::model(&provider.catalogue, model),
        place: cost::Place::Anywhere,
        input: 100,
        latency: &|| takes,
    };
    let demand = Constraints::read_header(header).unwrap();
    demand
        .against(&subject)
        .map(|against| against.unmet.to_string())
}

const LAB: &str = r#"
[providers.lab]
protocols = ["openai-chat"]
base_url = "http://127.0.0.1:1/v1"
auth = "none"
price = { in = 1.0, out = 4.0 }
data = { region = "eu-central-1", no_training = true, zero_retention = true }
[providers.dark]
protocols = ["openai-chat"]
base_url = "http://127.0.0.1:2/v1"
auth = "none"
[providers.open]
protocols = ["openai-chat"]
base_url = "http://127.0.0.1:3/v1"
auth = "none"
data = { region = "us", no_training = false, zero_retention = false }
[providers.openai]
key = "sk-openai-1"
[providers.openai-eu]
like = "openai"
base_url = "https://eu.api.openai.com/v1"
key = "sk-openai-2"
[providers.bedrock]
"#;

#[test]
fn what_is_not_known_meets_no_demand() {
    let now = good(LAB);
    for (header, lab, dark, open) in [
        (
            "region=eu",
            None,
            Some("region unknown, not eu"),
            Some("region us, not eu"),
        ),
        (
            "region=uk,us",
            Some("region eu-central-1, not uk, us"),
            Some("region unknown, not uk, us"),
            None,
        ),
        (
            "no-training",
            None,
            Some("not known not to train"),
            Some("trains on what it is sent"),
        ),
        (
            "zero-retention=true",
            None,
            Some("not known to keep nothing"),
            Some("keeps what it is sent"),
        ),
        ("no-training=false", None, None, None),
        (
            "max-price=4",
            None,
            Some("price unknown"),
            Some("price unknown"),
        ),
        (
            "max-price=3.5",
            Some("price out 4 > 3.5 USD per million tokens"),
            Some("price unknown"),
            Some("price unknown"),
        ),
        (
            "max-price-in=0.5",
            Some("price in 1 > 0.5 USD per million tokens"),
            Some("price unknown"),
            Some("price unknown"),
        ),
        (
            "max-price=2; max-price-out=4",
            None,
            Some("price unknown"),
            Some("price unknown"),
        ),
        ("deny=dark,lab/*", Some("denied"), Some("denied"), None),
        (
            "allow=lab,open/x",
            None,
            Some("not among those allowed"),
            None,
        ),
        (
            "allow=l*; deny=lab/y",
            None,
            Some("not among those allowed"),
            Some("not among those allowed"),
        ),
        ("", None, None, None),
        // Who was never asked has taken no time yet, and must be asked to be known.
        ("max-latency=1ms", None, None, None),
    ] {
        for (target, expected) in [("lab/x", lab), ("dark/x", dark), ("open/x", open)] {
            assert_eq!(
                unmet(&now, target, header).as_deref(),
                expected,
                "{target}: {header}"
            );
        }
        if !header.starts_with("allow") {
            assert_eq!(
                unmet(&now, "demo/echo", header),
                None,
                "nothing leaves: {header}"
            );
        }
    }
    assert_eq!(
        unmet(&now, "demo/echo", "deny=demo").as_deref(),
        Some("denied")
    );
    let seconds = |many| Some(Duration::from_secs(many));
    assert_eq!(slow(&now, "lab/x", "max-latency=2s", seconds(2)), None);
    assert_eq!(
        slow(&now, "lab/x", "max-latency=2s", seconds(3)).as_deref(),
        Some("latency 3000 > 2000 ms")
    );
}

#[test]
fn prices_are_those_of_the_catalogue() {
    let now = good(LAB);
    assert_eq!(
        unmet(
            &now,
            "openai/gpt-4o-mini",
            "max-price-in=0.15; max-price-out=0.6"
        ),
        None
    );
    assert!(unmet(&now, "openai/gpt-4o-mini", "max-price-in=0.149999").is_some());
    assert_eq!(
        unmet(&now, "openai/nobody-knows", "max-price=1000").as_deref(),
        Some("price unknown")
    );
}

#[test]
fn a_region_is_told_by_the_configuration_the_platform_or_the_address() {
    let now = good(&format!(
        "{LAB}[providers.azure]\nbase_url = \"https://x.openai.azure.com\"\nkey = \"12345678\"\n"
    ));
    let of = |name: &str, model| {
        let provider = &now.providers[now.provider_index[name]];
        region::of(provider, model).map(str::to_owned)
    };
    for (name, model, expected) in [
        ("lab", "x", Some("eu-central-1")),
        ("dark", "x", None),
        ("openai", "gpt-5", None),
        ("openai-eu", "gpt-5", Some("eu")),
        ("azure", "gpt-5", None),
        (
            "bedrock",
            "anthropic.claude-sonnet-4-5-20250929-v1:0",
            Some("eu-central-1"),
        ),
        (
            "bedrock",
            "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
            Some("eu"),
        ),
        (
            "bedrock",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            Some("global"),
        ),
        (
            "bedrock",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            Some("us"),
        ),
        (
            "bedrock",
            "arn:aws:bedrock:eu-central-1:1:application-inference-profile/x",
            None,
        ),
    ] {
        assert_eq!(of(name, model).as_deref(), expected, "{name}/{model}");
    }
    assert!(
        unmet(
            &now,
            "bedrock/global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "region=eu"
        )
        .is_some()
    );
    assert_eq!(
        unmet(
            &now,
            "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0",
            "region=eu"
        ),
        None
    );
}

#[test]
fn a_header_is_read_strictly() {
    let read = Constraints::read_header(
        " region = EU , us;max-latency=800ms ; allow=a,b/* ;no-training; ",
    )
    .unwrap();
    let mut expected = Constraints::new(Origin::Request);
    expected.regions = vec!["eu".into(), "us".into()];
    expected.max_latency = Some(Duration::from_millis(800));
    expected.allow = vec![Who::new("a"), Who::new("b/*")];
    expected.no_training = true;
    assert_eq!(read, expected);
    assert!(Constraints::read_header("").unwrap().is_empty());
    for (header, wrong) in [
        ("regions=eu", "known are region, "),
        ("eu", "has \"eu\"; known are"),
        ("Region=eu", "known are"),
        ("region", "takes region=VALUE"),
        ("region=", "takes region=VALUE"),
        ("region=,", "takes region=VALUE"),
        ("deny= , ", "takes deny=VALUE"),
        ("region=eu; region=us", "has region twice"),
        ("no-training=yes", "takes no-training, without a value"),
        ("no_training", "known are"),
        ("max-price=cheap", "USD per million tokens"),
        ("max-price=-1", "USD per million tokens"),
        ("max-price=1e400", "USD per million tokens"),
        ("max-price-in", "takes max-price-in=VALUE"),
        ("max-latency=2", "a time such as"),
        ("max-latency=0s", "a time such as"),
        ("max-latency=2h", "to 1h"),
        ("max-latency=99999999999999999999s", "a time such as"),
    ] {
        let said = Constraints::read_header(header).unwrap_err();
        assert!(said.contains(wrong), "{header}: {said}");
    }
    assert!(
        Constraints::read_header(&"a".repeat(2049))
            .unwrap_err()
            .contains("longer")
    );
}

#[test]
fn the_configuration_is_read_and_knows_whose_each_demand_is() {
    let now = good(&format!(
        r#"{LAB}
[models.m]
targets = ["lab/x"]
constraints = {{ region = "eu", max_price = 2, max_latency = "1s", allow = "lab" }}
[models.free]
targets = ["lab/x"]
constraints = {{ no_training = false }}
[[keys]]
name = "a"
key = "12345678"
constraints = {{ max_price = {{ out = 1.25 }}, zero_retention = true, deny = ["dark", "open/gpt-*"] }}
"#
    ));
    let model = now.models["m"].constraints.as_deref().unwrap();
    assert_eq!(model.origin, Origin::Model("m".into()));
    assert_eq!(model.regions, ["eu"]);
    assert_eq!(
        (model.max_price.input, model.max_price.output),
        (Some(2_000_000), Some(2_000_000))
    );
    assert_eq!(model.max_latency, Some(Duration::from_secs(1)));
    assert_eq!(model.allow, [Who::new("lab")]);
    assert_eq!(
        now.models["free"].constraints, None,
        "what demands nothing costs nothing"
    );
    let key = now.keys[0].constraints.as_deref().unwrap();
    assert_eq!(key.origin, Origin::Key("a".into()));
    assert_eq!(
        (key.max_price.input, key.max_price.output),
        (None, Some(1_250_000))
    );
    assert!(key.zero_retention && !key.no_training);
    let plain = good("[models.m]\ntargets = [\"demo/x\"]");
    assert_eq!(plain.models["m"].constraints, None);
}

#[test]
fn each_mistake_is_found_with_line_key_and_suggestion() {
    const MODEL: &str = "[models.m]\ntargets = [\"demo/x\"]\n";
    for (text, line, key, message, suggestion) in [
        (
            "constraints = { regoin = \"eu\" }",
            3,
            "models.m.constraints.regoin",
            "unknown key",
            Some("region"),
        ),
        (
            "constraints = { region = \"Europe\" }",
            3,
            "models.m.constraints.region",
            "must be a region's name",
            Some("\"eu\""),
        ),
        (
            "constraints = { region = [\"eu\", \"US\"] }",
            3,
            "models.m.constraints.region[1]",
            "must be a region's name",
            Some("\"us\""),
        ),
        (
            "constraints = { region = [] }",
            3,
            "models.m.constraints.region",
            "must not be empty",
            None,
        ),
        (
            "constraints = { max_price = \"1\" }",
            3,
            "models.m.constraints.max_price",
            "a number, or { in, out }",
            None,
        ),
        (
            "constraints = { max_price = -1 }",
            3,
            "models.m.constraints.max_price",
            "must be 0 or more",
            None,
        ),
        (
            "constraints = { max_price = {} }",
            3,
            "models.m.constraints.max_price",
            "must have in, out or both",
            None,
        ),
        (
            "constraints = { max_price = { inn = 1, out = 2 } }",
            3,
            "models.m.constraints.max_price.inn",
            "unknown key",
            Some("in"),
        ),
        (
            "constraints = { max_latency = 2 }",
            3,
            "models.m.constraints.max_latency",
            "must be a duration",
            Some("\"2s\""),
        ),
        (
            "constraints = { no_training = \"true\" }",
            3,
            "models.m.constraints.no_training",
            "must be true or false",
            Some("true"),
        ),
        (
            "constraints = { deny = [\"opena\"] }",
            3,
            "models.m.constraints.deny[0]",
            "there is no provider \"opena\"",
            Some("\"openai\""),
        ),
        (
            "constraints = { allow = \"opena/gpt-5\" }",
            3,
            "models.m.constraints.allow",
            "there is no provider",
            Some("\"openai/gpt-5\""),
        ),
        (
            "constraints = { allow = [\"openai/**\"] }",
            3,
            "models.m.constraints.allow[0]",
            "one * matches anything",
            Some("\"openai/*\""),
        ),
        (
            "constraints = { allow = [\"openai/gpt-[45]\"] }",
            3,
            "models.m.constraints.allow[0]",
            "only * and ? are special",
            None,
        ),
        (
            "constraints = true",
            3,
            "models.m.constraints",
            "must be a table",
            None,
        ),
        (
            "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nconstraints = { zero-retention = true }",
            6,
            "keys[0].constraints.zero-retention",
            "unknown key",
            Some("zero_retention"),
        ),
        (
            "[providers.lab]\nprotocols = \"openai-chat\"\nbase_url = \"http://h\"\nauth = \"none\"\ndata = { region = \"europe\" }",
            7,
            "providers.lab.data.region",
            "must be a region's name",
            Some("\"eu\""),
        ),
        (
            "[[catalogue.models]]\nprovider = \"lab\"\nid = \"x\"\nlacks = [\"visoin\"]",
            6,
            "catalogue.models[0].lacks",
            "`lacks` has \"visoin\"",
            None,
        ),
    ] {
        let mistakes = read(&format!("{MODEL}{text}")).expect_err(text);
        assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
        let found = &mistakes[0];
        assert_eq!((found.line, found.key.as_str()), (line, key), "{found}");
        assert!(found.message.contains(message), "{found}");
        assert_eq!(found.suggestion.as_deref(), suggestion, "{found}");
    }
}

#[test]
fn the_refusal_names_the_demand_and_whose_it_is() {
    let now = good(LAB);
    let provider = &now.providers[now.provider_index["dark"]];
    let subject = Subject {
        names: &[],
        provider,
        model: "x",
        entry: None,
        place: cost::Place::Anywhere,
        input: 0,
        latency: &|| None,
    };
    let mut demand = Constraints::new(Origin::Key("team-a".into()));
    demand.no_training = true;
    let against = demand.against(&subject).unwrap();
    let error = constraints::refusal("m", &[("dark/x".into(), against)]);
    assert_eq!(
        error.message,
        "No target of `m` meets what is demanded: dark/x: not known not to train (no_training, key team-a)."
    );
    assert_eq!(
        (error.kind, error.kind.status(), error.kind.code()),
        (Kind::NotPermitted, 403, "constraints_not_met")
    );
    assert_eq!(error.param.as_deref(), Some("model"));
    assert!(error.kind.is_final(), "asking again can't help");
    let own = Constraints::read_header("no-training")
        .unwrap()
        .against(&subject)
        .unwrap();
    let error = constraints::refusal("m", &[("dark/x".into(), own)]);
    assert_eq!(error.param.as_deref(), Some("x-strait-constraints"));
}

#[test]
fn what_is_demanded_tells_cached_answers_apart() {
    let demand = |header| Constraints::read_header(header).unwrap();
    let of = |demand: &Constraints| {
        constraints::fingerprint(Demands {
            key: &[],
            request: Some(demand),
        })
    };
    assert_eq!(constraints::fingerprint(Demands::default()), 0);
    assert_ne!(of(&demand("region=eu")), of(&demand("region=us")));
    assert_eq!(of(&demand("region=eu")), of(&demand("region=eu;")));
    assert_ne!(of(&demand("allow=a")), of(&demand("deny=a")));
}
