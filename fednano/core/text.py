"""Text of files that other programs wrote: byte order marks, and names that are not UTF-8."""

import codecs
import reprlib

# The marks of UTF-32 come first: that of its little-endian form begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


BRIEF = 80  # characters


def brief(value: object) -> str:
    """The beginning of what a stranger sent, for a message about it; a long value is not copied as a whole."""
    return value[:BRIEF] if isinstance(value, str) else reprlib.repr(value)


def encoding_of(head: bytes) -> str:
    """The encoding of a text that begins with `head`, by its byte order mark; without one, UTF-8."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8-sig")


def decoded(data: bytes) -> str:
    """The text in `data`, without its byte order mark. Raises UnicodeDecodeError."""
    return data.decode(encoding_of(data[:4]))


def utf8(name: str) -> str:
    r"""`name` with the bytes that are not UTF-8 written as \xNN, so that it can be encoded."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shown(name: object) -> str:
    r"""`name` on one line, as it may be printed: bytes that are not UTF-8 as \xNN, a line break as \n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in utf8(str(name)))
