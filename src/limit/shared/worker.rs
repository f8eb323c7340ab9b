//! The thread that speaks with Redis: one call at a time, with all that is asked for and all that is to be said.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::account::{NANO, Of};
use super::lot::Item;
use super::script::{self, Told};
use super::wallet::{Heard, Refusal, Said, Wallet};
use super::{Answer, Ask, Inner, Mode, Wanted};
use crate::limit::budget::Account;
use crate::state::redis::{Failure, Script};

/// Accounts in one call: Redis does nothing else meanwhile.
const MOST_LINES: usize = 192;
/// What is only to be said waits for more of it.
const LINGER: Duration = Duration::from_millis(5);
/// Wallets are looked after this often; what was free for a whole one goes back.
const TICK: Duration = Duration::from_millis(500);
const SWEEP_EVERY: u32 = 30;
/// Between two calls while Redis is away.
const REST: Duration = Duration::from_millis(50);

/// Runs until it is told to stop, and what is held has gone back.
pub fn run(inner: &Arc<Inner>, asks: mpsc::Receiver<Ask>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(Worker::new(inner, asks).run()),
        Err(error) => {
            tracing::error!(%error, "the thread that shares limits can't run: each node counts alone");
        }
    }
    inner.finished();
}

struct Worker<'i> {
    inner: &'i Arc<Inner>,
    asks: mpsc::Receiver<Ask>,
    script: Script,
    /// Those that are looked after.
    warm: Vec<Arc<Wallet>>,
    ticked: Instant,
    ticks: u32,
}

/// One request in a call.
struct Group {
    ask: Option<Ask>,
    lines: Vec<Row>,
}

/// One account in a call.
struct Row {
    wallet: Arc<Wallet>,
    said: Said,
    /// What is asked for beyond what was there; 0: nothing is.
    lack: u64,
    /// What was there, and its place among the request's accounts.
    mark: u64,
    place: usize,
}

impl<'i> Worker<'i> {
    fn new(inner: &'i Arc<Inner>, asks: mpsc::Receiver<Ask>) -> Self {
        Self {
            inner,
            asks,
            script: Script::new(script::TEXT),
            warm: Vec::new(),
            ticked: Instant::now(),
            ticks: 0,
        }
    }

    async fn run(mut self) {
        while !self.inner.stops.load(Ordering::Acquire) {
            let mut asks = Vec::new();
            let next = self.ticked + TICK;
            tokio::select! {
                biased;
                Some(ask) = self.asks.recv() => asks.push(ask),
                () = self.inner.soon.notified() => {
                    tokio::select! {
                        Some(ask) = self.asks.recv() => asks.push(ask),
                        () = tokio::time::sleep(LINGER) => {}
                    }
                }
                () = tokio::time::sleep_until(next.into()) => {}
            }
            if Instant::now() >= next {
                self.tick();
            }
            let most = MOST_LINES / 4;
            while asks.len() < most
                && let Ok(ask) = self.asks.try_recv()
            {
                asks.push(ask);
            }
            self.round(asks).await;
        }
        self.end().await;
    }

    /// Looks after all that is held.
    fn tick(&mut self) {
        let now = Instant::now();
        self.ticked = now;
        self.ticks = self.ticks.wrapping_add(1);
        let inner = self.inner;
        self.warm.retain(|wallet| {
            let tick = wallet.tick(now);
            if tick.says {
                inner.report(wallet);
            }
            tick.stays
        });
        if self.ticks.is_multiple_of(SWEEP_EVERY) {
            // One is handed out under the same lock: with one owner nobody else can have it.
            let idle = |wallet: &Arc<Wallet>| Arc::strong_count(wallet) == 1 && wallet.is_idle(now);
            inner.wallets.retain(|_, wallet| !idle(wallet));
        }
    }

    /// Makes a call with what is asked for and what is to be said.
    async fn round(&mut self, asks: Vec<Ask>) {
        let mut groups = self.groups(asks);
        if groups.is_empty() {
            return;
        }
        if !self.inner.redis.is_available() {
            self.fail(groups);
            tokio::time::sleep(REST).await;
            return;
        }
        let inner = self.inner;
        let lines = groups.iter().flat_map(|group| &group.lines);
        let wallets: Vec<Arc<Wallet>> = lines.map(|row| row.wallet.clone()).collect();
        let keys: Vec<&str> = wallets.iter().map(|wallet| &*wallet.name).collect();
        let mut args = vec![inner.node.clone()];
        let now = (Instant::now(), inner.now_us());
        let mut seen: HashMap<*const Wallet, ()> = HashMap::new();
        for group in &mut groups {
            args.push(group.lines.len().to_string());
            for row in &mut group.lines {
                let first = seen.insert(Arc::as_ptr(&row.wallet), ()).is_none();
                let lack = (row.lack > 0).then_some(row.lack);
                let (line, said) = row.wallet.say(lack, first, inner.mode(), now);
                row.said = said;
                line.write(&mut args);
            }
        }
        inner.tallies.calls.fetch_add(1, Ordering::Relaxed);
        let answer = inner.redis.script(&self.script, &keys, args);
        let answer: Result<Vec<String>, Failure> = Box::pin(answer).await;
        let told = answer.map_err(|failure| format!("{failure:?}"));
        let told = told.and_then(|told| read(&told, keys.len()));
        match told {
            Ok((now_us, told)) => self.heard(groups, now_us, told, now.1),
            Err(why) => {
                tracing::debug!(why, "limits are not shared now");
                self.fail(groups);
            }
        }
    }

    /// Puts together who asks for what, and what is to be said. Whoever finds enough by now is answered at once.
    fn groups(&mut self, asks: Vec<Ask>) -> Vec<Group> {
        let now = Instant::now();
        let mut groups = Vec::new();
        let mut count = 0;
        for ask in asks {
            if ask.reply.is_closed() && self.inner.mode() == Mode::Exact {
                continue;
            }
            let mut lines = Vec::new();
            for (place, Wanted { wallet, amount }) in ask.wants.iter().enumerate() {
                let mark = wallet.earmark(*amount, now);
                lines.push(Row {
                    wallet: wallet.clone(),
                    said: Said::nothing(now),
                    lack: amount - mark,
                    mark,
                    place,
                });
            }
            if lines.iter().all(|row| row.lack == 0) {
                self.grant(ask, &lines, &[]);
                continue;
            }
            count += lines.len();
            groups.push(Group {
                ask: Some(ask),
                lines,
            });
        }
        let mut dirty = self.inner.dirty.lock();
        while count < MOST_LINES
            && let Some(wallet) = dirty.pop()
        {
            count += 1;
            wallet.unqueue();
            let row = Row {
                wallet,
                said: Said::nothing(now),
                lack: 0,
                mark: 0,
                place: 0,
            };
            groups.push(Group {
                ask: None,
                lines: vec![row],
            });
        }
        if !dirty.is_empty() {
            self.inner.soon.notify_one();
        }
        drop(dirty);
        groups
    }

    /// Takes in an answer, and answers who asked.
    fn heard(&mut self, groups: Vec<Group>, now_us: i64, told: Vec<Told>, thought_us: i64) {
        let inner = self.inner;
        let ahead = inner.ahead_us.load(Ordering::Relaxed);
        let real = ahead.saturating_add(now_us.saturating_sub(thought_us));
        inner.ahead_us.store(real, Ordering::Relaxed);
        let mut told = told.into_iter();
        for Group { ask, lines } in groups {
            let told: Vec<Told> = told.by_ref().take(lines.len()).collect();
            let mut refused: Option<(usize, Refusal)> = None;
            for (row, told) in lines.iter().zip(&told) {
                let granted = told.grant > 0 && row.lack > 0;
                let lack = if granted || told.refused { row.lack } else { 0 };
                let heard = row.wallet.hear(told, lack, row.said, now_us);
                if let Some(refusal) = heard.refusal
                    && refused.is_none_or(|(_, worst)| refusal.wait > worst.wait)
                {
                    refused = Some((row.place, refusal));
                }
                self.spent(&row.wallet, &heard);
                if row.wallet.warm() {
                    self.warm.push(row.wallet.clone());
                }
            }
            let Some(ask) = ask else { continue };
            match refused {
                None => self.grant(ask, &lines, &[now_us]),
                Some((place, refusal)) => {
                    self.return_marks(&lines);
                    // Nobody listens when the client has left.
                    let _ = ask.reply.send(Answer::Refused(place, refusal));
                }
            }
        }
    }

    /// Tells who asked that all is there.
    fn grant(&self, ask: Ask, lines: &[Row], now_us: &[i64]) {
        let since = now_us.first().copied();
        let items = lines.iter().map(|row| {
            let since_us = since.unwrap_or_else(|| row.wallet.since_us());
            Item::granted(row.wallet.clone(), row.mark + row.lack, since_us)
        });
        let items: Vec<Item> = items.collect();
        if let Err(Answer::Granted(items)) = ask.reply.send(Answer::Granted(items)) {
            // The client has left meanwhile.
            self.inner.put_back(items);
        }
    }

    /// Notes what all nodes have spent of a budget.
    fn spent(&self, wallet: &Wallet, heard: &Heard) {
        let Of::Budget(every, rolling) = wallet.key.of else {
            return;
        };
        if !heard.changed && heard.reported == 0 {
            return;
        }
        let account = Account {
            scope: wallet.key.name.clone(),
            every,
            rolling,
        };
        let steps = heard.steps.iter().map(|(at, nano)| (*at, nano * NANO));
        let own = heard.reported * NANO;
        self.inner
            .budgets
            .know(&account, steps.collect(), heard.unsaid, (own, heard.most));
    }

    /// Nothing came of a call.
    fn fail(&mut self, groups: Vec<Group>) {
        for Group { ask, lines } in groups {
            for row in &lines {
                row.wallet.unheard(row.said);
                if row.wallet.warm() {
                    self.warm.push(row.wallet.clone());
                }
            }
            if let Some(ask) = ask {
                self.return_marks(&lines);
                let _ = ask.reply.send(Answer::Away);
            }
        }
    }

    fn return_marks(&self, lines: &[Row]) {
        for row in lines.iter().filter(|row| row.mark > 0) {
            if row.wallet.put_back(row.mark, true, self.inner.mode()) {
                self.inner.report(&row.wallet);
            }
        }
    }

    /// Says all that is to be said, and gives back what is free.
    async fn end(&mut self) {
        self.asks.close();
        while let Ok(ask) = self.asks.try_recv() {
            let _ = ask.reply.send(Answer::Away);
        }
        for wallet in &self.warm {
            wallet.empty();
        }
        self.tick();
        let most = self.warm.len() / MOST_LINES + 2;
        for _ in 0..2 * most {
            if self.inner.dirty.lock().is_empty() {
                break;
            }
            self.round(Vec::new()).await;
        }
    }
}

/// Reads the answer of a call about so many accounts: the server's time, and what it says of each.
fn read(answer: &[String], accounts: usize) -> Result<(i64, Vec<Told>), String> {
    let unread = || "the answer can't be read".to_owned();
    let (now, lines) = answer.split_first().ok_or_else(unread)?;
    let now = now.parse().map_err(|_| unread())?;
    let told: Option<Vec<Told>> = lines.iter().map(|line| Told::read(line)).collect();
    let told = told.filter(|told| told.len() == accounts);
    Ok((now, told.ok_or_else(unread)?))
}
