"""Precision by what the device multiplies fast, and the memory of a process."""

import platform

import pytest
import torch

from fednano.training.hardware import Hardware, multiplies_bfloat16_faster
from fednano.training.memory import keep_freed_memory


def hardware(dtype: str) -> Hardware:
    return Hardware("cpu", "cpu", 1, dtype, False, (1.0,))  # type: ignore[arg-type]


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
    with pytest.raises(ValueError, match=r"hardware\.dtype=int8 is unknown; use auto, float32 or bfloat16"):
        hardware("int8")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_glibc_is_told_to_keep_memory() -> None:
    assert keep_freed_memory()
