//! Remembers the ids of pre-tokens, in bounded memory, and writes them where they are wanted.
//!
//! There are tables for words of up to 7 bytes and of up to 15, whose keys are numbers of 8 and 16 bytes. A word has two
//! places there in a line of memory, and two more in another; when all are taken, the elder of the first pair goes. A
//! place holds the key and room for some ids, with their number in the last of them. Longer words lie in an arena, which
//! is emptied when it is full.

use std::hint::select_unpredictable;

use crate::blocks::BATCH;
use crate::encode::Id;
use crate::word::{Key, TINY, hash_long, short_key, tiny_key};

/// Ids that are copied at once, whatever their number; a buffer needs so many more than it will hold.
pub(crate) const DESK: usize = 4;

/// Two places for so much text, within bounds.
const BYTES_PER_PAIR: usize = 64;
const LEAST_BITS: u32 = 10;
const MOST_BITS: u32 = 16;

/// Words of more bytes are not remembered.
const MOST_LONG_BYTES: usize = 256;
/// A place for so much text, within bounds.
const BYTES_PER_LONG: usize = 128;
/// Bytes of words for each place.
const LONG_BYTES: usize = 16;

/// The ids of words of up to 7 bytes.
pub(crate) type Tiny<I> = Table<u64, I, 4>;

/// The ids of words of up to 15 bytes.
pub(crate) type Short<I> = Table<u128, I, 8>;

/// The ids of words whose keys are numbers of the type `K`. A place has room for `ROOM` ids.
pub(crate) struct Table<K, I, const ROOM: usize> {
    pairs: Vec<Pair<K, I, ROOM>>,
    /// From a hash to its pair.
    shift: u32,
    /// Bytes of text so far.
    seen: usize,
}

/// Two places, in a line of memory where ids are narrow. A key of 0 marks an empty one.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Pair<K, I, const ROOM: usize> {
    keys: [K; 2],
    rooms: [Room<I, ROOM>; 2],
}

/// The ids of a word, with their number in the last one.
#[derive(Clone, Copy)]
pub(crate) struct Room<I, const ROOM: usize>([I; ROOM]);

impl<I: Id, const ROOM: usize> Room<I, ROOM> {
    fn empty() -> Self {
        Self([I::of(0); ROOM])
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.0[ROOM - 1].number() as usize
    }
}

impl<K: Key, I: Id, const ROOM: usize> Table<K, I, ROOM> {
    /// A word of more ids is not remembered.
    pub const MOST_IDS: usize = ROOM - 1;

    pub fn new() -> Self {
        Self { pairs: Vec::new(), shift: 0, seen: 0 }
    }

    /// Makes room for the words of `bytes` more bytes of text; forgets all where that takes a larger table.
    pub fn expect(&mut self, bytes: usize) {
        self.seen = self.seen.saturating_add(bytes);
        let bits = (self.seen / BYTES_PER_PAIR).checked_ilog2().unwrap_or(0).clamp(LEAST_BITS, MOST_BITS);
        let now = 64 - self.shift;
        // In steps, since every larger table begins empty.
        if self.pairs.is_empty() || bits > now + 2 || bits > now && bits == MOST_BITS {
            self.shift = 64 - bits;
            self.pairs = vec![Pair { keys: [K::default(); 2], rooms: [Room::empty(); 2] }; 1 << bits];
        }
    }

    /// Copies the first of the ids of `key` to `room`; how many they are, or 0 where its first pair of places does not
    /// have them or the room is too small.
    #[inline(always)]
    fn copy(&self, key: K, room: &mut [I; DESK]) -> u8 {
        let Pair { keys, rooms } = &self.pairs[self.first_pair(key.hash())];
        // Which place it is cannot be predicted, so nothing branches on it.
        let at = usize::from(keys[1] == key);
        room.copy_from_slice(&rooms[at].0[..DESK]);
        let count = rooms[at].count();
        let fits = ROOM - 1 <= DESK || count <= DESK;
        select_unpredictable(keys[at] == key, count as u8, 0) & u8::from(fits).wrapping_neg()
    }

    /// The ids of `key`, if one of its places has them.
    pub fn look(&self, key: K) -> Option<&[I]> {
        let hash = key.hash();
        let mut places = [self.first_pair(hash), self.second_pair(hash)].into_iter().map(|pair| &self.pairs[pair]);
        places.find_map(|Pair { keys, rooms }| {
            let at = keys.iter().position(|held| *held == key)?;
            Some(&rooms[at].0[..rooms[at].count()])
        })
    }

    #[inline(always)]
    fn first_pair(&self, hash: u64) -> usize {
        (hash >> self.shift) as usize
    }

    fn second_pair(&self, hash: u64) -> usize {
        self.first_pair((hash ^ hash >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// Remembers that `key` has the `ids`, at most [`Self::MOST_IDS`].
    pub fn remember(&mut self, key: K, ids: &[I]) {
        let hash = key.hash();
        let (first, second) = (self.first_pair(hash), self.second_pair(hash));
        let places = [(first, 0), (first, 1), (second, 0), (second, 1)];
        let free = places.into_iter().find(|&(pair, at)| self.pairs[pair].keys[at] == K::default());
        let (pair, at) = free.unwrap_or((first, 0));
        let Pair { keys, rooms } = &mut self.pairs[pair];
        if free.is_none() {
            (keys[1], rooms[1]) = (keys[0], rooms[0]);
        }
        keys[at] = key;
        rooms[at].0[..ids.len()].copy_from_slice(ids);
        rooms[at].0[ROOM - 1] = I::of(ids.len() as u32);
    }
}

/// The words of a batch while they are looked for.
pub(crate) struct Desk<I> {
    tiny: [u64; BATCH],
    /// Which words are not tiny.
    others: [u8; BATCH],
    short: [u128; BATCH],
    ids: [[I; DESK]; BATCH],
    counts: [u8; BATCH],
}

impl<I: Id> Desk<I> {
    pub fn new() -> Self {
        let ids = [[I::of(0); DESK]; BATCH];
        Self { tiny: [0; BATCH], others: [0; BATCH], short: [0; BATCH], ids, counts: [0; BATCH] }
    }

    /// Looks for the ids of the words that begin at `begin` and have the `ends`.
    ///
    /// All keys come first and then the tables, without a branch on what they hold, so that the memory answers for
    /// dozens of words side by side.
    #[inline(always)]
    pub fn look(&mut self, tiny: &Tiny<I>, short: &Short<I>, text: &[u8], begin: usize, ends: &[usize]) {
        let mut others = 0;
        let mut start = begin;
        for (at, (key, &end)) in self.tiny.iter_mut().zip(ends).enumerate() {
            *key = tiny_key(text, start, end);
            self.others[others % BATCH] = at as u8;
            others += usize::from(end - start > TINY);
            start = end;
        }
        let others = &self.others[..others.min(BATCH)];
        for (key, &at) in self.short.iter_mut().zip(others) {
            let (start, end) = span(begin, ends, at.into());
            *key = short_key(text, start, end);
        }
        for ((ids, count), &key) in self.ids.iter_mut().zip(&mut self.counts).zip(&self.tiny[..ends.len()]) {
            *count = tiny.copy(key, ids);
        }
        for (&at, &key) in others.iter().zip(&self.short) {
            let at = usize::from(at);
            self.counts[at] = short.copy(key, &mut self.ids[at]);
        }
    }

    /// Room for the ids of each word, and how many they are; 0 where the tables do not have them in their first places.
    #[inline(always)]
    pub fn found(&self) -> impl Iterator<Item = (&[I; DESK], usize)> {
        self.ids.iter().zip(self.counts.iter().map(|&count| count.into()))
    }
}

/// Where the word number `at` begins and ends, if the first begins at `begin`.
#[inline(always)]
pub(crate) fn span(begin: usize, ends: &[usize], at: usize) -> (usize, usize) {
    (if at == 0 { begin } else { ends[at - 1] }, ends[at])
}

/// The ids of long words.
#[derive(Default)]
pub(crate) struct Long {
    slots: Vec<LongSlot>,
    /// From a hash to its slot.
    shift: u32,
    /// Bytes of text so far.
    seen: usize,
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
    /// Makes room for the words of `bytes` more bytes of text.
    pub fn expect(&mut self, bytes: usize) {
        self.seen = self.seen.saturating_add(bytes);
        let bits = (self.seen / BYTES_PER_LONG).checked_ilog2().unwrap_or(0).clamp(LEAST_BITS, MOST_BITS);
        if self.slots.len() < 1 << bits {
            self.shift = 64 - bits;
            self.forget();
            self.slots.resize(1 << bits, LongSlot::default());
        }
    }

    fn forget(&mut self) {
        self.slots.fill(LongSlot::default());
        self.bytes.clear();
        self.ids.clear();
    }

    /// The ids of `word`, which are those that `find` appends to a list unless they are known.
    pub fn ids<E>(&mut self, word: &[u8], find: impl FnOnce(&mut Vec<u32>) -> Result<(), E>) -> Result<&[u32], E> {
        if word.len() > MOST_LONG_BYTES {
            self.unremembered.clear();
            find(&mut self.unremembered)?;
            return Ok(&self.unremembered);
        }
        if self.bytes.len() + word.len() > LONG_BYTES * self.slots.len() {
            self.forget();
        }
        let hash = hash_long(word);
        let at = (hash >> self.shift) as usize;
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
