"""The shapes of a GPT without its weights."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from fednano.model.gpt import GPT, GPTConfig


class _Undrawn(TorchFunctionMode):
    """Skips initial values, and keeps tables on the CPU because arithmetic on the meta device imports the compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func.__name__ in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        if func is torch.arange:
            kwargs = {**(kwargs or {}), "device": "cpu"}
        return func(*args, **(kwargs or {}))


def blueprint(config: GPTConfig) -> GPT:
    """The model on the meta device, which takes no memory and cannot compute."""
    with torch.device("meta"), _Undrawn():
        return GPT(config)
