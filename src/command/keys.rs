//! `strait keys`: makes keys and looks after them; asks the running gateway.

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::client::{self, Client, encoded};

/// Makes keys and looks after them; asks the running gateway.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a key and prints it, once.
    Create(Box<Create>),
    /// Lists keys, those of the configuration file too.
    List(List),
    /// Makes a new secret for a key and prints it; the one before holds for a while.
    Rotate(Rotate),
    /// Has a key refused, or no longer.
    Disable(Disable),
    /// Deletes a key with what is attached to it.
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct Create {
    #[command(flatten)]
    whom: client::Args,
    /// The project that it belongs to
    #[arg(long, value_name = "ID")]
    project: String,
    /// What it is called in records and lists
    #[arg(long)]
    name: String,
    /// Whose it is
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// It is refused from then on, such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// A model that it may use (* and ? are special); may be given several times. Without it: every model
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,
    /// Requests a minute
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,
    /// Tokens a minute
    #[arg(long, value_name = "N")]
    tpm: Option<u64>,
    /// Requests a day
    #[arg(long, value_name = "N")]
    rpd: Option<u64>,
    /// Tokens a day
    #[arg(long, value_name = "N")]
    tpd: Option<u64>,
    /// Requests at a time
    #[arg(long, value_name = "N")]
    concurrent: Option<u64>,
    /// USD that it may spend
    #[arg(long, value_name = "USD")]
    budget: Option<f64>,
    /// In what time
    #[arg(long, value_name = "ever|hour|day|week|month", default_value = "month")]
    every: String,
    /// Print the answer as it comes
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    whom: client::Args,
    /// Only those of this organisation, team or project
    #[arg(long, value_name = "ID")]
    under: Option<String>,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[command(flatten)]
    whom: client::Args,
    id: String,
    /// Seconds for which the secret before holds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    grace: u64,
    /// Print the answer as it comes
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Disable {
    #[command(flatten)]
    whom: client::Args,
    id: String,
    /// It is served again
    #[arg(long)]
    undo: bool,
}

#[derive(Debug, clap::Args)]
struct Delete {
    #[command(flatten)]
    whom: client::Args,
    id: String,
}

pub fn run(args: Args) -> ExitCode {
    let told = match args.command {
        Command::Create(args) => create(*args),
        Command::List(args) => list(args),
        Command::Rotate(args) => rotate(args),
        Command::Disable(args) => disable(args),
        Command::Delete(args) => delete(args),
    };
    match told {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn create(args: Create) -> Result<String, String> {
    let client = Client::new(args.whom)?;
    let mut attached = Vec::new();
    let mut limits = Map::new();
    for (name, limit) in [
        ("rpm", args.rpm),
        ("tpm", args.tpm),
        ("rpd", args.rpd),
        ("tpd", args.tpd),
        ("concurrent", args.concurrent),
    ] {
        if let Some(limit) = limit {
            limits.insert(name.into(), limit.into());
        }
    }
    if !limits.is_empty() {
        attached.push(("limits", limits));
    }
    let object = |value: Value| value.as_object().cloned().unwrap_or_default();
    if let Some(usd) = args.budget {
        let budget = json!({"usd": usd, "every": args.every});
        attached.push(("budgets", object(budget)));
    }
    if !args.models.is_empty() {
        let policy = json!({"allow": {"models": args.models}});
        attached.push(("policies", object(policy)));
    }
    let mut key = Map::new();
    key.insert("project".into(), args.project.into());
    key.insert("name".into(), args.name.into());
    for (name, value) in [("user", args.user), ("expires", args.expires)] {
        if let Some(value) = value {
            key.insert(name.into(), value.into());
        }
    }
    // It is served once everything that binds it is there.
    let waits = !attached.is_empty();
    if waits {
        key.insert("disabled".into(), true.into());
    }
    let mut made = said(&client, "POST", "/admin/v1/keys", &Value::Object(key))?;
    if waits {
        let id = text(&made, "id").to_owned();
        let path = format!("/admin/v1/keys/{}", encoded(&id));
        if let Err(message) = attach(&client, &id, &path, attached) {
            let _ = said(&client, "DELETE", &path, &Value::Null);
            return Err(message);
        }
        if let Some(made) = made.as_object_mut() {
            made.insert("disabled".into(), false.into());
        }
    }
    shown(&made, args.json)
}

fn attach(
    client: &Client,
    id: &str,
    path: &str,
    attached: Vec<(&str, Map<String, Value>)>,
) -> Result<(), String> {
    for (kind, mut body) in attached {
        body.insert("on".into(), id.into());
        let kind = format!("/admin/v1/{kind}");
        said(client, "POST", &kind, &Value::Object(body))?;
    }
    said(client, "PATCH", path, &json!({"disabled": false})).map(drop)
}

fn list(args: List) -> Result<String, String> {
    let client = Client::new(args.whom)?;
    let under = args
        .under
        .map(|under| format!("&under={}", encoded(&under)));
    let under = under.unwrap_or_default();
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/admin/v1/keys?limit=100{under}{cursor}");
        let page = said(&client, "GET", &path, &Value::Null)?;
        let data = page.get("data").and_then(Value::as_array);
        all.extend(data.into_iter().flatten().cloned());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => break,
        }
    }
    if args.json {
        return Ok(all.iter().map(|key| format!("{key}\n")).collect());
    }
    let mut rows = vec![["ID", "NAME", "PROJECT", "STATE", "EXPIRES"].map(str::to_owned)];
    for key in &all {
        let state = match (key.get("source"), key.get("disabled")) {
            (Some(source), _) if source == "file" => "file",
            (_, Some(Value::Bool(true))) => "disabled",
            (_, _) => "in force",
        };
        let cell = |name| text(key, name).to_owned();
        rows.push([
            cell("id"),
            cell("name"),
            cell("project"),
            state.to_owned(),
            cell("expires"),
        ]);
    }
    Ok(table(&rows))
}

fn table(rows: &[[String; 5]]) -> String {
    let width = |at: usize| {
        let widths = rows.iter().map(|row| row[at].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

fn rotate(args: Rotate) -> Result<String, String> {
    let path = format!("/admin/v1/keys/{}/rotate", encoded(&args.id));
    let client = Client::new(args.whom)?;
    let made = said(&client, "POST", &path, &json!({"grace": args.grace}))?;
    shown(&made, args.json)
}

fn disable(args: Disable) -> Result<String, String> {
    let path = format!("/admin/v1/keys/{}", encoded(&args.id));
    let body = json!({"disabled": !args.undo});
    said(&Client::new(args.whom)?, "PATCH", &path, &body)?;
    let state = if args.undo { "in force" } else { "disabled" };
    Ok(format!("{} is {state}\n", args.id))
}

fn delete(args: Delete) -> Result<String, String> {
    let path = format!("/admin/v1/keys/{}", encoded(&args.id));
    said(&Client::new(args.whom)?, "DELETE", &path, &Value::Null)?;
    Ok(format!("{} is deleted\n", args.id))
}

fn said(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = client.send(method, path, &body)?.success()?;
    serde_json::from_slice(&answer).map_err(|error| error.to_string())
}

/// Prints a key that was just made: its text alone, so that a script can keep it, and its id for people.
fn shown(made: &Value, whole: bool) -> Result<String, String> {
    if whole {
        return Ok(format!("{made}\n"));
    }
    let _ = writeln!(std::io::stderr(), "{}", text(made, "id"));
    Ok(format!("{}\n", text(made, "key")))
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
