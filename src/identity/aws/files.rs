//! The shared files of profiles, <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>.

use std::collections::HashMap;

use super::text_of;
use crate::provider::account::aws::{Chain, Keys, WebIdentity};
use crate::secret::Secret;

/// Roles that one profile leads through.
const MOST_ROLES: usize = 8;

/// Where a profile leads: keys, and roles to take on with them, one after another.
pub struct Profile {
    pub base: Base,
    pub roles: Vec<Role>,
}

pub enum Base {
    Keys(Keys),
    WebIdentity(WebIdentity),
    /// A command that prints them.
    Process(String),
    Environment,
    Container,
    Instance,
}

pub struct Role {
    pub arn: String,
    pub session_name: String,
    pub external_id: Option<String>,
    /// The security token service, where it isn't the region's.
    pub endpoint: Option<String>,
}

type Section = HashMap<String, String>;

/// Finds the chain's profile; `None` when the files, or the profile's keys, aren't there.
pub fn profile(chain: &Chain) -> Result<Option<Profile>, String> {
    let mut sections: HashMap<String, Section> = HashMap::new();
    for (at, file) in chain.files.iter().enumerate() {
        if !file.exists() {
            continue;
        }
        // What the credentials file says, which is the first, counts.
        for (name, section) in parse(&text_of(file)?, at > 0) {
            let known = sections.entry(name).or_default();
            for (key, value) in section {
                known.entry(key).or_insert(value);
            }
        }
    }
    let Some(section) = sections.get(&chain.profile) else {
        return Ok(None);
    };
    // A default profile that only names a region leaves the word to the rest of the chain.
    if chain.profile == "default" && !chain.only_profile && !says_who(section) {
        return Ok(None);
    }
    follow(&sections, &chain.profile, section).map(Some)
}

fn says_who(section: &Section) -> bool {
    let keys = [
        "aws_access_key_id",
        "role_arn",
        "credential_process",
        "sso_session",
        "sso_start_url",
    ];
    keys.iter().any(|key| section.contains_key(*key))
}

fn follow(
    sections: &HashMap<String, Section>,
    name: &str,
    section: &Section,
) -> Result<Profile, String> {
    let mut roles = Vec::new();
    let (mut name, mut section) = (name, section);
    let base = loop {
        if let Some(keys) = keys(section) {
            // A profile may be its own source: its role is taken on with its keys.
            break Base::Keys(keys);
        }
        let Some(arn) = section.get("role_arn") else {
            if let Some(command) = section.get("credential_process") {
                break Base::Process(command.clone());
            }
            let why = match ["sso_session", "sso_start_url"]
                .iter()
                .find(|key| section.contains_key(**key))
            {
                Some(key) => format!("the profile {name} has {key}, which is not supported"),
                None => format!("the profile {name} has no credentials"),
            };
            return Err(why);
        };
        let session_name = section
            .get("role_session_name")
            .map_or("strait", String::as_str);
        let endpoint = section.get("endpoint_url").cloned();
        if let Some(file) = section.get("web_identity_token_file") {
            break Base::WebIdentity(WebIdentity {
                token_file: file.into(),
                role_arn: arn.clone(),
                session_name: session_name.to_owned(),
                endpoint,
            });
        }
        roles.push(Role {
            arn: arn.clone(),
            session_name: session_name.to_owned(),
            external_id: section.get("external_id").cloned(),
            endpoint,
        });
        if roles.len() > MOST_ROLES {
            return Err(format!("the profile {name} leads through too many roles"));
        }
        if let Some(source) = section.get("credential_source") {
            break match source.as_str() {
                "Environment" => Base::Environment,
                "EcsContainer" => Base::Container,
                "Ec2InstanceMetadata" => Base::Instance,
                _ => {
                    return Err(format!(
                        "the profile {name} has an unknown credential_source"
                    ));
                }
            };
        }
        let Some(source) = section.get("source_profile") else {
            return Err(format!(
                "the profile {name} has role_arn, but neither source_profile nor credential_source"
            ));
        };
        let next = sections.get_key_value(source);
        let (next_name, next) = next
            .ok_or_else(|| format!("the profile {name} has a source_profile that isn't there"))?;
        if next_name == name {
            return Err(format!(
                "the profile {name} is its own source, without keys"
            ));
        }
        (name, section) = (next_name, next);
    };
    // The last that was found is the first to be taken on.
    roles.reverse();
    Ok(Profile { base, roles })
}

fn keys(section: &Section) -> Option<Keys> {
    Some(Keys {
        access_key_id: section.get("aws_access_key_id")?.clone(),
        secret_access_key: Secret::new(section.get("aws_secret_access_key")?.as_str()),
        session_token: section
            .get("aws_session_token")
            .map(|token| Secret::new(token.as_str())),
    })
}

/// Reads the sections of a file. In the configuration file those of profiles begin with `profile`.
fn parse(text: &str, is_config: bool) -> Vec<(String, Section)> {
    let mut sections: Vec<(String, Section)> = Vec::new();
    // A section that is no profile takes its keys with it.
    let mut inside = false;
    for line in text.lines() {
        // An indented line belongs to the value before it, as a nested setting that says nothing of credentials.
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default().trim();
            let name = match header.split_once(char::is_whitespace) {
                Some(("profile", name)) if is_config => Some(name.trim()),
                Some(_) => None,
                None if is_config && header != "default" => None,
                None => Some(header),
            };
            inside = name.is_some();
            if let Some(name) = name {
                sections.push((name.trim_matches('"').to_owned(), Section::new()));
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| inside) else {
            continue;
        };
        // A comment may follow a value after a space.
        let value = value.split(" #").next().unwrap_or_default();
        let value = value.split(" ;").next().unwrap_or_default().trim();
        if let Some((_, section)) = sections.last_mut()
            && !value.is_empty()
        {
            section.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "\
# a comment
[default]
aws_access_key_id = AKID # mine
aws_secret_access_key=secret+/=
[lab]
aws_access_key_id = LAB
aws_secret_access_key = s
aws_session_token = t
";
    const CONFIG: &str = "\
[default]
region = us-east-1
s3 =
    aws_access_key_id = NESTED
[lab]
role_arn = not a profile here
[profile role]
role_arn = arn:aws:iam::1:role/a
source_profile = lab
external_id = x
[profile twice]
role_arn = arn:aws:iam::1:role/b
source_profile = role
[profile circle]
role_arn = arn:aws:iam::1:role/c
source_profile = circle2
[profile circle2]
role_arn = arn:aws:iam::1:role/c
source_profile = circle
[profile machine]
role_arn = arn:aws:iam::1:role/d
credential_source = Ec2InstanceMetadata
[profile made]
credential_process = /opt/keys --for 'lab one'
[profile of-made]
role_arn = arn:aws:iam::1:role/f
source_profile = made
[profile sso]
sso_session = me
[sso-session me]
sso_start_url = https://x
[profile web]
role_arn = arn:aws:iam::1:role/e
web_identity_token_file = /token
";

    fn find(profile: &str, only: bool) -> Result<Option<Profile>, String> {
        let dir = tempfile::tempdir().unwrap();
        let files = [("credentials", CREDENTIALS), ("config", CONFIG)];
        let files = files.map(|(name, text)| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        });
        super::profile(&Chain {
            profile: profile.into(),
            files: files.into(),
            only_profile: only,
            ..Chain::default()
        })
    }

    fn found(profile: &str) -> Profile {
        find(profile, true).unwrap().unwrap()
    }

    #[test]
    fn keys_are_found_in_the_credentials_file() {
        let Base::Keys(keys) = found("default").base else {
            panic!("no keys");
        };
        assert_eq!(keys.access_key_id, "AKID", "not the nested one");
        assert_eq!(keys.secret_access_key.expose(), "secret+/=");
        assert_eq!(keys.session_token, None);
        let Base::Keys(lab) = found("lab").base else {
            panic!("no keys");
        };
        assert_eq!(lab.session_token.unwrap().expose(), "t");
    }

    #[test]
    fn roles_are_taken_on_from_the_source_outward() {
        let profile = found("twice");
        assert!(matches!(&profile.base, Base::Keys(keys) if keys.access_key_id == "LAB"));
        let roles: Vec<_> = profile.roles.iter().map(|role| role.arn.as_str()).collect();
        assert_eq!(roles, ["arn:aws:iam::1:role/a", "arn:aws:iam::1:role/b"]);
        assert_eq!(profile.roles[0].external_id.as_deref(), Some("x"));
        assert!(matches!(found("machine").base, Base::Instance));
        let made = found("of-made");
        let command = "/opt/keys --for 'lab one'";
        assert!(matches!(&made.base, Base::Process(found) if found == command));
        assert_eq!(made.roles.len(), 1);
        let web = found("web");
        assert!(matches!(web.base, Base::WebIdentity(_)) && web.roles.is_empty());
    }

    #[test]
    fn a_profile_that_leads_nowhere_says_why() {
        let why = |profile| find(profile, true).err().unwrap();
        assert!(why("circle").contains("too many roles"));
        assert!(why("sso").contains("sso_session, which is not supported"));
        assert!(find("nobody", true).unwrap().is_none());
    }

    #[test]
    fn a_default_profile_without_credentials_leaves_the_word_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "[default]\nregion = eu-west-1\n").unwrap();
        let chain = Chain {
            profile: "default".into(),
            files: vec![dir.path().join("nothing"), path],
            ..Chain::default()
        };
        assert!(super::profile(&chain).unwrap().is_none());
    }
}
