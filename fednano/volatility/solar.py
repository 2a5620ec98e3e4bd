"""The command that makes synthetic traces, `python -m fednano.volatility.solar`; `traces/solar.py` does the work."""

import sys

from fednano.traces.solar import main

if __name__ == "__main__":
    sys.exit(main())
