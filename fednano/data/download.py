"""Download of one file by HTTP: resumed after a broken connection, retried, and accepted only if complete."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx

from fednano.core.clock import pause
from fednano.core.files import sha256_of, write_atomically

LONGEST_WAIT_S = 60.0
MOST_REDIRECTS = 10
MOST_BYTES = 1 << 35  # of a file; more than any shard
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))


class BrokenOffError(Exception):
    """The transfer broke off; another attempt may bring the rest. `wait_s`: seconds that the server asks to wait."""

    def __init__(self, what: str, wait_s: float = 0.0) -> None:
        super().__init__(what)
        self.wait_s = wait_s


class DamagedError(Exception):
    """The content is not the file; the next attempt starts over."""


class StoppedError(Exception):
    """The download was stopped because another one failed."""


@dataclass(frozen=True)
class Identity:
    """The identity of a file on the server; a partial file is only continued with the same one."""

    etag: str | None
    size: int | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Downloader:
    """Fetches files, with `retries` further attempts after 1, 2, 4, … and at most 60 s.

    `hint` ends every error message and names the settings to check. Once `stop` is set, every download ends with
    StoppedError.
    """

    client: httpx.Client
    retries: int
    hint: str
    stop: Event
    wait: Callable[[float], None] = pause

    def fetch(self, url: str, path: Path, accept: Callable[[Path], None]) -> None:
        """Download `url` to `path`, which only appears once the file is complete.

        `accept` inspects the file before it is moved into place and raises DamagedError to reject it. A
        partial file stays beside `path`; this process or a later one continues it, as long as the server still
        sends the same file. The ValueError of a failure names the URL, the last cause and `hint`.
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
            except httpx.InvalidURL as error:
                raise ValueError(f"{url} must be a URL ({error}); {self.hint}") from error
            except httpx.RequestError as error:
                cause = str(error) or type(error).__name__
            except BrokenOffError as error:
                cause, asked_s = str(error), error.wait_s
            except DamagedError as error:
                cause = str(error)
                part.discard()
            except OSError as error:
                remedy = "free some space there or set another data.root"
                raise ValueError(f"{part.path} cannot be written ({error.strerror}); {remedy}") from error
            else:
                part.path.replace(path)
                part.discard()
                return
        raise ValueError(f"{url} could not be fetched in {self.retries + 1} attempts ({cause}); {self.hint}")

    def _wait(self, seconds: float) -> None:
        """Wait, a second at a time; StoppedError ends the wait early."""
        left = min(seconds, LONGEST_WAIT_S)
        while left > 0:
            if self.stop.is_set():
                raise StoppedError
            self.wait(min(left, 1.0))
            left -= 1.0

    def _receive(self, url: str, part: "_Part") -> None:
        """Append what `part` lacks, or start it over if the server sends the whole file."""
        begun = part.identity()
        offset = part.size() if begun else 0
        headers = {"Accept-Encoding": "identity"}
        if begun and offset:
            headers["Range"] = f"bytes={offset}-"
            if begun.etag:
                headers["If-Range"] = begun.etag
        with self._opened(url, headers) as responses:
            response = responses[-1]
            self._require_body(url, response)
            sent = _identity(responses)
            if sent.size is not None and sent.size > MOST_BYTES:
                raise ValueError(f"{url} announces {sent.size} bytes, but may have {MOST_BYTES} at most; {self.hint}")
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                part.begin(sent)
            elif sent != begun or not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                raise DamagedError("the server continued with a different file")
            left = (MOST_BYTES if sent.size is None else sent.size) - part.size()
            with part.path.open("ab") as file:
                # Without a chunk size: what it would hold back is lost when the connection breaks.
                for chunk in response.iter_raw():
                    left -= len(chunk)
                    if left < 0:
                        raise DamagedError(f"the server sent more than {sent.size or MOST_BYTES} bytes")
                    file.write(chunk)
                    if self.stop.is_set():
                        raise StoppedError

    @contextmanager
    def _opened(self, url: str, headers: dict[str, str]) -> Iterator[Sequence[httpx.Response]]:
        """The responses on the way to a file, the last one open; redirects never lead from https to anything else."""
        request = self.client.build_request("GET", url, headers=headers)
        responses: list[httpx.Response] = []
        while True:
            response = self.client.send(request, stream=True, follow_redirects=False)
            responses.append(response)
            try:
                if response.next_request is None:
                    yield responses
                    return
            finally:
                response.close()
            following = response.next_request
            if request.url.scheme == "https" != following.url.scheme:
                raise ValueError(f"{url} must stay on https, but was redirected to {following.url}; {self.hint}")
            if len(responses) > MOST_REDIRECTS:
                raise ValueError(f"{url} was redirected more than {MOST_REDIRECTS} times; {self.hint}")
            request = following

    def _require_body(self, url: str, response: httpx.Response) -> None:
        status = f"{response.status_code} {response.reason_phrase}".strip()
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise DamagedError(f"the server answered {status}")
        if response.status_code in PASSING:
            asked = response.headers.get("Retry-After", "")
            raise BrokenOffError(f"the server answered {status}", float(asked) if asked.isdecimal() else 0.0)
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise ValueError(f"{url} answered {status}; {self.hint}")


class _Part:
    """A partial download: its bytes and, in a second file, their identity, so that a later process can continue."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(path.name + ".json")

    def identity(self) -> Identity | None:
        """The identity of the bytes; None if it is unknown, or too weak to continue safely."""
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
        """Raise DamagedError unless size and SHA-256 match what the server announced, if it did."""
        identity = Identity(**json.loads(self._note.read_text(encoding="utf-8")))
        if identity.size is not None and self.size() != identity.size:
            raise DamagedError(f"received {self.size()} bytes, but {identity.size} were announced")
        if identity.sha256 is not None and (found := sha256_of(self.path)) != identity.sha256:
            raise DamagedError(f"its SHA-256 is {found}, but {identity.sha256} was announced")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _identity(responses: Sequence[httpx.Response]) -> Identity:
    """The identity in the headers. The hub announces size and SHA-256 of a large file in the redirect that leads to it.

    Raises DamagedError if the announced sizes differ.
    """
    response = responses[-1]
    etag = response.headers.get("ETag")
    if etag is not None and etag.startswith("W/"):  # weak: the same meaning, not necessarily the same bytes
        etag = None
    linked = [r.headers.get("X-Linked-ETag", "").strip('"') for r in responses]
    sha256 = next((found for found in linked if re.fullmatch("[0-9a-f]{64}", found)), None)
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        said = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        said = response.headers.get("Content-Length", "")
    sizes = [_size(said), *(_size(r.headers.get("X-Linked-Size", "")) for r in responses)]
    known = [size for size in sizes if size is not None]
    if len(set(known)) > 1:
        raise DamagedError(f"the server announces {max(known)} bytes and {min(known)} bytes")
    return Identity(etag, known[0] if known else None, sha256)


def _size(said: str) -> int | None:
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else None
