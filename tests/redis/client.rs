//! The client alone: every kind of Redis, and what a call is told when there is none.

use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use strait::secret::Secret;
use strait::state::redis::{Failure, Heard, Identity, Mode, Redis, Script, Settings, Topic};

use crate::common::authority::Authority;
use crate::common::redis::{self as server, PASSWORD};
use crate::common::{eventually, free};

static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for at = 1, #KEYS do redis.call('INCRBY', KEYS[at], ARGV[1]) end
return redis.call('GET', KEYS[1])",
    )
});

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A test must not fail because the machine is busy.
fn patient(settings: Settings) -> Settings {
    Settings {
        timeout: Duration::from_secs(2),
        ..settings
    }
}

fn open(settings: Settings) -> Redis {
    let redis = Redis::start(patient(settings));
    eventually("it is connected", || redis.is_available());
    redis
}

fn add(redis: &Redis, keys: &[&str], by: i64) -> Result<i64, Failure> {
    block(redis.script(&ADD, keys, by))
}

/// Does everything that can be done, with two connections to the same.
fn works(settings: &Settings) {
    let [one, other] = [(); 2].map(|()| open(settings.clone()));
    assert_eq!(add(&one, &["{a}x", "{a}y"], 2), Ok(2));
    assert_eq!(add(&other, &["{a}x", "{a}y"], 3), Ok(5), "they share it");
    let value = vec![7u8; 300_000];
    for key in ["k", "l", "m", "n"] {
        assert_eq!(block(one.set(key, &value, Duration::from_secs(60))), Ok(()));
        assert_eq!(block(other.get(key)), Ok(Some(value.clone())));
    }
    assert_eq!(block(one.get("nothing")), Ok(None));
    block(one.set("soon", b"gone", Duration::from_millis(1))).unwrap();
    eventually("its time is over", || block(one.get("soon")) == Ok(None));

    let (told, heard) = channel();
    other.hear(Topic::Directory, move |said| match said {
        Heard::Joined => told.send(b"joined".to_vec()).unwrap(),
        Heard::Told(words) => told.send(words.to_vec()).unwrap(),
    });
    let hears = || heard.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(hears(), b"joined");
    assert!(other.tell(Topic::Directory, b"its own words"));
    assert!(one.tell(Topic::Cooldowns, b"of something else"));
    assert!(one.tell(Topic::Directory, b"two words"));
    assert_eq!(hears(), b"two words", "not its own, nor of another topic");
    for redis in [one, other] {
        assert!(redis.close(Duration::from_secs(10)));
        assert!(!redis.is_available());
        assert_eq!(add(&redis, &["{a}x"], 1), Err(Failure::Away));
    }
}

#[test]
fn one_server_does_it_all() {
    let redis = server::Redis::start();
    works(&Settings::single(&redis.url()));
    let keys = redis.ask(&["KEYS", "*"]);
    assert!(keys.lines().all(|key| key.starts_with("strait:")), "{keys}");
    assert!(keys.contains("strait:k"), "{keys}");
}

#[test]
fn a_cluster_does_it_all() {
    let mut nodes = server::Redis::start_cluster();
    let settings = Settings {
        // One would do; the others are found.
        urls: nodes[..2]
            .iter()
            .map(|node| Secret::new(node.url()))
            .collect(),
        mode: Mode::Cluster,
        ..Settings::single("")
    };
    works(&settings);
    let used = nodes.iter().filter(|node| node.ask(&["DBSIZE"]) != "0");
    assert!(used.count() > 1, "the keys are spread");
    // Keys of one script that don't belong together are refused, which is no reason to count it as away.
    let redis = open(settings);
    let refused = add(&redis, &["a", "b"], 1);
    assert!(
        matches!(&refused, Err(Failure::Refused(_) | Failure::Lost)),
        "{refused:?}"
    );
    assert_eq!(add(&redis, &["a"], 1), Ok(1));
    // With a part of it gone, calls for that part fail, and soon nobody waits for them.
    nodes[1].stop();
    let keys: Vec<String> = (0..64).map(|at| format!("key{at}")).collect();
    eventually("a part is missed", || {
        let mut keys = keys.iter();
        keys.any(|key| add(&redis, &[key], 1) == Err(Failure::Away))
    });
    nodes[1].begin();
    eventually("it is whole again", || {
        keys.iter().all(|key| add(&redis, &[key], 1).is_ok())
    });
    assert!(redis.close(Duration::from_secs(10)));
}

#[test]
fn tls_is_spoken_where_the_authority_is_trusted() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = Authority::new();
    let redis = server::Redis::start_tls(&authority.local(), &authority.pem);
    let settings = Settings {
        ca: Some(redis.dir().join("ca.pem")),
        ..Settings::single(&redis.url())
    };
    works(&settings);
    let says_why = |settings: Settings, why: &str| {
        let client = Redis::start(patient(settings));
        eventually("it says why", || {
            client.health().detail.unwrap_or_default().contains(why)
        });
        assert!(!client.is_available());
        assert!(client.close(Duration::from_secs(10)));
    };
    says_why(Settings::single(&redis.url()), "certificate");

    // One that asks who we are.
    let strict = server::Redis::start_mutual_tls(&authority.local(), &authority.pem);
    let unknown = Settings {
        urls: vec![Secret::new(strict.url())],
        ..settings
    };
    says_why(unknown.clone(), "ertificate");
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = authority.local().files(&dir);
    works(&Settings {
        identity: Some(Identity { cert, key }),
        ..unknown
    });
}

#[test]
fn sentinels_are_asked_for_the_server_and_again_when_another_takes_over() {
    let mut first = server::Redis::start();
    let second = server::Redis::start_replica(&first);
    let sentinel = server::Redis::start_sentinel("main", &first);
    let settings = Settings {
        mode: Mode::Sentinel {
            master: "main".into(),
            user: None,
            password: Some(Secret::new(PASSWORD)),
        },
        ..Settings::single(&sentinel.url())
    };
    works(&settings);
    eventually("the sentinel knows the replica", || {
        sentinel
            .ask(&["SENTINEL", "REPLICAS", "main"])
            .contains(&second.port.to_string())
    });
    let redis = open(settings);
    assert_eq!(add(&redis, &["before"], 1), Ok(1));
    eventually("it is copied", || {
        second.ask(&["GET", "strait:before"]) == "1"
    });
    first.stop();
    let until = Instant::now() + Duration::from_secs(60);
    while add(&redis, &["after"], 1).is_err() {
        assert!(Instant::now() < until, "{:?}", redis.health());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        second.ask(&["GET", "strait:after"]),
        "1",
        "the other has it"
    );
    assert!(redis.close(Duration::from_secs(10)));
}

#[test]
fn a_user_who_may_do_little_outside_the_prefix_is_enough() {
    let redis = server::Redis::start();
    let rights = [
        "on",
        ">w0rd",
        "~here:*",
        "&here:*",
        "+eval",
        "+evalsha",
        "+get",
        "+set",
        "+incrby",
        "+publish",
        "+subscribe",
        "+ping",
        "+select",
    ];
    assert_eq!(
        redis.ask(&[&["ACL", "SETUSER", "strait"], &rights[..]].concat()),
        "OK"
    );
    works(&Settings {
        prefix: "here:".into(),
        ..Settings::single(&format!("redis://strait:w0rd@127.0.0.1:{}/3", redis.port))
    });
    assert_eq!(redis.ask(&["DBSIZE"]), "0", "it is in another database");
}

#[test]
fn a_wrong_password_is_said_without_saying_it() {
    let redis = server::Redis::start();
    let url = format!("redis://:not-the-p4ssword@127.0.0.1:{}", redis.port);
    let wrong = Redis::start(Settings::single(&url));
    eventually("it says why", || {
        let detail = wrong.health().detail.unwrap_or_default();
        assert!(!detail.contains("p4ssword"), "{detail}");
        detail.to_lowercase().contains("auth") || detail.contains("WRONGPASS")
    });
    assert!(wrong.close(Duration::from_secs(10)));
}

#[test]
fn scripts_survive_that_redis_forgets_them_and_faults_in_them_are_told() {
    static WRONG: LazyLock<Script> = LazyLock::new(|| Script::new("return nothing.at.all"));
    let redis = server::Redis::start();
    let client = open(Settings::single(&redis.url()));
    assert_eq!(add(&client, &["x"], 1), Ok(1));
    assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]), "OK");
    assert_eq!(add(&client, &["x"], 1), Ok(2));
    for _ in 0..20 {
        let refused = block(client.script::<i64>(&WRONG, &["x"], 1));
        assert!(
            matches!(&refused, Err(Failure::Refused(why)) if why.contains("nothing")),
            "{refused:?}"
        );
    }
    assert_eq!(
        add(&client, &["x"], 1),
        Ok(3),
        "a refusal is no reason to count it as away"
    );
    let detail = client.health().detail.unwrap_or_default();
    assert!(detail.contains("refused"), "{detail}");
    assert!(client.close(Duration::from_secs(10)));
}

#[test]
fn nobody_waits_for_a_redis_that_is_away_and_it_is_found_again() {
    let mut redis = server::Redis::start();
    let settings = Settings::single(&redis.url());
    let client = Redis::start(settings.clone());
    eventually("it is connected", || client.is_available());
    redis.freeze(true);
    // Some are lost, one after the other; then nobody waits.
    let mut lost = 0;
    eventually("it counts as away", || {
        match add(&client, &["x"], 1) {
            Err(Failure::Lost) => lost += 1,
            Err(Failure::Away) => return true,
            other => panic!("{other:?}"),
        }
        false
    });
    assert!((1..=5).contains(&lost), "{lost}");
    let health = client.health();
    assert!(!health.available && health.detail.is_some(), "{health:?}");
    assert!(
        !client.tell(Topic::Directory, b"x"),
        "it is not even queued"
    );
    redis.freeze(false);
    eventually("it is found again", || client.is_available());
    redis.stop();
    eventually("it is missed", || !client.is_available());
    assert_eq!(add(&client, &["x"], 1), Err(Failure::Away));
    redis.begin();
    eventually("it is found again", || client.is_available());
    eventually("it works", || add(&client, &["x"], 1).is_ok());
    assert_eq!(client.health().detail, None);
    assert!(client.close(Duration::from_secs(10)));

    // One that is not there at all holds up neither the start nor the end.
    let nowhere = Redis::start(Settings::single(&format!("redis://{}", free())));
    assert_eq!(add(&nowhere, &["x"], 1), Err(Failure::Away));
    assert!(nowhere.close(Duration::from_secs(10)));
}

#[test]
fn a_server_that_takes_no_writes_any_more_is_left_and_looked_for_again() {
    let [redis, other] = [(); 2].map(|()| server::Redis::start());
    let client = open(Settings::single(&redis.url()));
    let connected = client.counts().connected;
    assert_eq!(
        redis.ask(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]),
        "OK"
    );
    assert_eq!(
        add(&client, &["x"], 1),
        Err(Failure::Away),
        "it was not done"
    );
    eventually("it is connected to anew", || {
        client.counts().connected > connected
    });
    assert_eq!(redis.ask(&["REPLICAOF", "NO", "ONE"]), "OK");
    eventually("it works again", || add(&client, &["x"], 1).is_ok());
    assert!(client.close(Duration::from_secs(10)));
}

#[test]
fn a_full_redis_refuses_and_is_not_away() {
    let redis =
        server::Redis::start_with(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let client = open(Settings::single(&redis.url()));
    let value = vec![1u8; 200_000];
    let refused = (0..100).find_map(|at| {
        let key = format!("k{at}");
        block(client.set(&key, &value, Duration::from_secs(60))).err()
    });
    assert!(
        matches!(&refused, Some(Failure::Refused(why)) if why.starts_with("OOM")),
        "{refused:?}"
    );
    assert!(client.is_available());
    assert_eq!(block(client.get("k0")), Ok(Some(value)), "it still answers");
    let detail = client.health().detail.unwrap_or_default();
    assert!(detail.contains("OOM"), "{detail}");
    assert!(client.close(Duration::from_secs(10)));
}
