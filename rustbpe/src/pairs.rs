//! The pairs that are frequent enough to be merged next, with their counts and places.

use std::collections::BinaryHeap;
use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::text::Text;

/// Ids of the left and the right token.
pub type Pair = (u32, u32);

/// Where a pair stands, and the group of its word.
#[derive(Clone, Copy, Default)]
pub struct Place {
    pub position: u32,
    pub group: u32,
}

/// The floor of a round lies between the highest count over this and half the highest count.
const DESCENT: u64 = 4096;

struct Known {
    count: u64,
    /// Where the pair stood when it was counted, rising. Places that later merges destroyed are still listed.
    places: Range<usize>,
}

/// Every pair that reached the floor, but for those that were merged.
pub struct Pairs {
    floor: u64,
    known: HashMap<u64, Known, FixedState>,
    queue: BinaryHeap<u128>,
    places: Vec<Place>,
}

impl Pairs {
    /// The pairs of a compact text that reach a floor below `above`, which suits that many more `merges`.
    pub fn new(text: &Text, above: u64, merges: usize) -> Self {
        let bounds = Bounds::new(text);
        let floor = bounds.floor(above, merges);
        let mut pairs = Self { floor, known: HashMap::default(), queue: BinaryHeap::new(), places: Vec::new() };
        let mut index: HashMap<u64, u32, FixedState> = HashMap::default();
        let mut gained = Gained::default();
        text.each_pair(|pair, place, count| {
            let key = key(pair);
            if bounds.of(key) >= floor {
                let at = *index.entry(key).or_insert_with(|| gained.candidate(key, 0));
                gained.add(at, place, count);
            }
        });
        pairs.take(&mut gained);
        pairs
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Takes out the first pair and its places.
    pub fn pop(&mut self) -> Option<(Pair, Range<usize>)> {
        while let Some(entry) = self.queue.pop() {
            let key = !(entry as u64);
            let Entry::Occupied(known) = self.known.entry(key) else { continue };
            let count = known.get().count;
            if u128::from(count) == entry >> 64 {
                return Some((pair(key), known.remove().places));
            }
            if count >= self.floor {
                self.queue.push(ranked(key, count));
            }
        }
        None
    }

    pub fn places(&self, range: Range<usize>) -> &[Place] {
        &self.places[range]
    }

    /// Takes over what a merge has changed.
    pub fn update(&mut self, gains: &mut Gains) {
        gains.finish();
        for candidate in &gains.gained.candidates {
            if let Some(known) = self.known.get_mut(&candidate.replaced) {
                known.count -= candidate.lost;
            }
        }
        self.take(&mut gains.gained);
    }

    /// Adds the candidates that reach the floor, all of them new.
    fn take(&mut self, gained: &mut Gained) {
        let mut start = self.places.len();
        for candidate in &mut gained.candidates {
            if candidate.count < self.floor {
                candidate.next = usize::MAX;
                continue;
            }
            let places = start..start + candidate.places;
            candidate.next = start;
            start = places.end;
            self.queue.push(ranked(candidate.key, candidate.count));
            self.known.insert(candidate.key, Known { count: candidate.count, places });
        }
        self.places.resize(start, Place::default());
        for &(at, place) in &gained.places {
            let next = &mut gained.candidates[at as usize].next;
            if let Some(slot) = self.places.get_mut(*next) {
                *slot = place;
                *next += 1;
            }
        }
        gained.candidates.clear();
        gained.places.clear();
    }
}

/// Higher counts are greater, then smaller pairs.
fn ranked(key: u64, count: u64) -> u128 {
    u128::from(count) << 64 | u128::from(!key)
}

fn key((left, right): Pair) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

fn pair(key: u64) -> Pair {
    ((key >> 32) as u32, key as u32)
}

struct Candidate {
    key: u64,
    count: u64,
    /// The pair that stood in this one's places, and how much it lost to it.
    replaced: u64,
    lost: u64,
    places: usize,
    /// Where its next place goes.
    next: usize,
}

/// Pairs that may reach the floor, and their places, mixed.
#[derive(Default)]
struct Gained {
    candidates: Vec<Candidate>,
    places: Vec<(u32, Place)>,
}

impl Gained {
    fn candidate(&mut self, key: u64, replaced: u64) -> u32 {
        self.candidates.push(Candidate { key, count: 0, replaced, lost: 0, places: 0, next: 0 });
        self.candidates.len() as u32 - 1
    }

    #[inline]
    fn add(&mut self, at: u32, place: Place, count: u64) {
        let candidate = &mut self.candidates[at as usize];
        candidate.count += count;
        candidate.places += 1;
        self.places.push((at, place));
    }
}

const NONE: u32 = u32::MAX;

/// The pairs that one merge makes.
#[derive(Default)]
pub struct Gains {
    merged: Pair,
    new: u32,
    /// The candidates of pairs with each token before or after the new one.
    before: Vec<u32>,
    after: Vec<u32>,
    gained: Gained,
}

impl Gains {
    /// Starts on the merge of `merged` into `new`.
    pub fn begin(&mut self, merged: Pair, new: u32) {
        (self.merged, self.new) = (merged, new);
        self.before.resize(new as usize + 1, NONE);
        self.after.resize(new as usize + 1, NONE);
    }

    /// (`token`, left) became (`token`, new).
    #[inline]
    pub fn before(&mut self, token: u32, place: Place, count: u64) {
        let at = &mut self.before[token as usize];
        if *at == NONE {
            *at = self.gained.candidate(key((token, self.new)), key((token, self.merged.0)));
        }
        self.gained.add(*at, place, count);
    }

    /// (right, `token`) became (new, `token`).
    #[inline]
    pub fn after(&mut self, token: u32, place: Place, count: u64) {
        let at = &mut self.after[token as usize];
        if *at == NONE {
            *at = self.gained.candidate(key((self.new, token)), key((self.merged.1, token)));
        }
        self.gained.add(*at, place, count);
    }

    /// Settles what was gained and what was lost.
    fn finish(&mut self) {
        let Self { merged, new, before, after, gained } = self;
        gained.candidates.iter_mut().for_each(|candidate| candidate.lost = candidate.count);
        // In "abab" the first merge of (a, b) makes (new, a), which the second turns into (new, new).
        let (twice, undone) = (before[*new as usize], after[merged.0 as usize]);
        if twice != NONE {
            gained.candidates[undone as usize].count -= gained.candidates[twice as usize].count;
        }
        for candidate in &gained.candidates {
            let (left, right) = pair(candidate.key);
            if right == *new {
                before[left as usize] = NONE;
            } else {
                after[right as usize] = NONE;
            }
        }
    }
}

/// Upper bounds of all pairs' counts: the counts of pairs whose hashes agree in some bits, together.
struct Bounds {
    sums: Vec<u64>,
    shift: u32,
}

impl Bounds {
    fn new(text: &Text) -> Self {
        let bits = text.len().max(2).ilog2().clamp(8, 17);
        let mut bounds = Self { sums: vec![0; 1 << bits], shift: 64 - bits };
        text.each_pair(|pair, _, count| {
            let at = bounds.place(key(pair));
            bounds.sums[at] += count;
        });
        bounds
    }

    fn place(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    fn of(&self, key: u64) -> u64 {
        self.sums[self.place(key)]
    }

    /// About as many pairs as merges are wanted should reach the floor: then few rounds are needed and few pairs are
    /// known in vain. It at least halves, so that there are few rounds whatever the text.
    fn floor(&self, above: u64, merges: usize) -> u64 {
        let mut sums = self.sums.clone();
        sums.sort_unstable();
        let highest = sums[sums.len() - 1].min(above);
        let wanted = if merges <= sums.len() { sums[sums.len() - merges] } else { 0 };
        wanted.clamp(highest / DESCENT, highest / 2).max(1)
    }
}
