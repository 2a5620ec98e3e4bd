"""The shapes of a GPT without its numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from fednano.model.gpt import GPT, GPTConfig


class _Undrawn(TorchFunctionMode):
    """Draws no initial values, and keeps tables on the CPU: arithmetic on the meta device imports torch's compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func.__name__ in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        if func is torch.arange:
            kwargs = {**(kwargs or {}), "device": "cpu"}
        return func(*args, **(kwargs or {}))


def blueprint(config: GPTConfig) -> GPT:
    """The model on the meta device; it takes no memory and cannot compute."""
    with torch.device("meta"), _Undrawn():
        return GPT(config)
