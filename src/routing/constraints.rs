//! What a model, a key or a request demands of whoever may answer: where, at what price, with which promises.
//!
//! Each level narrows what the others leave, and none widens it. A target of which a fact isn't known meets no
//! demand for that fact; but for the time that it takes, which nobody would ever know of a target that is not asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Kind};
use crate::glob::Glob;
use crate::protocol::usage::decimal;
use crate::provider::catalogue::Model;
use crate::provider::cost::{self, Price};
use crate::provider::{Platform, Provider, region};

/// A `constraints` table, or the header [`HEADER`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Constraints {
    pub origin: Origin,
    /// The regions in which it may be processed; none: anywhere.
    pub regions: Vec<String>,
    pub max_price: Ceiling,
    /// To the first token of a stream, to the whole of another answer.
    pub max_latency: Option<Duration>,
    pub no_training: bool,
    pub zero_retention: bool,
    /// None: everyone.
    pub allow: Vec<Who>,
    pub deny: Vec<Who>,
    /// Over every name that a target goes by: the model asked for, the model it stands in, `provider/model`, and the
    /// provider's own. None: every model.
    pub allow_models: Vec<Who>,
    pub deny_models: Vec<Who>,
}

/// Who demands it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    Model(String),
    Key(String),
    /// Whom a key belongs to, and its name: `team acme`.
    Owner(String),
    Request,
}

/// The most that tokens may cost, in pico-dollars each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Ceiling {
    pub input: Option<u64>,
    pub output: Option<u64>,
}

/// A pattern over names of providers, or over `provider/model` where it has a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    written: String,
    glob: Glob,
}

impl std::hash::Hash for Who {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.written.hash(state);
    }
}

impl Who {
    pub fn new(pattern: &str) -> Self {
        Self {
            written: pattern.to_owned(),
            glob: Glob::new(pattern),
        }
    }

    /// Returns whether it says more than which provider.
    pub fn names_models(&self) -> bool {
        self.written.contains('/')
    }

    /// Returns whether it is the provider, or a model that it may have.
    fn may_be(&self, provider: &str) -> bool {
        match self.written.split_once('/') {
            Some((name, _)) => Glob::new(name).matches(provider),
            None => self.glob.matches(provider),
        }
    }

    fn is(&self, provider: &str, model: &str) -> bool {
        if self.names_models() {
            self.glob.matches(&format!("{provider}/{model}"))
        } else {
            self.glob.matches(provider)
        }
    }
}

/// What is demanded beside what the models demand.
#[derive(Debug, Clone, Copy, Default, Hash)]
pub struct Demands<'a> {
    pub key: &'a [Arc<Constraints>],
    pub request: Option<&'a Constraints>,
}

impl<'a> Demands<'a> {
    pub fn is_empty(&self) -> bool {
        self.key.is_empty() && self.request.is_none()
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a Constraints> + use<'a> {
        let key = self.key.iter().map(|shared| &**shared);
        key.chain(self.request)
    }
}

/// A target, with what is known of it.
pub struct Subject<'a> {
    pub provider: &'a Provider,
    pub model: &'a str,
    /// Names that it was come by.
    pub names: &'a [&'a str],
    pub entry: Option<&'a Model>,
    pub place: cost::Place,
    /// Tokens of input, estimated: prices have tiers.
    pub input: u64,
    /// What it has taken of late; asked only where it matters.
    pub latency: &'a dyn Fn() -> Option<Duration>,
}

impl Constraints {
    /// Returns what demands nothing yet.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            regions: Vec::new(),
            max_price: Ceiling::default(),
            max_latency: None,
            no_training: false,
            zero_retention: false,
            allow: Vec::new(),
            deny: Vec::new(),
            allow_models: Vec::new(),
            deny_models: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::new(self.origin.clone())
    }

    /// Returns whether something of it depends on the model, so that knowing the provider isn't enough.
    pub fn asks_for_model(&self, provider: &Provider) -> bool {
        let mut who = self.allow.iter().chain(&self.deny);
        // A profile of Bedrock's may lead to another region.
        let bedrock = matches!(provider.platform, Platform::Bedrock { .. });
        who.any(Who::names_models)
            || !self.allow_models.is_empty()
            || !self.deny_models.is_empty()
            || self.max_price != Ceiling::default()
            || bedrock && !self.regions.is_empty()
    }

    /// Returns what of it a provider doesn't meet whose model isn't known: the models that a body names are to be
    /// held against it one by one.
    pub fn against_provider(&self, provider: &Provider) -> Option<Against> {
        let denied = self.deny.iter();
        let mut denied = denied.filter(|who| !who.names_models());
        let mut allowed = self.allow.iter();
        let unmet = if denied.any(|who| who.glob.matches(&provider.name)) {
            Some(Unmet::Denied)
        } else if !self.allow.is_empty() && !allowed.any(|who| who.may_be(&provider.name)) {
            Some(Unmet::NotAllowed)
        } else if self.max_price != Ceiling::default() {
            Some(Unmet::Unpriced)
        } else {
            self.data(provider, "")
        };
        unmet.map(|unmet| Against {
            unmet,
            origin: self.origin.clone(),
        })
    }

    /// Returns what of it `subject` doesn't meet.
    pub fn against(&self, subject: &Subject<'_>) -> Option<Against> {
        self.unmet(subject).map(|unmet| Against {
            unmet,
            origin: self.origin.clone(),
        })
    }

    fn unmet(&self, subject: &Subject<'_>) -> Option<Unmet> {
        let Subject {
            provider, model, ..
        } = subject;
        let listed = |list: &[Who]| list.iter().any(|who| who.is(&provider.name, model));
        if listed(&self.deny) {
            return Some(Unmet::Denied);
        }
        if !self.allow.is_empty() && !listed(&self.allow) {
            return Some(Unmet::NotAllowed);
        }
        if let Some(unmet) = self.models(subject) {
            return Some(unmet);
        }
        // The gateway's own answers go nowhere and cost nothing.
        if provider.demo {
            return None;
        }
        self.data(provider, model)
            .or_else(|| self.price(subject))
            .or_else(|| self.latency(subject))
    }

    fn models(&self, subject: &Subject<'_>) -> Option<Unmet> {
        if self.allow_models.is_empty() && self.deny_models.is_empty() {
            return None;
        }
        let full = format!("{}/{}", subject.provider.name, subject.model);
        let own = [full.as_str(), subject.model];
        let listed = |list: &[Who]| {
            let is = |name: &&str| list.iter().any(|who| who.glob.matches(name));
            subject.names.iter().chain(&own).any(is)
        };
        if listed(&self.deny_models) {
            return Some(Unmet::Denied);
        }
        let allows = self.allow_models.is_empty() || listed(&self.allow_models);
        (!allows).then_some(Unmet::NotAllowed)
    }

    fn data(&self, provider: &Provider, model: &str) -> Option<Unmet> {
        if !self.regions.is_empty() {
            let found = region::of(provider, model);
            let fits = |found| {
                self.regions
                    .iter()
                    .any(|wanted| region::within(found, wanted))
            };
            if !found.is_some_and(fits) {
                return Some(Unmet::Region {
                    found: found.map(str::to_owned),
                    wanted: self.regions.join(", "),
                });
            }
        }
        if self.no_training && provider.data.no_training != Some(true) {
            return Some(Unmet::Training(provider.data.no_training));
        }
        if self.zero_retention && provider.data.zero_retention != Some(true) {
            return Some(Unmet::Retention(provider.data.zero_retention));
        }
        None
    }

    fn price(&self, subject: &Subject<'_>) -> Option<Unmet> {
        let Ceiling { input, output } = self.max_price;
        if input.is_none() && output.is_none() {
            return None;
        }
        let Some(costs) = price_of(subject) else {
            return Some(Unmet::Unpriced);
        };
        let above = |side, most: Option<u64>, costs: u64| {
            let most = most.filter(|most| costs > *most)?;
            Some(Unmet::Price { side, costs, most })
        };
        above("in", input, costs.0).or_else(|| above("out", output, costs.1))
    }

    fn latency(&self, subject: &Subject<'_>) -> Option<Unmet> {
        let most = self.max_latency?;
        let takes = (subject.latency)().filter(|takes| *takes > most)?;
        Some(Unmet::Latency { takes, most })
    }

    /// Reads the value of [`HEADER`]. Errors say what is wrong with it.
    pub fn read_header(value: &str) -> Result<Self, String> {
        let mut read = Self::new(Origin::Request);
        if value.len() > MOST_HEADER {
            return Err(format!("is longer than {MOST_HEADER} bytes"));
        }
        let mut seen: Vec<&str> = Vec::new();
        for part in value
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(value.trim())),
                None => (part, None),
            };
            let Some(known) = DEMANDS.into_iter().find(|known| *known == name) else {
                let shown: String = name.chars().take(40).collect();
                return Err(format!("has {shown:?}; known are {}", DEMANDS.join(", ")));
            };
            if seen.contains(&known) {
                return Err(format!("has {known} twice"));
            }
            seen.push(known);
            read.demand(known, value)?;
        }
        Ok(read)
    }

    fn demand(&mut self, name: &'static str, value: Option<&str>) -> Result<(), String> {
        if let "no-training" | "zero-retention" = name {
            let on = match value {
                None | Some("true") => true,
                Some("false") => false,
                Some(_) => return Err(format!("takes {name}, without a value")),
            };
            match name {
                "no-training" => self.no_training = on,
                _ => self.zero_retention = on,
            }
            return Ok(());
        }
        let value = value
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("takes {name}=VALUE"))?;
        let words = value.split(',').map(str::trim);
        let words = || words.clone().filter(|word| !word.is_empty());
        let price = || {
            decimal(value, 6)
                .ok_or_else(|| format!("takes for {name} USD per million tokens, such as 1.5"))
        };
        match name {
            "region" => self.regions = words().map(str::to_ascii_lowercase).collect(),
            "max-price" => {
                let most = price()?;
                self.max_price.input.get_or_insert(most);
                self.max_price.output.get_or_insert(most);
            }
            "max-price-in" => self.max_price.input = Some(price()?),
            "max-price-out" => self.max_price.output = Some(price()?),
            "max-latency" => {
                let latency = latency(value)
                    .ok_or("takes for max-latency a time such as 800ms or 2s, to 1h")?;
                self.max_latency = Some(latency);
            }
            "allow" => self.allow = words().map(Who::new).collect(),
            _ => self.deny = words().map(Who::new).collect(),
        }
        let empty = match name {
            "region" => self.regions.is_empty(),
            "allow" => self.allow.is_empty(),
            "deny" => self.deny.is_empty(),
            _ => false,
        };
        match empty {
            true => Err(format!("takes {name}=VALUE")),
            false => Ok(()),
        }
    }
}

/// The header by which a request narrows what its key and its model leave.
pub const HEADER: &str = "x-strait-constraints";
const DEMANDS: [&str; 9] = [
    "region",
    "max-price",
    "max-price-in",
    "max-price-out",
    "max-latency",
    "no-training",
    "zero-retention",
    "allow",
    "deny",
];
const MOST_HEADER: usize = 2048;
/// Targets that a refusal names.
const MOST_NAMED: usize = 8;

fn latency(value: &str) -> Option<Duration> {
    let digits = value.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = value.split_at(digits);
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let millis = number.parse::<u64>().ok()?.checked_mul(scale)?;
    (1..=3_600_000)
        .contains(&millis)
        .then(|| Duration::from_millis(millis))
}

/// Returns what tokens of input and of output cost at the target, in pico-dollars each.
fn price_of(subject: &Subject<'_>) -> Option<(u64, u64)> {
    let at = Timestamp::now();
    let of = |price: &Price| price.per_token(subject.input, at, subject.place);
    let known = subject.entry.filter(|entry| !entry.price().unknown);
    match (known, &subject.provider.price) {
        (Some(entry), _) => of(entry.price()),
        (None, Some(rates)) => of(&rates.clone().into()),
        (None, None) => None,
    }
}

/// A demand that a target doesn't meet, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Against {
    pub unmet: Unmet,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    Denied,
    NotAllowed,
    Region {
        found: Option<String>,
        wanted: String,
    },
    /// What is known instead.
    Training(Option<bool>),
    Retention(Option<bool>),
    Unpriced,
    Price {
        side: &'static str,
        costs: u64,
        most: u64,
    },
    Latency {
        takes: Duration,
        most: Duration,
    },
}

impl Unmet {
    /// Returns the key of the configuration that demands it.
    pub fn name(&self) -> &'static str {
        match self {
            Unmet::Denied => "deny",
            Unmet::NotAllowed => "allow",
            Unmet::Region { .. } => "region",
            Unmet::Training(_) => "no_training",
            Unmet::Retention(_) => "zero_retention",
            Unmet::Unpriced | Unmet::Price { .. } => "max_price",
            Unmet::Latency { .. } => "max_latency",
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmet::Denied => f.write_str("denied"),
            Unmet::NotAllowed => f.write_str("not among those allowed"),
            Unmet::Region {
                found: Some(found),
                wanted,
            } => write!(f, "region {found}, not {wanted}"),
            Unmet::Region {
                found: None,
                wanted,
            } => write!(f, "region unknown, not {wanted}"),
            Unmet::Training(Some(_)) => f.write_str("trains on what it is sent"),
            Unmet::Training(None) => f.write_str("not known not to train"),
            Unmet::Retention(Some(_)) => f.write_str("keeps what it is sent"),
            Unmet::Retention(None) => f.write_str("not known to keep nothing"),
            Unmet::Unpriced => f.write_str("price unknown"),
            // A pico-dollar a token is a dollar for a million times a million.
            Unmet::Price { side, costs, most } => write!(
                f,
                "price {side} {} > {} USD per million tokens",
                per_million(*costs),
                per_million(*most)
            ),
            Unmet::Latency { takes, most } => {
                write!(f, "latency {} > {} ms", takes.as_millis(), most.as_millis())
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Model(name) => write!(f, "model {name}"),
            Origin::Key(name) => write!(f, "key {name}"),
            Origin::Owner(name) => f.write_str(name),
            Origin::Request => f.write_str(HEADER),
        }
    }
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.unmet, self.unmet.name(), self.origin)
    }
}

fn per_million(pico: u64) -> String {
    cost::usd(pico.saturating_mul(1_000_000))
}

/// Returns a number that differs where what is demanded does; 0 where nothing is.
pub fn fingerprint(demands: Demands<'_>) -> u64 {
    use std::hash::{Hash, Hasher};
    if demands.is_empty() {
        return 0;
    }
    let mut hasher = std::hash::DefaultHasher::new();
    demands.hash(&mut hasher);
    hasher.finish()
}

/// Returns the 403 of a request of which no target meets what is demanded: which demand, and whose.
///
/// `against` names the targets as `provider/model`, in the order in which they would have been asked.
pub fn refusal(model: &str, against: &[(String, Against)]) -> Error {
    let shown: String = model.chars().take(100).collect();
    let mut message = format!("No target of `{shown}` meets what is demanded");
    for (at, (name, against)) in against.iter().take(MOST_NAMED).enumerate() {
        let between = if at == 0 { ": " } else { "; " };
        message.push_str(&format!("{between}{name}: {against}"));
    }
    if against.len() > MOST_NAMED {
        message.push_str(&format!("; and {} more", against.len() - MOST_NAMED));
    }
    message.push('.');
    let own = against
        .iter()
        .any(|(_, against)| against.origin == Origin::Request);
    let param = if own { HEADER } else { "model" };
    Error {
        param: Some(param.into()),
        ..Error::new(Kind::NotPermitted, message)
    }
}
