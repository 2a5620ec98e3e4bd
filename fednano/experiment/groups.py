"""Typed record of the objects that a configuration's groups name."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from inspect import get_annotations
from types import UnionType
from typing import Any, Protocol, get_args, get_type_hints

from fednano.codec.base import Codec
from fednano.codec.fp32 import Fp32
from fednano.coordination.settings import Coordination
from fednano.data.dataset import Dataset
from fednano.data.loader import Packing
from fednano.data.partition import Partition
from fednano.energy.supply import Supply
from fednano.federation.guard import Guard
from fednano.federation.planner import Planner
from fednano.federation.round_length import Rounds
from fednano.model.arch import Arch
from fednano.model.scaling import Depth
from fednano.optim.inner import Optim
from fednano.report.sinks import Logger
from fednano.report.tracking.loggers import Loggers
from fednano.runtime.protocol import Conducted, Runtime
from fednano.strategy.base import Strategy
from fednano.tokenizer.train import BpeTrainer
from fednano.training.hardware import Hardware
from fednano.volatility.network import Network
from fednano.volatility.profiles import Profile


@dataclass(frozen=True, kw_only=True)
class Groups:
    """One object for each group of the configuration.

    A user's own class can replace any of them: it needs the same members, not the same base class.
    """

    model: Depth
    arch: Arch
    partition: Partition
    packing: Packing
    data: Dataset
    tokenizer: BpeTrainer
    optim: Optim
    strategy: Strategy
    round: Rounds
    planner: Planner
    guard: Guard
    codec: Codec
    download: Codec = field(default_factory=Fp32)
    volatility: Profile
    hardware: Hardware
    network: Network
    energy: Supply
    runtime: Runtime | Conducted
    coordination: Coordination
    logger: Logger

    @classmethod
    def of(cls, built: Mapping[str, Any]) -> "Groups":
        """Check the objects built for the groups. Raises ValueError if one lacks a member that its group needs."""
        for name, chosen in built.get("logger", {}).items():
            _check_members(f"logger.{name}".rstrip("."), chosen, Logger)
        built = {**built, "logger": Loggers(built["logger"])} if "logger" in built else built
        for group, kind in get_type_hints(cls).items():
            if group in built:
                _check_members(group, built[group], kind)
        return cls(**built)


GROUPS = tuple(f.name for f in fields(Groups))
LATER = tuple(f.name for f in fields(Groups) if f.default_factory is not MISSING)
"""Groups that configurations of earlier versions lack."""


def _check_members(group: str, chosen: object, kind: Any) -> None:
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    lacks = [[name for name in _members(each) if not hasattr(chosen, name)] for each in kinds]
    if all(lacks):
        needed, missing = min(zip(kinds, lacks, strict=True), key=lambda pair: len(pair[1]))
        cls = type(chosen)
        raise ValueError(
            f"{group} must have the members of {needed.__module__}.{needed.__name__}, got "
            f"{cls.__module__}.{cls.__name__} without {', '.join(missing)}; add these members"
        )


@cache
def _members(kind: type) -> tuple[str, ...]:
    """The members that a group's object needs: all of a protocol's, or the methods and properties of a class."""
    found: dict[str, None] = {}
    for cls in kind.__mro__:
        if cls not in (object, Protocol):
            attributes = get_annotations(cls) if Protocol in cls.__bases__ else {}
            methods = (name for name, value in vars(cls).items() if callable(value) or isinstance(value, property))
            found |= dict.fromkeys([*attributes, *methods])
    return tuple(name for name in found if not name.startswith("_"))
