//! The state database as SQLite and as a real PostgreSQL: brought up to date, restarted, away, frozen.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/mod.rs"]
mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::authority::Authority;
use common::postgres::{PASSWORD, Postgres};
use common::{Strait, chat, eventually, mock};
use jiff::Timestamp;
use strait::secret::Secret;
use strait::state::database::{self, Database};
use strait::state::{Asker, Location, Put, Settings, State, Stored};

const SOON: Duration = Duration::from_secs(60);

fn server(url: &str) -> Location {
    Location::Server(Secret::new(url))
}

fn stored(id: &str) -> Stored {
    let now = Timestamp::now().as_second();
    Stored {
        id: id.into(),
        tenant: "team-a".into(),
        created: now,
        expires: now + 3600,
        model: "gpt-5".into(),
        status: "completed".into(),
        maker: String::new(),
        previous: None,
        input: r#"[{"role":"user","content":"héllo"}]"#.into(),
        response: format!(r#"{{"id":"{id}","output":[{{"id":"item_{id}","type":"message"}}]}}"#),
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

fn get(state: &State, id: &str) -> Option<Stored> {
    let found = block(state.responses().get("team-a", id)).unwrap();
    found.map(|found| (*found).clone())
}

#[test]
fn answers_are_kept_in_postgresql_as_in_a_file() {
    let postgres = Postgres::start();
    let dir = tempfile::tempdir().unwrap();
    for location in [dir.path().into(), server(&postgres.database())] {
        let state = State::open(location.clone(), Settings::default()).unwrap();
        let mut given = stored("resp_1");
        given.previous = Some("resp_0".into());
        state.responses().put(given.clone());
        let mut over = stored("over");
        over.expires = 1;
        state.responses().put(over);
        // PostgreSQL keeps no text with a NUL in it: that one is lost, and no other.
        let mut unfit = stored("unfit");
        unfit.model = "a\0b".into();
        state.responses().put(unfit);
        state.responses().put(stored("resp_2"));
        assert!(state.flush(SOON));
        let lost = u64::from(location.is_server());
        let counts = state.counts();
        assert_eq!(
            (counts.written, counts.dropped.failed),
            (4 - lost, lost),
            "{counts:?}"
        );
        assert_eq!(get(&state, "resp_1").unwrap(), given);
        assert!(get(&state, "resp_2").is_some() && get(&state, "over").is_none());
        let by_item = block(state.responses().by_item("team-a", "item_resp_1")).unwrap();
        assert_eq!(by_item.unwrap().id, "resp_1");
        assert_eq!(
            block(state.responses().get("team-b", "resp_1")).unwrap(),
            None
        );
        assert!(block(state.responses().delete("team-a", "resp_2")).unwrap());
        assert!(!block(state.responses().delete("team-a", "resp_2")).unwrap());
        let mut again = given.clone();
        again.status = "failed".into();
        state.responses().put(again);
        assert!(state.close(SOON));
        // A start sweeps what is over, and what is too much.
        let small = Settings {
            max_size: 1,
            ..Settings::default()
        };
        let state = State::open(location.clone(), Settings::default()).unwrap();
        assert_eq!(state.counts().expired, 1);
        assert_eq!(get(&state, "resp_1").unwrap().status, "failed");
        let mut hers = stored("hers");
        hers.asker.user = "eve".into();
        hers.asker.at_us = Timestamp::now().as_microsecond();
        state.responses().put(hers.clone());
        assert!(state.flush(SOON));
        assert_eq!(block(state.responses().erase("eve")).unwrap(), 1);
        assert_eq!(get(&state, "hers"), None);
        // Another node had it still.
        let other = State::open(location.clone(), Settings::default()).unwrap();
        other.responses().put(hers);
        assert!(other.close(SOON));
        assert_eq!(get(&state, "hers"), None);
        assert!(state.close(SOON));
        let state = State::open(location, small).unwrap();
        assert_eq!(state.counts().rows, 0);
        assert!(state.close(SOON));
    }
}

#[test]
fn every_earlier_version_is_brought_up_to_date() {
    let postgres = Postgres::start();
    for version in std::iter::once(0).chain(database::versions()) {
        let dir = tempfile::tempdir().unwrap();
        for location in [dir.path().into(), server(&postgres.database())] {
            block(async {
                let mut connection = location.connect().await.unwrap();
                location.migrate_to(&mut connection, version).await.unwrap();
                if version > 0 {
                    let insert = "INSERT INTO responses (tenant, id, created, expires, bytes, model, status, maker, input, response) \
                                  VALUES ('team-a', 'early', 1, 9999999999, 10, 'm', 'completed', '', '[]', '{}')";
                    sqlx::raw_sql(insert)
                        .execute(&mut connection)
                        .await
                        .unwrap();
                }
            });
            let state = State::open(location.clone(), Settings::default()).unwrap();
            assert_eq!(get(&state, "early").is_some(), version > 0, "{version}");
            state.responses().put(stored("late"));
            assert!(
                state.flush(SOON) && state.counts().written == 1,
                "{version}"
            );
            assert!(state.close(SOON));
        }
    }
}

#[test]
fn a_gateway_that_had_keys_before_it_remembers_that_it_was_closed() {
    let postgres = Postgres::start();
    for kind in ["organisation", "team"] {
        let dir = tempfile::tempdir().unwrap();
        for location in [dir.path().into(), server(&postgres.database())] {
            let closed: i64 = block(async {
                let mut connection = location.connect().await.unwrap();
                location.migrate_to(&mut connection, 5).await.unwrap();
                let insert = format!(
                    "INSERT INTO objects (id, kind, path, name, version, created, changed, body) \
                     VALUES ('x_1', '{kind}', '/x_1', 'n', 1, 1, 1, '{{}}')"
                );
                let insert = sqlx::AssertSqlSafe(insert);
                sqlx::raw_sql(insert)
                    .execute(&mut connection)
                    .await
                    .unwrap();
                location.migrate(&mut connection).await.unwrap();
                let count = "SELECT COUNT(*) FROM counters WHERE name = 'closed'";
                sqlx::query_scalar(count)
                    .fetch_one(&mut connection)
                    .await
                    .unwrap()
            });
            assert_eq!(closed, i64::from(kind == "organisation"), "{kind}");
        }
    }
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let postgres = Postgres::start();
    let dir = tempfile::tempdir().unwrap();
    for location in [dir.path().into(), server(&postgres.database())] {
        block(async {
            let database = Database::open(&location).await.unwrap();
            database.close().await.unwrap();
            let mut connection = location.connect().await.unwrap();
            let later = "UPDATE _sqlx_migrations SET version = 999999 WHERE version = 1";
            sqlx::raw_sql(later).execute(&mut connection).await.unwrap();
        });
        let error = State::open(location, Settings::default()).err().unwrap();
        assert!(error.message.contains("999999"), "{error}");
    }
}

#[test]
fn nodes_that_start_at_once_share_a_new_database() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let states = common::at_once(5, |at| {
        let state = State::open(server(&url), Settings::default()).unwrap();
        state.responses().put(stored(&format!("resp_{at}")));
        assert!(state.flush(SOON));
        state
    });
    for state in &states {
        for at in 0..5 {
            assert!(get(state, &format!("resp_{at}")).is_some(), "{at}");
        }
    }
    let newest = postgres.sql(
        "d0",
        "SELECT MAX(version) FROM _sqlx_migrations WHERE success",
    );
    assert_eq!(newest, database::newest().to_string());
}

#[test]
fn a_server_that_restarts_under_load_loses_nothing() {
    let mut postgres = Postgres::start();
    let state = State::open(server(&postgres.database()), Settings::default()).unwrap();
    let over = AtomicBool::new(false);
    let put = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut put = 0u64;
            while !over.load(Ordering::Relaxed) {
                match state.responses().put(stored(&format!("resp_{put}"))) {
                    Put::Kept => put += 1,
                    Put::QueueFull => {}
                    what @ (Put::Off | Put::TooLarge | Put::Unavailable) => panic!("{what:?}"),
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            put
        });
        for signal in ["INT", "QUIT"] {
            std::thread::sleep(Duration::from_millis(300));
            postgres.stop(signal);
            std::thread::sleep(Duration::from_millis(300));
            postgres.begin();
        }
        eventually("it writes again", || state.counts().queued == 0);
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(state.flush(SOON));
    let counts = state.counts();
    assert_eq!(
        counts.dropped,
        strait::state::Dropped::default(),
        "{counts:?}"
    );
    let rows = postgres.sql("d0", "SELECT COUNT(*) FROM responses");
    assert_eq!(rows, put.to_string(), "{counts:?}");
    assert_eq!(state.health().detail, None);
}

#[test]
fn a_server_that_stays_away_is_tried_until_it_is_back() {
    let mut postgres = Postgres::start();
    let state = State::start(server(&postgres.database()), Settings::default());
    assert_eq!(state.responses().put(stored("resp_1")), Put::Kept);
    assert!(state.flush(SOON));
    postgres.stop("INT");
    let until = Instant::now() + SOON;
    while state.counts().available {
        assert!(Instant::now() < until, "it is never noticed");
        std::thread::sleep(Duration::from_millis(50));
    }
    let health = state.health();
    assert!(!health.available && health.detail.is_some(), "{health:?}");
    assert!(!format!("{health:?}").contains(PASSWORD));
    assert_eq!(state.responses().put(stored("resp_2")), Put::Unavailable);
    let asked = block(state.responses().get("team-a", "resp_1"));
    assert_eq!(asked.unwrap_err().kind.status(), 503);
    postgres.begin();
    let until = Instant::now() + SOON;
    while !state.counts().available {
        assert!(Instant::now() < until, "it is never tried again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(state.responses().put(stored("resp_3")), Put::Kept);
    assert!(state.flush(SOON));
    assert!(get(&state, "resp_1").is_some() && get(&state, "resp_3").is_some());
    assert_eq!(state.health().detail, None);
}

/// Who shows it needs no database.
const KEY: &str = "a-key-of-the-file-0123456789";

/// A gateway that keeps its state in `url`, in front of a provider.
fn gateway(url: &str, provider: &str) -> Strait {
    let config = format!(
        r#"
        [providers.lab]
        protocols = ["openai-chat"]
        base_url = "{provider}/v1"
        key = "the-provider-key"
        [models.fast]
        targets = ["lab/x"]
        [[keys]]
        name = "team-a"
        key = "{KEY}"
        "#
    );
    Strait::start_state(
        &config,
        "database = \"env:DATABASE_URL\"",
        &[("DATABASE_URL", url)],
    )
}

#[test]
fn requests_are_answered_whether_the_database_is_there_or_not() {
    let mut postgres = Postgres::start();
    let url = postgres.database();
    let provider = mock("");
    let strait = gateway(&url, &provider.url());
    assert_eq!(strait.metric("strait_state_available", &[]), 1.0);
    let ask = |strait: &Strait| {
        let headers = [("authorization", &*format!("Bearer {KEY}"))];
        let body = chat("fast", "hi").to_string();
        let client = strait.client();
        client
            .post("/v1/chat/completions", &headers, body.as_bytes())
            .status
    };
    assert_eq!(ask(&strait), 200);
    postgres.freeze(true);
    assert_eq!(ask(&strait), 200, "while it never answers");
    postgres.freeze(false);
    postgres.stop("QUIT");
    assert_eq!(ask(&strait), 200, "while it is away");
    // Whoever keeps its state in it starts all the same, and says so.
    let second = gateway(&url, &provider.url());
    assert_eq!(ask(&second), 200);
    assert_eq!(second.metric("strait_state_available", &[]), 0.0);
    let ready = common::Client::new(second.admin)
        .get("/health/ready")
        .json();
    assert_eq!(ready["state"]["status"], "unavailable", "{ready}");
    assert!(ready["state"]["detail"].is_string(), "{ready}");
    postgres.begin();
    eventually("it is found", || {
        second.metric("strait_state_available", &[]) == 1.0
    });
    for strait in [&strait, &second] {
        assert!(!strait.log().contains(PASSWORD), "{}", strait.log());
    }
}

#[test]
fn a_server_is_spoken_to_over_tls_and_its_certificate_is_checked() {
    let authority = Authority::new();
    let postgres = Postgres::start_tls(&authority.local());
    let url = postgres.database();
    let dir = tempfile::tempdir().unwrap();
    let roots = |name: &str, authority: &Authority| {
        let file = dir.path().join(name);
        std::fs::write(&file, &authority.pem).unwrap();
        format!("{url}?sslmode=verify-full&sslrootcert={}", file.display())
    };
    let state = State::open(server(&roots("its.pem", &authority)), Settings::default());
    let state = state.unwrap();
    state.responses().put(stored("resp_1"));
    assert!(state.flush(SOON));
    assert!(get(&state, "resp_1").is_some());
    let other = server(&roots("another.pem", &Authority::new()));
    assert!(State::open(other, Settings::default()).is_err());
    let plain = server(&format!("{url}?sslmode=disable"));
    assert!(State::open(plain, Settings::default()).is_err());
}
