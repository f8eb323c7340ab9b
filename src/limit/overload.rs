//! Overload: so many requests at a time, a short queue for those above it, and a refusal for the rest.
//!
//! Whoever waits is let in by priority, and within a priority the keys take turns: one with a thousand waiting delays
//! another with one by a single place. A full queue takes in a newcomer of a key that holds less of it than another, or of a
//! higher priority, and sends away the last of those who hold most. A place is given back, and a waiting one left, by dropping.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Who goes first where not all can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    pub const ALL: [(&'static str, Priority); 3] = [
        ("high", Priority::High),
        ("normal", Priority::Normal),
        ("low", Priority::Low),
    ];

    pub fn of(name: &str) -> Option<Self> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, priority)| *priority)
    }
}

/// How many wait, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// 0: nobody waits.
    pub size: u32,
    pub wait: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            size: 1000,
            wait: Duration::from_secs(5),
        }
    }
}

/// Requests in flight when nothing is said.
pub const MOST_INFLIGHT: u32 = 10_000;
/// Of all places, one in so many is kept from each provider.
const QUARTER: u32 = 4;

/// In whose name a request waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// The key's name; empty where there are no keys.
    pub key: Arc<str>,
    pub priority: Priority,
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The key holds more of the queue than its share: it is the one to slow down.
    pub greedy: bool,
    pub retry_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The queue is full.
    Full,
    /// Waited as long as one may.
    Late,
    /// Sent away for one who holds less of the queue, or goes first.
    Displaced,
}

impl Reason {
    /// Returns the word that metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Full => "full",
            Reason::Late => "late",
            Reason::Displaced => "displaced",
        }
    }
}

/// A bounded number of places.
pub struct Gate {
    limit: AtomicU32,
    inside: AtomicU32,
    /// Also read without the lock: while somebody waits, nobody walks past.
    waiting: AtomicU32,
    line: Mutex<Line>,
}

/// The gates of a process: one for all requests, one for each provider that is bounded. They outlive a reload.
pub struct Gates {
    pub all: Arc<Gate>,
    providers: DashMap<String, Arc<Gate>>,
}

/// A place; dropping it gives it to the next.
#[must_use = "dropped at once it bounds nothing"]
pub struct Slot(Arc<Gate>);

/// A request in the queue; dropping it leaves the queue.
pub struct Waiting {
    gate: Arc<Gate>,
    turn: Turn,
    id: u64,
    told: oneshot::Receiver<Result<(), Refusal>>,
    /// The answer was taken.
    over: bool,
    wait: Duration,
}

/// Those who wait.
#[derive(Default)]
struct Line {
    queue: Queue,
    lanes: [Lane; Priority::ALL.len()],
    next: u64,
}

/// Those who wait in one priority.
#[derive(Default)]
struct Lane {
    keys: HashMap<Arc<str>, VecDeque<Waiter>>,
    /// Keys with somebody waiting, in turn.
    turns: VecDeque<Arc<str>>,
}

struct Waiter {
    id: u64,
    tell: oneshot::Sender<Result<(), Refusal>>,
}

impl Gate {
    pub fn new(limit: u32, queue: Queue) -> Arc<Self> {
        let line = Line {
            queue,
            ..Line::default()
        };
        Arc::new(Self {
            limit: AtomicU32::new(limit),
            inside: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            line: Mutex::new(line),
        })
    }

    /// Changes the bounds. Who is inside or waits stays; a raised limit lets in at once.
    pub fn set(&self, limit: u32, queue: Queue) {
        let mut line = self.line.lock();
        line.queue = queue;
        self.limit.store(limit, SeqCst);
        self.admit(&mut line);
    }

    /// Enters where there is a place and nobody waits for one.
    pub fn enter(self: &Arc<Self>) -> Option<Slot> {
        let free = self.waiting.load(SeqCst) == 0 && self.take();
        free.then(|| Slot(self.clone()))
    }

    /// Stands in line, or is refused because it is full.
    pub fn join(self: &Arc<Self>, turn: &Turn) -> Result<Waiting, Refusal> {
        let (tell, told) = oneshot::channel();
        let mut line = self.line.lock();
        let wait = line.queue.wait;
        if self.waiting.load(SeqCst) >= line.queue.size {
            let displaced = line.displace(turn)?;
            self.waiting.fetch_sub(1, SeqCst);
            let refusal = Refusal {
                reason: Reason::Displaced,
                greedy: displaced.1,
                retry_after: wait,
            };
            // Its receiver leaves the line under the lock before it drops.
            let _ = displaced.0.tell.send(Err(refusal));
        }
        line.next += 1;
        let id = line.next;
        line.push(turn, Waiter { id, tell });
        self.waiting.fetch_add(1, SeqCst);
        // A place may have been given back between `enter` and the line above.
        self.admit(&mut line);
        drop(line);
        Ok(Waiting {
            gate: self.clone(),
            turn: turn.clone(),
            id,
            told,
            over: false,
            wait,
        })
    }

    pub fn inside(&self) -> u32 {
        self.inside.load(SeqCst)
    }

    pub fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        let more = |inside: u32| (inside < limit).then_some(inside + 1);
        self.inside.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    /// Gives free places to those who wait.
    fn admit(&self, line: &mut Line) {
        while !line.is_empty() && self.take() {
            let Some(waiter) = line.pop() else {
                self.inside.fetch_sub(1, SeqCst);
                return;
            };
            self.waiting.fetch_sub(1, SeqCst);
            let _ = waiter.tell.send(Ok(()));
        }
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, SeqCst);
        // Either this sees who has joined, or they see the free place: both orders are total.
        if self.waiting.load(SeqCst) > 0 {
            self.admit(&mut self.line.lock());
        }
    }
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            all: Gate::new(MOST_INFLIGHT, Queue::default()),
            providers: DashMap::new(),
        }
    }
}

impl Gates {
    /// Puts bounds in force: in all, and of each provider by its name.
    ///
    /// Who waits for a provider holds a place among all. So a provider's queue takes no more than half of what the
    /// provider leaves: however slow one of them is, there are places for the others. When the bound on all was `set` by
    /// somebody, this holds for providers without a bound of their own, too, if there are several.
    pub fn configure(
        &self,
        limit: u32,
        set: bool,
        queue: Queue,
        providers: &[(&str, Option<u32>)],
    ) {
        self.all.set(limit, queue);
        let share = (set && providers.len() > 1).then(|| limit - limit / QUARTER);
        let mut bounded = Vec::new();
        for (name, own) in providers {
            let most = own.or(share.filter(|share| *share < limit));
            let Some(most) = most else { continue };
            bounded.push(*name);
            let size = match limit.checked_sub(most) {
                Some(left) if left > 0 => queue.size.min(left / 2),
                // It is never full before all are.
                Some(_) | None => queue.size,
            };
            let queue = Queue { size, ..queue };
            let gate = self.providers.entry((*name).to_owned());
            gate.or_insert_with(|| Gate::new(most, queue))
                .set(most, queue);
        }
        // Who is inside, or waits, holds the gate itself.
        self.providers
            .retain(|name, _| bounded.contains(&name.as_str()));
    }

    /// Returns the gate of a provider that is bounded.
    pub fn of(&self, provider: &str) -> Option<Arc<Gate>> {
        self.providers.get(provider).map(|gate| gate.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Waiting {
    /// Waits for a place, at most as long as the queue allows and `most`.
    pub async fn wait(mut self, most: Duration) -> Result<Slot, Refusal> {
        let most = most.min(self.wait);
        match tokio::time::timeout(most, &mut self.told).await {
            Ok(Ok(told)) => {
                self.over = true;
                told.map(|()| Slot(self.gate.clone()))
            }
            Ok(Err(_)) | Err(_) => Err(Refusal {
                reason: Reason::Late,
                greedy: self.gate.line.lock().is_greedy(&self.turn.key),
                retry_after: self.wait,
            }),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut line = self.gate.line.lock();
        if line.remove(&self.turn, self.id) {
            self.gate.waiting.fetch_sub(1, SeqCst);
            return;
        }
        drop(line);
        // Told meanwhile: a place that nobody takes goes on to the next.
        if let Ok(Ok(())) = self.told.try_recv() {
            self.gate.leave();
        }
    }
}

impl Line {
    fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.turns.is_empty())
    }

    fn push(&mut self, turn: &Turn, waiter: Waiter) {
        let lane = &mut self.lanes[turn.priority as usize];
        let queue = lane.keys.entry(turn.key.clone()).or_default();
        if queue.is_empty() {
            lane.turns.push_back(turn.key.clone());
        }
        queue.push_back(waiter);
    }

    fn pop(&mut self) -> Option<Waiter> {
        self.lanes.iter_mut().find_map(Lane::pop)
    }

    fn remove(&mut self, turn: &Turn, id: u64) -> bool {
        self.lanes[turn.priority as usize]
            .remove(&turn.key, |queue| {
                // Joined in the order of their numbers.
                let at = queue.binary_search_by_key(&id, |waiter| waiter.id).ok()?;
                queue.remove(at)
            })
            .is_some()
    }

    /// Makes room for `turn` in a full line: sends away the newest of the lowest priority, of the key that has most there.
    /// Says also whether that key held more than its share.
    fn displace(&mut self, turn: &Turn) -> Result<(Waiter, bool), Refusal> {
        let retry_after = self.queue.wait;
        let full = |greedy| Refusal {
            reason: Reason::Full,
            greedy,
            retry_after,
        };
        let own = self.is_greedy(&turn.key);
        let lowest = self.lanes.iter().rposition(|lane| !lane.turns.is_empty());
        let Some(lowest) = lowest.filter(|lowest| *lowest >= turn.priority as usize) else {
            return Err(full(own));
        };
        let lane = &self.lanes[lowest];
        let most = lane.keys.iter().max_by_key(|(_, queue)| queue.len());
        let Some((key, count)) = most.map(|(key, queue)| (key.clone(), queue.len())) else {
            return Err(full(own));
        };
        let above = lowest > turn.priority as usize;
        let mine = lane.keys.get(&turn.key).map_or(0, VecDeque::len);
        if !above && count <= mine + 1 {
            return Err(full(own));
        }
        // One who gives way to a key of its own priority held more than that.
        let greedy = !above || self.is_greedy(&key);
        let displaced = self.lanes[lowest].remove(&key, VecDeque::pop_back);
        displaced.map(|waiter| (waiter, greedy)).ok_or(full(own))
    }

    /// Returns whether a key holds more of the queue than an even share among those who wait in it.
    fn is_greedy(&self, key: &Arc<str>) -> bool {
        let mut keys: HashMap<&str, usize> = HashMap::new();
        for (key, queue) in self.lanes.iter().flat_map(|lane| &lane.keys) {
            *keys.entry(key).or_default() += queue.len();
        }
        let all: usize = keys.values().sum();
        let own = keys.get(&**key).copied().unwrap_or(0);
        keys.len() > 1 && own * keys.len() > all
    }
}

impl Lane {
    /// Takes the next: one of the key whose turn it is, which then goes behind the others.
    fn pop(&mut self) -> Option<Waiter> {
        let key = self.turns.front()?.clone();
        let next = self.remove(&key, VecDeque::pop_front);
        if self.turns.front() == Some(&key) {
            self.turns.rotate_left(1);
        }
        next
    }

    /// Takes one of a key's out; a key without any is forgotten.
    fn remove(
        &mut self,
        key: &Arc<str>,
        take: impl FnOnce(&mut VecDeque<Waiter>) -> Option<Waiter>,
    ) -> Option<Waiter> {
        let queue = self.keys.get_mut(key)?;
        let taken = take(queue);
        if queue.is_empty() {
            self.keys.remove(key);
            self.turns.retain(|turn| turn != key);
        }
        taken
    }
}

#[cfg(test)]
#[path = "overload_tests.rs"]
mod tests;
