//! Finds the merges: again and again the most frequent pair of neighbouring tokens becomes a token.
//!
//! A pair's count is the number of places where it stands, each weighted by the count of its word; "aaa" holds (a, a)
//! twice. [`Ties`] decides among pairs of equal count. Counts are kept up to date at the places that a merge touches;
//! the queue holds counts that were right when they were put in, and a pair that lost places since is put in again when
//! it surfaces. That is exact because a pair only gains places during the merge that made its younger token.
//!
//! For the same reason a pair that begins below a count can be left out until all pairs above it are merged. So training
//! goes in rounds: each has a floor, knows the pairs that reach it and forgets all others, and ends when no pair is left;
//! the next one counts anew in what the text has become, with a lower floor. The tables stay small enough for the cache.

use std::ops::ControlFlow;

use crate::count::WordCounts;
use crate::error::Error;
use crate::pairs::{Gains, Pairs};
use crate::text::Text;

/// Ids below this are single bytes.
pub const BYTES: u32 = 256;

/// How many merges pass between two calls of `progress`.
const PROGRESS_EVERY: usize = 256;

/// Which of two pairs of equal count is merged first: that with the smaller left token, then the smaller right token.
/// Merged tokens come in the order in which they were made, after all bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// Bytes come in their own order.
    Bytes,
    /// Bytes come in the order of the characters that stand for them in Hugging Face's `ByteLevel`.
    HuggingFace,
}

impl Ties {
    pub const NAMES: [(&'static str, Self); 2] = [("bytes", Self::Bytes), ("huggingface", Self::HuggingFace)];

    /// The rule called `name`.
    pub fn named(name: &str) -> Result<Self, Error> {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, ties)| *ties).ok_or_else(|| Error::UnknownTies { name: name.to_owned() })
    }

    /// All bytes, first the one that wins ties.
    fn order(self) -> [u8; BYTES as usize] {
        let mut order = std::array::from_fn(|byte| byte as u8);
        // A printable byte is its own character; the others have characters above all of them, in their own order.
        let unprintable = |byte: &u8| !matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        match self {
            Self::Bytes => {}
            Self::HuggingFace => order.sort_by_key(unprintable),
        }
        order
    }
}

/// Up to `merges` merges of `words`, in order; fewer when no pair is left, or when `progress` (called with the number
/// of merges so far) breaks off.
pub fn train(
    words: &WordCounts,
    merges: usize,
    ties: Ties,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<(u32, u32)>, Error> {
    if words.is_empty() {
        return Err(Error::EmptyCorpus);
    }
    // Training numbers the bytes so that the smaller number wins.
    let order = ties.order();
    let mut text = Text::new(words, &order)?;
    let mut gains = Gains::default();
    let mut found = Vec::new();
    let mut floor = u64::MAX;
    'rounds: while found.len() < merges && floor > 1 {
        let mut pairs = Pairs::new(&text, floor, merges - found.len());
        floor = pairs.floor();
        while found.len() < merges
            && let Some((pair, places)) = pairs.pop()
        {
            text.merge(pair, pairs.places(places), &mut gains);
            pairs.update(&mut gains);
            found.push(pair);
            if found.len() % PROGRESS_EVERY == 0 && progress(found.len()).is_break() {
                break 'rounds;
            }
        }
        text.compact();
    }
    let id = |number: u32| order.get(number as usize).map_or(number, |&byte| u32::from(byte));
    Ok(found.into_iter().map(|(left, right)| (id(left), id(right))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huggingface_orders_bytes_by_their_characters() {
        // Its alphabet is built in this way: the printable bytes, then 256, 257, ... for the others.
        let mut characters: Vec<(u32, u8)> = Vec::new();
        for byte in 0..=255 {
            let others = characters.iter().filter(|(character, _)| *character >= 256).count() as u32;
            let printable = char::from(byte).is_ascii_graphic() || (byte > 0xA0 && byte != 0xAD);
            characters.push((if printable { u32::from(byte) } else { 256 + others }, byte));
        }
        characters.sort_unstable();
        let expected: Vec<u8> = characters.into_iter().map(|(_, byte)| byte).collect();
        assert_eq!(Ties::HuggingFace.order().as_slice(), expected);
        assert_eq!(Ties::Bytes.order().as_slice(), (0..=255).collect::<Vec<u8>>());
    }
}
