//! Streams of one value on each line (NDJSON): finds whole lines in chunks that are cut anywhere.
//!
//! <https://github.com/ndjson/ndjson-spec>. A line ends in LF or CR LF; blank lines say nothing and are skipped.

use std::fmt;

use bytes::Bytes;

/// A line is longer than was allowed; nothing is read after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of the stream is too long")
    }
}

impl std::error::Error for TooLong {}

/// Cuts a stream into lines. Lines that lie whole in a chunk are not copied.
#[derive(Debug)]
pub struct Splitter {
    max_line: usize,
    pending: Vec<u8>,
    failed: bool,
}

impl Splitter {
    /// `max_line` counts all bytes of a line, with its end.
    pub fn new(max_line: usize) -> Self {
        Self {
            max_line,
            pending: Vec::new(),
            failed: false,
        }
    }

    /// Takes a piece of the stream, and calls `each` for every line that it completes, without the line's end.
    pub fn push(&mut self, chunk: &Bytes, mut each: impl FnMut(&[u8])) -> Result<(), TooLong> {
        self.push_whole(chunk, |_, line| each(line))
    }

    /// Like [`Splitter::push`], with the line as it came before it.
    pub fn push_whole(
        &mut self,
        chunk: &Bytes,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), TooLong> {
        if self.failed {
            return Err(TooLong);
        }
        let mut rest: &[u8] = chunk;
        while let Some(length) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(length + 1);
            rest = after;
            self.check(line.len())?;
            if self.pending.is_empty() {
                tell(line, &mut each);
            } else {
                self.pending.extend_from_slice(line);
                tell(&self.pending, &mut each);
                self.pending.clear();
            }
        }
        self.check(rest.len())?;
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    /// Returns how many bytes of an unfinished line are held.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The stream is at its end: what is held is a last line, though its end is missing.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        tell(&self.pending, &mut |_, line| each(line));
        self.pending.clear();
    }

    fn check(&mut self, more: usize) -> Result<(), TooLong> {
        if self.pending.len() + more > self.max_line {
            self.failed = true;
            self.pending = Vec::new();
            return Err(TooLong);
        }
        Ok(())
    }
}

fn tell(raw: &[u8], each: &mut impl FnMut(&[u8], &[u8])) {
    let line = raw.strip_suffix(b"\n").unwrap_or(raw);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if !line.trim_ascii().is_empty() {
        each(raw, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]], most: usize) -> Result<Vec<String>, TooLong> {
        let mut splitter = Splitter::new(most);
        let mut found = Vec::new();
        for piece in pieces {
            splitter.push(&Bytes::copy_from_slice(piece), |line| {
                found.push(String::from_utf8_lossy(line).into_owned());
            })?;
        }
        splitter.finish(|line| found.push(String::from_utf8_lossy(line).into_owned()));
        assert_eq!(splitter.pending(), 0);
        Ok(found)
    }

    #[test]
    fn lines_cut_anywhere_are_the_same() {
        let stream = b"{\"a\":1}\n\r\n  \n{\"b\":\"\xc3\xbc\"}\r\n{\"c\":3}";
        let whole = ["{\"a\":1}", "{\"b\":\"\u{fc}\"}", "{\"c\":3}"];
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(lines(&[head, tail], 64).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_ends_the_reading() {
        assert_eq!(lines(&[b"1234567\n"], 8).unwrap(), ["1234567"]);
        assert_eq!(lines(&[b"12345678\n"], 8), Err(TooLong));
        assert_eq!(lines(&[b"12345", b"6789"], 8), Err(TooLong));
        let mut splitter = Splitter::new(2);
        let long = Bytes::from_static(b"123");
        assert_eq!(splitter.push(&long, |_| {}), Err(TooLong));
        assert_eq!(splitter.pending(), 0, "nothing is held any more");
        let short = Bytes::from_static(b"1\n");
        assert_eq!(splitter.push(&short, |_| {}), Err(TooLong));
    }
}
