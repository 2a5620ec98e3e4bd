//! Counts pre-tokens: one table per thread, merged when all texts are in.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::parallel;
use crate::split::Pattern;

/// How often each distinct word occurs. Words lie one after the other in an arena.
#[derive(Default)]
pub struct WordCounts {
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

impl WordCounts {
    pub fn add(&mut self, word: &[u8], count: u64) {
        let hash = hash(word);
        let Self { table, words, arena } = self;
        let same = |&at: &u32| {
            let known = &words[at as usize];
            known.hash == hash && &arena[known.start..known.start + known.len] == word
        };
        match table.find(hash, same) {
            Some(&at) => words[at as usize].count += count,
            None => {
                // Four billion distinct words of one byte and more exceed what `train` accepts.
                let at = words.len() as u32;
                words.push(Word { hash, start: arena.len(), len: word.len(), count });
                arena.extend_from_slice(word);
                table.insert_unique(hash, at, |&at| words[at as usize].hash);
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (word, count) in other.iter() {
            self.add(word, count);
        }
    }

    /// The distinct words with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.words.iter().map(|word| (&self.arena[word.start..word.start + word.len], word.count))
    }

    pub fn len(&self) -> usize {
        self.words.len()
    }

    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

fn hash(word: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(word);
    hasher.finish()
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
                self.pattern.each(piece.bytes, |start, end| counts.add(&piece.bytes[start..end], 1));
            }
        });
    }

    /// The counts of all texts so far. Whatever the threads, the words and their counts are the same; their order is not.
    pub fn finish(self) -> WordCounts {
        let mut tables = self.per_thread.into_iter();
        let mut all = tables.next().unwrap_or_default();
        tables.for_each(|table| all.merge(&table));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_beyond_32_bits_are_exact() {
        let mut counts = WordCounts::default();
        counts.add(b"the", u64::from(u32::MAX));
        counts.add(b"the", u64::from(u32::MAX));
        let mut other = WordCounts::default();
        other.add(b"the", 3);
        counts.merge(&other);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(&b"the"[..], 2 * u64::from(u32::MAX) + 3)]);
    }
}
