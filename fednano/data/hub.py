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
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fednano.core.clock import pause
from fednano.core.files import locked, sha256_of, write_atomically
from fednano.core.progress import Progress
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

    `pattern` makes a file name from a number. An attempt fails after `timeout_s` without a byte.
    """

    name: str
    root: str
    base_url: str
    pattern: str
    last_shard: int
    shards: int
    text_column: str
    threads: int
    retries: int
    timeout_s: float
    partition: Partition
    wait: Callable[[float], None] = field(default=pause, repr=False)

    def __post_init__(self) -> None:
        for key in ("name", "root", "base_url", "pattern", "text_column"):
            require_text(f"data.{key}", getattr(self, key))
        for key, least in (("last_shard", 1), ("shards", 1), ("threads", 1), ("retries", 0)):
            require_whole(f"data.{key}", getattr(self, key), least)
        if not re.match(r"https?://[^/\s]+", self.base_url):
            raise ValueError(f"data.base_url must be an http or https URL, got {self.base_url}; set it to one")
        if self.shards > self.last_shard:
            raise ValueError(
                f"data.shards must be <= {self.last_shard}, all training shards of {self.name}, got {self.shards}; "
                "use fewer"
            )
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
            return Corpus.open(folder)
        with locked(root / f"{self.name}.lock", progress):
            store.mkdir(exist_ok=True)
            missing = [name for name in names if self._kept(store / name) is None]
            if missing:
                self._fetch(missing, store, progress)
            self._write_manifest(folder, store, names)
        return Corpus.open(folder)

    def _file_name(self, number: int) -> str:
        try:
            return self.pattern.format(number)
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(
                f"data.pattern must take a number, got {self.pattern} ({error}); {PATTERN_REMEDY}"
            ) from error

    def _kept(self, path: Path) -> Content | None:
        """The content of the shard at `path`, from its note if size and footer agree; None: download it."""
        try:
            content = Content(**json.loads(_note(path).read_text(encoding="utf-8")))
            if path.stat().st_size == content.file_bytes and pq.read_metadata(path).num_rows == content.rows:
                return content
        except (FileNotFoundError, json.JSONDecodeError, TypeError, pa.ArrowInvalid):
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
            write_atomically(_note(path), json.dumps(dataclasses.asdict(self._content(found, name))))

        if path.exists():
            try:
                return accept(path)
            except DamagedError:
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
        return Content(parquet.metadata.num_rows, text_bytes, path.stat().st_size, sha256_of(path))

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


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")
