"""The keys of `flwr run --run-config`, which `app/pyproject.toml` names with their defaults, as overrides for Hydra."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from fednano.config.checks import check_value

Value = bool | int | float | str
CHOICE = re.compile(r"[A-Za-z0-9_]+")

# Before all others: where Flower's own command runs the apps, and what suits it.
SIMULATED = ("volatility=none", "runtime=simulation")
DEPLOYED = (
    "volatility=none",
    "runtime=deployment",
    # SuperLink and nodes are there already, and what the nodes call this machine is theirs to know.
    "runtime.local_nodes=0",
    "runtime.hosts=[localhost]",
    "coordination=redis",
)
ADAMW = "adamw"  # the optimizer that has one learning rate for all matrices
OVERRIDES = "overrides"  # the key that holds overrides for Hydra as they are, divided as a shell would


@dataclass(frozen=True)
class Key:
    """A key of the run configuration.

    Args:
        default: in `app/pyproject.toml`; a key that has it leaves the configuration as it is.
        target: what it sets in the configuration.
        unset: what the default means, where it is no value of its own.
    """

    default: Value
    target: str
    unset: str = ""

    @property
    def choice(self) -> bool:
        """Whether it names one of the choices of a group."""
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
    """What a run configuration asks for, on Flower's simulation or on nodes.

    Raises ValueError for a value that its key cannot have.
    """
    made = list(SIMULATED if simulated else DEPLOYED)
    for name, key in KEYS.items():
        value = run_config[name]
        _check(name, key, value)
        if value == key.default:
            continue
        if name == "hardware" and simulated and value == "cuda":
            made.append("runtime.client_gpus=0.25")  # the true share is the connection's
        target = "optim.lr" if name == "lr" and run_config["optim"] == ADAMW else key.target
        # A choice of a group takes the place of an earlier one.
        made = [override for override in made if override.partition("=")[0] != target]
        made.append(f"{target}={value if key.choice else _quoted(value)}")
    return [*made, *_divided(str(run_config[OVERRIDES]))]


def _check(name: str, key: Key, value: Value) -> None:
    check_value(name, value, type(key.default))
    if name == "local_epochs" and value != 1:
        raise ValueError(f"local_epochs={value} would train rows again; use 1, and local_steps for longer rounds")
    if key.choice and not CHOICE.fullmatch(str(value)):
        raise ValueError(f"{name} must be letters, digits and _, got {value}; use overrides for anything else")


def _quoted(value: Value) -> str:
    """As Hydra reads it back."""
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\'", "\\\\'").replace("'", "\\'")
    return f"'{escaped}'"


def _divided(overrides: str) -> list[str]:
    try:
        divided = shlex.split(overrides)
    except ValueError as error:
        raise ValueError(f"overrides={overrides} cannot be divided ({error}); close each quote") from error
    for override in divided:
        if override.startswith("runtime="):
            raise ValueError(f"{override} of overrides is for the connection to say; name another one to flwr run")
    return divided
