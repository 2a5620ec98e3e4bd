//! Merges are those of a slow trainer, whatever the threads.
#![no_main]

use std::ops::ControlFlow;

use arbitrary::Arbitrary;
use fednano_rustbpe::count::Counter;
use fednano_rustbpe::error::Error;
use fednano_rustbpe::train::{Ties, train};
use fednano_rustbpe_fuzz::{pattern, words};
use libfuzzer_sys::fuzz_target;

const CORPUS_BYTES: usize = 600;
const MERGES: usize = 50;

#[derive(Arbitrary, Debug)]
struct Input {
    pattern: u8,
    merges: u8,
    /// Few distinct bytes make long words, overlapping pairs and many ties.
    narrow: bool,
    texts: Vec<Vec<u8>>,
}

fuzz_target!(|input: Input| {
    let pattern = pattern(input.pattern);
    let merges = usize::from(input.merges) % MERGES;
    let mut left = CORPUS_BYTES;
    let mut texts = input.texts;
    for text in &mut texts {
        text.truncate(left);
        left -= text.len();
        if input.narrow {
            text.iter_mut().for_each(|byte| *byte = b"aabc"[usize::from(*byte) % 4]);
        }
    }
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let words: Vec<Vec<u32>> = texts.iter().flat_map(|text| words(pattern, text)).collect();
    let expected =
        if words.is_empty() { Err(Error::EmptyCorpus) } else { Ok(fednano_rustbpe_fuzz::train(words, merges)) };
    for threads in [1, 3] {
        let mut counter = Counter::new(pattern, threads);
        // One batch for the first half, one for the rest.
        let (first, rest) = texts.split_at(texts.len() / 2);
        counter.update(first);
        counter.update(rest);
        assert_eq!(train(&counter.finish(), merges, Ties::Bytes, &mut |_| ControlFlow::Continue(())), expected);
    }
});
