//! Cuts text into pre-tokens exactly as the regular expression of a [`Pattern`] does, without a regex engine.
//!
//! Merges never cross a pre-token. The text may be any bytes: one that is no part of valid UTF-8 counts as a character
//! of its own that is neither letter, number nor white space. What is here goes character by character and is the
//! reference; `blocks` finds the same ends many at a time.

use crate::blocks::{Batches, Block};
use crate::error::Error;

include!(concat!(env!("OUT_DIR"), "/classes.rs"));

// The numbers that build.rs writes.
pub(crate) const OTHER: u8 = 0;
pub(crate) const LETTER: u8 = 1;
pub(crate) const NUMBER: u8 = 2;
pub(crate) const SPACE: u8 = 3;
pub(crate) const NEWLINE: u8 = 4;

/// U+017F, the one character beyond ASCII that `(?i:[sdmt]|ll|ve|re)` matches.
const LONG_S: [u8; 2] = [0xC5, 0xBF];

/// A pre-token pattern that this module implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// GPT-4's, with numbers of at most two digits, as nanochat has it.
    Gpt4,
    /// GPT-4's own, with numbers of at most three digits.
    Cl100k,
    Gpt2,
}

impl Pattern {
    pub const NAMES: [(&'static str, Self); 3] = [("gpt4", Self::Gpt4), ("cl100k", Self::Cl100k), ("gpt2", Self::Gpt2)];

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
            Self::Cl100k => concat!(
                r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*",
                r"|\s*[\r\n]|\s+(?!\S)|\s+"
            ),
            Self::Gpt2 => r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        }
    }

    /// Calls `take` with the start and end of each pre-token of `text`, in order and without gaps.
    #[inline]
    pub fn each(self, text: &[u8], take: impl FnMut(usize, usize)) {
        match self {
            Self::Gpt4 => each::<Gpt4<2>>(text, take),
            Self::Cl100k => each::<Gpt4<3>>(text, take),
            Self::Gpt2 => each::<Gpt2>(text, take),
        }
    }

    /// The pre-tokens of `text`, in order and without gaps.
    pub fn split(self, text: &[u8]) -> Vec<&[u8]> {
        let mut pretokens = Vec::new();
        self.each(text, |start, end| pretokens.push(&text[start..end]));
        pretokens
    }
}

#[inline]
fn each<R: Rules>(text: &[u8], mut take: impl FnMut(usize, usize)) {
    let mut batches = Batches::<R>::of(text);
    while let Some((mut start, ends)) = batches.next_batch() {
        for &end in ends {
            take(start, end);
            start = end;
        }
    }
}

/// What `blocks` needs to know of a pattern.
pub(crate) trait Rules {
    /// The end of the pre-token at `start < text.len()`.
    fn end(text: &[u8], start: usize) -> usize;
    /// The length of the contraction that begins with the apostrophe before `rest`, without that apostrophe.
    fn contraction(rest: &[u8]) -> Option<usize>;
    /// The pre-tokens that begin in a block of which the first begins at bit 0.
    fn starts(block: &Block) -> u64;
}

pub(crate) struct Gpt4<const DIGITS: usize>;

impl<const DIGITS: usize> Rules for Gpt4<DIGITS> {
    /// The branches stand in the order of the pattern's alternatives.
    #[inline]
    fn end(text: &[u8], start: usize) -> usize {
        if text[start] == b'\''
            && let Some(length) = Self::contraction(&text[start + 1..])
        {
            return start + 1 + length;
        }
        let (class, after) = class_at(text, start);
        if class == LETTER {
            return run_end(text, after, LETTER);
        }
        if class == NUMBER {
            let mut end = after;
            for _ in 1..DIGITS {
                match class_or_end(text, end) {
                    (Some(NUMBER), after_next) => end = after_next,
                    _ => break,
                }
            }
            return end;
        }
        let (next, after_next) = class_or_end(text, after);
        if next == Some(LETTER) && class != NEWLINE {
            return run_end(text, after_next, LETTER);
        }
        if class == OTHER {
            return symbols_end(text, after);
        }
        if text[start] == b' ' && next == Some(OTHER) {
            return symbols_end(text, after_next);
        }
        spaces_end(text, start)
    }

    fn contraction(rest: &[u8]) -> Option<usize> {
        if rest.starts_with(&LONG_S) {
            return Some(2);
        }
        lower_contraction(rest.first()?.to_ascii_lowercase(), rest.get(1).map(u8::to_ascii_lowercase))
    }

    #[inline(always)]
    fn starts(block: &Block) -> u64 {
        block.gpt4_starts::<DIGITS>()
    }
}

pub(crate) struct Gpt2;

impl Rules for Gpt2 {
    #[inline]
    fn end(text: &[u8], start: usize) -> usize {
        if text[start] == b'\''
            && let Some(length) = Self::contraction(&text[start + 1..])
        {
            return start + 1 + length;
        }
        let (mut class, mut after) = class_at(text, start);
        if text[start] == b' '
            && let (Some(next @ (LETTER | NUMBER | OTHER)), after_next) = class_or_end(text, after)
        {
            (class, after) = (next, after_next);
        }
        match class {
            LETTER | NUMBER | OTHER => run_end(text, after, class),
            _ => {
                let (end, last) = white_run(text, start);
                if end < text.len() && last > start { last } else { end }
            }
        }
    }

    fn contraction(rest: &[u8]) -> Option<usize> {
        lower_contraction(*rest.first()?, rest.get(1).copied())
    }

    #[inline(always)]
    fn starts(block: &Block) -> u64 {
        block.gpt2_starts()
    }
}

/// The length of what `[sdmt]|ll|ve|re` matches.
fn lower_contraction(first: u8, second: Option<u8>) -> Option<usize> {
    match (first, second) {
        (b's' | b'd' | b'm' | b't', _) => Some(1),
        (b'l', Some(b'l')) | (b'v' | b'r', Some(b'e')) => Some(2),
        _ => None,
    }
}

/// `[^\s\p{L}\p{N}]++[\r\n]*` of which one character, before `at`, is matched.
fn symbols_end(text: &[u8], at: usize) -> usize {
    let end = run_end(text, at, OTHER);
    run_end(text, end, NEWLINE)
}

/// `\s*[\r\n]|\s+(?!\S)|\s+` at `start`, which is white space: up to the last newline of the run; else all of it at the
/// end of the text; else all but the last character, which then begins the next pre-token.
fn spaces_end(text: &[u8], start: usize) -> usize {
    let (end, last) = white_run(text, start);
    match text[start..end].iter().rposition(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(newline) => start + newline + 1,
        None if end < text.len() && last > start => last,
        None => end,
    }
}

/// The end of the run of white space at `start`, and where its last character begins.
fn white_run(text: &[u8], start: usize) -> (usize, usize) {
    let (mut at, mut last) = (start, start);
    while let (Some(SPACE | NEWLINE), after) = class_or_end(text, at) {
        (last, at) = (at, after);
    }
    (at, last)
}

/// The first position at or after `at` whose character is not of `class`.
#[inline]
fn run_end(text: &[u8], mut at: usize, class: u8) -> usize {
    while let (Some(found), after) = class_or_end(text, at)
        && found == class
    {
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
pub(crate) fn class_at(text: &[u8], at: usize) -> (u8, usize) {
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
#[inline]
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
