//! Encodes texts and decodes ids with a trained vocabulary.

use std::iter;
use std::sync::{Mutex, PoisonError};

use crate::blocks::Batches;
use crate::cache::{DESK, Desk, Long, Short, Tiny, span};
use crate::error::Error;
use crate::merge::{Merges, Queue};
use crate::parallel;
use crate::split::{Gpt2, Gpt4, Pattern, Rules};
use crate::train::BYTES;
use crate::word::{NOT_TINY, SHORT, short_key, tiny_key};

/// Merges that double a token's length each time would otherwise fill the memory.
pub const MAX_VOCABULARY_BYTES: usize = 1 << 30;

/// Room for more ids is given back after use.
const KEPT: usize = 1 << 19;

/// Tokens up to this length are copied as one.
const WIDE: usize = 16;

/// A trained vocabulary: bytes, merges in order, specials.
pub struct Bpe {
    pattern: Pattern,
    merges: Merges,
    /// Where the bytes of each token begin in `arena`, and the end of the last one.
    starts: Vec<u32>,
    /// Ends with `WIDE` bytes that belong to no token.
    arena: Vec<u8>,
    specials: usize,
    pools: Pools,
}

/// What calls that have ended leave to later ones: one worker for each thread that there was at once.
#[derive(Default)]
pub struct Pools {
    narrow: Mutex<Vec<Worker<u16>>>,
    wide: Mutex<Vec<Worker<u32>>>,
}

/// An id as callers want it.
pub trait Id: Copy + Send + Sync {
    /// `id` must fit.
    fn of(id: u32) -> Self;
    fn number(self) -> u32;
    fn pool(pools: &Pools) -> &Mutex<Vec<Worker<Self>>>;
}

impl Id for u16 {
    fn of(id: u32) -> Self {
        id as u16
    }

    fn number(self) -> u32 {
        self.into()
    }

    fn pool(pools: &Pools) -> &Mutex<Vec<Worker<Self>>> {
        &pools.narrow
    }
}

impl Id for u32 {
    fn of(id: u32) -> Self {
        id
    }

    fn number(self) -> u32 {
        self
    }

    fn pool(pools: &Pools) -> &Mutex<Vec<Worker<Self>>> {
        &pools.wide
    }
}

/// The ids of some texts.
pub struct Encoded<I> {
    /// All ids in the order of the texts.
    pub parts: Vec<Vec<I>>,
    /// How many ids each text has.
    pub counts: Vec<usize>,
}

impl Bpe {
    /// `byte_order[id]` is the byte that a token of one byte stands for.
    pub fn new(
        pattern: Pattern,
        byte_order: &[u8; BYTES as usize],
        merges: &[(u32, u32)],
        specials: &[&[u8]],
    ) -> Result<Self, Error> {
        let mut byte_ids = [u32::MAX; BYTES as usize];
        (0..).zip(byte_order).for_each(|(id, &byte)| byte_ids[usize::from(byte)] = id);
        if byte_ids.contains(&u32::MAX) {
            return Err(Error::BadByteOrder);
        }
        let table = Merges::new(byte_ids, merges)?;
        let mut arena = byte_order.to_vec();
        let mut starts: Vec<u32> = (0..=BYTES).collect();
        let mut end_token = |arena: &Vec<u8>| {
            starts.push(arena.len() as u32);
            if arena.len() > MAX_VOCABULARY_BYTES || starts.len() > crate::merge::MAX_VOCABULARY + 1 {
                return Err(Error::VocabularyTooLarge { tokens: starts.len() - 1 });
            }
            Ok(())
        };
        let mut spans: Vec<(usize, usize)> = (0..BYTES as usize).map(|at| (at, at + 1)).collect();
        for &(left, right) in merges {
            let start = arena.len();
            for part in [left as usize, right as usize] {
                arena.extend_from_within(spans[part].0..spans[part].1);
            }
            spans.push((start, arena.len()));
            end_token(&arena)?;
        }
        for special in specials {
            arena.extend_from_slice(special);
            end_token(&arena)?;
        }
        arena.resize(arena.len() + WIDE, 0);
        Ok(Self { pattern, merges: table, starts, arena, specials: specials.len(), pools: Pools::default() })
    }

    pub fn vocab_size(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether ids need more than 16 bits.
    pub fn is_wide(&self) -> bool {
        self.vocab_size() > 1 << 16
    }

    /// Bytes per token id; 0 for specials, which stand for no text.
    pub fn token_lengths(&self) -> Vec<u32> {
        let text = self.starts.len() - self.specials;
        let lengths = self.starts[..text].windows(2).map(|span| span[1] - span[0]);
        lengths.chain(iter::repeat_n(0, self.specials)).collect()
    }

    /// The ids of all texts. `threads` share the work.
    ///
    /// # Panics
    /// Where ids are wide and `I` is not.
    pub fn encode<I: Id>(&self, texts: &[&[u8]], threads: usize) -> Result<Encoded<I>, Error> {
        assert!(size_of::<I>() > 2 || !self.is_wide(), "16 bits are too few for the ids");
        let pieces = parallel::pieces(texts);
        // All ids of one thread are one part.
        let jobs = if threads == 1 { iter::once(0..pieces.len()).collect() } else { parallel::jobs(&pieces) };
        let threads = threads.clamp(1, jobs.len().max(1));
        let pool = || I::pool(&self.pools).lock().unwrap_or_else(PoisonError::into_inner);
        let mut workers = {
            let mut idle = pool();
            let kept = idle.len().saturating_sub(threads);
            idle.split_off(kept)
        };
        workers.resize_with(threads, Worker::new);
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        workers.iter_mut().for_each(|worker| worker.expect(bytes / threads));
        let done = parallel::share(&mut workers, &jobs, |worker, job| {
            let mut ids = Vec::new();
            let mut ends = Vec::with_capacity(job.len());
            for piece in &pieces[job.clone()] {
                worker.encode(self, piece.bytes, &mut ids)?;
                ends.push(ids.len());
            }
            Ok((ids, ends))
        });
        workers.iter_mut().for_each(Worker::shrink);
        pool().append(&mut workers);

        let done = done.into_iter().collect::<Result<Vec<_>, Error>>()?;
        let mut counts = vec![0; texts.len()];
        for (job, (_, ends)) in jobs.iter().zip(&done) {
            let mut start = 0;
            for (piece, &end) in pieces[job.clone()].iter().zip(ends) {
                counts[piece.text] += end - start;
                start = end;
            }
        }
        Ok(Encoded { parts: done.into_iter().map(|(ids, _)| ids).collect(), counts })
    }

    /// The bytes that `ids` stand for; a special stands for its own text.
    pub fn decode<I: Id>(&self, ids: &[I]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut room = [0; WIDE * 256];
        for (block, chunk) in ids.chunks(room.len() / WIDE).enumerate() {
            let mut used = 0;
            for (at, &id) in chunk.iter().enumerate() {
                let id = id.number();
                let Some([start, end]) = self.starts.get(id as usize..).and_then(|starts| starts.first_chunk()) else {
                    let index = block * (room.len() / WIDE) + at;
                    return Err(Error::BadId { index, id, vocab_size: self.vocab_size() });
                };
                let (start, len) = (*start as usize, (end - start) as usize);
                if len <= WIDE {
                    room[used..used + WIDE].copy_from_slice(&self.arena[start..start + WIDE]);
                    used += len;
                } else {
                    bytes.extend_from_slice(&room[..used]);
                    bytes.extend_from_slice(&self.arena[start..start + len]);
                    used = 0;
                }
            }
            bytes.extend_from_slice(&room[..used]);
        }
        Ok(bytes)
    }
}

impl<I: Id> Encoded<I> {
    /// All ids.
    pub fn into_ids(mut self) -> Vec<I> {
        if self.parts.len() == 1 { self.parts.remove(0) } else { self.parts.concat() }
    }
}

/// What one thread needs.
pub struct Worker<I> {
    tiny: Tiny<I>,
    /// Where ids are written.
    room: Vec<I>,
    other: Other<I>,
}

/// What only words need that are not found among the tiny ones.
struct Other<I> {
    short: Short<I>,
    long: Long,
    queue: Queue,
    /// The ids of one word.
    fresh: Vec<u32>,
    failure: Option<Error>,
}

impl<I: Id> Worker<I> {
    fn new() -> Self {
        let (long, queue) = (Long::default(), Queue::default());
        let other = Other { short: Short::new(), long, queue, fresh: Vec::new(), failure: None };
        Self { tiny: Tiny::new(), room: Vec::new(), other }
    }

    /// Makes room to remember the words of `bytes` more bytes of text.
    fn expect(&mut self, bytes: usize) {
        self.tiny.expect(bytes);
        self.other.short.expect(bytes / 2);
        self.other.long.expect(bytes);
    }

    /// Appends the ids of `text` to `ids`.
    fn encode(&mut self, bpe: &Bpe, text: &[u8], ids: &mut Vec<I>) -> Result<(), Error> {
        match bpe.pattern {
            Pattern::Gpt4 => self.encode_by::<Gpt4<2>>(bpe, text, ids),
            Pattern::Cl100k => self.encode_by::<Gpt4<3>>(bpe, text, ids),
            Pattern::Gpt2 => self.encode_by::<Gpt2>(bpe, text, ids),
        }
    }

    fn encode_by<R: Rules>(&mut self, bpe: &Bpe, text: &[u8], ids: &mut Vec<I>) -> Result<(), Error> {
        let Self { tiny, room, other } = self;
        let needed = text.len() + DESK;
        if room.len() < needed {
            room.resize(needed, I::of(0));
        }
        let room = &mut room[..needed];
        let mut used = 0;
        let mut desk = Desk::new();
        let mut batches = Batches::<R>::of(text);
        while let Some((begin, ends)) = batches.next_batch() {
            desk.look(tiny, &other.short, text, begin, ends);
            for (at, (found, count)) in desk.found().take(ends.len()).enumerate() {
                let room = &mut room[used..];
                room[..DESK].copy_from_slice(found);
                used += if count > 0 { count } else { other.find(bpe, tiny, text, span(begin, ends, at), room) };
            }
        }
        ids.extend_from_slice(&room[..used]);
        other.failure.take().map_or(Ok(()), Err)
    }

    /// Gives memory back that only a rare long text needs.
    fn shrink(&mut self) {
        self.room.truncate(KEPT);
        self.room.shrink_to_fit();
        self.other.queue.shrink();
    }
}

impl<I: Id> Other<I> {
    /// Writes the ids of a word to the front of `room`, and remembers them; how many.
    #[inline(never)]
    fn find(&mut self, bpe: &Bpe, tiny: &mut Tiny<I>, text: &[u8], span: (usize, usize), room: &mut [I]) -> usize {
        let (start, end) = span;
        let word = &text[start..end];
        if word.len() > SHORT {
            return self.find_long(bpe, word, room);
        }
        let (key, short) = (tiny_key(text, start, end), short_key(text, start, end));
        if let Some(ids) = tiny.look(key).or_else(|| self.short.look(short)) {
            room[..ids.len()].copy_from_slice(ids);
            return ids.len();
        }
        self.fresh.clear();
        bpe.merges.scan(word, &mut self.fresh);
        let count = write(&self.fresh, room);
        if key != NOT_TINY && count <= Tiny::<I>::MOST_IDS {
            tiny.remember(key, &room[..count]);
        } else if count <= Short::<I>::MOST_IDS {
            self.short.remember(short, &room[..count]);
        }
        count
    }

    fn find_long(&mut self, bpe: &Bpe, word: &[u8], room: &mut [I]) -> usize {
        match self.long.ids(word, |ids| bpe.merges.apply(word, &mut self.queue, ids)) {
            Ok(ids) => write(ids, room),
            Err(error) => {
                self.failure = Some(error);
                0
            }
        }
    }
}

/// Writes `ids` to the front of `buffer`; how many.
fn write<I: Id>(ids: &[u32], buffer: &mut [I]) -> usize {
    buffer.iter_mut().zip(ids).for_each(|(place, id)| *place = I::of(*id));
    ids.len()
}
