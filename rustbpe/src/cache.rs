//! Remembers the ids of pre-tokens, in bounded memory, and writes them where they are wanted.
//!
//! There are tables for words of up to 7 bytes and of up to 15, whose keys are numbers of 8 and 16 bytes. A word has two
//! places there in a line of memory, and two more in another; when all are taken, the elder of the first pair goes. A
//! place holds the key and room for some ids, with their number in the last of them, so that the whole room is copied at
//! once whatever the number. Longer words lie in an arena, which is emptied when it is full.

use std::marker::PhantomData;
use std::num::NonZero;

use crate::encode::Id;
use crate::word::{Key, hash_long};

/// The most ids that a table copies at once; a buffer needs so many more than it will hold.
pub(crate) const SLACK: usize = 8;

/// Two places for so much text, within bounds.
const BYTES_PER_PAIR: usize = 64;
const LEAST_BITS: u32 = 10;
const MOST_BITS: u32 = 16;

/// Words of more bytes are not remembered.
const MOST_LONG_BYTES: usize = 256;
const LONG_BITS: u32 = 14;
const LONG_ARENA: usize = 1 << 18;

/// Where a table holds the ids of a word.
pub(crate) type Place = NonZero<u32>;

/// The ids of short words. A place has two bytes of ids for each byte of a key.
pub(crate) struct Table<K, I> {
    /// Key, ids, key, ids for each hash.
    cells: Vec<K>,
    /// Cells before the first that lies at the beginning of a line of memory.
    skipped: usize,
    bits: u32,
    /// Bytes of text so far.
    seen: usize,
    ids: PhantomData<I>,
}

impl<K: Key, I: Id> Table<K, I> {
    const KEY_BYTES: usize = size_of::<K>();
    /// Cells of the ids of a word, of which the last byte is their number.
    const IDS: usize = size_of::<I>() / 2;
    const PLACE: usize = 1 + Self::IDS;
    const PAIR: usize = 2 * Self::PLACE;
    /// A word of more ids is not remembered.
    pub const MOST_IDS: usize = Self::KEY_BYTES / 2 - 1;

    pub fn new() -> Self {
        Self { cells: Vec::new(), skipped: 0, bits: 0, seen: 0, ids: PhantomData }
    }

    /// Makes room for the words of `bytes` more bytes of text; forgets all where that takes a larger table.
    pub fn expect(&mut self, bytes: usize) {
        self.seen = self.seen.saturating_add(bytes);
        let bits = (self.seen / BYTES_PER_PAIR).checked_ilog2().unwrap_or(0).clamp(LEAST_BITS, MOST_BITS);
        // In steps, since every larger table begins empty.
        if self.cells.is_empty() || bits > self.bits + 2 || bits > self.bits && bits == MOST_BITS {
            let line = 64 / Self::KEY_BYTES;
            self.bits = bits;
            self.cells = vec![K::default(); (Self::PAIR << bits) + line];
            self.skipped = self.cells.as_ptr().align_offset(64).min(line);
        }
    }

    /// Where the ids of `key` are, if in the first pair of its places.
    #[inline]
    pub fn look(&self, key: K) -> Option<Place> {
        self.seek(self.pair(key.hash()), key)
    }

    /// Where the ids of `key` are.
    pub fn look_everywhere(&self, key: K) -> Option<Place> {
        self.look(key).or_else(|| self.seek(self.second_pair(key.hash()), key))
    }

    #[inline]
    fn pair(&self, hash: u64) -> usize {
        self.skipped + Self::PAIR * (hash >> (64 - self.bits)) as usize
    }

    fn second_pair(&self, hash: u64) -> usize {
        self.pair((hash ^ hash >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    #[inline]
    fn seek(&self, pair: usize, key: K) -> Option<Place> {
        let cells = &self.cells[pair..pair + Self::PAIR];
        let (first, second) = (cells[0] == key, cells[Self::PLACE] == key);
        let at = pair as u32 + 1 + if first { 0 } else { Self::PLACE as u32 };
        if first | second { Place::new(at) } else { None }
    }

    /// Writes the ids at `place` to the front of `buffer`; how many.
    #[inline]
    pub fn write(&self, place: Place, buffer: &mut [I]) -> usize {
        let at = place.get() as usize;
        let ids: &[I] = bytemuck::cast_slice(&self.cells[at..at + Self::IDS]);
        buffer[..=Self::MOST_IDS].copy_from_slice(ids);
        usize::from(bytemuck::bytes_of(&ids[Self::MOST_IDS])[size_of::<I>() - 1])
    }

    /// Remembers that `key` has the `ids`; the places that now belong to other words.
    pub fn remember(&mut self, key: K, ids: &[I]) -> Option<[Place; 2]> {
        let hash = key.hash();
        let (first, second) = (self.pair(hash), self.second_pair(hash));
        let all = [first, first + Self::PLACE, second, second + Self::PLACE];
        let free = all.into_iter().find(|at| self.cells[*at] == K::default());
        if free.is_none() {
            self.cells.copy_within(first..first + Self::PLACE, first + Self::PLACE);
        }
        let at = free.unwrap_or(first);
        self.cells[at] = key;
        let place = &mut self.cells[at + 1..at + Self::PLACE];
        bytemuck::cast_slice_mut(place)[..ids.len()].copy_from_slice(ids);
        bytemuck::cast_slice_mut(place)[Self::IDS * Self::KEY_BYTES - 1] = ids.len() as u8;
        let place = |at: usize| Place::new(at as u32 + 1);
        if free.is_none() { Some([place(first)?, place(first + Self::PLACE)?]) } else { None }
    }
}

/// The ids of long words.
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
