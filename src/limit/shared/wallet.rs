//! What this node holds of one account, and hands out without asking anybody.
//!
//! It holds a slice: what is free, and what was handed out. What stays free for a whole tick goes back, so nothing is
//! held for longer than two of them without being used.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Mode;
use super::account::{Bound, Key, NANO, Of, window};
use super::script::{Line, Told, Want};
use crate::limit::bucket::Level;
use crate::limit::budget::Budget;
use crate::limit::limits::Which;

/// It stops handing out before that: its clock may run slower, and the answer was under way.
const MARGIN: Duration = Duration::from_secs(5);
/// Of what is left one node takes a part at a time, so that the others find some.
const SHARE: u64 = 4;
/// What was refused is refused again for so long without asking.
const REFUSED_FOR: Duration = Duration::from_millis(50);
/// A place comes back at any moment.
const SLOT_REFUSED_FOR: Duration = Duration::from_millis(5);
/// Who found too little while others held some is thought of for so long.
const WANTED_FOR: Duration = Duration::from_secs(1);

/// Why there is none, as of the last answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Refusal {
    /// Until what was asked for will be there; `None`: when somebody gives it back, or it begins anew.
    pub wait: Option<Duration>,
    /// By all nodes, of money in pico-dollars.
    pub spent: u64,
    /// Held by this node and by others.
    pub held: u64,
}

/// What came of taking.
#[derive(Debug, PartialEq)]
pub enum Taken {
    /// What was taken was granted at this time of the server's; whether the rest is getting low.
    Done {
        since_us: i64,
        low: bool,
    },
    /// Redis is to be asked.
    Lack,
    Refused(Refusal),
}

/// What was said in a call, to know what its answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    spend: bool,
    owe: u64,
    at: Instant,
}

impl Said {
    pub fn nothing(at: Instant) -> Self {
        Self {
            spend: false,
            owe: 0,
            at,
        }
    }
}

pub struct Wallet {
    pub key: Key,
    pub name: Box<str>,
    state: Mutex<State>,
}

struct State {
    limit: u64,
    budget: Option<Box<Budget>>,
    free: u64,
    /// Handed out and not back; of rates nothing is kept.
    out: u64,
    /// The least that was free since the last tick.
    low_water: u64,
    /// More is being fetched.
    low: bool,
    granted_us: i64,
    /// What is free may be handed out until then.
    valid_until: Option<Instant>,
    /// Of rates: used beyond what was taken, and taken but not used.
    owe: u64,
    give: u64,
    give_since_us: i64,
    /// What was left, and when that was said.
    told: Option<(i64, Instant)>,
    /// Money that was spent and is not said yet; in pico-dollars.
    unsaid: u64,
    /// What was said last, with its number, while nobody has heard it.
    unheard: Option<(u64, u64)>,
    number: u64,
    /// In nano-dollars, as Redis said.
    steps: Vec<(i64, u64)>,
    others: u64,
    refused: Option<(Instant, u64, Refusal)>,
    wanted: Option<Instant>,
    queued: bool,
    warm: bool,
    used: Instant,
}

impl Wallet {
    /// `number` is where the numbers of its reports begin.
    pub fn new(key: Key, number: u64, now: Instant) -> Self {
        Self {
            name: key.in_redis().into(),
            key,
            state: Mutex::new(State {
                limit: 0,
                budget: None,
                free: 0,
                out: 0,
                low_water: 0,
                low: false,
                granted_us: 0,
                valid_until: None,
                owe: 0,
                give: 0,
                give_since_us: 0,
                told: None,
                unsaid: 0,
                unheard: None,
                number,
                steps: Vec::new(),
                others: 0,
                refused: None,
                wanted: None,
                queued: false,
                warm: false,
                used: now,
            }),
        }
    }

    /// Takes `amount` of what is free.
    pub fn take(&self, bound: Bound<'_>, amount: u64, mode: Mode, now: Instant) -> Taken {
        let mut state = self.state.lock();
        state.set(bound);
        state.used = now;
        if amount == 0 {
            return Taken::Done {
                since_us: state.granted_us,
                low: false,
            };
        }
        if state.free < amount || !state.is_valid(self.key.of, now) {
            return match state.refused {
                Some((until, least, refusal))
                    if mode == Mode::Leased
                        && amount - state.free.min(amount) >= least
                        && now < until =>
                {
                    Taken::Refused(refusal)
                }
                Some(_) | None => Taken::Lack,
            };
        }
        state.hand_out(self.key.of, amount);
        let low = mode == Mode::Leased
            && state.free < self.key.of.slice(state.limit) / 2
            && !state.low
            && !state.is_wanted(now);
        state.low |= low;
        Taken::Done {
            since_us: state.granted_us,
            low,
        }
    }

    /// Notes how much of it there is.
    pub fn bind(&self, bound: Bound<'_>) {
        self.state.lock().set(bound);
    }

    /// Says that it no longer waits to be reported.
    pub fn unqueue(&self) {
        self.state.lock().queued = false;
    }

    /// Returns when what is free was granted.
    pub fn since_us(&self) -> i64 {
        self.state.lock().granted_us
    }

    /// Takes what is free of `amount`, for whoever asks Redis for the rest; returns how much that is.
    pub fn earmark(&self, amount: u64, now: Instant) -> u64 {
        let mut state = self.state.lock();
        if !state.is_valid(self.key.of, now) {
            return 0;
        }
        let mark = amount.min(state.free);
        state.hand_out(self.key.of, mark);
        mark
    }

    /// Hands out what was never granted: it is said to Redis when that is there.
    pub fn force(&self, bound: Bound<'_>, amount: u64, now: Instant) {
        let mut state = self.state.lock();
        state.set(bound);
        state.used = now;
        if self.key.of.is_lease() {
            state.out = state.out.saturating_add(amount);
        }
    }

    /// Puts back what was handed out and not used. What was never `granted` is not there to be handed out again.
    /// Returns whether Redis is to be told.
    pub fn put_back(&self, amount: u64, granted: bool, mode: Mode) -> bool {
        let mut state = self.state.lock();
        if self.key.of.is_lease() {
            state.out = state.out.saturating_sub(amount);
        }
        if granted {
            state.free = state.free.saturating_add(amount);
        }
        let tells = match mode {
            Mode::Leased => state.free > self.key.of.slice(state.limit) || state.wanted.is_some(),
            Mode::Exact => amount > 0,
        };
        tells && state.queue()
    }

    /// Replaces what was taken of a rate by what was used. Returns whether Redis is to be told.
    pub fn correct(&self, taken: u64, used: u64, since_us: i64, mode: Mode) -> bool {
        let mut state = self.state.lock();
        if used > taken {
            let more = used - taken;
            let own = more.min(state.free);
            state.free -= own;
            state.low_water = state.low_water.min(state.free);
            state.owe = state.owe.saturating_add(more - own);
        } else {
            let less = taken - used;
            // Of the slice in hand it may be handed out again; of one before, the bucket may have been full since.
            if since_us == state.granted_us && mode == Mode::Leased {
                state.free = state.free.saturating_add(less);
            } else {
                state.give_back(less, since_us);
            }
        }
        let tells = state.owe > 0 || state.give > 0 || state.free > self.key.of.slice(state.limit);
        tells && state.queue()
    }

    /// Counts money that was spent of what was handed out. Returns whether Redis is to be told.
    pub fn spend(&self, taken: u64, granted: bool, pico: u64) -> bool {
        let mut state = self.state.lock();
        state.out = state.out.saturating_sub(taken);
        if granted {
            let back = taken.saturating_sub(pico);
            let over = pico.saturating_sub(taken);
            state.free = state.free.saturating_add(back).saturating_sub(over);
            state.low_water = state.low_water.min(state.free);
        }
        state.unsaid = state.unsaid.saturating_add(pico);
        state.queue()
    }

    /// Returns what is left of a rate, as far as is known.
    pub fn level(&self, now: Instant) -> Level {
        let state = self.state.lock();
        let remaining = (state.free + state.room(self.key.of, now)).min(state.limit);
        let missing = u128::from(state.limit - remaining) * u128::from(self.key.of.period());
        let reset = missing / u128::from(state.limit.max(1));
        Level {
            limit: state.limit,
            remaining,
            reset: Duration::from_nanos(u64::try_from(reset).unwrap_or(u64::MAX)),
        }
    }

    /// Notes that it waits to be reported. Returns whether it did not before.
    pub fn queue(&self) -> bool {
        self.state.lock().queue()
    }

    /// It is looked after from now on. Returns whether it was not before.
    pub fn warm(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().warm, true)
    }

    /// Says how it stands, and asks for `lack` where that is needed; more than once in a call, what is held stands as it
    /// was said first.
    pub fn say(
        &self,
        lack: Option<u64>,
        first: bool,
        mode: Mode,
        at: (Instant, i64),
    ) -> (Line, Said) {
        let (now, now_us) = at;
        let of = self.key.of;
        let mut state = self.state.lock();
        if first {
            state.keep(of, lack.is_some(), mode, now, now_us);
        }
        let extra = match mode {
            Mode::Leased if first && (lack.is_some() || state.low) && !state.is_wanted(now) => {
                of.slice(state.limit).saturating_sub(state.free)
            }
            Mode::Leased | Mode::Exact => 0,
        };
        state.low = false;
        let unit = of.unit();
        let least = lack.map_or(0, |lack| lack.div_ceil(unit));
        let want = Want {
            most: least.saturating_add(extra.div_ceil(unit)),
            least,
            share: match mode {
                Mode::Leased => SHARE,
                Mode::Exact => 1,
            },
        };
        let mut said = Said::nothing(now);
        if !of.is_lease() {
            said.owe = std::mem::take(&mut state.owe);
            let limit = state.limit;
            let line = Line::Rate {
                limit,
                period_us: of.period() / 1000,
                owe: said.owe,
                give: std::mem::take(&mut state.give),
                since_us: std::mem::take(&mut state.give_since_us),
                known: limit.saturating_sub(state.room(of, now)),
                want,
            };
            return (line, said);
        }
        let (step, from, keep_ms) = window(state.budget.as_deref(), now_us);
        let (number, spend) = if first { state.report(unit) } else { (0, 0) };
        said.spend = spend > 0;
        let hold = state
            .free
            .saturating_add(state.out)
            .saturating_add(state.unsaid);
        let line = Line::Lease {
            most: state.limit / unit,
            hold: first.then(|| hold.div_ceil(unit)),
            spend,
            seq: number,
            step,
            from,
            ttl_us: u64::try_from(of.ttl().as_micros()).unwrap_or(u64::MAX),
            keep_ms,
            seed: state.steps.clone(),
            others: state.others_at(of, now),
            want,
        };
        (line, said)
    }

    /// Takes in what Redis says. Returns what was granted beyond `lack`, if that was asked for and granted.
    pub fn hear(&self, told: &Told, lack: u64, said: Said, now_us: i64) -> Heard {
        let of = self.key.of;
        let unit = of.unit();
        let mut state = self.state.lock();
        state.valid_until = Some(said.at + of.ttl().saturating_sub(MARGIN));
        state.told = Some((told.room, said.at));
        if told.grant > 0 {
            let grant = told.grant.saturating_mul(unit);
            state.free = state.free.saturating_add(grant);
            state.hand_out(of, lack.min(grant));
            state.granted_us = now_us;
            state.refused = None;
        }
        if told.wanted && told.grant == 0 {
            state.wanted = Some(said.at + WANTED_FOR);
        }
        let before = state.steps.iter().map(|(_, nano)| nano).sum::<u64>();
        let reported = if said.spend {
            state.unheard.take().map_or(0, |(_, nano)| nano)
        } else {
            0
        };
        if of.is_lease() {
            state.others = told.others;
            state.steps.clone_from(&told.steps);
            state.steps.sort_unstable();
        }
        let refusal = Refusal {
            wait: match of {
                Of::Limit(Which::Concurrent) | Of::Budget(..) => None,
                Of::Limit(_) => Some(Duration::from_micros(told.wait_us)),
            },
            spent: told.spent.saturating_mul(unit),
            held: told
                .others
                .saturating_mul(unit)
                .saturating_add(state.free)
                .saturating_add(state.out),
        };
        if told.refused {
            let lasts = match of {
                Of::Limit(Which::Concurrent) => SLOT_REFUSED_FOR,
                Of::Limit(_) => refusal.wait.unwrap_or_default().min(REFUSED_FOR),
                Of::Budget(..) => REFUSED_FOR,
            };
            state.refused = Some((Instant::now() + lasts, lack.max(1), refusal));
        }
        Heard {
            refusal: told.refused.then_some(refusal),
            steps: state.steps.clone(),
            unsaid: state.unsaid,
            changed: before != told.spent,
            reported,
            most: state.limit,
        }
    }

    /// Nothing came back. What was owed is owed still; what was given back is lost, because it may have arrived.
    pub fn unheard(&self, said: Said) {
        let mut state = self.state.lock();
        state.owe = state.owe.saturating_add(said.owe);
    }

    /// Looks after it: what was free all the time goes back, and what is held is said again in time.
    pub fn tick(&self, now: Instant) -> Tick {
        let of = self.key.of;
        let mut state = self.state.lock();
        let surplus = state.low_water.min(state.free);
        if surplus > 0 {
            state.free -= surplus;
            if !of.is_lease() {
                let since = state.granted_us;
                state.give_back(surplus, since);
            }
        }
        state.low_water = state.free;
        state.wanted = state.wanted.filter(|until| now < *until);
        let holds = state.free > 0 || state.out > 0;
        let spoken = state.told.map(|(_, at)| now.saturating_duration_since(at));
        let due = of.is_lease() && holds && spoken.is_none_or(|ago| ago >= of.ttl() / 4);
        let left =
            state.unsaid >= of.unit() || state.unheard.is_some() || state.owe > 0 || state.give > 0;
        let says = (surplus > 0 || due || left) && state.queue();
        state.warm = holds || left || surplus > 0 || state.queued;
        Tick {
            says,
            stays: state.warm,
        }
    }

    /// Gives back all that is free: the process ends.
    pub fn empty(&self) {
        let mut state = self.state.lock();
        state.low_water = state.free;
        // What is less than a unit is said as one: nobody will say it later.
        state.unsaid = state.unsaid.next_multiple_of(self.key.of.unit());
    }

    /// Returns whether nothing would be lost with it.
    pub fn is_idle(&self, now: Instant) -> bool {
        let state = self.state.lock();
        let rest = [state.free, state.out, state.owe, state.give, state.unsaid];
        rest == [0; 5]
            && state.unheard.is_none()
            && !state.queued
            && now.saturating_duration_since(state.used) > Duration::from_secs(60)
    }

    /// Takes up what was spent before this process began; in pico-dollars.
    pub fn seed(&self, steps: &[(i64, u64)]) {
        let mut state = self.state.lock();
        if state.told.is_none() {
            state.steps = steps.iter().map(|(at, pico)| (*at, pico / NANO)).collect();
        }
    }
}

/// What was heard.
pub struct Heard {
    pub refusal: Option<Refusal>,
    /// Spent by all, in nano-dollars, and what this node has not said yet, in pico-dollars.
    pub steps: Vec<(i64, u64)>,
    pub unsaid: u64,
    pub changed: bool,
    /// Of it this node's, which is counted now; in nano-dollars.
    pub reported: u64,
    pub most: u64,
}

/// What looking after a wallet came to.
pub struct Tick {
    /// It is to be reported.
    pub says: bool,
    /// It is to be looked after further.
    pub stays: bool,
}

impl State {
    fn set(&mut self, bound: Bound<'_>) {
        match bound {
            Bound::Limit(limit) => self.limit = limit,
            Bound::Budget(budget) => {
                self.limit = budget.most_pico;
                if self.budget.as_deref() != Some(budget) {
                    self.budget = Some(Box::new(budget.clone()));
                }
            }
        }
    }

    fn is_valid(&self, of: Of, now: Instant) -> bool {
        !of.is_lease() || self.valid_until.is_some_and(|until| now < until)
    }

    fn hand_out(&mut self, of: Of, amount: u64) {
        self.free -= amount;
        self.low_water = self.low_water.min(self.free);
        if of.is_lease() {
            self.out = self.out.saturating_add(amount);
        }
    }

    fn give_back(&mut self, amount: u64, since_us: i64) {
        if amount == 0 {
            return;
        }
        // Of several the first counts: rather too little comes back than too much.
        self.give_since_us = match self.give {
            0 => since_us,
            _ => self.give_since_us.min(since_us),
        };
        self.give = self.give.saturating_add(amount);
    }

    fn queue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Returns what others hold, as far as that can still be true.
    fn others_at(&self, of: Of, now: Instant) -> u64 {
        let fresh = |(_, at): (i64, Instant)| now.saturating_duration_since(at) < of.ttl();
        self.told
            .filter(|told| fresh(*told))
            .map_or(0, |_| self.others)
    }

    /// Returns whether somebody found too little a moment ago, while this node held some.
    fn is_wanted(&self, now: Instant) -> bool {
        self.wanted.is_some_and(|until| now < until)
    }

    /// Lets go of what is free beyond a slice.
    fn keep(&mut self, of: Of, asks: bool, mode: Mode, now: Instant, now_us: i64) {
        let keep = match mode {
            Mode::Exact => 0,
            Mode::Leased if self.is_wanted(now) && !asks => 0,
            Mode::Leased => of.slice(self.limit),
        };
        let back = self.free.saturating_sub(keep);
        if back == 0 {
            return;
        }
        self.free -= back;
        self.low_water = self.low_water.min(self.free);
        if !of.is_lease() {
            let since = self.granted_us.min(now_us);
            self.give_back(back, since);
        }
    }

    /// Returns what is left of a rate, by what was said last and what has refilled since.
    fn room(&self, of: Of, now: Instant) -> u64 {
        let Some((room, at)) = self.told else {
            return self.limit;
        };
        let passed = now.saturating_duration_since(at).as_nanos();
        let refilled = passed * u128::from(self.limit) / u128::from(of.period().max(1));
        let room = i128::from(room) + i128::try_from(refilled).unwrap_or(i128::MAX);
        u64::try_from(room.max(0)).map_or(self.limit, |room| room.min(self.limit))
    }

    /// Returns what was spent and is not counted yet, with the number of that report.
    fn report(&mut self, unit: u64) -> (u64, u64) {
        if self.unheard.is_none() && self.unsaid >= unit {
            self.number += 1;
            self.unheard = Some((self.number, self.unsaid / unit));
            self.unsaid %= unit;
        }
        self.unheard.unwrap_or((0, 0))
    }
}

#[cfg(test)]
#[path = "wallet_tests.rs"]
mod tests;
