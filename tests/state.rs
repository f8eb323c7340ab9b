//! The state database, on real files: reopened, killed, full, away.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use strait::error::Kind;
use strait::state::{Asker, Put, Settings, State, Stored};

const SOON: Duration = Duration::from_secs(20);

fn open(dir: &Path) -> State {
    State::open(dir, Settings::default()).unwrap()
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn stored(id: &str) -> Stored {
    Stored {
        id: id.into(),
        tenant: "team-a".into(),
        created: now(),
        expires: now() + 3600,
        model: "gpt-5".into(),
        status: "completed".into(),
        maker: String::new(),
        previous: None,
        input: r#"[{"role":"user","content":"hi"}]"#.into(),
        response: format!(r#"{{"id":"{id}","output":[]}}"#),
        asker: Asker::default(),
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn get(state: &State, id: &str) -> Option<std::sync::Arc<Stored>> {
    block(state.responses().get("team-a", id)).unwrap()
}

#[test]
fn an_answer_is_found_at_once_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let mut given = stored("resp_1");
    given.previous = Some("resp_0".into());
    given.maker = "openai/main".into();
    assert_eq!(state.responses().put(given.clone()), Put::Kept);
    assert_eq!(*get(&state, "resp_1").unwrap(), given, "while it is queued");
    assert!(state.flush(SOON));
    assert_eq!(*get(&state, "resp_1").unwrap(), given, "from the file");
    assert!(state.close(SOON));
    drop(state);
    let state = open(dir.path());
    assert_eq!(*get(&state, "resp_1").unwrap(), given, "after reopening");
    assert_eq!(state.counts().rows, 1);
}

#[test]
fn the_last_put_of_an_id_counts() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    for status in ["in_progress", "completed"] {
        let mut one = stored("resp_1");
        one.status = status.into();
        state.responses().put(one);
    }
    assert_eq!(get(&state, "resp_1").unwrap().status, "completed");
    assert!(state.flush(SOON));
    assert_eq!(get(&state, "resp_1").unwrap().status, "completed");
}

#[test]
fn nobody_finds_the_answers_of_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    state.responses().put(stored("resp_1"));
    for flushed in [false, true] {
        let found = block(state.responses().get("team-b", "resp_1")).unwrap();
        assert_eq!(found, None, "flushed: {flushed}");
        let deleted = block(state.responses().delete("team-b", "resp_1")).unwrap();
        assert!(!deleted, "flushed: {flushed}");
        let chain = block(state.responses().chain("team-b", "resp_1", 1 << 20));
        assert_eq!(
            chain.unwrap_err().kind,
            Kind::PreviousResponseNotFound,
            "flushed: {flushed}"
        );
        assert!(state.flush(SOON));
    }
    assert!(get(&state, "resp_1").is_some());
}

#[test]
fn what_is_deleted_is_gone_whether_it_was_queued_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let delete = |id: &str| block(state.responses().delete("team-a", id)).unwrap();
    state.responses().put(stored("queued"));
    assert!(delete("queued"));
    assert!(get(&state, "queued").is_none());
    state.responses().put(stored("written"));
    assert!(state.flush(SOON));
    assert!(delete("written"));
    assert!(get(&state, "written").is_none());
    assert!(!delete("written"), "there is none any more");
    assert!(!delete("never"));
    state.close(SOON);
    let state = open(dir.path());
    assert!(get(&state, "queued").is_none() && get(&state, "written").is_none());
}

#[test]
fn the_answers_of_a_user_are_erased_whether_they_were_queued_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let of = |id: &str, user: &str| {
        let mut one = stored(id);
        one.asker.user = user.into();
        one.asker.at_us = now() * 1_000_000;
        state.responses().put(one)
    };
    of("written", "eve");
    of("another's", "adam");
    of("nobody's", "");
    assert!(state.flush(SOON));
    of("queued", "eve");
    assert_eq!(block(state.responses().erase("eve")).unwrap(), 2);
    for gone in ["written", "queued"] {
        assert!(get(&state, gone).is_none(), "{gone}");
    }
    for kept in ["another's", "nobody's"] {
        assert!(get(&state, kept).is_some(), "{kept}");
    }
    assert_eq!(block(state.responses().erase("eve")).unwrap(), 0);
    // What somebody still had of them from before is not kept, and what they ask from now on is.
    of("late", "eve");
    let mut new = stored("new");
    new.asker.user = "eve".into();
    new.asker.at_us = (now() + 60) * 1_000_000;
    state.responses().put(new);
    assert!(state.flush(SOON));
    assert!(get(&state, "late").is_none() && get(&state, "new").is_some());
    assert_eq!(block(state.responses().erase("")).unwrap(), 0);
    assert!(get(&state, "nobody's").is_some());
    assert!(state.close(SOON));
    let names = ["strait.db", "strait.db-wal"].map(|name| dir.path().join(name));
    for file in names.iter().filter(|file| file.exists()) {
        let bytes = std::fs::read(file).unwrap();
        let found = bytes.windows(7).any(|some| some == b"written");
        assert!(!found, "{} has it still", file.display());
    }
}

#[test]
fn a_conversation_is_followed_back_to_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    for at in 0..200 {
        let mut one = stored(&format!("resp_{at}"));
        one.previous = (at > 0).then(|| format!("resp_{}", at - 1));
        state.responses().put(one);
    }
    // Some of it is written and some is not: both are found.
    let chain = |id: &str, most| block(state.responses().chain("team-a", id, most));
    let ids: Vec<String> = chain("resp_199", 1 << 20)
        .unwrap()
        .links
        .iter()
        .map(|link| link.id.clone())
        .collect();
    let wanted: Vec<String> = (0..200).map(|at| format!("resp_{at}")).collect();
    assert_eq!(ids, wanted);

    let unknown = chain("resp_x", 1 << 20).unwrap_err();
    assert_eq!(unknown.kind, Kind::PreviousResponseNotFound);
    assert_eq!(unknown.kind.status(), 400);
    assert_eq!(unknown.kind.code(), "previous_response_not_found");
    assert_eq!(unknown.param.as_deref(), Some("previous_response_id"));
    assert_eq!(
        unknown.message,
        "Previous response with id 'resp_x' not found."
    );
    let long = chain("resp_199", 10_000).unwrap_err();
    assert_eq!(
        (long.kind, long.param.as_deref()),
        (Kind::InvalidRequest, Some("previous_response_id"))
    );
    assert!(block(state.responses().delete("team-a", "resp_7")).unwrap());
    let broken = chain("resp_199", 1 << 20).unwrap_err();
    assert_eq!(broken.kind, Kind::PreviousResponseNotFound);
    assert!(broken.message.contains("resp_7"), "{}", broken.message);
}

#[test]
fn a_conversation_that_goes_in_a_circle_ends() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let mut one = stored("resp_1");
    one.previous = Some("resp_1".into());
    state.responses().put(one);
    let chain = block(state.responses().chain("team-a", "resp_1", usize::MAX));
    assert_eq!(chain.unwrap_err().kind, Kind::InvalidRequest);
}

#[test]
fn what_is_over_is_not_found_and_is_swept_away() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    for at in 0..1200 {
        let mut over = stored(&format!("over_{at}"));
        over.expires = now() - 1;
        state.responses().put(over);
        if at % 300 == 0 {
            assert!(state.flush(SOON));
        }
    }
    state.responses().put(stored("fresh"));
    assert!(get(&state, "over_0").is_none() && get(&state, "over_1199").is_none());
    assert!(state.close(SOON));
    // A start sweeps.
    let state = open(dir.path());
    let counts = state.counts();
    assert_eq!((counts.rows, counts.expired), (1, 1200));
    assert!(get(&state, "fresh").is_some());
}

#[test]
fn the_oldest_make_room_for_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    for at in 0..100 {
        let mut one = stored(&format!("resp_{at}"));
        one.created = now() - 1000 + at;
        one.response = "x".repeat(10_000);
        state.responses().put(one);
    }
    assert!(state.close(SOON));
    let settings = Settings {
        max_size: 300_000,
        ..Settings::default()
    };
    let state = State::open(dir.path(), settings).unwrap();
    let counts = state.counts();
    assert!(
        counts.bytes <= 300_000 && counts.bytes > 280_000,
        "{counts:?}"
    );
    assert_eq!(counts.rows + counts.evicted, 100);
    assert!(get(&state, "resp_0").is_none() && get(&state, "resp_99").is_some());
}

#[test]
fn what_is_too_large_or_not_wanted_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let mut settings = Settings {
        max_item: 5000,
        ttl: Duration::from_secs(60),
        ..Settings::default()
    };
    state.configure(settings.clone());
    assert_eq!(state.responses().expiry(1000), 1060);
    let mut large = stored("large");
    large.response = "x".repeat(5000);
    assert_eq!(state.responses().put(large), Put::TooLarge);
    assert_eq!(state.counts().dropped.too_large, 1);
    settings.store = false;
    state.configure(settings);
    assert!(!state.responses().are_kept());
    assert_eq!(state.responses().put(stored("resp_1")), Put::Off);
    assert!(get(&state, "large").is_none() && get(&state, "resp_1").is_none());
}

#[test]
fn the_queue_is_bounded_and_what_does_not_fit_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let text = "x".repeat(1 << 20);
    let (mut kept, mut full) = (0, 0);
    let began = Instant::now();
    // Faster than a disk: sooner or later the queue is full.
    while full == 0 && began.elapsed() < SOON {
        let mut one = stored(&format!("resp_{kept}"));
        one.response.clone_from(&text);
        match state.responses().put(one) {
            Put::Kept => kept += 1,
            Put::QueueFull => full += 1,
            put @ (Put::Off | Put::TooLarge | Put::Unavailable) => panic!("{put:?}"),
        }
        let counts = state.counts();
        assert!(counts.queued_bytes <= 64 << 20, "{counts:?}");
    }
    assert!(state.flush(SOON));
    let counts = state.counts();
    assert_eq!(
        (counts.written, counts.dropped.queue_full, counts.queued),
        (kept, full, 0)
    );
    assert!(full > 0, "the queue never filled: {counts:?}");
    assert!(get(&state, "resp_0").is_some());
}

#[test]
fn without_a_place_to_write_nothing_is_kept_and_the_health_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("state");
    std::fs::write(&place, "a file, not a directory").unwrap();
    assert_eq!(
        State::open(place.as_path(), Settings::default())
            .err()
            .unwrap()
            .kind,
        Kind::StateUnavailable
    );
    let state = State::start(place.as_path(), Settings::default());
    assert_eq!(state.responses().put(stored("resp_1")), Put::Unavailable);
    let counts = state.counts();
    assert_eq!((counts.available, counts.dropped.unavailable), (false, 1));
    let detail = state.health().detail.unwrap();
    assert!(detail.contains("state.dir"), "{detail}");
    let found = block(state.responses().get("team-a", "resp_1"));
    assert_eq!(found.unwrap_err().kind.status(), 503);
    assert!(state.close(SOON), "it stops all the same");
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strait.db");
    let text = "not a database, but somebody's notes\n".repeat(100);
    std::fs::write(&file, &text).unwrap();
    assert!(State::open(dir.path(), Settings::default()).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn two_processes_may_have_it_open_at_a_hand_over() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (open(dir.path()), open(dir.path()));
    for at in 0..50 {
        old.responses().put(stored(&format!("old_{at}")));
        new.responses().put(stored(&format!("new_{at}")));
    }
    assert!(old.close(SOON) && new.flush(SOON));
    assert!(get(&new, "old_49").is_some() && get(&new, "new_49").is_some());
    assert_eq!(new.counts().dropped.failed, 0);
}

#[test]
fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    state.responses().put(stored("resp_1"));
    assert!(state.flush(SOON));
    for name in ["strait.db", "strait.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}

/// Where the child of the next test writes; without it that "test" does nothing.
const CHILD: &str = "STRAIT_TEST_STATE_DIR";

#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let state = open(Path::new(&dir));
    for at in 0.. {
        let mut one = stored(&format!("resp_{at}"));
        one.response = format!(r#"{{"id":"resp_{at}","text":"{}"}}"#, "x".repeat(at % 9000));
        while state.responses().put(one.clone()) == Put::QueueFull {
            std::thread::sleep(Duration::from_millis(1));
        }
        if at % 100 == 0 {
            // What is said here is in the file.
            assert!(state.flush(SOON));
            std::fs::write(Path::new(&dir).join("written"), at.to_string()).unwrap();
        }
    }
}

#[test]
fn a_process_that_is_killed_leaves_a_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0u64..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let note = dir.path().join("written");
        let _ = std::fs::remove_file(&note);
        while !note.exists() && began.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(150 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();

        let said: u64 = std::fs::read_to_string(&note)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        check_whole(&dir.path().join("strait.db"));
        let state = open(dir.path());
        let rows = state.counts().rows;
        assert!(
            rows > said && rows >= before,
            "{rows} of {said}, {before} before"
        );
        for at in [0, said / 2, said] {
            let found = get(&state, &format!("resp_{at}")).unwrap();
            let text: serde_json::Value = serde_json::from_str(&found.response).unwrap();
            assert_eq!(text["id"], format!("resp_{at}"));
        }
        before = rows;
        assert!(state.close(SOON));
    }
    assert!(before > 100, "only {before} rows were ever written");
}

fn check_whole(file: &Path) {
    use sqlx::{Connection, Row};
    block(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = sqlx::SqliteConnection::connect_with(&options)
            .await
            .unwrap();
        let row = sqlx::query("PRAGMA integrity_check")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(row.get::<String, _>(0), "ok");
        connection.close().await.unwrap();
    });
}
