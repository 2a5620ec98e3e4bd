"""The Rust core's splitter against the regular expression that it stands for, run by the `regex` module."""

import itertools

import fednano_rustbpe
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

PATTERN = regex.compile(fednano_rustbpe.regex("gpt4"))

# Each class that the pattern tells apart, each character that it names, and neighbours of both.
REPRESENTATIVES = [
    *(
        "'",
        "s",
        "S",
        "t",
        "M",
        "l",
        "L",
        "v",
        "r",
        "R",
        "e",
        "E",
        "a",
        "é",
        "ß",
        "ſ",
        "K",
        "ж",
        "漢",
        "ｓ",
        "ʰ",
    ),
    *("0", "7", "٣", "Ⅻ", "²", " ", "\t", "\n", "\r", "\x0b", "\x85", "\xa0", "\u2003", "\u2028", "\u3000"),
    *("\u200b", ".", "_", "’", "$", "\u0301", "\u200d", "😀", "\x00", "\ufffd", "\U0010ffff"),
]


def expected(text: str) -> list[bytes]:
    return [word.encode() for word in PATTERN.findall(text)]


def test_equals_the_regex_on_all_combinations_of_up_to_three():
    for length in (1, 2, 3):
        for parts in itertools.product(REPRESENTATIVES, repeat=length):
            text = "".join(parts)
            assert fednano_rustbpe.split("gpt4", text) == expected(text), repr(text)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(REPRESENTATIVES), max_size=30).map("".join))
def test_equals_the_regex_on_fuzzed_texts(text):
    assert fednano_rustbpe.split("gpt4", text) == expected(text)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40))
def test_loses_no_byte(data):
    words = fednano_rustbpe.split("gpt4", data)
    assert b"".join(words) == data
    assert all(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I'll DON'T 'ſx", ["I", "'ll", " DON", "'T", " '", "ſx"]),
        ("12345 a1b", ["12", "34", "5", " a", "1", "b"]),
        ("x  y\n\n  z ", ["x", " ", " y", "\n\n", " ", " z", " "]),
        ("a(b)!?\r\n\nc", ["a", "(b", ")!?\r\n\n", "c"]),
    ],
)
def test_cuts_as_written_out_by_hand(text, words):
    assert [word.decode() for word in fednano_rustbpe.split("gpt4", text)] == words


def test_unknown_pattern_names_the_known_ones():
    with pytest.raises(ValueError, match=r'tokenizer.pattern="gpt5" is not known; use one of: gpt4, cl100k'):
        fednano_rustbpe.split("gpt5", "text")
