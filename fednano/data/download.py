"""One file by HTTP into place: resumed where it broke off, retried, and only accepted whole."""

import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx

from fednano.core.clock import pause
from fednano.core.files import sha256_of, write_atomically

LONGEST_WAIT_S = 60.0
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))


class BrokenOffError(Exception):
    """Another attempt may bring the rest. `wait_s`: seconds that the server asked for."""

    def __init__(self, what: str, wait_s: float = 0.0) -> None:
        super().__init__(what)
        self.wait_s = wait_s


class DamagedError(Exception):
    """What came is not the file; another attempt begins anew."""


class StoppedError(Exception):
    """The download was given up because another one failed."""


@dataclass(frozen=True)
class Identity:
    """Which file a server is sending; a part is only continued by the same one."""

    etag: str | None
    size: int | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Downloader:
    """Fetches files, with `retries` further attempts 1, 2, 4 … at most 60 s apart.

    `hint` ends every error: the setting to look at. Once `stop` is set, every download ends by StoppedError.
    """

    client: httpx.Client
    retries: int
    hint: str
    stop: Event
    wait: Callable[[float], None] = pause

    def fetch(self, url: str, path: Path, accept: Callable[[Path], None]) -> None:
        """Bring `url` to `path`; nothing stands there before the file is whole.

        `accept` looks at the file before it is moved into place and raises DamagedError where it is no
        good. A body that broke off stays beside `path` and is continued, by this process or a later one,
        while the server still sends the same file. ValueError names the URL, the last cause and `hint`.
        """
        part = _Part(path.with_name(path.name + ".part"))
        cause, asked_s = "", 0.0
        for attempt in range(self.retries + 1):
            if attempt > 0:
                self._wait(max(2.0 ** (attempt - 1), asked_s))
            asked_s = 0.0
            try:
                if not part.whole():
                    self._receive(url, part)
                part.check()
                accept(part.path)
            except httpx.RequestError as error:
                cause = str(error) or type(error).__name__
            except BrokenOffError as error:
                cause, asked_s = str(error), error.wait_s
            except DamagedError as error:
                cause = str(error)
                part.discard()
            except OSError as error:
                remedy = "make room there or set another data.root"
                raise ValueError(f"{part.path} cannot be written ({error.strerror}); {remedy}") from error
            else:
                part.path.replace(path)
                part.discard()
                return
        raise ValueError(f"{url} could not be fetched in {self.retries + 1} attempts ({cause}); {self.hint}")

    def _wait(self, seconds: float) -> None:
        """Wait so long, a second at a time: StoppedError ends it early."""
        left = min(seconds, LONGEST_WAIT_S)
        while left > 0:
            if self.stop.is_set():
                raise StoppedError
            self.wait(min(left, 1.0))
            left -= 1.0

    def _receive(self, url: str, part: "_Part") -> None:
        """Append what is missing of `part`, or write it anew where the server sends the whole."""
        begun = part.identity()
        offset = part.size() if begun else 0
        headers = {"Accept-Encoding": "identity"}
        if begun and offset:
            headers["Range"] = f"bytes={offset}-"
            if begun.etag:
                headers["If-Range"] = begun.etag
        with self.client.stream("GET", url, headers=headers, follow_redirects=True) as response:
            self._require_body(url, response)
            sent = _identity(response)
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                part.begin(sent)
            elif sent != begun or not response.headers["Content-Range"].startswith(f"bytes {offset}-"):
                raise DamagedError("the server continues another file than it began")
            with part.path.open("ab") as file:
                # As it comes: what a chunk size would hold back is lost when the connection breaks.
                for chunk in response.iter_raw():
                    file.write(chunk)
                    if self.stop.is_set():
                        raise StoppedError

    def _require_body(self, url: str, response: httpx.Response) -> None:
        status = f"{response.status_code} {response.reason_phrase}".strip()
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise DamagedError(f"the server answers {status}")
        if response.status_code in PASSING:
            asked = response.headers.get("Retry-After", "")
            raise BrokenOffError(f"the server answers {status}", float(asked) if asked.isdecimal() else 0.0)
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise ValueError(f"{url} answers {status}; {self.hint}")


class _Part:
    """A body under way: its bytes, and beside them whose they are, so that a later process can continue."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(path.name + ".json")

    def identity(self) -> Identity | None:
        """Whose bytes these are; None where that is unknown or cannot be told when continuing."""
        try:
            identity = Identity(**json.loads(self._note.read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        return identity if identity.etag or identity.sha256 else None

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def whole(self) -> bool:
        identity = self.identity()
        return identity is not None and identity.size is not None and identity.size == self.size()

    def begin(self, identity: Identity) -> None:
        self.discard()
        write_atomically(self._note, json.dumps(dataclasses.asdict(identity)))

    def check(self) -> None:
        """DamagedError unless size and SHA-256 are those announced, where any were."""
        identity = Identity(**json.loads(self._note.read_text(encoding="utf-8")))
        if identity.size is not None and self.size() != identity.size:
            raise DamagedError(f"{self.size()} bytes came where {identity.size} were announced")
        if identity.sha256 is not None and (found := sha256_of(self.path)) != identity.sha256:
            raise DamagedError(f"its SHA-256 is {found} where {identity.sha256} was announced")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _identity(response: httpx.Response) -> Identity:
    """What the headers say. The hub announces a large file's SHA-256 on the redirect that leads to it."""
    etag = response.headers.get("ETag")
    if etag is not None and etag.startswith("W/"):  # weak: the same meaning, not the same bytes
        etag = None
    linked = [r.headers.get("X-Linked-ETag", "").strip('"') for r in (*response.history, response)]
    sha256 = next((found for found in linked if re.fullmatch("[0-9a-f]{64}", found)), None)
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        size = response.headers["Content-Range"].rpartition("/")[2]
    else:
        size = response.headers.get("Content-Length", "")
    return Identity(etag, int(size) if size.isdecimal() else None, sha256)
