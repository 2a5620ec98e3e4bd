"""Tensors in safetensors files: reading and writing, with errors that name the file."""

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fednano.core.failures import named
from fednano.core.files import reading
from fednano.core.tensors import State


def load_tensors(path: Path) -> State:
    """The tensors of a safetensors file. Raises ValueError naming it if it cannot be read."""
    with reading(path, "restore it"):
        state: State = load_file(path)
        return state


def save_tensors(state: State, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError, as any other writing does."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        save_file(held, path, metadata)
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            raise named(int(found[1]), path) from error
        raise
