//! What a request has taken of accounts that nodes share, until it ends.

use std::sync::Arc;
use std::time::Instant;

use super::account::Of;
use super::wallet::Wallet;
use super::{Inner, Mode};
use crate::limit::headers::RateHeaders;
use crate::limit::limits::{Amount, Which};

/// Dropped, it gives back places and money; what was taken of rates stays taken.
pub struct Lot {
    inner: Arc<Inner>,
    items: Vec<Item>,
}

/// What was taken of one account.
pub struct Item {
    wallet: Arc<Wallet>,
    amount: u64,
    /// When it was granted, by the server's clock.
    since_us: i64,
    /// It was granted; else Redis was away.
    granted: bool,
}

impl Item {
    pub fn granted(wallet: Arc<Wallet>, amount: u64, since_us: i64) -> Self {
        Self {
            wallet,
            amount,
            since_us,
            granted: true,
        }
    }

    pub fn forced(wallet: Arc<Wallet>, amount: u64) -> Self {
        Self {
            wallet,
            amount,
            since_us: 0,
            granted: false,
        }
    }

    /// It was not used at all.
    pub fn put_back(self, inner: &Inner) {
        if self
            .wallet
            .put_back(self.amount, self.granted, inner.mode())
        {
            inner.report(&self.wallet);
        }
    }

    /// Replaces what a rate was taken for by what was used of it.
    fn correct(&mut self, used: u64, mode: Mode) -> bool {
        let taken = std::mem::replace(&mut self.amount, used);
        // What was used while Redis was away has refilled by itself when it is back, or soon will.
        self.granted && taken != used && self.wallet.correct(taken, used, self.since_us, mode)
    }
}

impl Lot {
    pub(super) fn new(inner: Arc<Inner>, items: Vec<Item>) -> Self {
        Self { inner, items }
    }

    /// Returns whether Redis has granted it.
    pub fn is_granted(&self) -> bool {
        self.items.iter().all(|item| item.granted)
    }

    /// Replaces the estimate by what was used.
    pub fn settle(&mut self, amount: &Amount) {
        let mode = self.inner.mode();
        for item in &mut self.items {
            let Of::Limit(which) = item.wallet.key.of else {
                continue;
            };
            if which != Which::Concurrent && item.correct(amount.of(which), mode) {
                self.inner.report(&item.wallet);
            }
        }
    }

    /// Counts the money that the request did cost.
    pub fn spend(mut self, pico: u64) {
        for item in self.items.drain(..) {
            if item.wallet.spend(item.amount, item.granted, pico) {
                self.inner.report(&item.wallet);
            }
        }
    }

    /// The request was refused elsewhere: it has used nothing.
    pub fn undo(mut self) {
        for item in self.items.drain(..) {
            item.put_back(&self.inner);
        }
    }

    /// Returns what is left of the rates.
    pub fn headers(&self) -> RateHeaders {
        headers(
            self.items
                .iter()
                .map(|item| (item.wallet.key.of, item.wallet.clone())),
        )
    }
}

impl Drop for Lot {
    fn drop(&mut self) {
        for item in self.items.drain(..) {
            if item.wallet.key.of.is_lease() {
                item.put_back(&self.inner);
            }
        }
    }
}

/// Returns what is left of requests and of tokens to the one with the least.
pub fn headers(wallets: impl Iterator<Item = (Of, Arc<Wallet>)>) -> RateHeaders {
    let now = Instant::now();
    wallets.fold(RateHeaders::default(), |all, (of, wallet)| {
        let one = match of {
            Of::Limit(Which::Rpm | Which::Rpd) => RateHeaders {
                requests: Some(wallet.level(now)),
                tokens: None,
            },
            Of::Limit(Which::Tpm | Which::Tpd) => RateHeaders {
                requests: None,
                tokens: Some(wallet.level(now)),
            },
            Of::Limit(
                Which::ImagesPerMinute
                | Which::ImagesPerDay
                | Which::AudioPerMinute
                | Which::AudioPerDay
                | Which::Concurrent,
            )
            | Of::Budget(..) => RateHeaders::default(),
        };
        all.tightest(one)
    })
}
