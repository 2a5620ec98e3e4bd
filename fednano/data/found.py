"""Files of a folder that match a pattern, and what else is there."""

import fnmatch
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fednano.core.text import shown

# What file managers leave behind; nobody means it as text.
_CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
_KINDS = {stat.S_ISFIFO: "named pipe", stat.S_ISSOCK: "socket", stat.S_ISCHR: "device", stat.S_ISBLK: "device"}


@dataclass
class Found:
    """`files` that match, sorted, and the number of others by kind: by suffix, or such as "socket"."""

    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def others(self) -> str:
        """What was left out, such as "3 files (.pdf 2, .docx 1)"; empty if nothing was."""
        count = self.left_out.total()
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in sorted(self.left_out.items(), key=lambda of: (-of[1], of[0])))
        return f"{count:,} {'file' if count == 1 else 'files'} ({kinds})" if count else ""


def found_in(path: str, pattern: str) -> Found:
    """The files below the folder `path` that match `pattern`; at least one.

    The pattern is a glob, in which {a,b} stands for either. Links are followed, each folder once. Hidden files and
    folders are passed over unless the pattern names them.

    Raises ValueError if the folder does not exist, the pattern is no glob, or no file matches.
    """
    folder = Path(path).expanduser()
    if not os.path.exists(folder):  # noqa: PTH110  # False for a name that is too long, where Path raises
        raise ValueError(f"data.path must be a folder that exists, got {shown(path)}; name one that holds {pattern}")
    if not folder.is_dir():
        raise ValueError(
            f"data.path must be a folder, got {shown(path)}; name its folder and set data.pattern={shown(folder.name)}"
        )
    globs = _globs(pattern)
    names_hidden = any(part.startswith(".") for glob in globs for part in glob)
    found = Found()
    for file in _walked(folder, found, names_hidden):
        if any(_fits(file.relative_to(folder).parts, glob) for glob in globs):
            found.files.append(file)
        else:
            found.left_out[shown(file.suffix) or "without suffix"] += 1
    if not found.files:
        others = f", which holds {found.others()}" if found.left_out else ""
        raise ValueError(
            f"data.path must hold files matching data.pattern={pattern}, got {shown(path)}{others}; change either one"
        )
    found.files.sort()
    return found


def _walked(folder: Path, found: Found, names_hidden: bool) -> Iterator[Path]:
    """Regular files below `folder`. Real folders come before linked ones, so that a file keeps its own source."""
    real = folder.resolve()
    folders, links, seen = deque([folder]), deque[Path](), set[tuple[int, int]]()
    while folders or links:
        here = folders.popleft() if folders else links.popleft()
        try:
            state = here.stat()
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            found.left_out[f"{shown(here)}: {error.strerror}"] += 1
            continue
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        for entry in entries:
            path = here / entry.name
            if entry.name in _CLUTTER or (entry.name.startswith(".") and not names_hidden):
                continue
            if not entry.is_dir():
                yield from _regular(path, found)
            elif not entry.is_symlink():
                folders.append(path)
            elif real.is_relative_to(path.resolve()):
                found.left_out["link to a folder around it"] += 1
            else:
                links.append(path)


def _regular(path: Path, found: Found) -> Iterator[Path]:
    """`path` if it is a regular file; another kind is counted, and never opened."""
    try:
        mode = path.stat().st_mode
    except OSError:
        found.left_out["broken link"] += 1
        return
    if stat.S_ISREG(mode):
        yield path
    else:
        found.left_out[next((name for is_kind, name in _KINDS.items() if is_kind(mode)), "special file")] += 1


def _globs(pattern: str) -> list[list[str]]:
    """The names on the way to a file, for each choice of the pattern."""
    globs = [[part for part in choice.split("/") if part not in ("", ".")] for choice in _choices(pattern)]
    for glob in globs:
        if pattern.startswith("/") or not glob or any(part == ".." or ("**" in part and part != "**") for part in glob):
            raise ValueError(
                f"data.pattern must be a glob, got {pattern}; set one like **/*.txt, below data.path and with ** alone "
                "between slashes"
            )
    return globs


def _fits(names: Sequence[str], glob: Sequence[str]) -> bool:
    """Whether a path of these names matches; ** stands for any number of folders."""
    if not glob:
        return not names
    if glob[0] == "**":
        return any(_fits(names[k:], glob[1:]) for k in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], glob[0]) and _fits(names[1:], glob[1:])


def _choices(pattern: str) -> list[str]:
    """The patterns that a pattern with {a,b} stands for."""
    match = re.search(r"\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [whole for choice in match[1].split(",") for whole in _choices(before + choice + after)]
