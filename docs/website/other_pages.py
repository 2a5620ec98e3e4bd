"""Pages of the site that are made: the commands with their --help, and the interfaces of Python modules."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from config_pages import command_keys
from pages import ROOT

COMMANDS = {
    "run": "train a model",
    "prepare": "make a corpus and a tokenizer ahead of runs",
    "sample": "let a model write",
    "evaluate": "measure a model",
    "compare": "put runs side by side",
    "report": "write the report again, or audit the event log",
    "fidelity": "compare a run with its replay on the virtual clock",
    "node": "train one client of a federation whose server is elsewhere",
    "flower_config": "tell Flower's own command about fednano",
    "bench": "measure speeds on this machine",
}
CONFIGURED = ("prepare", "sample", "evaluate", "node")
API = {
    "notebook": ("Notebooks", ["notebook.launching", "notebook.loading"]),
    "strategy": (
        "Strategies",
        ["strategy.base", "strategy.synchronous", "strategy.merging.base", "strategy.outer.base",
         "strategy.outer.schedule", "strategy.client_part", "strategy.mean"],
    ),
    "codec": ("Codecs", ["codec.base", "codec.lossy"]),
    "volatility": ("Volatility", ["volatility.profiles", "volatility.availability", "volatility.speed"]),
    "data": ("Data and tasks", ["data.dataset", "data.writer", "data.partition", "tasks.base", "tasks.items"]),
    "report": ("Events and sinks", ["core.events", "core.event_log", "report.sinks"]),
    "core": ("Tensors, ranges, randomness", ["core.tensors", "core.ranges", "core.randomness"]),
}  # fmt: skip


def other_pages() -> dict[str, str]:
    """The pages by their path on the site."""
    pages = {"reference/commands.md": _commands()}
    rows = []
    for name, (title, modules) in API.items():
        parts = [f"# {title}", *(f"::: fednano.{module}" for module in modules)]
        pages[f"reference/api/{name}.md"] = "\n\n".join(parts) + "\n"
        rows.append(f"| [{title}]({name}.md) | {', '.join(f'`fednano.{module}`' for module in modules)} |")
    intro = (
        "# Python API\n\nWhat you use from notebooks, and the interfaces that your own strategies, codecs, profiles, "
        "data sets and sinks meet. [Extending fednano](../../docs/extending.md) shows an example of each.\n\n"
        "| page | modules |\n|---|---|\n"
    )
    pages["reference/api/index.md"] = intro + "\n".join(rows) + "\n"
    return pages


def _commands() -> str:
    with ThreadPoolExecutor(2) as pool:
        helps = dict(zip(COMMANDS, pool.map(_help, COMMANDS), strict=True))
    found = ["# Commands", "Each is `python -m fednano.NAME`; in a checkout, `uv run python -m fednano.NAME`."]
    found.append(
        "\n".join(["| command | for |", "|---|---|", *(f"| [`{n}`](#{n}) | {t} |" for n, t in COMMANDS.items())])
    )
    for name in COMMANDS:
        found += [f"## {name}", f"```text\n{helps[name]}\n```"]
        if name in CONFIGURED and (table := command_keys(name)).count("\n") > 1:
            found.append(table)
    return "\n\n".join(found) + "\n"


def _help(name: str) -> str:
    words = [sys.executable, "-m", f"fednano.{name}", "--help"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.rstrip()
