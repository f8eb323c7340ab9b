//! The weight of a text: as OpenAI's tokenizer `o200k` cuts it (with the feature `exact-tokens`), or by classes of
//! characters, which is a thousand times less to carry along.

/// A token, in the thousandths that weights are counted in.
pub const TOKEN: u64 = 1000;

/// Returns the weight of a text by the tokenizer, where the program has it.
#[cfg(feature = "exact-tokens")]
pub fn cut(text: &str) -> u64 {
    let count = bpe_openai::o200k_base().count(text) as u64;
    count.saturating_mul(TOKEN)
}

#[cfg(not(feature = "exact-tokens"))]
pub fn cut(text: &str) -> u64 {
    self::text(text)
}

/// Returns the weight of a text by its characters.
pub fn text(text: &str) -> u64 {
    let mut scale = Scale::default();
    for char in text.chars() {
        scale.put(char);
    }
    scale.sum()
}

/// What runs on: tokenizers cut first where the class of characters changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Class {
    #[default]
    Start,
    Word,
    /// Letters of alphabets that tokenizers know less of: Cyrillic, Greek, Arabic, …
    Foreign,
    Digits,
    Space,
    Line,
    Marks,
    /// Each for itself: Chinese, Japanese, Korean; emoji.
    Alone,
}

#[derive(Debug, Default)]
struct Scale {
    sum: u64,
    class: Class,
    run: u64,
    last: char,
}

impl Scale {
    fn put(&mut self, char: char) {
        let class = Class::of(char);
        // `camelCase` is cut before its capital.
        let hump = class == Class::Word
            && char.is_ascii_uppercase()
            && self.class == Class::Word
            && self.last.is_ascii_lowercase();
        if class != self.class || hump {
            self.close(class);
            self.class = class;
            self.run = 0;
        }
        match class {
            Class::Alone => self.sum += alone(char),
            Class::Foreign => self.sum += foreign(char),
            // An accent costs something on top of its word.
            Class::Word if !char.is_ascii() => {
                self.sum += match char {
                    // Of the east of Europe.
                    '\u{100}'..='\u{24f}' => 1000,
                    _ => 350,
                };
            }
            Class::Marks if char == self.last && self.run > 0 => {
                // Rules of dashes and the like make long tokens.
                self.last = char;
                return;
            }
            Class::Start
            | Class::Word
            | Class::Digits
            | Class::Space
            | Class::Line
            | Class::Marks => {}
        }
        self.run += 1;
        self.last = char;
    }

    /// Weighs the run that ends where one of `next` begins.
    fn close(&mut self, next: Class) {
        let run = self.run;
        self.sum += match self.class {
            Class::Start | Class::Foreign | Class::Alone => 0,
            Class::Word => match run {
                0..=6 => 1030,
                7.. => 1030 + (run - 6) * 110,
            },
            Class::Digits => run.div_ceil(3) * TOKEN,
            // One space goes with the word or mark after it.
            Class::Space => match (run, next) {
                (1, Class::Word | Class::Foreign | Class::Marks | Class::Alone) => 0,
                (_, _) => TOKEN,
            },
            Class::Line => TOKEN,
            Class::Marks => match run {
                0..=3 => 800,
                4.. => 800 + (run - 3) * 420,
            },
        };
    }

    fn sum(mut self) -> u64 {
        self.close(Class::Start);
        self.sum
    }
}

impl Class {
    fn of(char: char) -> Self {
        match char {
            'a'..='z' | 'A'..='Z' => Class::Word,
            '0'..='9' => Class::Digits,
            ' ' | '\t' => Class::Space,
            '\n' | '\r' => Class::Line,
            '\0'..='\u{7f}' => Class::Marks,
            '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => Class::Word,
            '\u{80}'..='\u{bf}' | '\u{2000}'..='\u{206f}' => Class::Marks,
            '\u{370}'..='\u{10ff}' | '\u{1200}'..='\u{1cff}' => Class::Foreign,
            _ => Class::Alone,
        }
    }
}

fn foreign(char: char) -> u64 {
    match char {
        // Cyrillic.
        '\u{400}'..='\u{52f}' => 245,
        // Greek; Hebrew, Arabic.
        '\u{370}'..='\u{3ff}' | '\u{590}'..='\u{8ff}' => 350,
        // Thai, Lao, and what tokenizers know little of.
        '\u{e00}'..='\u{1cff}' => 400,
        // India's.
        _ => 345,
    }
}

fn alone(char: char) -> u64 {
    match char {
        // Kana.
        '\u{3040}'..='\u{30ff}' => 720,
        // Hangul.
        '\u{ac00}'..='\u{d7a3}' => 770,
        // Han, and its marks.
        '\u{3000}'..='\u{9fff}' | '\u{ff00}'..='\u{ffef}' => 800,
        // Emoji and the rest.
        _ => 1900,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By OpenAI's cookbook, "How to count tokens with tiktoken", for `o200k_base`.
    const KNOWN: [(&str, u64); 3] = [
        ("antidisestablishmentarianism", 6),
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 8),
    ];

    #[test]
    fn a_text_is_cut_as_the_tokenizer_does_or_nearly() {
        let mut sums = (0, 0);
        for (text, tokens) in KNOWN {
            let cut = cut(text);
            if cfg!(feature = "exact-tokens") {
                assert_eq!(cut, tokens * TOKEN, "{text}");
            }
            sums = (sums.0 + cut, sums.1 + tokens * TOKEN);
        }
        assert!(sums.0.abs_diff(sums.1) < sums.1 / 2, "{sums:?}");
    }
}
