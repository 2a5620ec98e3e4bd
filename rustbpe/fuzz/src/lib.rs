//! What the fuzz targets share: slow, obvious versions of what the core does.

use std::collections::{BTreeMap, HashMap};

use arbitrary::Arbitrary;
use fednano_rustbpe::split::Pattern;

#[path = "../../tests/join/mod.rs"]
mod join;
pub use join::{Pair, join};

/// The slow encoder is quadratic in the length of a pre-token.
pub const TEXT_BYTES: usize = 1000;

const TOKEN_BYTES: usize = 1000;
const MERGES: usize = 60;

/// Each byte is its own id.
pub const BYTE_ORDER: [u8; 256] = {
    let mut order = [0; 256];
    let mut at = 0;
    while at < 256 {
        order[at] = at as u8;
        at += 1;
    }
    order
};

/// The pattern that a fuzzed number picks.
pub fn pattern(pick: u8) -> Pattern {
    Pattern::NAMES[usize::from(pick) % Pattern::NAMES.len()].1
}

/// The pre-tokens of `text`, one id a byte.
pub fn words(pattern: Pattern, text: &[u8]) -> Vec<Vec<u32>> {
    pattern.split(text).into_iter().map(|word| word.iter().map(|&byte| u32::from(byte)).collect()).collect()
}

/// The lowest merge first, and of its places the leftmost, one place at a time.
pub fn encode(merges: &HashMap<Pair, u32>, word: &[u8]) -> Vec<u32> {
    let mut tokens: Vec<u32> = word.iter().map(|&byte| u32::from(byte)).collect();
    loop {
        let ranked =
            tokens.windows(2).enumerate().filter_map(|(at, pair)| Some((merges.get(&(pair[0], pair[1]))?, at)));
        let Some((&new, at)) = ranked.min() else { return tokens };
        tokens.splice(at..at + 2, [new]);
    }
}

/// Counts all pairs anew for every merge; of the most frequent pairs the smallest is next.
pub fn train(mut words: Vec<Vec<u32>>, merges: usize) -> Vec<Pair> {
    let mut found = Vec::new();
    while found.len() < merges {
        let mut counts: BTreeMap<Pair, u64> = BTreeMap::new();
        words
            .iter()
            .flat_map(|word| word.windows(2))
            .for_each(|pair| *counts.entry((pair[0], pair[1])).or_default() += 1);
        let Some((&pair, _)) = counts.iter().rev().max_by_key(|(_, count)| **count) else { break };
        let new = 256 + found.len() as u32;
        words.iter_mut().for_each(|word| *word = join(word, pair, new));
        found.push(pair);
    }
    found
}

#[derive(Arbitrary, Debug)]
pub enum Merge {
    /// The pair of neighbours at this place of the text, as it is merged so far.
    There(u16),
    /// Any two ids.
    Ids(u16, u16),
}

/// Merges that a trained vocabulary could hold, most of them of use in the text.
pub fn merges(pattern: Pattern, text: &[u8], picks: &[Merge]) -> Vec<Pair> {
    let mut words = words(pattern, text);
    let mut lengths = vec![1; 256];
    let mut merges: Vec<Pair> = Vec::new();
    for pick in picks.iter().take(MERGES) {
        let ids = lengths.len();
        let pair = match *pick {
            Merge::Ids(left, right) => Some((left % ids as u16, right % ids as u16)).map(|(l, r)| (l.into(), r.into())),
            Merge::There(place) => {
                let pairs: Vec<Pair> = words.iter().flat_map(|word| word.windows(2)).map(|w| (w[0], w[1])).collect();
                (!pairs.is_empty()).then(|| pairs[usize::from(place) % pairs.len()])
            }
        };
        let Some(pair @ (left, right)) = pair else { continue };
        let length = lengths[left as usize] + lengths[right as usize];
        if length <= TOKEN_BYTES && !merges.contains(&pair) {
            words.iter_mut().for_each(|word| *word = join(word, pair, ids as u32));
            lengths.push(length);
            merges.push(pair);
        }
    }
    merges
}
