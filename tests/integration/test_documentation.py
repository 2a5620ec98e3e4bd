"""The documentation: links lead somewhere, code compiles, command lines compose, and the tutorial works."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from config_pages import config_pages
from gallery import EXHIBITS, Exhibit
from support.awaiting import until
from support.markdown import anchors, blocks, command_lines, links, pages
from support.paths import CONF, REPOSITORY
from support.runs import summary_of

from fednano.config.compose import compose_config
from fednano.config.errors import ConfigError
from fednano.experiment.experiment import Experiment

Command = Callable[..., subprocess.CompletedProcess[str]]

PAGES = {page.relative_to(REPOSITORY).as_posix(): page.read_text(encoding="utf-8") for page in pages()}
CONFIGURED = ("run", "prepare", "sample", "evaluate", "node")
TUTORIAL = "docs/tutorial.md"


def broken(text: str, where: Path, known: dict[Path, str]) -> list[str]:
    """The links of a page that lead to no file, or to no heading of one of the `known` pages."""
    found = []
    for link in links(text):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (where.parent / target).resolve() if target else where
        lost = path not in known and not path.exists()
        if lost or (anchor and anchor not in anchors(known.get(path, ""))):
            found.append(link)
    return found


def test_links_lead_somewhere() -> None:
    known = {REPOSITORY / path: text for path, text in PAGES.items()}
    assert sum(len(links(text)) for text in PAGES.values()) > 100
    assert {path: wrong for path, text in PAGES.items() if (wrong := broken(text, REPOSITORY / path, known))} == {}


def test_links_that_lead_nowhere_are_found() -> None:
    text = "# A b\n[a](#a-b) [c](#c) `[d](#d)` [e](e.md)\n\n    [f](#f)\n"
    text += "\n[g]: README.md#two-commands\n[h]: README.md#no\n"
    known = {REPOSITORY / "x.md": text, REPOSITORY / "README.md": PAGES["README.md"]}
    assert broken(text, REPOSITORY / "x.md", known) == ["#c", "e.md", "README.md#no"]


def test_the_reference_of_keys_has_a_page_for_each_group() -> None:
    made = {REPOSITORY / "site" / path: text for path, text in config_pages().items()}
    known = {**made, **{REPOSITORY / "site" / path: text for path, text in PAGES.items()}}
    assert {path.name: wrong for path, text in made.items() if (wrong := broken(text, path, known))} == {}
    strategy = made[REPOSITORY / "site" / "reference" / "config" / "strategy.md"]
    assert "| `strategy.local_steps` | `25` | H, inner steps of a client per round<br>*a whole number" in strategy
    assert "| [`strategy/outer`](strategy-outer.md) | `nesterov` | the step that follows a merge" in strategy
    assert re.search(r"\| `strategy=muloco` \| .*`strategy/outer=muloco`.*`strategy.local_steps=30`", strategy)
    for folder in (path for path in CONF.rglob("*") if path.is_dir() and [*path.glob("*.yaml")]):
        name = folder.relative_to(CONF).as_posix().replace("/", "-")
        assert len(made[REPOSITORY / "site" / "reference" / "config" / f"{name}.md"]) > 200, name


@pytest.mark.parametrize("path", [path for path, text in PAGES.items() if blocks(text, "python")])
def test_python_code_compiles(path: str) -> None:
    for number, code in enumerate(blocks(PAGES[path], "python")):
        compile(code, f"{path}, block {number}", "exec")


def with_last_values(words: list[str]) -> Iterator[str]:
    """The overrides of the last job of a sweep: of values with commas between them, the last one."""
    for word in words:
        key, equals, value = word.partition("=")
        if re.match(r"(range|interval|glob|tag)\(", value):  # for a sweeper to choose from
            continue
        plain = not re.search(r"[\[{(\"']", value)
        yield f"{key}{equals}{value.rpartition(',')[2]}" if plain else word


@cache
def composed(name: str, overrides: tuple[str, ...]) -> str:
    """The line that refuses what the overrides of a command compose; empty if nothing does."""
    try:
        compose_config(overrides, "config" if name == "run" else name)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", [path for path, text in PAGES.items() if command_lines(text)])
def test_command_lines_compose(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY / "docs" / "extending")
    for line in command_lines(PAGES[path]):
        name, *words = shlex.split(re.sub(r"\$\(.*?\)", "1", line.removeprefix("fednano.")))
        if name not in CONFIGURED or "…" in line or any(word.startswith("resume=") for word in words):
            continue
        overrides = [word for word in words if "=" in word and not word.startswith("-")]
        if "--config-dir" in words:
            overrides.insert(0, f"hydra.searchpath=[file://{Path('conf').resolve()}]")
        # The page shows how it is refused; or it composes nothing; or a folder stands for a choice.
        if "lrr=" in line or "-sc" in words or "tasks=FOLDER" in words:
            continue
        assert composed(name, tuple(with_last_values(overrides))) == "", line


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_the_runs_of_the_gallery_pass_their_checks(exhibit: Exhibit) -> None:
    Experiment(compose_config(exhibit.overrides))


def test_options_in_command_lines_exist() -> None:
    for path, text in PAGES.items():
        for line in command_lines(text):
            name, *words = shlex.split(line.removeprefix("fednano."))
            if name in (*CONFIGURED, "volatility.solar"):  # the last only imports its command
                continue
            place = REPOSITORY / "fednano" / name.replace(".", "/")
            code = "".join(
                file.read_text() for file in [*place.rglob("*.py"), place.with_suffix(".py")] if file.exists()
            )
            for option in (word.partition("=")[0] for word in words if word.startswith("--")):
                assert f"{option}" in code, f"{path}: {line}"


@pytest.mark.slow
def test_the_tutorial_works(command: Command, tiny: list[str], text_folder: Path, tmp_path: Path) -> None:
    """Each command of the page in turn, with the small settings of tests where it sets none of its own."""
    (tmp_path / "texts").symlink_to(text_folder)
    small = [word for word in tiny if not word.startswith(("data=", "data.path="))]
    lines = command_lines(PAGES[TUTORIAL])
    assert len(lines) >= 9
    for line in lines:
        name, *words = shlex.split(line.removeprefix("fednano."))
        if name == "run" and not words[0].startswith(("--", "resume=")):
            keys = {word.partition("=")[0] for word in words} - {"rounds"}
            words += [word for word in small if word.partition("=")[0] not in keys]
        if "outputs/stopped" in line and "resume=" not in line:
            interrupt([*words, "rounds=40"], tmp_path)
            continue
        done = command(name, *words, cwd=tmp_path)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert summary_of(tmp_path / "outputs" / "stopped")["status"] == "completed"
    assert (tmp_path / "outputs" / "first" / "report.html").exists()
    assert (tmp_path / "two.pdf").read_bytes().startswith(b"%PDF")
    assert len(list((tmp_path / "outputs" / "two").glob("*/summary.json"))) == 6


def interrupt(words: list[str], cwd: Path) -> None:
    """Start a run, and press Ctrl-C once it has a checkpoint."""
    process = subprocess.Popen([sys.executable, "-m", "fednano.run", *words], cwd=cwd, stdout=subprocess.DEVNULL)
    until(lambda: list((cwd / "outputs" / "stopped" / "checkpoints").glob("round_*")))
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert summary_of(cwd / "outputs" / "stopped")["status"] == "interrupted"
