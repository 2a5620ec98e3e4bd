"""The state of a strategy of Flower's as tensors: what it keeps from one aggregation to the next."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from fednano.core.tensors import State

NUMBERS: dict[type, torch.dtype] = {bool: torch.bool, int: torch.int64, float: torch.float64}
PLAIN = (bool, int, float, str, type(None))
# The arrays that it sent last. These are the global weights, and `configure_train` sets them anew.
SENT = "current_arrays"


def saved(strategy: Strategy, fresh: Strategy) -> State:
    """Whatever in a strategy differs from a `fresh` one, as tensors of the same bits.

    Names are ATTRIBUTE:KIND, or ATTRIBUTE:KIND:KEY for what is in a container. Raises ValueError for an attribute that
    is neither an array nor a number, nor a list, a dictionary or a record of arrays.
    """
    before = vars(fresh)
    kept: State = {}
    for name, value in vars(strategy).items():
        if name != SENT and not (name in before and _same(value, before[name])):
            kept |= {f"{name}:{kind}": tensor for kind, tensor in _tensors(name, value).items()}
    return kept


def restore(strategy: Strategy, state: Mapping[str, Tensor]) -> None:
    """Set the attributes that `saved` returned on a fresh strategy. Raises ValueError for names that it does not know.

    Keys come in sorted order, as they did when they were saved: a file does not keep another.
    """
    contents: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name in sorted(state):
        attribute, kind, *key = name.split(":", 2)
        contents.setdefault((attribute, kind), {})["".join(key)] = state[name]
    for (attribute, kind), tensors in contents.items():
        setattr(strategy, attribute, _value(kind, tensors))


def _same(value: Any, before: Any) -> bool:
    if value is before:
        return True
    plain = isinstance(value, PLAIN) and value == before
    return type(value) is type(before) and (plain or (isinstance(value, list | dict) and not value and not before))


def _tensors(name: str, value: Any) -> State:
    """The tensors of one attribute, by kind, and by key if there are several."""
    match value:
        case np.ndarray():
            return {"array": _tensor(name, value)}
        case np.generic():  # before floats, of which float64 is one: arithmetic with it has another precision
            return {"scalar": _tensor(name, np.asarray(value))}
        case bool() | int() | float():
            return {type(value).__name__: torch.tensor(value, dtype=NUMBERS[type(value)])}
        case list() if value:
            return {f"list:{i:09d}": _tensor(name, item) for i, item in enumerate(value)}
        case ArrayRecord() if value:
            return {f"record:{key}": _tensor(name, item.numpy()) for key, item in value.items()}
        case dict() if value and all(isinstance(key, str) for key in value):
            return {f"dict:{key}": _tensor(name, item) for key, item in value.items()}
    raise _unsaved(name, value)


def _tensor(name: str, value: Any) -> Tensor:
    # Arithmetic on arrays without dimensions makes NumPy's numbers of them, with the same results either way.
    if not isinstance(value, np.ndarray | np.generic):
        raise _unsaved(name, value)
    try:
        return torch.from_numpy(np.array(value, order="C"))
    except TypeError as error:
        raise _unsaved(name, value) from error


def _unsaved(name: str, value: Any) -> ValueError:
    return ValueError(f"checkpoints cannot hold its attribute {name}, a {type(value).__name__}")


def _value(kind: str, tensors: Mapping[str, Tensor]) -> Any:
    arrays = {key: tensor.numpy().copy() for key, tensor in tensors.items()}
    match kind:
        case "array":
            return arrays[""]
        case "scalar":
            return arrays[""][()]
        case "bool" | "int" | "float":
            return arrays[""].item()
        case "list":
            return list(arrays.values())
        case "dict":
            return arrays
        case "record":
            return ArrayRecord({key: Array(array) for key, array in arrays.items()})
    raise ValueError(f"the state of a strategy of Flower's must hold known kinds, got {kind}; restore the checkpoint")
