//! The splitter against the regular expression that it stands for.

use fancy_regex::Regex;
use fednano_rustbpe::split::Pattern;

/// Two or more of each class that the pattern tells apart, and the characters that it names.
const REPRESENTATIVES: &[&str] = &[
    "'",
    "s",
    "S",
    "t",
    "l",
    "L",
    "v",
    "r",
    "R",
    "e",
    "E",
    "m",
    "d",
    "a",
    "Z",
    "é",
    "ß",
    "\u{17F}",
    "\u{212A}",
    "ж",
    "漢",
    "ｓ",
    "\u{1D400}",
    "ʰ",
    "0",
    "7",
    "٣",
    "Ⅻ",
    "²",
    "\u{1D7CE}",
    " ",
    "\t",
    "\n",
    "\r",
    "\u{0B}",
    "\u{85}",
    "\u{A0}",
    "\u{2003}",
    "\u{2028}",
    "\u{3000}",
    "\u{200B}",
    "\u{180E}",
    ".",
    "_",
    "’",
    "$",
    "\u{301}",
    "\u{200D}",
    "😀",
    "\u{0}",
    "\u{FFFD}",
    "\u{10FFFF}",
];

fn check(regex: &Regex, text: &str) {
    let expected: Vec<&[u8]> = regex.find_iter(text).map(|found| found.expect("matches").as_str().as_bytes()).collect();
    let words: Vec<&[u8]> = Pattern::Gpt4.split(text.as_bytes()).collect();
    assert_eq!(words, expected, "{text:?}");
}

fn regex() -> Regex {
    Regex::new(Pattern::Gpt4.regex()).expect("compiles")
}

/// splitmix64
fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % below as u64) as usize
    }
}

#[test]
fn equals_the_regex_on_all_short_combinations() {
    let regex = regex();
    for a in REPRESENTATIVES {
        check(&regex, a);
        for b in REPRESENTATIVES {
            check(&regex, &[*a, *b].concat());
            for c in REPRESENTATIVES {
                check(&regex, &[*a, *b, *c].concat());
            }
        }
    }
}

#[test]
fn equals_the_regex_on_fuzzed_texts() {
    let regex = regex();
    let mut draw = draws(1);
    for _ in 0..30_000 {
        let length = 1 + draw(24);
        let text: String = (0..length)
            .map(|_| match draw(8) {
                0 => char::from_u32(draw(0x11_0000) as u32).unwrap_or(' ').to_string(),
                1 => char::from(draw(128) as u8).to_string(),
                2 => char::from_u32(draw(0x3000) as u32).unwrap_or('a').to_string(),
                _ => REPRESENTATIVES[draw(REPRESENTATIVES.len())].to_owned(),
            })
            .collect();
        check(&regex, &text);
    }
}

#[test]
fn equals_the_regex_on_every_character() {
    let regex = regex();
    for character in '\0'..=char::MAX {
        check(&regex, &format!("a{character}b 1{character}2"));
    }
}

#[test]
fn loses_no_byte_of_what_is_not_utf8() {
    let mut draw = draws(2);
    for _ in 0..10_000 {
        let bytes: Vec<u8> = (0..draw(12)).map(|_| [b' ', b'a', 0x80, 0xC5, 0xE2, 0xED, 0xF4, 0xFF][draw(8)]).collect();
        let words: Vec<&[u8]> = Pattern::Gpt4.split(&bytes).collect();
        assert!(words.iter().all(|word| !word.is_empty()));
        assert_eq!(words.concat(), bytes);
    }
}

#[test]
fn invalid_bytes_are_symbols() {
    let words: Vec<&[u8]> = Pattern::Gpt4.split(b"ab\xE2\x82cd \xFF\n").collect();
    assert_eq!(words, [&b"ab"[..], b"\xE2\x82", b"cd", b" \xFF\n"]);
}
