"""The handle of a worker process."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self


class ContenderError(Exception):
    """A contender ended with an error, or took too long. One line."""


class BenchWorker:
    """A separate process for `library`; `threads` is for libraries that take the number from the environment.

    The process runs `module` with the library and `arguments` on its command line, in this process's environment plus
    `extra_environment`.
    """

    def __init__(
        self,
        library: str,
        threads: int,
        timeout: float,
        *arguments: str,
        module: str = "fednano.bench.tokenizer.worker",
        extra_environment: Mapping[str, str] | None = None,
    ) -> None:
        self._timeout = timeout
        self._failure = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        # With compiled modules on disk, as in daily use.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        # tiktoken would copy its file into a cache of its own.
        environment |= {"RAYON_NUM_THREADS": str(threads), "TIKTOKEN_CACHE_DIR": "", **(extra_environment or {})}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, library, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            bufsize=0,
        )

    def ask(self, job: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a job. Raises ContenderError if it fails, and for every job after that."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if not self._failure:
            try:
                self._process.stdin.write(json.dumps({"job": job, **arguments}).encode() + b"\n")
                ready, _, _ = select.select([self._process.stdout], [], [], self._timeout)
                line = self._process.stdout.readline() if ready else b""
                if line.endswith(b"\n"):
                    answer: dict[str, Any] = json.loads(line)
                    return answer
                self._failure = self._last_words() if ready else f"no answer within {self._timeout:g} s"
            except BrokenPipeError:
                self._failure = self._last_words()
            self._process.kill()
        raise ContenderError(self._failure)

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if code > 0 and lines else f"ended with code {code}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Lets the process end by itself, unless something went wrong here or it does not."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if error is not None:
            self._process.kill()
        self._process.stdin.close()
        try:
            self._process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
