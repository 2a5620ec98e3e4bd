//! The splitter against the regular expression that it stands for.

mod draw;

use draw::draws;
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

fn check(regexes: &[(Pattern, Regex)], text: &str) {
    for (pattern, regex) in regexes {
        let matches = regex.find_iter(text).map(|found| found.expect("matches").as_str().as_bytes());
        assert_eq!(pattern.split(text.as_bytes()), matches.collect::<Vec<_>>(), "{pattern:?} {text:?}");
    }
}

fn regexes() -> Vec<(Pattern, Regex)> {
    let compiled = |(_, pattern): (_, Pattern)| (pattern, Regex::new(pattern.regex()).expect("compiles"));
    Pattern::NAMES.into_iter().map(compiled).collect()
}

#[test]
fn equals_the_regex_on_all_short_combinations() {
    let regexes = regexes();
    for a in REPRESENTATIVES {
        check(&regexes, a);
        for b in REPRESENTATIVES {
            check(&regexes, &[*a, *b].concat());
            for c in REPRESENTATIVES {
                check(&regexes, &[*a, *b, *c].concat());
            }
        }
    }
}

/// A character, most often one that the patterns care about.
fn any_character(draw: &mut impl FnMut(usize) -> usize) -> String {
    match draw(8) {
        0 => char::from_u32(draw(0x11_0000) as u32).unwrap_or(' ').to_string(),
        1 => char::from(draw(128) as u8).to_string(),
        2 => char::from_u32(draw(0x3000) as u32).unwrap_or('a').to_string(),
        _ => REPRESENTATIVES[draw(REPRESENTATIVES.len())].to_owned(),
    }
}

#[test]
fn equals_the_regex_on_fuzzed_texts() {
    let regexes = regexes();
    let mut draw = draws(1);
    for _ in 0..30_000 {
        let length = 1 + draw(24);
        check(&regexes, &(0..length).map(|_| any_character(&mut draw)).collect::<String>());
    }
}

/// Few kinds of characters, so that all rules meet at all places of a block of 64 bytes.
#[test]
fn equals_the_regex_on_long_fuzzed_texts() {
    let regexes = regexes();
    let mut draw = draws(3);
    for _ in 0..10_000 {
        let kinds: Vec<String> = (0..2 + draw(6)).map(|_| any_character(&mut draw)).collect();
        let repeated = |draw: &mut dyn FnMut(usize) -> usize| {
            let times = if draw(12) == 0 { draw(90) } else { 1 + draw(3) };
            kinds[draw(kinds.len())].repeat(times)
        };
        let length = 1 + draw(80);
        check(&regexes, &(0..length).map(|_| repeated(&mut draw)).collect::<String>());
    }
}

/// White space, newlines, symbols, apostrophes and letters decide by what follows, wherever a block ends.
#[test]
fn equals_the_regex_on_each_side_of_a_block() {
    let regexes = regexes();
    let mut draw = draws(4);
    for _ in 0..40_000 {
        let length = 50 + draw(90);
        let text: String =
            (0..length).map(|_| [" ", " ", "\n", "a", "l", "'", "(", "7", "\t", "’"][draw(10)]).collect();
        check(&regexes, &text);
    }
}

#[test]
fn equals_the_regex_on_every_character() {
    let regexes = regexes();
    for character in '\0'..=char::MAX {
        check(&regexes, &format!("a{character}b 1{character}2"));
    }
}

#[test]
fn loses_no_byte_of_what_is_not_utf8() {
    let mut draw = draws(2);
    for _ in 0..10_000 {
        let bytes: Vec<u8> = (0..draw(12)).map(|_| [b' ', b'a', 0x80, 0xC5, 0xE2, 0xED, 0xF4, 0xFF][draw(8)]).collect();
        let words: Vec<&[u8]> = Pattern::Gpt4.split(&bytes);
        assert!(words.iter().all(|word| !word.is_empty()));
        assert_eq!(words.concat(), bytes);
    }
}

#[test]
fn invalid_bytes_are_symbols() {
    let words: Vec<&[u8]> = Pattern::Gpt4.split(b"ab\xE2\x82cd \xFF\n");
    assert_eq!(words, [&b"ab"[..], b"\xE2\x82", b"cd", b" \xFF\n"]);
}
