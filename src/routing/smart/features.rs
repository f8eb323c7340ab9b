//! What is measured of a prompt: a few dozen numbers, and the hashes of its words and pairs of words.
//!
//! One pass over the text, which is bounded: of a long one the beginning and the end are read. Nothing is allocated.
//! The names below are part of the model's format: a model made with other features is refused.

use super::prompt::Prompt;
use super::words::{self, HINTS, Hint};

/// Words and pairs fall into 2^16 buckets.
pub const BUCKETS: usize = 1 << 16;

/// How many numbers there are.
pub const NUMBERS: usize = STRUCTURE.len() + HINTS;

/// Names of the numbers that are not counts of hints, in their order.
const STRUCTURE: [&str; 40] = [
    "bytes",
    "words",
    "bytes a word",
    "long words",
    "numbers",
    "numbers, log",
    "numbers a word",
    "sentences",
    "words a sentence",
    "different words",
    "lines",
    "options",
    "option length, mean",
    "option length, most",
    "options that are numbers",
    "question length",
    "question marks",
    "dollars",
    "percents",
    "commas",
    "parentheses",
    "bars",
    "operators",
    "quotes",
    "capitals",
    "decimals",
    "largest number",
    "fractions",
    "small numbers",
    "blanks",
    "code marks",
    "list items",
    "other scripts",
    "option length, spread",
    "context",
    "turns",
    "tools",
    "media",
    "structured",
    "reasoning",
];

/// Names of the counts of hints.
const HINTED: [&str; HINTS] = [
    "negation",
    "condition",
    "ratio",
    "each",
    "total",
    "comparison",
    "time",
    "order",
    "quantity",
    "which",
    "what",
    "why",
    "how",
    "person",
    "claim",
    "proof",
    "writing",
    "constraint",
    "code",
    "quantifier",
    "moral",
    "law",
    "fill in",
];

/// Of a longer text, this much of its beginning is read …
const HEAD: usize = 8 << 10;
/// … and this much of its end, where the question often stands.
const TAIL: usize = 4 << 10;
/// More options than letters are a list of something else.
const MOST_OPTIONS: usize = 10;

/// Returns the name of number `index`.
pub fn name(index: usize) -> &'static str {
    STRUCTURE
        .get(index)
        .or_else(|| HINTED.get(index.wrapping_sub(STRUCTURE.len())))
        .copied()
        .unwrap_or("?")
}

/// Returns the prompt's numbers, and calls `bucket` once for each bucket that its words and pairs fall into.
pub fn measure(prompt: &Prompt<'_>, bucket: impl FnMut(u32)) -> [f32; NUMBERS] {
    let (head, tail) = ends(&prompt.text);
    let mut reader = Reader::new(bucket);
    reader.read(head);
    reader.read(tail);
    reader.numbers(prompt)
}

/// Returns whether the numbers are those of a question without options to choose from.
pub fn is_open(numbers: &[f32; NUMBERS]) -> bool {
    numbers[OPTIONS] == 0.0
}

const OPTIONS: usize = 11;

/// Splits a text into the beginning and the end that are read: whole, where it is short.
fn ends(text: &str) -> (&str, &str) {
    if text.len() <= HEAD + TAIL {
        return (text, "");
    }
    (
        &text[..text.floor_char_boundary(HEAD)],
        &text[text.ceil_char_boundary(text.len() - TAIL)..],
    )
}

/// One bit for each bucket.
type Seen = [u64; BUCKETS / 64];

struct Reader<F> {
    bucket: F,
    seen: Seen,
    /// Hash of the word before, for pairs; 0 at the beginning.
    before: u32,
    hints: [u32; HINTS],
    words: u32,
    letters: u32,
    long_words: u32,
    different: u32,
    numerals: u32,
    small: u32,
    decimals: u32,
    largest: f32,
    fractions: u32,
    sentences: u32,
    lines: u32,
    capitals: u32,
    bytes: u32,
    other: u32,
    list_items: u32,
    code_marks: u32,
    blanks: u32,
    marks: Marks,
    options: [u32; MOST_OPTIONS],
    option_count: usize,
    numeric_options: u32,
    /// Bytes before the first option.
    question: u32,
}

#[derive(Default)]
struct Marks {
    questions: u32,
    dollars: u32,
    percents: u32,
    commas: u32,
    parentheses: u32,
    bars: u32,
    operators: u32,
    quotes: u32,
}

impl<F: FnMut(u32)> Reader<F> {
    fn new(bucket: F) -> Self {
        Self {
            bucket,
            seen: [0; BUCKETS / 64],
            before: 0,
            hints: [0; HINTS],
            words: 0,
            letters: 0,
            long_words: 0,
            different: 0,
            numerals: 0,
            small: 0,
            decimals: 0,
            largest: 0.0,
            fractions: 0,
            sentences: 0,
            lines: 0,
            capitals: 0,
            bytes: 0,
            other: 0,
            list_items: 0,
            code_marks: 0,
            blanks: 0,
            marks: Marks::default(),
            options: [0; MOST_OPTIONS],
            option_count: 0,
            numeric_options: 0,
            question: 0,
        }
    }

    fn read(&mut self, text: &str) {
        for line in text.split('\n') {
            if !text.is_empty() {
                self.line(line.as_bytes());
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        self.bytes += line.len() as u32 + 1;
        match line {
            [b'A'..=b'J', b'.' | b')', b' ', rest @ ..] if self.option_count < MOST_OPTIONS => {
                self.options[self.option_count] = rest.len() as u32;
                self.option_count += 1;
                let numeric = rest
                    .first()
                    .is_some_and(|first| first.is_ascii_digit() || b"$-.+".contains(first));
                self.numeric_options += u32::from(numeric);
            }
            [b'-' | b'*', b' ', ..] | [b'0'..=b'9', b'.' | b')', b' ', ..] => self.list_items += 1,
            [b'`', b'`', b'`', ..] => self.code_marks += 5,
            _ => {}
        }
        if self.option_count == 0 {
            self.question = self.bytes;
        }
        let mut at = 0;
        while let Some(&byte) = line.get(at) {
            at = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | 0x80..=0xdf => self.word(line, at),
                b'0'..=b'9' => self.numeral(line, at),
                0xe0.. => self.sign(line, at),
                _ => self.mark(line, at, byte),
            };
        }
    }

    /// Reads a word of letters; returns where it ends.
    fn word(&mut self, line: &[u8], start: usize) -> usize {
        let mut lower = [0u8; words::LONGEST];
        let mut hash = SEED;
        let mut at = start;
        while let Some(&byte) = line.get(at) {
            let letter = match byte {
                b'a'..=b'z' | b'\'' => byte,
                b'A'..=b'Z' => byte | 0x20,
                0x80..=0xdf => {
                    self.other += 1;
                    byte
                }
                _ => break,
            };
            if let Some(place) = lower.get_mut(at - start) {
                *place = letter;
            }
            hash = step(hash, letter);
            at += 1;
        }
        let length = at - start;
        self.words += 1;
        self.letters += length as u32;
        self.long_words += u32::from(length > 9);
        self.capitals += u32::from(
            line[start].is_ascii_uppercase()
                && line.get(start + 1).is_some_and(u8::is_ascii_lowercase),
        );
        if let Some(hint) = lower.get(..length).and_then(words::hint) {
            self.hints[hint as usize] += 1;
        }
        self.token(hash);
        at
    }

    /// Reads a number; returns where it ends.
    fn numeral(&mut self, line: &[u8], start: usize) -> usize {
        let mut value = 0.0f32;
        let mut scale = 1.0f32;
        let mut hash = SEED;
        let mut decimal = false;
        let mut at = start;
        while let Some(&byte) = line.get(at) {
            match byte {
                b'0'..=b'9' if decimal => {
                    scale /= 10.0;
                    value += f32::from(byte - b'0') * scale;
                }
                b'0'..=b'9' => value = (value * 10.0 + f32::from(byte - b'0')).min(1e9),
                b',' | b'.' if line.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                    decimal |= byte == b'.';
                }
                _ => break,
            }
            hash = step(hash, byte);
            at += 1;
        }
        self.numerals += 1;
        self.small += u32::from(at - start == 1 && matches!(line[start], b'1' | b'2'));
        self.decimals += u32::from(decimal);
        self.largest = self.largest.max(value);
        self.fractions += u32::from(
            line.get(at) == Some(&b'/') && line.get(at + 1).is_some_and(u8::is_ascii_digit),
        );
        self.token(hash);
        at
    }

    /// Reads one character of a script that may have no spaces between words: it counts as a word.
    fn sign(&mut self, line: &[u8], start: usize) -> usize {
        let mut hash = SEED;
        let mut at = start;
        while let Some(&byte) = line.get(at)
            && (at == start || (0x80..0xc0).contains(&byte))
        {
            hash = step(hash, byte);
            at += 1;
        }
        self.words += 1;
        self.letters += 2;
        self.other += (at - start) as u32;
        self.token(hash);
        at
    }

    /// Counts punctuation; returns where the next token begins.
    fn mark(&mut self, line: &[u8], at: usize, byte: u8) -> usize {
        let next = line.get(at + 1);
        let ends = next.is_none_or(u8::is_ascii_whitespace);
        let marks = &mut self.marks;
        match byte {
            b'?' => {
                marks.questions += 1;
                self.sentences += u32::from(ends);
            }
            b'.' | b'!' => self.sentences += u32::from(ends),
            b'$' => marks.dollars += 1,
            b'%' => marks.percents += 1,
            b',' => marks.commas += 1,
            b'(' => marks.parentheses += 1,
            b'|' => marks.bars += 1,
            b'=' | b'+' | b'*' | b'/' | b'^' | b'<' | b'>' => marks.operators += 1,
            b'"' => marks.quotes += 1,
            b'{' | b'}' | b'`' | b'\\' => self.code_marks += 1,
            b';' => self.code_marks += u32::from(next.is_none()),
            b'_' => {
                let run = line[at..].iter().take_while(|&&byte| byte == b'_').count();
                if run > 2 {
                    self.blanks += 1;
                    self.hints[Hint::Blank as usize] += 1;
                }
                return at + run;
            }
            _ => {}
        }
        at + 1
    }

    fn token(&mut self, hash: u32) {
        if self.place(finish(hash)) {
            self.different += 1;
        }
        let pair = self.before.wrapping_mul(0x9e37_79b1) ^ hash.rotate_left(15) ^ 0x5bd1_e995;
        if self.before != 0 {
            self.place(finish(pair));
        }
        self.before = hash;
    }

    /// Reports a bucket the first time that something falls into it.
    fn place(&mut self, hash: u32) -> bool {
        let index = hash as usize % BUCKETS;
        let bit = 1u64 << (index % 64);
        let word = &mut self.seen[index / 64];
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        (self.bucket)(index as u32);
        true
    }

    fn numbers(&self, prompt: &Prompt<'_>) -> [f32; NUMBERS] {
        let words = (self.words.max(1)) as f32;
        let sentences = (self.sentences.max(1)) as f32;
        let options = &self.options[..self.option_count];
        let count = options.len().max(1) as f32;
        let mean = options.iter().sum::<u32>() as f32 / count;
        let most = options.iter().copied().max().unwrap_or(0) as f32;
        let least = options.iter().copied().min().unwrap_or(0) as f32;
        let marks = &self.marks;
        let structure: [f32; STRUCTURE.len()] = [
            log(prompt.text.len() as f32),
            log(words),
            self.bytes as f32 / (words + 1.0),
            self.long_words as f32 / words,
            self.numerals as f32,
            log(self.numerals as f32),
            self.numerals as f32 / words,
            sentences,
            words / sentences,
            self.different as f32 / (words + self.numerals as f32),
            log(self.lines as f32),
            options.len() as f32,
            mean,
            log(most),
            self.numeric_options as f32,
            log(self.question as f32),
            marks.questions as f32,
            marks.dollars as f32,
            marks.percents as f32,
            marks.commas as f32,
            marks.parentheses as f32,
            marks.bars as f32,
            marks.operators as f32,
            marks.quotes as f32,
            self.capitals as f32 / words,
            self.decimals as f32,
            log(self.largest),
            self.fractions as f32,
            self.small as f32,
            self.blanks as f32,
            log(self.code_marks as f32),
            self.list_items as f32,
            self.other as f32 / self.bytes.max(1) as f32,
            log(most - least),
            log(prompt.context as f32),
            log(prompt.turns as f32),
            log(prompt.tools as f32),
            log(prompt.media as f32),
            f32::from(u8::from(prompt.structured)),
            f32::from(u8::from(prompt.reasoning)),
        ];
        let mut all = [0.0; NUMBERS];
        let (first, second) = all.split_at_mut(STRUCTURE.len());
        first.copy_from_slice(&structure);
        for (place, hints) in second.iter_mut().zip(self.hints) {
            *place = hints as f32;
        }
        all
    }
}

fn log(value: f32) -> f32 {
    value.ln_1p()
}

/// FNV-1a.
const SEED: u32 = 0x811c_9dc5;

fn step(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

/// Spreads a hash over all its bits (the end of MurmurHash3).
fn finish(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}
