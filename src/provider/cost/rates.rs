//! Rates: what a token of each kind costs.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::protocol::usage::{Usage, decimal};

/// A price of a million tokens in dollars is whole pico-dollars per token at this many decimals.
const PLACES: u32 = 6;

/// A kind of token that may have a rate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Input,
    Output,
    CacheRead,
    CacheWrite,
    CacheWrite1h,
    CacheWrite12h,
    Reasoning,
    Citation,
    AudioIn,
    AudioOut,
    AudioCacheRead,
    ImageIn,
    ImageOut,
    ImageCacheRead,
    VideoIn,
    VideoOut,
}

impl Token {
    pub const ALL: [Token; 16] = [
        Token::Input,
        Token::Output,
        Token::CacheRead,
        Token::CacheWrite,
        Token::CacheWrite1h,
        Token::CacheWrite12h,
        Token::Reasoning,
        Token::Citation,
        Token::AudioIn,
        Token::AudioOut,
        Token::AudioCacheRead,
        Token::ImageIn,
        Token::ImageOut,
        Token::ImageCacheRead,
        Token::VideoIn,
        Token::VideoOut,
    ];

    /// The names that configuration and catalogue use, in the order of [`Token::ALL`].
    pub const NAMES: [&'static str; 16] = [
        "in",
        "out",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "cache_write_12h",
        "reasoning",
        "citation",
        "audio_in",
        "audio_out",
        "audio_cache_read",
        "image_in",
        "image_out",
        "image_cache_read",
        "video_in",
        "video_out",
    ];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, known)| *known == name)
            .map(|(token, _)| token)
    }
}

/// What tokens cost, in pico-dollars each. An explicit 0 is a price; `None` is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates([Option<u64>; 16]);

impl Rates {
    /// Returns rates from dollars per million tokens, as users write them: `[("in", 0.10), ("out", 0.40)]`.
    ///
    /// Errors name the key at fault.
    pub fn from_usd_per_million<'a>(
        prices: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<Self, String> {
        let mut rates = Self::default();
        for (name, price) in prices {
            let token = Token::from_name(name).ok_or_else(|| {
                format!(
                    "`{name}` is no price; known are {}",
                    Token::NAMES.join(", ")
                )
            })?;
            // The shortest text that reads back as the same number is what was written in the file.
            let text = price.to_string();
            let rate = decimal(&text, PLACES).ok_or_else(|| {
                format!("`{name}` must be dollars per million tokens, 0 or more, not {text}")
            })?;
            rates.set(token, rate);
        }
        Ok(rates)
    }

    pub fn get(&self, token: Token) -> Option<u64> {
        self.0[token as usize]
    }

    pub fn set(&mut self, token: Token, pico_per_token: u64) {
        self.0[token as usize] = Some(pico_per_token);
    }

    /// Returns these rates with what `over` names replaced.
    pub(super) fn with(&self, over: &Self) -> Self {
        let mut rates = self.clone();
        for (rate, over) in rates.0.iter_mut().zip(over.0) {
            *rate = over.or(*rate);
        }
        rates
    }

    /// Returns what the tokens of `usage` cost, and whether all of them have a price.
    pub(super) fn tokens(&self, usage: &Usage) -> (u128, bool) {
        let plain = self.get(Token::Input);
        let mut sum = Sum::default();

        let cached_audio = self.get(Token::AudioIn).or(self.get(Token::AudioCacheRead));
        let audio_cached = cached_audio.map_or(0, |_| usage.audio_cached.min(usage.cache_read));
        let cached_image = self.get(Token::ImageIn).or(self.get(Token::ImageCacheRead));
        let image_cached = cached_image.map_or(0, |_| {
            usage.image_cached.min(usage.cache_read - audio_cached)
        });
        let cache_read = self.get(Token::CacheRead).or(plain);
        sum.add(audio_cached, self.get(Token::AudioCacheRead).or(cache_read));
        sum.add(image_cached, self.get(Token::ImageCacheRead).or(cache_read));
        sum.add(usage.cache_read - audio_cached - image_cached, cache_read);

        let write = self.get(Token::CacheWrite).or(plain);
        sum.add(usage.cache_write, write);
        sum.add(
            usage.cache_write_1h,
            self.get(Token::CacheWrite1h).or(write),
        );
        sum.add(
            usage.cache_write_12h,
            self.get(Token::CacheWrite12h).or(write),
        );

        let mut fresh = usage.fresh();
        for (token, count) in [
            (Token::AudioIn, usage.audio_in.saturating_sub(audio_cached)),
            (Token::ImageIn, usage.image_in.saturating_sub(image_cached)),
            (Token::VideoIn, usage.video_in),
        ] {
            if let Some(rate) = self.get(token) {
                let count = count.min(fresh);
                fresh -= count;
                sum.add(count, Some(rate));
            }
        }
        sum.add(fresh, plain);

        let mut text = usage.output;
        for (token, count) in [
            (Token::Reasoning, usage.reasoning),
            (Token::Citation, usage.citation),
            (Token::AudioOut, usage.audio_out),
            (Token::ImageOut, usage.image_out),
        ] {
            if let Some(rate) = self.get(token) {
                let count = count.min(text);
                text -= count;
                sum.add(count, Some(rate));
            }
        }
        sum.add(text, self.get(Token::Output));
        (sum.pico, !sum.missing)
    }
}

#[derive(Default)]
struct Sum {
    pico: u128,
    missing: bool,
}

impl Sum {
    fn add(&mut self, count: u64, rate: Option<u64>) {
        match rate {
            Some(rate) => {
                self.pico = self
                    .pico
                    .saturating_add(u128::from(count) * u128::from(rate));
            }
            None if count > 0 => self.missing = true,
            None => {}
        }
    }
}

/// Rates as a table of dollars per million tokens, in configuration and catalogue.
impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = Rates;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a table of prices in USD per 1,000,000 tokens")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rates, A::Error> {
        let mut rates = Rates::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if Token::from_name(&name).is_none() {
                return Err(serde::de::Error::unknown_field(&name, &Token::NAMES));
            }
            // Every number that configuration or catalogue can state is read back by its shortest text.
            let price: f64 = map.next_value()?;
            let one =
                Rates::from_usd_per_million([(&*name, price)]).map_err(serde::de::Error::custom)?;
            rates = rates.with(&one);
        }
        Ok(rates)
    }
}
