//! Merges against slow, obvious ones, for both rules of ties, and where counts or texts are extreme.

mod draw;
mod join;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use draw::draws;
use fednano_rustbpe::count::WordCounts;
use fednano_rustbpe::train::{Ties, train};
use join::{Pair, join};

fn words(words: &[(&[u8], u64)]) -> WordCounts {
    let mut counts = WordCounts::default();
    words.iter().for_each(|(word, count)| counts.add(word, 0, word.len(), *count));
    counts
}

fn trained(counts: &WordCounts, merges: usize, ties: Ties) -> Vec<Pair> {
    train(counts, merges, ties, &mut |_| ControlFlow::Continue(())).expect("a corpus")
}

/// Counts all pairs anew for every merge. `order` gives what compares for an id.
fn slow_train(counts: &WordCounts, merges: usize, order: impl Fn(u32) -> u32) -> Vec<Pair> {
    let mut words: Vec<(Vec<u32>, u64)> = Vec::new();
    counts.each(|word, count| words.push((word.iter().map(|&byte| u32::from(byte)).collect(), count)));
    let mut found = Vec::new();
    while found.len() < merges {
        let mut pairs: BTreeMap<Pair, u64> = BTreeMap::new();
        for (word, count) in &words {
            word.windows(2).for_each(|pair| *pairs.entry((pair[0], pair[1])).or_default() += count);
        }
        let first = |(pair, count): &(&Pair, &u64)| (u64::MAX - **count, order(pair.0), order(pair.1));
        let Some((&pair, _)) = pairs.iter().min_by_key(first) else { break };
        words.iter_mut().for_each(|(word, _)| *word = join(word, pair, 256 + found.len() as u32));
        found.push(pair);
    }
    found
}

/// The code point of the character that stands for a byte in `ByteLevel`, below all merged tokens.
fn by_character(id: u32) -> u32 {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    match id {
        256.. => id + 1000,
        _ if printable(id) => id,
        _ => 256 + (0..id).filter(|&byte| !printable(byte)).count() as u32,
    }
}

#[test]
fn merges_equal_the_slow_ones_for_every_rule_of_ties() {
    let mut draw = draws(1);
    for round in 0..600 {
        let alphabet: &[u8] = [&b"ab"[..], b"aaab \n", b" a\xADb\xFF\x00\x7F~!", b"abcdefghij"][draw(4)];
        // From all counts equal to counts that are far apart, so that there are one and several rounds of training.
        let spread = [1, 3, 300, 10_000_000][draw(4)];
        let mut counts = WordCounts::default();
        for _ in 0..1 + draw(30) {
            let word: Vec<u8> = (0..1 + draw(24)).map(|_| alphabet[draw(alphabet.len())]).collect();
            counts.add(&word, 0, word.len(), 1 + draw(spread) as u64);
        }
        let merges = [3, 40, 1000][draw(3)];
        assert_eq!(trained(&counts, merges, Ties::Bytes), slow_train(&counts, merges, |id| id), "round {round}");
        let expected = slow_train(&counts, merges, by_character);
        assert_eq!(trained(&counts, merges, Ties::HuggingFace), expected, "round {round}");
    }
}

#[test]
fn the_rules_of_ties_differ_where_bytes_are_not_printable() {
    let counts = words(&[(b" a", 2), (b"ab", 2)]);
    assert_eq!(trained(&counts, 1, Ties::Bytes), [(0x20, 0x61)]);
    assert_eq!(trained(&counts, 1, Ties::HuggingFace), [(0x61, 0x62)]);
    assert!(Ties::named("age").is_err_and(|error| error.to_string().contains("use one of: bytes, huggingface")));
}

#[test]
fn counts_beyond_32_bits_decide() {
    let many = 1 << 33;
    // In 32 bits, (e, f) and (g, h) would have the highest counts and (a, b) none.
    let counts = words(&[(b"abb", many), (b"cd", many / 2 + 7), (b"ef", 1 << 31), (b"gh", (1 << 31) + 1), (b"bbb", 9)]);
    let expected = [(98, 98), (97, 256), (99, 100), (103, 104), (101, 102), (256, 98)];
    assert_eq!(trained(&counts, 10, Ties::Bytes), expected);
}

#[test]
fn hostile_words_take_no_quadratic_time() {
    // Quadratic training would take hours.
    let mut draw = draws(2);
    let random: Vec<u8> = (0..1_000_000).map(|_| draw(256) as u8).collect();
    let letters: Vec<u8> = (0..1_000_000).map(|_| b'a' + draw(3) as u8).collect();
    for word in [vec![b' '; 1_000_000], b"ab".repeat(500_000), random, letters] {
        let counts = words(&[(&word, 1)]);
        let merges = trained(&counts, 5_000, Ties::Bytes);
        let mut lengths = vec![1; 256];
        merges.iter().for_each(|&(left, right)| lengths.push(lengths[left as usize] + lengths[right as usize]));
        assert!(merges.len() == 5_000 || lengths.last() > Some(&400_000), "{} merges", merges.len());
    }
}
