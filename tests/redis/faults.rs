//! Redis stopped, started again, frozen, slow and full while requests come: they are served, soon, and it is used again
//! afterwards without anybody's doing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::redis::Redis;
use crate::common::{Strait, eventually, mock};
use crate::{ask, at, config, found, node, redis_health};

const CACHE: &str = "[cache]\nenabled = true\nredis = true";

/// Far above what a request takes that waits for Redis once or twice, far below what one takes that hangs.
const BOUND: Duration = Duration::from_secs(5);

/// Sends requests, each another question, until `during` is over; all are answered, within the bound.
fn under_load(strait: &Strait, during: impl FnOnce()) {
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for at in 0..4 {
            let (over, sent) = (&over, &sent);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    let begun = Instant::now();
                    let answer = ask(strait, "m", &format!("question {at} {number}"));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let took = begun.elapsed();
                    assert!(took < BOUND, "it took {took:?}");
                }
            });
        }
        during();
        over.store(true, Ordering::Relaxed);
    });
    assert!(sent.load(Ordering::Relaxed) > 20);
}

fn missed(strait: &Strait) {
    eventually("Redis is missed", || {
        strait.metric("strait_redis_available", &[]) == 0.0
    });
    assert_eq!(redis_health(strait)["status"], "unavailable");
}

fn a_moment() {
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn requests_are_served_while_redis_is_stopped_started_and_frozen() {
    let mut redis = Redis::start();
    let provider = mock("");
    let strait = node(&config(&provider, CACHE), &at(&redis));
    assert_eq!(
        redis_health(&strait),
        json!({"status": "ok", "detail": null})
    );
    under_load(&strait, || {
        a_moment();
        redis.stop();
        missed(&strait);
        a_moment();
        redis.begin();
        found(&strait);
        a_moment();
        redis.freeze(true);
        missed(&strait);
        a_moment();
        redis.freeze(false);
        found(&strait);
        a_moment();
    });
    let used = || strait.metric("strait_cache_redis_total", &["outcome=\"sent\""]);
    let before = used();
    eventually("it is used again", || {
        ask(&strait, "m", &format!("once more {:?}", Instant::now()));
        used() > before
    });
    assert_eq!(redis_health(&strait)["status"], "ok");
    let log = strait.log();
    assert!(
        log.contains("Redis is away") && log.contains("Redis is there again"),
        "{log}"
    );
    assert!(!log.contains(crate::PASSWORD), "{log}");
}

/// Stands between a gateway and its Redis, and lets every piece wait. It ends with the test's process.
fn slow_way(to: u16, delay_ms: &Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let delay = delay_ms.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                continue;
            };
            let ways = [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ];
            for (mut from, mut to) in ways {
                let delay = delay.clone();
                std::thread::spawn(move || {
                    let mut piece = vec![0; 64 << 10];
                    while let Ok(length @ 1..) = from.read(&mut piece) {
                        std::thread::sleep(Duration::from_millis(delay.load(Ordering::Relaxed)));
                        if to.write_all(&piece[..length]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    address
}

#[test]
fn requests_are_served_while_redis_is_slow() {
    let redis = Redis::start();
    let delay = Arc::new(AtomicU64::new(0));
    let way = slow_way(redis.port, &delay);
    let provider = mock("");
    let state = at(&redis).replace(&redis.port.to_string(), &way.port().to_string());
    let strait = node(&config(&provider, CACHE), &state);
    under_load(&strait, || {
        a_moment();
        // Each way; a call may take 50 ms.
        delay.store(150, Ordering::Relaxed);
        missed(&strait);
        a_moment();
        delay.store(0, Ordering::Relaxed);
        found(&strait);
        a_moment();
    });
}

#[test]
fn requests_are_served_while_redis_is_full() {
    let redis = Redis::start_with(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let provider = mock("[default]\ntext_bytes = 200000\n");
    let strait = node(&config(&provider, CACHE), &at(&redis));
    let refused = || strait.metric("strait_redis_calls_total", &["outcome=\"refused\""]);
    let mut filled = 0;
    under_load(&strait, || {
        // What the mock makes up can be compressed well: fill it by hand.
        while filled < 200 {
            filled += 1;
            let value = "x".repeat(60_000);
            let put = redis.ask(&["SET", &format!("filler:{filled}"), &value]);
            if put != "OK" {
                break;
            }
        }
        eventually("it refuses", || refused() > 3.0);
        eventually("it is said", || {
            redis_health(&strait)["status"] == "degraded"
        });
        assert_eq!(
            strait.metric("strait_redis_available", &[]),
            1.0,
            "it is there"
        );
        assert_eq!(redis.ask(&["FLUSHALL"]), "OK");
        a_moment();
    });
    let detail = redis_health(&strait)["detail"].clone();
    assert!(
        detail.as_str().is_none_or(|detail| detail.contains("OOM")),
        "{detail}"
    );
    let written = redis.ask(&["KEYS", "strait:cache:*"]);
    assert!(!written.is_empty(), "it is used again");
}

#[test]
fn a_node_starts_and_stops_without_redis() {
    let mut redis = Redis::start();
    let state = at(&redis);
    redis.stop();
    let provider = mock("");
    let mut strait = Strait::start_state(&config(&provider, CACHE), &state, &[]);
    assert_eq!(ask(&strait, "m", "hi").status, 200);
    assert_eq!(redis_health(&strait)["status"], "unavailable");
    redis.begin();
    found(&strait);
    assert_eq!(strait.admin("DELETE", "/admin/v1/cache", "").status, 200);
    redis.stop();
    missed(&strait);
    assert_eq!(ask(&strait, "m", "hello").status, 200);
    // What can't be done everywhere is not said to be done.
    for path in ["/admin/v1/cache", "/admin/v1/cooldowns"] {
        let cleared = strait.admin("DELETE", path, "");
        assert_eq!(cleared.status, 503, "{}", cleared.text());
    }
    strait.signal("TERM");
    let ended = strait.wait_exit(Duration::from_secs(30));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}
