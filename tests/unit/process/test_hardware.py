"""Precision by what the device multiplies fast, and the memory of a process."""

import platform
import subprocess
import sys

import pytest
import torch

from fednano.process.memory import keep_freed_memory
from fednano.training.hardware import Hardware, multiplies_bfloat16_faster


def hardware(dtype: str) -> Hardware:
    return Hardware(name="cpu", device="cpu", threads=1, dtype=dtype, compile=False, tokens_per_s=(1.0,))  # type: ignore[arg-type]


def product_dtype(dtype: str) -> torch.dtype:
    """Of a product under the hardware's autocast."""
    with hardware(dtype).autocast():
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_units_for_it(
    capabilities: dict, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    assert product_dtype("auto") == expected
    assert (product_dtype("float32"), product_dtype("bfloat16")) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(("capability", "faster"), [((7, 5), False), ((8, 0), True), ((12, 0), True)])
def test_a_cuda_device_is_asked_for_its_capability(
    capability: tuple[int, int], faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert multiplies_bfloat16_faster(torch.device("cuda")) == faster


def test_apple_gpus_stay_in_float32() -> None:
    assert not multiplies_bfloat16_faster(torch.device("mps"))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hardware\.dtype must be auto, float32 or bfloat16, got int8"):
        hardware("int8")


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")


@glibc
def test_glibc_is_told_to_keep_memory() -> None:
    assert keep_freed_memory()


THREADS = """
import ctypes, threading
from fednano.process.memory import share_heaps

{told}
met = threading.Barrier(5)

def hold():
    held = bytes(100_000)
    met.wait()

threads = [threading.Thread(target=hold) for _ in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ctypes.CDLL(None).malloc_stats()
"""


@glibc
@pytest.mark.parametrize(("told", "heaps"), [("", 6), ("assert share_heaps()", 1)])
def test_threads_have_heaps_of_their_own_unless_glibc_is_told(told: str, heaps: int) -> None:
    words = [sys.executable, "-c", THREADS.format(told=told)]
    said = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=True).stderr
    assert said.count("Arena ") == heaps
