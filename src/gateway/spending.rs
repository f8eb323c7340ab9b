//! Budgets on a request's path: whether there is any room, what the request may cost, and what is said when there is
//! too little.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::account;
use super::ask::Ask;
use super::{Core, Exchange, Now, limits};
use crate::access::Key;
use crate::error::{Error, Kind, Result};
use crate::ledger::Interrupted;
use crate::limit::budget::{Budget, Every, Over, Reservation, Scope};
use crate::limit::named;
use crate::limit::shared::Short;
use crate::protocol::usage::Usage;
use crate::provider::cost;
use crate::routing::Candidate;
use crate::routing::choose::Choice;

/// Output of a model whose limit is not known, when the request sets none.
const UNKNOWN_OUTPUT: u64 = 4096;

/// Held for a request that is passed on unread: ten cents.
const UNREAD: u64 = cost::PICO / 10;

/// Refuses a key whose budget is spent, or that of somebody it belongs to: before the cache, because what is kept is for
/// those who may ask.
pub fn check(key: Option<&Key>, now: &Now, x: &Exchange) -> Result<()> {
    let scopes = scopes(key, now, x);
    if scopes.is_empty() {
        return Ok(());
    }
    match x.core.budgets.reserve(&scopes, 0, Timestamp::now()) {
        // Nothing is held.
        Ok(none) => drop(none),
        Err(over) => return Err(refused(&over, x)),
    }
    Ok(())
}

/// Holds what the request may cost at `most`, in 10⁻¹² USD, in every budget that it is spent from, until its record is
/// made.
pub async fn hold(
    key: Option<&Key>,
    now: &Now,
    most: impl FnOnce() -> u64,
    x: &mut Exchange,
) -> Result<()> {
    let scopes = scopes(key, now, x);
    if scopes.is_empty() {
        return Ok(());
    }
    let most = most();
    let held = x.core.budgets.reserve(&scopes, most, Timestamp::now());
    let held = held.map_err(|over| refused(&over, x))?;
    share(&scopes, held, x).await
}

/// Holds a little for a request that is passed on unread, in every budget that it is spent from: what it will cost nobody
/// knows before its end, and so no more of them are under way at once than there is money for as many.
pub async fn hold_some(key: Option<&Key>, now: &Now, x: &mut Exchange) -> Result<()> {
    let scopes = scopes(key, now, x);
    if scopes.is_empty() {
        return Ok(());
    }
    let budgets = &x.core.budgets;
    let held = budgets.reserve_some(&scopes, UNREAD, Timestamp::now());
    let held = held.map_err(|over| refused(&over, x))?;
    share(&scopes, held, x).await
}

/// Has what is held counted by all nodes together.
async fn share(scopes: &[Scope], mut held: Reservation, x: &mut Exchange) -> Result<()> {
    if let Some(shared) = &x.core.shared {
        match Box::pin(shared.budgets(scopes, held.pico())).await {
            Ok(lot) => held.share(lot),
            Err(Short::Refused(over)) => return Err(refused(&over, x)),
            Err(Short::Away) => return Err(limits::away("Budgets")),
        }
    }
    x.held = Some(held);
    Ok(())
}

/// Returns whose budgets the request is spent from: the key's and those of all that it belongs to, and those of the
/// end user and the tags that it names.
pub fn scopes<'k>(key: Option<&'k Key>, now: &Now, x: &Exchange) -> Cow<'k, [Scope]> {
    scopes_of(key, now, x.record.user.as_deref(), &x.record.tags)
}

/// Charges what ended processes had not charged to the budgets that it was reserved in, in the time in which it was spent.
/// What of one can't be charged yet, because the keys are not known, is kept for later with the rest.
pub fn charge_interrupted(core: &Core) {
    let now = core.now.load_full();
    let view = core.directory.view();
    core.ledger.charge_owed(|owed| {
        let keys: Vec<_> = owed.iter().map(|one| asker(one, &now, core)).collect();
        let unknown = |(one, key): (&Interrupted, &Option<Arc<Key>>)| {
            key.is_none() && !one.key.is_empty() && !view.is_loaded()
        };
        if owed.iter().zip(&keys).any(unknown) {
            return false;
        }
        for (one, key) in owed.iter().zip(&keys) {
            charge(one, key.as_deref(), &now, core);
        }
        true
    });
}

/// Returns whose request it was: a key's, or that of somebody whom a token put into a place.
fn asker(one: &Interrupted, now: &Now, core: &Core) -> Option<Arc<Key>> {
    let view = core.directory.view();
    let of_file = now.keys.named(&one.key).cloned();
    let key = of_file.or_else(|| view.named(&one.key));
    key.or_else(|| {
        let place = one.owner.iter().rev().find(|id| !id.is_empty())?;
        let key = view.principal(place, &one.key).map(Arc::new)?;
        Some(now.tokens.held(key, &one.owner, &one.key))
    })
}

fn charge(one: &Interrupted, key: Option<&Key>, now: &Now, core: &Core) {
    // Redis is told within milliseconds of an end.
    if one.done && core.shared.is_some() {
        return;
    }
    let time = Timestamp::now();
    let at = Timestamp::from_microsecond(one.at_us).unwrap_or(time);
    let all = scopes_of(key, now, one.user.as_deref(), &one.tags);
    let counts = |scope: &Scope| {
        let budgets = scope.budgets.iter().filter(|budget| {
            core.since.of(&scope.name, budget) <= one.began_us && budget.counts(at, time)
        });
        let budgets: Vec<Budget> = budgets.cloned().collect();
        (!budgets.is_empty()).then(|| Scope {
            name: scope.name.clone(),
            budgets: budgets.into(),
        })
    };
    let scopes: Vec<Scope> = all.iter().filter_map(counts).collect();
    if scopes.is_empty() {
        return;
    }
    let alone = core.shared.is_none();
    core.budgets.charge(&scopes, one.pico, (at, time), alone);
    if let Some(shared) = &core.shared {
        shared.charge(&scopes, one.pico);
    }
}

fn scopes_of<'k>(
    key: Option<&'k Key>,
    now: &Now,
    user: Option<&str>,
    tags: &[String],
) -> Cow<'k, [Scope]> {
    let own = key.map_or(&[][..], |key| &key.spends);
    let of_key = key.map_or(&[][..], |key| &key.named);
    let of_all = &now.snapshot.budgets;
    if of_key.is_empty() && of_all.is_empty() {
        return Cow::Borrowed(own);
    }
    let mut all = own.to_vec();
    let named = of_all.iter().chain(of_key.iter().map(|shared| &**shared));
    let user = user.filter(|user| !user.is_empty());
    named::scopes(named, user, tags, &mut all);
    Cow::Owned(all)
}

/// Returns what a request may cost at most at any of those who may answer it.
///
/// Two bytes of text are a token at least; the estimate counts four to one. What has no price costs nothing here.
pub fn most(ask: &Ask<'_>, choice: &Choice<'_>) -> u64 {
    let each = choice.picks.iter().map(|pick| {
        let candidate: &Candidate = pick.candidate();
        priced(candidate, &most_usage(ask, candidate))
    });
    each.max().unwrap_or(0)
}

/// Returns what a request may take at most of one who may answer it.
pub fn most_usage(ask: &Ask<'_>, candidate: &Candidate) -> Usage {
    let able = candidate.facts.max_output.map(u64::from);
    Usage {
        input: ask.input_estimate().saturating_mul(2),
        output: match (ask.envelope.max_output, able) {
            (Some(asked), Some(able)) => asked.min(able),
            (Some(asked), None) => asked,
            (None, able) => able.unwrap_or(UNKNOWN_OUTPUT),
        },
        ..Usage::default()
    }
}

/// Returns the price of that; nothing where none is known.
pub fn priced(candidate: &Candidate, usage: &Usage) -> u64 {
    account::priced(candidate, usage, None).map_or(0, |(pico, _)| pico)
}

fn refused(over: &Over, x: &Exchange) -> Error {
    x.core.metrics.rate_limited("budget");
    if over.crowded {
        let message =
            "More callers spend here than can be counted; this one is not yet among them.";
        return Error::new(Kind::BudgetExceeded, message);
    }
    let window = match (over.every, over.rolling) {
        (Every::Ever, _) => "in all".to_owned(),
        (every, false) => format!("each {}", every.name()),
        (every, true) => format!("in any {}", every.name()),
    };
    let mut message = format!(
        "The budget `{}` of {} USD {window} has no room: {} USD are spent",
        over.scope,
        cost::usd(over.most_pico),
        cost::usd(over.spent_pico),
    );
    if over.reserved_pico > 0 {
        let held = cost::usd(over.reserved_pico);
        message.push_str(&format!(", {held} USD are held for requests under way"));
    }
    if over.asked_pico > 0 {
        let asked = cost::usd(over.asked_pico);
        message.push_str(&format!(
            ", and this request may cost up to {asked} USD (less, when it asks for fewer output tokens)"
        ));
    }
    message.push('.');
    if let Some(resets) = over.resets {
        message.push_str(&format!(" There is room again from {resets}."));
    }
    Error::new(Kind::BudgetExceeded, message)
}
