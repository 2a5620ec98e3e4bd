//! Merges and ids against slow, obvious versions of the same.

mod join;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fednano_rustbpe::count::{Counter, WordCounts};
use fednano_rustbpe::encode::Bpe;
use fednano_rustbpe::error::Error;
use fednano_rustbpe::split::Pattern;
use fednano_rustbpe::train::{Ties, train};
use join::{Pair, join};

fn counted(texts: &[&[u8]], threads: usize) -> WordCounts {
    let mut counter = Counter::new(Pattern::Gpt4, threads);
    counter.update(texts);
    counter.finish()
}

fn trained(texts: &[&[u8]], merges: usize) -> Vec<Pair> {
    train(&counted(texts, 2), merges, Ties::Bytes, &mut |_| ControlFlow::Continue(())).expect("a corpus")
}

/// Counts all pairs anew for every merge.
fn slow_train(texts: &[&[u8]], merges: usize) -> Vec<Pair> {
    let mut words: Vec<Vec<u32>> = texts
        .iter()
        .flat_map(|text| Pattern::Gpt4.split(text))
        .map(|word| word.iter().map(|&byte| u32::from(byte)).collect())
        .collect();
    let mut found = Vec::new();
    while found.len() < merges {
        let mut counts: BTreeMap<Pair, u64> = BTreeMap::new();
        words.iter().flat_map(|word| word.windows(2)).for_each(|w| *counts.entry((w[0], w[1])).or_default() += 1);
        // The first of the greatest, in the order of the ids.
        let Some((&pair, _)) = counts.iter().rev().max_by_key(|(_, count)| **count) else { break };
        let new = 256 + found.len() as u32;
        words.iter_mut().for_each(|word| *word = join(word, pair, new));
        found.push(pair);
    }
    found
}

/// Each id below 256 is that byte.
fn byte_order() -> [u8; 256] {
    std::array::from_fn(|byte| byte as u8)
}

/// All ids, which both widths must agree on.
fn ids(bpe: &Bpe, texts: &[&[u8]], threads: usize) -> Vec<u32> {
    let narrow = bpe.encode::<u16>(texts, threads).expect("short").into_ids();
    let wide = bpe.encode::<u32>(texts, threads).expect("short").into_ids();
    assert!(narrow.iter().map(|id| u32::from(*id)).eq(wide.iter().copied()));
    wide
}

/// Applies each merge to the whole pre-token, in order.
fn slow_encode(merges: &[Pair], text: &[u8]) -> Vec<u32> {
    let words = Pattern::Gpt4.split(text).into_iter().map(|word| {
        let bytes: Vec<u32> = word.iter().map(|&byte| u32::from(byte)).collect();
        merges.iter().enumerate().fold(bytes, |tokens, (index, &pair)| join(&tokens, pair, 256 + index as u32))
    });
    words.collect::<Vec<_>>().concat()
}

fn random_text(seed: u64, length: usize, alphabet: &[u8]) -> Vec<u8> {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    (0..length).map(|_| alphabet[draw() % alphabet.len()]).collect()
}

#[test]
fn merges_equal_the_slow_ones() {
    for seed in 0..60 {
        let alphabets: [&[u8]; 4] = [b"ab", b"aab ", b"abc\n .", b"a\xC3\xA9\xFF "];
        let text = random_text(seed, 20 + 13 * seed as usize, alphabets[seed as usize % 4]);
        assert_eq!(trained(&[&text], 60), slow_train(&[&text], 60), "seed {seed}");
    }
}

#[test]
fn ids_equal_the_slow_ones() {
    for seed in 0..40 {
        let text = random_text(seed, 4000, b"aabc \n'.");
        let merges = trained(&[&text], 50);
        let bpe = Bpe::new(Pattern::Gpt4, &byte_order(), &merges, &[]).expect("merges");
        let lengths = [1, 15, 16, 48, 49, 700].map(|length| random_text(seed + 99, length, b"aabc"));
        for sample in lengths.iter().chain([&text]) {
            // Twice, so that the second time is from the cache.
            for _ in 0..2 {
                let ids = ids(&bpe, &[sample], 1);
                assert_eq!(ids, slow_encode(&merges, sample));
                assert_eq!(&bpe.decode(&ids).expect("ids"), sample);
            }
        }
    }
}

#[test]
fn neither_threads_nor_order_nor_cuts_matter() {
    let texts: Vec<Vec<u8>> = (0..9).map(|seed| random_text(seed, 120_000, b"eta oin'shr 12\n")).collect();
    let parts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let reversed: Vec<&[u8]> = parts.iter().rev().copied().collect();
    let expected = trained(&parts, 300);
    assert_eq!(trained(&reversed, 300), expected);
    for threads in [1, 3, 8] {
        let words = counted(&parts, threads);
        assert_eq!(train(&words, 300, Ties::Bytes, &mut |_| ControlFlow::Continue(())).expect("a corpus"), expected);
    }
    // One long text is cut for the threads; the ids are those of the uncut text.
    let bpe = Bpe::new(Pattern::Gpt4, &byte_order(), &expected, &[]).expect("merges");
    let whole = texts.concat();
    let words: Vec<&[u8]> = Pattern::Gpt4.split(&whole);
    assert_eq!(ids(&bpe, &[&whole], 4), ids(&bpe, &words, 1));
}

#[test]
fn ids_of_bytes_follow_their_order() {
    let mut reversed = byte_order();
    reversed.reverse();
    let merges = [(255 - 97, 255 - 97), (256, 256)];
    let bpe = Bpe::new(Pattern::Gpt4, &reversed, &merges, &[]).expect("merges");
    // A pre-token of one byte, a tiny, a scanned and a long one.
    for (text, expected) in [("b", vec![157]), ("aaab", vec![256, 158, 157]), ("aaaa", vec![257])] {
        assert_eq!(ids(&bpe, &[text.as_bytes()], 1), expected);
    }
    for length in [12, 28, 400] {
        let text = vec![b'a'; length];
        assert_eq!(ids(&bpe, &[&text], 1), vec![257; length / 4]);
    }
    assert_eq!(bpe.decode(&[157u32, 257]), Ok(b"baaaa".to_vec()));
    reversed[0] = 7;
    assert_eq!(Bpe::new(Pattern::Gpt4, &reversed, &[], &[]).err(), Some(Error::BadByteOrder));
}

#[test]
fn stops_where_progress_says_so() {
    let text = random_text(5, 20_000, b"abcdefgh ");
    let stopped = train(&counted(&[&text], 1), 2000, Ties::Bytes, &mut |done| {
        if done >= 512 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.map(|merges| merges.len()), Ok(512));
}

#[test]
fn refuses_what_makes_no_sense() {
    let empty = train(&counted(&[b""], 1), 10, Ties::Bytes, &mut |_| ControlFlow::Continue(()));
    assert_eq!(empty, Err(Error::EmptyCorpus));
    let made = |merges: &[Pair]| Bpe::new(Pattern::Gpt4, &byte_order(), merges, &[]).map(|bpe| bpe.vocab_size());
    assert_eq!(made(&[(97, 256)]), Err(Error::BadMerge { index: 0, left: 97, right: 256 }));
    assert_eq!(made(&[(97, 98), (97, 98)]), Err(Error::BadMerge { index: 1, left: 97, right: 98 }));
    let doubling: Vec<Pair> = [(97, 97)].into_iter().chain((256..400).map(|id| (id, id))).collect();
    assert!(matches!(made(&doubling), Err(Error::VocabularyTooLarge { .. })));
    let bpe = Bpe::new(Pattern::Gpt4, &byte_order(), &[], &[b"<|bos|>"]).expect("no merges");
    assert_eq!(bpe.decode(&[256u32]), Ok(b"<|bos|>".to_vec()));
    assert_eq!(bpe.decode(&[1u32, 257]), Err(Error::BadId { index: 1, id: 257, vocab_size: 257 }));
    assert!(Pattern::named("gpt5").is_err_and(|error| error.to_string().contains("use one of: gpt4")));
}
