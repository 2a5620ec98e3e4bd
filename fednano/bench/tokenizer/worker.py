"""The process of one library: reads jobs as lines of JSON from its input, and answers each with one line.

It imports little, so that memory and start-up time are the library's own.
"""

import hashlib
import importlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from fednano.bench.tokenizer import hostile
from fednano.bench.tokenizer.contenders import CONTENDERS, Encoder, Training, prepare, read
from fednano.core.clock import wall

SHORT_TEXT = "The quick brown fox jumps over the lazy dog."


class TokenizerSession:
    """One library and its state between jobs. Each public method is a job and returns its answer."""

    def __init__(self, library: str) -> None:
        self._contender = CONTENDERS[library]
        self._encoder: Encoder
        self._texts: list[str]
        self._ids: Any  # uint32, one row

    def prepare(self, folder: str, files: list[str], patterns: list[str], merges: int, threads: int) -> dict[str, Any]:
        prepare(Path(folder), files, patterns, merges, threads)
        return {}

    def train(self, **training: Any) -> dict[str, Any]:
        """Read the files and train; the import is not timed."""
        assert self._contender.train is not None
        importlib.import_module(self._contender.module)
        start = wall()
        merges = self._contender.train(Training(**training))
        return {"seconds": wall() - start, "peak_bytes": peak_bytes(), "merges": merges}

    def cold(self, folder: str, pattern: str, files: list[str]) -> dict[str, Any]:
        """Import, load and encode, in a process that has not imported the library yet."""
        texts = list(read(files))
        start = wall()
        encoder = self._load(folder, pattern, 1)
        ready = wall()
        encoder.encode([SHORT_TEXT])
        first = wall()
        encoder.encode(texts)
        return {"seconds": wall() - start, "ready_s": ready - start, "first_text_s": first - ready}

    def load(self, folder: str, pattern: str, threads: int, files: list[str]) -> dict[str, Any]:
        """Prepare for `encode` and `decode`: load the tokenizer and encode once."""
        self._encoder = self._load(folder, pattern, threads)
        self._texts = list(read(files))
        self._ids = self._encoder.ids(self._encoder.encode(self._texts))
        return {"digest": hashlib.sha256(self._ids.tobytes()).hexdigest()}

    def encode(self) -> dict[str, Any]:
        start = wall()
        self._encoder.encode(self._texts)
        return {"seconds": wall() - start}

    def decode(self) -> dict[str, Any]:
        start = wall()
        data = self._encoder.decode(self._ids)
        return {"seconds": wall() - start, "digest": hashlib.sha256(data).hexdigest()}

    def attack(self, folder: str, pattern: str, name: str, size: int) -> dict[str, Any]:
        """Encode a hostile input; the first call loads the tokenizer."""
        self._encoder = getattr(self, "_encoder", None) or self._load(folder, pattern, 1)
        text = hostile.text(name, size)
        start = wall()
        ids = self._encoder.encode([text])
        seconds = wall() - start
        return {"seconds": seconds, "digest": hashlib.sha256(self._encoder.ids(ids).tobytes()).hexdigest()}

    def _load(self, folder: str, pattern: str, threads: int) -> Encoder:
        assert self._contender.load is not None
        return self._contender.load(Path(folder), pattern, threads)


def peak_bytes() -> int:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux, getrusage starts from the memory of the parent process.
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def main(library: str) -> None:
    """Answer until the input ends. An error ends the process; it is the last line on stderr."""
    # Some libraries print as they work; only answers may reach the pipe.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    session = TokenizerSession(library)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = getattr(session, job.pop("job"))(**job)
        except BaseException as error:  # a panic of a Rust library is no Exception
            sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
