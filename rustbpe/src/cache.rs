//! Remembers the ids of pre-tokens, in bounded memory, and writes them where they are wanted.
//!
//! There are tables for words of up to 7 bytes and of up to 15, whose keys are numbers of 8 and 16 bytes. A word has two
//! places there in a line of memory, and two more in another; when all are taken, the elder of the first pair goes. A
//! place holds the key and room for some ids, with their number in the last of them, so that the whole room is copied at
//! once whatever the number. Longer words lie in an arena, which is emptied when it is full.

use crate::blocks::BATCH;
use crate::encode::Id;
use crate::word::{Key, SHORT, TINY, hash_long, short_key, tiny_key};

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
    #[inline(always)]
    pub fn empty() -> Self {
        Self([I::of(0); ROOM])
    }

    /// 0 where nothing was found.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.0[ROOM - 1].number() as usize
    }

    /// The same in less room, if they are at most three.
    #[inline(always)]
    fn narrow(&self) -> Room<I, 4> {
        let [first, second, third] = *self.0.first_chunk().expect("there is room for three");
        if self.count() > 3 { Room::empty() } else { Room([first, second, third, self.0[ROOM - 1]]) }
    }

    /// Writes all to the front of `buffer`; the number of ids.
    #[inline(always)]
    pub fn write(&self, buffer: &mut [I]) -> usize {
        buffer[..ROOM].copy_from_slice(&self.0);
        self.count()
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

    /// The ids of `key`, if one of its first pair of places has them.
    #[inline(always)]
    pub fn look(&self, key: K) -> Room<I, ROOM> {
        self.seek(self.first_pair(key.hash()), key)
    }

    /// The ids of `key`, if one of its places has them.
    pub fn look_everywhere(&self, key: K) -> Room<I, ROOM> {
        let room = self.look(key);
        if room.count() > 0 { room } else { self.seek(self.second_pair(key.hash()), key) }
    }

    #[inline(always)]
    fn first_pair(&self, hash: u64) -> usize {
        (hash >> self.shift) as usize
    }

    fn second_pair(&self, hash: u64) -> usize {
        self.first_pair((hash ^ hash >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    #[inline(always)]
    fn seek(&self, pair: usize, key: K) -> Room<I, ROOM> {
        let Pair { keys, rooms } = &self.pairs[pair];
        let second = if keys[1] == key { rooms[1] } else { Room::empty() };
        if keys[0] == key { rooms[0] } else { second }
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

/// The ids of each word, if they are at most three and the tables hold them in their first places.
///
/// That no word waits for another lets the memory answer side by side.
#[inline(always)]
pub(crate) fn look_for_all<I: Id>(
    (tiny, short): (&Tiny<I>, &Short<I>),
    text: &[u8],
    begin: usize,
    ends: &[usize],
    found: &mut [Room<I, 4>; BATCH],
) {
    let mut not_tiny = [(0, 0, 0); BATCH];
    let mut others = 0;
    let mut start = begin;
    for (at, (found, &end)) in found.iter_mut().zip(ends).enumerate() {
        *found = tiny.look(tiny_key(text, start, end));
        not_tiny[others % BATCH] = (at, start, end);
        others += usize::from(end - start > TINY);
        start = end;
    }
    for &(at, start, end) in &not_tiny[..others.min(BATCH)] {
        if end - start <= SHORT {
            found[at] = short.look(short_key(text, start, end)).narrow();
        }
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
