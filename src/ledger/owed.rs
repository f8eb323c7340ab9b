//! What exchanges of an ended process cost, or may have cost, that its budgets don't know of, until it is charged to the
//! budgets of those who asked.

use parking_lot::Mutex;

use super::row::{DONE, Row};

/// Beyond it what else there is is charged to nobody: a process has no more under way, nor ends more in a second or two.
const MOST: usize = 100_000;

/// An exchange whose process ended before it did, or before its end was in the budgets that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    pub key: String,
    pub user: Option<String>,
    pub tags: Vec<String>,
    /// What it cost, or what was reserved for it, in 10⁻¹² USD.
    pub pico: u64,
    /// It came to its end.
    pub done: bool,
}

#[derive(Default)]
pub struct Owed {
    waiting: Mutex<Vec<Interrupted>>,
}

impl Owed {
    /// Takes rows.
    pub fn put<'r>(&self, rows: impl IntoIterator<Item = &'r Row>) {
        let mut waiting = self.waiting.lock();
        for row in rows {
            let pico = u64::try_from(row.cost_pico).unwrap_or(0);
            // Copies are paid for by nobody who asked.
            if pico == 0 || !row.shadow_of.is_empty() {
                continue;
            }
            if waiting.len() >= MOST {
                tracing::error!("more was interrupted than can be charged to budgets");
                return;
            }
            waiting.push(Interrupted {
                key: row.key.clone(),
                user: (!row.user.is_empty()).then(|| row.user.clone()),
                // It was written by us; what can't be read names nobody.
                tags: serde_json::from_str(&row.tags).unwrap_or_default(),
                pico,
                done: row.state == DONE,
            });
        }
    }

    /// Gives out what waits.
    pub fn take(&self) -> Vec<Interrupted> {
        std::mem::take(&mut self.waiting.lock())
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// Takes back what can't be charged yet.
    pub fn keep(&self, rest: Vec<Interrupted>) {
        self.waiting.lock().extend(rest);
    }
}
