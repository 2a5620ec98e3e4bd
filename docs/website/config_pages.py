"""The reference of configuration keys as Markdown: a page for each group, and one for the keys outside the groups."""

import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from pages import ROOT

from fednano.config.places import conf_dir
from fednano.config.reference.explained import explained
from fednano.config.reference.keys import (
    OWN,
    ChoiceReference,
    KeyReference,
    choice_of,
    groups_of,
    record_settings,
    root_keys,
)
from fednano.config.reference.written import read_choice
from fednano.evaluate import KEYS as EVALUATE
from fednano.node.settings import NodeSettings
from fednano.runtime.parts import RunSettings
from fednano.sample import KEYS as SAMPLE
from fednano.sample import TEXTS

FOLDER = "reference/config"
HEADER = ("key", "default", "meaning and values")
GENERATED = "<!-- Made by make docs from conf/ and from the classes that it names. -->"


def config_pages() -> dict[str, str]:
    """The pages by their path on the site."""
    conf = conf_dir()
    groups = groups_of(conf)
    experiments = groups.pop("experiment")
    defaults = {name: value.text for name, value in read_choice(conf / "config.yaml").parts.items()}
    decides = _decisions()
    pages = {
        f"{FOLDER}/{group.replace('/', '-')}.md": _group_page(
            group, [choice_of([conf], group, name) for name in names], defaults.get(group, ""), decides
        )
        for group, names in groups.items()
    }
    pages[f"{FOLDER}/index.md"] = _index(conf, groups, defaults, decides)
    pages[f"{FOLDER}/experiment.md"] = _experiments(conf, experiments)
    return pages


def command_keys(name: str) -> str:
    """The table of the keys of `python -m fednano.NAME`, which has a YAML file of its own."""
    hints: dict[str, Any] = {
        "evaluate": EVALUATE,
        "sample": {**dict.fromkeys(TEXTS, str), **SAMPLE},
        "node": get_type_hints(NodeSettings, include_extras=True),
    }.get(name, {})
    told = explained(NodeSettings) if name == "node" else {}
    return _table(root_keys(read_choice(conf_dir() / f"{name}.yaml"), hints, told))


def _index(conf: Path, groups: dict[str, list[str]], defaults: dict[str, str], decides: dict[str, str]) -> str:
    hints, told = record_settings(RunSettings)
    rows = [
        (
            f"[`{group}`]({group.replace('/', '-')}.md)",
            _code(defaults.get(group, "")),
            ", ".join(f"`{name}`" for name in names) if group != "model" else "`d2` … `d20`, `micro`",
            decides.get(group, ""),
        )
        for group, names in groups.items()
    ]
    return _page(
        "# Configuration keys",
        "Every group of the configuration, its choices, and every key with its default, its type, its range and its "
        "meaning. This reference is made from the files in `conf/` and from the code; "
        "[Configuration](../../docs/configuration.md) explains how they work together. The same is in the terminal: "
        "`python -m fednano.run --help GROUP`, or `--help KEY`.",
        "## Groups",
        "`GROUP=CHOICE` picks a file. Groups with a slash are parts of a choice of the group before the slash.",
        _rows(("group", "default", "choices", "what it decides"), rows),
        "Several of these at once: [`experiment`](experiment.md).",
        "## Keys outside the groups",
        _table(root_keys(read_choice(conf / "config.yaml"), {**OWN, **hints}, told)),
        "The folders of runs and sweeps are Hydra's keys `hydra.run.dir` and `hydra.sweep.dir`.",
    )


def _group_page(group: str, choices: Sequence[ChoiceReference], default: str, decides: dict[str, str]) -> str:
    choices = sorted(choices, key=lambda choice: choice.name != default)
    found = [f"# `{group}`"]
    if group in decides:
        found.append(f"Decides {decides[group]}." + (f" The default is `{group}={default}`." if default else ""))
    if group == "codec":
        found.append(
            "`codec@download=CHOICE` chooses the codec of the weights that clients get; its keys are `download.…`."
        )
    found.append(
        _rows(("choice", "what it is"), [(f"`{group}={choice.name}`", _prose(choice.summary)) for choice in choices])
    )
    shown: dict[str, ChoiceReference] = {}
    alike: dict[str, list[ChoiceReference]] = {}
    for choice in choices:
        if choice.target and choice.target in shown:
            alike.setdefault(choice.target, []).append(choice)
        else:
            shown[choice.target or choice.name] = choice
    for target, choice in shown.items():
        if not choice.keys and target not in alike:
            continue
        found += [f"## `{group}={choice.name}`", _prose(choice.summary), _elsewhere(choice)]
        found += [f"Code: `{target}`", _table(choice.keys) if choice.keys else "It has no keys."]
        if target in alike:
            rows = [(f"`{group}={each.name}`", _differences(each, choice)) for each in alike[target]]
            found += ["The same keys, with other values:", _rows(("choice", "what it sets"), rows)]
    return _page(*found)


def _elsewhere(choice: ChoiceReference) -> str:
    told = [f"`{group}={value.text}`" for group, value in choice.others.items()]
    return f"It also chooses {', '.join(told)}." if told else ""


def _differences(choice: ChoiceReference, from_: ChoiceReference) -> str:
    before = {key.name: key.default for key in from_.keys}
    changed = [
        (key.name.replace(".", "/") if key.part_of else key.name, key.default)
        for key in choice.keys
        if key.default not in (None, before.get(key.name)) and not key.name.endswith(".name")
    ]
    told = [_code(f"{name}={value}") for name, value in changed]
    return ", ".join((*told, *(_code(f"{group}={value.text}") for group, value in choice.others.items()))) or "–"


def _experiments(conf: Path, names: Iterable[str]) -> str:
    found = ["# `experiment`", "A file that chooses from all other groups and sets keys, so that one word names it."]
    for name in names:
        path = conf / "experiment" / f"{name}.yaml"
        text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found += [f"## `experiment={name}`", _prose(read_choice(path).summary), f"```yaml\n{text.strip()}\n```"]
    return _page(*found)


def _decisions() -> dict[str, str]:
    """What each group decides, from the README's table."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| \[`([\w/]+)`\]\[\w+\] \| .* \| (.*) \|$", readme, re.MULTILINE)
    return dict(found)


def _table(keys: Iterable[KeyReference]) -> str:
    return _rows(HEADER, [_row(key) for key in keys])


def _row(key: KeyReference) -> tuple[str, str, str]:
    if key.part_of:
        group, _, part = key.name.rpartition(".")
        page = f"{key.part_of.replace('/', '-')}.md"
        return f"[`{group}/{part}`]({page})", _code(key.default or ""), f"{_prose(key.meaning)}<br>*a choice*"
    default = "not in the file; add it with `+`" if key.default is None else _code(key.default)
    values = ", ".join(filter(None, (key.kind, key.limits)))
    told = (_prose(key.meaning), f"*{_prose(values)}*" if values else "")
    return f"`{key.name}`", default, "<br>".join(filter(None, told))


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str) -> str:
    """Text as code that may stand in a table."""
    if "|" in text or "`" in text:
        return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"
    return f"`{text}`" if text else ""


def _prose(text: str) -> str:
    """Plain text as Markdown that may stand in a table; what is between backticks is code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        _code(part[1:-1])
        if part.startswith("`")
        else re.sub(r"([\\*_\[\]])", r"\\\1", html.escape(part, quote=False)).replace("|", "&#124;")
        for part in parts
    )


def _page(*blocks: str) -> str:
    return "\n\n".join((GENERATED, *filter(None, blocks))) + "\n"
