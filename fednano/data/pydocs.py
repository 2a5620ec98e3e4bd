"""The data set `data=pydocs`: English prose in every installation, the documentation of installed packages."""

import importlib.metadata
import importlib.util
import logging
import multiprocessing
import os
import platform
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fednano.config.paths import UserPath
from fednano.core.files import is_stray, made_once
from fednano.core.progress import Progress
from fednano.data.dataset import (
    keyed,
    require_fraction,
    require_share,
    require_text,
    require_whole,
    root_folder,
)
from fednano.data.docstrings import FileJob, docstrings_of_file
from fednano.data.manifest import MANIFEST
from fednano.data.partition import Partition
from fednano.data.shards import Corpus
from fednano.data.writer import Document, write_corpus

STANDARD_LIBRARY = "python"
TEST_FOLDERS = frozenset(("test", "tests", "testing", "idlelib", "lib2to3", "turtledemo"))
FOREIGN_FOLDERS = frozenset(("site-packages", "dist-packages", "_vendor", "vendored", "thirdparty_files"))
FILES_A_TASK = 16


@dataclass(frozen=True)
class Package:
    """An installed package; `name` is both its import name and the name of its distribution."""

    name: str
    version: str
    folder: Path

    def files(self) -> list[Path]:
        """Its modules, sorted by name, without tests and vendored copies of other packages."""
        found: list[Path] = []
        for folder, inner, files in os.walk(self.folder):
            inner[:] = set(inner) - TEST_FOLDERS - FOREIGN_FOLDERS
            found.extend(Path(folder, file) for file in files if file.endswith(".py") and not is_stray(file))
        return sorted(found)


@dataclass(frozen=True, kw_only=True)
class PyDocs:
    """Docstrings of at least `min_chars` characters. Each package is a source; "python" is the standard library.

    A file with a smaller share of docstrings than `min_share` is skipped: it takes long to parse and gives little.
    Packages that are not installed are skipped. The same versions give byte-identical files; other versions give
    another folder under `root`. `workers` processes parse; with 1, this process does.
    """

    root: UserPath
    packages: Sequence[str]
    min_chars: int
    min_share: float
    validation_fraction: float
    workers: int
    partition: Partition

    def __post_init__(self) -> None:
        require_text("data.root", self.root)
        if isinstance(self.packages, str) or not self.packages:
            raise ValueError(
                f"data.packages must be a list of names, got {self.packages!r}; set data.packages=[python,numpy]"
            )
        require_whole("data.min_chars", self.min_chars, 1)
        require_share("data.min_share", self.min_share)
        require_fraction("data.validation_fraction", self.validation_fraction)
        require_whole("data.workers", self.workers, 1)

    def check(self) -> None:
        """Raise ValueError if `root` cannot be written or no package is installed."""
        root_folder(self.root)
        self._installed()

    def ensure(self, progress: Progress) -> Corpus:
        """The corpus; extracted first if these versions have none yet, in about 20 s of one core."""
        installed = self._installed()
        versions = {package.name: package.version for package in installed}
        settings = {
            "packages": versions,
            "min_chars": self.min_chars,
            "min_share": self.min_share,
            "validation_fraction": self.validation_fraction,
        }

        def make(partial: Path) -> None:
            write_corpus(
                partial,
                "pydocs",
                settings,
                self._documents(installed, progress),
                origin=f"data.packages={[*versions]}",
                validation_fraction=self.validation_fraction,
            )

        folder = root_folder(self.root) / keyed("pydocs", settings)
        made_once(folder, MANIFEST, make, progress)
        return Corpus.open(folder, progress)

    def _installed(self) -> list[Package]:
        found = {name: find_package(name) for name in self.packages}
        missing = [name for name, package in found.items() if package is None]
        if len(missing) == len(found):
            raise ValueError(
                f"data.packages must name installed packages, got {missing}; add python, the standard library"
            )
        if missing:
            logging.getLogger(__name__).info("pydocs skips packages that are not installed: %s", ", ".join(missing))
        return [package for package in found.values() if package is not None]

    def _documents(self, packages: Iterable[Package], progress: Progress) -> Iterator[Document]:
        files = [(package.name, path) for package in packages for path in package.files()]
        jobs = [FileJob(path, self.min_chars, self.min_share) for _, path in files]
        progress.start("extracting documentation", len(files), "files")
        try:
            for (source, _), texts in zip(files, self._extracted(jobs), strict=True):
                progress.advance(1)
                yield from ((text, source) for text in texts)
        finally:
            progress.finish()

    def _extracted(self, jobs: list[FileJob]) -> Iterator[list[str]]:
        if self.workers == 1:
            yield from map(docstrings_of_file, jobs)
            return
        # spawn: the calling process may have threads, which do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, mp_context=context) as pool:
            try:
                yield from pool.map(docstrings_of_file, jobs, chunksize=FILES_A_TASK)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def find_package(name: str) -> Package | None:
    """The package `name`, found without importing it; None if it is not installed."""
    if name == STANDARD_LIBRARY:
        return Package(name, platform.python_version(), Path(sysconfig.get_path("stdlib")))
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Package(name, version, Path(spec.submodule_search_locations[0]))
