//! The ledger over HTTP: `/admin/v1/usage`, `/admin/v1/records` and `/admin/v1/audit`.
//!
//! | | |
//! |---|---|
//! | `GET usage?start&end&resolution&group_by&timezone&format` | sums over time, see [`usage`] |
//! | `GET records?start&end&limit&after` | rows, the newest first |
//! | `GET records/export?format=jsonl\|csv&limit&after` | rows, the oldest first; `x-strait-next` is the next page's `after` |
//! | `GET records/{id}/body` | what was said in an exchange, where that is kept |
//! | `DELETE records?user=U` | deletes what is kept of an end user, on every node, kept answers of `/v1/responses` too |
//! | `GET audit?limit&before&actor&action` | administrative actions, the last first |
//!
//! Rows and sums are narrowed by `key`, `user`, `model` and the others of [`search::FIELDS`], by `status`, by `tag` and by
//! `metadata.NAME`.
//! Times are RFC 3339, a date (in `timezone`), or seconds since 1970; the default is the last day.

use http::Method;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal, json_answer, unexpected};
use super::audit;
use super::csv::csv_line;
use super::drain::{Question, Told};
use super::entry::Id;
use super::gone::Erased;
use super::metadata;
use super::parameters::Parameters;
use super::row::{COLUMNS, Cell, Row};
use super::search::{self, Filter};
use super::usage::{self, Group, Resolution, Series, Sums};
use super::{Failure, Ledger};
use crate::state::State;

const PREFIX: &str = "/admin/v1/";
/// Rows of a page.
const PAGE: i64 = 100;
const MOST_PAGE: i64 = 1000;
/// Rows of a piece of an export.
const MOST_EXPORT: i64 = 20_000;
const EXPORT: i64 = 5000;

type Outcome = Result<Answer, Refusal>;
type Within = Option<Vec<String>>;

/// A request to one of the ledger's paths.
pub struct Asked<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub accept: &'a str,
    /// Who asks, for the audit log.
    pub actor: &'a str,
    /// Only what belongs to one of these may be seen: paths `/ORGANISATION/TEAM/PROJECT/KEY` or the beginnings of such.
    pub within: Option<Vec<String>>,
}

/// Returns the parameters of a route, and what each says.
pub fn parameters(method: &str, path: &str) -> Vec<(&'static str, &'static str)> {
    let rest = path.strip_prefix(PREFIX).unwrap_or_default();
    let times = [
        (
            "start",
            "From this time: RFC 3339, a date, or seconds since 1970",
        ),
        ("end", "Until before this time"),
        ("timezone", "Where days begin, such as Europe/Berlin"),
    ];
    let pages = [
        ("limit", "The most on one page"),
        ("after", "`next` of the page before"),
    ];
    let fields = search::FIELDS.map(|(name, _)| (name, "Only where this stands there"));
    let others = [
        ("status", "Only of this status"),
        ("tag", "Only with this tag"),
    ];
    let format = ("format", "The form of the answer");
    let mut all = Vec::new();
    match (method, rest) {
        ("DELETE", _) => all.push(("user", "The end user")),
        _ if body_of(rest).is_some() => return all,
        (_, "usage") => {
            all.extend(times);
            all.push(("resolution", "minute, hour, day or month"));
            all.push(("group_by", "Names, parted by commas; metadata.NAME too"));
            all.push(format);
        }
        (_, "audit") => {
            all.extend([
                ("limit", "The most on one page"),
                ("before", "`next` of the page before"),
                ("actor", "Only theirs"),
                ("action", "Only these"),
            ]);
        }
        _ => {
            all.extend(times);
            all.extend(pages);
            if rest == "records/export" {
                all.push(format);
            }
        }
    }
    if method == "GET" && rest != "audit" {
        all.extend(fields.into_iter().chain(others));
    }
    all
}

/// Returns the forms, beside JSON, in which a route answers.
pub fn media(method: &str, path: &str) -> &'static [&'static str] {
    match (method, path.strip_prefix(PREFIX)) {
        ("GET", Some("usage")) => &["text/csv"],
        ("GET", Some("records/export")) => &["text/csv", "application/jsonl"],
        _ => &[],
    }
}

/// Returns the id of the exchange whose body is asked for.
fn body_of(rest: &str) -> Option<&str> {
    rest.strip_prefix("records/")?.strip_suffix("/body")
}

/// Answers a request.
pub async fn answer(ledger: &Ledger, state: &State, asked: Asked<'_>) -> Answer {
    let Asked { accept, within, .. } = asked;
    let parameters = Parameters::read(asked.query.unwrap_or_default());
    let deletes = asked.method == Method::DELETE;
    let rest = asked.path.strip_prefix(PREFIX).unwrap_or_default();
    if let Some(id) = body_of(rest) {
        let outcome = told_body(ledger, parameters, id, within, asked.actor).await;
        return outcome.unwrap_or_else(Refusal::into_answer);
    }
    let outcome = match rest {
        "usage" => told_usage(ledger, parameters, within, accept).await,
        "records" if deletes => erase(ledger, state, parameters, asked.actor).await,
        "records" => told_rows(ledger, parameters, within).await,
        "records/export" => export(ledger, parameters, within, accept).await,
        "audit" => told_audit(ledger, parameters, within).await,
        _ => Err(Refusal::not_found("There is nothing at this path.")),
    };
    outcome.unwrap_or_else(Refusal::into_answer)
}

async fn told_usage(
    ledger: &Ledger,
    mut parameters: Parameters,
    within: Within,
    accept: &str,
) -> Outcome {
    let zone = parameters.zone()?;
    let now = Timestamp::now();
    let end = parameters.time("end", &zone)?.unwrap_or(now);
    let start = parameters.time("start", &zone)?;
    let start = start.unwrap_or_else(|| end - 24.hours());
    if start >= end {
        return Err(Refusal::parameter("start", "must be before `end`"));
    }
    let resolution = parameters.one_of("resolution", &Resolution::ALL)?;
    let csv = parameters.format(&["json", "csv"])? == Some("csv") || accept.contains("text/csv");
    let mut groups = Vec::new();
    for name in parameters.list("group_by") {
        let Some(group) = Group::named(&name) else {
            let names = usage::GROUPS.map(|(name, _)| name).join(", ");
            let wrong = format!("may name {names} and metadata.NAME");
            return Err(Refusal::parameter("group_by", &wrong));
        };
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.len() > usage::MOST_GROUPS {
        let wrong = format!("may name {} things at most", usage::MOST_GROUPS);
        return Err(Refusal::parameter("group_by", &wrong));
    }
    let mut filter = filter(&mut parameters, within)?;
    parameters.end()?;
    filter.start_us = Some(start.as_microsecond());
    filter.end_us = Some(end.as_microsecond());
    let query = usage::Query {
        filter,
        start,
        end,
        resolution: resolution.unwrap_or(Resolution::Hour),
        zone,
        groups,
    };
    // Before the database sums up what can't be told.
    query.times()?;
    let Told::Usage(slots) = ledger.ask(Question::Usage(Box::new(query.clone()))).await? else {
        return Err(unexpected());
    };
    if slots.len() > usage::MOST_POINTS {
        return Err(usage::TooMany.into());
    }
    let series = query.series(slots)?;
    Ok(if csv {
        Answer {
            status: 200,
            content_type: "text/csv; charset=utf-8",
            next: None,
            body: usage_csv(&query, &series),
        }
    } else {
        json_answer(200, &usage_json(&query, &series))
    })
}

fn usage_json(query: &usage::Query, series: &Series) -> Value {
    let mut data = Vec::new();
    for (values, points) in &series.groups {
        for (time, sums) in series.times.iter().zip(points) {
            let mut point = Map::new();
            point.insert("time".into(), time.to_string().into());
            for (group, value) in query.groups.iter().zip(values) {
                point.insert(group.name(), value.as_str().into());
            }
            point.append(&mut sums.json());
            data.push(Value::Object(point));
        }
    }
    json!({
        "object": "usage",
        "start": query.start.to_string(),
        "end": query.end.to_string(),
        "resolution": query.resolution.name(),
        "timezone": query.zone.iana_name().unwrap_or("UTC"),
        "group_by": query.groups.iter().map(Group::name).collect::<Vec<_>>(),
        "data": data,
        "total": series.total.json(),
    })
}

fn usage_csv(query: &usage::Query, series: &Series) -> Vec<u8> {
    let mut out = Vec::new();
    let head = std::iter::once("time".to_owned()).chain(query.groups.iter().map(Group::name));
    csv_line(&mut out, head.chain(Sums::NAMES.map(str::to_owned)));
    for (values, points) in &series.groups {
        for (time, sums) in series.times.iter().zip(points) {
            let line = std::iter::once(time.to_string());
            csv_line(
                &mut out,
                line.chain(values.iter().cloned()).chain(sums.cells()),
            );
        }
    }
    out
}

async fn told_rows(ledger: &Ledger, mut parameters: Parameters, within: Within) -> Outcome {
    let (query, limit) = rows_query(&mut parameters, within, PAGE, MOST_PAGE)?;
    parameters.end()?;
    let (rows, next) = page(ledger, query, limit).await?;
    let data: Vec<Value> = rows.iter().map(Row::json).collect();
    let body = json!({"object": "list", "data": data, "has_more": next.is_some(), "next": next});
    Ok(json_answer(200, &body))
}

async fn export(
    ledger: &Ledger,
    mut parameters: Parameters,
    within: Within,
    accept: &str,
) -> Outcome {
    let format = parameters.format(&["jsonl", "csv"])?;
    let (mut query, limit) = rows_query(&mut parameters, within, EXPORT, MOST_EXPORT)?;
    parameters.end()?;
    query.ascending = true;
    let (rows, next) = page(ledger, query, limit).await?;
    let mut body = Vec::new();
    let csv = format.map_or_else(|| accept.contains("text/csv"), |format| format == "csv");
    if csv {
        csv_line(&mut body, COLUMNS.map(str::to_owned));
        for row in &rows {
            let cells = row.cells().map(|cell| match cell {
                Cell::Text(text) => text.to_owned(),
                Cell::Number(number) => number.to_string(),
                Cell::Maybe(number) => number.map(|number| number.to_string()).unwrap_or_default(),
            });
            csv_line(&mut body, cells);
        }
    } else {
        for row in &rows {
            body.extend_from_slice(row.json().to_string().as_bytes());
            body.push(b'\n');
        }
    }
    Ok(Answer {
        status: 200,
        content_type: if csv {
            "text/csv; charset=utf-8"
        } else {
            "application/jsonl"
        },
        next,
        body,
    })
}

async fn erase(ledger: &Ledger, state: &State, mut parameters: Parameters, actor: &str) -> Outcome {
    let user = parameters.take("user").filter(|user| !user.is_empty());
    parameters.end()?;
    let Some(user) = user else {
        return Err(Refusal::parameter("user", "must name the end user"));
    };
    if !ledger.is_on() {
        return Err(Failure::Off.into());
    }
    let responses = state.responses().erase(&user).await;
    let responses = responses.map_err(|error| Failure::Unavailable(error.message.into_owned()))?;
    let Told::Erased(Erased { rows, bodies }) = ledger.ask(Question::Erase(user)).await? else {
        return Err(unexpected());
    };
    let mut gone = json!({"rows": rows, "bodies": bodies, "responses": responses});
    // Not who: the log is for ever.
    ledger.audit(actor, "records.erase", "user", &gone);
    gone["object"] = "erased".into();
    Ok(json_answer(200, &gone))
}

async fn told_body(
    ledger: &Ledger,
    parameters: Parameters,
    id: &str,
    within: Within,
    actor: &str,
) -> Outcome {
    parameters.end()?;
    let missing = || {
        Refusal::not_found("There is no such record, or nothing is kept of what was said in it.")
    };
    let id = Id::parse(id).ok_or_else(missing)?.text();
    // Whoever may not see the row may not know of it.
    let query = search::Query {
        filter: Filter {
            fields: vec![("id", id.clone())],
            within,
            ..Filter::default()
        },
        limit: 1,
        ..search::Query::default()
    };
    let Told::Rows(rows) = ledger.ask(Question::Rows(Box::new(query))).await? else {
        return Err(unexpected());
    };
    let Some(row) = rows.first() else {
        return Err(missing());
    };
    let above = [&row.org, &row.team, &row.project];
    let path: String = above.iter().map(|id| format!("/{id}")).collect();
    let Told::Body(kept) = ledger.ask(Question::Body(id.clone())).await? else {
        return Err(unexpected());
    };
    let kept = kept.ok_or_else(missing)?;
    let told = ledger.open(&kept).ok_or_else(|| Refusal {
        status: 422,
        code: "sealed",
        message: "What was said was sealed with another state.master_key.".into(),
        param: None,
    })?;
    ledger.audit(actor, "body.read", &id, &json!({"path": path}));
    Ok(json_answer(200, &told))
}

async fn told_audit(ledger: &Ledger, mut parameters: Parameters, within: Within) -> Outcome {
    let limit = parameters.number("limit", 1, MOST_PAGE)?.unwrap_or(PAGE);
    let query = audit::Query {
        before: parameters.number("before", 1, i64::MAX)?,
        actor: parameters.take("actor"),
        action: parameters.take("action"),
        within,
        limit: limit + 1,
    };
    parameters.end()?;
    let Told::Audit(mut links) = ledger.ask(Question::Audit(query)).await? else {
        return Err(unexpected());
    };
    let more = links.len() as i64 > limit;
    links.truncate(usize::try_from(limit).unwrap_or(0));
    let next = links.last().filter(|_| more).map(|link| link.seq);
    let data: Vec<Value> = links.iter().map(audit::Link::json).collect();
    let body = json!({"object": "list", "data": data, "has_more": more, "next": next});
    Ok(json_answer(200, &body))
}

/// Reads which rows are wanted, and how many.
fn rows_query(
    parameters: &mut Parameters,
    within: Within,
    usual: i64,
    most: i64,
) -> Result<(search::Query, i64), Refusal> {
    let zone = parameters.zone()?;
    let mut filter = filter(parameters, within)?;
    let time = |at: Option<Timestamp>| at.map(Timestamp::as_microsecond);
    filter.start_us = time(parameters.time("start", &zone)?);
    filter.end_us = time(parameters.time("end", &zone)?);
    let limit = parameters.number("limit", 1, most)?.unwrap_or(usual);
    let after = match parameters.take("after") {
        None => None,
        Some(after) => {
            let id = Id::parse(&after);
            Some(id.ok_or_else(|| Refusal::parameter("after", "is no id of a record"))?)
        }
    };
    let query = search::Query {
        filter,
        after,
        ..search::Query::default()
    };
    Ok((query, limit))
}

/// Returns a page of rows, and what the next one begins after.
async fn page(
    ledger: &Ledger,
    query: search::Query,
    limit: i64,
) -> Result<(Vec<Row>, Option<String>), Refusal> {
    let query = search::Query {
        limit: limit + 1,
        ..query
    };
    let Told::Rows(mut rows) = ledger.ask(Question::Rows(Box::new(query))).await? else {
        return Err(unexpected());
    };
    let more = rows.len() as i64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(0));
    let next = rows.last().filter(|_| more).map(|row| row.id.clone());
    Ok((rows, next))
}

fn filter(parameters: &mut Parameters, within: Within) -> Result<Filter, Refusal> {
    let mut filter = Filter {
        within,
        ..Filter::default()
    };
    for (name, column) in search::FIELDS {
        if let Some(value) = parameters.take(name) {
            filter.fields.push((column, value));
        }
    }
    filter.status = parameters.number("status", 0, 999)?;
    filter.tag = parameters.take("tag");
    for (name, value) in parameters.take_all(metadata::PREFIX) {
        let Some(field) = metadata::field(&name) else {
            return Err(Refusal::parameter(&name, "names no field of metadata"));
        };
        filter.metadata.push((field.to_owned(), value));
    }
    Ok(filter)
}

/// Writes RFC 3339 in UTC.
pub fn time(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |time| time.to_string())
}

/// Reads a time zone's name.
pub(super) fn zone(name: &str) -> Result<TimeZone, Refusal> {
    if name.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name)
        .map_err(|_| Refusal::parameter("timezone", "is no time zone, such as Europe/Berlin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(path: &str, query: &str) -> Answer {
        let asked = Asked {
            method: &Method::GET,
            path: &format!("/admin/v1/{path}"),
            query: Some(query),
            accept: "",
            actor: "operator",
            within: None,
        };
        let dir = tempfile::tempdir().expect("a folder");
        let state = State::open(dir.path(), Default::default()).expect("a database");
        answer(&Ledger::off(), &state, asked).await
    }

    #[tokio::test]
    async fn a_ledger_that_is_off_says_so() {
        for path in ["usage", "records", "audit", "records/export"] {
            let answer = told(path, "").await;
            assert_eq!(answer.status, 404, "{path}");
            let text = String::from_utf8(answer.body).expect("text");
            assert!(text.contains("ledger.enabled"), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_parameter_is_said_with_its_name() {
        for (path, query, name) in [
            ("usage", "start=yesterday", "start"),
            ("usage", "start=2026-03-02&end=2026-03-01", "start"),
            ("usage", "resolution=weekly", "resolution"),
            ("usage", "group_by=colour", "group_by"),
            ("usage", "group_by=key,user,tag,model,provider", "group_by"),
            ("usage", "timezone=Mars", "timezone"),
            ("usage", "format=xml", "format"),
            ("usage", "grup_by=key", "grup_by"),
            ("usage", "group_by=metadata.a%20b", "group_by"),
            ("records", "metadata.a'b=c", "metadata.a'b"),
            ("usage", "key=a&key=b", "key"),
            ("records", "limit=0", "limit"),
            ("records", "limit=1001", "limit"),
            ("records", "after=x", "after"),
            ("records", "status=ok", "status"),
            ("records/export", "format=xlsx", "format"),
            ("audit", "before=-1", "before"),
        ] {
            let answer = told(path, query).await;
            let text = String::from_utf8(answer.body).expect("text");
            assert_eq!(answer.status, 400, "{query}: {text}");
            assert!(text.contains(&format!("`{name}`")), "{query}: {text}");
            let told: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(told["error"]["param"], name, "{query}: {text}");
        }
    }
}
