"""`python -m fednano.report RUN_DIR`: writes the report of a run again."""

import sys
from pathlib import Path

from fednano.report.html import write_report

USAGE = "usage: python -m fednano.report RUN_DIR   (a folder outputs/<experiment>/<date_time>)"


def main(arguments: list[str]) -> int:
    """Write the report and print its path. Returns the exit code: 2 for a folder that holds no run."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        asked = arguments in (["-h"], ["--help"])
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    folder = Path(arguments[0])
    if not (folder / "events.jsonl").is_file():
        print(
            f"{folder} holds no events.jsonl; give the folder of a run: outputs/<experiment>/<date_time>",
            file=sys.stderr,
        )
        return 2
    try:
        print(write_report(folder))
    except (OSError, ValueError) as error:
        print(f"no report for {folder}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
