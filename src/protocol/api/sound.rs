//! How long speech is: some bill what they speak by the second, and no answer says how many there are.

use std::time::Duration;

use super::member;
use crate::codec::json;

/// What OpenAI's speech without a container is: 24,000 samples a second, 16 bits each, one channel.
const RAW_BYTES_A_SECOND: u64 = 48_000;
/// The head of a WAV.
const WAV_HEAD: u64 = 44;
/// Opus counts 48,000 samples a second, whatever went in.
const OPUS_RATE: u64 = 48_000;

/// Returns how long the sound of an answer is.
///
/// `tail` are its last bytes, `size` is that of all of it. `None` where the format tells it in its head alone, or the
/// sound is of another format than was asked for. MP3 and AAC are as dense before the tail as they are in it.
pub fn length(request_body: &[u8], tail: &[u8], size: u64) -> Option<Duration> {
    let format = member(request_body, "response_format")
        .and_then(|format| json::string(format, 0..format.len()));
    match format.as_deref().unwrap_or("mp3") {
        "pcm" => Some(of(size, RAW_BYTES_A_SECOND)),
        "wav" => Some(of(size.saturating_sub(WAV_HEAD), RAW_BYTES_A_SECOND)),
        "mp3" => frames(tail, size, mp3),
        "aac" => frames(tail, size, aac),
        "opus" => opus(tail),
        _ => None,
    }
}

fn of(count: u64, a_second: u64) -> Duration {
    let nanos = u128::from(count) * 1_000_000_000 / u128::from(a_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A piece of sound with a head of its own.
struct Frame {
    bytes: usize,
    samples: u64,
    rate: u64,
}

/// Reads the frames of the tail, and counts on the others to be like them.
fn frames(tail: &[u8], size: u64, read: fn(&[u8]) -> Option<Frame>) -> Option<Duration> {
    // A head that isn't one is hardly followed by another in the right place.
    let start = (0..tail.len()).find(|at| {
        let first = read(&tail[*at..]);
        let next = first.and_then(|frame| tail.get(at + frame.bytes..));
        next.is_some_and(|rest| rest.is_empty() || read(rest).is_some())
    })?;
    let (mut at, mut samples, mut rate) = (start, 0u64, 0);
    while let Some(frame) = tail.get(at..).and_then(read) {
        at += frame.bytes;
        samples += frame.samples;
        rate = frame.rate;
    }
    let bytes = (at - start) as u64;
    let all = u128::from(samples) * u128::from(size) / u128::from(bytes.max(1));
    Some(of(u64::try_from(all).ok()?, rate))
}

/// Reads the head of a frame of MPEG audio, layer III.
fn mp3(bytes: &[u8]) -> Option<Frame> {
    const DENSE: [u64; 15] = [
        0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ];
    const THIN: [u64; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let [0xff, second, third, ..] = *bytes else {
        return None;
    };
    if second & 0b1110_0110 != 0b1110_0010 {
        return None;
    }
    let version = second >> 3 & 0b11;
    let (kilobits, slower) = match version {
        0b11 => (DENSE, 1),
        0b10 => (THIN, 2),
        0b00 => (THIN, 4),
        _ => return None,
    };
    let kilobits = *kilobits
        .get(usize::from(third >> 4))
        .filter(|rate| **rate > 0)?;
    let rate = [44_100, 48_000, 32_000].get(usize::from(third >> 2 & 0b11))? / slower;
    let samples = if version == 0b11 { 1152 } else { 576 };
    let bytes = samples / 8 * kilobits * 1000 / rate + u64::from(third >> 1 & 1);
    Some(Frame {
        bytes: usize::try_from(bytes).ok()?,
        samples,
        rate,
    })
}

/// Reads the head of a frame of AAC (ADTS).
fn aac(bytes: &[u8]) -> Option<Frame> {
    const RATES: [u64; 13] = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
        8_000, 7_350,
    ];
    let [0xff, second, third, fourth, fifth, sixth, seventh, ..] = *bytes else {
        return None;
    };
    if second & 0b1111_0110 != 0b1111_0000 {
        return None;
    }
    let long = usize::from(fourth & 0b11) << 11 | usize::from(fifth) << 3 | usize::from(sixth >> 5);
    Some(Frame {
        bytes: Some(long).filter(|long| *long > 7)?,
        samples: 1024 * (u64::from(seventh & 0b11) + 1),
        rate: *RATES.get(usize::from(third >> 2 & 0b1111))?,
    })
}

/// Reads where the last page of an Ogg stream ends.
fn opus(tail: &[u8]) -> Option<Duration> {
    let at = memchr::memmem::rfind(tail, b"OggS")?;
    let place = tail.get(at + 6..at + 14)?;
    let samples = u64::from_le_bytes(place.try_into().ok()?);
    // All ones: no packet ends on this page.
    (samples != u64::MAX).then(|| of(samples, OPUS_RATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(format: &str) -> Vec<u8> {
        format!(r#"{{"model":"m","input":"q","response_format":"{format}"}}"#).into_bytes()
    }

    fn millis(format: &str, tail: &[u8], size: usize) -> Option<u128> {
        Some(length(&asked(format), tail, size as u64)?.as_millis())
    }

    #[test]
    fn raw_sound_is_as_long_as_its_bytes_say() {
        assert_eq!(millis("pcm", b"", 72_000), Some(1500));
        assert_eq!(millis("wav", b"", 72_044), Some(1500));
        assert_eq!(millis("wav", b"", 3), Some(0));
    }

    #[test]
    fn frames_are_counted_by_those_of_the_tail() {
        // MPEG 2, layer III, 64 kbit/s, 24 kHz: 192 bytes, 24 ms each.
        let mut frame = vec![0xff, 0xf3, 0x84, 0xc4];
        frame.resize(192, 0);
        let tail = [&[1, 2, 0xff, 3][..], &frame.repeat(5)].concat();
        assert_eq!(millis("mp3", &tail, 192 * 1000), Some(24_000));
        let unsaid = br#"{"model":"m","input":"q"}"#;
        let unsaid = length(unsaid, &tail, 192 * 10);
        assert_eq!(unsaid, Some(Duration::from_millis(240)), "mp3 by default");
        // ADTS, 24 kHz, 100 bytes, 1024 samples each.
        let mut frame = vec![0xff, 0xf1, 6 << 2, 0, 100 >> 3, (100 & 7) << 5, 0];
        frame.resize(100, 0);
        assert_eq!(millis("aac", &frame.repeat(4), 100 * 375), Some(16_000));
        assert_eq!(millis("mp3", b"<html>\xff\xfb no sound", 1000), None);
        assert_eq!(millis("flac", b"fLaC", 1000), None);
    }

    #[test]
    fn an_opus_stream_ends_where_its_last_page_says() {
        let page = |place: u64| {
            let mut page = b"OggS\0\0".to_vec();
            page.extend_from_slice(&place.to_le_bytes());
            page.resize(40, 0);
            page
        };
        let tail = [page(48_000), page(120_000)].concat();
        assert_eq!(millis("opus", &tail, 9), Some(2500));
        assert_eq!(millis("opus", b"OggS", 9), None);
    }
}
