//! JSON written straight into a buffer: the few shapes that a record needs.

use std::time::Duration;

use jiff::Timestamp;

use crate::protocol::text::escaped;

/// Pico-dollars in a dollar.
const PICO: u64 = 1_000_000_000_000;

/// An object being written; [`Object::close`] ends it.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    pub fn close(self) {
        self.out.push(b'}');
    }

    /// Writes the comma and the name. Names are ours and need no escapes.
    fn name(&mut self, name: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        write_text(self.out, value);
    }

    /// Writes the field unless it is empty.
    pub fn text_if(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.text(name, value);
        }
    }

    pub fn texts_if(&mut self, name: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        self.name(name);
        self.out.push(b'[');
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            write_text(self.out, value);
        }
        self.out.push(b']');
    }

    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        write_number(self.out, value);
    }

    /// Writes the field unless it is zero.
    pub fn number_if(&mut self, name: &str, value: u64) {
        if value != 0 {
            self.number(name, value);
        }
    }

    /// Writes a number with up to six decimals; what is no number is `null`.
    pub fn decimal(&mut self, name: &str, value: f64) {
        self.name(name);
        let rounded = (value * 1e6).round() / 1e6;
        let text = if rounded.is_finite() {
            rounded.to_string()
        } else {
            "null".to_owned()
        };
        self.out.extend_from_slice(text.as_bytes());
    }

    pub fn truth(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub fn micros(&mut self, name: &str, value: Duration) {
        self.number(name, u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
    }

    /// Writes pico-dollars as an exact decimal string of dollars, without needless zeros.
    pub fn usd(&mut self, name: &str, pico: u64) {
        self.name(name);
        self.out.push(b'"');
        write_number(self.out, pico / PICO);
        let mut part = pico % PICO;
        if part != 0 {
            let mut digits = [b'0'; 12];
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (part % 10) as u8;
                part /= 10;
            }
            let used = 12
                - digits
                    .iter()
                    .rev()
                    .take_while(|digit| **digit == b'0')
                    .count();
            self.out.push(b'.');
            self.out.extend_from_slice(&digits[..used]);
        }
        self.out.push(b'"');
    }

    /// Writes RFC 3339 in UTC with microseconds.
    pub fn time(&mut self, name: &str, at: Timestamp) {
        self.name(name);
        write_time(self.out, at.as_microsecond());
    }

    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut inner = Object::open(self.out);
        fill(&mut inner);
        inner.close();
    }

    pub fn objects<T>(&mut self, name: &str, items: &[T], fill: impl Fn(&T, &mut Object<'_>)) {
        self.name(name);
        self.out.push(b'[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            let mut inner = Object::open(self.out);
            fill(item, &mut inner);
            inner.close();
        }
        self.out.push(b']');
    }
}

fn write_text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    escaped(value, out);
    out.push(b'"');
}

fn write_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_padded(out: &mut Vec<u8>, value: i64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

fn write_time(out: &mut Vec<u8>, unix_us: i64) {
    let seconds = unix_us.div_euclid(1_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    out.push(b'"');
    if year < 0 {
        out.push(b'-');
    }
    for (value, width, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (of_day / 3600, 2, b':'),
        (of_day / 60 % 60, 2, b':'),
        (of_day % 60, 2, b'.'),
        (unix_us.rem_euclid(1_000_000), 6, b'Z'),
    ] {
        write_padded(out, value, width);
        out.push(after);
    }
    out.push(b'"');
}

/// Returns the date of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms"): years begin in March, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {

    use super::*;

    fn time(unix_us: i64) -> String {
        let mut out = Vec::new();
        write_time(&mut out, unix_us);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        let end = Timestamp::MAX.as_microsecond() / 1_000_000;
        let begin = Timestamp::new(-62_135_596_800, 0).unwrap().as_second();
        // A step that is no multiple of a day: all months, leap years and hours are met.
        for second in (begin..end).step_by(9_999_991) {
            let unix_us = second * 1_000_000 + 123_456;
            let expected = Timestamp::from_microsecond(unix_us).unwrap().to_string();
            assert_eq!(time(unix_us), format!("\"{expected}\""));
        }
        assert_eq!(time(0), "\"1970-01-01T00:00:00.000000Z\"");
        assert_eq!(time(951_782_400_000_001), "\"2000-02-29T00:00:00.000001Z\"");
    }

    #[test]
    fn any_text_reads_back_as_itself() {
        for code in (0..0x300).chain([0x2028, 0xfffd, 0x1f600]) {
            let text: String = ["a", &char::from_u32(code).unwrap().to_string(), "\"\\"].concat();
            let mut out = Vec::new();
            write_text(&mut out, &text);
            assert!(
                out.iter().all(|byte| *byte >= 0x20),
                "a line must stay one line"
            );
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn dollars_are_exact() {
        for (pico, expected) in [
            (0, "0"),
            (1, "0.000000000001"),
            (PICO, "1"),
            (PICO / 2, "0.5"),
            (1_234_500_000_000, "1.2345"),
            (u64::MAX, "18446744.073709551615"),
        ] {
            let mut out = Vec::new();
            let mut object = Object::open(&mut out);
            object.usd("c", pico);
            object.close();
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("{{\"c\":\"{expected}\"}}")
            );
        }
    }
}
