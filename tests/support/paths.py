"""Where things are in a checkout."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CONF = REPOSITORY / "conf"
FIXTURES = REPOSITORY / "tests" / "fixtures"
PACKAGE = REPOSITORY / "fednano"
