"""A report's page as its reader meets it: parsed, with the parts that tests look at."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from support.event_logs import summary_of

from fednano.core.event_log import EventLog
from fednano.core.events import (
    Event,
)
from fednano.report.web.html import write_report

VOID = {"meta", "input", "link", "br"}


class Page(HTMLParser):
    """Elements of a page as (tag, attributes, text); checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, "unclosed elements"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for k in self._open:
            self.elements[k][2].append(data)

    def texts(self, tag: str, **attributes: str) -> list[str]:
        """The text of every such element; `class_="x"` asks for one of its classes."""
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [
            " ".join("".join(text).split())
            for found, attrs, text in self.elements
            if found == tag
            and all(
                value in (attrs.get(key) or "").split() if key == "class" else attrs.get(key) == value
                for key, value in wanted.items()
            )
        ]


def write_run(folder: Path, events: list[Event], config: str = "name: quickstart\n", **summary: Any) -> Path:
    """A run folder with a summary that agrees with the event log, except for `summary`."""
    folder.mkdir(parents=True, exist_ok=True)
    event_log = EventLog(folder / "events.jsonl")
    for event in events:
        event_log.append(event)
    event_log.close()
    told = {**summary_of(events), "tape_sha256": event_log.sha256(), **summary}
    (folder / "summary.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    return folder


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def tiles(page: Page) -> dict[str, tuple[str, str]]:
    labels, values, notes = (page.texts("div", class_=c) for c in ("label", "value", "note"))
    return {label: (value, note) for label, value, note in zip(labels, values, notes, strict=True)}
