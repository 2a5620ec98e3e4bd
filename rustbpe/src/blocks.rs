//! Finds the ends of pre-tokens in blocks of 64 bytes: every class of characters is a mask of 64 bits, and the rules of a
//! pattern are a few operations on masks.
//!
//! A block begins where a pre-token begins, so that nothing before it matters. What its end leaves open belongs to the
//! next block, which begins at the last pre-token that began in this one. A character beyond ASCII is classified alone,
//! and gives its class to all its bytes; at white space and numbers beyond ASCII the block ends early, and the scalar
//! rules take over where a block holds no whole pre-token.

use std::marker::PhantomData;

use wide::i8x16;

use crate::split::{LETTER, OTHER, Rules, class_at};

const BLOCK: usize = 64;

/// The most pre-tokens in one batch. Loops over many in a row mispredict their end more seldom.
pub const BATCH: usize = 256;

/// Ends that are written at once, whether there are so many or not.
const STRIDE: usize = 8;

/// The classes of up to 64 bytes, bit i for byte i.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    letter: u64,
    number: u64,
    /// White space but for newlines.
    space: u64,
    newline: u64,
    /// The space character alone.
    blank: u64,
    other: u64,
    /// Bytes of other characters that are not their first.
    tail: u64,
    apostrophe: u64,
    /// The bytes whose class is known.
    known: u64,
    /// Whether the text ends with the known bytes.
    last: bool,
}

/// The pre-tokens of a text, some at a time.
pub(crate) struct Batches<'a, R> {
    text: &'a [u8],
    start: usize,
    ends: [usize; BATCH + STRIDE],
    rules: PhantomData<R>,
}

impl<'a, R: Rules> Batches<'a, R> {
    #[inline(always)]
    pub fn of(text: &'a [u8]) -> Self {
        Self { text, start: 0, ends: [0; BATCH + STRIDE], rules: PhantomData }
    }

    /// Where some pre-tokens begin and the ends of them all, at most [`BATCH`]; None after the last.
    #[inline(always)]
    pub fn next_batch(&mut self) -> Option<(usize, &[usize])> {
        let (begin, mut found) = (self.start, 0);
        // A block holds at most one pre-token more than bytes, if it ends the text.
        while self.start < self.text.len() && found < BATCH - BLOCK {
            let ends = self.ends[found..].first_chunk_mut().expect("room for a block");
            found += fill::<R>(self.text, self.start, ends);
            self.start = self.ends[found - 1];
        }
        if found > 0 { Some((begin, &self.ends[..found])) } else { None }
    }
}

/// The ends of the pre-tokens that a block at `start` decides, at least one; their number.
#[inline(always)]
fn fill<R: Rules>(text: &[u8], start: usize, ends: &mut [usize; BLOCK + STRIDE]) -> usize {
    let block = Block::at(text, start);
    let mut starts = R::starts(&block);
    let mut apostrophes = block.opening() & block.apostrophe & (block.letter >> 1);
    while apostrophes != 0 {
        let after = apostrophes.trailing_zeros() as usize + 1;
        apostrophes &= apostrophes - 1;
        if let Some(length) = R::contraction(&text[start + after..]) {
            starts &= !(1 << after);
            // Beyond the block, the next block sees to it.
            starts |= block.letter & 1u64.checked_shl((after + length) as u32).unwrap_or(0);
        }
    }
    starts &= block.known & !1;
    let mut found = starts.count_ones() as usize;
    for stride in ends.as_chunks_mut::<STRIDE>().0 {
        for end in stride {
            *end = start + starts.trailing_zeros() as usize;
            starts &= starts.wrapping_sub(1);
        }
        if starts == 0 {
            break;
        }
    }
    if block.last {
        ends[found] = text.len();
        found += 1;
    }
    if found == 0 {
        ends[0] = R::end(text, start);
        found = 1;
    }
    found
}

impl Block {
    #[inline(always)]
    fn at(text: &[u8], start: usize) -> Self {
        if let Some(bytes) = text[start..].first_chunk() {
            let mut block = Self::ascii(bytes);
            block.last = start + BLOCK == text.len();
            let beyond = block.finish(!0);
            if beyond != 0 { block.beyond_ascii(text, start, beyond) } else { block }
        } else {
            let rest = &text[start..];
            let mut bytes = [0; BLOCK];
            bytes[..rest.len()].copy_from_slice(rest);
            let mut block = Self::ascii(&bytes);
            block.last = true;
            let beyond = block.finish((1 << rest.len()) - 1);
            if beyond != 0 { block.beyond_ascii(text, start, beyond) } else { block }
        }
    }

    /// Limits the block to the bytes `known`, once all its ASCII is classified; gives the bytes beyond ASCII.
    #[inline(always)]
    fn finish(&mut self, known: u64) -> u64 {
        self.known = known;
        let beyond = self.tail & known;
        self.tail = 0;
        self.other = known & !(self.letter | self.number | self.space | self.newline | beyond);
        beyond
    }

    /// Classifies the characters of which `beyond` holds all bytes.
    #[cold]
    #[inline(never)]
    fn beyond_ascii(mut self, text: &[u8], start: usize, mut beyond: u64) -> Self {
        while beyond != 0 {
            let at = beyond.trailing_zeros() as usize;
            let (class, end) = class_at(text, start + at);
            let width = end - start - at;
            let bytes = ((1 << width) - 1) << at;
            match class {
                LETTER => self.letter |= bytes,
                OTHER => {
                    self.other |= bytes;
                    self.tail |= bytes & (bytes << 1);
                }
                _ => {
                    self.cut(at);
                    break;
                }
            }
            beyond &= !bytes;
        }
        self
    }

    /// Forgets what lies at `at` and behind.
    fn cut(&mut self, at: usize) {
        self.known &= (1 << at) - 1;
        self.last = false;
        for class in [&mut self.letter, &mut self.number, &mut self.space, &mut self.newline, &mut self.other] {
            *class &= self.known;
        }
        self.tail &= self.known;
    }

    /// The ASCII classes; bytes beyond ASCII are in `tail`.
    #[inline(always)]
    fn ascii(bytes: &[u8; BLOCK]) -> Self {
        let all = |byte: u8| i8x16::splat(byte as i8);
        // Shifts the range to the lowest signed numbers, so that one comparison decides.
        let within = |x: i8x16, first: u8, count: u8| (x + all(0x80 - first)).simd_lt(all(0x80 + count));
        let mut block = Self::default();
        for (at, chunk) in bytes.as_chunks::<16>().0.iter().enumerate() {
            let x = i8x16::new(chunk.map(|byte| byte as i8));
            let mask = |found: i8x16| u64::from(found.to_bitmask()) << (16 * at);
            let blank = x.simd_eq(all(b' '));
            block.letter |= mask(within(x | all(0x20), b'a', 26));
            block.number |= mask(within(x, b'0', 10));
            block.blank |= mask(blank);
            block.newline |= mask(x.simd_eq(all(b'\n')) | x.simd_eq(all(b'\r')));
            block.space |= mask(blank | within(x, b'\t', 5));
            block.apostrophe |= mask(x.simd_eq(all(b'\'')));
            block.tail |= mask(x);
        }
        block.space &= !block.newline;
        block
    }

    /// First bytes of runs of other characters that take no space before them.
    #[inline(always)]
    fn opening(&self) -> u64 {
        self.other & !(self.other << 1) & !(self.blank << 1)
    }

    /// Bytes whose successor is known, too.
    #[inline(always)]
    fn followed(&self) -> u64 {
        self.known >> 1
    }

    #[inline(always)]
    pub(crate) fn gpt4_starts<const DIGITS: usize>(&self) -> u64 {
        let opening = self.opening();
        // Letters take one character before them: white space, or a symbol that begins a pre-token. The addition
        // carries from the symbol's second byte to the first behind it.
        let joined = (self.space << 1) | (self.tail.wrapping_add(opening << 1) & !self.tail);
        let words = self.letter & !(self.letter << 1) & !joined;
        let white = self.space | self.newline;
        // Newlines right after symbols belong to them.
        let after_symbols = self.newline & (self.other << 1);
        let white_left = white & !(self.newline & !self.newline.wrapping_add(after_symbols));
        let runs = white_left & !(white_left << 1);
        let last_spaces = self.space & !(white >> 1) & self.followed();
        let starts = opening | words | runs | last_spaces;
        starts | self.numbers::<DIGITS>() | self.after_last_newlines(self.space & (self.newline << 1) & !runs)
    }

    /// Every `DIGITS`-th byte of each run of numbers.
    #[inline(always)]
    fn numbers<const DIGITS: usize>(&self) -> u64 {
        let runs = self.number & !(self.number << 1);
        (0..DIGITS).fold(0, |starts, phase| {
            let every = every(DIGITS, phase);
            // The addition clears the runs that begin in this phase.
            starts | (self.number & !self.number.wrapping_add(runs & every) & every)
        })
    }

    /// Those of `spaces`, each the first after a newline, behind which no newline follows in the same white space.
    #[inline(always)]
    fn after_last_newlines(&self, spaces: u64) -> u64 {
        // The addition carries to the first byte behind each run of spaces.
        let (carried, beyond) = self.space.overflowing_add(spaces);
        let undecided = carried & !self.space & (self.newline | !self.known);
        if beyond || undecided != 0 { self.after_last_newlines_one_by_one(spaces) } else { spaces }
    }

    #[cold]
    fn after_last_newlines_one_by_one(&self, mut spaces: u64) -> u64 {
        let mut starts = 0;
        while spaces != 0 {
            let at = spaces.trailing_zeros();
            let end = at + (!(self.space >> at)).trailing_zeros();
            let next = 1u64.checked_shl(end).unwrap_or(0);
            let ends_text = next & self.known == 0;
            if if ends_text { self.last } else { next & self.newline == 0 } {
                starts |= 1 << at;
            }
            spaces &= spaces - 1;
        }
        starts
    }

    #[inline(always)]
    pub(crate) fn gpt2_starts(&self) -> u64 {
        let begin = |class: u64| class & !(class << 1) & !(self.blank << 1);
        let white = self.space | self.newline;
        let last_white = white & !(white >> 1) & self.followed();
        begin(self.letter) | begin(self.number) | begin(self.other) | (white & !(white << 1)) | last_white
    }
}

/// The bits `phase`, `phase + step`, ...
const fn every(step: usize, phase: usize) -> u64 {
    let (mut bits, mut at) = (0, phase);
    while at < BLOCK {
        bits |= 1 << at;
        at += step;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::{NEWLINE, NUMBER, SPACE};

    #[test]
    fn the_masks_hold_the_class_of_every_byte() {
        for shift in 0..=u8::MAX {
            let bytes: [u8; BLOCK] = std::array::from_fn(|at| (at as u8).wrapping_mul(5).wrapping_add(shift));
            let mut block = Block::ascii(&bytes);
            let beyond = block.finish(!0);
            for (at, byte) in bytes.iter().enumerate() {
                let bit = |mask: u64| mask >> at & 1 == 1;
                assert_eq!(bit(beyond), !byte.is_ascii());
                assert_eq!(bit(block.blank), *byte == b' ');
                assert_eq!(bit(block.apostrophe), *byte == b'\'');
                let class = byte.is_ascii().then(|| class_at(&bytes, at).0);
                let masks = [block.other, block.letter, block.number, block.space, block.newline];
                for (kind, mask) in [OTHER, LETTER, NUMBER, SPACE, NEWLINE].into_iter().zip(masks) {
                    assert_eq!(bit(mask), class == Some(kind), "{byte} {kind}");
                }
            }
        }
    }
}
