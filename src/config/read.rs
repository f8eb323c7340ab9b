//! Reads typed values out of a parsed TOML document and collects every mistake instead of stopping at one.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::known::{self, Section};
use super::mistake::{At, Mistake, Place, Wrong, dotted, nearest};

pub(super) type Value<'t> = Spanned<DeValue<'t>>;
pub(super) type Parsed<T> = Result<T, Wrong>;

/// One text being read: where its lines begin, and what was found wrong so far.
pub(super) struct Reader<'a> {
    file: Arc<Path>,
    text: &'a str,
    line_starts: Vec<usize>,
    /// What isn't TOML.
    pub syntax: Vec<Mistake>,
    pub mistakes: Vec<Mistake>,
    pub warnings: Vec<Mistake>,
    /// The built-in catalogue: its rows have keys of their own.
    catalogue: bool,
}

/// A table whose keys are all known (those that aren't have been reported).
pub(super) struct Table<'t> {
    map: &'t DeTable<'t>,
    section: &'static Section,
    pub place: Place,
}

impl Table<'_> {
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Returns whether the key may stand here.
    pub fn takes(&self, key: &str) -> bool {
        self.section.keys.contains(&key)
    }

    pub fn is_array(&self, key: &str) -> bool {
        self.map
            .get(key)
            .is_some_and(|value| value.get_ref().is_array())
    }
}

impl<'a> Reader<'a> {
    pub fn new(file: &Path, text: &'a str, catalogue: bool) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            file: file.into(),
            text,
            line_starts,
            syntax: Vec::new(),
            mistakes: Vec::new(),
            warnings: Vec::new(),
            catalogue,
        }
    }

    /// Parses the text; what can't be parsed is reported, what can is returned.
    pub fn parse(&mut self) -> Spanned<DeTable<'a>> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            // The parser says "duplicate key" without saying which.
            let is_twice = error.message() == "duplicate key";
            let key = if is_twice {
                self.text.get(span.clone()).unwrap_or("")
            } else {
                ""
            };
            let message = if is_twice {
                "is given twice"
            } else {
                error.message()
            };
            let place = self.place(span.start, key.to_string());
            self.syntax.push(place.wrong(message));
        }
        document
    }

    /// Returns the mistakes and the warnings, without what only follows from a mistake of syntax.
    pub fn finish(mut self) -> (Vec<Mistake>, Vec<Mistake>) {
        let mut lines = std::collections::HashSet::new();
        for mistake in &self.syntax {
            if !lines.insert(mistake.line) {
                continue;
            }
            // After a broken header the keys seem to belong to the table before it.
            let line = |number: usize| self.line(number).trim_start();
            if line(mistake.line).starts_with('[') {
                let below = mistake.line + 1..=self.line_starts.len();
                lines.extend(below.take_while(|number| !line(*number).starts_with('[')));
            }
        }
        self.mistakes
            .retain(|mistake| !lines.contains(&mistake.line));
        self.mistakes.append(&mut self.syntax);
        (self.mistakes, self.warnings)
    }

    /// Returns the text of a line from its number, counted from 1.
    fn line(&self, number: usize) -> &str {
        let start = self
            .line_starts
            .get(number.saturating_sub(1))
            .copied()
            .unwrap_or(self.text.len());
        let end = self
            .line_starts
            .get(number)
            .copied()
            .unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or("")
    }

    /// Returns the line and column of a byte.
    pub fn place(&self, byte: usize, key: String) -> Place {
        let line = self
            .line_starts
            .partition_point(|start| *start <= byte)
            .max(1);
        let start = self.line_starts[line - 1];
        // Characters are counted in lines of a length that people read; else a long line would cost its square.
        const LONG: usize = 4096;
        let before = byte.saturating_sub(start);
        let column = match self.text.get(start..byte) {
            Some(text) if before <= LONG => text.chars().count(),
            _ => before,
        };
        Place {
            file: self.file.clone(),
            line,
            column: column + 1,
            key,
        }
    }

    pub fn root<'t>(&mut self, document: &'t Spanned<DeTable<'t>>) -> Table<'t> {
        let place = self.place(0, String::new());
        let table = Table {
            map: document.get_ref(),
            section: known::section(""),
            place,
        };
        self.check_keys(&table);
        table
    }

    /// Reads `value` as a table of `section`; reports unknown keys.
    pub fn open<'t>(
        &mut self,
        value: &'t Value<'t>,
        place: Place,
        section: &'static str,
    ) -> Option<Table<'t>> {
        let Some(map) = value.get_ref().as_table() else {
            self.mistakes
                .push(place.wrong(unlike("a table", value.get_ref())));
            return None;
        };
        let table = Table {
            map,
            section: known::section(section),
            place,
        };
        self.check_keys(&table);
        Some(table)
    }

    /// Reads the table at `key`.
    pub fn table<'t>(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
        section: &'static str,
    ) -> Option<Table<'t>> {
        let (value, place) = self.find(table, key)?;
        self.open(value, place, section)
    }

    /// Reads the value at `key`; `None` when it is absent or wrong.
    pub fn get<T>(
        &mut self,
        table: &Table<'_>,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<At<T>> {
        let (value, place) = self.find(table, key)?;
        self.value(value, place, &parse)
    }

    /// Reads the array at `key`; elements that are wrong are left out.
    pub fn list<T>(
        &mut self,
        table: &Table<'_>,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<At<Vec<At<T>>>> {
        let elements = self.elements(table, key, "an array")?;
        let value = elements
            .value
            .into_iter()
            .filter_map(|(value, place)| self.value(value, place, &parse))
            .collect();
        Some(At {
            value,
            place: elements.place,
        })
    }

    /// Reads the array at `key`, or the one value in place of it.
    pub fn one_or_list<T>(
        &mut self,
        table: &Table<'_>,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<At<Vec<At<T>>>> {
        let (value, place) = self.find(table, key)?;
        if value.get_ref().is_array() {
            return self.list(table, key, parse);
        }
        let one = self.value(value, place.clone(), &parse)?;
        Some(At {
            value: vec![one],
            place,
        })
    }

    /// Returns the elements of the array at `key`, unread.
    pub fn elements<'t>(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
        want: &str,
    ) -> Option<At<Vec<(&'t Value<'t>, Place)>>> {
        let (value, place) = self.find(table, key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.mistakes
                .push(place.wrong(unlike(want, value.get_ref())));
            return None;
        };
        let element = |(index, value): (usize, &'t Value<'t>)| {
            (
                value,
                self.place(value.span().start, format!("{}[{index}]", place.key)),
            )
        };
        let value = array.iter().enumerate().map(element).collect();
        Some(At { value, place })
    }

    /// Returns the entries of the table at `key`, whose keys are the user's own names, in the order of the text.
    pub fn names<'t>(
        &mut self,
        table: &Table<'t>,
        key: &'static str,
    ) -> Option<Vec<(At<String>, &'t Value<'t>)>> {
        let (value, place) = self.find(table, key)?;
        let Some(map) = value.get_ref().as_table() else {
            self.mistakes
                .push(place.wrong(unlike("a table", value.get_ref())));
            return None;
        };
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let named = |(key, value): (&Spanned<std::borrow::Cow<'t, str>>, &'t Value<'t>)| {
            let path = dotted(&place.key, key.get_ref());
            (
                At {
                    value: key.get_ref().to_string(),
                    place: self.place(key.span().start, path),
                },
                value,
            )
        };
        Some(entries.into_iter().map(named).collect())
    }

    /// Reads the table at `key` as names with values.
    pub fn map<T>(
        &mut self,
        table: &Table<'_>,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Vec<(At<String>, At<T>)>> {
        let names = self.names(table, key)?;
        let read = |(name, value): (At<String>, &Value<'_>)| {
            let place = self.place(value.span().start, name.place.key.clone());
            self.value(value, place, &parse).map(|value| (name, value))
        };
        Some(names.into_iter().filter_map(read).collect())
    }

    /// Reads one value.
    pub fn value<T>(
        &mut self,
        value: &Value<'_>,
        place: Place,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<At<T>> {
        match parse(value.get_ref()) {
            Ok(value) => Some(At { value, place }),
            Err(wrong) => {
                self.mistakes.push(place.wrong(wrong));
                None
            }
        }
    }

    /// Returns the value at `key`, unread.
    pub fn find<'t>(&self, table: &Table<'t>, key: &'static str) -> Option<(&'t Value<'t>, Place)> {
        debug_assert!(
            table.section.keys.contains(&key) || known::CATALOGUE_KEYS.contains(&key),
            "{key} is read but not in the table of known keys"
        );
        let value = table.map.get(key)?;
        Some((
            value,
            self.place(value.span().start, dotted(&table.place.key, key)),
        ))
    }

    fn check_keys(&mut self, table: &Table<'_>) {
        let section = table.section;
        let own: &[&str] = if self.catalogue && section.path == "providers.*" {
            known::CATALOGUE_KEYS
        } else {
            &[]
        };
        for key in table.map.keys() {
            let name: &str = key.get_ref();
            if section.keys.contains(&name) || own.contains(&name) {
                continue;
            }
            let wrong = if known::LATER.contains(&(section.path, name)) {
                Wrong::later("this key")
            } else {
                Wrong::suggest(
                    "unknown key",
                    nearest(name, section.keys.iter().copied())
                        .or_else(|| elsewhere(section, name)),
                )
            };
            let place = self.place(key.span().start, dotted(&table.place.key, name));
            self.mistakes.push(place.wrong(wrong));
        }
    }
}

/// Returns what people who know other gateways write for a key of ours.
fn elsewhere(section: &Section, name: &str) -> Option<&'static str> {
    let ours = match name.to_ascii_lowercase().as_str() {
        "api_key" | "apikey" | "api-key" | "token" | "secret" => "key",
        "url" | "api_base" | "baseurl" | "endpoint" | "host" | "address" => "base_url",
        "protocol" | "type" | "kind" | "api" => "protocols",
        "bind" | "port" | "addr" => "listen",
        "fallback" => "fallbacks",
        "retry" => "retries",
        "timeout" => "timeouts",
        "size" | "max_size" => "memory",
        "requests" | "requests_per_minute" => "rpm",
        "tokens" | "tokens_per_minute" => "tpm",
        "concurrency" | "max_parallel_requests" => "concurrent",
        _ => return None,
    };
    section.keys.contains(&ours).then_some(ours)
}

/// Returns the mistake of a value of another type.
pub(super) fn unlike(want: &str, found: &DeValue<'_>) -> Wrong {
    // The value itself isn't shown: it may be a secret in the wrong place.
    let found = match found {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    format!("must be {want}, found {found}").into()
}

pub(super) fn text(value: &DeValue<'_>) -> Parsed<String> {
    value
        .as_str()
        .map(str::to_string)
        .ok_or_else(|| unlike("a string", value))
}

pub(super) fn truth(value: &DeValue<'_>) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| {
        let meant = value
            .as_str()
            .filter(|text| matches!(*text, "true" | "false"));
        Wrong {
            suggestion: meant.map(str::to_string),
            ..unlike("true or false", value)
        }
    })
}

/// Returns a parser of whole numbers within `range`.
pub(super) fn whole(range: std::ops::RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Parsed<u64> {
    move |value| {
        let Some(written) = value.as_integer() else {
            let meant = value
                .as_str()
                .filter(|text| text.parse().is_ok_and(|number| range.contains(&number)));
            return Err(Wrong {
                suggestion: meant.map(str::to_string),
                ..unlike("an integer", value)
            });
        };
        let number = i128::from_str_radix(written.as_str(), written.radix()).ok();
        match number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| range.contains(number))
        {
            Some(number) => Ok(number),
            None if number.is_some_and(|number| number < i128::from(*range.start())) => {
                Err(format!("must be {} or more", range.start()).into())
            }
            None => Err(format!("must be at most {}", range.end()).into()),
        }
    }
}

/// Reads a number that is finite and not negative.
pub(super) fn number(value: &DeValue<'_>) -> Parsed<f64> {
    let written = match value {
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .map(|n| n as f64),
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::String(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => {
            return Err(unlike("a number", value));
        }
    };
    written
        .filter(|number: &f64| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "must be 0 or more, and finite".into())
}

/// Reads any value as the JSON text that says the same.
pub(super) fn json(value: &DeValue<'_>) -> Parsed<String> {
    let mut out = String::new();
    write_json(value, &mut out)?;
    Ok(out)
}

fn write_json(value: &DeValue<'_>, out: &mut String) -> Parsed<()> {
    match value {
        DeValue::String(text) => write_json_string(text, out),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix())
                .map_err(|_| "the integer is too large")?;
            out.push_str(&number.to_string());
        }
        DeValue::Float(float) => {
            let number: f64 = float.as_str().parse().map_err(|_| "not a number")?;
            if !number.is_finite() {
                return Err("JSON knows no infinite numbers".into());
            }
            out.push_str(&number.to_string());
        }
        DeValue::Boolean(truth) => out.push_str(if *truth { "true" } else { "false" }),
        DeValue::Datetime(_) => return Err("JSON knows no dates: write a string".into()),
        DeValue::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(element.get_ref(), out)?;
            }
            out.push(']');
        }
        DeValue::Table(map) => {
            out.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json_string(key.get_ref(), out);
                out.push(':');
                write_json(value.get_ref(), out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_json_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
