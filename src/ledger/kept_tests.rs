//! What is kept and what is forgotten, over a database that two processes share.

use super::drain::{Erased, Told};
use super::search::Filter;
use super::tests::*;
use super::*;

/// Another process at the same database.
fn other(own: &Path, shared: &Path) -> Ledger {
    let location = Location::Dir(shared.to_path_buf());
    Ledger::start(own, location, &Settings::default(), &master())
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
    assert_eq!(ledger.counts().bodies.waiting_bytes, 0);
    assert!(ledger.close(LONG));
}
