"""What tests that run on the device of --device share: hardware, compilation, and eyes on tensors and waits."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fednano.training.hardware import Hardware

F = TypeVar("F", bound=Callable[..., Any])


def hardware(device: torch.device, dtype: str = "float32", *, compiled: bool = False) -> Hardware:
    return Hardware(
        name="test",
        device=str(device),
        threads=1,
        dtype=dtype,  # type: ignore[arg-type]
        compile=compiled,
        tokens_per_s=(1e6,),
    )


def compile_quickly(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, make torch.compile trace and differentiate but leave out its C++ compiler, which takes minutes."""
    if device.type == "cpu":
        real = torch.compile
        monkeypatch.setattr("torch.compile", lambda f, **options: real(f, backend="aot_eager", **options))


@contextmanager
def default_determinism() -> Any:
    """Undo within what a trainer sets for the whole process."""
    before = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class Operations(TorchDispatchMode):
    """The operations within the block: their names, and the most entries that a result of one had."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.names.append(func.name())
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return found
