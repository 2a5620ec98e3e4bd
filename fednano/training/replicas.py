"""Ranks of torchrun that train one model together: gradients are averaged before each step.

There is no wrapper around the model, so optimizers that work on whole matrices see the whole gradient.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from fednano.coordination.store import CoordinationStore, StopRequestedError
from fednano.core.failures import OutsideError
from fednano.core.ranks import local_rank, rank, world

TIMEOUT = timedelta(minutes=10)  # longer than the first rank evaluates or saves while the others wait for it


Part = TypeVar("Part", bound=Sequence[Any] | npt.NDArray[Any])


class PeerLostError(OutsideError):
    """Another rank ended, or did not answer for ten minutes."""


@dataclass(frozen=True)
class Replicas:
    """The ranks that train together, all in the same steps. With one rank nothing is sent."""

    rank: int = 0
    world: int = 1

    def share(self, counted: int | None) -> float | None:
        """This rank's share of the next step's counted targets; None if a rank has no batch, so that none steps.

        Args:
            counted: number of counted targets in this rank's batch; None without a batch.
        """
        if self.world == 1:
            return None if counted is None else 1.0
        ready, total = self._sum(torch.tensor([counted is not None, counted or 0], dtype=torch.float64)).tolist()
        return (counted or 0) / max(1.0, total) if ready == self.world else None

    def average(self, parameters: Iterable[Tensor], share: float) -> None:
        """Replace gradients by Σ share · gradient over the ranks."""
        if self.world == 1:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                by_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for gradients in by_dtype.values():
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients]).mul_(share)
            parts = torch.split(self._sum(flat), [gradient.numel() for gradient in gradients])
            torch._foreach_copy_(gradients, [p.view_as(g) for p, g in zip(parts, gradients, strict=True)])

    def mean(self, loss: Tensor, share: float) -> float:
        """Σ share · loss over the ranks. Waits until the loss, a scalar, is computed."""
        if self.world == 1:
            return float(loss)
        return float(self._sum(torch.tensor([float(loss) * share], dtype=torch.float64)))

    def gather(self, mine: Any) -> list[Any]:
        """The values of all ranks, in rank order."""
        if self.world == 1:
            return [mine]
        everyone: list[Any] = [None] * self.world
        with _naming_the_peer():
            dist.all_gather_object(everyone, mine)
        return everyone

    def heed(self, store: CoordinationStore) -> None:
        """Raise StopRequestedError on all ranks if any has a stop request."""
        if self.world == 1:
            return store.check_stop()
        asked = 0.0
        try:
            store.check_stop()
        except StopRequestedError:
            asked = 1.0
        if float(self._sum(torch.tensor([asked]))):
            raise StopRequestedError
        return None

    def _sum(self, tensor: Tensor) -> Tensor:
        with _naming_the_peer():
            dist.all_reduce(tensor)
        return tensor

    def mine(self, whole: Part) -> Part:
        """Every `world`-th item, starting at this rank's number."""
        return whole[self.rank :: self.world]  # type: ignore[return-value]


@contextmanager
def _naming_the_peer() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise PeerLostError(f"another rank ended or does not answer ({said}); see its output for the cause") from error


@contextmanager
def joined(device: str) -> Iterator[Replicas]:
    """The ranks that torchrun started, joined in a process group for as long as the context is open.

    Args:
        device: of this rank; for "cuda", the device with the rank's local number becomes the current one.
    """
    if world() == 1:
        yield Replicas()
        return
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    try:
        yield Replicas(rank(), world())
    finally:
        dist.destroy_process_group()
