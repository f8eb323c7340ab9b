//! The ledger as a whole, over a database in a temporary folder.

use std::path::PathBuf;
use std::time::Instant;

use sqlx::Connection as _;

use super::gather::{Batch, Leaving};
use super::row::{DONE, INTERRUPTED, Row};
use super::search::{Filter, Query};
use super::segments::Leftover;
use super::*;
use crate::ledger::drain::Told;
use crate::observe::record::AttemptRecord;
use crate::protocol::usage::Usage;

pub(super) const LONG: Duration = Duration::from_secs(30);

pub(super) fn start(dir: &Path, settings: &Settings) -> Ledger {
    Ledger::start(dir, Location::Dir(dir.to_path_buf()), settings, &master())
}

pub(super) fn master() -> Secret {
    Secret::new("of the tests")
}

pub(super) fn record(number: usize) -> Record {
    Record {
        id: format!("req_{number}"),
        at: Timestamp::now(),
        endpoint: "chat",
        client_protocol: "openai-chat",
        key: Some(format!("key-{}", number % 3).into()),
        user: number
            .is_multiple_of(2)
            .then(|| format!("user-{}", number % 10)),
        tags: vec![format!("tag-{}", number % 4)],
        model_requested: "fast".into(),
        model: "m".into(),
        provider: "lab".into(),
        status: 200,
        usage: Some(Usage {
            input: 10,
            output: 5,
            ..Usage::default()
        }),
        cost_pico: Some(1_000_000 + number as u64),
        attempts: vec![AttemptRecord {
            provider: "lab".into(),
            outcome: "ok",
            status: Some(200),
            ..AttemptRecord::default()
        }],
        ..Record::default()
    }
}

pub(super) async fn exchange(ledger: &Ledger, record: &Record) {
    let id = ledger
        .admit(record, ("lab", "m"), Reserved::default())
        .await;
    ledger.done(id.expect("admitted"), record, None);
}

pub(super) async fn rows(ledger: &Ledger, filter: Filter) -> Vec<Row> {
    let until = Instant::now() + LONG;
    loop {
        let query = Query {
            filter: filter.clone(),
            limit: 100_000,
            ascending: true,
            ..Query::default()
        };
        match ledger.ask(Question::Rows(Box::new(query))).await {
            Ok(Told::Rows(rows)) => return rows,
            Ok(_) => panic!("another answer"),
            // It is being opened.
            Err(why) => assert!(Instant::now() < until, "{why:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until there are `count` rows, and returns all.
pub(super) async fn rows_of(ledger: &Ledger, count: usize) -> Vec<Row> {
    let until = Instant::now() + LONG;
    loop {
        let rows = rows(ledger, Filter::default()).await;
        if rows.len() >= count {
            return rows;
        }
        assert!(
            Instant::now() < until,
            "{} rows instead of {count}; {:?}",
            rows.len(),
            ledger.health()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The journal of a process that was killed: these frames, cut off at `length`.
pub(super) fn leftover(state_dir: &Path, name: &str, frames: &[Vec<u8>], length: usize) -> PathBuf {
    let dir = state_dir.join(journal::FOLDER).join(format!("run-{name}"));
    std::fs::create_dir_all(&dir).unwrap();
    let mut bytes = entry::MAGIC.to_vec();
    bytes.extend(frames.concat());
    bytes.truncate(length);
    std::fs::write(journal::segment(&dir, 1), bytes).unwrap();
    dir
}

pub(super) fn id(number: usize) -> Id {
    Id(Id::first_at(Timestamp::now().as_microsecond()).0 | number as u128)
}

pub(super) fn admitted(id: Id, number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let reserved = Reserved {
        pico: 77,
        input: 8,
        output: 9,
    };
    assert!(entry::write(&mut out, Kind::Admitted, id, |out| {
        admission(out, &record(number), ("lab", "m"), reserved);
    }));
    out
}

pub(super) fn done(id: Id, number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(entry::write(&mut out, Kind::Done, id, |out| record(number)
        .write_json(out)));
    out
}

#[tokio::test]
async fn each_exchange_is_one_row_and_an_end_of_the_process_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    for number in 0..5000 {
        exchange(&ledger, &record(number)).await;
    }
    let found = rows_of(&ledger, 5000).await;
    let mut names: Vec<&str> = found.iter().map(|row| &*row.request_id).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!((found.len(), names.len()), (5000, 5000));
    assert!(
        found
            .iter()
            .all(|row| row.state == DONE && row.cost_pico >= 1_000_000)
    );
    assert!(ledger.close(LONG), "all is written");
    let journals = std::fs::read_dir(dir.path().join(journal::FOLDER)).unwrap();
    assert_eq!(journals.count(), 0);
    let again = start(dir.path(), &Settings::default());
    assert_eq!(rows_of(&again, 5000).await.len(), 5000);
    assert_eq!(again.counts().written, 0);
    again.close(LONG);
}

#[tokio::test]
async fn what_a_killed_process_left_is_taken_up_and_nothing_is_there_twice() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<Vec<u8>> = (0..300)
        .flat_map(|number| {
            let id = id(number);
            let end = (number % 3 != 0).then(|| done(id, number));
            std::iter::once(admitted(id, number)).chain(end)
        })
        .collect();
    // Twice the same, as when the first taking up was killed before its end.
    leftover(dir.path(), "a", &frames, usize::MAX);
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for start_again in [false, true] {
        let ledger = start(dir.path(), &Settings::default());
        let found = rows_of(&ledger, 300).await;
        assert_eq!(found.len(), 300);
        let (ended, cut): (Vec<&Row>, Vec<&Row>) = found.iter().partition(|row| row.state == DONE);
        assert_eq!((ended.len(), cut.len()), (200, 100));
        for row in cut {
            assert_eq!(row.state, INTERRUPTED);
            assert_eq!((row.cost_pico, row.input, row.output), (77, 8, 9));
        }
        assert!(ledger.close(LONG));
        let journals = std::fs::read_dir(dir.path().join(journal::FOLDER)).unwrap();
        assert_eq!(
            journals.count(),
            0,
            "it is deleted when all of it is written"
        );
        if !start_again {
            leftover(dir.path(), "b", &frames, usize::MAX);
        }
    }
}

#[test]
fn a_journal_that_was_cut_anywhere_gives_every_whole_entry() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<Vec<u8>> = (0..4)
        .flat_map(|number| {
            let id = id(number);
            [admitted(id, number), done(id, number)]
        })
        .collect();
    let mut ends = vec![entry::MAGIC.len()];
    for frame in &frames {
        ends.push(ends.last().unwrap() + frame.len());
    }
    for length in 0..=*ends.last().unwrap() {
        let folder = leftover(dir.path(), "cut", &frames, length);
        let whole = ends[1..].iter().filter(|end| **end <= length).count();
        let found = Leftover::find(folder.parent().unwrap()).unwrap();
        let mut leaving = Leaving::new(found.into_iter().next().unwrap());
        let (mut ended, mut cut) = (0, 0);
        loop {
            let mut batch = Batch::default();
            let is_last = leaving.read(&mut batch);
            ended += batch.rows.iter().filter(|row| row.state == DONE).count();
            cut += batch
                .rows
                .iter()
                .filter(|row| row.state == INTERRUPTED)
                .count();
            if is_last && batch.is_empty() {
                break;
            }
        }
        assert_eq!((ended, cut), (whole / 2, whole % 2), "cut at {length}");
        assert_eq!(leaving.torn == 0, ends.contains(&length), "cut at {length}");
        leaving.remove();
        assert!(!folder.exists(), "cut at {length}");
    }
}

#[tokio::test]
async fn a_journal_of_another_version_is_put_aside_and_never_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let folder = leftover(dir.path(), "new", &[], usize::MAX);
    std::fs::write(
        journal::segment(&folder, 1),
        b"STRAITJ9 what a later version wrote",
    )
    .unwrap();
    let ledger = start(dir.path(), &Settings::default());
    let aside = dir.path().join(journal::FOLDER).join("unread-run-new");
    let until = Instant::now() + LONG;
    while !aside.exists() {
        assert!(Instant::now() < until, "it is not put aside");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(journal::segment(&aside, 1).exists());
    ledger.close(LONG);
}

#[tokio::test]
async fn a_long_exchange_holds_up_no_segment_and_is_found_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    let long = record(1_000_000);
    let reserved = Reserved {
        pico: 5,
        ..Reserved::default()
    };
    let admitted = ledger.admit(&long, ("lab", "m"), reserved).await.unwrap();
    let mut large = record(0);
    large.error_message = Some("x".repeat(500_000));
    let before = 80;
    for number in 0..before {
        large.id = format!("req_{number}");
        exchange(&ledger, &large).await;
    }
    rows_of(&ledger, before).await;
    let until = Instant::now() + LONG;
    while ledger.counts().journal_bytes > journal::SEGMENT + (1 << 20) {
        assert!(
            Instant::now() < until,
            "{} bytes of journal stay",
            ledger.counts().journal_bytes
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What a kill would leave now.
    let shared = ledger.shared.as_ref().unwrap();
    let extent = shared.journal.extent();
    assert!(extent.first > 1, "segments were given up");
    let copy = tempfile::tempdir().unwrap();
    let folder = copy.path().join(journal::FOLDER).join("run-copy");
    std::fs::create_dir_all(&folder).unwrap();
    for number in extent.first..=extent.last {
        let from = shared.journal.segment(number).unwrap();
        std::fs::copy(from, journal::segment(&folder, number)).unwrap();
    }
    let other = start(copy.path(), &Settings::default());
    let until = Instant::now() + LONG;
    while rows(&other, Filter::default())
        .await
        .iter()
        .all(|row| row.state == DONE)
    {
        assert!(Instant::now() < until, "it is lost");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    other.close(LONG);
    ledger.done(admitted, &long, None);
    let found = rows_of(&ledger, before + 1).await;
    let of_long = found.iter().find(|row| row.request_id == "req_1000000");
    assert_eq!(of_long.map(|row| &*row.state), Some(DONE));
    assert_eq!(found.len(), before + 1);
    assert!(ledger.close(LONG));
}

#[tokio::test]
async fn without_a_database_the_journal_fills_and_then_the_rule_decides() {
    for on_failure in [OnFailure::Allow, OnFailure::Deny] {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("file");
        std::fs::write(&nowhere, "not a folder").unwrap();
        let settings = Settings {
            max_journal: 200_000,
            on_failure,
            ..Settings::default()
        };
        let ledger = Ledger::start(
            dir.path(),
            Location::Dir(nowhere.clone()),
            &settings,
            &master(),
        );
        let mut journaled = 0;
        let mut last = Ok(None);
        for number in 0..2000 {
            last = ledger
                .admit(&record(number), ("lab", "m"), Reserved::default())
                .await;
            if ledger.counts().unjournaled > 0 {
                break;
            }
            ledger.done(last.clone().unwrap(), &record(number), None);
            journaled += 1;
        }
        assert!(journaled > 100, "{journaled}");
        match on_failure {
            OnFailure::Allow => assert!(last.is_ok()),
            OnFailure::Deny => assert!(last.unwrap_err().contains("full")),
        }
        let health = ledger.health();
        assert!(!health.database && health.detail.unwrap().contains("max_journal"));
        assert!(ledger.counts().journal_bytes <= 200_000);
        // The database comes back: everything that was journaled is written.
        std::fs::remove_file(&nowhere).unwrap();
        std::fs::create_dir(&nowhere).unwrap();
        assert!(rows_of(&ledger, journaled).await.len() >= journaled);
        assert!(ledger.health().database);
        ledger.close(LONG);
    }
}

#[tokio::test]
async fn rows_go_when_their_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    for number in 0..5000 {
        let mut record = record(number);
        let hours = if number % 2 == 0 { 48 } else { 1 };
        record.at = Timestamp::now() - jiff::ToSpan::hours(hours);
        exchange(&ledger, &record).await;
    }
    rows_of(&ledger, 5000).await;
    ledger.close(LONG);
    let settings = Settings {
        retention: Some(Duration::from_secs(24 * 3600)),
        ..Settings::default()
    };
    let ledger = start(dir.path(), &settings);
    let until = Instant::now() + LONG;
    while rows(&ledger, Filter::default()).await.len() > 2500 {
        assert!(Instant::now() < until, "they stay");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rows(&ledger, Filter::default()).await.len(), 2500);
    assert_eq!(ledger.counts().expired, 2500);
    ledger.close(LONG);
}

#[tokio::test]
async fn rows_are_found_by_what_stands_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    for number in 0..60 {
        exchange(&ledger, &record(number)).await;
    }
    rows_of(&ledger, 60).await;
    let by = |column: &'static str, value: &str| Filter {
        fields: vec![(column, value.to_owned())],
        ..Filter::default()
    };
    assert_eq!(rows(&ledger, by("api_key", "key-1")).await.len(), 20);
    assert_eq!(rows(&ledger, by("end_user", "user-4")).await.len(), 6);
    assert_eq!(rows(&ledger, by("end_user", "")).await.len(), 30);
    assert_eq!(rows(&ledger, by("end_user", "' OR 1=1 --")).await.len(), 0);
    let tagged = |tag: &str| Filter {
        tag: Some(tag.to_owned()),
        ..Filter::default()
    };
    assert_eq!(rows(&ledger, tagged("tag-1")).await.len(), 15);
    for no in ["tag-", "TAG-1", "ag-1", "%", ""] {
        assert_eq!(rows(&ledger, tagged(no)).await.len(), 0, "{no:?}");
    }
    let over = Filter {
        end_us: Some(Timestamp::now().as_microsecond() - 3_600_000_000),
        ..Filter::default()
    };
    assert_eq!(rows(&ledger, over).await.len(), 0);
    ledger.close(LONG);
}

#[tokio::test]
async fn usage_is_what_the_rows_sum_up_to() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    let begin: Timestamp = "2026-03-01T00:30:00Z".parse().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..500 {
        let mut record = record(number);
        record.at = begin + jiff::SignedDuration::from_secs(random.i64(0..86_400));
        record.error = (number % 7 == 0).then_some("timeout");
        record.shadow_of = (number % 5 == 0).then(|| "req_of_it".into());
        // Together more than a sum of one piece holds.
        record.cost_pico = Some(u64::MAX / 1000 + number as u64);
        exchange(&ledger, &record).await;
    }
    let found = rows_of(&ledger, 500).await;
    let end = begin + jiff::SignedDuration::from_secs(86_400);
    for (resolution, groups) in [
        (usage::Resolution::Hour, vec![]),
        (usage::Resolution::Day, vec!["key"]),
        (usage::Resolution::Minute, vec!["status"]),
        (usage::Resolution::Hour, vec!["tag", "key"]),
        (usage::Resolution::Day, vec!["shadow"]),
    ] {
        let query = usage::Query {
            filter: Filter {
                start_us: Some(begin.as_microsecond()),
                end_us: Some(end.as_microsecond()),
                ..Filter::default()
            },
            start: begin,
            end,
            resolution,
            zone: jiff::tz::TimeZone::get("Asia/Kolkata").unwrap(),
            groups: groups
                .iter()
                .map(|name| usage::Group::named(name).unwrap())
                .collect(),
        };
        let Ok(Told::Usage(slots)) = ledger.ask(Question::Usage(Box::new(query.clone()))).await
        else {
            panic!("no usage");
        };
        let series = query.series(slots).unwrap();
        assert_eq!(series.total.requests, 500);
        assert_eq!(series.total.errors, 72);
        let cost: u128 = found.iter().map(|row| row.cost_pico as u128).sum();
        assert_eq!(
            u128::from(series.total.cost_pico),
            cost.min(u128::from(u64::MAX))
        );
        for (at, time) in series.times.iter().enumerate() {
            let from = time.as_microsecond();
            let to = series
                .times
                .get(at + 1)
                .map_or(i64::MAX, |next| next.as_microsecond());
            for (values, points) in &series.groups {
                let expected = found.iter().filter(|row| {
                    let fits = groups.iter().zip(values).all(|(name, value)| match *name {
                        "key" => row.key == *value,
                        "status" => row.status.to_string() == *value,
                        "shadow" => row.shadow_of.is_empty() == value.is_empty(),
                        _ => row.tags == format!("[{value:?}]"),
                    });
                    fits && (from..to).contains(&row.time_us)
                });
                assert_eq!(
                    points[at].requests,
                    expected.count() as i64,
                    "{time} {values:?}"
                );
            }
        }
    }
    ledger.close(LONG);
}

#[tokio::test]
async fn actions_are_chained_over_restarts_and_tampering_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::Dir(dir.path().to_path_buf());
    for run in 0..3 {
        let ledger = start(dir.path(), &Settings::default());
        for number in 0..4 {
            let detail = serde_json::json!({"run": run, "name": "a\u{0}b"});
            ledger.audit("admin", "keys.create", &format!("key {number}"), &detail);
        }
        assert!(ledger.close(LONG));
    }
    let verify = || audit::verify(&location, dir.path());
    let head = verify().await.unwrap().unwrap();
    assert_eq!(head.count, 12);
    let change = |text: &'static str| {
        let location = place(&location);
        async move {
            let mut connection = location.connect().await.unwrap();
            sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    };
    for (text, flaw, back) in [
        (
            "UPDATE audit SET actor = 'x' WHERE seq = 3",
            audit::Flaw::Changed(3),
            "UPDATE audit SET actor = 'admin' WHERE seq = 3",
        ),
        (
            "UPDATE audit SET seq = -2 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = -2",
            audit::Flaw::Changed(2),
            "UPDATE audit SET seq = -2 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = -2",
        ),
        (
            "UPDATE audit SET seq = -2 WHERE seq = 12",
            audit::Flaw::Changed(-2),
            "UPDATE audit SET seq = 12 WHERE seq = -2",
        ),
        (
            "DELETE FROM audit WHERE seq = 12",
            audit::Flaw::Cut {
                last: 11,
                known: 12,
            },
            "",
        ),
        (
            "DELETE FROM audit WHERE seq = 4",
            audit::Flaw::Missing(4, 4),
            "",
        ),
        (
            "DELETE FROM audit",
            audit::Flaw::Cut { last: 0, known: 12 },
            "",
        ),
    ] {
        change(text).await;
        assert_eq!(verify().await.unwrap(), Err(flaw), "{text}");
        change(back).await;
    }
}

#[test]
fn ids_are_never_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    let shared = ledger.shared.as_ref().unwrap();
    let at = Timestamp::now();
    let mut ids: Vec<Id> = (0..10_000).map(|_| shared.next_id(at)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10_000);
    assert!(
        ids.iter()
            .all(|id| id.time_us() / 1000 == at.as_millisecond())
    );
    ledger.close(LONG);
}
