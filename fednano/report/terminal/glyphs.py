"""The signs of the terminal: block characters, or ASCII where the output's encoding may lack them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console

from fednano.report import units


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """One set of signs, each a single column wide.

    Args:
        blocks: levels of a sparkline, lowest first.
        cells: what a client did, by state, in its strip.
        marks: a client's state now.
        cut: stands for what is left out of a name.
        none: stands for a figure that there is none of.
        words: longer signs of a text, by what is printed in their place.
    """

    blocks: str
    cells: Mapping[str, str]
    marks: Mapping[str, str]
    cut: str
    none: str
    words: Mapping[str, str]

    def said(self, text: str) -> str:
        """The text with these signs only, as far as they are known."""
        return text.translate({ord(sign): word for sign, word in self.words.items()})

    def sparkline(self, values: Sequence[float], width: int = 20) -> str:
        """The last `width` values as blocks, scaled from the lowest to the highest of them."""
        shown = [v for v in values if units.measured(v)][-width:]
        if not shown:
            return ""
        low, high = min(shown), max(shown)
        scale = (len(self.blocks) - 1) / (high - low) if high > low else 0.0
        return "".join(self.blocks[round((v - low) * scale)] for v in shown)

    def fitted(self, name: str, width: int) -> str:
        """The name in at most so many columns, without its middle if it is longer: names often differ at their end."""
        if cell_len(name) <= width:
            return name
        if width < 3:
            return set_cell_size(name, max(0, width)).rstrip()
        last = (width - 1) // 2
        while cell_len(name[-last:]) > (width - 1) // 2:
            last -= 1
        return set_cell_size(name, width - 1 - cell_len(name[-last:])).rstrip() + self.cut + name[-last:]


UNICODE = Glyphs(
    blocks="▁▂▃▄▅▆▇█",
    cells={"training": "█", "moving": "▒", "idle": "─", "down": "·", "crashed": "✕"},
    marks={"training": "●", "sending": "↑", "idle": "○", "down": "–", "crashed": "✕"},
    cut="…",
    none="–",
    words={},
)
ASCII = Glyphs(
    blocks="_.-~=*%#",
    cells={"training": "#", "moving": "=", "idle": "-", "down": ".", "crashed": "x"},
    marks={"training": "*", "sending": "^", "idle": "o", "down": "-", "crashed": "x"},
    cut="~",
    none="-",
    words={
        "→": "->",
        "−": "-",
        "–": "-",
        "…": "...",
        "×": "x",
        "÷": "/",
        "·": ".",
        "≥": ">=",
        "≤": "<=",
        "₂": "2",
        "ε": "epsilon",
        "δ": "delta",
    },
)


def glyphs_of(console: Console) -> Glyphs:
    """The signs that a console can print: those beyond ASCII need an encoding of Unicode."""
    return ASCII if console.options.ascii_only else UNICODE
