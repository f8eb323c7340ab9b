//! The thread that has the connections: it makes them, pings them, hears on them, and makes them anew.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::link::{Line, Session};
use super::{Heard, Lane, Later, Shared, later};

/// Between two tries to connect, at first; doubles each time.
const TRY_AFTER: Duration = Duration::from_millis(100);
const TRY_EVERY: Duration = Duration::from_secs(2);
/// After a session that lasted so long it is tried at once again.
const LASTED: Duration = Duration::from_secs(5);
/// Connecting takes this long at most, whatever the servers do.
const OPEN: Duration = Duration::from_secs(5);
/// A connection in use is asked this often whether it is there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// And has this long to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The one for large values may be late for so long.
const BULK_PATIENCE: Duration = Duration::from_secs(5);
/// One that is given up again soon after it was used again is left alone for so long; doubles each time.
const HOLD_LEAST: Duration = Duration::from_millis(250);
const HOLD_MOST: Duration = Duration::from_secs(8);
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
                let begun = Instant::now();
                // Boxed: it holds the connections.
                let why = Box::pin(attend(shared, session)).await;
                if begun.elapsed() > LASTED {
                    pause = TRY_AFTER;
                }
                why
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
        prompt(shared, line).await.map_err(Why::said)?;
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
    let mut quick = Watched::new(&shared.quick, quick);
    let mut bulk = Watched::new(&shared.bulk, bulk);
    let mut bulk_seen = Instant::now();
    *shared.detail.lock() = None;
    shared.tallies.connected.fetch_add(1, Relaxed);
    joined(shared);
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = heard.next() => match message {
                Some(message) => {
                    shared.heard(message.get_payload_bytes());
                    continue;
                }
                None => return "the connection was closed".into(),
            },
            () = shared.trouble.notified() => {}
            _ = pings.tick() => {}
        }
        if shared.demoted.swap(false, Relaxed) {
            return "it takes no writes any more".into();
        }
        if let Err(why) = quick.look(shared).await {
            return why.said();
        }
        match bulk.look(shared).await {
            Ok(()) => bulk_seen = Instant::now(),
            // A large value may be in the way, and short calls have another connection.
            Err(Why::Late(_)) if bulk_seen.elapsed() < BULK_PATIENCE => {
                shared.bulk.line.store(None);
            }
            Err(why) => return why.said(),
        }
    }
}

fn joined(shared: &Shared) {
    for (_, listener) in shared.listeners.lock().iter() {
        listener(Heard::Joined);
    }
}

/// Why a connection is not used.
enum Why {
    /// It did not answer in time.
    Late(&'static str),
    Broken(String),
}

impl Why {
    fn said(self) -> String {
        match self {
            Why::Late(why) => why.to_owned(),
            Why::Broken(why) => why,
        }
    }
}

/// A lane and the connection that it is to have.
struct Watched<'s> {
    lane: &'s Lane,
    line: Arc<Line>,
    opened: Instant,
    /// It was given up, and stays so until then.
    held: Option<Instant>,
    hold: Duration,
}

impl<'s> Watched<'s> {
    fn new(lane: &'s Lane, line: Line) -> Self {
        let line = Arc::new(line);
        lane.open(&line);
        Self {
            lane,
            line,
            opened: Instant::now(),
            held: None,
            hold: Duration::ZERO,
        }
    }

    /// Sees whether it answers; one that was given up is used again if it does so quickly. One that answers pings and
    /// then fails calls again and again, as a cluster does of which a part is away, is left alone for longer each time.
    async fn look(&mut self, shared: &Shared) -> Result<(), Why> {
        if self.lane.is_up() {
            return answers(&self.line, PATIENCE, "it does not answer").await;
        }
        let until = *self.held.get_or_insert_with(|| {
            self.hold = if self.opened.elapsed() < HOLD_MOST * 2 {
                (self.hold * 2).clamp(HOLD_LEAST, HOLD_MOST)
            } else {
                Duration::ZERO
            };
            Instant::now() + self.hold
        });
        if Instant::now() < until {
            return Ok(());
        }
        for _ in 0..GOOD_PINGS {
            prompt(shared, &self.line).await?;
        }
        self.lane.open(&self.line);
        (self.opened, self.held) = (Instant::now(), None);
        // What was to be done meanwhile was not.
        joined(shared);
        Ok(())
    }
}

/// Pings with the patience of a call.
async fn prompt(shared: &Shared, line: &Line) -> Result<(), Why> {
    let late = "it does not answer within state.redis.timeout";
    answers(line, shared.settings.timeout, late).await
}

async fn answers(line: &Line, within: Duration, late: &'static str) -> Result<(), Why> {
    match tokio::time::timeout(within, line.ping()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Why::Broken(error.to_string())),
        Err(_) => Err(Why::Late(late)),
    }
}
