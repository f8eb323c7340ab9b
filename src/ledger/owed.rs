//! What interrupted exchanges may have cost, until it is charged to the budgets of those who asked.

use parking_lot::Mutex;

use super::row::Row;

/// Beyond it what else was interrupted is charged to nobody: a process has no more under way.
const MOST: usize = 100_000;

/// An exchange whose process ended before it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    pub key: String,
    pub user: Option<String>,
    pub tags: Vec<String>,
    /// What was reserved for it, in 10⁻¹² USD.
    pub pico: u64,
}

#[derive(Default)]
pub struct Owed {
    waiting: Mutex<Vec<Interrupted>>,
}

impl Owed {
    /// Takes rows that are in the database for the first time.
    pub fn put(&self, rows: &[Row]) {
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
            });
        }
    }

    /// Gives out what waits.
    pub fn take(&self) -> Vec<Interrupted> {
        std::mem::take(&mut self.waiting.lock())
    }

    /// Takes back what can't be charged yet.
    pub fn keep(&self, rest: Vec<Interrupted>) {
        self.waiting.lock().extend(rest);
    }
}
