"""A gallery of reports, from small runs that are made for it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from pages import ROOT

SMALL = ("model=micro", "tokenizer=bpe_1k", "eval_tokens=8192", "hardware.threads=1")


class Exhibit(NamedTuple):
    """A run of the gallery: its name, what it shows, and its overrides."""

    name: str
    title: str
    text: str
    overrides: tuple[str, ...]


EXHIBITS = (
    Exhibit(
        "quickstart",
        "Four clients that come and go",
        "DiLoCo on clients with random times up and down. Some leave by draining and submit their work, some crash and "
        "lose it; the timeline shows which.",
        ("rounds=8", "eval_every=2", *SMALL),
    ),
    Exhibit(
        "curtailment",
        "Three sites that follow the sun",
        "A d20 model, 12.4 billion tokens, and sites that compute only while power would be curtailed. No tensors: "
        "times, bytes, energy and carbon, beside their baselines.",
        ("experiment=curtailment", "planner=aware", "tokenizer=bpe_1k"),
    ),
    Exhibit(
        "decoupled",
        "Fragments that nobody waits for",
        "Decoupled DiLoCo on spot instances: each fragment of the model is merged at a quorum of its own.",
        ("strategy=decoupled_diloco", "optim.state=keep", "volatility=spot", "rounds=16", "eval_every=4", *SMALL),
    ),
    Exhibit(
        "centralized",
        "The centralized baseline",
        "The quickstart's tokens, trained in one place.",
        ("runtime=centralized", "rounds=8", "eval_every=2", *SMALL),
    ),
)


def make_gallery(folder: Path) -> None:
    """Make the runs that are not in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for exhibit in EXHIBITS:
        report = folder / f"{exhibit.name}.html"
        if report.exists():
            continue
        run = folder / "runs" / exhibit.name
        shutil.rmtree(run, ignore_errors=True)
        words = [*exhibit.overrides, f"hydra.run.dir={run}"]
        subprocess.run([sys.executable, "-m", "fednano.run", *words], cwd=ROOT, check=True)
        shutil.copyfile(run / "report.html", report)


def gallery_page(folder: Path, pages: Path) -> None:
    """Write the page that shows the reports of the folder, and copy them beside it."""
    into = pages / "gallery"
    into.mkdir(parents=True, exist_ok=True)
    found = [
        "# Gallery of reports",
        "Reports of small runs, as they lie in their run folders, and the commands that made them.",
    ]
    for exhibit in EXHIBITS:
        found += [f"## {exhibit.title}", exhibit.text]
        found.append(f"```console\n$ uv run python -m fednano.run {' '.join(exhibit.overrides)}\n```")
        if (report := folder / f"{exhibit.name}.html").exists():
            shutil.copyfile(report, into / report.name)
            frame = f'<iframe class="report" src="{report.name}" title="{exhibit.title}"></iframe>'
            found += [f"[Open the report]({report.name})", frame]
    (into / "index.md").write_text("\n\n".join(found) + "\n", encoding="utf-8")
