"""Inner steps in one line each."""

from fednano.core.inner_step import InnerStep


def step_of(client: str, round: int, step: int, steps: int, loss: float, tokens: int) -> InnerStep:
    """The step with these figures."""
    return InnerStep(client=client, round=round, step=step, steps=steps, loss=loss, tokens=tokens)
