"""The command `python -m fednano.watch`: a web page on this machine that follows runs while they train."""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fednano.config.errors import guarded
from fednano.core.interrupts import asked_to_end
from fednano.report.following import run_folders
from fednano.report.web.server import WatchServer
from fednano.report.web.watcher import Watcher

HIGHEST_PORT = 65535
HEED_S = 0.25  # how soon Ctrl-C is heeded


def main() -> int:
    """Serve the pages until a signal comes. Raises ValueError for bad arguments."""
    options = parsed(sys.argv[1:])
    for folder in options.runs:
        require_runs(folder)
    with serving(options.runs, options.port) as server:
        server.timeout = HEED_S
        ending: list[bool] = []
        with asked_to_end(lambda: ending.append(True)) as asked:
            print(f"watching {server.url}", flush=True)
            print("Ctrl-C ends it; the runs go on.", flush=True)
            while not ending:
                server.handle_request()
    return 0 if asked.number == signal.SIGINT else asked.code


def require_runs(folder: Path) -> None:
    """Raise ValueError for a folder without any run."""
    if next(run_folders(folder), None) is None:
        missing = "" if folder.exists() else ", which does not exist"
        raise ValueError(
            f"RUN_DIR must be or hold the folder of a run, got {folder}{missing}; name runs, or a folder of runs that "
            "has one already"
        )


def serving(places: Sequence[Path], port: int) -> WatchServer:
    """The server, on its port. Raises ValueError for a port that cannot be used."""
    if not 0 <= port <= HIGHEST_PORT:
        raise ValueError(f"--port must be from 0 to {HIGHEST_PORT}, got {port}; use 0 for a free one")
    try:
        return WatchServer(Watcher(places), port)
    except OSError as error:
        raise ValueError(f"--port must be free, got {port} ({error.strerror}); use another one, or none") from None


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.watch",
        description="Follow runs while they train, on a web page that only this machine can open: loss, who is up, "
        "rounds, bytes and energy. Runs that appear in the folders later are picked up. Nothing is written.",
        epilog="On a machine without a browser, forward the port: ssh -L 8000:127.0.0.1:PORT MACHINE, and open "
        "http://127.0.0.1:8000/.",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN_DIR", help="folder of a run, or one that holds runs, such as outputs"
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; default: a free one")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
