"""Hardware targets: where a client computes, and how fast on the virtual clock."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from fednano.core.ranks import world
from fednano.process.memory import keep_freed_memory

DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What one client computes on.

    Args:
        name: what it is called.
        device: torch device, such as cpu or cuda.
        threads: CPU threads of torch; 0 leaves torch's own choice, one per core.
        dtype: precision of the matrix products; parameters stay float32. auto: bfloat16 where the device multiplies
            it faster than float32.
        compile: whether the step is compiled by torch.compile.
        tokens_per_s: training speed of a client on the virtual clock; several values are dealt to the clients in turn.
        idle_watts: what a client draws while it is on and does not compute; several values are dealt likewise.
        train_watts: what it draws while it computes, likewise.
        workers: processes, one thread each, that train clients of runtime=virtual at the same time; 0 or 1: they train
            in turn in the run's own process, with `threads`.
    """

    name: str
    device: str
    threads: int
    dtype: Literal["auto", "float32", "bfloat16"]
    compile: bool
    tokens_per_s: tuple[float, ...]
    idle_watts: float | Sequence[float] = 0.0
    train_watts: float | Sequence[float] = 0.0
    workers: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens_per_s", tuple(self.tokens_per_s))
        if self.threads < 0:
            raise ValueError(f"hardware.threads must be >= 0, got {self.threads}; 0 means one thread per core")
        if not self.tokens_per_s or min(self.tokens_per_s) <= 0:
            raise ValueError(f"hardware.tokens_per_s={list(self.tokens_per_s)} must be positive speeds, such as [5000]")
        for key in ("idle_watts", "train_watts"):
            if not _dealt(getattr(self, key)) or not all(
                0.0 <= watts < math.inf for watts in _dealt(getattr(self, key))
            ):
                raise ValueError(
                    f"hardware.{key} must be >= 0 watts, got {getattr(self, key)}; use a number, or one per client"
                )
        if self.dtype not in DTYPES:
            raise ValueError(f"hardware.dtype must be auto, float32 or bfloat16, got {self.dtype}; choose one of them")
        self._require_device()
        self._check_workers()

    def _check_workers(self) -> None:
        key = f"hardware.workers={self.workers}"
        if self.workers < 0:
            raise ValueError(f"{key} is negative; use 0 to train in the run's own process")
        if self.workers < 2:
            return
        if torch.device(self.device).type != "cpu":
            raise ValueError(f"{key} are for the cores of a CPU; use hardware.workers=0 with device={self.device}")
        if self.threads > 1:
            raise ValueError(
                f"{key} have one thread each, not hardware.threads={self.threads}; use hardware.threads=0 or 1"
            )
        if world() > 1:
            raise ValueError(
                f"{key} cannot be shared with the {world()} ranks of torchrun, which take every step together; use "
                "hardware.workers=0, or start it without torchrun"
            )

    def _require_device(self) -> None:
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise ValueError(
                f"hardware.device must be a torch device, got {self.device}; use cpu, cuda or cuda:0"
            ) from None
        present = {
            "cpu": True,
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
        }
        if device.type not in present:
            raise ValueError(f"hardware.device must be cpu, cuda or mps, got {self.device}; choose one of them")
        if not present[device.type]:
            raise ValueError(
                f"hardware.device={self.device} finds no {device.type.upper()} device here; use hardware=cpu"
            )
        found = torch.cuda.device_count()
        if device.type == "cuda" and (device.index or 0) >= found:
            raise ValueError(f"hardware.device={self.device} is none of the {found} CUDA devices here; use cuda:0")

    def speed(self, index: int) -> float:
        """Tokens per second of the client with this index."""
        return self.tokens_per_s[index % len(self.tokens_per_s)]

    def watts(self, index: int) -> tuple[float, float]:
        """(idle, training) watts of the client with this index."""
        idle, train = _dealt(self.idle_watts), _dealt(self.train_watts)
        return idle[index % len(idle)], train[index % len(train)]

    def use(self) -> torch.device:
        """Apply the thread count to this process, make it keep the memory that it frees, and return the device."""
        keep_freed_memory()
        if self.threads:
            torch.set_num_threads(self.threads)
        return torch.device(self.device)

    def autocast(self) -> torch.autocast:
        """The context in which a forward pass runs."""
        kind = torch.device(self.device).type
        dtype = self.dtype
        if dtype == "auto":
            dtype = "bfloat16" if multiplies_bfloat16_faster(torch.device(self.device)) else "float32"
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def _dealt(value: float | Sequence[float]) -> Sequence[float]:
    return value if isinstance(value, Sequence) else (value,)


@dataclass(frozen=True)
class CudaDDP(Hardware):
    """All CUDA devices of this machine, one rank of torchrun each, in every step of every client."""

    def __post_init__(self) -> None:
        super().__post_init__()
        found = torch.cuda.device_count()
        if world() != found:
            raise ValueError(
                f"hardware={self.name} needs a rank for each of the {found} CUDA devices, not {world()}; start it with "
                f"torchrun --nproc_per_node={found} -m fednano.run"
            )


def multiplies_bfloat16_faster(device: torch.device) -> bool:
    """Whether bfloat16 has matrix units of its own there: tensor cores since Ampere, AMX on x86.

    AVX-512's dot products of bfloat16 alone do not count: with them a step was slower than in float32. Apple's GPUs
    multiply both alike.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16", False))
