"""The command `python -m fednano.report RUN_FOLDER`: rewrites a run's report, or audits its event log."""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import sys
from pathlib import Path

from jinja2 import TemplateError

from fednano.config.errors import refuse
from fednano.core.output import tolerate_output
from fednano.report import units
from fednano.report.audit import audit_log
from fednano.report.web.html import write_report

USAGE = """\
usage: python -m fednano.report [--audit] RUN_FOLDER

Writes report.html into the folder of a run (outputs/NAME/DATE_TIME) and prints
its path.

  --audit   instead, check in the event log that no row was lost or trained
            twice; exits with 1 if one was"""
AUDIT = "--audit"
FIGURES = "events.jsonl, summary.json and energy.json"


def main(arguments: list[str]) -> int:
    """Write the report and print its path, or audit the event log.

    Returns the exit code: 2 for a folder without a run, 1 for an event log in which rows are lost or trained twice.
    """
    audits = AUDIT in arguments
    arguments = [argument for argument in arguments if argument != AUDIT]
    if len(arguments) != 1 or arguments[0].startswith("-"):
        asked = arguments in (["-h"], ["--help"])
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    folder = Path(arguments[0])
    if not (folder / "events.jsonl").is_file():
        print(
            f"fednano: RUN_FOLDER must hold events.jsonl, got {folder}; name a run: outputs/NAME/DATE_TIME",
            file=sys.stderr,
        )
        return 2
    try:
        if audits:
            return _audit(folder)
        print(write_report(folder))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, TemplateError) as error:
        return refuse(_told(error, folder, "audit" if audits else "report on"))
    return 0


def _told(error: Exception, folder: Path, action: str) -> Exception:
    """The error to tell the user of."""
    if isinstance(error, ValueError):
        return error
    if isinstance(error, OSError):
        return ValueError(f"cannot {action} {folder}: {error}")
    # Files that can be read may still hold other things than a run writes.
    return ValueError(f"{folder} must hold the figures of a run, got others; restore its {FIGURES}")


def _audit(folder: Path) -> int:
    audited = audit_log(folder / "events.jsonl")
    if not audited.events:
        raise ValueError(f"{folder / 'events.jsonl'} must hold the events of a run, got none; restore it")
    for violation in audited.violations:
        print(violation)
    torn = ", the last line is torn" if audited.torn else ""
    found = units.plural(len(audited.violations), "violation")
    print(
        f"{found} in {units.plural(audited.events, 'event')}: {units.plural(audited.rows_done, 'row')} trained, "
        f"{units.plural(len(audited.open_leases), 'lease')} in force{torn}"
    )
    return 1 if audited.violations else 0


if __name__ == "__main__":
    tolerate_output()
    sys.exit(main(sys.argv[1:]))
