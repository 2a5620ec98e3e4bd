//! Encodes texts and decodes ids with a trained vocabulary.

use std::sync::{Mutex, PoisonError};

use crate::blocks::BATCH;
use crate::cache::{Long, Place, SLACK, Table};
use crate::error::Error;
use crate::merge::{Merges, Queue};
use crate::parallel;
use crate::split::Pattern;
use crate::train::BYTES;
use crate::word::{NOT_TINY, SHORT, short_key, tiny_key};

/// Merges that double a token's length each time would otherwise fill the memory.
pub const MAX_VOCABULARY_BYTES: usize = 1 << 30;

/// Buffers beyond this are given back after use.
const KEPT_BYTES: usize = 1 << 20;

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
    // What calls that have ended leave to later ones; there is at most one for each thread that there was at once.
    narrow: Mutex<Vec<Worker<2>>>,
    wide: Mutex<Vec<Worker<4>>>,
}

/// The ids of some texts.
pub struct Encoded {
    /// All ids in the order of the texts, in native byte order.
    pub parts: Vec<Vec<u8>>,
    /// Bytes per id: 2 or 4.
    pub width: usize,
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
        for (id, &byte) in byte_order.iter().enumerate() {
            if byte_ids[usize::from(byte)] != u32::MAX {
                return Err(Error::BadByteOrder { byte });
            }
            byte_ids[usize::from(byte)] = id as u32;
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
        let (narrow, wide) = Default::default();
        Ok(Self { pattern, merges: table, starts, arena, specials: specials.len(), narrow, wide })
    }

    pub fn vocab_size(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bytes per id of what `encode` gives.
    pub fn width(&self) -> usize {
        if self.vocab_size() > 1 << 16 { 4 } else { 2 }
    }

    /// Bytes per token id; 0 for specials, which stand for no text.
    pub fn token_lengths(&self) -> Vec<u32> {
        let text = self.starts.len() - self.specials;
        let lengths = self.starts[..text].windows(2).map(|span| span[1] - span[0]);
        lengths.chain(std::iter::repeat_n(0, self.specials)).collect()
    }

    /// The ids of all texts. `threads` share the work.
    pub fn encode(&self, texts: &[&[u8]], threads: usize) -> Result<Encoded, Error> {
        match self.width() {
            2 => self.encode_with(&self.narrow, texts, threads),
            _ => self.encode_with(&self.wide, texts, threads),
        }
    }

    fn encode_with<const WIDTH: usize>(
        &self,
        idle: &Mutex<Vec<Worker<WIDTH>>>,
        texts: &[&[u8]],
        threads: usize,
    ) -> Result<Encoded, Error> {
        let pieces = parallel::pieces(texts);
        let jobs = parallel::jobs(&pieces);
        let threads = threads.clamp(1, jobs.len().max(1));
        let mut workers = {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
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
                ends.push(ids.len() / WIDTH);
            }
            Ok((ids, ends))
        });
        workers.iter_mut().for_each(Worker::shrink);
        idle.lock().unwrap_or_else(PoisonError::into_inner).append(&mut workers);

        let done = done.into_iter().collect::<Result<Vec<_>, Error>>()?;
        let mut counts = vec![0; texts.len()];
        for (job, (_, ends)) in jobs.iter().zip(&done) {
            let mut start = 0;
            for (piece, &end) in pieces[job.clone()].iter().zip(ends) {
                counts[piece.text] += end - start;
                start = end;
            }
        }
        Ok(Encoded { parts: done.into_iter().map(|(ids, _)| ids).collect(), width: WIDTH, counts })
    }

    /// The bytes that `ids` stand for; a special stands for its own text.
    pub fn decode<Id: Copy + Into<u32>>(&self, ids: &[Id]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut room = [0; WIDE * 256];
        for (block, chunk) in ids.chunks(room.len() / WIDE).enumerate() {
            let mut used = 0;
            for (at, &id) in chunk.iter().enumerate() {
                let id: u32 = id.into();
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

impl Encoded {
    /// All ids.
    pub fn ids(&self) -> Vec<u32> {
        let bytes = self.parts.concat();
        match self.width {
            2 => bytes.as_chunks().0.iter().map(|id| u32::from(u16::from_ne_bytes(*id))).collect(),
            _ => bytes.as_chunks().0.iter().map(|id| u32::from_ne_bytes(*id)).collect(),
        }
    }
}

/// What one thread needs.
struct Worker<const WIDTH: usize> {
    tiny: Table<u64, WIDTH>,
    short: Table<u128, WIDTH>,
    long: Long,
    queue: Queue,
    /// The ids of one word.
    fresh: Vec<u32>,
    /// Where ids are written.
    room: Vec<u8>,
}

impl<const WIDTH: usize> Worker<WIDTH> {
    fn new() -> Self {
        Self {
            tiny: Table::new(),
            short: Table::new(),
            long: Long::default(),
            queue: Queue::default(),
            fresh: Vec::new(),
            room: Vec::new(),
        }
    }

    /// Makes room to remember the words of `bytes` more bytes of text.
    fn expect(&mut self, bytes: usize) {
        self.tiny.expect(bytes);
        self.short.expect(bytes / 2);
    }

    /// Appends the ids of `text` to `ids`.
    fn encode(&mut self, bpe: &Bpe, text: &[u8], ids: &mut Vec<u8>) -> Result<(), Error> {
        let needed = (text.len() + SLACK) * WIDTH;
        if self.room.len() < needed {
            self.room.resize(needed, 0);
        }
        let mut used = 0;
        let mut failure = Ok(());
        // Where each tiny word is, if it is. Looking for all of them first lets the memory answer side by side.
        let mut found = [None; BATCH];
        bpe.pattern.batches(text, |begin, ends| {
            let found = &mut found[..ends.len()];
            let mut start = begin;
            for (found, &end) in found.iter_mut().zip(ends) {
                *found = self.tiny.look(tiny_key(text, start, end));
                start = end;
            }
            start = begin;
            for at in 0..ends.len() {
                let end = ends[at];
                used += match found[at] {
                    Some(place) => self.tiny.write(place, &mut self.room[used..]),
                    None => match self.find(bpe, text, start, end, used, &mut found[at + 1..]) {
                        Ok(bytes) => bytes,
                        Err(error) => {
                            failure = Err(error);
                            0
                        }
                    },
                };
                start = end;
            }
        });
        ids.extend_from_slice(&self.room[..used]);
        failure
    }

    /// Writes the ids of a word that was not found among the tiny ones, and remembers them; how many bytes. Words of
    /// `found` that lose their places are not found any more.
    #[inline(never)]
    fn find(
        &mut self,
        bpe: &Bpe,
        text: &[u8],
        start: usize,
        end: usize,
        used: usize,
        found: &mut [Option<Place>],
    ) -> Result<usize, Error> {
        let room = &mut self.room[used..];
        if end - start > SHORT {
            let word = &text[start..end];
            let ids = self.long.ids(word, |ids| bpe.merges.apply(word, &mut self.queue, ids))?;
            return Ok(write::<WIDTH>(ids, room));
        }
        let tiny = tiny_key(text, start, end);
        if tiny != NOT_TINY
            && let Some(place) = self.tiny.look_everywhere(tiny)
        {
            return Ok(self.tiny.write(place, room));
        }
        let short = short_key(text, start, end);
        if let Some(place) = self.short.look_everywhere(short) {
            return Ok(self.short.write(place, room));
        }
        self.fresh.clear();
        bpe.merges.scan(&text[start..end], &mut self.fresh);
        let bytes = write::<WIDTH>(&self.fresh, room);
        if tiny != NOT_TINY && self.fresh.len() <= Table::<u64, WIDTH>::MOST_IDS {
            if let Some(lost) = self.tiny.remember(tiny, &room[..bytes]) {
                found.iter_mut().filter(|found| found.is_some_and(|at| lost.contains(&at))).for_each(|at| *at = None);
            }
        } else if self.fresh.len() <= Table::<u128, WIDTH>::MOST_IDS {
            self.short.remember(short, &room[..bytes]);
        }
        Ok(bytes)
    }

    /// Gives memory back that only a rare long text needs.
    fn shrink(&mut self) {
        self.room.truncate(KEPT_BYTES);
        self.room.shrink_to_fit();
    }
}

/// Writes `ids` to the front of `buffer`; how many bytes.
fn write<const WIDTH: usize>(ids: &[u32], buffer: &mut [u8]) -> usize {
    for (place, id) in buffer.chunks_exact_mut(WIDTH).zip(ids) {
        match WIDTH {
            2 => place.copy_from_slice(&(*id as u16).to_ne_bytes()),
            _ => place.copy_from_slice(&id.to_ne_bytes()),
        }
    }
    ids.len() * WIDTH
}
