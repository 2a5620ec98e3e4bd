//! The distinct words of a corpus as tokens, in which merges happen.

use crate::count::WordCounts;
use crate::error::Error;
use crate::pairs::{Gains, Pair, Place};
use crate::train::BYTES;

/// Positions in the text of all distinct words are 32-bit numbers.
pub const MAX_POSITIONS: usize = u32::MAX as usize;

/// Stands before and after each word.
const SEPARATOR: u32 = u32::MAX;
/// No token's id.
const INSIDE: u32 = u32::MAX - 1;

/// How many places are looked up before the first is changed: without a branch between, their cache misses overlap.
const AHEAD: usize = 32;

/// Words of equal count lie together.
struct Group {
    /// Position of the first word's first token.
    start: u32,
    /// How often each of the words occurs.
    count: u64,
}

/// All distinct words of two tokens and more in one array, with a separator before and after each.
///
/// A token takes as many slots as it joins tokens of the last compaction. It holds its id in its first and last slot, so
/// that both its neighbours are found in one step; the slots between hold no id.
pub struct Text {
    ids: Vec<u32>,
    groups: Vec<Group>,
    /// Slots of each token.
    lengths: Vec<u32>,
}

impl Text {
    /// Bytes are numbered by their place in `order`.
    pub fn new(words: &WordCounts, order: &[u8; BYTES as usize]) -> Result<Self, Error> {
        let mut number = [0; BYTES as usize];
        order.iter().zip(0..).for_each(|(&byte, place)| number[usize::from(byte)] = place);
        // Start, end and count of each word in `bytes`.
        let mut spans: Vec<(u64, usize, usize)> = Vec::with_capacity(words.len());
        let mut bytes = Vec::new();
        words.each(|word, count| {
            if word.len() > 1 {
                spans.push((count, bytes.len(), word.len()));
                bytes.extend_from_slice(word);
            }
        });
        let positions = bytes.len() + spans.len() + 1;
        if positions > MAX_POSITIONS {
            return Err(Error::CorpusTooLarge { bytes: positions });
        }
        spans.sort_unstable_by_key(|(count, ..)| std::cmp::Reverse(*count));
        let mut ids = Vec::with_capacity(positions);
        let mut groups: Vec<Group> = Vec::new();
        ids.push(SEPARATOR);
        for (count, start, len) in spans {
            if groups.last().is_none_or(|last| last.count != count) {
                groups.push(Group { start: ids.len() as u32, count });
            }
            ids.extend(bytes[start..start + len].iter().map(|&byte| number[usize::from(byte)]));
            ids.push(SEPARATOR);
        }
        Ok(Self { ids, groups, lengths: vec![1; BYTES as usize] })
    }

    /// Makes every token one slot long, and drops words of one token.
    pub fn compact(&mut self) {
        let Self { ids, groups, lengths } = self;
        let ends: Vec<usize> = groups.iter().skip(1).map(|next| next.start as usize).chain([ids.len()]).collect();
        let (mut to, mut word) = (1, 1);
        for (group, end) in groups.iter_mut().zip(ends) {
            let mut from = group.start as usize;
            group.start = to as u32;
            while from < end {
                let id = ids[from];
                ids[to] = id;
                to += 1;
                if id != SEPARATOR {
                    from += lengths[id as usize] as usize;
                    continue;
                }
                from += 1;
                if to - word == 2 {
                    to = word;
                }
                word = to;
            }
        }
        ids.truncate(to);
        lengths.fill(1);
    }

    /// Calls `take` with each pair of neighbours, its place and its count. The text must be compact.
    pub fn each_pair(&self, mut take: impl FnMut(Pair, Place, u64)) {
        for (group, &Group { start, count }) in self.groups.iter().enumerate() {
            let end = self.groups.get(group + 1).map_or(self.ids.len(), |next| next.start as usize);
            let neighbours = self.ids[start as usize..end].windows(2).zip(start..);
            for (pair, position) in neighbours {
                if pair[0] != SEPARATOR && pair[1] != SEPARATOR {
                    take((pair[0], pair[1]), Place { position, group: group as u32 }, count);
                }
            }
        }
    }

    /// Number of tokens and separators of a compact text.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Joins `pair` into a new token wherever it still stands, left to right, and gives the pairs that arise to `gains`.
    pub fn merge(&mut self, pair @ (left, right): Pair, places: &[Place], gains: &mut Gains) {
        let Self { ids, groups, lengths } = self;
        let new = lengths.len() as u32;
        let left_length = lengths[left as usize];
        let length = left_length + lengths[right as usize];
        lengths.push(length);
        gains.begin(pair, new);
        let stands = |ids: &[u32], place: &Place| {
            let (start, middle) = (place.position as usize, (place.position + left_length) as usize);
            (ids[start] == left) & (ids[middle] == right)
        };
        let mut standing = [Place::default(); AHEAD];
        for chunk in places.chunks(AHEAD) {
            let mut len = 0;
            for place in chunk {
                standing[len] = *place;
                len += usize::from(stands(ids, place));
            }
            // A merge may destroy the next place, as in "aaa".
            for place in &standing[..len] {
                let &Place { position, group } = place;
                if !stands(ids, place) {
                    continue;
                }
                let count = groups[group as usize].count;
                let (start, middle, end) = (position as usize, position + left_length, (position + length) as usize);
                let (before, after) = (ids[start - 1], ids[end]);
                if before != SEPARATOR {
                    gains.before(before, Place { position: position - lengths[before as usize], group }, count);
                }
                if after != SEPARATOR {
                    gains.after(after, Place { position, group }, count);
                }
                for inside in [middle - 1, middle] {
                    ids[inside as usize] = INSIDE;
                }
                ids[start] = new;
                ids[end - 1] = new;
            }
        }
    }
}
