"""Quoting of text for Hydra's command line, and for that of Flower."""

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

# A value in quotes; or one outside of them, up to a comma, a bracket or an equals sign.
_PIECE = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?:\$\{[^}]*\}|[^,()\[\]={}'"])+""")


def quoted(text: str) -> str:
    """`text` as the value of an override, which Hydra and OmegaConf read back unchanged."""
    # Backslashes before an interpolation are escapes to OmegaConf, as is one before any ${.
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return QuotedString(literal, Quote.single).with_quotes()


def toml_quoted(text: str) -> str:
    """`text` as a TOML string without quotation marks and line breaks, as Flower's node configuration needs."""
    escaped = (f"\\u{ord(c):04x}" if c in '"\\' or ord(c) < 32 or ord(c) == 127 else c for c in text)
    return f'"{"".join(escaped)}"'


def quoted_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides, with values that hold letters outside ASCII in quotes unless they are in quotes already.

    An override that cannot be read even then stays as it is.
    """
    parser = OverridesParser.create()
    return [_quoted(override, parser) for override in overrides]


def value_in(override: str) -> Any:
    """The value of an override, without quotes. Raises ValueError if it cannot be read."""
    try:
        return OverridesParser.create().parse_override(override).value()
    except HydraException:
        raise ValueError(f"{override} cannot be read as KEY=VALUE; quote the value") from None


def _quoted(override: str, parser: OverridesParser) -> str:
    key, equals, value = override.partition("=")
    if value.isascii() or _reads(override, parser):
        return override
    within = key + equals + _PIECE.sub(lambda piece: _in_quotes(piece[0]), value)
    return within if _reads(within, parser) else override


def _in_quotes(piece: str) -> str:
    word = piece.strip()
    if piece.isascii() or piece[0] in "'\"" or "\\" in word:
        return piece
    return piece.replace(word, f"'{word}'")


def _reads(override: str, parser: OverridesParser) -> bool:
    try:
        parser.parse_overrides([override])
    except HydraException:
        return False
    return True
