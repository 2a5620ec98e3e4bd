//! The ids of a long text, which threads share in pieces, are those of its pre-tokens.
#![no_main]

use arbitrary::Arbitrary;
use fednano_rustbpe::encode::Bpe;
use fednano_rustbpe_fuzz::{BYTE_ORDER, Merge, TEXT_BYTES, merges, pattern};
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
    let bpe = Bpe::new(pattern, &BYTE_ORDER, &merges, &[]).expect("each merge is new and joins known ids");
    let before = usize::from(input.before) % (text.len() + 1);
    let mut long = b"ab ".repeat(JOB_BYTES / 3 + 1);
    long.truncate(JOB_BYTES - before);
    long.extend_from_slice(&text);

    let words: Vec<&[u8]> = pattern.split(&long);
    let expected = bpe.encode::<u32>(&words, 1).expect("short").into_ids();
    for threads in [1, 3] {
        let encoded = bpe.encode::<u32>(&[&long], threads).expect("short");
        assert_eq!(encoded.counts, [expected.len()]);
        assert_eq!(encoded.into_ids(), expected);
    }
});
