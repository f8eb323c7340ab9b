//! The thread that has the connections: it makes them, pings them, hears on them, and makes them anew.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::link::{Line, Session};
use super::{Heard, Lane, Later, Shared, later};

/// Between two tries to connect, at first; doubles each time.
const TRY_AFTER: Duration = Duration::from_millis(100);
const TRY_EVERY: Duration = Duration::from_secs(2);
/// Connecting takes this long at most, whatever the servers do.
const OPEN: Duration = Duration::from_secs(5);
/// A connection in use is asked this often whether it is there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// And has this long to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// A connection that others gave up must answer so often in a row, each time as quickly as a call must.
const GOOD_PINGS: u32 = 2;

/// Runs until it is told to stop, and what waits is done.
pub fn run(shared: &Arc<Shared>, waiting: mpsc::Receiver<Later>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                () = later::run(shared, waiting) => {}
                () = serve(shared) => {}
            }
        }),
        Err(error) => {
            tracing::error!(%error, "the thread of Redis can't run: it counts as away");
            *shared.detail.lock() = Some(format!("its thread can't run: {error}"));
        }
    }
    shared.quick.line.store(None);
    shared.bulk.line.store(None);
}

/// Keeps a session open for ever.
async fn serve(shared: &Arc<Shared>) {
    let mut pause = TRY_AFTER;
    let mut complained = false;
    loop {
        let why = match open(shared).await {
            Ok(session) => {
                if std::mem::take(&mut complained) {
                    tracing::info!("Redis is there again");
                }
                pause = TRY_AFTER;
                // Boxed: it holds the connections.
                Box::pin(attend(shared, session)).await
            }
            Err(why) => why,
        };
        shared.quick.line.store(None);
        shared.bulk.line.store(None);
        if !complained {
            tracing::warn!(why, "Redis is away: each node goes by what it knows itself");
        }
        complained = true;
        *shared.detail.lock() = Some(why);
        // Many nodes lose it at once, and should not come back at once.
        let jitter = Duration::from_millis(fastrand::u64(..=pause.as_millis() as u64 / 4));
        tokio::time::sleep(pause + jitter).await;
        pause = (pause * 2).min(TRY_EVERY);
    }
}

/// Connects and sees it answer.
async fn open(shared: &Shared) -> Result<Session, String> {
    let channel = shared.channel();
    let opening = Box::pin(Session::open(&shared.settings, &channel));
    let session = match tokio::time::timeout(OPEN, opening).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return Err(format!("it can't be connected to: {error}")),
        Err(_) => return Err("it can't be connected to in time".into()),
    };
    for line in [&session.quick, &session.bulk] {
        prompt(shared, line).await?;
    }
    Ok(session)
}

/// Uses a session until it breaks; returns why.
async fn attend(shared: &Shared, session: Session) -> String {
    let Session {
        quick,
        bulk,
        mut heard,
        _subscribed,
    } = session;
    let lines = [
        (&shared.quick, Arc::new(quick)),
        (&shared.bulk, Arc::new(bulk)),
    ];
    for (lane, line) in &lines {
        lane.open(line);
    }
    *shared.detail.lock() = None;
    shared.tallies.connected.fetch_add(1, Relaxed);
    joined(shared);
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = heard.next() => match message {
                Some(message) => shared.heard(message.get_payload_bytes()),
                None => return "the connection was closed".into(),
            },
            () = shared.trouble.notified() => {
                if let Err(why) = look(shared, &lines).await {
                    return why;
                }
            }
            _ = pings.tick() => {
                if let Err(why) = look(shared, &lines).await {
                    return why;
                }
            }
        }
    }
}

fn joined(shared: &Shared) {
    for (_, listener) in shared.listeners.lock().iter() {
        listener(Heard::Joined);
    }
}

/// Sees whether the connections answer; one that was given up is used again if it does so quickly.
async fn look(shared: &Shared, lines: &[(&Lane, Arc<Line>); 2]) -> Result<(), String> {
    for (lane, line) in lines {
        if !lane.is_up() {
            for _ in 0..GOOD_PINGS {
                prompt(shared, line).await?;
            }
            lane.open(line);
            // What was to be done meanwhile was not.
            joined(shared);
            continue;
        }
        match tokio::time::timeout(PATIENCE, line.ping()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("it does not answer".into()),
        }
    }
    Ok(())
}

/// Pings with the patience of a call.
async fn prompt(shared: &Shared, line: &Line) -> Result<(), String> {
    match tokio::time::timeout(shared.settings.timeout, line.ping()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer within state.redis.timeout".into()),
    }
}
