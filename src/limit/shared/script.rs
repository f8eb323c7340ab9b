//! What Redis does, in one step for all accounts of a call, by its own clock.
//!
//! A call is a list of groups; a group is what one request asks for, and is granted whole or not at all. An account is
//! either a rate (what is used of it, which refills) or a lease (what is spent, and what each node holds and may
//! still spend). What a node holds is said anew in every call, so a grant whose answer was lost is not lost for long;
//! what it has spent since is said with a number, so a call that is repeated counts once.
//!
//! Money is whole nano-dollars here: Lua's numbers are exact up to nine million dollars of them.

/// For each account so many arguments.
const WIDTH: usize = 14;

pub const TEXT: &str = r"
local W = 14
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local node = ARGV[1]
local function int(x) return string.format('%.0f', x) end

local function open_rate(k, a)
  local limit, period = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local pace = limit / period
  local h = redis.call('HMGET', k, 'u', 't', 'f')
  local used, full
  if h[1] then
    used = math.max(0, tonumber(h[1]) - (now - tonumber(h[2])) * pace)
    full = tonumber(h[3])
  else
    used, full = tonumber(ARGV[a + 9]), 0
  end
  if used <= 0 then full = now end
  local give = tonumber(ARGV[a + 4])
  if give > 0 and full <= tonumber(ARGV[a + 5]) then used = math.max(0, used - give) end
  used = math.min(used + tonumber(ARGV[a + 3]), limit + pace * 3600000000)
  local p = {k = k, used = used, full = full, period = period, others = 0, steps = '-', wanted = 0}
  p.want, p.least, p.share = tonumber(ARGV[a + 6]), tonumber(ARGV[a + 7]), tonumber(ARGV[a + 8])
  p.room = math.floor(limit - used + 0.000001)
  p.refused = p.least > 0 and p.room < p.least
  p.wait = pace > 0 and math.max(0, math.ceil((p.least - (limit - used)) / pace)) or 0
  p.spent = used
  return p
end

local function close_rate(p, grant)
  local u = string.format('%.6f', p.used + grant)
  redis.call('HSET', p.k, 'u', u, 't', int(now), 'f', int(p.full))
  redis.call('PEXPIRE', p.k, int(p.period / 500 + 3600000))
end

local function open_lease(k, a)
  local most, hold = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local spend, seq = tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  local step, from = ARGV[a + 5], tonumber(ARGV[a + 6])
  local h = redis.call('HGETALL', k)
  local steps, others, mine, seen, known, wanted = {}, 0, 0, 0, false, 0
  for i = 1, #h, 2 do
    local f, v = h[i], h[i + 1]
    local kind, rest = string.sub(f, 1, 2), string.sub(f, 3)
    if kind == 's:' then
      if tonumber(rest) < from then redis.call('HDEL', k, f) else steps[rest] = tonumber(v) end
    elseif kind == 'l:' then
      local amount, ends = string.match(v, '^(%d+) (%d+)$')
      if rest == node then mine = tonumber(amount)
      elseif tonumber(ends) > now then others = others + tonumber(amount)
      else redis.call('HDEL', k, f) end
    elseif kind == 'q:' then
      local number, said = string.match(v, '^(%d+) (%d+)$')
      if rest == node then seen = tonumber(number)
      elseif tonumber(said) + 3600000000 < now then redis.call('HDEL', k, f) end
    elseif f == 'known' then known = true
    elseif f == 'wanted' and now - tonumber(v) < 1000000 then wanted = 1
    end
  end
  if hold < 0 then hold = mine end
  for at, v in string.gmatch(ARGV[a + 11], '(-?%d+):(%d+)') do
    v = tonumber(v)
    if tonumber(at) >= from and (steps[at] or 0) < v then
      steps[at] = v
      redis.call('HSET', k, 's:' .. at, int(v))
    end
  end
  if not known then
    redis.call('HSET', k, 'known', 1)
    local theirs = tonumber(ARGV[a + 13])
    if theirs > 0 then
      redis.call('HSET', k, 'l:?', int(theirs) .. ' ' .. int(now + tonumber(ARGV[a + 10]) / 4 + 1000000))
      others = others + theirs
    end
  end
  if spend > 0 and seq > seen then
    steps[step] = (steps[step] or 0) + spend
    redis.call('HSET', k, 's:' .. step, int(steps[step]), 'q:' .. node, int(seq) .. ' ' .. int(now))
  end
  local spent, told = 0, {}
  for at, v in pairs(steps) do
    spent = spent + v
    told[#told + 1] = at .. ':' .. int(v)
  end
  local p = {k = k, hold = hold, others = others, spent = spent, wanted = wanted, wait = 0}
  p.steps = #told > 0 and table.concat(told, ',') or '-'
  p.want, p.least, p.share = tonumber(ARGV[a + 7]), tonumber(ARGV[a + 8]), tonumber(ARGV[a + 9])
  p.ttl, p.keep = tonumber(ARGV[a + 10]), tonumber(ARGV[a + 12])
  p.room = most - spent - others - hold
  p.refused = p.least > 0 and p.room < p.least
  return p
end

local function close_lease(p, grant)
  local total = p.hold + grant
  if total > 0 then redis.call('HSET', p.k, 'l:' .. node, int(total) .. ' ' .. int(now + p.ttl))
  else redis.call('HDEL', p.k, 'l:' .. node) end
  if p.refused then redis.call('HSET', p.k, 'wanted', int(now)) end
  if p.keep > 0 then redis.call('PEXPIRE', p.k, int(p.keep)) else redis.call('PERSIST', p.k) end
end

local out, at, key = {int(now)}, 2, 0
while at <= #ARGV do
  local count, plans, refused = tonumber(ARGV[at]), {}, false
  at = at + 1
  for i = 1, count do
    key = key + 1
    local rate = ARGV[at] == 'rate'
    local p
    if rate then p = open_rate(KEYS[key], at) else p = open_lease(KEYS[key], at) end
    p.rate = rate
    refused = refused or p.refused
    plans[i] = p
    at = at + W
  end
  for i = 1, count do
    local p, grant = plans[i], 0
    if not refused and p.want > 0 and p.room > 0 then
      grant = math.min(p.want, math.max(p.least, math.floor(p.room / p.share)), p.room)
    end
    if p.rate then close_rate(p, grant) else close_lease(p, grant) end
    out[#out + 1] = table.concat({int(grant), p.refused and 1 or 0, int(p.room - grant), int(p.spent),
      int(p.others), int(p.wait), p.wanted, p.steps}, ' ')
  end
end
return out
";

/// What a call says of one account.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    Rate {
        limit: u64,
        period_us: u64,
        /// Used beyond what was granted, and granted but not used; the latter counts if the bucket was not full since.
        owe: u64,
        give: u64,
        since_us: i64,
        /// What is thought to be used, where Redis knows nothing.
        known: u64,
        want: Want,
    },
    Lease {
        most: u64,
        /// What this node holds; `None`: what it said last.
        hold: Option<u64>,
        spend: u64,
        seq: u64,
        /// Where what is spent now is counted, and what no longer counts; seconds since 1970.
        step: i64,
        from: i64,
        ttl_us: u64,
        /// After this long without a word it is forgotten, in milliseconds; 0: never.
        keep_ms: u64,
        /// What is known to be spent: Redis may have lost it.
        seed: Vec<(i64, u64)>,
        /// What others held, as far as is known, for the same case.
        others: u64,
        want: Want,
    },
}

/// What is asked for: so much, but at least; of what is left no more than its part, if that is more than the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub most: u64,
    pub least: u64,
    pub share: u64,
}

impl Line {
    /// Appends the account's arguments.
    pub fn write(&self, args: &mut Vec<String>) {
        let begun = args.len();
        let mut add = |value: &dyn std::fmt::Display| args.push(value.to_string());
        match self {
            Line::Rate {
                limit,
                period_us,
                owe,
                give,
                since_us,
                known,
                want,
            } => {
                add(&"rate");
                for value in [limit, period_us, owe, give] {
                    add(value);
                }
                add(since_us);
                for value in [want.most, want.least, want.share, *known] {
                    add(&value);
                }
            }
            Line::Lease {
                most,
                hold,
                spend,
                seq,
                step,
                from,
                ttl_us,
                keep_ms,
                seed,
                others,
                want,
            } => {
                add(&"lease");
                add(most);
                match hold {
                    Some(hold) => add(hold),
                    None => add(&-1),
                }
                add(spend);
                add(seq);
                add(step);
                add(from);
                for value in [want.most, want.least, want.share, *ttl_us] {
                    add(&value);
                }
                let seed = seed.iter().map(|(at, spent)| format!("{at}:{spent}"));
                add(&seed.collect::<Vec<_>>().join(","));
                add(keep_ms);
                add(others);
            }
        }
        args.resize(begun + WIDTH, String::from("0"));
    }
}

/// What Redis says of one account.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    pub grant: u64,
    pub refused: bool,
    /// What is left when that is granted; below nothing where more is used than there is.
    pub room: i64,
    /// Used of a rate, spent of a lease, by all nodes.
    pub spent: u64,
    /// Held by other nodes.
    pub others: u64,
    /// Until what was asked for is there.
    pub wait_us: u64,
    /// Somebody found too little while nodes held some of it.
    pub wanted: bool,
    pub steps: Vec<(i64, u64)>,
}

impl Told {
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut number = || parts.next()?.parse::<i64>().ok();
        let grant = u64::try_from(number()?).ok()?;
        let refused = number()? == 1;
        let room = number()?;
        let whole = |number: i64| u64::try_from(number).unwrap_or(0);
        let (spent, others, wait_us) = (whole(number()?), whole(number()?), whole(number()?));
        let wanted = number()? == 1;
        let steps = match parts.next()? {
            "-" => Vec::new(),
            text => text.split(',').filter_map(step).collect(),
        };
        Some(Self {
            grant,
            refused,
            room,
            spent,
            others,
            wait_us,
            wanted,
            steps,
        })
    }
}

fn step(text: &str) -> Option<(i64, u64)> {
    let (at, spent) = text.split_once(':')?;
    Some((at.parse().ok()?, spent.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_read_and_nothing_else() {
        let told = Told::read("5 0 -3 12 7 0 1 100:5,-200:7").expect("it is whole");
        assert_eq!((told.grant, told.room, told.others), (5, -3, 7));
        assert!(told.wanted && !told.refused);
        assert_eq!(told.steps, [(100, 5), (-200, 7)]);
        assert_eq!(Told::read("0 1 0 0 0 250 0 -").expect("whole").wait_us, 250);
        for broken in ["", "5 0", "-5 0 0 0 0 0 0 -", "x 0 0 0 0 0 0 -"] {
            assert_eq!(Told::read(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn every_account_takes_as_many_arguments() {
        let want = Want {
            most: 3,
            least: 1,
            share: 4,
        };
        let rate = Line::Rate {
            limit: 60,
            period_us: 60_000_000,
            owe: 0,
            give: 2,
            since_us: 5,
            known: 7,
            want,
        };
        let lease = Line::Lease {
            most: 10,
            hold: None,
            spend: 0,
            seq: 1,
            step: 0,
            from: i64::MIN / 2,
            ttl_us: 9,
            keep_ms: 0,
            seed: vec![(0, 4), (60, 5)],
            others: 2,
            want,
        };
        let mut args = Vec::new();
        rate.write(&mut args);
        assert_eq!(args.len(), WIDTH);
        assert_eq!(
            args[..10],
            ["rate", "60", "60000000", "0", "2", "5", "3", "1", "4", "7"]
        );
        lease.write(&mut args);
        assert_eq!(args.len(), 2 * WIDTH);
        let of_lease = &args[WIDTH..];
        assert_eq!((&*of_lease[2], &*of_lease[11]), ("-1", "0:4,60:5"));
        assert_eq!(of_lease[12..], ["0", "2"]);
    }
}
