"""The order of the site's pages."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GUIDES = (
    "configuration", "strategies", "codecs", "rounds", "volatility", "energy", "privacy", "evaluation", "deployment",
    "coordination", "flower", "notebooks", "notebooks/first_figure", "extending", "extending/files",
)  # fmt: skip
ELSEWHERE = ("tutorial", "glossary", "architecture", "run-folder")
PROJECT = ("docs/architecture", "CONTRIBUTING", "RELIABILITY", "LOG", "CHANGELOG", "SECURITY")


def navigation(pages: Path) -> list[Any]:
    """The value of `nav` in mkdocs.yml for a folder of pages. Guides that no list here names come after the others."""

    def those(paths: Sequence[str]) -> list[Any]:
        return [_titled(path, pages) for path in paths if (pages / path).exists()]

    def within(folder: str) -> list[str]:
        found = sorted(page.relative_to(pages).as_posix() for page in (pages / folder).glob("*.md"))
        return sorted(found, key=lambda path: not path.endswith("/index.md"))

    placed = {*GUIDES, *ELSEWHERE}
    more = [page.stem for page in sorted((pages / "docs").glob("*.md")) if page.stem not in placed]
    reference = [
        {"Configuration keys": those(within("reference/config"))},
        *those(["reference/commands.md", "docs/run-folder.md"]),
        {"Python API": those(within("reference/api"))},
    ]
    return [
        *those(["index.md", "docs/tutorial.md"]),
        {"Guides": those([f"docs/{name}.md" for name in (*GUIDES, *more)])},
        {"Reference": reference},
        *those(["docs/glossary.md", "gallery/index.md"]),
        {"Project": those([f"{name}.md" for name in PROJECT])},
    ]


def _titled(path: str, pages: Path) -> str | dict[str, str]:
    """A page, under its heading without markup; the site would show the backquotes."""
    heading = re.search(r"^# (.+)$", (pages / path).read_text(encoding="utf-8"), re.MULTILINE)
    return {heading[1].replace("`", ""): path} if heading and "`" in heading[1] else path
