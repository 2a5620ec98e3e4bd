"""The benchmarks: `python -m fednano.bench NAME`. Speeds are ratios of medians, measured in turns within one run."""

from fednano.core.interrupts import end_at_signals, unwinding

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import importlib
import sys

from fednano.config.errors import guarded
from fednano.core.output import tolerate_output

# Imported only when named: torch would add to the memory that the tokenizer's benchmark sees.
BENCHES = {
    "boundary": "fednano.bench.boundary",
    "codec": "fednano.bench.codec",
    "goodput": "fednano.bench.goodput.command",
    "loader": "fednano.bench.loader",
    "merge": "fednano.bench.merge",
    "planners": "fednano.bench.planners",
    "protocol": "fednano.bench.protocol.command",
    "sample": "fednano.bench.sample",
    "tokenizer": "fednano.bench.tokenizer.command",
    "train_step": "fednano.bench.train_step.command",
    "workers": "fednano.bench.workers",
}

USAGE = """\
usage: python -m fednano.bench NAME [--help] [OPTIONS]

Measures speeds on this machine. NAME is one of:

  boundary    the time between two rounds of a live federation, by its parts
  codec       encoding and decoding updates, compared with copying them
  goodput     tokens merged under churn, and computing time over thin links
  loader      making batches, compared with training on them
  merge       adding updates to the mean, and the server's memory
  planners    goodput of planners and kinds of rounds when clients come and go
  protocol    what the protocol costs in addition to training
  sample      generating text with and without a cache
  tokenizer   the tokenizer, compared with other libraries
  train_step  the training step, compared with nanochat
  workers     training clients in parallel, compared with one after the other"""


def main(arguments: list[str]) -> int:
    """Run the named benchmark with the remaining arguments; returns the exit code."""
    tolerate_output()
    name, *rest = arguments or [""]
    if name not in BENCHES:
        asked = name in ("-h", "--help")
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    return guarded(lambda: _run(BENCHES[name], rest))


def _run(module: str, arguments: list[str]) -> int:
    bench = importlib.import_module(module).main
    with unwinding():  # the processes that it measures end with it
        bench(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
