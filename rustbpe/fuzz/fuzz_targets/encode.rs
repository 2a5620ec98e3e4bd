//! Ids are those of a slow encoder, and come back as the same bytes.
#![no_main]

use std::collections::HashMap;

use arbitrary::Arbitrary;
use fednano_rustbpe::encode::Bpe;
use fednano_rustbpe_fuzz::{BYTE_ORDER, Merge, TEXT_BYTES, encode, merges, pattern};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pattern: u8,
    merges: Vec<Merge>,
    text: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let pattern = pattern(input.pattern);
    let text = &input.text[..input.text.len().min(TEXT_BYTES)];
    let merges = merges(pattern, text, &input.merges);
    let bpe = Bpe::new(pattern, &BYTE_ORDER, &merges, &[]).expect("each merge is new and joins known ids");
    let ranks: HashMap<_, _> = merges.iter().copied().zip(256..).collect();
    let words: Vec<&[u8]> = pattern.split(text);
    let expected: Vec<Vec<u32>> = words.iter().map(|word| encode(&ranks, word)).collect();
    // The second time, short pre-tokens are known.
    for _ in 0..2 {
        let narrow = bpe.encode::<u16>(&[text], 1).expect("short").into_ids();
        assert!(narrow.into_iter().map(u32::from).eq(expected.concat()));
    }
    let encoded = bpe.encode::<u32>(&words, 3).expect("short");
    assert!(encoded.counts.iter().zip(&expected).all(|(length, word)| *length == word.len()));
    assert_eq!(encoded.into_ids(), expected.concat());
    assert_eq!(bpe.decode(&expected.concat()).expect("ids"), text);
});
