"""Quoting of text for Hydra's command line, and for that of Flower."""

import re

from hydra.core.override_parser.types import Quote, QuotedString


def quoted(text: str) -> str:
    """`text` as the value of an override, which Hydra and OmegaConf read back unchanged."""
    # Backslashes before an interpolation are escapes to OmegaConf, as is one before any ${.
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return QuotedString(literal, Quote.single).with_quotes()


def toml_quoted(text: str) -> str:
    """`text` as a TOML string without quotation marks and line breaks, as Flower's node configuration needs."""
    escaped = (f"\\u{ord(c):04x}" if c in '"\\' or ord(c) < 32 or ord(c) == 127 else c for c in text)
    return f'"{"".join(escaped)}"'
