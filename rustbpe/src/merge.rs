//! The merges of a vocabulary, and their application to one pre-token: the oldest merge first, of equal ones the
//! leftmost.

use crate::error::Error;
use crate::train::BYTES;

/// Ids are numbers of this many bits, so that a merge fits into 64.
const ID_BITS: u32 = 21;

/// The most ids that a vocabulary may have.
pub const MAX_VOCABULARY: usize = 1 << ID_BITS;

/// Pre-tokens up to this length are merged by looking at all their tokens for each merge.
const SCANNED: usize = 32;

/// Room for more slots and places is given back after use.
const KEPT: usize = 1 << 16;

pub(crate) const NONE: u32 = u32::MAX;

/// From a pair of ids to the id of their merge: open addressing, at most half full.
pub(crate) struct Merges {
    /// Left id, right id, new id; 0 is an empty slot, since no merge makes the id 0.
    slots: Vec<u64>,
    shift: u32,
    pairs: Vec<(u32, u32)>,
    /// Bytes of each token.
    lengths: Vec<u32>,
    /// The id of each single byte.
    byte_ids: [u32; BYTES as usize],
}

impl Merges {
    /// Raises [`Error::BadMerge`] for ids that do not exist yet and for pairs that come twice.
    pub fn new(byte_ids: [u32; BYTES as usize], pairs: &[(u32, u32)]) -> Result<Self, Error> {
        let bits = (2 * pairs.len()).next_power_of_two().trailing_zeros().max(1);
        let mut merges = Self {
            slots: vec![0; 1 << bits],
            shift: 64 - bits,
            pairs: pairs.to_vec(),
            lengths: vec![1; BYTES as usize],
            byte_ids,
        };
        if pairs.len() > MAX_VOCABULARY - BYTES as usize {
            return Err(Error::VocabularyTooLarge { tokens: BYTES as usize + pairs.len() });
        }
        for (index, &(left, right)) in pairs.iter().enumerate() {
            let id = BYTES + index as u32;
            if left >= id || right >= id || merges.get(left, right) != NONE {
                return Err(Error::BadMerge { index, left, right });
            }
            let slot = merges.slot(key(left, right));
            merges.slots[slot] = key(left, right) | u64::from(id);
            let length = merges.lengths[left as usize].checked_add(merges.lengths[right as usize]);
            merges.lengths.push(length.ok_or(Error::VocabularyTooLarge { tokens: id as usize })?);
        }
        Ok(merges)
    }

    /// The slot that holds the pair, or the empty one where it belongs.
    #[inline]
    fn slot(&self, key: u64) -> usize {
        let mut at = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize;
        while self.slots[at] != 0 && self.slots[at] >> ID_BITS != key >> ID_BITS {
            at = (at + 1) & (self.slots.len() - 1);
        }
        at
    }

    /// The id of the merge, or `NONE`.
    #[inline]
    fn get(&self, left: u32, right: u32) -> u32 {
        match self.slots[self.slot(key(left, right))] {
            0 => NONE,
            merge => merge as u32 & ((1 << ID_BITS) - 1),
        }
    }

    /// Appends the ids of the pre-token `word` to `ids`.
    pub fn apply(&self, word: &[u8], long: &mut Queue, ids: &mut Vec<u32>) -> Result<(), Error> {
        if word.len() <= SCANNED {
            self.scan(word, ids);
            return Ok(());
        }
        long.apply(self, word, ids)
    }

    pub fn scan(&self, word: &[u8], ids: &mut Vec<u32>) {
        let mut tokens = [0; SCANNED];
        // `made[at]` is the merge of the tokens `at` and `at + 1`.
        let mut made = [NONE; SCANNED];
        let mut count = word.len();
        for (token, &byte) in tokens.iter_mut().zip(word) {
            *token = self.byte_ids[usize::from(byte)];
        }
        for at in 1..count {
            made[at - 1] = self.get(tokens[at - 1], tokens[at]);
        }
        while let Some((at, &new)) = made[..count - 1].iter().enumerate().min_by_key(|(_, made)| **made)
            && new != NONE
        {
            tokens[at] = new;
            tokens.copy_within(at + 2..count, at + 1);
            made.copy_within(at + 1..count, at);
            count -= 1;
            made[count - 1] = NONE;
            if at + 1 < count {
                made[at] = self.get(new, tokens[at + 1]);
            }
            if at > 0 {
                made[at - 1] = self.get(tokens[at - 1], new);
            }
        }
        ids.extend_from_slice(&tokens[..count]);
    }
}

fn key(left: u32, right: u32) -> u64 {
    (u64::from(left) << ID_BITS | u64::from(right)) << ID_BITS
}

/// Merges long pre-tokens in a time that is linear in their length.
///
/// A merge that has the new token as a part is younger than the one that made it. So one pass over the merges from
/// the oldest to the youngest meets all of them, if each has a list of the places where its pair stands. A list is in
/// the order of the text where that matters, that is for two equal tokens: the merge that makes them goes from left to
/// right.
#[derive(Default)]
pub(crate) struct Queue {
    /// One slot a byte and one more at each end: a token holds its id in its first and last slot, so that its neighbours
    /// are found in one step.
    tokens: Vec<u32>,
    /// Of each merge, the first and last of its `places`.
    lists: Vec<(u32, u32)>,
    /// Slots, and the number of the next place in the same list.
    places: Vec<(u32, u32)>,
    /// One bit for each merge that has a list.
    waiting: Vec<u64>,
}

impl Queue {
    fn apply(&mut self, merges: &Merges, word: &[u8], ids: &mut Vec<u32>) -> Result<(), Error> {
        // At most two places for each merge, and one for each byte.
        if word.len() > u32::MAX as usize / 4 {
            return Err(Error::PretokenTooLong { bytes: word.len() });
        }
        self.lists.resize(merges.pairs.len(), (NONE, NONE));
        self.waiting.resize(merges.pairs.len().div_ceil(64), 0);
        self.places.clear();
        self.tokens.clear();
        self.tokens.push(NONE);
        self.tokens.extend(word.iter().map(|byte| merges.byte_ids[usize::from(*byte)]));
        self.tokens.push(NONE);
        for at in 1..word.len() {
            self.push(merges, self.tokens[at], self.tokens[at + 1], at);
        }
        for block in 0..self.waiting.len() {
            while self.waiting[block] != 0 {
                let merge = 64 * block + self.waiting[block].trailing_zeros() as usize;
                self.waiting[block] &= self.waiting[block] - 1;
                self.merge(merges, merge);
            }
        }
        let mut at = 1;
        while at <= word.len() {
            ids.push(self.tokens[at]);
            at += merges.lengths[self.tokens[at] as usize] as usize;
        }
        Ok(())
    }

    /// Joins all places of a merge.
    fn merge(&mut self, merges: &Merges, merge: usize) {
        let (left, right) = merges.pairs[merge];
        let new = BYTES + merge as u32;
        let (middle, length) = (merges.lengths[left as usize] as usize, merges.lengths[new as usize] as usize);
        let mut place = std::mem::replace(&mut self.lists[merge], (NONE, NONE)).0;
        while place != NONE {
            let (at, next) = self.places[place as usize];
            let at = at as usize;
            place = next;
            // Another merge may have taken one of the two.
            if self.tokens[at] != left || self.tokens[at + middle] != right {
                continue;
            }
            let end = at + length;
            // So that no inner slot looks like a token.
            (self.tokens[at + middle - 1], self.tokens[at + middle]) = (NONE, NONE);
            (self.tokens[at], self.tokens[end - 1]) = (new, new);
            let (before, after) = (self.tokens[at - 1], self.tokens[end]);
            if before != NONE {
                self.push(merges, before, new, at - merges.lengths[before as usize] as usize);
            }
            if after != NONE {
                self.push(merges, new, after, at);
            }
        }
    }

    fn push(&mut self, merges: &Merges, left: u32, right: u32, at: usize) {
        let new = merges.get(left, right);
        if new == NONE {
            return;
        }
        let merge = (new - BYTES) as usize;
        let place = self.places.len() as u32;
        self.places.push((at as u32, NONE));
        let (first, last) = &mut self.lists[merge];
        match *last {
            NONE => *first = place,
            last => self.places[last as usize].1 = place,
        }
        *last = place;
        self.waiting[merge / 64] |= 1 << (merge % 64);
    }

    /// Gives memory back that only a rare long pre-token needs.
    pub fn shrink(&mut self) {
        self.tokens.clear();
        self.places.clear();
        self.tokens.shrink_to(KEPT);
        self.places.shrink_to(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work is done for each byte, each merge and each place of a list, and there are at most two more places for a merge.
    #[test]
    fn the_work_is_linear_in_the_length() {
        let doubling: Vec<(u32, u32)> = (0..16).map(|n| if n == 0 { (97, 97) } else { (255 + n, 255 + n) }).collect();
        let spread: Vec<(u32, u32)> = (0..26 * 26).map(|n| (97 + n / 26, 97 + n % 26)).collect();
        let byte_ids = std::array::from_fn(|byte| byte as u32);
        for pairs in [doubling, spread] {
            let merges = Merges::new(byte_ids, &pairs).expect("merges");
            let places = [1 << 20, 2 << 20].map(|bytes: usize| {
                let (mut queue, mut ids) = (Queue::default(), Vec::new());
                for word in [vec![b'a'; bytes], (0..bytes).map(|at| b'a' + (at * at / 7 % 26) as u8).collect()] {
                    queue.apply(&merges, &word, &mut ids).expect("short enough");
                    assert!(queue.places.len() <= 3 * bytes);
                }
                queue.places.len()
            });
            assert!(places[1] <= 2 * places[0] + 100, "{places:?}");
        }
    }
}
