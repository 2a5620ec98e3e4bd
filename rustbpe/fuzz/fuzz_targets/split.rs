//! Pre-tokens are not empty and add up to the text; where it is UTF-8 they are the matches of the regular expression.
#![no_main]

use std::sync::LazyLock;

use fancy_regex::{Regex, RegexBuilder};
use fednano_rustbpe::split::Pattern;
use libfuzzer_sys::fuzz_target;

static REGEXES: LazyLock<Vec<(Pattern, Regex)>> = LazyLock::new(|| {
    let compiled = |pattern: Pattern| RegexBuilder::new(pattern.regex()).backtrack_limit(usize::MAX).build();
    Pattern::NAMES.iter().map(|&(_, pattern)| (pattern, compiled(pattern).expect("compiles"))).collect()
});

fuzz_target!(|text: &[u8]| {
    for (pattern, regex) in REGEXES.iter() {
        let words: Vec<&[u8]> = pattern.split(text);
        assert!(words.iter().all(|word| !word.is_empty()));
        assert_eq!(words.concat(), text);
        if let Ok(text) = str::from_utf8(text) {
            let found = regex.find_iter(text).map(|found| found.expect("matches").as_str().as_bytes());
            assert_eq!(words, found.collect::<Vec<_>>(), "{pattern:?}");
        }
    }
});
