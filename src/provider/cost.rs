//! What an answer costs: rates, the rules that choose among them, and the sum.
//!
//! All money is an integer count of pico-dollars (1e-12 USD): a price of "USD per million tokens" with at most six
//! decimals is then a whole number per token, and sums are exact. Floating point never takes part.
//!
//! The rules, in this order: the standard rates of the day; the tier that the input reaches (a cliff: it moves
//! every token of the request); the off-peak hour; the service tier. A kind of token without a rate of its own
//! costs what the plainer kind costs. Multipliers touch tokens alone; fees come on top, never multiplied.

use jiff::Timestamp;

use crate::protocol::usage::{SearchSize, Usage};

pub use rates::{Rates, Token};

mod rates;

/// Returns what `usage` costs at `price`, at the time `at`, from a provider's ordinary address.
///
/// Passes of other models stay unpriced: see [`Ask::cost`].
pub fn cost(price: &Price, usage: &Usage, at: Timestamp) -> Cost {
    Ask {
        at,
        place: Place::Anywhere,
        other: &|_| None,
    }
    .cost(Some(price), usage)
}

/// Returns an amount in dollars: exact decimal text without trailing zeros.
pub fn usd(pico: u64) -> String {
    let (whole, rest) = (pico / PICO, pico % PICO);
    if rest == 0 {
        return whole.to_string();
    }
    let mut text = format!("{whole}.{rest:012}");
    text.truncate(text.trim_end_matches('0').len());
    text
}

/// Pico-dollars in a dollar.
pub const PICO: u64 = 1_000_000_000_000;
/// Multipliers are counted in millionths.
const MILLION: u128 = 1_000_000;

/// An answer's cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    pub pico: u64,
    /// Some of the usage has no known price: `pico` is less than the truth.
    pub unpriced: bool,
    /// It is the provider's own bill.
    pub reported: bool,
}

/// The circumstances that choose among the rates of a model.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub at: Timestamp,
    pub place: Place,
    /// Finds the price of another model of the same provider that took part in an answer.
    pub other: &'a dyn Fn(&str) -> Option<&'a Price>,
}

/// The kind of address that was asked: some cost more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Anywhere,
    /// OpenAI's `eu.` and `us.` hosts.
    Europe,
    UnitedStates,
    /// A region of Vertex, not `global`.
    Region,
}

impl Place {
    /// Returns the kind of a provider's host.
    pub fn of(host: &str) -> Self {
        match host {
            "eu.api.openai.com" => Place::Europe,
            "us.api.openai.com" => Place::UnitedStates,
            _ if host.ends_with("-aiplatform.googleapis.com") => Place::Region,
            _ => Place::Anywhere,
        }
    }

    fn multiplier(self) -> Option<Multiplier> {
        match self {
            Place::Anywhere => None,
            Place::Europe => Some(Multiplier::ResidencyEu),
            Place::UnitedStates => Some(Multiplier::ResidencyUs),
            Place::Region => Some(Multiplier::Region),
        }
    }
}

/// All that a model's price depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Price {
    pub rates: Rates,
    pub tiers: Vec<Tier>,
    /// A tier applies at its threshold, not only above it.
    pub inclusive: bool,
    pub services: Vec<Service>,
    pub off_peak: Option<OffPeak>,
    /// Announced rates and the time from which they count, in order.
    pub changes: Vec<(Timestamp, Rates)>,
    /// In millionths.
    pub multipliers: Vec<(Multiplier, u64)>,
    /// Pico-dollars a unit.
    pub fees: Vec<(Unit, u64)>,
    /// Searches are billed once a request, however many there were.
    pub search_per_prompt: bool,
    /// Every request is a search, whether usage counts one or not.
    pub search_always: bool,
    /// The least time that is billed.
    pub least_seconds: u32,
    /// No source states a price.
    pub unknown: bool,
}

/// Rates of the whole request once its input is larger than `above`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    pub above: u64,
    pub rates: Rates,
}

/// Rates of a service tier (`flex`, `batch`, …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: Box<str>,
    pub rates: Rates,
    pub tiers: Vec<Tier>,
}

/// Rates inside windows of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffPeak {
    pub rates: Rates,
    pub windows: Vec<Window>,
}

/// Minutes of a UTC day, on the weekdays whose bit is set (Monday is bit 1, Sunday bit 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub weekdays: u8,
    pub from: u16,
    /// Excluded; 1440 is midnight at the end.
    pub to: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multiplier {
    GeoUs,
    ResidencyEu,
    ResidencyUs,
    Region,
    Fast,
}

impl Multiplier {
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "geo:us" => Some(Multiplier::GeoUs),
            "residency:eu" => Some(Multiplier::ResidencyEu),
            "residency:us" => Some(Multiplier::ResidencyUs),
            "regional_endpoint" => Some(Multiplier::Region),
            "fast_mode" => Some(Multiplier::Fast),
            _ => None,
        }
    }
}

/// What is billed by the piece, not by the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Search,
    SearchLow,
    SearchMedium,
    SearchHigh,
    MapsSearch,
    FileSearch,
    Request,
    Query,
    Page,
    Character,
    Second,
    Image,
}

impl Unit {
    /// Returns the unit of a catalogue name, and of how many of it the name states the price.
    pub fn from_name(name: &str) -> Option<(Self, u64)> {
        match name {
            "ksearch" => Some((Unit::Search, 1000)),
            "ksearch_low" => Some((Unit::SearchLow, 1000)),
            "ksearch_medium" => Some((Unit::SearchMedium, 1000)),
            "ksearch_high" => Some((Unit::SearchHigh, 1000)),
            "kmaps_search" => Some((Unit::MapsSearch, 1000)),
            "kfile_search" => Some((Unit::FileSearch, 1000)),
            "krequest" => Some((Unit::Request, 1000)),
            "kquery" => Some((Unit::Query, 1000)),
            "kpage" => Some((Unit::Page, 1000)),
            "mchar_in" => Some((Unit::Character, 1_000_000)),
            // Whisper's price stands on both sides and is charged once.
            "second_in" | "second_out" => Some((Unit::Second, 1)),
            "image_out" => Some((Unit::Image, 1)),
            _ => None,
        }
    }
}

impl From<Rates> for Price {
    fn from(rates: Rates) -> Self {
        Self {
            rates,
            ..Self::default()
        }
    }
}

impl Price {
    /// Returns the rates of a request with `input` tokens, served by `service` at `at`.
    pub fn rates(&self, input: u64, service: Option<&str>, at: Timestamp) -> Rates {
        let mut rates = self.rates.clone();
        for (from, change) in &self.changes {
            if at >= *from {
                rates = rates.with(change);
            }
        }
        if let Some(tier) = self.tier(&self.tiers, input) {
            rates = rates.with(&tier.rates);
        }
        if let Some(off_peak) = &self.off_peak
            && off_peak.holds(at)
        {
            rates = rates.with(&off_peak.rates);
        }
        if let Some(service) = service.and_then(|name| self.service(name)) {
            rates = rates.with(&service.rates);
            if let Some(tier) = self.tier(&service.tiers, input) {
                rates = rates.with(&tier.rates);
            }
        }
        rates
    }

    /// Returns what a token of input and one of output cost a request with `input` tokens, in pico-dollars, rounded
    /// up; `None` where no source states it. Fees and service tiers are another matter.
    pub fn per_token(&self, input: u64, at: Timestamp, place: Place) -> Option<(u64, u64)> {
        if self.unknown {
            return None;
        }
        let rates = self.rates(input, None, at);
        let multiplier = place.multiplier().and_then(|known| self.multiplier(known));
        let multiplied = |rate: u64| match multiplier {
            Some(millionths) => {
                let pico = (u128::from(rate) * u128::from(millionths)).div_ceil(MILLION);
                u64::try_from(pico).unwrap_or(u64::MAX)
            }
            None => rate,
        };
        let rate = |token| rates.get(token).map(multiplied);
        Some((rate(Token::Input)?, rate(Token::Output)?))
    }

    fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| &*service.name == name)
    }

    fn tier<'t>(&self, tiers: &'t [Tier], input: u64) -> Option<&'t Tier> {
        tiers
            .iter()
            .filter(|tier| input > tier.above || (self.inclusive && input == tier.above))
            .max_by_key(|tier| tier.above)
    }

    fn multiplier(&self, wanted: Multiplier) -> Option<u64> {
        self.multipliers
            .iter()
            .find(|(of, _)| *of == wanted)
            .map(|(_, millionths)| *millionths)
    }

    fn fee(&self, wanted: Unit) -> Option<u64> {
        self.fees
            .iter()
            .find(|(of, _)| *of == wanted)
            .map(|(_, pico)| *pico)
    }

    fn token_cost(&self, usage: &Usage, at: Timestamp, place: Place) -> (u128, bool) {
        let service = usage.tier.as_deref();
        let (mut pico, priced) = self.rates(usage.input, service, at).tokens(usage);
        let geo = (usage.geo.as_deref() == Some("us")).then_some(Multiplier::GeoUs);
        let fast = service.filter(|name| *name == "fast" && self.service(name).is_none());
        let fast = fast.map(|_| Multiplier::Fast);
        for multiplier in [geo, place.multiplier(), fast].into_iter().flatten() {
            if let Some(millionths) = self.multiplier(multiplier) {
                // Rounded half up, where it doesn't come out even.
                pico = pico
                    .saturating_mul(u128::from(millionths))
                    .saturating_add(MILLION / 2)
                    / MILLION;
            }
        }
        (pico, priced)
    }

    /// Returns the fees of one answer.
    fn fees(&self, usage: &Usage) -> u128 {
        let mut searches = usage.searches;
        if self.search_per_prompt {
            searches = searches.min(1);
        }
        if self.search_always {
            searches = searches.max(1);
        }
        let size = usage.search_size.map(|size| match size {
            SearchSize::Low => Unit::SearchLow,
            SearchSize::Medium => Unit::SearchMedium,
            SearchSize::High => Unit::SearchHigh,
        });
        // Prices by image stand beside prices by token for the same model: one or the other.
        let images = if usage.total() == 0 { usage.images } else { 0 };
        let counted = [
            (Some(Unit::Search), searches),
            (size, 1),
            (Some(Unit::MapsSearch), usage.maps_searches),
            (Some(Unit::FileSearch), usage.file_searches),
            (Some(Unit::Request), 1),
            (Some(Unit::Query), usage.queries),
            (Some(Unit::Page), usage.pages),
            (Some(Unit::Character), usage.characters),
            (Some(Unit::Image), images),
        ];
        let mut sum = counted.into_iter().fold(0u128, |sum, (unit, count)| {
            let fee = unit.and_then(|unit| self.fee(unit)).unwrap_or(0);
            sum.saturating_add(u128::from(fee) * u128::from(count))
        });
        // So do prices by the character and by the second.
        let by_character = usage.characters > 0 && self.fee(Unit::Character).is_some();
        if !usage.duration.is_zero() && usage.total() == 0 && !by_character {
            let least = u128::from(self.least_seconds) * 1000;
            let millis = usage.duration.as_millis().max(least);
            let fee = u128::from(self.fee(Unit::Second).unwrap_or(0));
            sum = sum.saturating_add(fee.saturating_mul(millis) / 1000);
        }
        sum
    }

    /// Returns whether what `usage` counts in place of tokens has a price, by one of its units.
    fn prices_units(&self, usage: &Usage) -> bool {
        // Whose tokens are free is free.
        let free = |token| self.rates.get(token) == Some(0);
        if free(Token::Input) && free(Token::Output) {
            return true;
        }
        let counted = [
            (Unit::Query, usage.queries > 0),
            (Unit::Page, usage.pages > 0),
            (Unit::Character, usage.characters > 0),
            (Unit::Image, usage.images > 0),
            (Unit::Second, !usage.duration.is_zero()),
        ];
        let mut counted = counted.iter().filter(|(_, is_told)| *is_told).peekable();
        counted.peek().is_none() || counted.any(|(unit, _)| self.fee(*unit).is_some())
    }
}

impl OffPeak {
    fn holds(&self, at: Timestamp) -> bool {
        const DAY: i64 = 86_400;
        let at = at.as_second();
        // 1970-01-01 was a Thursday, ISO weekday 4.
        let weekday = (at.div_euclid(DAY) + 3).rem_euclid(7) + 1;
        let minute = at.rem_euclid(DAY) / 60;
        self.windows.iter().any(|window| {
            window.weekdays & (1 << weekday) != 0
                && (i64::from(window.from)..i64::from(window.to)).contains(&minute)
        })
    }
}

impl Ask<'_> {
    /// Returns what `usage` costs at `price`: the provider's own bill where it sent one, else the sum.
    pub fn cost(&self, price: Option<&Price>, usage: &Usage) -> Cost {
        if let Some(pico) = usage.reported {
            return Cost {
                pico,
                unpriced: false,
                reported: true,
            };
        }
        let mut sum = 0u128;
        let mut priced = true;
        let mut add =
            |price: Option<&Price>, usage: &Usage| match price.filter(|price| !price.unknown) {
                Some(price) => {
                    let (pico, whole) = price.token_cost(usage, self.at, self.place);
                    sum = sum.saturating_add(pico);
                    priced &= whole;
                }
                None => priced &= usage.total() == 0,
            };
        // Passes inside the totals are priced one by one, because each has its own tier.
        if !usage.passes.iter().any(|pass| pass.inside) {
            add(price, usage);
        }
        for pass in &usage.passes {
            match pass.model.as_deref() {
                Some(model) => add((self.other)(model), &pass.usage),
                None => add(price, &pass.usage),
            }
        }
        match price {
            Some(price) => {
                sum = sum.saturating_add(price.fees(usage));
                if usage.total() == 0 {
                    priced = price.prices_units(usage);
                }
            }
            None => priced &= usage.total() > 0,
        }
        Cost {
            pico: u64::try_from(sum).unwrap_or(u64::MAX),
            unpriced: !priced,
            reported: false,
        }
    }
}
