"""The command `python -m fednano.volatility.solar`, which makes synthetic traces; the code is in `traces/solar.py`."""

import sys

from fednano.traces.solar import main

if __name__ == "__main__":
    sys.exit(main())
