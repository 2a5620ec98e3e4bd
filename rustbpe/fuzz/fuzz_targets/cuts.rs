//! The ids of a long text, which threads share in pieces, are those of its pre-tokens.
#![no_main]

use arbitrary::Arbitrary;
use fednano_rustbpe::encode::Bpe;
use fednano_rustbpe_fuzz::{Merge, TEXT_BYTES, merges, pattern};
use libfuzzer_sys::fuzz_target;

/// The core cuts at a place beyond as many bytes.
const JOB_BYTES: usize = 1 << 17;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pattern: u8,
    merges: Vec<Merge>,
    /// Bytes of the text that lie before the place from where on the core may cut.
    before: u16,
    /// Words, spaces and newlines, where the core cuts, instead of any bytes.
    prose: bool,
    text: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let pattern = pattern(input.pattern);
    let mut text = input.text[..input.text.len().min(TEXT_BYTES)].to_vec();
    if input.prose {
        text.iter_mut().for_each(|byte| *byte = b"aabe '\n1"[usize::from(*byte) % 8]);
    }
    let merges = merges(pattern, &text, &input.merges);
    let bpe = Bpe::new(pattern, &merges, &[]).expect("each merge is new and joins known ids");
    let before = usize::from(input.before) % (text.len() + 1);
    let mut long = b"ab ".repeat(JOB_BYTES / 3 + 1);
    long.truncate(JOB_BYTES - before);
    long.extend_from_slice(&text);

    let words: Vec<&[u8]> = pattern.split(&long).collect();
    let expected = bpe.encode(&words, 1).0.concat();
    for threads in [1, 3] {
        let (ids, lengths) = bpe.encode(&[&long], threads);
        assert_eq!(ids.concat(), expected);
        assert_eq!(lengths, [expected.len()]);
    }
});
