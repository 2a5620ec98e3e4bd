"""Conversion of the keys of `flwr run --run-config`, whose defaults are in `app/pyproject.toml`, to Hydra overrides."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from fednano.config.checks import check_value
from fednano.config.quoting import quoted

Value = bool | int | float | str
CHOICE = re.compile(r"[A-Za-z0-9_]+")

# The first overrides: the runtime on which Flower's own command runs the apps, and choices that fit it.
SIMULATED = ("volatility=none", "runtime=simulation")
DEPLOYED = (
    "volatility=none",
    "runtime=deployment",
    # SuperLink and nodes run already, and only the nodes know this machine's name.
    "runtime.local_nodes=0",
    "runtime.hosts=[localhost]",
    "coordination=redis",
)
ADAMW = "adamw"  # the optimizer that has one learning rate for all matrices
OVERRIDES = "overrides"  # the key with further Hydra overrides, split as a shell would


@dataclass(frozen=True)
class Key:
    """A key of the run configuration.

    Args:
        default: the default in `app/pyproject.toml`, which leaves the configuration as it is.
        target: the configuration key that it sets.
        unset: what the default means, if it is not a value of its own.
    """

    default: Value
    target: str
    unset: str = ""

    @property
    def choice(self) -> bool:
        """Whether it is a group's choice."""
        return "." not in self.target and isinstance(self.default, str)


KEYS = {
    "lr": Key(0.0, "optim.matrix_lr", "the optimizer's own"),  # of AdamW: optim.lr
    "batch_size": Key(8, "batch_size"),
    "local_steps": Key(25, "strategy.local_steps"),
    "local_epochs": Key(1, "", "a row is trained once"),
    "num_rounds": Key(12, "rounds"),
    "num-server-rounds": Key(0, "rounds", "num_rounds"),
    "depth": Key(2, "model.depth"),
    "sequence_len": Key(256, "model.sequence_len"),
    "strategy": Key("diloco", "strategy"),
    "outer_lr": Key(0.0, "strategy.outer.lr", "the strategy's own"),
    "optim": Key("muon_adamw", "optim"),
    "data": Key("pydocs", "data"),
    "data_path": Key("", "data.path", "none"),
    "tokenizer": Key("bpe_4k", "tokenizer"),
    "clients": Key(4, "clients"),
    "volatility": Key("none", "volatility"),
    "hardware": Key("cpu", "hardware"),
    "seed": Key(0, "seed"),
    "name": Key("quickstart", "name"),
}


def hydra_overrides(run_config: Mapping[str, Value], simulated: bool) -> list[str]:
    """The Hydra overrides for a run configuration, on Flower's simulation or on nodes.

    Raises ValueError for a value that its key cannot have.
    """
    made = list(SIMULATED if simulated else DEPLOYED)
    for name, key in KEYS.items():
        value = run_config[name]
        _check(name, key, value)
        if value == key.default:
            continue
        if name == "hardware" and simulated and value == "cuda":
            made.append("runtime.client_gpus=0.25")  # the connection sets the actual share
        target = "optim.lr" if name == "lr" and run_config["optim"] == ADAMW else key.target
        # A group's choice replaces an earlier one.
        made = [override for override in made if override.partition("=")[0] != target]
        made.append(f"{target}={value if key.choice else quoted(value) if isinstance(value, str) else value}")
    return [*made, *_divided(str(run_config[OVERRIDES]))]


def _check(name: str, key: Key, value: Value) -> None:
    check_value(name, value, type(key.default))
    if name == "local_epochs" and value != 1:
        raise ValueError(
            f"local_epochs must be 1, got {value}; use local_steps for longer rounds, since a row is trained once"
        )
    if key.choice and not CHOICE.fullmatch(str(value)):
        raise ValueError(f"{name} must be letters, digits and _, got {value}; use overrides for anything else")


def _divided(overrides: str) -> list[str]:
    try:
        divided = shlex.split(overrides)
    except ValueError as error:
        raise ValueError(f"overrides={overrides} cannot be split ({error}); close each quote") from error
    for override in divided:
        if override.startswith("runtime="):
            raise ValueError(f"overrides must not set runtime, got {override}; choose another connection of flwr run")
    return divided
