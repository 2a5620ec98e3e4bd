"""Hostile overrides of every key of the configuration, and what becomes of each."""

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from fednano.config.compose import compose_config, conf_dir
from fednano.config.hydra.refusals import refusals

ANY = ("null", "???", "''", "0", "-1", "true", "[]", "[1,2]", "{}", "{a:1}", "word", "nan", "inf", "-inf")
NUMBERS = ("0.5", "1e-300", "1e300", "1e308", *(str(10**n) for n in (6, 9, 12, 18, 24)), str(2**63), "1" + "0" * 5000)
TEXTS = (
    "..",
    "/dev/null",
    "a/b",
    ".x",
    "p1e9",
    "'a\tb'",
    "ünïcödé",
    "'" + "x" * 100_000 + "'",
    "'{}'",
    "'%s {0} \\\\'",
)
LISTS = ("[null]", "[nan]", "[-1]", "[inf]", "[1e300]", "[word]", "[[]]", "[{}]", f"[{10**24}]", "{client_0: ???}")
RESUME = ("resume",)  # its value is answered by another part of the command


@dataclass(frozen=True)
class Mutation:
    """One hostile override, after those that choose `base`."""

    base: tuple[str, ...]
    override: str
    key: str

    def __str__(self) -> str:
        return " ".join((*self.base, self.override[:60]))


def choices(groups: Sequence[str]) -> list[tuple[str, ...]]:
    """One list of overrides for each choice of each group, and an empty one for the configuration as it is."""
    found: list[tuple[str, ...]] = [()]
    for group in groups:
        names = sorted(path.stem for path in (conf_dir() / group).glob("[!_]*.yaml"))
        found += [(f"{group}={name}",) for name in (names if group != "model" else ["d2"])]  # all have the same keys
    return found


def mutations(cfg: DictConfig, base: tuple[str, ...], groups: Sequence[str] = ()) -> Iterator[Mutation]:
    """Every hostile override of every key of `cfg`; with a `base`, only of the keys of the group it chooses.

    Without one, the keys inside `groups` are left to the bases of these groups.
    """
    within = base[-1].partition("=")[0] + "." if base else ""
    for key, value in leaves(OmegaConf.to_container(cfg)):
        inside = "." in key and key.partition(".")[0] in groups
        if not key.startswith(within.replace("/", ".")) or key in RESUME or (inside and not base):
            continue
        for text in dict.fromkeys((*ANY, *hostile(value))):
            yield Mutation(base, f"{key}={text}", key)
        yield Mutation(base, f"~{key}", key)
        yield Mutation(base, f"+{key}.more=1", key)
        yield Mutation(base, f"+{key}_more=1", key)


def hostile(value: Any) -> tuple[str, ...]:
    """Hostile values for a key that holds `value`, besides those for any key."""
    if isinstance(value, bool | dict):
        return ()
    if isinstance(value, int | float):
        return (*NUMBERS, LISTS[0], "..")
    if isinstance(value, list):
        return (*LISTS, *TEXTS[:3], NUMBERS[0])
    return (*TEXTS, *NUMBERS, *LISTS)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of a plain configuration with their values, groups included."""
    for key, value in node.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")


def apply(composed: DictConfig, mutation: Mutation, tiny: Sequence[str] = ()) -> DictConfig:
    """`composed` with one more override, as Hydra applies it.

    The YAML files are read again only for an override of a whole group. Raises ConfigError.
    """
    if (conf_dir() / mutation.key.replace(".", "/")).is_dir() and "." not in mutation.override.partition("=")[0]:
        return compose_config([*tiny, *mutation.base, mutation.override])
    cfg = OmegaConf.masked_copy(composed, list(composed))
    assert isinstance(cfg, DictConfig)
    words = [*mutation.base, mutation.override]
    with refusals(words, "config", lambda choices: compose_config([*tiny, *choices])):
        ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides([mutation.override]), cfg)
    return cfg


def composed_all(tiny: Sequence[str], groups: Sequence[str]) -> dict[tuple[str, ...], DictConfig]:
    """The configuration of each choice of each group, composed or, where a file includes no others, put together."""
    composed: dict[tuple[str, ...], DictConfig] = {}
    for base in choices(groups):
        group, _, name = "".join(base).partition("=")
        own = OmegaConf.load(conf_dir() / group / f"{name}.yaml") if base else None
        if isinstance(own, DictConfig) and "defaults" not in own:
            composed[base] = OmegaConf.masked_copy(composed[()], list(composed[()]))
            composed[base][group] = own
        else:
            composed[base] = compose_config([*base, *_known(tiny, base)])
    return composed


def _known(tiny: Sequence[str], base: tuple[str, ...]) -> list[str]:
    """`tiny` without the keys of a group that `base` chooses anew."""
    chosen = [word.partition("=")[0] for word in base]
    return [word for word in tiny if not any(word.startswith((f"{group}.", f"{group}=")) for group in chosen)]


def sample(everything: Sequence[Mutation], size: int, seed: int = 0) -> list[Mutation]:
    """A deterministic sample in which every key comes at least once."""
    shuffled = random.Random(seed).sample(list(everything), len(everything))
    first: dict[tuple[str, str], Mutation] = {}
    for mutation in shuffled:
        first.setdefault((" ".join(mutation.base), mutation.key), mutation)
    chosen = list(first.values())
    taken = set(chosen)
    rest = [mutation for mutation in shuffled if mutation not in taken]
    return (chosen + rest)[: max(size, len(chosen))]


class TooLongError(BaseException):
    """A case that takes too long; no `except Exception` catches it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooLongError in the main thread if the block takes longer."""

    def ring(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
