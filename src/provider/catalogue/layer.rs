//! Models that lie over the built-in ones: those of a file, and what the configuration says of single ones.
//!
//! A file is text as `conf/models.tsv`, or JSON: `{"models": [{"provider": …, "id": …, facts}]}`. It is taken as a
//! whole or not at all: a price that can't be read would otherwise be the old one, and nobody would know.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::{Line, Model, Row, TABLE, intern, lower};

/// A file with more rows was made wrongly.
const MOST_ROWS: usize = 60_000;

/// Models in order, and by id.
#[derive(Default)]
pub struct Layer {
    /// By provider, then lower-case id.
    models: Vec<&'static Model>,
    /// By lower-case id.
    by_id: Vec<&'static Model>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Layer({} models)", self.models.len())
    }
}

/// What the configuration says of a model, checked.
#[derive(Debug, Clone)]
pub struct Override {
    pub provider: String,
    pub id: String,
    row: Row,
    /// Of the text it was read from: two that say the same are the same.
    text: String,
}

impl PartialEq for Override {
    fn eq(&self, other: &Self) -> bool {
        (&self.provider, &self.id, &self.text) == (&other.provider, &other.id, &other.text)
    }
}

impl Layer {
    /// A larger file is not read.
    pub const MOST_BYTES: usize = 32 << 20;

    pub(super) fn new(mut models: Vec<&'static Model>) -> Self {
        models.sort_by(|a, b| a.provider.cmp(b.provider).then_with(|| lower(a.id, b.id)));
        let mut by_id = models.clone();
        by_id.sort_by(|a, b| lower(a.id, b.id));
        Self { models, by_id }
    }

    /// Reads a file of models and checks it as a whole. Errors name the row at fault.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        if file.len() > Self::MOST_BYTES {
            return Err(format!("is larger than {} bytes", Self::MOST_BYTES));
        }
        let text = std::str::from_utf8(file).map_err(|_| "is not UTF-8")?;
        let is_json = text.trim_start().starts_with('{');
        let rows = if is_json { json(text)? } else { lines(text)? };
        if rows.is_empty() {
            return Err("has no models".into());
        }
        let mut models = Vec::with_capacity(rows.len());
        for (provider, id, row) in rows {
            let line = Line {
                provider: intern::word(&provider),
                id: intern::word(&id),
                facts: "",
                retired: false,
            };
            if line.provider.is_empty() || line.id.is_empty() {
                return Err("has more different names than this process can hold".into());
            }
            let model = row.into_model(line);
            // Most of a file says what is built in.
            let built_in = TABLE.find(line.provider, line.id).map(|at| TABLE.model(at));
            models.push(match built_in.filter(|built_in| **built_in == model) {
                Some(built_in) => built_in,
                None => intern::model(model)?,
            });
        }
        Ok(Self::new(models))
    }

    pub fn len(&self) -> usize {
        self.models.len()
    }

    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    pub(super) fn find(&self, provider: &str, id: &str) -> Option<&'static Model> {
        let order = |model: &&'static Model| {
            let provider = model.provider.cmp(provider);
            provider.then_with(|| lower(model.id, id))
        };
        let at = self.models.binary_search_by(order).ok()?;
        self.models.get(at).copied()
    }

    pub(super) fn served_by(&self, provider: &str) -> &[&'static Model] {
        let first = self
            .models
            .partition_point(|model| model.provider < provider);
        let rest = self.models.get(first..).unwrap_or_default();
        let many = rest.partition_point(|model| model.provider == provider);
        rest.get(..many).unwrap_or_default()
    }

    pub(super) fn same_id(&self, id: &str) -> &[&'static Model] {
        let first = self
            .by_id
            .partition_point(|model| lower(model.id, id) == Ordering::Less);
        let rest = self.by_id.get(first..).unwrap_or_default();
        let same = rest.partition_point(|model| lower(model.id, id) == Ordering::Equal);
        rest.get(..same).unwrap_or_default()
    }

    pub(super) fn by_id(&self) -> &[&'static Model] {
        &self.by_id
    }
}

impl Override {
    /// Reads what `facts` (JSON, in the words of a file) says of a model. Errors say what is wrong with it.
    pub fn read(provider: &str, id: &str, facts: &str) -> Result<Self, String> {
        named(provider, id)?;
        let row = read(facts)?;
        row.check()?;
        Ok(Self {
            provider: provider.to_owned(),
            id: id.to_owned(),
            row,
            text: facts.to_owned(),
        })
    }

    /// Returns `below` with what this says, or a new model.
    pub(super) fn over(&self, below: Option<&'static Model>) -> Result<&'static Model, String> {
        let model = match below {
            Some(below) => self.row.clone().over(below.clone()),
            None => self.row.clone().into_model(Line {
                provider: intern::word(&self.provider),
                id: intern::word(&self.id),
                facts: "",
                retired: false,
            }),
        };
        intern::model(model)
    }
}

type Named = (String, String, Row);

fn lines(text: &str) -> Result<Vec<Named>, String> {
    let mut rows = Vec::new();
    let mut seen = Seen::default();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: String| format!("line {}: {what}", at + 1);
        let mut fields = line.splitn(3, '\t');
        let (Some(provider), Some(id), Some(facts)) = (fields.next(), fields.next(), fields.next())
        else {
            return Err(wrong(
                "must be provider, id and facts, with tabs between".into(),
            ));
        };
        let row = checked(provider, id, facts, &mut seen).map_err(wrong)?;
        rows.push((provider.to_owned(), id.to_owned(), row));
    }
    Ok(rows)
}

fn json(text: &str) -> Result<Vec<Named>, String> {
    #[derive(serde::Deserialize)]
    struct File<'t> {
        #[serde(borrow)]
        models: Vec<&'t RawValue>,
    }
    let file: File<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    let mut seen = Seen::default();
    for (at, raw) in file.models.into_iter().enumerate() {
        let wrong = |what: String| format!("models[{at}]: {what}");
        let mut facts: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(raw.get()).map_err(|error| wrong(error.to_string()))?;
        let mut name = |key| match facts.remove(key) {
            Some(serde_json::Value::String(name)) => Ok(name),
            Some(_) | None => Err(wrong(format!("`{key}` must be a string"))),
        };
        let (provider, id) = (name("provider")?, name("id")?);
        let facts = serde_json::Value::Object(facts).to_string();
        let row = checked(&provider, &id, &facts, &mut seen).map_err(wrong)?;
        rows.push((provider, id, row));
    }
    Ok(rows)
}

/// Names met so far: twice is a mistake, because only one could count.
type Seen = HashMap<(String, String), ()>;

fn checked(provider: &str, id: &str, facts: &str, seen: &mut Seen) -> Result<Row, String> {
    named(provider, id)?;
    let key = (provider.to_owned(), id.to_ascii_lowercase());
    if seen.insert(key, ()).is_some() {
        return Err(format!("{provider}/{id} is there twice"));
    }
    if seen.len() > MOST_ROWS {
        return Err(format!("there are more than {MOST_ROWS} models"));
    }
    let row = read(facts).map_err(|what| format!("{provider}/{id}: {what}"))?;
    row.check()
        .map_err(|what| format!("{provider}/{id}: {what}"))?;
    Ok(row)
}

fn named(provider: &str, id: &str) -> Result<(), String> {
    let is_name = |name: &str| {
        (1..=intern::LONGEST_WORD).contains(&name.len())
            && !name.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    if !is_name(provider) || provider.contains('/') {
        return Err("`provider` must be a name without spaces and /".into());
    }
    if !is_name(id) {
        return Err("`id` must be a name without spaces".into());
    }
    Ok(())
}

fn read(facts: &str) -> Result<Row, String> {
    serde_json::from_str(facts).map_err(|error| {
        // Lines and columns of a text that nobody sees.
        let text = error.to_string();
        let end = text.rfind(" at line ").unwrap_or(text.len());
        text[..end].to_owned()
    })
}
