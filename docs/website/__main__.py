"""The documentation site: `python docs/website` writes its pages, of which Zensical makes site/html/index.html."""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from config_pages import config_pages
from gallery import gallery_page, make_gallery
from navigation import navigation
from other_pages import other_pages
from pages import ROOT, copy_pages

HERE = Path(__file__).resolve().parent
WORKER, THEIR_WORKER = "docs/website/worker.js", "https://unpkg.com/iframe-worker/shim"
LOADS = re.compile(
    r"<(?:script|img|iframe|source|link(?=[^>]*rel=.?(?:stylesheet|preload|icon)))\b[^>]*?(?:src|href)=\"?((?:https?:)?//[^\s\">]+)"
)


def main(arguments: list[str]) -> int:
    """Build the site; returns the exit code."""
    options = _parsed(arguments)
    out = Path(options.out).resolve()
    pages = out / "pages"
    if pages.exists():
        shutil.rmtree(pages)
    write_pages(pages)
    if not options.no_gallery:
        make_gallery(out / "gallery")
    gallery_page(out / "gallery", pages)
    settings = (HERE / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_dump({"nav": navigation(pages)}, sort_keys=False, allow_unicode=True)
    (out / "mkdocs.yml").write_text(f"{settings}{nav}", encoding="utf-8")
    words = ["zensical", "build", "--strict", "--clean", "-f", str(out / "mkdocs.yml")]
    code = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=False).returncode
    if not code:
        load_nothing_from_elsewhere(out / "html")
        print(f"the site is {out / 'html' / 'index.html'}")
    return code


def write_pages(pages: Path) -> None:
    """Write the Markdown of all pages but the gallery into a folder."""
    copy_pages(pages)
    for path, text in {**config_pages(), **other_pages()}.items():
        (pages / path).parent.mkdir(parents=True, exist_ok=True)
        (pages / path).write_text(text, encoding="utf-8")


def load_nothing_from_elsewhere(html: Path) -> None:
    """Let the pages take the script that a search in a folder needs from the site itself.

    Raises RuntimeError if a page loads anything else from another host.
    """
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        own = "../" * (len(page.relative_to(html).parts) - 1) + WORKER
        page.write_text(text := text.replace(THEIR_WORKER, own), encoding="utf-8")
        if found := LOADS.search(text):
            raise RuntimeError(f"{page} loads {found[1]}; take it from the site")


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python docs/website", description=__doc__)
    parser.add_argument("--out", default=str(ROOT / "site"), help="folder to write to; default: site")
    parser.add_argument("--no-gallery", action="store_true", help="make no runs for the gallery of reports")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
