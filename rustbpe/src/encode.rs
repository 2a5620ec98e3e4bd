//! Applies the merges to text, and undoes them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::parallel;
use crate::split::Pattern;
use crate::train::BYTES;

/// Pre-tokens up to this length are merged by scanning, longer ones with a heap.
const SCANNED: usize = 48;

/// Merges that double a token's length each time would otherwise fill the memory.
pub const MAX_VOCABULARY_BYTES: usize = 1 << 30;

const NONE: u32 = u32::MAX;

/// A trained vocabulary: bytes, merges in order, specials.
pub struct Bpe {
    pattern: Pattern,
    merged: PairTable,
    /// Where the bytes of each token begin in `arena`, and the end of the last one.
    starts: Vec<usize>,
    arena: Vec<u8>,
    specials: usize,
    /// Caches of calls that have ended; there are at most as many as there were threads at once.
    idle: Mutex<Vec<Worker>>,
}

impl Bpe {
    pub fn new(pattern: Pattern, merges: &[(u32, u32)], specials: &[&[u8]]) -> Result<Self, Error> {
        let mut arena: Vec<u8> = (0..=u8::MAX).collect();
        let mut starts: Vec<usize> = (0..=arena.len()).collect();
        let mut merged = PairTable::with_capacity(merges.len());
        for (index, &(left, right)) in merges.iter().enumerate() {
            let id = BYTES + index as u32;
            if left >= id || right >= id || merged.get(left, right) != NONE {
                return Err(Error::BadMerge { index, left, right });
            }
            merged.insert(left, right, id);
            for part in [left as usize, right as usize] {
                arena.extend_from_within(starts[part]..starts[part + 1]);
            }
            starts.push(arena.len());
            if arena.len() > MAX_VOCABULARY_BYTES {
                return Err(Error::VocabularyTooLarge { tokens: starts.len() - 1 });
            }
        }
        for special in specials {
            arena.extend_from_slice(special);
            starts.push(arena.len());
        }
        Ok(Self { pattern, merged, starts, arena, specials: specials.len(), idle: Mutex::default() })
    }

    pub fn vocab_size(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bytes per token id; 0 for specials, which stand for no text.
    pub fn token_lengths(&self) -> Vec<u32> {
        let text = self.starts.len() - self.specials;
        let lengths = self.starts[..text].windows(2).map(|span| (span[1] - span[0]) as u32);
        lengths.chain(std::iter::repeat_n(0, self.specials)).collect()
    }

    /// The ids of all texts one after the other, and how many each text has. `threads` share the work.
    pub fn encode(&self, texts: &[&[u8]], threads: usize) -> (Vec<Vec<u32>>, Vec<usize>) {
        let pieces = parallel::pieces(texts);
        let jobs = parallel::jobs(&pieces);
        let mut workers = self.take_workers(threads.clamp(1, jobs.len().max(1)));
        let done = parallel::share(&mut workers, &jobs, |worker, job| {
            let mut ids = Vec::new();
            let ends: Vec<usize> = pieces[job.clone()]
                .iter()
                .map(|piece| {
                    self.pattern
                        .split(piece.bytes)
                        .into_iter()
                        .for_each(|word| worker.encode(&self.merged, word, &mut ids));
                    ids.len()
                })
                .collect();
            (ids, ends)
        });
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).append(&mut workers);

        let mut lengths = vec![0; texts.len()];
        for (job, (_, ends)) in jobs.iter().zip(&done) {
            let mut start = 0;
            for (piece, &end) in pieces[job.clone()].iter().zip(ends) {
                lengths[piece.text] += end - start;
                start = end;
            }
        }
        (done.into_iter().map(|(ids, _)| ids).collect(), lengths)
    }

    fn take_workers(&self, count: usize) -> Vec<Worker> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.len().saturating_sub(count);
        let mut workers = idle.split_off(kept);
        workers.resize_with(count, Worker::default);
        workers
    }

    /// The bytes that `ids` stand for; a special stands for its own text.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for (index, &id) in ids.iter().enumerate() {
            match self.starts.get(id as usize..).and_then(|starts| starts.get(..2)) {
                Some(span) => bytes.extend_from_slice(&self.arena[span[0]..span[1]]),
                None => return Err(Error::BadId { index, id, vocab_size: self.vocab_size() }),
            }
        }
        Ok(bytes)
    }
}

/// From a pair of ids to the id of their merge: open addressing, at most half full.
struct PairTable {
    slots: Vec<(u64, u32)>,
    shift: u32,
}

impl PairTable {
    fn with_capacity(pairs: usize) -> Self {
        let bits = (2 * pairs).next_power_of_two().trailing_zeros().max(1);
        Self { slots: vec![(0, NONE); 1 << bits], shift: 64 - bits }
    }

    /// The slot that holds the pair, or the empty one where it belongs.
    #[inline]
    fn slot(&self, key: u64) -> usize {
        let mut at = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize;
        while self.slots[at].1 != NONE && self.slots[at].0 != key {
            at = (at + 1) & (self.slots.len() - 1);
        }
        at
    }

    /// The id of the merge, or `NONE`.
    #[inline]
    fn get(&self, left: u32, right: u32) -> u32 {
        self.slots[self.slot(key(left, right))].1
    }

    fn insert(&mut self, left: u32, right: u32, id: u32) {
        let at = self.slot(key(left, right));
        self.slots[at] = (key(left, right), id);
    }
}

#[inline]
fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// What one thread needs: a bounded cache of short pre-tokens, and room for the merging of long ones.
///
/// The cache has one place for each hash; a pre-token takes the place of another with the same.
struct Worker {
    /// The pre-token's bytes, with its length in the highest byte; 0 is an empty place.
    words: Vec<u128>,
    /// The number of ids, then the ids.
    ids: Vec<[u32; CACHED_IDS + 1]>,
    long: LongWord,
}

const CACHE_BITS: u32 = 15;
const CACHED_BYTES: usize = 15;
const CACHED_IDS: usize = 7;

impl Default for Worker {
    fn default() -> Self {
        let places = 1 << CACHE_BITS;
        Self { words: vec![0; places], ids: vec![[0; CACHED_IDS + 1]; places], long: LongWord::default() }
    }
}

impl Worker {
    #[inline]
    fn encode(&mut self, merged: &PairTable, word: &[u8], ids: &mut Vec<u32>) {
        if let [byte] = word {
            ids.push(u32::from(*byte));
            return;
        }
        if word.len() > CACHED_BYTES {
            return self.merge(merged, word, ids);
        }
        let mut padded = [0u8; 16];
        padded[..word.len()].copy_from_slice(word);
        padded[CACHED_BYTES] = word.len() as u8;
        let word_key = u128::from_le_bytes(padded);
        let place = place(word_key);
        if self.words[place] == word_key {
            let cached = &self.ids[place];
            ids.extend_from_slice(&cached[1..=cached[0] as usize]);
            return;
        }
        let start = ids.len();
        self.merge(merged, word, ids);
        let fresh = &ids[start..];
        if fresh.len() <= CACHED_IDS {
            self.words[place] = word_key;
            self.ids[place][0] = fresh.len() as u32;
            self.ids[place][1..=fresh.len()].copy_from_slice(fresh);
        }
    }

    fn merge(&mut self, merged: &PairTable, word: &[u8], ids: &mut Vec<u32>) {
        if word.len() <= SCANNED {
            merge_short(merged, word, ids);
        } else {
            self.long.merge(merged, word, ids);
        }
    }
}

#[inline]
fn place(word: u128) -> usize {
    let (low, high) = (word as u64, (word >> 64) as u64);
    let mixed = (low ^ high.rotate_left(29).wrapping_mul(0xD6E8_FEB8_6659_FD93)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - CACHE_BITS)) as usize
}

/// Merges the lowest id first, and of equal ones the leftmost, by looking at all of them each time.
fn merge_short(merged: &PairTable, word: &[u8], ids: &mut Vec<u32>) {
    let mut tokens = [0u32; SCANNED];
    let mut ranks = [NONE; SCANNED];
    let mut count = word.len();
    for (token, &byte) in tokens.iter_mut().zip(word) {
        *token = u32::from(byte);
    }
    for at in 1..count {
        ranks[at - 1] = merged.get(tokens[at - 1], tokens[at]);
    }
    // `ranks[at]` belongs to the pair (at, at + 1).
    while let Some((at, &new)) = ranks[..count - 1].iter().enumerate().min_by_key(|(_, rank)| **rank)
        && new != NONE
    {
        tokens[at] = new;
        tokens.copy_within(at + 2..count, at + 1);
        ranks.copy_within(at + 1..count, at);
        count -= 1;
        ranks[count - 1] = NONE;
        if at + 1 < count {
            ranks[at] = merged.get(new, tokens[at + 1]);
        }
        if at > 0 {
            ranks[at - 1] = merged.get(tokens[at - 1], new);
        }
    }
    ids.extend_from_slice(&tokens[..count]);
}

/// Merges in the same order as `merge_short`, with a linked list and a heap: n log n in the length of the word.
#[derive(Default)]
struct LongWord {
    tokens: Vec<u32>,
    next: Vec<usize>,
    previous: Vec<usize>,
    heap: BinaryHeap<Reverse<(u32, usize)>>,
}

impl LongWord {
    fn merge(&mut self, merged: &PairTable, word: &[u8], ids: &mut Vec<u32>) {
        let end = word.len();
        let Self { tokens, next, previous, heap } = self;
        tokens.clear();
        tokens.extend(word.iter().map(|&byte| u32::from(byte)));
        next.clear();
        next.extend(1..=end);
        previous.clear();
        previous.extend((0..end).map(|at| at.wrapping_sub(1)));
        let mut pairs = std::mem::take(heap).into_vec();
        pairs.extend((1..end).map(|at| (merged.get(tokens[at - 1], tokens[at]), at - 1)).filter_map(ranked));
        *heap = BinaryHeap::from(pairs);

        while let Some(Reverse((new, at))) = heap.pop() {
            let right = next[at];
            // A token that was swallowed is NONE, and no merge contains NONE.
            if right == end || merged.get(tokens[at], tokens[right]) != new {
                continue;
            }
            let after = next[right];
            (tokens[at], tokens[right], next[at]) = (new, NONE, after);
            if after < end {
                previous[after] = at;
                heap.extend(ranked((merged.get(new, tokens[after]), at)));
            }
            if let Some(&before) = tokens.get(previous[at]) {
                heap.extend(ranked((merged.get(before, new), previous[at])));
            }
        }
        ids.extend(tokens.iter().filter(|token| **token != NONE));
    }
}

fn ranked((new, at): (u32, usize)) -> Option<Reverse<(u32, usize)>> {
    (new != NONE).then_some(Reverse((new, at)))
}
