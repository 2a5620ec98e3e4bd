//! The ids of a long text, which threads share in pieces, are those of its pre-tokens.
#![no_main]

use std::collections::HashMap;

use arbitrary::Arbitrary;
use fednano_rustbpe::encode::Bpe;
use fednano_rustbpe_fuzz::{Merge, TEXT_BYTES, encode, merges, pattern};
use libfuzzer_sys::fuzz_target;

/// The core cuts what is longer than half of it.
const LONG_BYTES: usize = 300_000;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pattern: u8,
    merges: Vec<Merge>,
    text: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let pattern = pattern(input.pattern);
    let text = &input.text[..input.text.len().min(TEXT_BYTES)];
    let long = text.repeat(LONG_BYTES / text.len().max(1));
    let words: Vec<&[u8]> = pattern.split(&long).collect();
    if words.iter().any(|word| word.len() > TEXT_BYTES) {
        return;
    }
    let merges = merges(pattern, text, &input.merges);
    let bpe = Bpe::new(pattern, &merges, &[]).expect("each merge is new and joins known ids");
    let ranks: HashMap<_, _> = merges.iter().copied().zip(256..).collect();
    let mut known: HashMap<&[u8], Vec<u32>> = HashMap::new();
    let mut expected = Vec::new();
    for word in words {
        expected.extend_from_slice(known.entry(word).or_insert_with(|| encode(&ranks, word)));
    }
    for threads in [1, 3] {
        let (ids, lengths) = bpe.encode(&[&long], threads);
        assert_eq!(ids.concat(), expected);
        assert_eq!(lengths, [expected.len()]);
    }
});
