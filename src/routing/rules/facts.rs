//! What rules may ask of a request, each part made when a rule first asks for it.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cel::common::types::{CelBool, CelInt, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use http::HeaderMap;
use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use super::body;
use super::language::Pattern;
use crate::protocol::Protocol;
use crate::protocol::envelope::Envelope;
use crate::routing::needs;

/// Data that one evaluation may look at, in entries of maps and lists and in steps of 64 bytes of text. Beyond it a
/// rule fails as for a key that isn't there.
const MOST_LOOKED_AT: u32 = 10_000;

/// A request as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// As records name it: `chat`, `messages`, …
    pub endpoint: &'r str,
    pub headers: &'r HeaderMap,
    pub tags: &'r [String],
    /// The key's name; empty at an open gateway.
    pub key: &'r str,
    pub team: &'r str,
    pub session: &'r str,
    /// Of this gateway.
    pub region: &'r str,
    pub at: Timestamp,
    /// `None` where it passes unread: rules that ask for any of it are passed over.
    pub said: Option<Said<'r>>,
}

/// What stands in a request's body.
#[derive(Debug, Clone, Copy)]
pub struct Said<'r> {
    pub protocol: Protocol,
    pub body: &'r [u8],
    pub envelope: &'r Envelope<'r>,
    /// Of the header, else of the body.
    pub user: &'r str,
}

/// A name that expressions may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    Model,
    Endpoint,
    Stream,
    Headers,
    Metadata,
    Tags,
    User,
    Key,
    Team,
    Session,
    Tokens,
    HasImages,
    HasTools,
    Hour,
    Weekday,
    Region,
}

impl Variable {
    pub const ALL: [(&'static str, Variable); 16] = [
        ("model", Variable::Model),
        ("endpoint", Variable::Endpoint),
        ("stream", Variable::Stream),
        ("headers", Variable::Headers),
        ("metadata", Variable::Metadata),
        ("tags", Variable::Tags),
        ("user", Variable::User),
        ("key", Variable::Key),
        ("team", Variable::Team),
        ("session", Variable::Session),
        ("tokens", Variable::Tokens),
        ("has_images", Variable::HasImages),
        ("has_tools", Variable::HasTools),
        ("hour", Variable::Hour),
        ("weekday", Variable::Weekday),
        ("region", Variable::Region),
    ];

    pub fn of(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, variable)| variable)
    }

    /// Returns whether it takes the body to know this.
    pub fn is_said(self) -> bool {
        match self {
            Variable::Model
            | Variable::Stream
            | Variable::Metadata
            | Variable::User
            | Variable::Tokens
            | Variable::HasImages
            | Variable::HasTools => true,
            Variable::Endpoint
            | Variable::Headers
            | Variable::Tags
            | Variable::Key
            | Variable::Team
            | Variable::Session
            | Variable::Hour
            | Variable::Weekday
            | Variable::Region => false,
        }
    }
}

/// Headers that rules never see: they hold what clients prove themselves with.
pub const HIDDEN: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    // A browser shows its key here.
    "sec-websocket-protocol",
];

/// The days as rules spell them.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn day(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Monday => DAYS[0],
        Weekday::Tuesday => DAYS[1],
        Weekday::Wednesday => DAYS[2],
        Weekday::Thursday => DAYS[3],
        Weekday::Friday => DAYS[4],
        Weekday::Saturday => DAYS[5],
        Weekday::Sunday => DAYS[6],
    }
}

/// One request while its rules are asked: what one of them had read, the next finds.
pub struct Facts<'r> {
    request: &'r Request<'r>,
    has_images: OnceLock<bool>,
    has_tools: OnceLock<bool>,
    headers: OnceLock<CelMap<'r>>,
    tags: OnceLock<CelList<'r>>,
    metadata: OnceLock<Option<CelMap<'static>>>,
}

impl<'r> Facts<'r> {
    pub fn new(request: &'r Request<'r>) -> Self {
        Self {
            request,
            has_images: OnceLock::new(),
            has_tools: OnceLock::new(),
            headers: OnceLock::new(),
            tags: OnceLock::new(),
            metadata: OnceLock::new(),
        }
    }

    pub fn request(&self) -> &'r Request<'r> {
        self.request
    }

    pub fn has_images(&self) -> bool {
        let read = |said: &Said<'_>| needs::has_images(said.body, said.envelope, said.protocol);
        *self
            .has_images
            .get_or_init(|| self.request.said.as_ref().is_some_and(read))
    }

    pub fn has_tools(&self) -> bool {
        let read = |said: &Said<'_>| body::has_tools(said.body, said.envelope);
        *self
            .has_tools
            .get_or_init(|| self.request.said.as_ref().is_some_and(read))
    }

    pub fn tokens(&self) -> i64 {
        let said = self.request.said.as_ref();
        let tokens = said.map_or(0, |said| said.envelope.estimate_input());
        i64::try_from(tokens).unwrap_or(i64::MAX)
    }

    pub fn hour(&self, zone: &TimeZone) -> i64 {
        zone.to_datetime(self.request.at).hour().into()
    }

    pub fn weekday(&self, zone: &TimeZone) -> &'static str {
        day(zone.to_datetime(self.request.at).weekday())
    }

    fn headers(&self) -> &CelMap<'r> {
        self.headers.get_or_init(|| {
            let mut map: HashMap<CelMapKey<'r>, Box<dyn Val + 'r>> = HashMap::new();
            for name in self.request.headers.keys() {
                if let Some(value) = header(self.request.headers, name.as_str()) {
                    map.insert(name.as_str().into(), Box::new(value));
                }
            }
            map.into()
        })
    }

    fn tags(&self) -> &CelList<'r> {
        self.tags.get_or_init(|| {
            let tags = self.request.tags.iter();
            let tags: Vec<Box<dyn Val + 'r>> = tags
                .map(|tag| Box::new(CelString::from(tag.as_str())) as Box<dyn Val + 'r>)
                .collect();
            tags.into()
        })
    }

    /// Returns `None` when there is more of it than a rule may look at.
    fn metadata(&self) -> Option<&CelMap<'static>> {
        let read = || match &self.request.said {
            Some(said) => body::metadata(said.body, said.envelope, said.protocol),
            None => None,
        };
        self.metadata.get_or_init(read).as_ref()
    }
}

/// Returns the value of a header that rules may see: its lines joined by commas, as HTTP reads them. One that is not
/// visible ASCII is not there.
pub fn header<'r>(headers: &'r HeaderMap, name: &str) -> Option<CelString<'r>> {
    if HIDDEN.contains(&name) {
        return None;
    }
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    let mut rest = values.peekable();
    if rest.peek().is_none() {
        return Some(first.into());
    }
    let mut all = first.to_owned();
    for value in rest {
        all.push_str(", ");
        all.push_str(value.to_str().ok()?);
    }
    Some(all.into())
}

/// One evaluation: where the names of an expression are looked up.
pub struct Scope<'s, 'r> {
    facts: &'s Facts<'r>,
    zone: &'s TimeZone,
    patterns: &'s [Pattern],
    left: AtomicU32,
}

impl<'s, 'r> Scope<'s, 'r> {
    pub fn new(facts: &'s Facts<'r>, zone: &'s TimeZone, patterns: &'s [Pattern]) -> Self {
        Self {
            facts,
            zone,
            patterns,
            left: AtomicU32::new(MOST_LOOKED_AT),
        }
    }

    /// Returns whether more was asked for than may be looked at.
    pub fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn spend(&self, amount: usize) -> Option<()> {
        let amount = u32::try_from(amount).unwrap_or(u32::MAX).saturating_add(1);
        let left = self.left.load(Ordering::Relaxed).saturating_sub(amount);
        self.left.store(left, Ordering::Relaxed);
        (left > 0).then_some(())
    }

    fn text<'b>(&self, text: &'b str) -> Option<CowVal<'b, 'b>> {
        self.spend(text.len() / 64)?;
        Some(CowVal::owned(CelString::from(text)))
    }
}

impl VariableResolver for Scope<'_, '_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(place) = name.strip_prefix(Pattern::PREFIX) {
            let pattern = self.patterns.get(place.parse::<usize>().ok()?)?;
            return Some(CowVal::Borrowed(pattern));
        }
        let request = self.facts.request;
        let said = request.said.as_ref();
        match Variable::of(name)? {
            Variable::Model => self.text(&said?.envelope.model),
            Variable::User => self.text(said?.user),
            Variable::Endpoint => self.text(request.endpoint),
            Variable::Key => self.text(request.key),
            Variable::Team => self.text(request.team),
            Variable::Session => self.text(request.session),
            Variable::Region => self.text(request.region),
            Variable::Weekday => self.text(self.facts.weekday(self.zone)),
            Variable::Stream => truth(said?.envelope.stream),
            Variable::HasImages => truth(self.facts.has_images()),
            Variable::HasTools => truth(self.facts.has_tools()),
            Variable::Tokens => number(self.facts.tokens()),
            Variable::Hour => number(self.facts.hour(self.zone)),
            Variable::Headers => {
                let headers = self.facts.headers();
                self.spend(headers.len() * 8)?;
                Some(CowVal::Borrowed(headers))
            }
            Variable::Tags => {
                let tags = self.facts.tags();
                self.spend(tags.inner().len() * 4)?;
                Some(CowVal::Borrowed(tags))
            }
            Variable::Metadata => {
                let metadata = self.facts.metadata()?;
                self.spend(body::MOST_METADATA_VALUES)?;
                Some(CowVal::Borrowed(metadata))
            }
        }
    }
}

fn truth<'b>(truth: bool) -> Option<CowVal<'b, 'b>> {
    let truth = if truth {
        &CelBool::TRUE
    } else {
        &CelBool::FALSE
    };
    Some(CowVal::Borrowed(truth))
}

fn number<'b>(number: i64) -> Option<CowVal<'b, 'b>> {
    Some(CowVal::owned(CelInt::from(number)))
}
