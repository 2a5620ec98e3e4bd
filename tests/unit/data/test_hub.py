"""Shards by HTTP from a server that misbehaves on purpose: they arrive whole, or the error says why not."""

import dataclasses
import errno
import hashlib
import io
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.damage import flip
from support.serving import listening

from fednano.core.progress import Silent
from fednano.data.download import _Part
from fednano.data.hub import HubShards
from fednano.data.partition import Iid
from fednano.data.shards import Corpus

LAST = 4


def texts_of(number: int) -> list[str]:
    return [f"Shard {number}, document {i}: {hashlib.sha256(bytes([number, i])).hexdigest()} é" for i in range(250)]


def shard(number: int, compression: str = "snappy") -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts_of(number)}), sink, row_group_size=100, compression=compression)
    return sink.getvalue()


@dataclass
class Request:
    path: str
    range: str | None
    if_range: str | None
    sent: int = 0


@dataclass(kw_only=True)
class Hub:
    """A server and its log; `faults[name]` says what it does wrong to the next requests for that file."""

    files: dict[str, bytes]
    etag: str = '"{sha256}"'
    linked: bool = True  # announces the SHA-256 on a redirect, as the hub does for large files
    honours_range: bool = True
    honours_if_range: bool = True
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def of(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.path == f"/cdn/{name}"]


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        folder, _, name = self.path.strip("/").partition("/")
        request = Request(self.path, self.headers["Range"], self.headers["If-Range"])
        self.hub.requests.append(request)
        body = self.hub.files.get(name)
        if body is None:
            self.send_error(404)
        elif folder == "main":
            self._redirect(name, body)
        else:
            self._send(request, body, self.hub.faults[name].pop(0) if self.hub.faults[name] else "")

    def _redirect(self, name: str, body: bytes) -> None:
        self.send_response(302)
        self.send_header("Location", f"/cdn/{name}")
        if self.hub.linked:
            self.send_header("X-Linked-ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, request: Request, body: bytes, fault: str) -> None:
        if fault.isdecimal():
            self.send_response(int(fault))
            self.send_header("Retry-After", "7")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        etag = self.hub.etag.format(sha256=hashlib.sha256(body).hexdigest())
        begin = 0
        same = request.if_range in (None, etag) or not self.hub.honours_if_range
        if self.hub.honours_range and request.range and same:
            begin = int(request.range.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if begin else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        sent = body[begin : len(body) // 2] if fault == "break" else body[begin:]
        if fault == "corrupt":
            sent = sent[:200] + bytes(100) + sent[300:]
        self.wfile.write(sent)
        request.sent = len(sent)
        self.close_connection = True


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub(files={f"shard_{number:05d}.parquet": shard(number) for number in range(LAST + 1)})
    handler = type("BoundHandler", (Handler,), {"hub": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}/main"
    with listening(server):
        yield served


@dataclass
class Bench:
    hub: Hub
    root: Path
    waits: list[float] = field(default_factory=list)

    def data(self, shards: int = 2, **changed: object) -> HubShards:
        made = HubShards(
            name="toy_set",
            root=str(self.root),
            base_url=self.hub.url,
            pattern="shard_{:05d}.parquet",
            last_shard=LAST,
            shards=shards,
            text_column="text",
            threads=2,
            retries=3,
            timeout_s=10.0,
            partition=Iid(),
            wait=self.waits.append,
        )
        return dataclasses.replace(made, **changed)  # type: ignore[arg-type]

    def ensure(self, shards: int = 2, **changed: object) -> Corpus:
        corpus = self.data(shards, **changed).ensure(Silent())
        corpus.verify()
        assert corpus.texts(range(corpus.train_rows)).to_pylist() == [
            text for number in range(shards) for text in texts_of(number)
        ]
        left_over = [path.name for path in (self.root / "toy_set").iterdir() if ".part" in path.name]
        assert left_over == []
        return corpus

    def fails(self, says: str, shards: int = 1, **changed: object) -> None:
        with pytest.raises(ValueError, match=says) as error:
            self.data(shards, **changed).ensure(Silent())
        assert "\n" not in str(error.value)
        assert "data.shards" in str(error.value) or "data.text_column" in str(error.value)
        assert not (self.root / f"toy_set-{shards}").exists()


@pytest.fixture
def bench(hub: Hub, tmp_path: Path) -> Bench:
    return Bench(hub, tmp_path / "root")


FIRST = "shard_00000.parquet"


def test_first_shards_train_and_the_last_is_held_out(bench: Bench) -> None:
    corpus = bench.ensure(3)
    held_out = [text for group in corpus.iter_texts("validation") for text in group.to_pylist()]
    assert held_out == texts_of(LAST)
    assert corpus.train_bytes == sum(len(text.encode()) for n in range(3) for text in texts_of(n))
    assert corpus.source_names == ("toy_set",)
    assert corpus.sources().tolist() == [0] * 750
    assert all(request.range is None for request in bench.hub.requests)
    assert bench.waits == []


def test_more_shards_fetch_only_what_is_missing(bench: Bench) -> None:
    small = bench.ensure(1)
    before = len(bench.hub.requests)
    large = bench.ensure(3)
    assert {request.path for request in bench.hub.requests[before:]} == {
        f"/{folder}/shard_{number:05d}.parquet" for folder in ("main", "cdn") for number in (1, 2)
    }
    before = len(bench.hub.requests)
    assert bench.ensure(1).sha256 == small.sha256
    assert bench.ensure(3).sha256 == large.sha256
    assert len(bench.hub.requests) == before


def test_a_flipped_bit_is_refused_until_the_shard_is_deleted(bench: Bench) -> None:
    bench.ensure()
    store = bench.root / "toy_set"
    flip(store / FIRST, at=100)
    with pytest.raises(ValueError, match=f"{FIRST} is damaged: .*; delete it to download it again") as caught:
        bench.ensure()
    assert "\n" not in str(caught.value)
    (store / FIRST).unlink()
    bench.ensure()


def test_a_bit_that_flips_in_the_footer_never_gets_a_note(bench: Bench) -> None:
    """The shard can still be read then, but its number of rows is another."""
    good = bench.ensure()
    path = bench.root / "toy_set" / FIRST

    def says_other_rows(at: int) -> bool:
        flip(path, at)
        try:
            return bool(pq.read_metadata(path).num_rows != 250)
        except (OSError, pa.ArrowInvalid):
            return False
        finally:
            flip(path, at)

    at = next(at for at in range(-1, -path.stat().st_size, -1) if says_other_rows(at))
    flip(path, at)
    assert bench.ensure().manifest == good.manifest
    assert path.read_bytes() == bench.hub.files[FIRST], "it was downloaded again"


def test_a_damaged_note_is_written_again_from_the_shard(bench: Bench) -> None:
    note = bench.root / "toy_set" / f"{FIRST}.json"
    good = bench.ensure()
    noted, requests = note.read_bytes(), len(bench.hub.requests)
    for at in range(0, len(noted), 47):
        flip(note, at)
        assert bench.ensure().manifest == good.manifest
        assert note.read_bytes() == noted
    assert len(bench.hub.requests) == requests
    kept = json.loads(noted)
    del kept["checksum"]
    note.write_text(json.dumps(kept))  # as an earlier version wrote it
    assert bench.ensure().manifest == good.manifest


@pytest.mark.parametrize(("etag", "linked"), [('"{sha256}"', True), ('"{sha256}"', False), ('W/"weak"', True)])
def test_a_broken_connection_is_resumed(bench: Bench, etag: str, linked: bool) -> None:
    bench.hub.etag, bench.hub.linked = etag, linked
    bench.hub.faults[FIRST] = ["break"]
    bench.ensure()
    size = len(bench.hub.files[FIRST])
    first, second = bench.hub.of(FIRST)
    assert (first.range, second.range) == (None, f"bytes={size // 2}-")
    assert second.if_range == (None if etag.startswith("W/") else first_etag(bench.hub))
    assert first.sent + second.sent == size
    assert bench.waits == [1.0]


def first_etag(hub: Hub) -> str:
    return f'"{hashlib.sha256(hub.files[FIRST]).hexdigest()}"'


def test_a_part_is_continued_by_a_later_process(bench: Bench) -> None:
    bench.hub.faults[FIRST] = ["break"]
    bench.fails("could not be fetched in 1 attempts", retries=0)
    bench.ensure()
    first, second = bench.hub.of(FIRST)
    assert first.sent + second.sent == len(bench.hub.files[FIRST])
    assert second.range is not None


def test_a_server_without_ranges_starts_again(bench: Bench) -> None:
    bench.hub.honours_range = False
    bench.hub.faults[FIRST] = ["break"]
    bench.ensure()
    _, second = bench.hub.of(FIRST)
    assert second.range is not None
    assert second.sent == len(bench.hub.files[FIRST])


def test_without_anything_to_tell_the_file_by_nothing_is_continued(bench: Bench) -> None:
    bench.hub.etag, bench.hub.linked = 'W/"weak"', False
    bench.hub.faults[FIRST] = ["break"]
    bench.ensure()
    assert [request.range for request in bench.hub.of(FIRST)] == [None, None]


@pytest.mark.parametrize(("etag", "linked"), [('"{sha256}"', True), ('"{sha256}"', False), ('W/"weak"', True)])
def test_a_file_that_changed_meanwhile_is_not_mixed(bench: Bench, etag: str, linked: bool) -> None:
    bench.hub.etag, bench.hub.linked = etag, linked
    bench.hub.faults[FIRST] = ["break"]
    old = bench.hub.files[FIRST]
    bench.hub.files[FIRST] = shard(9)
    bench.fails("could not be fetched in 1 attempts", retries=0)
    bench.hub.files[FIRST] = old
    bench.ensure()


def test_a_server_that_continues_another_file_is_not_believed(bench: Bench) -> None:
    # Uncompressed, the two files are of one length, and half of each makes a parquet file that can be read.
    bench.hub.linked = bench.hub.honours_if_range = False
    bench.hub.files[FIRST] = shard(9, compression="none")
    bench.hub.faults[FIRST] = ["break"]
    bench.fails("could not be fetched in 1 attempts", retries=0)
    bench.hub.files[FIRST] = shard(0, compression="none")
    bench.ensure()


@pytest.mark.parametrize("linked", [True, False])
def test_a_damaged_body_is_fetched_again(bench: Bench, linked: bool) -> None:
    bench.hub.linked = linked
    bench.hub.faults[FIRST] = ["corrupt"]
    bench.ensure()
    assert [request.range for request in bench.hub.of(FIRST)] == [None, None]


def test_a_body_that_stays_damaged_is_an_error(bench: Bench) -> None:
    bench.hub.faults[FIRST] = ["corrupt"] * 9
    bench.fails(f"{FIRST} could not be fetched in 4 attempts .*SHA-256 is .* was announced.*; check ")
    assert bench.waits == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], "1, 2 and 4 s, a second at a time"
    assert not (bench.root / "toy_set" / FIRST).exists()


def test_a_file_has_the_digest_that_the_user_knows(bench: Bench) -> None:
    known = hashlib.sha256(bench.hub.files[FIRST]).hexdigest()
    bench.ensure(sha256={FIRST: known})
    bench.ensure(sha256={FIRST: known})
    assert len(bench.hub.of(FIRST)) == 1
    bench.fails(f"its SHA-256 is {known}, but data.sha256 has {'0' * 64}", retries=0, sha256={FIRST: "0" * 64})
    bench.ensure(sha256={FIRST: known})
    assert len(bench.hub.of(FIRST)) == 3, "a file with another digest is not kept"


def test_a_busy_server_is_asked_again_when_it_says(bench: Bench) -> None:
    bench.hub.faults[FIRST] = ["503", "429"]
    bench.ensure()
    assert sum(bench.waits) == 14.0


def test_a_missing_file_is_named_at_once(bench: Bench) -> None:
    del bench.hub.files[FIRST]
    bench.fails(rf"^http://127.0.0.1:\d+/main/{FIRST} answered 404 Not Found; .*data.shards=1")
    assert bench.waits == []


def test_a_server_that_is_not_there_is_named(bench: Bench) -> None:
    bench.fails(
        r"http://127.0.0.1:9/x/shard_0000\d.parquet could not be fetched",
        base_url="http://127.0.0.1:9/x",
        retries=1,
    )


def test_a_shard_damaged_on_disk_is_fetched_again(bench: Bench) -> None:
    bench.ensure()
    path = bench.root / "toy_set" / FIRST
    path.write_bytes(path.read_bytes()[:-10])
    bench.ensure()
    assert len(bench.hub.of(FIRST)) == 2


def test_a_shard_written_anew_on_disk_is_taken_as_it_is(bench: Bench) -> None:
    bench.ensure()
    path = bench.root / "toy_set" / FIRST
    pq.write_table(pq.read_table(path), path, compression="none")
    bench.ensure()
    assert len(bench.hub.of(FIRST)) == 1


def test_progress_counts_the_shards_that_are_missing(bench: Bench) -> None:
    bench.ensure(1)
    said: list[object] = []

    class Told(Silent):
        def start(self, what: str, total: int | None, unit: str) -> None:
            said.append((what, total, unit))

        def advance(self, n: int) -> None:
            said.append(n)

        def finish(self) -> None:
            said.append("finished")

    bench.data(3).ensure(Told())
    assert said == [("downloading toy_set", 2, "shards"), 1, 1, "finished"]


def test_shards_put_there_by_hand_need_no_network(bench: Bench) -> None:
    store = bench.root / "toy_set"
    store.mkdir(parents=True)
    for number in (0, 1, LAST):
        (store / f"shard_{number:05d}.parquet").write_bytes(shard(number))
    bench.ensure()
    assert bench.hub.requests == []


def test_shards_whose_strings_are_laid_out_in_other_ways(bench: Bench) -> None:
    store = bench.root / "toy_set"
    store.mkdir(parents=True)
    column = pa.array([*texts_of(0), None])
    layouts = (column.dictionary_encode(), column.cast(pa.string_view()), pa.nulls(2))
    for number, layout in zip((0, 1, LAST), layouts, strict=True):
        pq.write_table(pa.table({"text": layout}), store / f"shard_{number:05d}.parquet")
    corpus = bench.data().ensure(Silent())
    found = [text for array in corpus.iter_texts("train") for text in array.to_pylist()]
    assert found == 2 * [*texts_of(0), ""]
    assert corpus.texts(range(corpus.train_rows)).to_pylist() == found
    assert corpus.train_bytes == 2 * sum(len(text.encode()) for text in texts_of(0))


def test_a_wrong_column_is_named_with_those_that_there_are(bench: Bench) -> None:
    wrong = r"^data.text_column must be a column of shard_0000\d.parquet, got body; use one of text$"
    bench.fails(wrong, text_column="body")


def test_a_column_without_strings_is_named(bench: Bench) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [1, 2]}), sink)
    bench.hub.files[FIRST] = sink.getvalue()
    bench.fails(rf"^data.text_column must be a column of strings, got text of type int64 in {FIRST}; name another one$")


def test_a_full_disk_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(part: object, identity: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_Part, "begin", full)
    with pytest.raises(ValueError, match=r"\.part cannot be written \(No space left on device\); free some space"):
        bench.data().ensure(Silent())


def test_several_at_once_fetch_it_once(bench: Bench) -> None:
    jobs = [threading.Thread(target=bench.data().ensure, args=(Silent(),)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    before = len(bench.hub.requests)
    bench.ensure()
    assert before == len(bench.hub.requests) == 2 * 3


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"shards": 0}, "data.shards must be a whole number >= 1, got 0; set data.shards=1 or more"),
        ({"shards": LAST + 1}, f"data.shards must be <= {LAST}, all training shards of toy_set, got 5; use fewer"),
        ({"base_url": "ftp://x"}, "data.base_url must be an http or https URL, got ftp://x; "),
        ({"pattern": "shard.parquet"}, "data.pattern must hold a place for a number, got shard.parquet; set one like"),
        ({"pattern": "{x}"}, "data.pattern must take a number, got {x}"),
        ({"pattern": "../s_{}.parquet"}, r"data.pattern must be a plain file name, got '\.\./s_{}\.parquet'; set"),
        ({"pattern": "/tmp/{}"}, "data.pattern must be a plain file name, got '/tmp/{}'; "),
        ({"pattern": "a\\{}"}, "data.pattern must be a plain file name, "),
        ({"pattern": "a\0{}"}, "data.pattern must be a plain file name, "),
        ({"pattern": "{:099999999}"}, "data.pattern must take a number, "),
        ({"pattern": "{0.__class__}{0}"}, "data.pattern must take a number, "),
        ({"name": "../elsewhere"}, r"data.name must be a plain file name, got '\.\./elsewhere'; "),
        ({"name": ".."}, r"data.name must be a plain file name, got '\.\.'; "),
        ({"sha256": {"a": "0"}}, "data.sha256.a must be 64 digits 0-9 and a-f, got 0; "),
        ({"timeout_s": 0}, "data.timeout_s must be seconds > 0, got 0; "),
        ({"retries": -1}, "data.retries must be a whole number >= 0, got -1; "),
        ({"threads": 0}, "data.threads must be a whole number >= 1, got 0; "),
    ],
)
def test_settings_are_checked(bench: Bench, changed: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        bench.data(**changed)  # type: ignore[arg-type]
    assert bench.hub.requests == []
