"""python -m fednano.bench NAME: speeds as ratios measured in one run, interleaved, medians."""

import importlib
import sys

# Imported when named: torch would add to the memory that the tokenizer's bench sees.
BENCHES = {
    "boundary": "fednano.bench.boundary",
    "loader": "fednano.bench.loader",
    "planners": "fednano.bench.planners",
    "protocol": "fednano.bench.protocol",
    "sample": "fednano.bench.sample",
    "tokenizer": "fednano.bench.tokenizer.command",
    "train_step": "fednano.bench.train_step.command",
    "workers": "fednano.bench.workers",
}


def main(arguments: list[str]) -> int:
    """Run the named bench with the rest of the arguments; the exit code."""
    name, *rest = arguments or [""]
    if name not in BENCHES:
        print(f"python -m fednano.bench NAME [--help], NAME one of {', '.join(BENCHES)}", file=sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    try:
        importlib.import_module(BENCHES[name]).main(rest)
    except ValueError as error:
        print(f"fednano: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
