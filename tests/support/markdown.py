"""Markdown pages as a code host shows them: their links, the anchors of their headings, and their code."""

import re
from pathlib import Path

from support.paths import REPOSITORY

FENCE = re.compile(r"^ *```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:\A|(?<=\n\n))(?:(?: {4}[^\n]*)?\n)*(?: {4}[^\n]*\n?)+")
INLINE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\]\((?P<inline>[^)\s]+)(?: \"[^\"]*\")?\)|^\[[^\]]+\]: (?P<reference>\S+)", re.MULTILINE)


def pages() -> list[Path]:
    """The Markdown pages of the checkout."""
    return [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures."""
    prose = INDENTED.sub("", FENCE.sub("", text))
    return [found["inline"] or found["reference"] for found in LINK.finditer(INLINE.sub("", prose))]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def blocks(text: str, language: str) -> list[str]:
    """The code of a page's blocks in a language."""
    return [found["code"] for found in FENCE.finditer(text) if found["language"] == language]


def command_lines(text: str) -> list[str]:
    """The lines of a page, in blocks, that start a command of fednano; those that go on in the next line are joined."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"^(?: {4}|\$ )[^\n]*?python -m (fednano\.[^\n]*)$", joined, re.MULTILINE)
    return [re.split(r"\s+#|\s+&$|\)\"$", line)[0].strip() for line in found]
