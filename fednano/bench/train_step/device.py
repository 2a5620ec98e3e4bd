"""The device that a training step is measured on: waiting for it, its memory, and how many rows fill that."""

import torch

from fednano.bench.tokenizer.worker import peak_bytes
from fednano.process.memory import machine_bytes

GPU_SQUARE, CPU_SQUARE = 8192, 1024  # sides of the products that set the ceiling


class Device:
    """A device. On a CPU, memory is that of the process, whose peak never falls."""

    def __init__(self, name: str) -> None:
        self.torch = torch.device(name)
        self.is_gpu = self.torch.type == "cuda"
        self.square = GPU_SQUARE if self.is_gpu else CPU_SQUARE

    def wait(self) -> None:
        """Wait until all queued work is done; the clock may be read after that."""
        if self.is_gpu:
            torch.cuda.synchronize(self.torch)

    def total_bytes(self) -> int:
        if self.is_gpu:
            return int(torch.cuda.get_device_properties(self.torch).total_memory)
        return machine_bytes()

    def forget_peak(self) -> None:
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.torch)

    def peak(self) -> int:
        """The most bytes held at a time since `forget_peak`; on a CPU since the process began."""
        return int(torch.cuda.max_memory_allocated(self.torch)) if self.is_gpu else peak_bytes()


def rows_that_fill(peaks: tuple[int, int], rows: tuple[int, int], target: float, least_per_row: float) -> int:
    """The number of rows whose step peaks at `target` bytes, by the line through two measured peaks; at least 1.

    A row is taken to need at least `least_per_row` bytes, since a difference of small peaks may be rounded to nothing.
    """
    per_row = max((peaks[1] - peaks[0]) / (rows[1] - rows[0]), least_per_row)
    return max(1, rows[1] + int((target - peaks[1]) / per_row))
