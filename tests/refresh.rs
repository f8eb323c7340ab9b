//! The catalogue is fetched by the running program, from a real server: good, bad, too large, unchanged, away.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use common::{Strait, eventually};

/// What the server answers, and what it was asked.
#[derive(Default)]
struct Desk {
    /// `None`: the connection is closed at once.
    body: Option<Vec<u8>>,
    etag: String,
    /// Never ends, whatever it announced.
    endless: bool,
    asked: Vec<String>,
}

/// A server of one file.
struct Server {
    addr: SocketAddr,
    desk: Arc<Mutex<Desk>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let desk = Arc::<Mutex<Desk>>::default();
        let own = desk.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let desk = own.clone();
                std::thread::spawn(move || serve(socket, &desk));
            }
        });
        Self { addr, desk }
    }

    fn has(&self, body: &str, etag: &str) {
        let mut desk = self.desk.lock().unwrap();
        desk.body = Some(body.into());
        desk.etag = etag.into();
    }

    fn config(&self, refresh: &str) -> String {
        format!(
            "[providers.lab]\nprotocols = [\"openai-chat\"]\nbase_url = \"http://127.0.0.1:9/v1\"\nkey = \"lab-key\"\n\
             [catalogue]\nurl = \"http://{}/models.json?v=1\"\nrefresh = \"{refresh}\"\n",
            self.addr
        )
    }

    fn asked(&self) -> Vec<String> {
        self.desk.lock().unwrap().asked.clone()
    }
}

fn serve(mut socket: std::net::TcpStream, desk: &Mutex<Desk>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let mut desk = desk.lock().unwrap();
        let known = format!("if-none-match: {}", desk.etag);
        let same = !desk.etag.is_empty() && head.to_ascii_lowercase().contains(&known);
        desk.asked.push(head);
        let Some(body) = desk.body.clone() else {
            return;
        };
        let etag = desk.etag.clone();
        let endless = desk.endless;
        drop(desk);
        if same {
            let _ = socket.write_all(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 0\r\n\r\n");
            continue;
        }
        if endless {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let chunk = [
                b"100000\r\n".to_vec(),
                vec![b' '; 1 << 20],
                b"\r\n".to_vec(),
            ]
            .concat();
            while socket.write_all(&chunk).is_ok() {}
            return;
        }
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\netag: {etag}\r\ncontent-length: {length}\r\n\r\n");
        let _ = socket.write_all(head.as_bytes());
        let _ = socket.write_all(&body);
    }
}

fn file(context: u32) -> String {
    format!(
        r#"{{"models":[{{"provider":"lab","id":"x","context":{context},"price":{{"in":1,"out":2}}}}]}}"#
    )
}

fn context(strait: &Strait) -> Option<u64> {
    let model = strait.client().get("/v1/models/lab/x").json();
    model["context_window"].as_u64()
}

fn fetches(strait: &Strait, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    strait.metric("strait_catalogue_refreshes_total", &[&label])
}

#[test]
fn what_is_new_is_put_into_force_and_what_is_the_same_is_not_sent_again() {
    let server = Server::start();
    server.has(&file(1111), "\"one\"");
    let strait = Strait::start(&server.config("200ms"));
    eventually("the first is in force", || context(&strait) == Some(1111));
    // It is in force before it is kept and counted.
    eventually("it is counted", || {
        strait.metric("strait_catalogue_fetched_models", &[]) == 1.0
    });
    eventually("it is asked whether it changed", || {
        fetches(&strait, "same") >= 2.0
    });
    assert_eq!(fetches(&strait, "new"), 1.0);
    server.has(&file(2222), "\"two\"");
    eventually("the second is in force", || context(&strait) == Some(2222));
    let asked = server.asked();
    assert!(
        asked[0].starts_with("GET /models.json?v=1 HTTP/1.1\r\n"),
        "{}",
        asked[0]
    );
    assert!(
        !asked[0].to_ascii_lowercase().contains("if-none-match"),
        "{}",
        asked[0]
    );
    // The configuration's own rows lie over what was fetched, in a reload too.
    let own = "[[catalogue.models]]\nprovider = \"lab\"\nid = \"x\"\ncontext = 3333\n";
    strait.write_config(&(server.config("200ms") + own), "");
    eventually("the own row is in force", || context(&strait) == Some(3333));
    strait.write_config(&server.config("200ms"), "");
    eventually("it is gone again", || context(&strait) == Some(2222));
}

#[test]
fn what_is_bad_or_away_leaves_the_last_good_one_also_for_the_next_start() {
    let server = Server::start();
    server.has(&file(1111), "\"one\"");
    let mut strait = Strait::start(&server.config("200ms"));
    eventually("the first is in force", || context(&strait) == Some(1111));
    let failed = |strait: &Strait, what: &str| {
        let before = fetches(strait, "failed");
        eventually(what, || fetches(strait, "failed") > before);
        assert_eq!(context(strait), Some(1111), "{what}");
    };
    let bad = file(2222).replace(r#""in":1"#, r#""in":-1"#);
    server.has(&bad, "\"bad\"");
    failed(&strait, "a wrong price");
    server.has("<html>sign in</html>", "\"html\"");
    failed(&strait, "no catalogue at all");
    server.desk.lock().unwrap().endless = true;
    failed(&strait, "no end");
    {
        let mut desk = server.desk.lock().unwrap();
        desk.endless = false;
        desk.body = None;
    }
    failed(&strait, "away");
    assert!(
        strait.log().contains("the last good one stays"),
        "{}",
        strait.log()
    );

    // A start without a network has the last good one.
    let kept = std::fs::read(strait.dir.path().join("state/catalogue.last")).unwrap();
    strait.signal("TERM");
    assert!(
        strait
            .wait_exit(std::time::Duration::from_secs(20))
            .is_some()
    );
    let next = Strait::start_prepared(&server.config("1h"), |state| {
        std::fs::create_dir_all(state).unwrap();
        std::fs::write(state.join("catalogue.last"), &kept).unwrap();
    });
    assert_eq!(context(&next), Some(1111), "{}", next.log());
    // And asks by what it knows of it.
    server.has(&file(1111), "\"one\"");
    drop(next);
    let next = Strait::start_prepared(&server.config("1h"), |state| {
        std::fs::create_dir_all(state).unwrap();
        std::fs::write(state.join("catalogue.last"), &kept).unwrap();
    });
    eventually("it is still the same", || fetches(&next, "same") == 1.0);
    assert_eq!(context(&next), Some(1111));
}

#[test]
fn a_copy_of_another_address_or_a_broken_one_is_not_used() {
    let server = Server::start();
    let other = Server::start();
    for copy in [
        format!(
            "{{\"url\":\"http://{}/models.json?v=1\"}}\n{}",
            other.addr,
            file(1111)
        ),
        format!(
            "{{\"url\":\"http://{}/models.json?v=1\",\"etag\":\"\\\"e\\\"\"}}\n{{\"models\":[",
            server.addr
        ),
        "no note".to_owned(),
    ] {
        let strait = Strait::start_prepared(&server.config("1h"), |state| {
            std::fs::create_dir_all(state).unwrap();
            std::fs::write(state.join("catalogue.last"), &copy).unwrap();
        });
        eventually("it is asked", || fetches(&strait, "failed") >= 1.0);
        assert_eq!(context(&strait), None, "{copy}");
        let asked = server.asked();
        let last = asked.last().unwrap().to_ascii_lowercase();
        assert!(!last.contains("if-none-match"), "{last}");
    }
}
