//! Finds the merges: again and again the most frequent pair of neighbouring tokens becomes a token.
//!
//! A pair's count is the number of places where it stands, each weighted by the count of its word; "aaa" holds (a, a)
//! twice. Among pairs of equal count the one with the smaller (left id, right id) comes first. Counts are kept up to
//! date at the places that a merge touches; the heap holds counts that were right when they were pushed, and a pair
//! that lost places since is pushed again when it surfaces. That is exact because a pair only gains places during the
//! merge that made its younger token.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::count::WordCounts;
use crate::error::Error;

/// Ids below this are single bytes.
pub const BYTES: u32 = 256;

/// Positions in the text of all distinct words are 32-bit numbers.
pub const MAX_POSITIONS: usize = u32::MAX as usize;

/// How many merges pass between two calls of `progress`.
const PROGRESS_EVERY: usize = 256;

const SEPARATOR: u32 = u32::MAX;
const INSIDE: u32 = u32::MAX - 1;

/// Up to `merges` merges of `words`, in order; fewer when no pair is left, or when `progress` (called with the number
/// of merges so far) breaks off.
pub fn train(
    words: &WordCounts,
    merges: usize,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<(u32, u32)>, Error> {
    if words.is_empty() {
        return Err(Error::EmptyCorpus);
    }
    let mut text = Text::new(words)?;
    let mut pairs = Pairs::of(&text);
    let mut heap: BinaryHeap<_> = (0..pairs.known.len()).map(|at| pairs.ranked(at)).collect();
    let mut found = Vec::new();
    while found.len() < merges
        && let Some((count, Reverse(pair), at)) = heap.pop()
    {
        let now = pairs.known[at].count;
        if now != count {
            if now > 0 {
                heap.push((now, Reverse(pair), at));
            }
            continue;
        }
        let known = pairs.known.len();
        text.merge(BYTES + found.len() as u32, at, &mut pairs);
        heap.extend((known..pairs.known.len()).map(|new| pairs.ranked(new)).filter(|(count, ..)| *count > 0));
        found.push(pair);
        if found.len() % PROGRESS_EVERY == 0 && progress(found.len()).is_break() {
            break;
        }
    }
    Ok(found)
}

type Pair = (u32, u32);

struct Places {
    pair: Pair,
    count: u64,
    /// Where the pair stood when it was counted, rising. Places that later merges destroyed are still listed.
    positions: Vec<u32>,
}

/// Every pair ever seen, with its present count.
struct Pairs {
    index: HashMap<u64, u32, FixedState>,
    known: Vec<Places>,
}

impl Pairs {
    fn of(text: &Text) -> Self {
        let mut pairs = Self { index: HashMap::default(), known: Vec::new() };
        for (group, &(start, weight)) in text.weights.iter().enumerate() {
            let end = text.weights.get(group + 1).map_or(text.ids.len() as u32, |(next, _)| *next);
            for at in start..end - 1 {
                let pair = (text.ids[at as usize], text.ids[at as usize + 1]);
                if pair.0 != SEPARATOR && pair.1 != SEPARATOR {
                    pairs.gain(pair, at, weight);
                }
            }
        }
        pairs
    }

    fn ranked(&self, at: usize) -> (u64, Reverse<Pair>, usize) {
        (self.known[at].count, Reverse(self.known[at].pair), at)
    }

    fn gain(&mut self, pair: Pair, position: u32, weight: u64) {
        let Self { index, known } = self;
        let at = *index.entry(key(pair)).or_insert_with(|| {
            known.push(Places { pair, count: 0, positions: Vec::new() });
            known.len() as u32 - 1
        });
        known[at as usize].count += weight;
        known[at as usize].positions.push(position);
    }

    fn lose(&mut self, pair: Pair, weight: u64) {
        if let Some(&at) = self.index.get(&key(pair)) {
            self.known[at as usize].count -= weight;
        }
    }
}

fn key((left, right): Pair) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// All distinct words in one array, one slot a byte, with a separator before and after each.
///
/// A token holds its id in its first and last slot, so that both its neighbours are found in one step; the slots
/// between hold no id. Words of equal count lie together.
struct Text {
    ids: Vec<u32>,
    /// (first position, count): the words from there to the next entry occur `count` times each.
    weights: Vec<(u32, u64)>,
    /// Bytes of each token.
    lengths: Vec<u32>,
}

impl Text {
    fn new(words: &WordCounts) -> Result<Self, Error> {
        let mut ordered: Vec<(&[u8], u64)> = words.iter().collect();
        ordered.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let bytes: usize = ordered.iter().map(|(word, _)| word.len() + 1).sum::<usize>() + 1;
        if bytes > MAX_POSITIONS {
            return Err(Error::CorpusTooLarge { bytes });
        }
        let mut ids = Vec::with_capacity(bytes);
        let mut weights: Vec<(u32, u64)> = Vec::new();
        ids.push(SEPARATOR);
        for (word, count) in ordered {
            if weights.last().is_none_or(|(_, last)| *last != count) {
                weights.push((ids.len() as u32, count));
            }
            ids.extend(word.iter().map(|&byte| u32::from(byte)));
            ids.push(SEPARATOR);
        }
        Ok(Self { ids, weights, lengths: vec![1; BYTES as usize] })
    }

    /// Joins every place of the pair number `at` into the token `new`, left to right.
    fn merge(&mut self, new: u32, at: usize, pairs: &mut Pairs) {
        let pair @ (left, right) = pairs.known[at].pair;
        let positions = std::mem::take(&mut pairs.known[at].positions);
        let left_length = self.lengths[left as usize];
        let length = left_length + self.lengths[right as usize];
        self.lengths.push(length);
        let mut group = 0;
        for position in positions {
            let middle = position + left_length;
            if self.id(position) != left || self.id(middle) != right {
                continue;
            }
            let weight = self.weight(position, &mut group);
            pairs.lose(pair, weight);
            let (before, after) = (self.id(position - 1), self.id(position + length));
            if before != SEPARATOR {
                pairs.lose((before, left), weight);
                pairs.gain((before, new), position - self.lengths[before as usize], weight);
            }
            if after != SEPARATOR {
                pairs.lose((right, after), weight);
                pairs.gain((new, after), position, weight);
            }
            for (slot, id) in [(middle - 1, INSIDE), (middle, INSIDE), (position, new), (position + length - 1, new)] {
                self.ids[slot as usize] = id;
            }
        }
    }

    fn id(&self, position: u32) -> u32 {
        self.ids[position as usize]
    }

    /// The count of the word at `position`; `group` remembers where the last, smaller position was found.
    fn weight(&self, position: u32, group: &mut usize) -> u64 {
        let later = &self.weights[*group + 1..];
        if later.first().is_some_and(|(start, _)| *start <= position) {
            *group += later.partition_point(|(start, _)| *start <= position);
        }
        self.weights[*group].1
    }
}
