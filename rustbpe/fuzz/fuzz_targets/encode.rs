//! Ids are those of a slow encoder, whatever the threads and the cuts, and come back as the same bytes.
#![no_main]

use std::collections::HashMap;

use arbitrary::Arbitrary;
use fednano_rustbpe::encode::Bpe;
use fednano_rustbpe::split::Pattern;
use fednano_rustbpe_fuzz::{Pair, encode, join, pattern, words};
use libfuzzer_sys::fuzz_target;

/// The slow encoder is quadratic in the length of a pre-token.
const TEXT_BYTES: usize = 1000;
const TOKEN_BYTES: usize = 1000;
const MERGES: usize = 60;

/// More than two jobs of the core, so that threads share them.
const LONG_BYTES: usize = 300_000;

#[derive(Arbitrary, Debug)]
enum Merge {
    /// The pair of neighbours at this place of the text, as it is merged so far.
    There(u16),
    /// Any two ids.
    Ids(u16, u16),
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pattern: u8,
    long: u8,
    merges: Vec<Merge>,
    text: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let pattern = pattern(input.pattern);
    let text = &input.text[..input.text.len().min(TEXT_BYTES)];
    let merges = merges(pattern, text, &input.merges);
    let bpe = Bpe::new(pattern, &merges, &[]).expect("each merge is new and joins known ids");
    let ranks = merges.iter().copied().zip(256..).collect();
    // The second time, short pre-tokens are known.
    check(&bpe, &ranks, pattern, text);
    check(&bpe, &ranks, pattern, text);

    let repeated = text.repeat(LONG_BYTES / text.len().max(1));
    if input.long.is_multiple_of(16) && pattern.split(&repeated).all(|word| word.len() <= TEXT_BYTES) {
        check(&bpe, &ranks, pattern, &repeated);
    }
});

fn check(bpe: &Bpe, ranks: &HashMap<Pair, u32>, pattern: Pattern, text: &[u8]) {
    let words: Vec<&[u8]> = pattern.split(text).collect();
    let mut known: HashMap<&[u8], Vec<u32>> = HashMap::new();
    let mut expected = Vec::new();
    for word in &words {
        expected.extend_from_slice(known.entry(word).or_insert_with(|| encode(ranks, word)));
    }
    for threads in [1, 3] {
        let (ids, lengths) = bpe.encode(&[text], threads);
        assert_eq!(ids.concat(), expected);
        assert_eq!(lengths, [expected.len()]);
        let (ids, lengths) = bpe.encode(&words, threads);
        assert_eq!(ids.concat(), expected);
        assert!(lengths.iter().zip(&words).all(|(length, word)| *length == known[word].len()));
    }
    assert_eq!(bpe.decode(&expected).expect("ids"), text);
}

/// Merges that a trained vocabulary could hold, most of them of use in the text.
fn merges(pattern: Pattern, text: &[u8], picks: &[Merge]) -> Vec<Pair> {
    let mut words = words(pattern, text);
    let mut lengths = vec![1; 256];
    let mut merges: Vec<Pair> = Vec::new();
    for pick in picks.iter().take(MERGES) {
        let ids = lengths.len();
        let pair = match *pick {
            Merge::Ids(left, right) => Some((left % ids as u16, right % ids as u16)).map(|(l, r)| (l.into(), r.into())),
            Merge::There(place) => {
                let pairs: Vec<Pair> = words.iter().flat_map(|word| word.windows(2)).map(|w| (w[0], w[1])).collect();
                (!pairs.is_empty()).then(|| pairs[usize::from(place) % pairs.len()])
            }
        };
        let Some(pair @ (left, right)) = pair else { continue };
        let length = lengths[left as usize] + lengths[right as usize];
        if length <= TOKEN_BYTES && !merges.contains(&pair) {
            words.iter_mut().for_each(|word| *word = join(word, pair, ids as u32));
            lengths.push(length);
            merges.push(pair);
        }
    }
    merges
}
