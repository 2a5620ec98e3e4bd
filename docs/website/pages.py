"""The pages of the checkout, copied so that the links between them work on the site as they do on a code host."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from posixpath import normpath

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ("README", "CHANGELOG", "CONTRIBUTING", "LOG", "RELIABILITY", "SECURITY")
ASSETS = (
    "docs/report.png",
    "docs/watch.png",
    "docs/website/icon.svg",
    "docs/website/site.css",
    "docs/website/worker.js",
)
NOTEBOOKS = "docs/notebooks"
EXAMPLE, EXAMPLE_PAGE = "docs/extending", "docs/extending/files.md"
LINK = re.compile(r"(?P<before>\]\(|^\[[^\]]+\]: )(?P<target>[^)\s#]+)", re.MULTILINE)
CODE = re.compile(r"^(```.*?^```)|^( {4}.*$)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".yaml": "yaml"}


def copy_pages(into: Path) -> None:
    """Copy all Markdown pages, notebooks, pictures and the example folder into a folder, at the same paths."""
    for page in [*(ROOT / f"{name}.md" for name in PROJECT), *sorted((ROOT / "docs").glob("*.md"))]:
        path = page.relative_to(ROOT).as_posix()
        _write(into / site_path(path), linked(page.read_text(encoding="utf-8"), path))
    for notebook in sorted((ROOT / NOTEBOOKS).glob("*.ipynb")):
        path = notebook.relative_to(ROOT).as_posix()
        _write(into / site_path(path), linked(_as_markdown(notebook), path))
    for name in ASSETS:
        _copy(ROOT / name, into / name)
    _write(into / EXAMPLE_PAGE, _example())


def site_path(path: str) -> str:
    """The path on the site of a page of the checkout."""
    if path == "README.md":
        return "index.md"
    if path == EXAMPLE or path.startswith(f"{EXAMPLE}/"):
        return EXAMPLE_PAGE
    return re.sub(r"\.ipynb$", ".md", path)


def linked(text: str, path: str) -> str:
    """The text of the page at `path`, with links to what the site has elsewhere. Code stays as it is."""
    folder = path.rpartition("/")[0]

    def to_site(found: re.Match[str]) -> str:
        target = found["target"]
        if re.match(r"[a-z]+:", target):
            return found[0]
        place = normpath(f"{folder}/{target}" if folder else target)
        if not (ROOT / place).exists():
            raise ValueError(f"{path} links to {target}, which does not exist; correct the link")
        if place == "LICENSE":
            return f"{found['before']}{'../' * bool(folder)}CONTRIBUTING.md"
        if site_path(place) == place:
            return found[0]
        new = f"{'../' * (folder.count('/') + bool(folder))}{site_path(place)}"
        return found["before"] + new

    return _outside_code(text, lambda prose: LINK.sub(to_site, prose))


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Text whose prose is changed, and whose code blocks are not."""
    parts: list[str] = []
    end = 0
    for block in CODE.finditer(text):
        parts += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join((*parts, change(text[end:])))


def _as_markdown(notebook: Path) -> str:
    from nbconvert import MarkdownExporter

    return str(MarkdownExporter().from_filename(str(notebook))[0])


def _example() -> str:
    """A page with every file of the folder that docs/extending.md walks through."""
    found = [
        "# The example folder",
        "The files that [Extending fednano](../extending.md) explains, one after the other.",
    ]
    for file in sorted((ROOT / EXAMPLE).rglob("*")):
        if file.suffix in LANGUAGES and file.stat().st_size:
            code = file.read_text(encoding="utf-8").rstrip()
            found += [f"## {file.relative_to(ROOT / EXAMPLE).as_posix()}", f"```{LANGUAGES[file.suffix]}\n{code}\n```"]
    return "\n\n".join(found) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
