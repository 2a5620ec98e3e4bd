//! Counts pre-tokens: one table per thread, merged when all texts are in.

use std::{mem, thread};

use hashbrown::HashTable;

use crate::parallel;
use crate::split::Pattern;
use crate::word::{SHORT, hash_long, hash_short, short_bytes, short_key};

/// Slots of the smallest table.
const FEWEST_SLOTS: usize = 1 << 8;

/// How often each distinct word occurs. None of the words is empty.
#[derive(Default)]
pub struct WordCounts {
    short: ShortCounts,
    long: LongCounts,
}

impl WordCounts {
    /// Counts the word `text[start..end]`, which must not be empty, `count` times more.
    #[inline]
    pub fn add(&mut self, text: &[u8], start: usize, end: usize, count: u64) {
        debug_assert!(start < end);
        if end - start <= SHORT {
            self.short.add(short_key(text, start, end), count);
        } else {
            self.long.add(&text[start..end], count);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        other.short.slots.iter().filter(|slot| slot.key != 0).for_each(|slot| self.short.add(slot.key, slot.count));
        other.long.iter().for_each(|(word, count)| self.long.add(word, count));
    }

    /// Calls `take` with each distinct word and its count, in no particular order.
    pub fn each(&self, mut take: impl FnMut(&[u8], u64)) {
        for slot in self.short.slots.iter().filter(|slot| slot.key != 0) {
            let (bytes, len) = short_bytes(slot.key);
            take(&bytes[..len], slot.count);
        }
        self.long.iter().for_each(|(word, count)| take(word, count));
    }

    /// The number of distinct words.
    pub fn len(&self) -> usize {
        self.short.len + self.long.words.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Aligned so that no slot lies in two cache lines. A key of 0 marks an empty one.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Slot {
    key: u128,
    count: u64,
}

/// Counts of the words that [`short_key`] takes, by open addressing with linear probing, at most half full. The slot of
/// a word is that of the highest bits of its hash.
#[derive(Default)]
struct ShortCounts {
    slots: Vec<Slot>,
    shift: u32,
    len: usize,
}

impl ShortCounts {
    #[inline]
    fn add(&mut self, key: u128, count: u64) {
        if 2 * self.len >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = (hash_short(key) >> self.shift) as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.key == key {
                slot.count += count;
                return;
            }
            if slot.key == 0 {
                *slot = Slot { key, count };
                self.len += 1;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let slots = (2 * self.slots.len()).max(FEWEST_SLOTS);
        let old = mem::replace(&mut self.slots, vec![Slot::default(); slots]);
        self.shift = 64 - slots.trailing_zeros();
        self.len = 0;
        old.into_iter().filter(|slot| slot.key != 0).for_each(|slot| self.add(slot.key, slot.count));
    }
}

/// Counts of longer words, which lie one after the other in an arena.
#[derive(Default)]
struct LongCounts {
    table: HashTable<u32>,
    words: Vec<Word>,
    arena: Vec<u8>,
}

struct Word {
    hash: u64,
    start: usize,
    len: usize,
    count: u64,
}

impl LongCounts {
    fn add(&mut self, word: &[u8], count: u64) {
        let hash = hash_long(word);
        let Self { table, words, arena } = self;
        let same = |&at: &u32| {
            let known = &words[at as usize];
            known.hash == hash && &arena[known.start..known.start + known.len] == word
        };
        match table.find(hash, same) {
            Some(&at) => words[at as usize].count += count,
            None => {
                // Four billion distinct words of this length exceed what `train` accepts.
                let at = words.len() as u32;
                words.push(Word { hash, start: arena.len(), len: word.len(), count });
                arena.extend_from_slice(word);
                table.insert_unique(hash, at, |&at| words[at as usize].hash);
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.words.iter().map(|word| (&self.arena[word.start..word.start + word.len], word.count))
    }
}

/// Counts the pre-tokens of texts that come in batches.
pub struct Counter {
    pattern: Pattern,
    per_thread: Vec<WordCounts>,
}

impl Counter {
    pub fn new(pattern: Pattern, threads: usize) -> Self {
        Self { pattern, per_thread: (0..threads.max(1)).map(|_| WordCounts::default()).collect() }
    }

    pub fn update(&mut self, texts: &[&[u8]]) {
        let pieces = parallel::pieces(texts);
        parallel::share(&mut self.per_thread, &parallel::jobs(&pieces), |counts, job| {
            for piece in &pieces[job.clone()] {
                self.pattern.each(piece.bytes, |start, end| counts.add(piece.bytes, start, end, 1));
            }
        });
    }

    /// The counts of all texts so far. Whatever the threads, the words and their counts are the same; their order is
    /// not.
    pub fn finish(self) -> WordCounts {
        let mut tables = self.per_thread;
        while tables.len() > 1 {
            let others = tables.split_off(tables.len().div_ceil(2));
            thread::scope(|scope| {
                for (table, other) in tables.iter_mut().zip(&others) {
                    scope.spawn(|| table.merge(other));
                }
            });
        }
        tables.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(counts: &WordCounts) -> Vec<(Vec<u8>, u64)> {
        let mut all = Vec::new();
        counts.each(|word, count| all.push((word.to_vec(), count)));
        all.sort();
        all
    }

    #[test]
    fn counts_beyond_32_bits_are_exact() {
        let words = [&b"the"[..], b"fifteen letters", b"longer than fifteen bytes"];
        let (mut counts, mut other) = (WordCounts::default(), WordCounts::default());
        for word in words {
            counts.add(word, 0, word.len(), u64::from(u32::MAX));
            counts.add(word, 0, word.len(), u64::from(u32::MAX));
            other.add(word, 0, word.len(), 3);
        }
        counts.merge(&other);
        let expected = 2 * u64::from(u32::MAX) + 3;
        let mut words = words.map(|word| (word.to_vec(), expected));
        words.sort();
        assert_eq!(sorted(&counts), words);
    }

    #[test]
    fn growing_keeps_every_count() {
        let mut counts = WordCounts::default();
        let words: Vec<Vec<u8>> =
            (0..5000_u32).map(|n| format!("{n},").repeat(1 + n as usize % 6).into_bytes()).collect();
        for times in 1..=3 {
            words.iter().for_each(|word| counts.add(word, 0, word.len(), times));
        }
        let mut expected: Vec<(Vec<u8>, u64)> = words.into_iter().map(|word| (word, 6)).collect();
        expected.sort();
        assert_eq!(counts.len(), expected.len());
        assert_eq!(sorted(&counts), expected);
    }
}
