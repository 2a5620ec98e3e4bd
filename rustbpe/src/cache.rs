//! Remembers the ids of pre-tokens, in bounded memory, and writes them where they are wanted.
//!
//! A short pre-token has one of two places, which its hash chooses; the younger of the two stays when a third comes.
//! A place holds the key and room for some ids, with their number in the last of them, so that the whole room is copied at
//! once whatever the number. Long pre-tokens lie in an arena, which is emptied when it is full.

use std::num::NonZero;

use crate::word::{hash_long, hash_short};

/// A short pre-token of more ids is not remembered.
const ROOM: usize = 8;
pub(crate) const MOST_IDS: usize = ROOM - 1;

/// Ids written at once; a buffer needs so many more than it will hold.
pub(crate) const SLACK: usize = ROOM;

/// Two places for so much text, within bounds: 64 kB of memory up to 4 MB.
const BYTES_PER_PAIR: usize = 32;
const LEAST_BITS: u32 = 10;
const MOST_BITS: u32 = 16;

/// Long pre-tokens of more bytes are not remembered.
const MOST_LONG_BYTES: usize = 256;
const LONG_BITS: u32 = 14;
const LONG_ARENA: usize = 1 << 18;

/// The short pre-tokens' ids, each `WIDTH` bytes wide.
pub(crate) struct Short<const WIDTH: usize> {
    /// Two places for each hash: key, ids, key, ids. Ids take `WIDTH / 2` numbers.
    places: Vec<u128>,
    /// Numbers before the first that lies at the beginning of a cache line.
    skipped: usize,
    bits: u32,
    /// Bytes of text so far.
    seen: usize,
    /// Whether a place was taken from another key since the last `look`.
    moved: bool,
}

impl<const WIDTH: usize> Short<WIDTH> {
    const IDS: usize = WIDTH * ROOM / 16;
    const PAIR: usize = 2 * (1 + Self::IDS);

    pub fn new() -> Self {
        Self { places: Vec::new(), skipped: 0, bits: 0, seen: 0, moved: false }
    }

    /// Makes room for the pre-tokens of `bytes` more bytes of text; forgets all where that takes a larger table.
    pub fn expect(&mut self, bytes: usize) {
        self.seen = self.seen.saturating_add(bytes);
        let bits = (self.seen / BYTES_PER_PAIR).checked_ilog2().unwrap_or(0).clamp(LEAST_BITS, MOST_BITS);
        // In steps, since every larger table begins empty.
        if self.places.is_empty() || bits > self.bits + 2 || bits > self.bits && bits == MOST_BITS {
            self.bits = bits;
            self.places = vec![0; (Self::PAIR << bits) + 4];
            self.skipped = self.places.as_ptr().align_offset(64).min(4);
        }
    }

    /// Looks for the first pair of places of each key at once, so that the memory answers them side by side.
    #[inline]
    pub fn look(&mut self, keys: &[u128], found: &mut [Option<NonZero<u32>>]) {
        self.moved = false;
        for (key, found) in keys.iter().zip(found) {
            *found = self.seek(self.pair(hash_short(*key)), *key);
        }
    }

    /// Where the ids of `key` are, in any of its places.
    pub fn look_everywhere(&self, key: u128) -> Option<NonZero<u32>> {
        let hash = hash_short(key);
        self.seek(self.second_pair(hash), key).or_else(|| self.seek(self.pair(hash), key))
    }

    /// Whether what `look` found is still there.
    #[inline]
    pub fn still(&self, place: NonZero<u32>, key: u128) -> bool {
        !self.moved || self.places[place.get() as usize - 1] == key
    }

    #[inline]
    fn pair(&self, hash: u64) -> usize {
        self.skipped + Self::PAIR * (hash >> (64 - self.bits)) as usize
    }

    fn second_pair(&self, hash: u64) -> usize {
        self.pair(hash.swap_bytes())
    }

    /// Where the ids of `key` begin, if one of the two places holds it.
    #[inline]
    fn seek(&self, pair: usize, key: u128) -> Option<NonZero<u32>> {
        let places = &self.places[pair..pair + Self::PAIR];
        let (first, second) = (places[0] == key, places[Self::PAIR / 2] == key);
        let at = pair as u32 + if first { 1 } else { 1 + Self::PAIR as u32 / 2 };
        if first | second { NonZero::new(at) } else { None }
    }

    /// Writes the ids at `place` to the front of `buffer`; their number.
    #[inline]
    pub fn write(&self, place: NonZero<u32>, buffer: &mut [u8]) -> usize {
        let ids = &self.places[place.get() as usize..][..Self::IDS];
        for (place, part) in buffer[..WIDTH * ROOM].chunks_exact_mut(16).zip(ids) {
            place.copy_from_slice(&part.to_ne_bytes());
        }
        usize::from(ids[Self::IDS - 1].to_ne_bytes()[COUNT])
    }

    /// Remembers that `key` has the `count` ids at the front of `written`: in a free place, or in that of the elder of
    /// the first pair.
    pub fn remember(&mut self, key: u128, written: &[u8], count: usize) {
        let (hash, half) = (hash_short(key), Self::PAIR / 2);
        let (first, second) = (self.pair(hash), self.second_pair(hash));
        let at = match [first, first + half, second, second + half].into_iter().find(|at| self.places[*at] == 0) {
            Some(free) => free,
            None => {
                self.moved = true;
                self.places.copy_within(first..first + half, first + half);
                first
            }
        };
        self.places[at] = key;
        let mut bytes = [0; 4 * ROOM];
        bytes[..WIDTH * count].copy_from_slice(&written[..WIDTH * count]);
        bytes[WIDTH * ROOM - 16 + COUNT] = count as u8;
        for (place, part) in self.places[at + 1..at + half].iter_mut().zip(bytes.as_chunks::<16>().0) {
            *place = u128::from_ne_bytes(*part);
        }
    }
}

/// The byte that holds the number of ids, in the last 16 bytes of a place.
const COUNT: usize = 15;

/// The long pre-tokens' ids.
#[derive(Default)]
pub(crate) struct Long {
    slots: Vec<LongSlot>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
    unremembered: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct LongSlot {
    hash: u64,
    start: u32,
    len: u32,
    ids: u32,
    count: u32,
}

impl Long {
    /// The ids of `word`, which are those that `find` appends to a list unless they are known.
    pub fn ids<E>(&mut self, word: &[u8], find: impl FnOnce(&mut Vec<u32>) -> Result<(), E>) -> Result<&[u32], E> {
        if word.len() > MOST_LONG_BYTES {
            self.unremembered.clear();
            find(&mut self.unremembered)?;
            return Ok(&self.unremembered);
        }
        if self.bytes.len() + word.len() > LONG_ARENA {
            self.slots.fill(LongSlot::default());
            self.bytes.clear();
            self.ids.clear();
        }
        if self.slots.is_empty() {
            self.slots.resize(1 << LONG_BITS, LongSlot::default());
        }
        let hash = hash_long(word);
        let at = (hash >> (64 - LONG_BITS)) as usize;
        let known = self.slots[at];
        if known.hash == hash && self.bytes[known.start as usize..(known.start + known.len) as usize] == *word {
            return Ok(&self.ids[known.ids as usize..(known.ids + known.count) as usize]);
        }
        let start = self.ids.len();
        find(&mut self.ids)?;
        self.slots[at] = LongSlot {
            hash,
            start: self.bytes.len() as u32,
            len: word.len() as u32,
            ids: start as u32,
            count: (self.ids.len() - start) as u32,
        };
        self.bytes.extend_from_slice(word);
        Ok(&self.ids[start..])
    }
}
