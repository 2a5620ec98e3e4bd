"""Hardware targets: the device that a client computes on, and its speed on the virtual clock."""

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from fednano.core.ranges import Range
from fednano.core.ranks import world
from fednano.process.memory import keep_freed_memory

DTYPES = ("auto", "float32", "bfloat16")
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The hardware of one client.

    Args:
        name: name of the target.
        device: torch device, such as cpu or cuda.
        threads: CPU threads of torch; 0 leaves torch's own choice, one per core.
        dtype: float32 or bfloat16, the precision of matrix products; parameters stay float32. auto: bfloat16 where the
            device multiplies it faster: processors with AMX, and CUDA devices from compute capability 8 up.
        compile: whether torch.compile compiles the step.
        tokens_per_s: training speed of a client on the virtual clock; several values are dealt to the clients in turn.
        idle_watts: power of a client that is on but not computing; several values are dealt to the clients in
            turn.
        train_watts: power of a client that is computing; several values are dealt to the clients in turn.
        workers: processes of one thread each that train clients of runtime=virtual in parallel; with 0 or 1 they train
            in turn in the run's own process, with `threads`.
        deterministic: whether the same run gives the same weights, bit for bit, as it always does on CPUs. False: a
            CUDA device may use faster algorithms, which add in any order.
    """

    name: str
    device: str
    threads: Annotated[int, Range(le=4096)]
    dtype: Literal["auto", "float32", "bfloat16"]
    compile: bool
    tokens_per_s: tuple[Annotated[float, Range(ge=1e-6, le=1e12)], ...]
    idle_watts: float | Sequence[float] = 0.0
    train_watts: float | Sequence[float] = 0.0
    workers: Annotated[int, Range(le=4096)] = 0
    deterministic: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens_per_s", tuple(self.tokens_per_s))
        if self.threads < 0:
            raise ValueError(f"hardware.threads must be >= 0, got {self.threads}; use 0 for one thread per core")
        if not self.tokens_per_s or min(self.tokens_per_s) <= 0:
            raise ValueError(
                f"hardware.tokens_per_s must be a list of numbers > 0, got {list(self.tokens_per_s)}; "
                "use one such as [5000]"
            )
        for key in ("idle_watts", "train_watts"):
            if not _dealt(getattr(self, key)) or not all(
                0.0 <= watts < math.inf for watts in _dealt(getattr(self, key))
            ):
                raise ValueError(
                    f"hardware.{key} must be >= 0 watts and finite, got {getattr(self, key)}; "
                    "use such a number, or a list of them"
                )
        if self.dtype not in DTYPES:
            raise ValueError(f"hardware.dtype must be auto, float32 or bfloat16, got {self.dtype}; use one of them")
        self._require_device()
        self._check_workers()

    def _check_workers(self) -> None:
        key = f"hardware.workers={self.workers}"
        if self.workers < 0:
            raise ValueError(
                f"hardware.workers must be >= 0, got {self.workers}; use 0 to train in the run's own process"
            )
        if self.workers < 2:
            return
        if torch.device(self.device).type != "cpu":
            raise ValueError(
                f"hardware.workers must be 0 or 1 on hardware.device={self.device}, got {self.workers}; use "
                "hardware.workers=0 or hardware.device=cpu"
            )
        if self.threads > 1:
            raise ValueError(
                f"hardware.threads must be 0 or 1 under {key}, got {self.threads}; use 0 or 1, or hardware.workers=0"
            )
        if world() > 1:
            raise ValueError(
                f"hardware.workers must be 0 or 1 under the {world()} ranks of torchrun, which step together, got "
                f"{self.workers}; use hardware.workers=0, or start the run without torchrun"
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
            raise ValueError(f"hardware.device must be a cpu, cuda or mps device, got {self.device}; use one of them")
        if not present[device.type]:
            raise ValueError(
                f"hardware.device must exist on this machine, got {self.device} but no {device.type.upper()} device; "
                "use hardware=cpu"
            )
        found = torch.cuda.device_count()
        if device.type == "cuda" and (device.index or 0) >= found:
            raise ValueError(
                f"hardware.device must be one of the {found} CUDA devices here, got {self.device}; use cuda:0"
            )

    def speed(self, index: int) -> float:
        """Tokens per second of the client with this index."""
        return self.tokens_per_s[index % len(self.tokens_per_s)]

    def watts(self, index: int) -> tuple[float, float]:
        """(idle, training) watts of the client with this index."""
        idle, train = _dealt(self.idle_watts), _dealt(self.train_watts)
        return idle[index % len(idle)], train[index % len(train)]

    def use(self) -> torch.device:
        """Set the thread count of this process, make it keep freed memory, and return the device."""
        keep_freed_memory()
        if self.threads:
            torch.set_num_threads(self.threads)
        return torch.device(self.device)

    def repeat_exactly(self) -> None:
        """Make training on a CUDA device repeat bit for bit in this process, if `deterministic`.

        To be called before the first matrix product of the process. Compiled code is covered too: the compiler no
        longer chooses between kernels by their speed. Sampling below `top_p` has no such algorithm and raises.
        """
        if torch.device(self.device).type != "cuda" or not self.deterministic:
            return
        os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")  # as NVIDIA asks for; torch refuses products without it
        torch.use_deterministic_algorithms(True)
        # Nothing here reads memory before it is written; filling it would only cost time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def autocast_step(self) -> AbstractContextManager[object]:
        """The context in which an optimizer steps: that of a forward pass on CUDA, whose float32 products are slow."""
        return self.autocast() if torch.device(self.device).type == "cuda" else nullcontext()

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
    """All CUDA devices of this machine, with one torchrun rank each; every step of every client uses all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        found = torch.cuda.device_count()
        if world() != found:
            raise ValueError(
                f"hardware={self.name} must have one rank for each of the {found} CUDA devices, got {world()}; start "
                f"it with torchrun --nproc_per_node={found} -m fednano.run"
            )


def multiplies_bfloat16_faster(device: torch.device) -> bool:
    """Whether the device has matrix units for bfloat16: tensor cores since Ampere, AMX on x86.

    AVX-512's bfloat16 dot products alone do not count: a step with them was slower than in float32. Apple's GPUs
    multiply both types equally fast.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16", False))
