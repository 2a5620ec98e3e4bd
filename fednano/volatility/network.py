"""Links between clients and the server, for virtual time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """One kind of link for all clients.

    Args:
        name: what it is called.
        up_mbit_s: client to server, megabits per second.
        down_mbit_s: server to client, megabits per second.
        latency_s: one way, seconds.
    """

    name: str
    up_mbit_s: float
    down_mbit_s: float
    latency_s: float

    def __post_init__(self) -> None:
        for key in ("up_mbit_s", "down_mbit_s"):
            value = getattr(self, key)
            if not value > 0:
                raise ValueError(f"network.{key}={value} never delivers; use megabits per second above 0")
        if not self.latency_s >= 0:
            raise ValueError(f"network.latency_s={self.latency_s} is before the present; use 0 or more seconds")

    def up_s(self, size: int) -> float:
        """Seconds that `size` bytes take from a client to the server."""
        return self.latency_s + size * 8e-6 / self.up_mbit_s

    def down_s(self, size: int) -> float:
        """Seconds that `size` bytes take from the server to a client."""
        return self.latency_s + size * 8e-6 / self.down_mbit_s
