//! What one node learns and the others should know, told through Redis.
//!
//! A change of the directory is looked for at once instead of at the next look. A cooldown that a provider's own answer
//! began, a 401, 402, 403 or 429, is heard everywhere, and remembered for nodes that join later; there it is a guess:
//! who has nothing else left asks all the same, so that no model is cold on all nodes at once. What a node only
//! suspects (time-outs, 5xx, lost connections) may be its own network's fault, and stays its own. Kept answers that
//! one node throws away are thrown away everywhere.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::cache::second::Second;
use crate::directory::Directory;
use crate::gateway::Core;
use crate::routing::{self, Begun, Blame, Scope};
use crate::state::redis::{Failure, Heard, Later, Redis, Script, Topic};

/// Cooldowns remembered for nodes that join.
const MOST: usize = 1000;
const KEY: &str = "cooldowns";
/// Words of a cooldown; longer ones were not written here.
const LONGEST: usize = 1024;
const CLEAR: &[u8] = b"-";

/// Remembers one until it ends. Of those that would be too many the soonest to end are forgotten.
static REMEMBER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], 'GT', now + tonumber(ARGV[1]), ARGV[2])
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[3])
if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1) end
redis.call('PEXPIRE', KEYS[1], 3600000)
return 1",
    )
});

/// Returns those that have not ended, each with the milliseconds until it does.
static RECALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for at = 2, #found, 2 do found[at] = string.format('%d', tonumber(found[at]) - now) end
return found",
    )
});

static FORGET: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('DEL', KEYS[1])"));

/// Returns which kept answers count: those of before the last time that all were thrown away do not.
static EPOCH: LazyLock<Script> =
    LazyLock::new(|| Script::new("return tonumber(redis.call('GET', KEYS[1]) or 0)"));

static NEXT_EPOCH: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('INCR', KEYS[1])"));

const EPOCH_KEY: &str = "cache-epoch";

/// Has what this node learns told, and what others tell minded.
pub fn share(redis: &Redis, directory: &Directory, routing: &Arc<routing::State>) {
    let told = redis.clone();
    directory.on_change(move || {
        told.tell(Topic::Directory, b"");
    });
    let looks = directory.clone();
    redis.hear(Topic::Directory, move |_| looks.look());

    let told = redis.clone();
    routing
        .cooldowns
        .on_begin(move |begun| cooled(&told, begun));
    let (theirs, asked) = (routing.clone(), redis.clone());
    redis.hear(Topic::Cooldowns, move |heard| match heard {
        Heard::Joined => recall(&asked, &theirs),
        Heard::Told(CLEAR) => theirs.cooldowns.clear(),
        Heard::Told(words) => {
            let (wait, words) = match words.iter().position(|byte| *byte == b'\t') {
                Some(at) => (&words[..at], &words[at + 1..]),
                None => return,
            };
            mind(&theirs, words, wait);
        }
    });
}

/// Uses the second tier of the cache while it is known which of its answers count, and throws this node's answers away
/// when another node says so.
pub fn share_cache(redis: &Redis, core: &Arc<Core>) {
    let Some(second) = core.second.clone() else {
        return;
    };
    let (core, asked) = (Arc::downgrade(core), redis.clone());
    redis.hear(Topic::Cache, move |heard| {
        match heard {
            // What was told meanwhile is not known.
            Heard::Joined => second.epoch().set(None),
            Heard::Told(_) => {
                let Some(core) = core.upgrade() else { return };
                second.epoch().set(None);
                if let Some(cache) = core.cache.load().as_ref() {
                    cache.clear();
                }
            }
        }
        find_epoch(&asked, &second);
    });
}

/// Throws all kept answers away, in Redis and on the other nodes. Errors: Redis is away, and its answers stay.
pub async fn clear_cache(redis: &Redis, second: &Second) -> Result<(), Failure> {
    second.epoch().set(None);
    let nothing: &[&str] = &[];
    let next: Result<u64, Failure> = redis.script(&NEXT_EPOCH, &[EPOCH_KEY], nothing).await;
    match next {
        Ok(epoch) => second.epoch().set(Some(epoch)),
        // It may have been done.
        Err(_) => find_epoch(redis, second),
    }
    redis.tell(Topic::Cache, b"");
    next.map(drop)
}

/// Asks which answers count.
fn find_epoch(redis: &Redis, second: &Second) {
    let knows = second.epoch();
    redis.later(Later::Script {
        script: &EPOCH,
        keys: vec![EPOCH_KEY.into()],
        args: Vec::new(),
        then: Some(Box::new(move |answer| {
            if let Ok(epoch) = ::redis::from_redis_value::<u64>(answer) {
                knows.set(Some(epoch));
            }
        })),
    });
}

/// Takes all cooldowns away on the other nodes too. Errors: Redis is away, and theirs stay.
pub async fn clear_cooldowns(redis: &Redis) -> Result<(), Failure> {
    let nothing: &[&str] = &[];
    let forgotten: Result<u64, Failure> = redis.script(&FORGET, &[KEY], nothing).await;
    redis.tell(Topic::Cooldowns, CLEAR);
    forgotten.map(drop)
}

/// Tells of a cooldown that began here.
fn cooled(redis: &Redis, begun: &Begun<'_>) {
    let plain = |text: &str| text.replace(|c: char| c.is_control(), " ");
    let words = format!(
        "{:016x}\t{}\t{}\t{}",
        begun.scope.number(),
        begun.blame.name(),
        plain(begun.provider),
        plain(begun.name)
    );
    if words.len() > LONGEST {
        return;
    }
    let wait = begun.wait.as_millis().to_string();
    redis.tell(Topic::Cooldowns, format!("{wait}\t{words}").as_bytes());
    redis.later(Later::Script {
        script: &REMEMBER,
        keys: vec![KEY.into()],
        args: vec![
            wait.into_bytes(),
            words.into_bytes(),
            MOST.to_string().into_bytes(),
        ],
        then: None,
    });
}

/// Takes up what was told while nobody listened here.
fn recall(redis: &Redis, routing: &Arc<routing::State>) {
    let theirs = routing.clone();
    redis.later(Later::Script {
        script: &RECALL,
        keys: vec![KEY.into()],
        args: vec![MOST.to_string().into_bytes()],
        then: Some(Box::new(move |found| {
            let Ok(found) = ::redis::from_redis_value::<Vec<Vec<u8>>>(found) else {
                return;
            };
            for pair in found.chunks_exact(2) {
                mind(&theirs, &pair[0], &pair[1]);
            }
        })),
    });
}

/// Minds a cooldown of another node. What can't be read was written by another build, and is left.
fn mind(routing: &routing::State, words: &[u8], wait_ms: &[u8]) {
    let read = |bytes| std::str::from_utf8(bytes).ok();
    let (Some(words), Some(wait)) = (read(words), read(wait_ms)) else {
        return;
    };
    let mut parts = words.splitn(4, '\t');
    let mut part = || parts.next();
    let (Some(scope), Some(blame), Some(provider), Some(name)) = (part(), part(), part(), part())
    else {
        return;
    };
    let scope = u64::from_str_radix(scope, 16).ok();
    let blame = Blame::ALL.into_iter().find(|known| known.name() == blame);
    let (Some(scope), Some(blame), Ok(wait)) = (scope, blame, wait.parse::<u64>()) else {
        return;
    };
    let begun = Begun {
        scope: Scope::from_number(scope),
        blame,
        provider,
        name,
        wait: Duration::from_millis(wait),
    };
    routing.cooldowns.heard(&begun, Instant::now());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Standing;

    #[test]
    fn what_another_node_tells_is_minded_and_nonsense_is_not() {
        let routing = routing::State::default();
        let now = Instant::now();
        let scope = Scope::of(Blame::Quota, "lab", &["x", "key"]);
        for (words, wait) in [
            ("", "5000"),
            ("zz\tquota\tlab\tx", "5000"),
            ("00\tsomething\tlab\tx", "5000"),
            ("00\tquota\tlab", "5000"),
            ("00\tquota\tlab\tx", "-1"),
            ("00\tquota\tlab\tx", ""),
        ] {
            mind(&routing, words.as_bytes(), wait.as_bytes());
        }
        mind(&routing, b"00\tquota\t\xff\tx", b"1");
        assert_eq!(routing.cooldowns.list(now).len(), 0);
        let words = format!("{:016x}\tquota\tlab\tx key", scope.number());
        mind(&routing, words.as_bytes(), b"5000");
        let standing = routing.cooldowns.standing(scope, now);
        assert!(
            matches!(standing, Standing::Cooling(until) if until > now),
            "{standing:?}"
        );
        let listed = routing.cooldowns.list(now);
        assert_eq!(
            (listed[0].provider.as_str(), listed[0].reason),
            ("lab", "shared")
        );
    }
}
