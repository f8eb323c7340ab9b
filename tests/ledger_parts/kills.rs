//! What is left after a kill, again and again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// Connections that ask one request after the other. On a machine with two cores they come to some thousand a second of a
/// release build.
const ASKERS: usize = 24;

/// How often the gateway is killed: 5 times, or as often as this variable says.
fn kills() -> usize {
    let often = std::env::var("STRAIT_KILLS").ok();
    often.and_then(|often| often.parse().ok()).unwrap_or(5)
}

#[test]
fn killed_again_and_again_under_load_it_has_a_row_for_every_call_and_none_twice() {
    let mock = mock(
        "[[rule]]\nsteps = [{ text = \"hello there\" }, { text = \"and again\" }, { text = \"and again\" }, { text = \"slowly and to the end\", chunks = 5, chunk_gap = \"5ms\" }]\n",
    );
    let mut strait = Strait::start(&lab(&mock));
    let calls = AtomicUsize::new(0);
    let mut loaded = Duration::ZERO;
    let mut random = fastrand::Rng::with_seed(11);
    for kill in 0..kills() {
        let stop = AtomicBool::new(false);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for asker in 0..ASKERS {
                let (address, stop, calls) = (strait.addr, &stop, &calls);
                scope.spawn(move || ask_on(address, asker % 4 == 0, stop, calls));
            }
            std::thread::sleep(Duration::from_millis(random.u64(200..900)));
            strait.signal("KILL");
            loaded += began.elapsed();
            std::thread::sleep(Duration::from_millis(20));
            stop.store(true, Ordering::Relaxed);
        });
        assert!(
            strait.wait_exit(Duration::from_secs(20)).is_some(),
            "kill {kill}"
        );
        strait.restart();
    }
    assert_eq!(ask(&strait, "", &[], "the last"), 200);
    let asked = mock.counts().count as usize;
    let until = Instant::now() + Duration::from_secs(60);
    let rows = loop {
        let rows = exported(&strait);
        if rows.len() >= asked {
            break rows;
        }
        assert!(
            Instant::now() < until,
            "{} rows of {asked} calls; {}",
            rows.len(),
            ready(&strait)
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut ids: Vec<&str> = rows
        .iter()
        .map(|row| row["request_id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rows.len(), "none is there twice");
    let (done, cut): (Vec<&Value>, Vec<&Value>) =
        rows.iter().partition(|row| row["state"] == "done");
    let whole = calls.load(Ordering::Relaxed);
    let rate = asked as f64 / loaded.as_secs_f64();
    eprintln!(
        "{} kills under {rate:.0} requests a second: {asked} calls, {} rows, {whole} answered whole, {} done, {} interrupted",
        kills(),
        rows.len(),
        done.len(),
        cut.len()
    );
    for row in cut {
        assert_eq!(row["provider"], "lab");
        assert!(
            row["cost_pico"].as_u64().unwrap() > 0,
            "with its estimate: {row}"
        );
    }
    // Nothing is damaged.
    let database = strait.dir.path().join("state/ledger/strait.db");
    assert!(database.exists());
    let log = strait.log();
    assert!(!log.contains("can't be read"), "{log}");
}

/// Asks one request after the other over one connection, and over another when that breaks, until it is to stop.
fn ask_on(address: std::net::SocketAddr, streams: bool, stop: &AtomicBool, calls: &AtomicUsize) {
    let mut body = chat("fast", "hi");
    body["stream"] = streams.into();
    let body = body.to_string();
    let length = body.len().to_string();
    let headers = [
        ("content-type", "application/json"),
        ("content-length", length.as_str()),
    ];
    let head = common::wire::head_of("POST", "/v1/chat/completions", &headers);
    let request = [head.into_bytes(), body.into_bytes()].concat();
    while !stop.load(Ordering::Relaxed) {
        // The gateway may be dead.
        let Ok(socket) = std::net::TcpStream::connect(address) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut wire = common::wire::Wire::over(socket);
        while !stop.load(Ordering::Relaxed) {
            if wire.send(&request).is_err() || wire.answer().is_err() {
                break;
            }
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn exported(strait: &Strait) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/admin/v1/records/export?limit=20000{after}");
        let piece = strait.admin("GET", &path, "");
        if piece.status == 503 {
            return rows;
        }
        assert_eq!(piece.status, 200, "{}", piece.text());
        rows.extend(
            piece
                .text()
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()),
        );
        match piece.header("x-strait-next") {
            Some(next) => after = format!("&after={next}"),
            None => return rows,
        }
    }
}
