//! What can be limited: requests, tokens, images and seconds of audio over a time, and requests at a time; for all
//! models, or for some.

use std::sync::Arc;

use super::bucket::{DAY, MINUTE};
use crate::glob::Glob;

/// Whose limits a request is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// For whoever is refused.
    pub what: Holder,
    /// Unique among all: what is used is counted by it.
    pub name: Arc<str>,
    /// The models that are counted here, together; `None`: all.
    pub models: Option<Arc<[Glob]>>,
    pub limits: Limits,
}

impl Limited {
    /// Returns the limits of `owner` for the models that match one of `patterns`; for all where there are none.
    pub fn new(what: Holder, owner: &str, patterns: &[&str], limits: Limits) -> Self {
        if patterns.is_empty() {
            return Self {
                what,
                name: owner.into(),
                models: None,
                limits,
            };
        }
        let mut sorted = patterns.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        Self {
            what,
            // The same after a restart, and whichever way they were written down.
            name: format!("{owner} for {}", sorted.join(", ")).into(),
            models: Some(sorted.into_iter().map(Glob::new).collect()),
            limits,
        }
    }

    /// Returns whether a model that has these names is counted here.
    pub fn counts(&self, names: &[&str]) -> bool {
        match &self.models {
            None => true,
            Some(models) => models
                .iter()
                .any(|glob| names.iter().any(|name| glob.matches(name))),
        }
    }
}

/// What has limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Organisation,
    Team,
    Project,
    User,
    Key,
}

impl Holder {
    pub fn name(self) -> &'static str {
        match self {
            Holder::Organisation => "organisation",
            Holder::Team => "team",
            Holder::Project => "project",
            Holder::User => "user",
            Holder::Key => "key",
        }
    }
}

/// Limits of one key, or of what it belongs to; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// Tokens a minute, input and output together.
    pub tpm: Option<u64>,
    /// Requests a day.
    pub rpd: Option<u64>,
    /// Tokens a day.
    pub tpd: Option<u64>,
    /// Images made, in a minute and in a day.
    pub images_per_minute: Option<u32>,
    pub images_per_day: Option<u32>,
    /// Seconds of audio heard and spoken, each request's rounded up; in a minute and in a day.
    pub audio_seconds_per_minute: Option<u32>,
    pub audio_seconds_per_day: Option<u32>,
    /// Requests at a time.
    pub concurrent: Option<u32>,
}

impl Limits {
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    pub fn of(&self, which: Which) -> Option<u64> {
        match which {
            Which::Rpm => self.rpm.map(u64::from),
            Which::Tpm => self.tpm,
            Which::Rpd => self.rpd,
            Which::Tpd => self.tpd,
            Which::ImagesPerMinute => self.images_per_minute.map(u64::from),
            Which::ImagesPerDay => self.images_per_day.map(u64::from),
            Which::AudioPerMinute => self.audio_seconds_per_minute.map(u64::from),
            Which::AudioPerDay => self.audio_seconds_per_day.map(u64::from),
            Which::Concurrent => self.concurrent.map(u64::from),
        }
    }

    /// Returns limits of which each is what `read` has for its name.
    pub fn read(mut read: impl FnMut(Which) -> Option<u64>) -> Self {
        let small =
            |limit: Option<u64>| limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        Self {
            rpm: small(read(Which::Rpm)),
            tpm: read(Which::Tpm),
            rpd: read(Which::Rpd),
            tpd: read(Which::Tpd),
            images_per_minute: small(read(Which::ImagesPerMinute)),
            images_per_day: small(read(Which::ImagesPerDay)),
            audio_seconds_per_minute: small(read(Which::AudioPerMinute)),
            audio_seconds_per_day: small(read(Which::AudioPerDay)),
            concurrent: small(read(Which::Concurrent)),
        }
    }

    /// Returns those that hold where both do.
    pub fn and(self, other: Self) -> Self {
        Self::read(|which| match (self.of(which), other.of(which)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        })
    }
}

/// One of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    Rpm,
    Tpm,
    Rpd,
    Tpd,
    ImagesPerMinute,
    ImagesPerDay,
    AudioPerMinute,
    AudioPerDay,
    Concurrent,
}

impl Which {
    pub const ALL: [Which; 9] = [
        Which::Rpm,
        Which::Tpm,
        Which::Rpd,
        Which::Tpd,
        Which::ImagesPerMinute,
        Which::ImagesPerDay,
        Which::AudioPerMinute,
        Which::AudioPerDay,
        Which::Concurrent,
    ];

    /// Those over a time, by their numbers.
    pub const RATES: [Which; 8] = [
        Which::Rpm,
        Which::Tpm,
        Which::Rpd,
        Which::Tpd,
        Which::ImagesPerMinute,
        Which::ImagesPerDay,
        Which::AudioPerMinute,
        Which::AudioPerDay,
    ];

    /// Returns the name that configuration and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Which::Rpm => "rpm",
            Which::Tpm => "tpm",
            Which::Rpd => "rpd",
            Which::Tpd => "tpd",
            Which::ImagesPerMinute => "images_per_minute",
            Which::ImagesPerDay => "images_per_day",
            Which::AudioPerMinute => "audio_seconds_per_minute",
            Which::AudioPerDay => "audio_seconds_per_day",
            Which::Concurrent => "concurrent",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Which::Rpm => "requests per minute (rpm)",
            Which::Tpm => "tokens per minute (tpm)",
            Which::Rpd => "requests per day (rpd)",
            Which::Tpd => "tokens per day (tpd)",
            Which::ImagesPerMinute => "images per minute",
            Which::ImagesPerDay => "images per day",
            Which::AudioPerMinute => "seconds of audio per minute",
            Which::AudioPerDay => "seconds of audio per day",
            Which::Concurrent => "concurrent requests",
        }
    }

    /// Returns what helps a request that is larger than the limit.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Which::Tpm | Which::Tpd => "Ask for fewer output tokens or shorten the input.",
            Which::ImagesPerMinute | Which::ImagesPerDay => "Ask for fewer images.",
            Which::AudioPerMinute
            | Which::AudioPerDay
            | Which::Rpm
            | Which::Rpd
            | Which::Concurrent => "Send, or ask for, less at a time.",
        }
    }

    /// Returns whether requests that take nothing of it pass whatever is owed: of images and audio it is known which do.
    pub(super) fn spares(self, requested: u64) -> bool {
        match self {
            Which::ImagesPerMinute
            | Which::ImagesPerDay
            | Which::AudioPerMinute
            | Which::AudioPerDay => requested == 0,
            Which::Rpm | Which::Tpm | Which::Rpd | Which::Tpd | Which::Concurrent => false,
        }
    }

    /// Returns what an empty one refills in, in nanoseconds; nothing of what is counted at a time.
    pub(super) fn period(self) -> u64 {
        match self {
            Which::Rpm | Which::Tpm | Which::ImagesPerMinute | Which::AudioPerMinute => MINUTE,
            Which::Rpd | Which::Tpd | Which::ImagesPerDay | Which::AudioPerDay => DAY,
            Which::Concurrent => 0,
        }
    }
}

/// What a request takes of limits, beside being one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub tokens: u64,
    pub images: u64,
    pub audio_seconds: u64,
}

impl Amount {
    pub fn of(&self, which: Which) -> u64 {
        match which {
            Which::Rpm | Which::Rpd | Which::Concurrent => 1,
            Which::Tpm | Which::Tpd => self.tokens,
            Which::ImagesPerMinute | Which::ImagesPerDay => self.images,
            Which::AudioPerMinute | Which::AudioPerDay => self.audio_seconds,
        }
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            images: self.images.saturating_add(other.images),
            audio_seconds: self.audio_seconds.saturating_add(other.audio_seconds),
        }
    }
}

impl From<u64> for Amount {
    fn from(tokens: u64) -> Self {
        Self {
            tokens,
            ..Self::default()
        }
    }
}
