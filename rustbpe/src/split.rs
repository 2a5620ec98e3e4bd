//! Cuts text into pre-tokens exactly as the regular expression of a [`Pattern`] does, without a regex engine.
//!
//! Merges never cross a pre-token. The text may be any bytes: one that is no part of valid UTF-8 counts as a character
//! of its own that is neither letter, number nor white space.

use crate::error::Error;

include!(concat!(env!("OUT_DIR"), "/classes.rs"));

// The numbers that build.rs writes.
const OTHER: u8 = 0;
const LETTER: u8 = 1;
const NUMBER: u8 = 2;
const SPACE: u8 = 3;
const NEWLINE: u8 = 4;

/// U+017F, the one character beyond ASCII that `(?i:[sdmt]|ll|ve|re)` matches.
const LONG_S: [u8; 2] = [0xC5, 0xBF];

/// A pre-token pattern that this module implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    Gpt4,
}

impl Pattern {
    pub const NAMES: [(&'static str, Self); 1] = [("gpt4", Self::Gpt4)];

    /// The pattern called `name`.
    pub fn named(name: &str) -> Result<Self, Error> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, pattern)| *pattern)
            .ok_or_else(|| Error::UnknownPattern { name: name.to_owned() })
    }

    /// The regular expression, in the syntax that tiktoken takes.
    pub const fn regex(self) -> &'static str {
        match self {
            Self::Gpt4 => concat!(
                r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*",
                r"|\s*[\r\n]|\s+(?!\S)|\s+"
            ),
        }
    }

    /// The pre-tokens of `text`, in order and without gaps.
    pub fn split(self, text: &[u8]) -> Pretokens<'_> {
        match self {
            Self::Gpt4 => Pretokens { text, start: 0 },
        }
    }

    /// Calls `take` with the start and end of each pre-token of `text`, in order and without gaps.
    #[inline]
    pub fn each(self, text: &[u8], mut take: impl FnMut(usize, usize)) {
        let mut start = 0;
        for pretoken in self.split(text) {
            take(start, start + pretoken.len());
            start += pretoken.len();
        }
    }
}

pub struct Pretokens<'a> {
    text: &'a [u8],
    start: usize,
}

impl<'a> Iterator for Pretokens<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.start >= self.text.len() {
            return None;
        }
        let end = gpt4_end(self.text, self.start);
        let pretoken = &self.text[self.start..end];
        self.start = end;
        Some(pretoken)
    }
}

/// The end of the pre-token at `start < text.len()`. The branches stand in the order of the pattern's alternatives.
#[inline]
fn gpt4_end(text: &[u8], start: usize) -> usize {
    if text[start] == b'\''
        && let Some(length) = contraction(&text[start + 1..])
    {
        return start + 1 + length;
    }
    let (class, after) = class_at(text, start);
    if class == LETTER {
        return run_end(text, after, |class| class == LETTER);
    }
    if class == NUMBER {
        let (next, after_next) = class_or_end(text, after);
        return if next == Some(NUMBER) { after_next } else { after };
    }
    let (next, after_next) = class_or_end(text, after);
    if next == Some(LETTER) && class != NEWLINE {
        return run_end(text, after_next, |class| class == LETTER);
    }
    if class == OTHER {
        return symbols_end(text, after);
    }
    if text[start] == b' ' && next == Some(OTHER) {
        return symbols_end(text, after_next);
    }
    spaces_end(text, start)
}

/// The length of what `(?i:[sdmt]|ll|ve|re)` matches at the start of `rest`.
fn contraction(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(&LONG_S) {
        return Some(2);
    }
    match rest.first()?.to_ascii_lowercase() {
        b's' | b'd' | b'm' | b't' => Some(1),
        first => match (first, rest.get(1)?.to_ascii_lowercase()) {
            (b'l', b'l') | (b'v' | b'r', b'e') => Some(2),
            _ => None,
        },
    }
}

/// `[^\s\p{L}\p{N}]++[\r\n]*` of which one character, before `at`, is matched.
fn symbols_end(text: &[u8], at: usize) -> usize {
    let end = run_end(text, at, |class| class == OTHER);
    run_end(text, end, |class| class == NEWLINE)
}

/// `\s*[\r\n]|\s+(?!\S)|\s+` at `start`, which is white space: up to the last newline of the run; else all of it at the
/// end of the text; else all but the last character, which then begins the next pre-token.
fn spaces_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut last, mut newline_end) = (start, start, None);
    while let (Some(class @ (SPACE | NEWLINE)), after) = class_or_end(text, at) {
        (last, at) = (at, after);
        if class == NEWLINE {
            newline_end = Some(after);
        }
    }
    match newline_end {
        Some(end) => end,
        None if at < text.len() && last > start => last,
        None => at,
    }
}

/// The first position at or after `at` whose character is not `within`.
#[inline]
fn run_end(text: &[u8], mut at: usize, within: impl Fn(u8) -> bool) -> usize {
    while let (Some(class), after) = class_or_end(text, at) {
        if !within(class) {
            break;
        }
        at = after;
    }
    at
}

#[inline]
fn class_or_end(text: &[u8], at: usize) -> (Option<u8>, usize) {
    if at >= text.len() {
        return (None, at);
    }
    let (class, after) = class_at(text, at);
    (Some(class), after)
}

/// The class of the character at `at < text.len()`, and where the next one begins.
#[inline]
fn class_at(text: &[u8], at: usize) -> (u8, usize) {
    let byte = text[at];
    if byte < 0x80 {
        return (PAGES[PAGE_OF[0] as usize][byte as usize], at + 1);
    }
    match decode(&text[at..]) {
        Some((code_point, length)) => (PAGES[PAGE_OF[code_point >> 8] as usize][code_point & 0xFF], at + length),
        None => (OTHER, at + 1),
    }
}

/// The code point and length of the valid UTF-8 sequence of two to four bytes that `bytes` begins with (Unicode
/// standard, table 3-7).
fn decode(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.first()?;
    let (length, second) = match first {
        0xC2..=0xDF => (2, 0x80..=0xBF),
        0xE0 => (3, 0xA0..=0xBF),
        0xED => (3, 0x80..=0x9F),
        0xE1..=0xEF => (3, 0x80..=0xBF),
        0xF0 => (4, 0x90..=0xBF),
        0xF1..=0xF3 => (4, 0x80..=0xBF),
        0xF4 => (4, 0x80..=0x8F),
        _ => return None,
    };
    let tail = bytes.get(1..length)?;
    if !second.contains(&tail[0]) || tail[1..].iter().any(|byte| byte & 0xC0 != 0x80) {
        return None;
    }
    let lead = usize::from(first) & (0x7F >> length);
    Some((tail.iter().fold(lead, |code, byte| code << 6 | usize::from(byte & 0x3F)), length))
}
