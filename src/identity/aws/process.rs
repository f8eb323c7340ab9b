//! Keys that a command prints, <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use super::FILE_LASTS;
use crate::identity::kept::Fetched;
use crate::provider::account::aws::Keys;
use crate::secret::Secret;

/// A command that hasn't ended by then is killed.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than this no command prints.
const MOST: u64 = 64 << 10;
/// How often it is looked after, once it has closed its output.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What it prints.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

/// A command under way, killed when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended can't be killed, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the command of a profile by the shell, as the official SDKs do.
pub async fn run(command: &str) -> Result<Fetched<Keys>, String> {
    let printed = tokio::time::timeout(PATIENCE, printed(command))
        .await
        .map_err(|_| "the credential_process did not end in time")??;
    // The error of the parser might show a part of the keys.
    let printed: Printed = serde_json::from_slice(&printed)
        .map_err(|_| "the credential_process printed no access keys")?;
    if printed.version != 1 {
        let version = printed.version;
        return Err(format!(
            "the credential_process printed version {version}, not 1"
        ));
    }
    let expires = printed
        .expiration
        .map(|text| text.parse::<jiff::Timestamp>());
    let expires = expires
        .transpose()
        .map_err(|_| "the credential_process printed an odd Expiration")?;
    Ok(Fetched {
        value: Keys {
            access_key_id: printed.access_key_id,
            secret_access_key: Secret::new(printed.secret_access_key),
            session_token: printed.session_token.map(Secret::new),
        },
        expires: expires.map(SystemTime::from),
        again: expires.is_none().then_some(FILE_LASTS),
    })
}

/// Returns the standard output of a command that succeeds.
async fn printed(command: &str) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("the credential_process can't be run: {error}");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null());
    // What it complains of goes where our own complaints go.
    let child = shell.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut running = Running(child);
    let output = running.0.stdout.take();
    let output = output.ok_or("the credential_process has no output")?;
    let read = tokio::task::spawn_blocking(move || {
        let mut printed = Vec::new();
        output.take(MOST).read_to_end(&mut printed)?;
        Ok(printed)
    });
    let read = read.await.map_err(|error| error.to_string())?;
    let printed = read.map_err(failed)?;
    loop {
        match running.0.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(printed),
            Some(status) => return Err(format!("the credential_process ended with {status}")),
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn why(command: &str) -> String {
        run(command).await.map(drop).unwrap_err()
    }

    #[tokio::test]
    async fn keys_are_what_the_command_prints() {
        let printed = r#"{"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": "s", "SessionToken": "t",
            "Expiration": "2126-11-30T00:00:00Z"}"#;
        let found = run(&format!("printf '%s' '{printed}'")).await.unwrap();
        assert_eq!(found.value.access_key_id, "AKID");
        assert_eq!(found.value.secret_access_key.expose(), "s");
        assert_eq!(found.value.session_token.unwrap().expose(), "t");
        assert!(found.expires.is_some() && found.again.is_none());
        let lasting = r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s"}"#;
        let found = run(&format!("echo '{lasting}'")).await.unwrap();
        assert!(found.expires.is_none() && found.again.is_some());
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why_and_never_what_it_printed() {
        assert!(
            why("echo '{\"AccessKeyId\": \"AKID\"'")
                .await
                .contains("no access keys")
        );
        let newer = r#"{"Version":2,"AccessKeyId":"AKID","SecretAccessKey":"hidden"}"#;
        let newer = why(&format!("echo '{newer}'")).await;
        assert!(
            newer.contains("version 2") && !newer.contains("hidden"),
            "{newer}"
        );
        assert!(why("exit 3").await.contains("3"));
        assert!(
            why("/nonexistent/command 2>/dev/null")
                .await
                .contains("127")
        );
        assert!(
            why("head -c 200000 /dev/zero")
                .await
                .contains("credential_process")
        );
    }
}
