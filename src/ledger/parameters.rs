//! The parameters of a query, each taken once: what is left over is unknown, and said so.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::answer::Refusal;
use super::api;

/// Names and values of a query, decoded.
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub fn read(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Self(pairs.collect())
    }

    /// Takes a parameter. One that is there twice stays, and is refused at the end.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Takes the parameters whose names begin so, each once.
    pub fn take_all(&mut self, prefix: &str) -> Vec<(String, String)> {
        let mut taken: Vec<(String, String)> = Vec::new();
        let all = std::mem::take(&mut self.0);
        for (name, value) in all {
            let is_new = taken.iter().all(|(known, _)| *known != name);
            if name.starts_with(prefix) && is_new {
                taken.push((name, value));
            } else {
                self.0.push((name, value));
            }
        }
        taken
    }

    /// Takes a list: values parted by commas, in one parameter or in several.
    pub fn list(&mut self, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        while let Some(value) = self.take(name) {
            let parts = value.split(',').map(str::trim);
            values.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
        }
        values
    }

    pub fn number(&mut self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.parse::<i64>().ok();
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let wrong = format!("must be a whole number from {least} to {most}");
                Err(Refusal::parameter(name, &wrong))
            }
        }
    }

    pub fn one_of<T: Copy>(
        &mut self,
        name: &str,
        known: &[(&'static str, T)],
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match known.iter().find(|(known, _)| *known == value) {
            Some((_, meant)) => Ok(Some(*meant)),
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                let wrong = format!("must be one of {}", names.join(", "));
                Err(Refusal::parameter(name, &wrong))
            }
        }
    }

    pub fn format(&mut self, known: &[&'static str]) -> Result<Option<&'static str>, Refusal> {
        let known: Vec<_> = known.iter().map(|name| (*name, *name)).collect();
        self.one_of("format", &known)
    }

    pub fn zone(&mut self) -> Result<TimeZone, Refusal> {
        match self.take("timezone") {
            Some(name) => api::zone(&name),
            None => Ok(TimeZone::UTC),
        }
    }

    /// Takes a time: RFC 3339, a date, or seconds since 1970.
    pub fn time(&mut self, name: &str, zone: &TimeZone) -> Result<Option<Timestamp>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let seconds = value.parse::<i64>().ok().map(Timestamp::from_second);
        let time = match seconds {
            Some(time) => time.ok(),
            None => value.parse::<Timestamp>().ok().or_else(|| {
                let date = value.parse::<Date>().ok().filter(|_| value.len() == 10)?;
                Some(date.to_zoned(zone.clone()).ok()?.timestamp())
            }),
        };
        let fit = time.filter(|time| *time >= Timestamp::UNIX_EPOCH);
        match fit {
            Some(time) => Ok(Some(time)),
            None => Err(Refusal::parameter(
                name,
                "must be a time such as 2026-03-01T00:00:00Z, a date, or seconds since 1970",
            )),
        }
    }

    /// Refuses what nobody took.
    pub fn end(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let shown: String = name.chars().take(50).collect();
                Err(Refusal::parameter(
                    &shown,
                    "is unknown here, or given twice",
                ))
            }
        }
    }
}

/// Decodes percent and plus signs; what is no UTF-8 then is replaced.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = digits.and_then(|digits| {
            let high = char::from(digits[0]).to_digit(16)?;
            let low = char::from(digits[1]).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        });
        match (byte, bytes[at]) {
            (Some(byte), _) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (None, b'+') => out.push(b' '),
            (None, other) => out.push(other),
        }
        at += 1;
    }
    // PostgreSQL takes no NUL.
    String::from_utf8_lossy(&out).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_what_is_broken_stays() {
        for (text, expected) in [
            ("a+b%20c", "a b c"),
            ("%C3%A9", "é"),
            ("%2", "%2"),
            ("%zz%", "%zz%"),
            ("%00", "\u{fffd}"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decoded(text), expected, "{text}");
        }
    }

    #[test]
    fn a_time_is_read_in_each_of_its_forms() {
        let berlin = TimeZone::get("Europe/Berlin").expect("a zone");
        for (text, expected) in [
            ("2026-03-01T10:00:00%2B01:00", "2026-03-01T09:00:00Z"),
            ("2026-03-01", "2026-02-28T23:00:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
        ] {
            let mut parameters = Parameters::read(&format!("at={text}"));
            let time = parameters
                .time("at", &berlin)
                .expect("a time")
                .expect("there");
            assert_eq!(time.to_string(), expected, "{text}");
        }
        for text in ["", "x", "-1", "99999999999999", "2026-13-01"] {
            let mut parameters = Parameters::read(&format!("at={text}"));
            assert!(parameters.time("at", &berlin).is_err(), "{text}");
        }
    }
}
