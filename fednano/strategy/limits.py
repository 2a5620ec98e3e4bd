"""The limits of what every strategy of synchronous rounds has: H, the quorum and the slack."""


def check_limits(local_steps: int, quorum: int, slack: float) -> None:
    """Raise ValueError for a value out of range, with its key and a remedy."""
    if local_steps < 1:
        raise ValueError(f"strategy.local_steps must be >= 1, got {local_steps}; use 1 or more inner steps per round")
    if quorum < 1:
        raise ValueError(f"strategy.quorum must be >= 1, got {quorum}; use 1 or more updates")
    if not slack >= 1.0:
        raise ValueError(f"strategy.slack must be >= 1, got {slack}; use 1 or more, so that rounds can finish")
