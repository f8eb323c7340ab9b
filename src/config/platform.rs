//! What the clouds want besides a key: project, region, API version, and who signs in.

use toml::de::DeValue;

use super::Env;
use super::mistake::{At, Mistake, Place, Wrong, nearest, quoted};
use super::provider::required;
use super::read::{Reader, Table, text};
use super::secrets::{Reference, read_bounded, secret};
use super::units;
use crate::provider::account::{Url, aws, entra, google};
use crate::provider::{Auth, Endpoint, Platform};

/// Whose paths a row of the catalogue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Azure,
    Vertex,
    Bedrock,
}

/// The keys of one provider's table that only a platform has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Written {
    /// Catalogue only; a user's row has that of the row that it is like.
    pub kind: Option<Kind>,
    api_version: Option<At<String>>,
    entra: Option<At<Entra>>,
    project: Option<At<String>>,
    location: Option<At<String>>,
    service_account: Option<At<Reference>>,
    region: Option<At<String>>,
    access_key_id: Option<At<Reference>>,
    secret_access_key: Option<At<Reference>>,
    session_token: Option<At<Reference>>,
    profile: Option<At<String>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entra {
    tenant: Option<At<String>>,
    client_id: Option<At<String>>,
    client_secret: Option<At<Reference>>,
    scope: Option<At<String>>,
    authority: Option<At<String>>,
}

/// What a platform makes of its keys and of the environment.
pub(super) struct Settled {
    pub platform: Platform,
    /// Its address, where its region or the environment decides it and the file doesn't.
    pub endpoint: Option<Endpoint>,
    /// Who signs in, where no key is given.
    pub auth: Option<Auth>,
}

const ENDPOINT: [&str; 2] = ["AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE"];
const API_VERSION: [&str; 2] = ["OPENAI_API_VERSION", "AZURE_API_VERSION"];
const PROJECT: [&str; 3] = [
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_VERTEX_PROJECT",
    "VERTEXAI_PROJECT",
];
const LOCATION: [&str; 3] = [
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_VERTEX_LOCATION",
    "VERTEXAI_LOCATION",
];
const REGION: [&str; 3] = ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_REGION_NAME"];
const ADC: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// Reads the platform's keys of a provider's table.
pub(super) fn read(reader: &mut Reader<'_>, table: &Table<'_>, catalogue: bool) -> Written {
    let entra = reader.table(table, "entra", "providers.*.entra");
    let entra = entra.map(|table| At {
        value: Entra {
            tenant: required(reader, &table, "tenant", plain),
            client_id: required(reader, &table, "client_id", plain),
            client_secret: required(reader, &table, "client_secret", secret),
            scope: reader.get(&table, "scope", plain),
            authority: reader.get(&table, "authority", base),
        },
        place: table.place,
    });
    let kind = if catalogue {
        reader.get(table, "platform", kind)
    } else {
        None
    };
    Written {
        kind: kind.map(|at| at.value),
        api_version: reader.get(table, "api_version", api_version),
        entra,
        project: reader.get(table, "project", plain),
        location: reader.get(table, "location", region),
        service_account: reader.get(table, "service_account", secret),
        region: reader.get(table, "region", region),
        access_key_id: reader.get(table, "access_key_id", secret),
        secret_access_key: reader.get(table, "secret_access_key", secret),
        session_token: reader.get(table, "session_token", secret),
        profile: reader.get(table, "profile", plain),
    }
}

impl Written {
    /// Returns the catalogue's keys with everything replaced that `written` names.
    pub fn overlaid(self, written: Written) -> Written {
        Written {
            kind: self.kind,
            ..written
        }
    }

    /// Returns whether a way to sign in is written.
    pub fn signs_in(&self) -> bool {
        self.entra.is_some()
            || self.service_account.is_some()
            || self.access_key_id.is_some()
            || self.secret_access_key.is_some()
            || self.profile.is_some()
    }

    /// Returns whether the environment says enough to use the provider without a key.
    pub fn is_usual(&self, env: Env<'_>) -> bool {
        match self.kind {
            None => false,
            Some(Kind::Azure) => usual_app(env).is_some(),
            Some(Kind::Vertex) => first(env, &[ADC]).is_some() && first(env, &PROJECT).is_some(),
            Some(Kind::Bedrock) => aws::Chain::is_directed(env) && first(env, &REGION).is_some(),
        }
    }

    /// Returns what is missing for a provider that the file doesn't name, beside its key.
    pub fn lacks(&self, env: Env<'_>) -> Option<String> {
        let needed: &[&str] = match self.kind {
            None => return None,
            Some(Kind::Azure) => &ENDPOINT,
            Some(Kind::Vertex) => &PROJECT,
            Some(Kind::Bedrock) => &REGION,
        };
        first(env, needed).is_none().then(|| unset(needed))
    }

    /// Makes the platform. `here` is the provider's table; `key`: it has a plain key, so that nobody signs in.
    pub fn settle(
        self,
        here: &Place,
        endpoint: bool,
        key: Option<&Place>,
        env: Env<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Settled> {
        self.check_keys(key, mistakes);
        match self.kind {
            None => Some(Settled {
                platform: Platform::Plain,
                endpoint: None,
                auth: None,
            }),
            Some(Kind::Azure) => self.azure(here, endpoint, key.is_some(), env, mistakes),
            Some(Kind::Vertex) => self.vertex(here, key.is_some(), env, mistakes),
            Some(Kind::Bedrock) => self.bedrock(here, key.is_some(), env, mistakes),
        }
    }

    /// Reports keys of another platform, and two ways to sign in.
    fn check_keys(&self, key: Option<&Place>, mistakes: &mut Vec<Mistake>) {
        let written = [
            (Kind::Azure, "azure", place(&self.api_version), false),
            (Kind::Azure, "azure", place(&self.entra), true),
            (Kind::Vertex, "vertex", place(&self.project), false),
            (Kind::Vertex, "vertex", place(&self.location), false),
            (Kind::Vertex, "vertex", place(&self.service_account), true),
            (Kind::Bedrock, "bedrock", place(&self.region), false),
            (Kind::Bedrock, "bedrock", place(&self.access_key_id), true),
            (
                Kind::Bedrock,
                "bedrock",
                place(&self.secret_access_key),
                true,
            ),
            (Kind::Bedrock, "bedrock", place(&self.session_token), true),
            (Kind::Bedrock, "bedrock", place(&self.profile), true),
        ];
        for (kind, name, place, signs_in) in written {
            let Some(place) = place else { continue };
            if self.kind != Some(kind) {
                let message = format!("is for {name} alone, or a provider that is like it");
                mistakes.push(place.wrong(message));
            } else if signs_in && key.is_some() {
                mistakes.push(place.wrong("is given, and key too: only one of them may be"));
            }
        }
    }

    fn azure(
        self,
        here: &Place,
        endpoint: bool,
        key: bool,
        env: Env<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Settled> {
        let before = mistakes.len();
        let mut found = None;
        if !endpoint {
            match first(env, &ENDPOINT) {
                Some((name, value)) => match units::read_url(&value) {
                    Ok(url) => found = Some(url),
                    Err(wrong) => {
                        mistakes.push(here.missing("base_url").wrong(of_variable(name, wrong)))
                    }
                },
                None => {
                    let message = format!(
                        "must be given, such as \"https://NAME.openai.azure.com\": {} either",
                        unset(&ENDPOINT)
                    );
                    mistakes.push(here.missing("base_url").wrong(message));
                }
            }
        }
        let version = match self.api_version {
            Some(at) => Some(at.value),
            None => first(env, &API_VERSION).and_then(|(name, value)| {
                let checked = checked_version(&value);
                checked
                    .map_err(|wrong| {
                        let place = here.missing("api_version");
                        mistakes.push(place.wrong(of_variable(name, wrong)));
                    })
                    .ok()
            }),
        };
        let auth = match (self.entra, key) {
            (_, true) => None,
            (Some(entra), false) => app(entra.value, env, mistakes).map(Auth::Entra),
            (None, false) => usual_app(env).map(Auth::Entra),
        };
        (mistakes.len() == before).then(|| Settled {
            platform: Platform::Azure {
                // The style without a version is called v1.
                api_version: version.filter(|version| version != "v1"),
            },
            endpoint: found,
            auth,
        })
    }

    fn vertex(
        self,
        here: &Place,
        key: bool,
        env: Env<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Settled> {
        let before = mistakes.len();
        let written = self.service_account.is_some();
        let file = match (&self.service_account, key) {
            (_, true) => None,
            (Some(at), false) => key_file(&at.value, env)
                .map_err(|wrong| mistakes.push(at.wrong(wrong)))
                .ok(),
            (None, false) => usual_key_file(env)
                .map_err(|wrong| mistakes.push(here.missing("service_account").wrong(wrong)))
                .ok()
                .flatten(),
        };
        let (source, own_project) = match file {
            Some(file) => (Some(file.source), file.project),
            None if written => (None, None),
            None => {
                let host = first(env, &["GCE_METADATA_HOST"]);
                let host = host.map_or_else(|| google::METADATA.to_owned(), |(_, host)| host);
                (
                    Some(google::Source::Metadata(format!("http://{host}"))),
                    None,
                )
            }
        };
        let project = self.project.map(|at| at.value);
        let project = project
            .or_else(|| first(env, &PROJECT).map(|(_, project)| project))
            .or(own_project);
        if project.is_none() && mistakes.len() == before {
            let message = format!("must be given: {} either", unset(&PROJECT));
            mistakes.push(here.missing("project").wrong(message));
        }
        let location = found_region(self.location, &LOCATION, "location", here, env, mistakes);
        if mistakes.len() > before {
            return None;
        }
        let platform = Platform::Vertex {
            project: project?,
            location: location.unwrap_or_else(|| "global".into()),
        };
        Some(Settled {
            endpoint: platform.host().map(at_host),
            platform,
            auth: if key { None } else { source.map(Auth::Google) },
        })
    }

    fn bedrock(
        self,
        here: &Place,
        key: bool,
        env: Env<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Settled> {
        let before = mistakes.len();
        let region = found_region(self.region, &REGION, "region", here, env, mistakes);
        if region.is_none() && mistakes.len() == before {
            let message = format!("must be given: {} either", unset(&REGION));
            mistakes.push(here.missing("region").wrong(message));
        }
        let mut fetch = |at: Option<&At<Reference>>| {
            let at = at?;
            let resolved = at.value.resolve(env);
            resolved
                .map_err(|wrong| mistakes.push(at.wrong(wrong)))
                .ok()
        };
        let id = fetch(self.access_key_id.as_ref());
        let secret = fetch(self.secret_access_key.as_ref());
        let token = fetch(self.session_token.as_ref());
        let source = match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), Some(_)) => id.zip(secret).map(|(id, secret)| {
                aws::Source::Keys(aws::Keys {
                    access_key_id: id.expose().to_owned(),
                    secret_access_key: secret,
                    session_token: token,
                })
            }),
            (Some(_), None) => {
                let place = here.missing("secret_access_key");
                mistakes.push(place.wrong("must be given with access_key_id"));
                None
            }
            (None, Some(_)) => {
                let place = here.missing("access_key_id");
                mistakes.push(place.wrong("must be given with secret_access_key"));
                None
            }
            (None, None) => {
                if let Some(token) = &self.session_token {
                    mistakes.push(token.wrong("is part of access_key_id and secret_access_key"));
                }
                let profile = self.profile.as_ref().map(|at| at.value.as_str());
                let region = region.as_deref().unwrap_or_default();
                Some(aws::Source::Chain(Box::new(aws::Chain::new(
                    env, profile, region,
                ))))
            }
        };
        if let (Some(_), Some(profile)) = (&self.access_key_id, &self.profile) {
            let message = "is given, and access_key_id too: only one of them may be";
            mistakes.push(profile.wrong(message));
        }
        if mistakes.len() > before {
            return None;
        }
        let region = region?;
        let auth = (!key).then_some(Auth::SigV4 {
            service: "bedrock",
            region: region.clone(),
            source: source?,
        });
        let platform = Platform::Bedrock { region };
        Some(Settled {
            endpoint: platform.host().map(at_host),
            platform,
            auth,
        })
    }
}

fn place<T>(at: &Option<At<T>>) -> Option<&Place> {
    at.as_ref().map(|at| &at.place)
}

fn at_host(host: String) -> Endpoint {
    Endpoint {
        tls: true,
        host,
        port: 443,
        base_path: String::new(),
        weight: 1,
        health_path: None,
    }
}

/// Returns the first of the variables that is set, and its value.
fn first<'n>(env: Env<'_>, names: &[&'n str]) -> Option<(&'n str, String)> {
    let set = |name: &&'n str| {
        let value = env(name)?.trim().to_owned();
        (!value.is_empty()).then_some((*name, value))
    };
    names.iter().find_map(set)
}

fn unset(names: &[&str]) -> String {
    match names {
        [one] => format!("{one} is not set"),
        several => format!("none of {} is set", several.join(", ")),
    }
}

fn of_variable(name: &str, wrong: Wrong) -> Wrong {
    format!("is taken from {name}: {}", wrong.message).into()
}

fn found_region(
    written: Option<At<String>>,
    variables: &[&str],
    key: &str,
    here: &Place,
    env: Env<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<String> {
    if let Some(at) = written {
        return Some(at.value);
    }
    let (name, value) = first(env, variables)?;
    checked_region(&value)
        .map_err(|wrong| mistakes.push(here.missing(key).wrong(of_variable(name, wrong))))
        .ok()
}

fn app(entra: Entra, env: Env<'_>, mistakes: &mut Vec<Mistake>) -> Option<entra::App> {
    let secret = entra.client_secret?;
    let resolved = secret.value.resolve(env);
    Some(entra::App {
        authority: entra
            .authority
            .map_or_else(|| entra::AUTHORITY.to_owned(), |at| at.value),
        tenant: entra.tenant?.value,
        client_id: entra.client_id?.value,
        client_secret: resolved
            .map_err(|wrong| mistakes.push(secret.wrong(wrong)))
            .ok()?,
        scope: entra
            .scope
            .map_or_else(|| entra::SCOPE.to_owned(), |at| at.value),
    })
}

/// Returns the application that Azure's own variables name.
fn usual_app(env: Env<'_>) -> Option<entra::App> {
    let set = |name| first(env, &[name]).map(|(_, value)| value);
    Some(entra::App {
        authority: set("AZURE_AUTHORITY_HOST")
            .map_or_else(|| entra::AUTHORITY.to_owned(), |host| trimmed(&host)),
        tenant: set("AZURE_TENANT_ID")?,
        client_id: set("AZURE_CLIENT_ID")?,
        client_secret: Reference::Env("AZURE_CLIENT_SECRET".into())
            .resolve(env)
            .ok()?,
        scope: entra::SCOPE.to_owned(),
    })
}

fn key_file(written: &Reference, env: Env<'_>) -> Result<google::KeyFile, Wrong> {
    let text = written.resolve_text(env)?;
    google::KeyFile::read(text.expose()).map_err(Wrong::from)
}

/// Returns the key file where Google's own libraries look for one.
fn usual_key_file(env: Env<'_>) -> Result<Option<google::KeyFile>, Wrong> {
    let named = first(env, &[ADC]);
    let path = match (&named, first(env, &["HOME"])) {
        (Some((_, path)), _) => std::path::PathBuf::from(path),
        (None, Some((_, home))) => {
            std::path::Path::new(&home).join(".config/gcloud/application_default_credentials.json")
        }
        (None, None) => return Ok(None),
    };
    if named.is_none() && !path.exists() {
        return Ok(None);
    }
    let read = read_bounded(&path, 64 << 10)
        .and_then(|text| google::KeyFile::read(&text).map_err(Wrong::from));
    match (read, named) {
        (Ok(file), _) => Ok(Some(file)),
        (Err(wrong), Some((name, _))) => Err(of_variable(name, wrong)),
        (Err(wrong), None) => Err(format!("{}: {}", path.display(), wrong.message).into()),
    }
}

fn kind(value: &DeValue<'_>) -> Result<Kind, Wrong> {
    match text(value)?.as_str() {
        "azure" => Ok(Kind::Azure),
        "vertex" => Ok(Kind::Vertex),
        "bedrock" => Ok(Kind::Bedrock),
        _ => Err("must be azure, vertex or bedrock".into()),
    }
}

/// Reads a name that goes into a path or a form.
fn plain(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    if name.is_empty() || name.len() > 500 || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("must be of visible ASCII, without spaces".into());
    }
    Ok(name)
}

fn region(value: &DeValue<'_>) -> Result<String, Wrong> {
    checked_region(&text(value)?)
}

fn checked_region(written: &str) -> Result<String, Wrong> {
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !written.is_empty() && written.len() <= 63 && written.bytes().all(is_part) {
        return Ok(written.to_owned());
    }
    let lower = written.to_ascii_lowercase();
    let meant = (lower != written && checked_region(&lower).is_ok()).then(|| quoted(&lower));
    Err(Wrong::suggest(
        "must be a region's name, such as us-east-1 or europe-west4",
        meant,
    ))
}

fn api_version(value: &DeValue<'_>) -> Result<String, Wrong> {
    checked_version(&text(value)?)
}

/// Checks `2024-10-21`, `2025-04-01-preview` or `v1`.
fn checked_version(written: &str) -> Result<String, Wrong> {
    let date = written.strip_suffix("-preview").unwrap_or(written);
    let is_date = date.len() == 10
        && date.bytes().enumerate().all(|(at, b)| match at {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
    if is_date || written == "v1" {
        return Ok(written.to_owned());
    }
    let meant = nearest(written, ["v1"]).map(quoted);
    let message = "must be a date such as 2024-10-21 or 2025-04-01-preview, or v1";
    Err(Wrong::suggest(message, meant))
}

/// Reads the base URL of who makes tokens.
fn base(value: &DeValue<'_>) -> Result<String, Wrong> {
    let written = text(value)?;
    match Url::parse(&written) {
        Some(url) if !url.target.contains('?') => Ok(trimmed(&written)),
        Some(_) | None => Err("must be a URL that begins with https://, without a query".into()),
    }
}

fn trimmed(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}
