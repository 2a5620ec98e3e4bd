"""Data sets on the web (`data=fineweb_edu`, `data=climbmix`): shuffled Parquet shards, downloaded and used unchanged.

The shards are kept in `<root>/<name>/`, each with a note of its content. A corpus of N shards is a manifest in
`<root>/<name>-<N>/` that points to them. A larger corpus later downloads only the missing shards and leaves the
smaller one as it is.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fednano.config.paths import UserPath
from fednano.core.clock import pause
from fednano.core.files import locked, sha256_of, write_whole
from fednano.core.progress import Progress
from fednano.core.sealed import sealed, unsealed
from fednano.data.dataset import require_text, require_text_column, require_whole, root_folder
from fednano.data.download import DamagedError, Downloader
from fednano.data.manifest import MANIFEST, Manifest, ShardFile, SourceCount, Split
from fednano.data.partition import Partition
from fednano.data.shards import Corpus
from fednano.data.strings import as_strings

PATTERN_REMEDY = "set one like shard_{:05d}.parquet"


@dataclass(frozen=True)
class Content:
    """Content of a complete shard; `text_bytes` counts UTF-8."""

    rows: int
    text_bytes: int
    file_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class HubShards:
    """The first `shards` shards for training, and shard `last_shard` held out; all rows have one source, `name`.

    `pattern` makes a file name from a number. An attempt fails after `timeout_s` without a byte. `sha256` gives the
    digests of files by name, where they are known: a file with another digest is not taken.
    """

    name: str
    root: UserPath
    base_url: str
    pattern: str
    last_shard: int
    shards: int
    text_column: str
    threads: int
    retries: int
    timeout_s: float
    partition: Partition
    sha256: dict[str, str] = field(default_factory=dict)
    wait: Callable[[float], None] = field(default=pause, repr=False)

    def __post_init__(self) -> None:
        for key in ("name", "root", "base_url", "pattern", "text_column"):
            require_text(f"data.{key}", getattr(self, key))
        for key, least in (("last_shard", 1), ("shards", 1), ("threads", 1), ("retries", 0)):
            require_whole(f"data.{key}", getattr(self, key), least)
        _require_file_name("data.name", self.name, "climbmix")
        for file, digest in self.sha256.items():
            if not re.fullmatch("[0-9a-f]{64}", digest):
                raise ValueError(
                    f"data.sha256.{file} must be 64 digits 0-9 and a-f, got {digest}; correct or remove it"
                )
        if not re.match(r"https?://[^/\s]+", self.base_url):
            raise ValueError(f"data.base_url must be an http or https URL, got {self.base_url}; set it to one")
        if self.shards > self.last_shard:
            raise ValueError(
                f"data.shards must be <= {self.last_shard}, all training shards of {self.name}, got {self.shards}; "
                "use fewer"
            )
        if re.search(r"\{[^}]*([.\[]|\d{4})", self.pattern):  # would read attributes, or fill the memory
            raise ValueError(f"data.pattern must take a number, got {self.pattern}; {PATTERN_REMEDY}")
        _require_file_name("data.pattern", self._file_name(0), "shard_{:05d}.parquet", self.pattern)
        if self._file_name(0) == self._file_name(1):
            raise ValueError(f"data.pattern must hold a place for a number, got {self.pattern}; {PATTERN_REMEDY}")
        if not isinstance(self.timeout_s, float | int) or not self.timeout_s > 0:
            raise ValueError(f"data.timeout_s must be seconds > 0, got {self.timeout_s!r}; set, for example, 30")

    def check(self) -> None:
        """Raise ValueError if `root` cannot be written. Does not use the network."""
        root_folder(self.root)

    def ensure(self, progress: Progress) -> Corpus:
        """The corpus; missing shards are downloaded first. Raises ValueError if a shard does not arrive complete."""
        root = root_folder(self.root)
        store = root / self.name
        folder = root / f"{self.name}-{self.shards}"
        names = [self._file_name(number) for number in (*range(self.shards), self.last_shard)]
        if (folder / MANIFEST).exists() and all(self._kept(store / name) for name in names):
            return Corpus.open(folder, progress)
        with locked(root / f"{self.name}.lock", progress):
            store.mkdir(exist_ok=True)
            missing = [name for name in names if self._kept(store / name) is None]
            if missing:
                self._fetch(missing, store, progress)
            self._write_manifest(folder, store, names)
        return Corpus.open(folder, progress)

    def _file_name(self, number: int) -> str:
        try:
            return self.pattern.format(number)
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(
                f"data.pattern must take a number, got {self.pattern} ({error}); {PATTERN_REMEDY}"
            ) from error

    def _kept(self, path: Path) -> Content | None:
        """The content of the shard at `path`, from its note if size and footer agree; None: download it."""
        content = _noted(path)
        try:
            if content is None or self.sha256.get(path.name, content.sha256) != content.sha256:
                return None
            if path.stat().st_size == content.file_bytes and pq.read_metadata(path).num_rows == content.rows:
                return content
        except (FileNotFoundError, ValueError, TypeError, pa.ArrowException):
            return None
        return None

    def _fetch(self, names: Sequence[str], store: Path, progress: Progress) -> None:
        """Download `names` into `store`, `threads` at a time; the first failure stops the others."""
        stop = Event()
        hint = f"check the network, data.base_url={self.base_url} and data.shards={self.shards}"
        progress.start(f"downloading {self.name}", len(names), "shards")
        try:
            with (
                httpx.Client(timeout=self.timeout_s) as client,
                ThreadPoolExecutor(self.threads, thread_name_prefix="fetch") as pool,
            ):
                downloader = Downloader(client=client, retries=self.retries, hint=hint, stop=stop, wait=self.wait)
                try:
                    futures = [pool.submit(self._shard, name, store, downloader) for name in names]
                    for future in as_completed(futures):
                        future.result()
                        progress.advance(1)
                except BaseException:
                    stop.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        finally:
            progress.finish()

    def _shard(self, name: str, store: Path, downloader: Downloader) -> None:
        """Download one shard, unless a complete one was put there by hand."""
        path = store / name

        def accept(found: Path) -> None:
            write_whole(_note(path), sealed(dataclasses.asdict(self._content(found, name))))

        if path.exists():
            with suppress(DamagedError):
                noted = _noted(path)
                # A footer that has changed while the size has not is damage.
                if noted is None or not _has_size(path, noted):
                    return accept(path)
            path.unlink()
        return downloader.fetch(f"{self.base_url.rstrip('/')}/{name}", path, accept)

    def _content(self, path: Path, name: str) -> Content:
        """The content of shard `name` at `path`, decoded completely. Raises DamagedError if that fails."""
        try:
            parquet = pq.ParquetFile(path)
            require_text_column(self.text_column, parquet.schema_arrow, name)
            lengths = (
                pc.sum(pc.binary_length(as_strings(batch.column(0)))).as_py()
                for batch in parquet.iter_batches(columns=[self.text_column])
            )
            text_bytes = sum(length or 0 for length in lengths)
        except (pa.ArrowInvalid, OSError) as error:
            raise DamagedError(f"it is not a complete Parquet file: {error}") from error
        found = sha256_of(path)
        if found != self.sha256.get(name, found):
            raise DamagedError(f"its SHA-256 is {found}, but data.sha256 has {self.sha256[name]}")
        return Content(parquet.metadata.num_rows, text_bytes, path.stat().st_size, found)

    def _write_manifest(self, folder: Path, store: Path, names: Sequence[str]) -> None:
        files = []
        for name in names:
            split: Split = "validation" if name == names[-1] else "train"
            content = self._kept(store / name)
            assert content is not None, f"{name} was just fetched"
            files.append(ShardFile(name=f"../{self.name}/{name}", split=split, **dataclasses.asdict(content)))
        train = [file for file in files if file.split == "train"]
        count = SourceCount(sum(file.rows for file in train), sum(file.text_bytes for file in train))
        settings = {"base_url": self.base_url, "shards": self.shards, "last_shard": self.last_shard}
        folder.mkdir(exist_ok=True)
        Manifest(
            name=self.name,
            settings=settings,
            files=tuple(files),
            sources={self.name: count},
            source_column=None,
            text_column=self.text_column,
        ).write(folder)


def _require_file_name(key: str, name: str, example: str, given: str | None = None) -> None:
    """ValueError unless `name` is that of a file or folder in the data folder itself, and not hidden."""
    if not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*", name) or len(name.encode()) > 200:
        raise ValueError(
            f"{key} must be a plain file name, got {name if given is None else given!r}; set one like {example}"
        )


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _has_size(path: Path, content: Content) -> bool:
    return path.stat().st_size == content.file_bytes


def _noted(path: Path) -> Content | None:
    """The content of the shard at `path` according to its note; None if there is none or it is damaged."""
    try:
        noted = _note(path).read_bytes()
        # Notes of earlier versions have no checksum.
        return Content(**(unsealed(noted) if b'"checksum"' in noted else json.loads(noted)))
    except (FileNotFoundError, ValueError, TypeError):
        return None
