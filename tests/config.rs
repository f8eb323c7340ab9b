//! The configuration: what is read, what is refused and how that is said.

use std::path::Path;
use std::time::{Duration, Instant};

use strait::config::{self, Loaded, Mistake, Snapshot};
use strait::observe::Sink;
use strait::protocol::Protocol;
use strait::protocol::api::Api;
use strait::provider::account::{aws, google};
use strait::provider::cost::Token;
use strait::provider::{self, Auth, Provider, Timeouts};
use strait::routing::{Retries, Strategy, To};

/// Returns an environment of these variables alone.
fn env<'e>(variables: &'e [(&'e str, &'e str)]) -> impl Fn(&str) -> Option<String> + 'e {
    move |name| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.to_string())
    }
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Vec<Mistake>> {
    config::read(Path::new("strait.toml"), text, &env(variables))
}

fn good(text: &str, variables: &[(&str, &str)]) -> Snapshot {
    read(text, variables)
        .unwrap_or_else(|mistakes| panic!("{}", lines(&mistakes)))
        .snapshot
}

fn bad(text: &str, variables: &[(&str, &str)]) -> Vec<Mistake> {
    match read(text, variables) {
        Ok(_) => panic!("no mistake was found in:\n{text}"),
        Err(mistakes) => mistakes,
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes
        .iter()
        .map(|mistake| format!("{mistake}\n"))
        .collect()
}

// What is right.

#[test]
fn an_empty_file_serves_the_demo() {
    let now = good("", &[]);
    let names: Vec<_> = now
        .providers
        .iter()
        .map(|provider| provider.name.as_str())
        .collect();
    assert_eq!(names, ["demo"]);
    assert!(now.providers[0].demo);
    assert_eq!(now.provider_index["demo"], 0);
    assert_eq!(now.server, strait::server::Settings::default());
    assert_eq!(now.admin, strait::server::AdminSettings::default());
    assert_eq!(now.records, Sink::Stdout);
    assert_eq!(now.state_dir, Path::new("./strait-data"));
    assert_eq!(now.log_level, "info");
    assert_eq!(now.generation, 1);
    assert_eq!(now.file, None);
    let openai = now
        .disabled
        .iter()
        .find(|(name, _)| name == "openai")
        .unwrap();
    assert_eq!(openai.1, "OPENAI_API_KEY is not set");
}

#[test]
fn a_usual_variable_enables_its_provider() {
    let now = good(
        "",
        &[("ANTHROPIC_API_KEY", "sk-ant-1"), ("OPENAI_API_KEY", "")],
    );
    let place = now.provider_index["claude"];
    assert_eq!(
        place, now.provider_index["anthropic"],
        "an alias leads to the same provider"
    );
    let anthropic = &now.providers[place];
    assert_eq!(anthropic.protocols[0].protocol, Protocol::Anthropic);
    assert_eq!(anthropic.credentials[0].key.expose(), "sk-ant-1");
    assert_eq!(anthropic.auth, Auth::Header("x-api-key".into()));
    assert!(
        anthropic
            .headers
            .contains(&("anthropic-version".into(), "2023-06-01".into()))
    );
    assert!(
        !now.provider_index.contains_key("openai"),
        "an empty variable is as good as none"
    );
}

#[test]
fn a_catalogue_name_needs_only_its_key_and_keeps_the_rest() {
    let now = good(
        "[providers.openai]\nkey = \"${MINE}\"\nbase_url = \"https://eu.api.openai.com/v1/\"\n[providers.claude]\ntimeouts.connect = \"1s\"",
        &[("MINE", "sk-1"), ("ANTHROPIC_API_KEY", "sk-2")],
    );
    let openai = &now.providers[now.provider_index["openai"]];
    assert_eq!(openai.credentials[0].key.expose(), "sk-1");
    assert_eq!(openai.endpoints[0].host, "eu.api.openai.com");
    assert_eq!(
        openai.endpoints[0].base_path, "/v1",
        "without a slash at the end"
    );
    assert!(openai.endpoints[0].tls);
    let anthropic = &now.providers[now.provider_index["anthropic"]];
    assert_eq!(
        anthropic.name, "anthropic",
        "an alias in the file means the catalogue's provider"
    );
    assert_eq!(
        anthropic.credentials[0].key.expose(),
        "sk-2",
        "the usual variable serves where no key is written"
    );
    assert_eq!(anthropic.timeouts.connect, Duration::from_secs(1));
    assert_eq!(anthropic.timeouts.total, Timeouts::default().total);
}

#[test]
fn a_provider_of_ones_own_is_read_whole() {
    let text = r#"
[providers.lab]
protocols = ["anthropic", "openai-chat"]
endpoints = [{ url = "http://[fd00::1]:8000/v1", weight = 2 }, "https://Lab.Example"]
keys = [{ name = "a", key = "env:A", weight = 3 }, "plain-secret"]
auth = "header:API-Key"
headers = { X-Team = "env:TEAM" }
paths = { anthropic = "/anthropic/v1/messages" }
health = {}
quirks = { drop = ["user"], rename = { a = "b" }, set = { c = [1, { d = "é\"" }, 1.5, true] }, clamp = { temperature = 1 } }
price = { in = 0.1, out = 0.4, cache_read = 0 }
"#;
    let now = good(text, &[("A", "secret-a"), ("TEAM", "blue")]);
    let lab = &now.providers[now.provider_index["lab"]];
    let (first, second) = (&lab.endpoints[0], &lab.endpoints[1]);
    assert_eq!(
        (first.host.as_str(), first.port, first.tls, first.weight),
        ("fd00::1", 8000, false, 2)
    );
    assert_eq!(
        (second.host.as_str(), second.port, second.tls, second.weight),
        ("lab.example", 443, true, 1)
    );
    assert_eq!(second.base_path, "");
    let names: Vec<_> = lab
        .credentials
        .iter()
        .map(|key| (key.name.as_str(), key.weight))
        .collect();
    assert_eq!(names, [("a", 3), ("key-2", 1)]);
    assert_eq!(lab.auth, Auth::Header("api-key".into()));
    let version = ("anthropic-version".to_string(), "2023-06-01".to_string());
    assert_eq!(
        lab.headers,
        [("x-team".to_string(), "blue".to_string()), version]
    );
    assert_eq!(
        lab.protocols[0].path.as_deref(),
        Some("/anthropic/v1/messages")
    );
    assert_eq!(lab.protocols[1].path, None);
    assert_eq!(lab.health.as_ref().unwrap().path, None);
    assert_eq!(
        lab.quirks.set,
        [("c".to_string(), r#"[1,{"d":"é\""},1.5,true]"#.to_string())]
    );
    assert_eq!(lab.quirks.clamp, [("temperature".to_string(), 1.0)]);
    assert!(
        lab.quirks.stream_options,
        "usage is asked for unless the provider can't be asked"
    );
    let price = lab.price.as_ref().unwrap();
    assert_eq!(
        price.get(Token::Input),
        Some(100_000),
        "pico-dollars a token"
    );
    assert_eq!(price.get(Token::CacheRead), Some(0));
    assert_eq!(price.get(Token::Reasoning), None);
}

#[test]
fn models_and_keys_are_linked() {
    let text = r#"
[models.fast]
targets = ["demo/echo", { model = "lab/org/llama", weight = 3 }]
strategy = "least-busy"
fallbacks = ["careful", "demo/echo"]
retries = { max_attempts = 2, backoff = "1s500ms" }
[models.careful]
targets = ["demo/other"]
[providers.lab]
protocols = "openai-chat"
base_url = "http://localhost:8000/v1"
auth = "none"
[[keys]]
name = "a"
key = "a-long-secret"
models = ["fast", "lab/*"]
limits = { rpm = 1, tpm = 5_000_000_000, concurrent = 2 }
"#;
    let now = good(text, &[]);
    let fast = &now.models["fast"];
    assert_eq!(fast.strategy, Strategy::LeastBusy);
    let lab = To::Provider {
        provider: now.provider_index["lab"],
        model: "org/llama".into(),
    };
    assert_eq!(fast.targets[1].to, lab, "only the first slash divides");
    assert_eq!(fast.targets[1].weight, 3);
    assert_eq!(fast.fallbacks, ["careful", "demo/echo"]);
    assert_eq!(
        fast.retries,
        Retries {
            max_attempts: 2,
            backoff: Duration::from_millis(1500)
        }
    );
    assert_eq!(now.models["careful"].retries, Retries::default());
    let key = &now.keys[0];
    let limits = key.limits[0].limits;
    assert_eq!(
        (limits.rpm, limits.tpm, limits.concurrent),
        (Some(1), Some(5_000_000_000), Some(2))
    );
    assert_eq!(key.models, ["fast", "lab/*"]);
}

#[test]
fn a_provider_that_is_switched_off_needs_no_key() {
    let text = "[providers.openai]\nkey = \"env:NOPE\"\nenabled = false\n[providers.demo]\nenabled = false";
    let now = good(text, &[("OPENAI_API_KEY", "sk-1")]);
    assert!(now.providers.is_empty());
    assert!(
        now.disabled
            .contains(&("openai".into(), "enabled = false in the file".into()))
    );
}

#[test]
fn secrets_are_fetched_from_files_and_from_systemd() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "from-a-file\r\n").unwrap();
    let text = format!(
        "[admin]\ntoken = \"file:{}\"\n[[keys]]\nname = \"a\"\nkey = \"credential:token\"",
        file.display()
    );
    let now = good(
        &text,
        &[("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())],
    );
    assert_eq!(
        now.admin.token.unwrap().expose(),
        "from-a-file",
        "without the line's end"
    );
    assert_eq!(now.keys[0].key.expose(), "from-a-file");
}

#[test]
fn systemd_says_where_the_state_goes_unless_the_file_does() {
    let systemd = [("STATE_DIRECTORY", "/var/lib/strait:/var/lib/other")];
    assert_eq!(good("", &systemd).state_dir, Path::new("/var/lib/strait"));
    assert_eq!(
        good("state.dir = \"/here\"", &systemd).state_dir,
        Path::new("/here")
    );
}

#[test]
fn an_open_address_is_served_with_keys_or_when_it_is_meant() {
    let key = "[[keys]]\nname = \"a\"\nkey = \"long-enough\"";
    good(&format!("server.listen = \"0.0.0.0:80\"\n{key}"), &[]);
    good("server = { listen = \"[::]:80\", open = true }", &[]);
    good(
        "server.listen = [\"[::1]:8080\", \"localhost:8082\", \"127.0.0.2:80\"]",
        &[],
    );
}

fn provider<'n>(now: &'n Snapshot, name: &str) -> &'n Provider {
    &now.providers[now.provider_index[name]]
}

fn first_path(provider: &Provider, model: &str) -> String {
    let speaks = &provider.protocols[provider.spoken(model, None)[0]];
    let endpoint = &provider.endpoints[0];
    let path = provider::path(&provider.platform, endpoint, speaks, Api::Chat, model, true);
    format!("{}{path}", endpoint.authority())
}

#[test]
fn azure_is_found_by_its_usual_variables_or_by_its_table() {
    let variables = [
        ("AZURE_OPENAI_API_KEY", "k"),
        ("AZURE_OPENAI_ENDPOINT", "https://Me.openai.azure.com/"),
        ("OPENAI_API_VERSION", "2024-10-21"),
    ];
    let now = good("", &variables);
    let azure = provider(&now, "azure-openai");
    assert_eq!(azure.auth, Auth::Header("api-key".into()));
    assert_eq!(
        first_path(azure, "gpt"),
        "me.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    );
    let now = good("providers.azure.api_version = \"v1\"", &variables);
    let azure = provider(&now, "azure");
    assert_eq!(
        first_path(azure, "gpt"),
        "me.openai.azure.com/openai/v1/chat/completions"
    );
    assert_eq!(
        azure.protocols[azure.spoken("claude-opus-4-6", None)[0]].protocol,
        Protocol::Anthropic,
        "which speaks by its own protocol alone"
    );
    let now = good("", &variables[..1]);
    let why = now
        .disabled
        .iter()
        .find(|(name, _)| name == "azure")
        .unwrap();
    assert!(why.1.contains("AZURE_OPENAI_ENDPOINT"), "{}", why.1);
}

#[test]
fn an_application_signs_in_to_azure_in_place_of_a_key() {
    let text = r#"
[providers.azure]
base_url = "https://x.openai.azure.com"
entra = { tenant = "t", client_id = "c", client_secret = "env:S", authority = "https://login.example/" }
"#;
    let now = good(text, &[("S", "secret"), ("AZURE_OPENAI_API_KEY", "unused")]);
    let azure = provider(&now, "azure");
    let Auth::Entra(app) = &azure.auth else {
        panic!("{:?}", azure.auth);
    };
    assert_eq!(app.client_secret.expose(), "secret");
    assert_eq!(app.authority, "https://login.example");
    assert_eq!(app.scope, "https://cognitiveservices.azure.com/.default");
    assert!(azure.credentials.is_empty());
    let usual = [
        ("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com"),
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_CLIENT_SECRET", "s"),
    ];
    let now = good("", &usual);
    assert!(matches!(provider(&now, "azure").auth, Auth::Entra(_)));
}

#[test]
fn bedrock_signs_unless_it_has_a_key() {
    let now = good(
        "",
        &[
            ("AWS_BEARER_TOKEN_BEDROCK", "b"),
            ("AWS_REGION", "eu-west-1"),
        ],
    );
    let bedrock = provider(&now, "aws");
    assert_eq!(bedrock.auth, Auth::Bearer);
    assert_eq!(
        first_path(bedrock, "us.amazon.nova-lite-v1:0"),
        "bedrock-runtime.eu-west-1.amazonaws.com/model/us.amazon.nova-lite-v1%3A0/converse-stream"
    );
    assert!(bedrock.headers.is_empty(), "no anthropic-version");
    let claude = bedrock.spoken("us.anthropic.claude-opus-4-1-20250805-v1:0", None);
    assert_eq!(claude.len(), 2, "both ways");
    assert_eq!(
        bedrock.spoken("meta.llama3-1-8b-instruct-v1:0", None).len(),
        1
    );

    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-west-2"),
    ];
    let now = good("", &keys);
    let Auth::SigV4 {
        region,
        source: aws::Source::Chain(chain),
        ..
    } = &provider(&now, "bedrock").auth
    else {
        panic!("{:?}", provider(&now, "bedrock").auth);
    };
    assert_eq!(region, "us-west-2");
    assert_eq!(chain.environment.as_ref().unwrap().access_key_id, "AKID");

    let text = r#"
[providers.one]
like = "bedrock"
region = "us-east-1"
access_key_id = "env:ID"
secret_access_key = "env:SECRET"
base_url = "http://127.0.0.1:9"
[providers.two]
like = "aws"
region = "us-east-1"
profile = "lab"
"#;
    let now = good(
        text,
        &[
            ("ID", "AKID2"),
            ("SECRET", "s"),
            ("AWS_BEARER_TOKEN_BEDROCK", "b"),
        ],
    );
    let one = provider(&now, "one");
    assert_eq!(one.catalogue, "bedrock", "by which its models are known");
    assert_eq!(one.endpoints[0].port, 9, "an address of one's own");
    assert!(
        matches!(&one.auth, Auth::SigV4 { source: aws::Source::Keys(keys), .. } if keys.access_key_id == "AKID2"),
        "{:?}",
        one.auth
    );
    let Auth::SigV4 {
        source: aws::Source::Chain(chain),
        ..
    } = &provider(&now, "two").auth
    else {
        panic!("a profile goes before a key of the environment");
    };
    assert!(chain.only_profile && chain.profile == "lab");
}

#[test]
fn a_local_server_is_found_by_the_variable_of_its_address() {
    let now = good("", &[("OLLAMA_API_BASE", "http://10.0.0.5:11434")]);
    assert_eq!(provider(&now, "ollama").endpoints[0].host, "10.0.0.5");
    let now = good(
        "providers.ollama.base_url = \"http://10.0.0.6:1\"",
        &[("OLLAMA_API_BASE", "http://10.0.0.5:11434")],
    );
    assert_eq!(
        provider(&now, "ollama").endpoints[0].host,
        "10.0.0.6",
        "what is written goes before the variable"
    );
}

#[test]
fn a_deployment_is_known_as_the_model_that_it_is() {
    let text = r#"
[providers.azure]
key = "k"
base_url = "https://x.openai.azure.com"
known_as = { my-gpt = "gpt-4o", writer = "gpt-35-turbo-instruct" }
"#;
    let now = good(text, &[]);
    let azure = provider(&now, "azure");
    assert_eq!(azure.known_as("my-gpt"), "gpt-4o");
    assert_eq!(azure.known_as("another"), "another");
}

const KEY_FILE: &str = r#"{"type":"service_account","project_id":"from-the-file","client_email":"me@x","private_key":"-----BEGIN PRIVATE KEY-----\nSECRET-1\n-----END PRIVATE KEY-----\n","token_uri":"https://oauth2.googleapis.com/token"}"#;

#[test]
fn vertex_signs_in_by_a_key_file_or_by_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.json");
    std::fs::write(&file, KEY_FILE).unwrap();
    let text = format!(
        "providers.vertex.service_account = \"file:{}\"",
        file.display()
    );
    let now = good(&text, &[]);
    let vertex = provider(&now, "vertex_ai");
    assert!(matches!(
        vertex.auth,
        Auth::Google(google::Source::ServiceAccount(_))
    ));
    assert!(!format!("{now:?}").contains("SECRET-1"));
    assert_eq!(
        first_path(vertex, "gemini-2.5-pro"),
        "aiplatform.googleapis.com/v1/projects/from-the-file/locations/global/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    );
    assert_eq!(
        first_path(vertex, "claude-opus-4-1"),
        "aiplatform.googleapis.com/v1/projects/from-the-file/locations/global/publishers/anthropic/models/claude-opus-4-1:streamRawPredict"
    );
    assert!(first_path(vertex, "meta/llama-4").ends_with("/endpoints/openapi/chat/completions"));
    let file = file.to_str().unwrap();
    let usual = [
        ("GOOGLE_APPLICATION_CREDENTIALS", file),
        ("GOOGLE_CLOUD_PROJECT", "p"),
        ("VERTEXAI_LOCATION", "europe-west4"),
    ];
    let now = good("", &usual);
    let vertex = provider(&now, "vertex");
    assert_eq!(
        vertex.endpoints[0].host,
        "europe-west4-aiplatform.googleapis.com"
    );
    let now = good(
        "providers.vertex.project = \"p\"",
        &[("GCE_METADATA_HOST", "127.0.0.1:1")],
    );
    assert_eq!(
        provider(&now, "vertex").auth,
        Auth::Google(google::Source::Metadata("http://127.0.0.1:1".into()))
    );
}

#[test]
fn models_are_asked_by_what_they_speak() {
    let now = good("providers.openai.key = \"k\"", &[]);
    let openai = provider(&now, "openai");
    let spoken = |model: &str| -> Vec<&str> {
        let entry = strait::provider::catalogue::model("openai", model);
        let places = openai.spoken(model, entry);
        places
            .iter()
            .map(|at| openai.protocols[*at].protocol.name())
            .collect()
    };
    assert_eq!(spoken("gpt-4o"), ["openai-chat", "openai-responses"]);
    assert_eq!(spoken("gpt-3.5-turbo-instruct"), ["openai-completions"]);
    assert_eq!(
        spoken("o1-pro"),
        ["openai-responses"],
        "it knows nothing else"
    );
}

#[test]
fn a_redis_is_read_in_every_form() {
    use strait::state::redis::{Mode, Settings};
    let redis = |text: &str| good(text, &[("URL", "redis://:pw@h"), ("PW", "a word")]).redis;
    for none in [
        "",
        "[state]\nredis = \"\"",
        "[state.redis]\nurl = \"\"",
        "[state.redis]\nurl = []",
    ] {
        assert_eq!(redis(none), None, "{none}");
    }
    let plain = Some(Settings::single("redis://:pw@h"));
    for text in [
        "[state]\nredis = \"redis://:pw@h\"",
        "[state]\nredis = \"env:URL\"",
        "[state]\nredis = [\"env:URL\"]",
        "[state.redis]\nurl = \"env:URL\"\nmode = \"single\"",
    ] {
        assert_eq!(redis(text), plain, "{text}");
    }
    let cluster = "[state.redis]\nurl = [\"valkey://a:1\", \"valkey://b:2\"]\nmode = \"cluster\"\nprefix = \"x:\"\ntimeout = \"5ms\"";
    let cluster = redis(cluster).expect("there is one");
    assert_eq!((cluster.urls.len(), cluster.mode), (2, Mode::Cluster));
    assert_eq!(cluster.prefix, "x:");
    assert_eq!(cluster.timeout, std::time::Duration::from_millis(5));
    let sentinel = "[state.redis]\nurl = \"redis://:theirs@a:26379/3\"\nmode = \"sentinel\"\nmaster = \"main\"\nuser = \"u\"\npassword = \"env:PW\"";
    let expected = Mode::Sentinel {
        master: "main".into(),
        user: Some("u".into()),
        password: Some(strait::secret::Secret::new("a word")),
    };
    assert_eq!(redis(sentinel).expect("there is one").mode, expected);
}

#[test]
fn a_second_account_is_like_the_first() {
    let text = r#"
[providers.openai-eu]
like = "openai"
base_url = "https://eu.api.openai.com/v1"
key = "env:EU"
[providers.openai]
key = "env:US"
"#;
    let now = good(text, &[("EU", "1"), ("US", "2")]);
    let (eu, us) = (provider(&now, "openai-eu"), provider(&now, "openai"));
    assert_eq!(eu.protocols, us.protocols);
    assert_eq!(eu.quirks, us.quirks);
    assert_eq!(eu.endpoints[0].host, "eu.api.openai.com");
    assert_eq!(
        (eu.catalogue.as_str(), us.catalogue.as_str()),
        ("openai", "openai")
    );
}

// What is wrong: (name, file, line, key, part of the message, suggestion).

type Case = (
    &'static str,
    &'static str,
    usize,
    &'static str,
    &'static str,
    Option<&'static str>,
);

#[rustfmt::skip] // a table: one line each
const CASES: &[Case] = &[
    ("unknown table", "[serverr]\nx = 1", 1, "serverr", "unknown key", Some("server")),
    ("unknown key", "[server]\nlisen = 1", 2, "server.lisen", "unknown key", Some("listen")),
    ("another's word", "[providers.x]\napi_key = \"k\"", 2, "providers.x.api_key", "unknown key", Some("key")),
    ("unknown key in an array", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\n[[keys]]\nname = \"b\"\nkey = \"abcdefgh\"\nlimit = {}", 7, "keys[1].limit", "unknown key", Some("limits")),
    ("catalogue's keys", "[providers.openai]\nkey = \"k\"\nenv = [\"A\"]", 3, "providers.openai.env", "unknown key", None),
    ("integer for string", "[admin]\ntoken = 5", 2, "admin.token", "must be a string, found an integer", None),
    ("string for integer", "[server]\nthreads = \"4\"", 2, "server.threads", "must be an integer, found a string", Some("4")),
    ("string for truth", "[server]\nopen = \"true\"", 2, "server.open", "must be true or false, found a string", Some("true")),
    ("string for table", "cache = \"on\"", 1, "cache", "must be a table, found a string", None),
    ("table for array", "[keys]\nname = \"a\"", 1, "keys", "must be an array of tables ([[keys]]), found a table", None),
    ("array for table", "[[server]]\nopen = true", 1, "server", "must be a table, found an array", None),
    ("negative", "[server]\nthreads = -1", 2, "server.threads", "must be 0 or more", None),
    ("too many", "[server]\nthreads = 99999", 2, "server.threads", "must be at most 1024", None),
    ("far too many", "[server]\nthreads = 9223372036854775807", 2, "server.threads", "must be at most 1024", None),
    ("duration without unit", "[server]\ndrain = 5", 2, "server.drain", "must be a duration", Some("\"5s\"")),
    ("duration with words", "[server]\ndrain = \"5 minutes\"", 2, "server.drain", "is no duration", Some("\"5m\"")),
    ("duration with a fraction", "[server]\ndrain = \"1.5s\"", 2, "server.drain", "is no duration", Some("\"1500ms\"")),
    ("duration of nothing", "[cache]\nttl = \"0s\"", 2, "cache.ttl", "must be more than 0", None),
    ("duration of an age", "[cache]\nttl = \"9999999h\"", 2, "cache.ttl", "must be at most 366d", None),
    ("duration that overflows", "[cache]\nttl = \"99999999999999999999s\"", 2, "cache.ttl", "is no duration", None),
    ("duration of nonsense", "[cache]\nttl = \"soon\"", 2, "cache.ttl", "is no duration", None),
    ("size without i", "[server]\nmax_body = \"64M\"", 2, "server.max_body", "is no size", Some("\"64MiB\"")),
    ("size of nothing", "[cache]\nmemory = 0", 2, "cache.memory", "must be 1 or more", None),
    ("size of a fraction", "[cache]\nmemory = 1.5", 2, "cache.memory", "must be a size", None),
    ("size that overflows", "[cache]\nmemory = \"99999999999TiB\"", 2, "cache.memory", "is no size", None),
    ("port alone", "[server]\nlisten = 8080", 2, "server.listen", "must be an address", Some("\"127.0.0.1:8080\"")),
    ("no port", "[admin]\nlisten = \"127.0.0.1\"", 2, "admin.listen", "must be an address and a port", Some("\"127.0.0.1:8080\"")),
    ("no host", "[server]\nlisten = [\":80\"]", 2, "server.listen[0]", "must be an address and a port", Some("\"0.0.0.0:80\"")),
    ("an address gone wrong", "[server]\nlisten = \"300.0.0.1:80\"", 2, "server.listen", "must be an address", None),
    ("no address", "[server]\nlisten = []", 2, "server.listen", "must not be empty", None),
    ("the same address twice", "[server]\nlisten = [\"[::1]:1\", \"[::1]:1\"]", 2, "server.listen[1]", "is given twice", None),
    ("admin's default port", "[server]\nlisten = \"127.0.0.1:8081\"", 2, "server.listen", "another address than that of admin.listen", None),
    ("one port for both", "[admin]\nlisten = \"0.0.0.0:8080\"", 2, "admin.listen", "another address than those of server.listen", None),
    ("open to all", "[server]\nlisten = \"0.0.0.0:8080\"", 2, "server.listen", "add [[keys]]", None),
    ("open to all by name", "[server]\nlisten = [\"127.0.0.1:1\", \"host.example:8080\"]", 2, "server.listen", "server.open = true", None),
    ("half of TLS", "[server]\ntls = { cert = \"/nonexistent\" }", 2, "server.tls.key", "must be given", None),
    ("no certificate", "[server]\ntls = { cert = \"/nonexistent\" }", 2, "server.tls.cert", "/nonexistent can't be read", None),
    ("a misspelt parameter of a database", "[state]\ndatabase = \"postgres://u:p@h/d?pasword=p\"", 2, "state.database", "has the parameter \"pasword\"", None),
    ("no URL of a database", "[state]\ndatabase = \"postgres://u:p@[h/d\"", 2, "state.database", "is not a URL", None),
    ("no variable of a database", "[state]\ndatabase = \"env:NOPE\"", 2, "state.database", "the environment variable NOPE is not set", None),
    ("another database", "[state]\ndatabase = \"mysql\"", 2, "state.database", "must be \"sqlite\"", Some("\"sqlite\"")),
    ("no URL of a Redis", "[state]\nredis = \"localhost:6379\"", 2, "state.redis", "must be the URL of a Redis", None),
    ("no scheme of a Redis", "[state]\nredis = \"http://h\"", 2, "state.redis", "must be the URL of a Redis", None),
    ("a parameter of a Redis", "[state]\nredis = \"redis://h?protocol=resp3\"", 2, "state.redis", "must hold no ?", None),
    ("no variable of a Redis", "[state]\nredis = \"env:NOPE\"", 2, "state.redis", "the environment variable NOPE is not set", None),
    ("a number for a Redis", "[state]\nredis = 6379", 2, "state.redis", "must be a string, found an integer", None),
    ("several Redis", "[state]\nredis = [\"redis://a\", \"redis://b\"]", 2, "state.redis", "several addresses are those of a cluster or of sentinels", None),
    ("several Redis in a table", "[state.redis]\nurl = [\"redis://a\", \"redis://b\"]", 1, "state.redis.url", "several addresses are those of a cluster or of sentinels", None),
    ("another mode of Redis", "[state.redis]\nurl = \"redis://a\"\nmode = \"clustr\"", 3, "state.redis.mode", "must be one of single, cluster, sentinel", Some("\"cluster\"")),
    ("sentinels of no name", "[state.redis]\nurl = \"redis://a\"\nmode = \"sentinel\"", 1, "state.redis.master", "must be given with mode", None),
    ("a user without sentinels", "[state.redis]\nurl = \"redis://a\"\nuser = \"u\"", 3, "state.redis.user", "is for mode = \"sentinel\"", None),
    ("TLS for some", "[state.redis]\nurl = [\"redis://a\", \"rediss://b\"]\nmode = \"cluster\"", 1, "state.redis.url", "rediss:// for all", None),
    ("no authority of a Redis", "[state.redis]\nurl = \"rediss://a\"\nca = \"/nonexistent\"", 3, "state.redis.ca", "/nonexistent can't be read", None),
    ("half of an identity", "[state.redis]\nurl = \"rediss://a\"\ncert = \"/dev/null\"", 3, "state.redis.cert", "/dev/null is not a file", None),
    ("braces in a prefix", "[state.redis]\nurl = \"redis://a\"\nprefix = \"{x}\"", 3, "state.redis.prefix", "without spaces and braces", None),
    ("no time for a Redis", "[state.redis]\nurl = \"redis://a\"\ntimeout = \"0s\"", 3, "state.redis.timeout", "must be more than 0", None),
    ("long waits for a Redis", "[state.redis]\nurl = \"redis://a\"\ntimeout = \"1m\"", 3, "state.redis.timeout", "must be at most 5s", None),
    ("an unknown key of a Redis", "[state.redis]\nurl = \"redis://a\"\ntls = true", 3, "state.redis.tls", "unknown key", None),
    ("a cache in no Redis", "[cache]\nredis = true", 2, "cache.redis", "needs a Redis", None),
    ("unknown provider", "[providers.opnai]\nkey = \"k\"", 1, "providers.opnai.protocols", "must be given", Some("openai")),
    ("no address of a provider", "[providers.lab]\nprotocols = \"anthropic\"\nauth = \"none\"", 1, "providers.lab.base_url", "must be given (or endpoints)", None),
    ("no key of a catalogue provider", "[providers.openai]", 1, "providers.openai.key", "OPENAI_API_KEY is not set either", None),
    ("no key of another", "[providers.lab]\nprotocols = \"anthropic\"\nbase_url = \"http://h\"", 1, "providers.lab.key", "must be given", Some("auth = \"none\"")),
    ("no variable", "[providers.openai]\nkey = \"env:NOPE\"", 2, "providers.openai.key", "the environment variable NOPE is not set", None),
    ("empty variable", "[providers.openai]\nkey = \"env:EMPTY\"", 2, "providers.openai.key", "the environment variable EMPTY is empty", None),
    ("variable with a line break", "[providers.openai]\nkey = \"env:BROKEN\"", 2, "providers.openai.key", "holds a line break", None),
    ("no name of a variable", "[providers.openai]\nkey = \"env:\"", 2, "providers.openai.key", "env: must be followed by the name", None),
    ("a reference in capitals", "[providers.openai]\nkey = \"ENV:NAME\"", 2, "providers.openai.key", "in lower case", Some("\"env:…\"")),
    ("a reference misspelt", "[providers.openai]\nkey = \"evn:NAME\"", 2, "providers.openai.key", "of a kind that there isn't", Some("\"env:…\"")),
    ("no file", "[providers.openai]\nkey = \"file:/nonexistent\"", 2, "providers.openai.key", "/nonexistent can't be read", None),
    ("a file that never ends", "[providers.openai]\nkey = \"file:/dev/zero\"", 2, "providers.openai.key", "is not a file", None),
    ("no credentials", "[providers.openai]\nkey = \"credential:k\"", 2, "providers.openai.key", "CREDENTIALS_DIRECTORY is not set", None),
    ("a credential elsewhere", "[providers.openai]\nkey = \"credential:../k\"", 2, "providers.openai.key", "without /", None),
    ("an empty key", "[providers.openai]\nkey = \"\"", 2, "providers.openai.key", "must not be empty", None),
    ("key and keys", "[providers.openai]\nkey = \"a\"\nkeys = [\"b\"]", 3, "providers.openai.keys", "only one of them", None),
    ("no keys", "[providers.openai]\nkeys = []", 2, "providers.openai.keys", "must hold 1 to", None),
    ("keys of one name", "[providers.openai]\nkeys = [{ name = \"a\", key = \"x\" }, { name = \"a\", key = \"y\" }]", 2, "providers.openai.keys[1].name", "given twice", None),
    ("a key that isn't wanted", "[providers.lab]\nprotocols = \"anthropic\"\nbase_url = \"http://h\"\nauth = \"none\"\nkey = \"k\"", 5, "providers.lab.key", "auth is \"none\"", None),
    ("a protocol by another name", "[providers.lab]\nprotocols = \"openai\"", 2, "providers.lab.protocols", "must be one of openai-chat, openai-responses", Some("\"openai-chat\"")),
    ("a protocol twice", "[providers.lab]\nprotocols = [\"anthropic\", \"anthropic\"]\nauth = \"none\"\nbase_url = \"http://h\"", 2, "providers.lab.protocols[1]", "given twice", None),
    ("no protocol", "[providers.lab]\nprotocols = []", 2, "providers.lab.protocols", "must not be empty", None),
    ("models of a protocol that isn't spoken", "[providers.anthropic]\nkey = \"k\"\nmodels_only = { gemini = [\"x\"] }", 3, "providers.anthropic.models_only.gemini", "not among the provider's protocols", None),
    ("models without a list", "[providers.openai]\nkey = \"k\"\nmodels_only = { openai-chat = \"gpt*\" }", 3, "providers.openai.models_only.openai-chat", "must be a list of patterns", None),
    ("no models", "[providers.openai]\nkey = \"k\"\nmodels_only = { openai-chat = [] }", 3, "providers.openai.models_only.openai-chat", "must hold 1 to", None),
    ("an api misspelt", "[providers.openai]\nkey = \"k\"\napis = [\"embedding\"]", 3, "providers.openai.apis[0]", "must be one of chat", Some("\"embeddings\"")),
    ("like nothing", "[providers.eu]\nlike = \"opnai\"\nkey = \"k\"", 2, "providers.eu.like", "the catalogue has no provider \"opnai\"", Some("\"openai\"")),
    ("the catalogue's name for another", "[providers.groq]\nlike = \"openai\"\nkey = \"k\"", 1, "providers.groq", "needs a name of its own", None),
    ("azure without address", "[providers.azure]\nkey = \"k\"", 1, "providers.azure.base_url", "none of AZURE_OPENAI_ENDPOINT, AZURE_API_BASE is set either", None),
    ("azure without key", "[providers.azure]\nbase_url = \"https://x.openai.azure.com\"", 1, "providers.azure.key", "AZURE_OPENAI_API_KEY", None),
    ("a version of nothing", "[providers.azure]\nkey = \"k\"\nbase_url = \"https://x\"\napi_version = \"2024\"", 4, "providers.azure.api_version", "must be a date such as 2024-10-21", None),
    ("a version in capitals", "[providers.azure]\nkey = \"k\"\nbase_url = \"https://x\"\napi_version = \"V1\"", 4, "providers.azure.api_version", "or v1", Some("\"v1\"")),
    ("key and entra", "[providers.azure]\nkey = \"k\"\nbase_url = \"https://x\"\nentra = { tenant = \"t\", client_id = \"c\", client_secret = \"s\" }", 4, "providers.azure.entra", "key too", None),
    ("half of entra", "[providers.azure]\nbase_url = \"https://x\"\nentra = { tenant = \"t\", client_secret = \"s\" }", 3, "providers.azure.entra.client_id", "must be given", None),
    ("an authority without scheme", "[providers.azure]\nbase_url = \"https://x\"\nentra = { tenant = \"t\", client_id = \"c\", client_secret = \"s\", authority = \"login\" }", 3, "providers.azure.entra.authority", "begins with https://", None),
    ("azure's key elsewhere", "[providers.openai]\nkey = \"k\"\napi_version = \"2024-10-21\"", 3, "providers.openai.api_version", "is for azure alone", None),
    ("vertex without project", "[providers.vertex]\nlocation = \"us-east5\"", 1, "providers.vertex.project", "none of GOOGLE_CLOUD_PROJECT", None),
    ("no key file", "[providers.vertex]\nproject = \"p\"\nservice_account = \"file:/nonexistent\"", 3, "providers.vertex.service_account", "/nonexistent can't be read", None),
    ("a key file of nonsense", "[providers.vertex]\nproject = \"p\"\nservice_account = \"{}\"", 3, "providers.vertex.service_account", "a Google key file without type", None),
    ("a key that isn't PEM", "[providers.vertex]\nproject = \"p\"\nservice_account = '{\"type\":\"service_account\",\"client_email\":\"a\",\"private_key\":\"k\"}'", 3, "providers.vertex.service_account", "not PEM", None),
    ("a name of nothing", "[providers.openai]\nkey = \"k\"\nknown_as = { a = \"\" }", 3, "providers.openai.known_as.a", "1 to 200 bytes", None),
    ("a location in capitals", "[providers.vertex]\nproject = \"p\"\nlocation = \"US-East5\"", 3, "providers.vertex.location", "must be a region's name", Some("\"us-east5\"")),
    ("bedrock without region", "[providers.bedrock]\nkey = \"k\"", 1, "providers.bedrock.region", "none of AWS_REGION", None),
    ("half of the access keys", "[providers.bedrock]\nregion = \"us-east-1\"\naccess_key_id = \"AKID\"", 1, "providers.bedrock.secret_access_key", "with access_key_id", None),
    ("a session of nothing", "[providers.bedrock]\nregion = \"us-east-1\"\nsession_token = \"t\"", 3, "providers.bedrock.session_token", "is part of", None),
    ("a profile and keys", "[providers.bedrock]\nregion = \"us-east-1\"\naccess_key_id = \"AKID\"\nsecret_access_key = \"s\"\nprofile = \"p\"", 5, "providers.bedrock.profile", "access_key_id too", None),
    ("a region misspelt", "[providers.bedrock]\nregoin = \"us-east-1\"\nregion = \"us-east-1\"", 2, "providers.bedrock.regoin", "unknown key", Some("region")),
    ("no scheme", "[providers.openai]\nkey = \"k\"\nbase_url = \"api.openai.com/v1\"", 3, "providers.openai.base_url", "must begin with http:// or https://", Some("\"https://api.openai.com/v1\"")),
    ("another scheme", "[providers.openai]\nkey = \"k\"\nbase_url = \"ftp://h\"", 3, "providers.openai.base_url", "must begin with http", None),
    ("no host of a URL", "[providers.openai]\nkey = \"k\"\nbase_url = \"https:///v1\"", 3, "providers.openai.base_url", "names no host", None),
    ("a user in the URL", "[providers.openai]\nkey = \"k\"\nbase_url = \"https://u:pw@h/v1\"", 3, "providers.openai.base_url", "no user and no password", None),
    ("a query", "[providers.openai]\nkey = \"k\"\nbase_url = \"https://h/v1?a=b\"", 3, "providers.openai.base_url", "no query", None),
    ("a bad port", "[providers.openai]\nkey = \"k\"\nbase_url = \"https://h:65536/v1\"", 3, "providers.openai.base_url", "from 1 to 65535", None),
    ("port 0", "[providers.openai]\nkey = \"k\"\nbase_url = \"https://h:0\"", 3, "providers.openai.base_url", "from 1 to 65535", None),
    ("IPv6 without brackets", "[providers.openai]\nkey = \"k\"\nbase_url = \"http://::1/v1\"", 3, "providers.openai.base_url", "[ ]", None),
    ("an open bracket", "[providers.openai]\nkey = \"k\"\nbase_url = \"http://[::1/v1\"", 3, "providers.openai.base_url", "closing ]", None),
    ("a space in the host", "[providers.openai]\nkey = \"k\"\nbase_url = \"http://a b\"", 3, "providers.openai.base_url", "the host must be", None),
    ("a path that climbs", "[providers.openai]\nkey = \"k\"\nbase_url = \"http://h/../x\"", 3, "providers.openai.base_url", "without `..`", None),
    ("the whole URL for the base", "[providers.openai]\nkey = \"k\"\nbase_url = \"https://h/v1/chat/completions\"", 3, "providers.openai.base_url", "must be the base", Some("\"https://h/v1\"")),
    ("base_url and endpoints", "[providers.openai]\nkey = \"k\"\nbase_url = \"https://h\"\nendpoints = [\"https://i\"]", 4, "providers.openai.endpoints", "only one of them", None),
    ("no endpoints", "[providers.openai]\nkey = \"k\"\nendpoints = []", 3, "providers.openai.endpoints", "must hold 1 to", None),
    ("the same endpoint", "[providers.openai]\nkey = \"k\"\nendpoints = [\"https://h/a\", \"https://H:443/b\"]", 3, "providers.openai.endpoints[1]", "h:443 is given twice", None),
    ("an endpoint without url", "[providers.openai]\nkey = \"k\"\nendpoints = [{ weight = 1 }]", 3, "providers.openai.endpoints[0].url", "must be given", None),
    ("a weight of nothing", "[providers.openai]\nkey = \"k\"\nendpoints = [{ url = \"http://h\", weight = 0 }]", 3, "providers.openai.endpoints[0].weight", "must be 1 or more", None),
    ("a weight too heavy", "[providers.openai]\nkey = \"k\"\nendpoints = [{ url = \"http://h\", weight = 1001 }]", 3, "providers.openai.endpoints[0].weight", "must be at most 1000", None),
    ("auth by a header's name", "[providers.openai]\nkey = \"k\"\nauth = \"x-api-key\"", 3, "providers.openai.auth", "must be \"bearer\"", Some("\"header:x-api-key\"")),
    ("auth misspelt", "[providers.openai]\nkey = \"k\"\nauth = \"Bearer\"", 3, "providers.openai.auth", "must be \"bearer\"", Some("\"bearer\"")),
    ("a header of ours", "[providers.openai]\nkey = \"k\"\nheaders = { Host = \"h\" }", 3, "providers.openai.headers.Host", "by the gateway itself", None),
    ("no name of a header", "[providers.openai]\nkey = \"k\"\nheaders = { \"a b\" = \"h\" }", 3, "providers.openai.headers.\"a b\"", "not the name of a header", None),
    ("a path without slash", "[providers.openai]\nkey = \"k\"\npaths = { openai-chat = \"v2\" }", 3, "providers.openai.paths.openai-chat", "must begin with /", Some("\"/v2\"")),
    ("a path of another protocol", "[providers.openai]\nkey = \"k\"\npaths = { anthropic = \"/v2\" }", 3, "providers.openai.paths.anthropic", "not among the provider's protocols", None),
    ("no authorities", "[providers.openai]\nkey = \"k\"\nca = \"/nonexistent.pem\"", 3, "providers.openai.ca", "can't be read", None),
    ("a timer misspelt", "[providers.openai]\nkey = \"k\"\ntimeouts = { firstbyte = \"1s\" }", 3, "providers.openai.timeouts.firstbyte", "unknown key", Some("first_byte")),
    ("half a price", "[providers.openai]\nkey = \"k\"\nprice = { in = 1 }", 3, "providers.openai.price.out", "must be given", None),
    ("a price below nothing", "[providers.openai]\nkey = \"k\"\nprice = { in = -1, out = 1 }", 3, "providers.openai.price.in", "must be 0 or more", None),
    ("no number", "[providers.openai]\nkey = \"k\"\nprice = { in = nan, out = 1 }", 3, "providers.openai.price.in", "finite", None),
    ("a date for JSON", "[providers.openai]\nkey = \"k\"\nquirks = { set = { a = 2020-01-01 } }", 3, "providers.openai.quirks.set.a", "JSON knows no dates", None),
    ("the model as a quirk", "[providers.openai]\nkey = \"k\"\nquirks = { drop = [\"model\"] }", 3, "providers.openai.quirks.drop[0]", "is written by the gateway", None),
    ("a slash in a provider's name", "[providers.\"a/b\"]\nkey = \"k\"", 1, "providers.\"a/b\"", "must hold no /", None),
    ("an alias of one that is there", "[providers.anthropic]\nkey = \"k\"\n[providers.claude]\nkey = \"k\"", 3, "providers.claude", "alias of anthropic", None),
    ("demo with more", "[providers.demo]\nkey = \"k\"", 1, "providers.demo", "demo is built in", None),
    ("no targets", "[models.m]\nstrategy = \"weighted\"", 1, "models.m.targets", "must be given", None),
    ("empty targets", "[models.m]\ntargets = []", 2, "models.m.targets", "must hold 1 to", None),
    ("a dangling target", "[models.m]\ntargets = [\"demmo/echo\"]", 2, "models.m.targets[0]", "there is no provider \"demmo\"", Some("\"demo/echo\"")),
    ("a target not enabled", "[models.m]\ntargets = [\"demo/a\", { model = \"openai/gpt\" }]", 2, "models.m.targets[1].model", "openai is not enabled: OPENAI_API_KEY is not set", None),
    ("a target without provider", "[models.m]\ntargets = [\"gpt-5\"]", 2, "models.m.targets[0]", "must be provider/model", None),
    ("a target without model", "[models.m]\ntargets = [\"demo/\"]", 2, "models.m.targets[0]", "must name a model", None),
    ("a model misspelt as target", "[models.fast]\ntargets = [\"demo/x\"]\n[models.b]\ntargets = [\"fats\"]", 4, "models.b.targets[0]", "or a [models] name", Some("\"fast\"")),
    ("models in a circle", "[models.a]\ntargets = [\"b\"]\n[models.b]\ntargets = [\"demo/x\", \"a\"]", 4, "models.b.targets[1]", "go in a circle: a → b → a", None),
    ("weights of nothing", "[models.m]\ntargets = [\"demo/x\"]\nscore = { price = 0, availability = 0, latency = 0, throughput = 0 }", 3, "models.m.score", "must hold a weight above 0", None),
    ("a negative weight", "[models.m]\ntargets = [\"demo/x\"]\nscore = { price = -1 }", 3, "models.m.score.price", "must be 0 or more", None),
    ("a half-life without a unit", "[models.m]\ntargets = [\"demo/x\"]\nlatency = { half_life = 600 }", 3, "models.m.latency.half_life", "", Some("\"600s\"")),
    ("a strategy misspelt", "[models.m]\ntargets = [\"demo/x\"]\nstrategy = \"roundrobin\"", 3, "models.m.strategy", "must be one of fallback", Some("\"round-robin\"")),
    ("a lone tier", "[models.m]\nstrategy = \"smart\"\ntargets = [\"demo/x\"]", 1, "models.m.targets", "must hold 2 to 8 targets", None),
    ("thresholds that fall", "[models.m]\nstrategy = \"smart\"\ntargets = [\"demo/x\", \"demo/y\", \"demo/z\"]\nsmart = { thresholds = [0.7, 0.3] }", 4, "models.m.smart.thresholds[1]", "thresholds rise", None),
    ("a threshold beyond", "[models.m]\nstrategy = \"smart\"\ntargets = [\"demo/x\", \"demo/y\"]\nsmart = { thresholds = [35] }", 4, "models.m.smart.thresholds[0]", "must be from 0 to 1", None),
    ("too many thresholds", "[models.m]\nstrategy = \"smart\"\ntargets = [\"demo/x\", \"demo/y\"]\nsmart = { thresholds = [0.3, 0.6] }", 4, "models.m.smart.thresholds", "one fewer than there are targets: 1, not 2", None),
    ("a model that is none", "[models.m]\nstrategy = \"smart\"\ntargets = [\"demo/x\", \"demo/y\"]\nsmart = { model = \"Cargo.toml\" }", 4, "models.m.smart.model", "not a router model", None),
    ("a model that isn't there", "[models.m]\nstrategy = \"smart\"\ntargets = [\"demo/x\", \"demo/y\"]\nsmart = { model = \"/nowhere/x.bin\" }", 4, "models.m.smart.model", "can't be read", None),
    ("smart without its strategy", "[models.m]\ntargets = [\"demo/x\", \"demo/y\"]\nsmart = { thresholds = [0.5] }", 3, "models.m.smart", "strategy = \"smart\" alone", None),
    ("a shadow of nothing", "[models.m]\ntargets = [\"demo/x\"]\nshadow = { model = \"mm\" }", 3, "models.m.shadow.model", "neither a [models] name", None),
    ("a shadow of itself", "[models.m]\ntargets = [\"demo/x\"]\nshadow = { model = \"m\" }", 3, "models.m.shadow.model", "is this model itself", None),
    ("a share above all", "[models.m]\ntargets = [\"demo/x\"]\nshadow = { model = \"demo/y\", share = 10 }", 3, "models.m.shadow.share", "must be from 0 to 1", None),
    ("an arm with a space", "[models.m]\ntargets = [{ model = \"demo/x\", arm = \"a b\" }]", 2, "models.m.targets[0].arm", "no space", None),
    ("nothing in flight", "[server]\nmax_inflight = 0", 2, "server.max_inflight", "must be 1 or more", None),
    ("a queue for ever", "[server]\nqueue = { wait = 5 }", 2, "server.queue.wait", "must be a duration", Some("\"5s\"")),
    ("a priority misspelt", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\npriority = \"hihg\"", 4, "keys[0].priority", "must be one of high, normal, low", Some("\"high\"")),
    ("a dangling fallback", "[models.careful]\ntargets = [\"demo/x\"]\n[models.b]\ntargets = [\"demo/x\"]\nfallbacks = [\"carefull\"]", 5, "models.b.fallbacks[0]", "neither a [models] name nor provider/model", Some("\"careful\"")),
    ("a fallback to itself", "[models.a]\ntargets = [\"demo/x\"]\nfallbacks = [\"a\"]", 3, "models.a.fallbacks[0]", "in a circle: a → a", None),
    ("fallbacks in a circle", "[models.a]\ntargets = [\"demo/x\"]\nfallbacks = [\"b\"]\n[models.b]\ntargets = [\"demo/x\"]\nfallbacks = [\"demo/y\", \"a\"]", 6, "models.b.fallbacks[1]", "in a circle: a → b → a", None),
    ("no attempts", "[models.a]\ntargets = [\"demo/x\"]\nretries = { max_attempts = 0 }", 3, "models.a.retries.max_attempts", "must be 1 or more", None),
    ("a space in a name", "[models.\"a b\"]\ntargets = [\"demo/x\"]", 1, "models.\"a b\"", "no space", None),
    ("a key without name", "[[keys]]\nkey = \"12345678\"", 1, "keys[0].name", "must be given", None),
    ("a key without key", "[[keys]]\nname = \"a\"", 1, "keys[0].key", "must be given", None),
    ("two of one name", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\n[[keys]]\nname = \"a\"\nkey = \"abcdefgh\"", 5, "keys[1].name", "given twice", None),
    ("two of one key", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\n[[keys]]\nname = \"b\"\nkey = \"12345678\"", 6, "keys[1].key", "the same key as that of a", None),
    ("a limit of nothing", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nlimits = { rpm = 0 }", 4, "keys[0].limits.rpm", "leave it out for no limit", None),
    ("a limit below nothing", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nlimits = { tpm = -5 }", 4, "keys[0].limits.tpm", "must be 0 or more", None),
    ("limits of no models", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nlimits = [{ rpm = 5 }, { models = [], rpm = 5 }]", 4, "keys[0].limits[1].models", "leave it out for limits of all models", None),
    ("a limit that is not known", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nlimits = [{ images_per_hour = 5 }]", 4, "keys[0].limits[0].images_per_hour", "unknown key", Some("images_per_day")),
    ("a pattern of limits with two stars", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nlimits = { models = \"**\", rpm = 5 }", 4, "keys[0].limits.models", "one * matches anything", Some("\"*\"")),
    ("a budget of nobody", "[[budgets]]\nusd = 5\nevery = \"day\"", 1, "budgets[0]", "must say whose it is", None),
    ("a budget of two", "[[budgets]]\nusd = 5\nevery = \"day\"\nend_user = \"*\"\ntag = \"x\"", 5, "budgets[0].tag", "for another budget", None),
    ("a budget of each twice", "[[budgets]]\nusd = 5\nevery = \"day\"\nend_user = \"*\"\n[[budgets]]\nusd = 6\nevery = \"day\"\nend_user = \"*\"", 5, "budgets[1]", "second budget over the same time", None),
    ("a way of sharing that is not known", "[state.shared]\nmode = \"exakt\"", 2, "state.shared.mode", "must be one of leased, exact", Some("\"exact\"")),
    ("a rule that is not known", "[state.shared]\nbudgets = \"deny\"", 2, "state.shared.budgets", "must be one of open, closed", None),
    ("a budget over no known time", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nbudget = { usd = 5.0, every = \"monthly\" }", 4, "keys[0].budget.every", "must be one of ever", Some("\"month\"")),
    ("a budget of nothing", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nbudget = { usd = 0, every = \"day\" }", 4, "keys[0].budget.usd", "must be 0.000001 or more", None),
    ("a budget without an amount", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nbudget = { every = \"day\" }", 4, "keys[0].budget.usd", "must be given", None),
    ("two budgets over one time", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nbudget = [{ usd = 5, every = \"day\" }, { usd = 6, every = \"day\" }]", 4, "keys[0].budget[1]", "second budget over the same time", None),
    ("a pattern of another kind", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nmodels = [\"gpt-[45]\"]", 4, "keys[0].models[0]", "only * and ? are special", None),
    ("two stars", "[[keys]]\nname = \"a\"\nkey = \"12345678\"\nmodels = [\"openai/**\"]", 4, "keys[0].models[0]", "one * matches anything", Some("\"openai/*\"")),
    ("records nowhere", "[records]\nto = \"std-out\"", 2, "records.to", "must be \"stdout\"", Some("\"stdout\"")),
    ("records in a path", "[records]\nto = \"/var/log/x\"", 2, "records.to", "must be \"stdout\"", Some("\"file:/var/log/x\"")),
    ("bodies of any length", "[ledger]\nmax_body = \"1GiB\"", 2, "ledger.max_body", "must be from 1B to 16MiB", None),
    ("a field that is a text", "[ledger]\nusage_metadata = [\"team\", \"the team\"]", 2, "ledger.usage_metadata[1]", "must be 1 to 64 letters", None),
    ("too many fields", "[ledger]\nusage_metadata = [\"a\", \"b\", \"c\", \"d\", \"e\"]", 2, "ledger.usage_metadata", "must hold at most 4", None),
    ("usage for ages", "[ledger]\nusage_retention = \"99999d\"", 2, "ledger.usage_retention", "must be from 1d", None),
    ("keeping what there is not", "[ledger]\nkeep = \"boddies\"", 2, "ledger.keep", "must be one of none, metadata, bodies", Some("\"bodies\"")),
    ("a mail from nobody", "[alerts.smtp]\nhost = \"mail\"\nto = \"a@b.c\"", 1, "alerts.smtp.from", "must be given", None),
    ("a mail to nobody", "[alerts.smtp]\nhost = \"mail\"\nfrom = \"a@b.c\"\nto = []", 4, "alerts.smtp.to", "must hold 1 to 16", None),
    ("a mail to no address", "[alerts.smtp]\nhost = \"mail\"\nfrom = \"a@b.c\"\nto = [\"ops\"]", 4, "alerts.smtp.to[0]", "must be an address", None),
    ("a mail server that is a URL", "[alerts.smtp]\nhost = \"smtp://mail\"\nfrom = \"a@b.c\"\nto = \"a@b.c\"", 2, "alerts.smtp.host", "must be the name", None),
    ("a password in the clear", "[alerts.smtp]\nhost = \"mail\"\nfrom = \"a@b.c\"\nto = \"a@b.c\"\ntls = \"none\"\nuser = \"u\"\npassword = \"p\"", 7, "alerts.smtp.password", "can't be sent without TLS", None),
    ("a user without a password", "[alerts.smtp]\nhost = \"mail\"\nfrom = \"a@b.c\"\nto = \"a@b.c\"\nuser = \"u\"", 5, "alerts.smtp.user", "needs a password", None),
    ("a level misspelt", "[log]\nlevel = \"warning\"", 2, "log.level", "must be one of off, error", Some("\"warn\"")),
    ("a module's level misspelt", "[log]\nlevel = \"info,strait::routing=debgu\"", 2, "log.level", "must be one of off, error", Some("\"debug\"")),
    ("no closing bracket", "[server\nopen = true", 1, "", "unclosed table", None),
    ("no quotes", "[admin]\ntoken = abc", 2, "", "must be quoted", None),
    ("a key twice", "[server]\nopen = true\n\nopen = false", 4, "open", "is given twice", None),
    ("a table twice", "[cache]\n[log]\n[cache]", 3, "cache", "is given twice", None),
];

#[test]
fn each_mistake_is_found_with_line_key_and_suggestion() {
    let variables = [("EMPTY", ""), ("BROKEN", "a\nb")];
    let mut failed = String::new();
    for (name, text, line, key, message, suggestion) in CASES {
        let mistakes = bad(text, &variables);
        let is_it = |mistake: &&Mistake| {
            mistake.line == *line && mistake.key == *key && mistake.message.contains(message)
        };
        match mistakes.iter().find(is_it) {
            Some(found) if found.suggestion.as_deref() == *suggestion => {}
            Some(found) => failed += &format!("{name}: wrong suggestion\n  {found}\n"),
            None => failed += &format!("{name}: not found among\n  {}", lines(&mistakes)),
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn one_mistake_is_reported_once_and_nothing_follows_from_it() {
    // The cases where the file holds one mistake and the reader could stumble over its consequences.
    for (name, text, ..) in CASES {
        let mistakes = bad(text, &[("EMPTY", ""), ("BROKEN", "a\nb")]);
        let most = if matches!(
            *name,
            "half of TLS" | "no certificate" | "unknown table" | "another's word"
        ) {
            2
        } else {
            1
        };
        assert!(mistakes.len() <= most, "{name}:\n{}", lines(&mistakes));
    }
}

/// A file that is wrong in many ways, and whose secrets begin with `SECRET`.
const MANY: &str = r#"
foo = 1
[server]
listen = "0.0.0.0:8080"
max_body = "64M"
[admin]
token = ["SECRET-0"]
[state]
database = "mysql://u:SECRET-1@h/d"
redis = "http://:SECRET-2@h"
[providers.openai]
base_url = "https://SECRET-3:SECRET-4@api.openai.com"
key = "env:SECRET-5"
keys = [{ name = "a", key = "ENV:SECRET_6" }, { name = "b", key = "env:VARIABLE", weight = 0 }]
headers = { x-a = 5, "HEADER\n" = "SECRET-8" }
[providers.lab]
protocols = ["openai-chat"]
base_url = "http://h/v1?key=SECRET-9"
key = "SECRET-10\nX"
[models.fast]
targets = ["openai/gpt-5", "nowhere/x"]
fallbacks = ["fast"]
[[keys]]
name = "a"
key = "SECRET-11"
[[keys]]
name = "a"
key = "SECRET-11"
[[keys]]
name = "c"
key = { value = "SECRET-12" }
[[keys]]
name = "d"
key = "${SECRET-13}"
"#;

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let mistakes = bad(MANY, &[("VARIABLE", "SECRET-14\n")]);
    let found: Vec<_> = mistakes
        .iter()
        .map(|mistake| (mistake.line, mistake.key.as_str()))
        .collect();
    let expected = [
        (2, "foo"),
        (5, "server.max_body"),
        (7, "admin.token"),
        (9, "state.database"),
        (10, "state.redis"),
        (12, "providers.openai.base_url"),
        (13, "providers.openai.key"),
        (14, "providers.openai.keys[0].key"),
        (14, "providers.openai.keys[1].key"),
        (14, "providers.openai.keys[1].weight"),
        (15, "providers.openai.headers.x-a"),
        (15, "providers.openai.headers.\"HEADER\\n\""),
        (18, "providers.lab.base_url"),
        (19, "providers.lab.key"),
        (21, "models.fast.targets[1]"),
        (22, "models.fast.fallbacks[0]"),
        (27, "keys[1].name"),
        (28, "keys[1].key"),
        (31, "keys[2].key"),
        (34, "keys[3].key"),
    ];
    assert_eq!(found, expected, "{}", lines(&mistakes));
}

#[test]
fn no_secret_is_in_any_mistake() {
    let mistakes = bad(MANY, &[("VARIABLE", "SECRET-14\n")]);
    assert!(!lines(&mistakes).contains("SECRET"), "{}", lines(&mistakes));
    assert!(!format!("{mistakes:?}").contains("SECRET"));
    // What isn't TOML, in every place where a secret may stand.
    let broken = [
        "key = SECRET-1",
        "key = \"SECRET-1",
        "key = 'SECRET\n",
        "key = \"SECRET\\x\"",
        "[[keys]]\nkey: SECRET",
    ];
    for broken in broken {
        let mistakes = bad(broken, &[]);
        assert!(
            !lines(&mistakes).contains("SECRET"),
            "{broken}: {}",
            lines(&mistakes)
        );
    }
    let text = "[[keys]]\nname = \"a\"\nkey = \"SECRET-1\"";
    let snapshot = good(text, &[("OPENAI_API_KEY", "SECRET-2")]);
    assert!(
        !format!("{snapshot:?}").contains("SECRET-"),
        "nor in the snapshot's debug text"
    );
}

#[test]
fn several_faults_of_syntax_are_reported_and_the_rest_is_read_all_the_same() {
    let text = "[server]\nopen = tru\nthreads = \"x\"\n[log]\nlevel = \"info\n[cache]\nttl = 5\n";
    let found: Vec<_> = bad(text, &[])
        .into_iter()
        .map(|mistake| mistake.line)
        .collect();
    assert_eq!(found, [2, 3, 5, 7]);
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let text = r#"
[models.fast]
targets = ["demo/echo"]
[[keys]]
name = "a"
key = "short"
models = ["fats", "nowhere/*", "gpt-5", "*"]
[[keys]]
name = "b"
key = "long-enough"
models = []
"#;
    let warnings = read(text, &[]).unwrap().warnings;
    let found: Vec<_> = warnings
        .iter()
        .map(|warning| (warning.line, warning.key.as_str()))
        .collect();
    let expected = [
        (6, "keys[0].key"),
        (7, "keys[0].models[0]"),
        (7, "keys[0].models[1]"),
        (11, "keys[1].models"),
    ];
    assert_eq!(found, expected, "{}", lines(&warnings));
    assert_eq!(warnings[1].suggestion.as_deref(), Some("\"fast\""));
}

#[test]
fn a_mistake_is_one_line_that_a_terminal_can_open() {
    let mistake = &bad("[server]\nlisen = 1", &[])[0];
    assert_eq!(
        mistake.to_string(),
        "strait.toml:2:1: server.lisen: unknown key (did you mean listen?)"
    );
    // Columns are characters, not bytes.
    let mistake = &bad("server = { \"é\" = 1, x = 2 }", &[])[1];
    assert_eq!((mistake.column, mistake.key.as_str()), (21, "server.x"));
}

#[test]
fn a_variable_that_nobody_asked_for_does_not_keep_the_gateway_from_starting() {
    let now = good("", &[("OPENAI_API_KEY", "a\nb"), ("GROQ_API_KEY", "x")]);
    assert!(now.provider_index.contains_key("groq"));
    let openai = now
        .disabled
        .iter()
        .find(|(name, _)| name == "openai")
        .unwrap();
    assert!(
        openai.1.contains("OPENAI_API_KEY holds a line break"),
        "{}",
        openai.1
    );
}

#[test]
fn a_long_chain_of_fallbacks_and_a_long_line_are_read_in_time() {
    let mut text = String::new();
    for index in 0..20_000 {
        let next = index + 1;
        text += &format!("[models.m{index}]\ntargets = [\"demo/x\"]\nfallbacks = [\"m{next}\"]\n");
    }
    text += "[models.m20000]\ntargets = [\"demo/x\"]\n";
    let began = Instant::now();
    assert_eq!(good(&text, &[]).models.len(), 20_001);
    let targets = vec!["\"demo/x\""; 1000].join(", ");
    let line: Vec<_> = (0..200)
        .map(|index| format!("m{index} = {{ targets = [{targets}] }}"))
        .collect();
    good(&format!("models = {{ {} }}", line.join(", ")), &[]);
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "took {:?}",
        began.elapsed()
    );
}

#[test]
fn a_local_server_may_have_a_key_and_a_row_may_speak_less() {
    let now = good(
        "[providers.ollama]\nkey = \"k\"\n[providers.deepseek]\nkey = \"k\"\nprotocols = \"openai-chat\"",
        &[],
    );
    let ollama = &now.providers[now.provider_index["ollama"]];
    assert_eq!((&ollama.auth, ollama.credentials.len()), (&Auth::Bearer, 1));
    let deepseek = &now.providers[now.provider_index["deepseek"]];
    assert_eq!(
        deepseek.protocols.len(),
        1,
        "the catalogue's path of the other protocol is no mistake"
    );
}

// Tokens, and people who sign in.

#[test]
fn tokens_are_mapped_and_people_sign_in_as_it_is_written() {
    let now = good(
        r#"
        [server]
        listen = "0.0.0.0:8080"
        [[keys]]
        name = "team-a"
        key = "sk-team-a"
        [[jwt]]
        name = "corp"
        issuer = "https://login.example.com/"
        audience = "strait"
        algorithms = "ES256"
        required = { email_verified = true, level = 3 }
        [[jwt.map]]
        key = "team-a"
        limits = { rpm = 5 }
        budget = [{ usd = 5.0, every = "day", timezone = "Europe/Berlin" }, { usd = 20.0, every = "week", rolling = true }]
        [admin.oidc]
        issuer = "http://127.0.0.1:9000"
        client_id = "strait"
        client_secret = "env:OIDC"
        redirect = "https://strait.example.com/admin/v1/signin/callback"
        scopes = ["groups"]
        roles = [{ group = "ops", role = "operator" }, { group = "x", role = "viewer", of = "org_1" }]
        "#,
        &[("OIDC", "s3cret")],
    );
    let [corp] = &now.tokens[..] else {
        panic!("{:?}", now.tokens);
    };
    assert_eq!(corp.audiences, ["strait"]);
    assert_eq!(corp.algorithms.len(), 1);
    assert_eq!(corp.user.as_deref(), Some("sub"));
    assert_eq!(corp.required[1].any, ["3"]);
    assert_eq!(corp.grants[0].limits.rpm, Some(5));
    assert_eq!(corp.grants[0].budgets.len(), 2);
    let oidc = now.admin.oidc.unwrap();
    assert_eq!(oidc.scopes, ["openid", "groups"]);
    assert_eq!(oidc.origin().as_deref(), Some("https://strait.example.com"));
    assert!(oidc.is_secure() && oidc.client_secret.is_some());
    assert_eq!(oidc.roles.len(), 2);
    assert!(!format!("{oidc:?}").contains("s3cret"));
}

#[test]
fn mistakes_in_tokens_and_sign_in_are_named() {
    let mistakes = bad(
        r#"
        [[keys]]
        name = "team-a"
        key = "sk-team-a"
        [[jwt]]
        name = "corp"
        issuer = "http://login.example.com"
        algorithms = ["HS256"]
        leeway = "1h"
        [[jwt]]
        name = "lab"
        issuer = "https://lab.example.com"
        audience = []
        [[jwt.map]]
        key = "team-b"
        [[jwt.map]]
        key = "team-a"
        place = "proj_1"
        [[jwt.map]]
        place = "key_1"
        when = { groups = [] }
        [[jwt.map]]
        [admin.oidc]
        issuer = "login.example.com"
        redirect = "https://strait.example.com/"
        session = "1s"
        roles = [{ group = "x", role = "boss" }, { group = "x", role = "viewer" }, { group = "x", role = "operator", of = "org_1" }]
        "#,
        &[],
    );
    let text = lines(&mistakes);
    for wanted in [
        "strait.toml:7:18: jwt[0].issuer: must be HTTPS",
        "jwt[0].audience: must be given",
        "jwt[0].algorithms[0]: must be one of RS256, PS256, ES256, EdDSA",
        "jwt[0].leeway: must be from 0s to 300s",
        "jwt[0].map: must be given",
        "jwt[1].audience: must not be empty",
        "jwt[1].map[0].key: is not the name of one of [[keys]] (did you mean \"team-a\"?)",
        "jwt[1].map[1]: one of key, place and place_claim",
        "jwt[1].map[2].place: must be the id of an organisation",
        "jwt[1].map[2].when.groups: must not be empty",
        "jwt[1].map[3]: one of key, place and place_claim",
        "admin.oidc.issuer: must be a URL",
        "admin.oidc.client_id: must be given",
        "admin.oidc.redirect: must end with /admin/v1/signin/callback (did you mean \"https://strait.example.com/admin/v1/signin/callback\"?)",
        "admin.oidc.session: must be from 60s",
        "admin.oidc.roles[0].role: must be one of operator, owner",
        "admin.oidc.roles[1].of: must be given",
        "admin.oidc.roles[2].of: an operator",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in:\n{text}");
    }
}
