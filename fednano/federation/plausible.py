"""Checks of the figures in a result: what a client can have done since it was asked, by the server's own clock."""

from math import isfinite

from fednano.federation.plan import Given
from fednano.training.worker import Result

# Live clients measure with clocks of their own, and the server learns late that their work has ended.
GRACE_S = 60.0
DRIFT = 1.05
ROUNDING_S = 1e-3
LEAST_LOSS, MOST_LOSS = -0.01, 3.5e38  # nats per token: a cross-entropy, but for rounding; a mean of float32


def implausible(result: Result, given: Given, now: float, wall: float) -> str | None:
    """Why the times or the loss of a result cannot be true; None if they can.

    `now` is on the run's clock, `wall` a wall-clock reading; the reply came no later. Without training, the loss is
    NaN. A node's times were shifted as a whole, so they may begin before its task was sent.
    """
    done, begun, ended = result.done, result.busy_from, result.busy_until
    since = now - given.sent + GRACE_S
    if not 0.0 <= ended - begun <= since * DRIFT:  # false for NaN too
        return f"its steps took from {begun:g} s until {ended:g} s, but its task was sent at {given.sent:g} s"
    if not (given.sent - since <= begun and ended <= now + GRACE_S):
        return f"its steps ended at {ended:g} s, but it is {now:g} s and its task was sent at {given.sent:g} s"
    if result.ahead:
        first, last = result.ahead
        held = now - given.granted + GRACE_S
        if not (0.0 <= last - first <= held * DRIFT and given.granted - held <= first):
            return f"its overlapped steps took from {first:g} s until {last:g} s, granted at {given.granted:g} s"
    real = wall - given.wall + GRACE_S
    if not (0.0 <= done.data_s <= done.train_s + ROUNDING_S and 0.0 <= done.train_s <= real * DRIFT):
        return f"it trained for {done.train_s:g} s, {done.data_s:g} s of them waiting, within {real:g} s"
    if isfinite(done.loss) and not LEAST_LOSS <= done.loss <= MOST_LOSS:
        return f"its loss is {done.loss:g}"
    return None
