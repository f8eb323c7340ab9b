//! Usage over time: sums of the ledger's rows by minute, hour, day or month of a time zone and by what they have in
//! common, with zeros where there was nothing.
//!
//! What the database sums up is read from rows, or from the sums that are kept beside them as far as these go (`told`).

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use serde_json::{Map, Value, json};

use super::search::Filter;
use super::{metadata, sums};
use crate::provider::cost;

/// Points of an answer, over all groups.
pub const MOST_POINTS: usize = 100_000;
/// Things that may be grouped by at once.
pub const MOST_GROUPS: usize = 4;
pub(super) const MICRO: i64 = 1_000_000;
/// Sums of pico-dollars are made in two parts, or a large one would not fit.
pub(super) const PART: i64 = 1_000_000;

/// What can be grouped by, beside metadata, and the column where it stands.
pub const GROUPS: [(&str, &str); 16] = [
    ("org", "org"),
    ("team", "team"),
    ("project", "project"),
    ("key", "api_key"),
    ("user", "end_user"),
    ("session", "session"),
    ("tag", "tags"),
    ("model_requested", "model_requested"),
    ("model", "model"),
    ("provider", "provider"),
    ("endpoint", "endpoint"),
    ("error", "error"),
    ("cache", "cache"),
    ("state", "state"),
    ("status", "status"),
    // Copies that were sent to try another model, and all else.
    ("shadow", "shadow_of"),
];

/// One thing that is grouped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// Of [`GROUPS`].
    Known {
        name: &'static str,
        column: &'static str,
    },
    /// What stands under a name in the metadata.
    Metadata(String),
}

impl Group {
    /// Finds it by the name that the API has for it.
    pub fn named(name: &str) -> Option<Self> {
        // What the row says is used: the model that answered.
        let name = match name {
            "model_used" => "model",
            "provider_used" => "provider",
            name => name,
        };
        if let Some(field) = metadata::field(name) {
            return Some(Self::Metadata(field.to_owned()));
        }
        let mut known = GROUPS.into_iter();
        let (name, column) = known.find(|(known, _)| *known == name)?;
        Some(Self::Known { name, column })
    }

    pub fn name(&self) -> String {
        match self {
            Group::Known { name, .. } => (*name).to_owned(),
            Group::Metadata(field) => format!("{}{field}", metadata::PREFIX),
        }
    }

    fn is_tag(&self) -> bool {
        matches!(self, Group::Known { name: "tag", .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    Minute,
    Hour,
    Day,
    Month,
}

impl Resolution {
    pub const ALL: [(&'static str, Resolution); 4] = [
        ("minute", Resolution::Minute),
        ("hour", Resolution::Hour),
        ("day", Resolution::Day),
        ("month", Resolution::Month),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Resolution::Minute => "minute",
            Resolution::Hour => "hour",
            Resolution::Day => "day",
            Resolution::Month => "month",
        }
    }

    /// Returns the seconds of its points, a month's as those of a day.
    fn seconds(self) -> i64 {
        match self {
            Resolution::Minute => 60,
            Resolution::Hour => 3600,
            Resolution::Day | Resolution::Month => 86_400,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Query {
    /// With both ends.
    pub filter: Filter,
    pub start: Timestamp,
    pub end: Timestamp,
    pub resolution: Resolution,
    pub zone: TimeZone,
    pub groups: Vec<Group>,
}

/// What some rows come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub requests: i64,
    pub errors: i64,
    pub interrupted: i64,
    pub input: i64,
    pub output: i64,
    pub cache_read: i64,
    pub cache_write: i64,
    pub reasoning: i64,
    pub cost_pico: u64,
    pub saved_pico: u64,
    pub duration_us: i64,
}

/// A row of the database's answer: a slot of time, the groups' values, and sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub at_us: i64,
    pub values: Vec<String>,
    pub sums: Sums,
}

/// Whole series, one for each group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// When each point begins.
    pub times: Vec<Timestamp>,
    pub groups: BTreeMap<Vec<String>, Vec<Sums>>,
    pub total: Sums,
}

/// More points than an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Sums {
    pub fn add(&mut self, other: &Sums) {
        for (mine, more) in [
            (&mut self.requests, other.requests),
            (&mut self.errors, other.errors),
            (&mut self.interrupted, other.interrupted),
            (&mut self.input, other.input),
            (&mut self.output, other.output),
            (&mut self.cache_read, other.cache_read),
            (&mut self.cache_write, other.cache_write),
            (&mut self.reasoning, other.reasoning),
            (&mut self.duration_us, other.duration_us),
        ] {
            *mine = mine.saturating_add(more);
        }
        self.cost_pico = self.cost_pico.saturating_add(other.cost_pico);
        self.saved_pico = self.saved_pico.saturating_add(other.saved_pico);
    }

    /// Names of the columns of a CSV, in the order of [`Sums::cells`].
    pub const NAMES: [&'static str; 11] = [
        "requests",
        "errors",
        "interrupted",
        "input",
        "output",
        "cache_read",
        "cache_write",
        "reasoning",
        "cost_usd",
        "saved_usd",
        "mean_duration_us",
    ];

    pub fn cells(&self) -> [String; 11] {
        [
            self.requests.to_string(),
            self.errors.to_string(),
            self.interrupted.to_string(),
            self.input.to_string(),
            self.output.to_string(),
            self.cache_read.to_string(),
            self.cache_write.to_string(),
            self.reasoning.to_string(),
            cost::usd(self.cost_pico),
            cost::usd(self.saved_pico),
            self.mean_duration_us().to_string(),
        ]
    }

    fn mean_duration_us(&self) -> i64 {
        self.duration_us.checked_div(self.requests).unwrap_or(0)
    }

    pub fn json(&self) -> Map<String, Value> {
        let value = json!({
            "requests": self.requests,
            "errors": self.errors,
            "interrupted": self.interrupted,
            "input": self.input,
            "output": self.output,
            "cache_read": self.cache_read,
            "cache_write": self.cache_write,
            "reasoning": self.reasoning,
            "cost_usd": cost::usd(self.cost_pico),
            "cost_pico": self.cost_pico,
            "saved_usd": cost::usd(self.saved_pico),
            "saved_pico": self.saved_pico,
            "mean_duration_us": self.mean_duration_us(),
        });
        match value {
            Value::Object(object) => object,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        }
    }
}

impl Query {
    /// Returns the length of the database's slots, in seconds: the longest of which none lies across two points.
    pub(super) fn step(&self) -> i64 {
        let times = self.times().unwrap_or_default();
        let whole = |step: &i64| {
            let fits = |time: &Timestamp| time.as_second().rem_euclid(*step) == 0;
            *step <= self.resolution.seconds() && times.iter().all(fits)
        };
        // A zone that is no quarters of an hour away from UTC was last seen in 1972.
        let least = self.resolution.seconds().min(900);
        sums::LENGTHS.into_iter().find(whole).unwrap_or(least)
    }

    /// Returns the fields of metadata by which sums must be kept to answer it from them; `None`: it asks what no sum is
    /// kept by.
    pub(super) fn fields(&self) -> Option<Vec<&str>> {
        let filter = &self.filter;
        let column = |(column, _): &(&str, String)| sums::has(column);
        if filter.tag.is_some() || !filter.fields.iter().all(column) {
            return None;
        }
        let mut fields: Vec<&str> = filter.metadata.iter().map(|(field, _)| &**field).collect();
        for group in &self.groups {
            match group {
                Group::Known { name: "shadow", .. } => {}
                Group::Known { column, .. } if sums::has(column) => {}
                Group::Known { .. } => return None,
                Group::Metadata(field) => fields.push(field),
            }
        }
        fields.sort_unstable();
        fields.dedup();
        Some(fields)
    }

    /// Returns when each point begins, the first one at or before the start.
    pub fn times(&self) -> Result<Vec<Timestamp>, TooMany> {
        let mut times = Vec::new();
        let Some(mut at) = self.begin() else {
            return Ok(times);
        };
        while at.timestamp() < self.end {
            if times.len() >= MOST_POINTS {
                return Err(TooMany);
            }
            times.push(at.timestamp());
            let next = match self.resolution {
                Resolution::Minute => at.checked_add(1.minute()),
                Resolution::Hour => at.checked_add(1.hour()),
                Resolution::Day => at.checked_add(1.day()).and_then(|at| at.start_of_day()),
                Resolution::Month => at.checked_add(1.month()).and_then(|at| at.start_of_day()),
            };
            match next {
                Ok(next) if next.timestamp() > at.timestamp() => at = next,
                Ok(_) | Err(_) => break,
            }
        }
        Ok(times)
    }

    /// Returns the beginning of the minute, hour, day or month in which the start lies.
    fn begin(&self) -> Option<Zoned> {
        let start = self.start.to_zoned(self.zone.clone());
        let floor = |seconds: i64| {
            // Counted on the clock of the place, whose hours may begin at another minute than UTC's.
            let offset = i64::from(start.offset().seconds());
            let local = self.start.as_second() + offset;
            let at = local - local.rem_euclid(seconds) - offset;
            Timestamp::from_second(at).ok()
        };
        let zoned = |at: Timestamp| at.to_zoned(self.zone.clone());
        match self.resolution {
            Resolution::Minute => floor(60).map(zoned),
            Resolution::Hour => floor(3600).map(zoned),
            Resolution::Day => start.start_of_day().ok(),
            Resolution::Month => start.first_of_month().ok()?.start_of_day().ok(),
        }
    }

    /// Puts what the database summed into whole series.
    pub fn series(&self, slots: Vec<Slot>) -> Result<Series, TooMany> {
        let times = self.times()?;
        let tag = self.groups.iter().position(Group::is_tag);
        let mut series = Series {
            groups: BTreeMap::new(),
            total: Sums::default(),
            times,
        };
        let points = series.times.len();
        if self.groups.is_empty() {
            series
                .groups
                .insert(Vec::new(), vec![Sums::default(); points]);
        }
        for mut slot in slots {
            series.total.add(&slot.sums);
            let later = series
                .times
                .partition_point(|time| time.as_microsecond() <= slot.at_us);
            // A first slot may begin before the first point does.
            let point = later.saturating_sub(1);
            // Who has several tags counts for each of them, and once in the total.
            let tags = tag.map(|at| (at, tags(&slot.values[at])));
            let of = tags.as_ref().map_or(1, |(_, tags)| tags.len());
            for which in 0..of {
                if let Some((at, tags)) = &tags {
                    slot.values[*at].clone_from(&tags[which]);
                }
                if !series.groups.contains_key(&slot.values) {
                    if (series.groups.len() + 1) * points > MOST_POINTS {
                        return Err(TooMany);
                    }
                    series
                        .groups
                        .insert(slot.values.clone(), vec![Sums::default(); points]);
                }
                let group = series.groups.get_mut(&slot.values);
                if let Some(sums) = group.and_then(|group| group.get_mut(point)) {
                    sums.add(&slot.sums);
                }
            }
        }
        Ok(series)
    }
}

/// Returns the tags of a row; one empty for none.
fn tags(text: &str) -> Vec<String> {
    let mut tags: Vec<String> = serde_json::from_str(text).unwrap_or_default();
    tags.sort();
    tags.dedup();
    if tags.is_empty() {
        tags.push(String::new());
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(start: &str, end: &str, resolution: Resolution, zone: &str) -> Query {
        Query {
            filter: Filter::default(),
            start: start.parse().expect("a time"),
            end: end.parse().expect("a time"),
            resolution,
            zone: TimeZone::get(zone).expect("a zone"),
            groups: Vec::new(),
        }
    }

    fn times(query: &Query) -> Vec<String> {
        let times = query.times().expect("not too many");
        times.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn points_begin_where_the_clock_of_the_zone_says() {
        let (start, end) = ("2026-03-28T10:20:30Z", "2026-03-30T00:00:00Z");
        assert_eq!(
            times(&query(start, end, Resolution::Day, "UTC")),
            ["2026-03-28T00:00:00Z", "2026-03-29T00:00:00Z"]
        );
        // The day of the change to summer time is an hour shorter.
        assert_eq!(
            times(&query(start, end, Resolution::Day, "Europe/Berlin")),
            [
                "2026-03-27T23:00:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z"
            ]
        );
        let hours = query(
            start,
            "2026-03-28T12:00:00Z",
            Resolution::Hour,
            "Asia/Kolkata",
        );
        assert_eq!(
            times(&hours),
            [
                "2026-03-28T09:30:00Z",
                "2026-03-28T10:30:00Z",
                "2026-03-28T11:30:00Z"
            ]
        );
        let months = query(start, "2026-05-01T00:00:00Z", Resolution::Month, "UTC");
        assert_eq!(
            times(&months),
            ["2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"]
        );
        let minutes = query(start, "2026-03-28T10:22:00Z", Resolution::Minute, "UTC");
        assert_eq!(
            times(&minutes),
            ["2026-03-28T10:20:00Z", "2026-03-28T10:21:00Z"]
        );
    }

    #[test]
    fn slots_are_as_long_as_the_points_let_them_be() {
        for (zone, resolution, step) in [
            ("UTC", Resolution::Month, 86_400),
            ("UTC", Resolution::Day, 86_400),
            ("UTC", Resolution::Hour, 3600),
            ("UTC", Resolution::Minute, 60),
            ("Europe/Berlin", Resolution::Day, 3600),
            ("Asia/Kathmandu", Resolution::Day, 900),
            ("Asia/Kathmandu", Resolution::Minute, 60),
        ] {
            let asked = query(
                "2026-03-01T00:00:00Z",
                "2026-03-04T00:00:00Z",
                resolution,
                zone,
            );
            assert_eq!(asked.step(), step, "{zone} {resolution:?}");
        }
    }

    #[test]
    fn no_zone_has_a_point_within_a_slot() {
        for zone in [
            "UTC",
            "Europe/Berlin",
            "Asia/Kathmandu",
            "Australia/Lord_Howe",
            "America/St_Johns",
        ] {
            for resolution in Resolution::ALL.map(|(_, resolution)| resolution) {
                let (start, end) = match resolution {
                    Resolution::Minute => ("2026-04-04T00:00:00Z", "2026-04-05T00:00:00Z"),
                    Resolution::Hour | Resolution::Day | Resolution::Month => {
                        ("2025-12-31T20:00:00Z", "2026-12-31T00:00:00Z")
                    }
                };
                let query = query(start, end, resolution, zone);
                let step = query.step();
                for time in query.times().expect("not too many") {
                    assert_eq!(time.as_second() % step, 0, "{zone} {time}");
                }
            }
        }
    }

    fn slot(at: &str, values: &[&str], requests: i64) -> Slot {
        Slot {
            at_us: at.parse::<Timestamp>().expect("a time").as_microsecond(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            sums: Sums {
                requests,
                cost_pico: 10,
                ..Sums::default()
            },
        }
    }

    #[test]
    fn what_there_was_not_is_zero() {
        let query = query(
            "2026-03-01T00:00:00Z",
            "2026-03-04T00:00:00Z",
            Resolution::Day,
            "UTC",
        );
        let series = query
            .series(vec![slot("2026-03-02T00:00:00Z", &[], 3)])
            .expect("few");
        let requests: Vec<i64> = series.groups[&Vec::new()]
            .iter()
            .map(|sums| sums.requests)
            .collect();
        assert_eq!(requests, [0, 3, 0]);
        assert_eq!(query.series(Vec::new()).expect("few").groups.len(), 1);
    }

    #[test]
    fn who_has_two_tags_counts_for_each_and_once_in_the_total() {
        let mut query = query(
            "2026-03-01T00:00:00Z",
            "2026-03-02T00:00:00Z",
            Resolution::Day,
            "UTC",
        );
        query.groups = ["model", "tag"]
            .map(|name| Group::named(name).expect("known"))
            .into();
        let at = "2026-03-01T00:00:00Z";
        let series = query
            .series(vec![
                slot(at, &["m", r#"["b","a","b"]"#], 2),
                slot(at, &["m", r#"["a"]"#], 1),
                slot(at, &["m", ""], 5),
            ])
            .expect("few");
        let requests = |tag: &str| series.groups[&vec!["m".to_owned(), tag.to_owned()]][0].requests;
        assert_eq!((requests("a"), requests("b"), requests("")), (3, 2, 5));
        assert_eq!((series.total.requests, series.total.cost_pico), (8, 30));
    }

    #[test]
    fn too_many_points_are_not_made() {
        let minutes = query(
            "2020-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z",
            Resolution::Minute,
            "UTC",
        );
        assert_eq!(minutes.times(), Err(TooMany));
        let mut days = query(
            "2020-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z",
            Resolution::Day,
            "UTC",
        );
        days.groups = vec![Group::named("key").expect("known")];
        let slots = (0..100).map(|key| slot("2021-01-01T00:00:00Z", &[&key.to_string()], 1));
        assert_eq!(days.series(slots.collect()), Err(TooMany));
    }
}
