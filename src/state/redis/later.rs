//! What is done in the background: bounded, and dropped when there is no room or no Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Failure, Script, Shared, Topic};

/// What may wait, and its bytes.
const MOST: usize = 1024;
const MOST_BYTES: usize = 32 << 20;
/// Calls under way at once.
const AT_ONCE: usize = 32;
/// What somebody waits for the answer of is tried so often, with a pause that doubles.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);

/// Something to be done.
pub enum Later {
    /// Words for the other nodes.
    Tell(Topic, Vec<u8>),
    Script {
        script: &'static Script,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
        /// Is handed the answer, on the thread that looks after the connections.
        then: Option<Box<dyn FnOnce(::redis::Value) + Send + Sync>>,
    },
    Set {
        key: String,
        value: Vec<u8>,
        ttl: Duration,
    },
}

impl Later {
    fn bytes(&self) -> usize {
        match self {
            Later::Tell(_, words) => words.len(),
            Later::Script { keys, args, .. } => {
                keys.iter().map(String::len).sum::<usize>()
                    + args.iter().map(Vec::len).sum::<usize>()
            }
            Later::Set { key, value, .. } => key.len() + value.len(),
        }
    }
}

pub struct Queue {
    sender: mpsc::Sender<Later>,
    bytes: AtomicUsize,
}

impl Queue {
    pub fn new() -> (Self, mpsc::Receiver<Later>) {
        let (sender, waiting) = mpsc::channel(MOST);
        let queue = Self {
            sender,
            bytes: AtomicUsize::new(0),
        };
        (queue, waiting)
    }

    /// Returns whether there was room.
    pub fn put(&self, later: Later) -> bool {
        let bytes = later.bytes();
        let before = self.bytes.fetch_add(bytes, Relaxed);
        let fits = before.saturating_add(bytes) <= MOST_BYTES;
        if fits && self.sender.try_send(later).is_ok() {
            return true;
        }
        self.bytes.fetch_sub(bytes, Relaxed);
        false
    }

    pub fn length(&self) -> (u64, u64) {
        let waiting = self.sender.max_capacity() - self.sender.capacity();
        (waiting as u64, self.bytes.load(Relaxed) as u64)
    }
}

/// Does what waits, until it is told to stop and nothing waits any more.
pub async fn run(shared: &Arc<Shared>, mut waiting: mpsc::Receiver<Later>) {
    let mut stop = shared.stop.subscribe();
    let mut under_way = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = waiting.recv() => next,
            _ = stop.wait_for(|stop| *stop), if !waiting.is_closed() => {
                waiting.close();
                continue;
            }
            Some(_) = under_way.join_next(), if !under_way.is_empty() => continue,
        };
        let Some(later) = next else { break };
        while under_way.len() >= AT_ONCE {
            under_way.join_next().await;
        }
        let shared = shared.clone();
        under_way.spawn(async move {
            let bytes = later.bytes();
            let outcome = shared.do_now(later).await;
            shared.queue.bytes.fetch_sub(bytes, Relaxed);
            if outcome == Err(Failure::Away) {
                shared.tallies.dropped_away.fetch_add(1, Relaxed);
            }
        });
    }
    while under_way.join_next().await.is_some() {}
}

impl Shared {
    /// What fails here is counted as a call; whoever had it done has another way, or can do without.
    async fn do_now(&self, later: Later) -> Result<(), Failure> {
        match later {
            Later::Tell(topic, words) => self.tell(topic, &words).await,
            Later::Script {
                script,
                keys,
                args,
                then,
            } => {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                let tries = if then.is_some() { TRIES } else { 1 };
                let mut pause = PAUSE;
                for left in (0..tries).rev() {
                    match self.script(script, &keys, args.as_slice()).await {
                        Ok(done) => {
                            if let Some(then) = then {
                                then(done);
                            }
                            return Ok(());
                        }
                        Err(failure) if left == 0 || *self.stop.borrow() => return Err(failure),
                        Err(_) => tokio::time::sleep(pause).await,
                    }
                    pause *= 2;
                }
                Ok(())
            }
            Later::Set { key, value, ttl } => self.set(&key, &value, ttl).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bytes: usize) -> Later {
        Later::Set {
            key: "k".into(),
            value: vec![0; bytes],
            ttl: Duration::from_secs(1),
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_no_trace() {
        let (queue, mut waiting) = Queue::new();
        assert!(queue.put(set(MOST_BYTES / 2)));
        assert!(!queue.put(set(MOST_BYTES / 2)), "too many bytes");
        assert_eq!(queue.length(), (1, MOST_BYTES as u64 / 2 + 1));
        for _ in 1..MOST {
            assert!(queue.put(Later::Tell(Topic::Cache, Vec::new())));
        }
        assert!(
            !queue.put(Later::Tell(Topic::Cache, Vec::new())),
            "too many"
        );
        assert_eq!(queue.length().0, MOST as u64);
        assert!(waiting.try_recv().is_ok());
        assert!(queue.put(Later::Tell(Topic::Cache, Vec::new())));
        waiting.close();
        assert!(!queue.put(set(1)), "nobody takes it any more");
        assert_eq!(queue.length().1, MOST_BYTES as u64 / 2 + 1);
    }
}
