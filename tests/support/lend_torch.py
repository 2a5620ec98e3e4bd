"""An environment that has torch alone: links to the installed torch and what it requires, in another one's folder.

python tests/support/lend_torch.py SITE_PACKAGES
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path


def closure(*names: str) -> dict[str, Distribution]:
    """The distributions with these names that are installed, and those that they require, without extras."""
    found: dict[str, Distribution] = {}
    queue = list(names)
    while queue:
        name = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another system
            continue
        queue += [
            re.split(r"[^\w.-]", line)[0] for line in found[name].requires or () if not re.search(r"extra\s*==", line)
        ]
    return found


def main(target: Path) -> None:
    """Link the files at the top of each distribution into `target`."""
    for package in closure("torch", "numpy").values():
        for top in {path.parts[0] for path in package.files or () if path.parts[0] not in ("..", "__pycache__")}:
            link = target / top
            if not link.exists():
                link.symlink_to(Path(str(package.locate_file(top))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
