//! What is kept and what is forgotten, over a database that two processes share.

use super::drain::Told;
use super::gone::Erased;
use super::search::Filter;
use super::tests::*;
use super::*;

/// Another process at the same database.
fn other(own: &Path, shared: &Path) -> Ledger {
    let location = Location::Dir(shared.to_path_buf());
    Ledger::start(own, location, &Settings::default(), &master())
}

#[tokio::test]
async fn what_is_kept_of_a_user_is_deleted_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    for number in 0..100 {
        exchange(&ledger, &record(number)).await;
    }
    rows(&ledger, Filter::default()).await;
    let erased = ledger.ask(Question::Erase("user-4".into())).await;
    assert!(matches!(
        erased,
        Ok(Told::Erased(Erased {
            rows: 10,
            bodies: 0
        }))
    ));
    assert_eq!(rows_of(&ledger, 90).await.len(), 90);
    // As if the process were killed now: nothing of it is in the journal any more.
    let shared = ledger.shared.as_ref().unwrap();
    let extent = shared.journal.extent();
    for number in extent.first..=extent.last {
        let bytes = std::fs::read(shared.journal.segment(number).unwrap()).unwrap();
        assert!(memchr::memmem::find(&bytes, b"user-4").is_none());
    }
    ledger.close(LONG);
}

#[tokio::test]
async fn who_was_erased_stays_so_when_another_node_writes_what_it_still_had_of_them() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ledger = start(one.path(), &Settings::default());
    for number in 0..20 {
        exchange(&ledger, &record(number)).await;
    }
    rows_of(&ledger, 20).await;
    // It was killed before it could write these.
    let frames: Vec<Vec<u8>> = (100..140)
        .flat_map(|number| {
            let id = id(number);
            let end = (number % 4 != 0).then(|| done(id, number));
            std::iter::once(admitted(id, number)).chain(end)
        })
        .collect();
    let folder = leftover(two.path(), "a", &frames, usize::MAX);
    let erased = ledger.ask(Question::Erase("user-4".into())).await;
    assert_eq!(erased.unwrap(), Told::Erased(Erased { rows: 2, bodies: 0 }));
    let late = other(two.path(), one.path());
    let until = std::time::Instant::now() + LONG;
    while folder.exists() {
        assert!(std::time::Instant::now() < until, "it is not taken up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let found = rows(&ledger, Filter::default()).await;
    assert_eq!(found.len(), 20 - 2 + 40 - 4);
    assert!(found.iter().all(|row| row.user != "user-4"));
    // What they ask from now on is kept.
    exchange(&late, &record(4)).await;
    let found = rows_of(&ledger, 20 - 2 + 40 - 4 + 1).await;
    assert_eq!(found.iter().filter(|row| row.user == "user-4").count(), 1);
    assert!(late.close(LONG) && ledger.close(LONG));
}

#[tokio::test]
async fn who_was_erased_is_in_no_file() {
    const USER: &str = "whoever-is-erased";
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    for number in 0..100 {
        let mut record = record(number);
        if number % 5 == 0 {
            record.user = Some(USER.to_owned());
        }
        exchange(&ledger, &record).await;
    }
    rows_of(&ledger, 100).await;
    assert!(!files_with(dir.path(), USER).is_empty());
    let erased = ledger.ask(Question::Erase(USER.into())).await;
    let expected = Told::Erased(Erased {
        rows: 20,
        bodies: 0,
    });
    assert_eq!(erased.unwrap(), expected);
    assert_eq!(files_with(dir.path(), USER), Vec::<PathBuf>::new());
    assert!(ledger.close(LONG));
    assert_eq!(files_with(dir.path(), USER), Vec::<PathBuf>::new());
}

fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        if memchr::memmem::find(&bytes, text.as_bytes()).is_some() {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn bodies_go_with_their_user_also_where_they_waited() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    rows(&ledger, Filter::default()).await;
    let retention = Retention {
        keep: Keep::Bodies,
        bodies: None,
    };
    for number in 0..20 {
        let (keep, body) = ledger.keeps(Some(retention));
        assert_eq!(keep, Keep::Bodies);
        let mut body = body.unwrap();
        body.asked(b"question");
        body.answered(b"answer");
        let record = record(number);
        let id = ledger.admit(&record, ("lab", "m"), Reserved::default());
        ledger.done(id.await.unwrap(), &record, Some(body));
    }
    let erased = ledger.ask(Question::Erase("user-4".into())).await;
    let expected = Told::Erased(Erased { rows: 2, bodies: 2 });
    assert_eq!(erased.unwrap(), expected);
    let mut kept = 0;
    for row in rows_of(&ledger, 18).await {
        let told = ledger.ask(Question::Body(row.id)).await.unwrap();
        let Told::Body(Some(body)) = told else {
            panic!("nothing is kept");
        };
        let told = ledger.open(&body).unwrap();
        assert_eq!(told["request"]["text"], "question");
        kept += 1;
    }
    assert_eq!(kept, 18);
    assert_eq!(ledger.counts().bodies.bytes, 0);
    assert!(ledger.close(LONG));
}

/// What all rows come to, by a thing that sums are kept by.
async fn total(ledger: &Ledger, group: &str) -> usage::Sums {
    let (total, _) = usage_by(ledger, group).await;
    total
}

/// What all rows come to, and how many requests by each value.
async fn usage_by(ledger: &Ledger, group: &str) -> (usage::Sums, Vec<(String, i64)>) {
    let end = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let query = usage::Query {
        filter: Filter::default(),
        start: end - jiff::SignedDuration::from_hours(24 * 20),
        end,
        resolution: usage::Resolution::Day,
        zone: jiff::tz::TimeZone::UTC,
        groups: vec![usage::Group::named(group).unwrap()],
    };
    let told = ledger.ask(Question::Usage(Box::new(query.clone()))).await;
    let Ok(Told::Usage(slots)) = told else {
        panic!("no usage");
    };
    let series = query.series(slots).unwrap();
    let of = |points: &[usage::Sums]| points.iter().map(|point| point.requests).sum();
    let groups = series.groups.iter();
    let groups = groups.map(|(values, points)| (values[0].clone(), of(points)));
    (series.total, groups.collect())
}

#[tokio::test]
async fn sums_outlive_their_rows_and_count_none_twice() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<Vec<u8>> = (0..300)
        .flat_map(|number| {
            let id = id(number);
            [admitted(id, number), done(id, number)]
        })
        .collect();
    // Twice the same, as when the first taking up was killed before its end; the second holds more.
    leftover(dir.path(), "a", &frames[..400], usize::MAX);
    leftover(dir.path(), "b", &frames, usize::MAX);
    let ledger = start(dir.path(), &Settings::default());
    let found = rows_of(&ledger, 300).await;
    let cost: i64 = found.iter().map(|row| row.cost_pico).sum();
    for group in ["key", "user"] {
        let total = total(&ledger, group).await;
        assert_eq!((total.requests, total.cost_pico), (300, cost as u64));
    }
    assert!(ledger.close(LONG));
    let short = Settings {
        retention: Some(Duration::from_millis(1)),
        ..Settings::default()
    };
    let ledger = start(dir.path(), &short);
    let until = std::time::Instant::now() + LONG;
    while !rows(&ledger, Filter::default()).await.is_empty() {
        assert!(std::time::Instant::now() < until, "rows stay");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(ledger.close(LONG));
    // The quarter of an hour of now is read from rows, and these are gone: what is over is in the sums.
    let location = place(&Location::Dir(dir.path().to_path_buf()));
    let mut connection = location.connect().await.unwrap();
    for length in sums::LENGTHS {
        let text = "UPDATE sums SET slot = slot - $1 WHERE seconds = $2";
        let back = sqlx::query(text).bind(86_400 / length).bind(length);
        back.execute(&mut connection).await.unwrap();
    }
    drop(connection);
    let ledger = start(dir.path(), &short);
    rows(&ledger, Filter::default()).await;
    let left = total(&ledger, "key").await;
    assert_eq!((left.requests, left.cost_pico), (300, cost as u64));
    assert_eq!(total(&ledger, "user").await.requests, 0);
    assert!(ledger.close(LONG));
    let none = Settings {
        usage_retention: Some(Duration::from_millis(1)),
        ..short
    };
    let ledger = start(dir.path(), &none);
    rows(&ledger, Filter::default()).await;
    let until = std::time::Instant::now() + LONG;
    while total(&ledger, "key").await.requests > 0 {
        assert!(std::time::Instant::now() < until, "sums stay");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(ledger.close(LONG));
}

#[tokio::test]
async fn rows_from_before_there_were_sums_are_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    let ago = |hours: i64| Timestamp::now() - jiff::SignedDuration::from_hours(hours);
    for number in 0..100 {
        let mut record = record(number);
        record.at = ago(50 + number as i64);
        exchange(&ledger, &record).await;
    }
    rows_of(&ledger, 100).await;
    assert!(ledger.close(LONG));
    let location = place(&Location::Dir(dir.path().to_path_buf()));
    let mut connection = location.connect().await.unwrap();
    sqlx::raw_sql("DELETE FROM sums; DELETE FROM counters WHERE name = 'sums'")
        .execute(&mut connection)
        .await
        .unwrap();
    let again = include_str!("../../migrations/0009_sums.sqlite.sql");
    let again = &again[again.find("INSERT INTO counters").unwrap()..];
    sqlx::raw_sql(again).execute(&mut connection).await.unwrap();
    drop(connection);
    let ledger = start(dir.path(), &Settings::default());
    for number in 0..40 {
        let mut record = record(number);
        record.at = ago(number as i64);
        exchange(&ledger, &record).await;
    }
    // Late ones, too.
    for number in 0..10 {
        let mut record = record(number);
        record.at = ago(60 + number as i64);
        exchange(&ledger, &record).await;
    }
    rows_of(&ledger, 150).await;
    for group in ["key", "user", "status"] {
        assert_eq!(total(&ledger, group).await.requests, 150, "{group}");
    }
    assert!(ledger.close(LONG));
}

#[tokio::test]
async fn rows_are_found_and_summed_by_what_stands_in_their_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = start(dir.path(), &Settings::default());
    for number in 0..60 {
        let mut record = record(number);
        if number % 3 != 0 {
            let team = ["", "red", "it's \"blue\""][number % 3];
            record.metadata = vec![("a.b:c/d-e_f".into(), team.into())];
        }
        exchange(&ledger, &record).await;
    }
    rows_of(&ledger, 60).await;
    let by = |value: &str| Filter {
        metadata: vec![("a.b:c/d-e_f".into(), value.into())],
        ..Filter::default()
    };
    for value in ["red", "it's \"blue\"", ""] {
        assert_eq!(rows(&ledger, by(value)).await.len(), 20, "{value}");
    }
    assert_eq!(rows(&ledger, by("re")).await.len(), 0);
    let expected = [("", 20), ("it's \"blue\"", 20), ("red", 20)];
    let expected = expected.map(|(value, requests)| (value.to_owned(), requests));
    let (_, by) = usage_by(&ledger, "metadata.a.b:c/d-e_f").await;
    assert_eq!(by, expected);
    assert!(ledger.close(LONG));
}

#[tokio::test]
async fn sums_are_kept_by_a_field_of_metadata_from_when_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let named = |names: &[&str]| Settings {
        usage_metadata: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Settings::default()
    };
    let ago = |hours: i64| Timestamp::now() - jiff::SignedDuration::from_hours(hours);
    let mut count = 0;
    for (round, names) in [&["app"][..], &["team", "app"], &["team"]]
        .into_iter()
        .enumerate()
    {
        let ledger = start(dir.path(), &named(names));
        for number in 0..30 {
            let mut record = record(number);
            record.at = ago(number as i64);
            let team = ["red", "blue"][number % 2];
            record.metadata = vec![
                ("team".into(), team.into()),
                ("n".into(), number.to_string()),
            ];
            exchange(&ledger, &record).await;
        }
        count += 30;
        rows_of(&ledger, count).await;
        let half = count as i64 / 2;
        let (total, by) = usage_by(&ledger, "metadata.team").await;
        assert_eq!(total.requests, count as i64, "round {round}");
        assert_eq!(
            by,
            [("blue".into(), half), ("red".into(), half)],
            "round {round}"
        );
        assert_eq!(
            usage_by(&ledger, "metadata.app").await.1,
            [(String::new(), count as i64)]
        );
        assert!(ledger.close(LONG));
    }
    // As if it had been named for two days: what is over is read from sums alone.
    let location = place(&Location::Dir(dir.path().to_path_buf()));
    let mut connection = location.connect().await.unwrap();
    sqlx::raw_sql("DELETE FROM records; UPDATE counters SET value = 1 WHERE name = 'sums:team'")
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);
    let ledger = start(dir.path(), &named(&["team"]));
    rows(&ledger, Filter::default()).await;
    let (total, by) = usage_by(&ledger, "metadata.team").await;
    // Without those of this quarter of an hour, and with those from before it was named.
    assert!((80..=90).contains(&total.requests), "{by:?}");
    let values: Vec<&str> = by.iter().map(|(value, _)| &**value).collect();
    assert_eq!(values, ["", "blue", "red"]);
    assert!(ledger.close(LONG));
}

#[tokio::test]
async fn bodies_wait_for_the_database_within_their_bound() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("file");
    std::fs::write(&nowhere, "not a folder").unwrap();
    let settings = Settings {
        keep: Keep::Bodies,
        max_body_memory: 1000,
        ..Settings::default()
    };
    let location = Location::Dir(nowhere.clone());
    let ledger = Ledger::start(dir.path(), location, &settings, &master());
    for number in 0..20 {
        let mut body = ledger.keeps(None).1.unwrap();
        body.asked(&[b'q'; 60]);
        body.answered(&[b'a'; 40]);
        let record = record(number);
        let id = ledger.admit(&record, ("lab", "m"), Reserved::default());
        ledger.done(id.await.unwrap(), &record, Some(body));
    }
    let counts = ledger.counts().bodies;
    assert_eq!((counts.bytes, counts.dropped), (1000, 10));
    std::fs::remove_file(&nowhere).unwrap();
    std::fs::create_dir(&nowhere).unwrap();
    // Rows lose nothing by it.
    assert_eq!(rows_of(&ledger, 20).await.len(), 20);
    let until = std::time::Instant::now() + LONG;
    while ledger.counts().bodies.written < 10 {
        assert!(std::time::Instant::now() < until, "they are not written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ledger.counts().bodies.bytes, 0);
    assert!(ledger.close(LONG));
}
