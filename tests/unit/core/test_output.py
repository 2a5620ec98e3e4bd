"""Output that cannot end a run: readers that are gone, full disks, missing characters, closed descriptors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
SAYS = "from fednano.core.output import tolerate_output, reader_gone\ntolerate_output()\n"


def _says(code: str, stdout: int | None, **environment: str) -> tuple[int, str]:
    """Exit code and stderr of Python code after `tolerate_output`; its stdout is `stdout`, or closed if None."""
    words = [sys.executable, "-c", SAYS + code]
    if stdout is None:
        words = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *words]
    ran = subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, **environment}, check=False)
    return ran.returncode, ran.stderr.decode()


@pytest.fixture
def broken() -> int:
    """A pipe whose reader is gone."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_gone_reader_is_noticed_and_ends_nothing(broken: int, unbuffered: str) -> None:
    code = (
        "import sys, subprocess\n"
        "for _ in range(3): print('x' * 9000, flush=True)\n"
        "assert reader_gone()\n"
        "subprocess.run([sys.executable, '-c', 'print(1, flush=True)'], check=True)\n"  # a child prints to nowhere too
        "print('unflushed')"
    )
    assert _says(code, broken, PYTHONUNBUFFERED=unbuffered) == (0, "")
    os.close(broken)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_disk_ends_nothing() -> None:
    with FULL.open("wb") as full:
        code = "print('x', flush=True)\nassert not reader_gone()\nprint('unflushed')"
        assert _says(code, full.fileno()) == (0, "")


def test_a_closed_descriptor_is_given_to_no_file(tmp_path: Path) -> None:
    """Otherwise whatever children and libraries print would get into the first file that is opened."""
    target = tmp_path / "first"
    code = (
        f"import os\nfile = open({str(target)!r}, 'w')\nassert file.fileno() > 2\n"
        "print('x', flush=True)\nos.write(1, b'stray')"
    )
    assert _says(code, None) == (0, "")
    assert target.read_bytes() == b""


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", b"a ? ?"), ("latin-1", b"a ? \xe9"), ("utf-8", "a → é".encode())]
)
def test_characters_that_the_encoding_lacks_are_replaced(tmp_path: Path, encoding: str, shown: bytes) -> None:
    with (tmp_path / "out").open("wb") as out:
        assert _says("print('a \\u2192 \\xe9')", out.fileno(), PYTHONIOENCODING=encoding) == (0, "")
    assert (tmp_path / "out").read_bytes() == shown + b"\n"


def test_paths_that_are_no_text_can_be_printed(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        assert _says("import os; print(os.fsdecode(b'\\xff'))", out.fileno()) == (0, "")


def test_output_keeps_its_order_and_arrives_whole_through_a_slow_pipe() -> None:
    code = (
        "import fcntl, os\nos.set_blocking(1, False)\n"
        "if hasattr(fcntl, 'F_SETPIPE_SZ'): fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096)\n"  # less than is written at once
        "for i in range(20000): print(i)"
    )
    ran = subprocess.run([sys.executable, "-c", SAYS + code], stdout=subprocess.PIPE, check=True)
    assert [int(line) for line in ran.stdout.split()] == list(range(20000))


def test_streams_of_a_test_stay(capsys: pytest.CaptureFixture[str]) -> None:
    from fednano.core.output import reader_gone, tolerate_output

    tolerate_output()
    print("seen")
    assert capsys.readouterr().out == "seen\n"
    assert not reader_gone()
