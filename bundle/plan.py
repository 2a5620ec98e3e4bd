"""The wheels of a bundle that this Python's environment still needs, one path a line.

What is installed and new enough stays. torch and numpy are never replaced.
"""

import sys
from email import message_from_bytes
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

ROOTS = ("fednano", "pytest", "pytest-xdist", "hypothesis")
OPTIONAL = ("ray", "wandb")  # taken if they are there
OURS = ("fednano", "fednano-rustbpe")  # versions say little while a project is young: always those of the bundle
KEPT = ("torch", "numpy")
SPARED = ("uv", "uvloop", "httptools", "watchfiles", "wandb")  # packages ask for them, but fednano runs without


class Wheel:
    """A wheel of the bundle, its version and its requirements."""

    def __init__(self, path: Path) -> None:
        self.path, self.version = path, path.name.split("-")[1]
        with ZipFile(path) as archive:
            [name] = [entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA")]
            self.requires: list[str] = message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []


def main(folder: str) -> int:
    wheels = {canonicalize_name(path.name.split("-")[0]): Wheel(path) for path in sorted(Path(folder).glob("*.whl"))}
    needed: dict[str, Wheel] = {}
    missing: set[str] = set()
    seen: set[str] = set()
    queue = [Requirement(name) for name in (*ROOTS, *(name for name in OPTIONAL if name in wheels))]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        there = installed(name)
        if name in needed or name in OURS or there is None or not fits(requirement, there.version):
            if there is not None and name in KEPT:
                missing.add(f"{name} must be {requirement.specifier}, got {there.version}")
                continue
            wheel = wheels.get(name)
            if wheel is None or not fits(requirement, wheel.version):
                if name not in SPARED:
                    missing.add(f"{requirement} must be installed, or its wheel be in {folder}")
                continue
            needed[name] = wheel
            requires = wheel.requires
        elif name in KEPT:
            continue
        else:
            requires = there.requires or []
        for line in requires:
            asked = Requirement(line)
            if asked.marker is None or any(asked.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                queue.append(asked)
    if missing:
        version = ".".join(map(str, sys.version_info[:2]))
        print(
            f"install.sh: {'; '.join(sorted(missing))}; fetch wheels elsewhere with: pip download --no-deps "
            f"--only-binary=:all: --python-version {version} --platform manylinux_2_28_x86_64 NAME",
            file=sys.stderr,
        )
        return 2
    for wheel in needed.values():
        print(wheel.path)
    return 0


def installed(name: str) -> "metadata.Distribution | None":
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def fits(requirement: Requirement, version: str) -> bool:
    return requirement.specifier.contains(version.partition("+")[0], prereleases=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
