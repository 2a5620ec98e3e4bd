"""Checks of choices that suit each other or do not, whichever groups they are from."""

from fednano.core.ranks import world
from fednano.experiment.groups import Groups
from fednano.runtime.parts import RunSettings
from fednano.training.evaluate import require_row
from fednano.volatility.membership import Membership


def check_across(groups: Groups, settings: RunSettings) -> None:
    """Raise ValueError where choices do not suit each other."""
    require_row(settings.eval_tokens, groups.model.sequence_len)
    _check_clients(groups, settings.clients)
    _check_elastic(groups)
    if groups.round.overlap:
        _check_overlap(groups, settings)
    _check_signals(groups, settings)
    shared = groups.runtime.shared
    if (value := getattr(settings, shared)) % world():
        raise ValueError(
            f"{shared}={value} cannot be shared out among {world()} ranks; use a multiple, or another "
            "torchrun --nproc_per_node"
        )


def _check_clients(groups: Groups, clients: int) -> None:
    if groups.strategy.quorum > clients:
        raise ValueError(
            f"strategy.quorum={groups.strategy.quorum} can never be met by clients={clients}; lower it or add clients"
        )
    if (workers := groups.hardware.workers) > max(1, clients):
        raise ValueError(f"hardware.workers={workers} are more than clients={clients}; use {clients} or fewer")


def _check_elastic(groups: Groups) -> None:
    length, quorum, codec = groups.round, groups.strategy.quorum, groups.codec
    if length.elastic and quorum > 1:
        raise ValueError(
            f"strategy.quorum={quorum} refuses what a client trains alone under round.elastic=true; "
            "use strategy.quorum=1 or round.elastic=false"
        )
    if length.elastic and length.alone_merge == "adopt" and not codec.lossless:
        raise ValueError(
            f"round.alone_merge=adopt submits weights, of which codec={codec.name} drops a part; use "
            "round.alone_merge=outer or codec=fp32"
        )


def _check_overlap(groups: Groups, settings: RunSettings) -> None:
    overlap, strategy, optim = groups.round.overlap, groups.strategy, groups.optim
    if overlap > strategy.local_steps:
        raise ValueError(
            f"round.overlap={overlap} is more than the strategy.local_steps={strategy.local_steps} of the round it "
            "goes into; use that many at most"
        )
    if strategy.client is not None:
        raise ValueError(
            f"round.overlap must be 0 with strategy={strategy.name}, got {overlap}; its part on clients needs the "
            "global model, which overlapped steps do not have yet"
        )
    if not strategy.overlaps:
        raise ValueError(
            f"round.overlap={overlap} is nothing that strategy={strategy.name} allows; use 0 or another strategy"
        )
    if optim.state != "keep":
        raise ValueError(
            f"round.overlap={overlap} goes on with an optimizer state that optim.state={optim.state} replaces; use "
            "optim.state=keep or round.overlap=0"
        )
    if settings.checkpoint_every == 1:
        raise ValueError(
            f"checkpoint_every=1 ends every round before a step of round.overlap={overlap}; use 2 or more, or "
            "round.overlap=0"
        )


def _check_signals(groups: Groups, settings: RunSettings) -> None:
    """Draws the first windows: a client without a column, or parts that are never up together, show here."""
    profile = groups.volatility
    if Membership.draw(profile, settings.names, settings.seed).never_up():
        raise ValueError(f"volatility={profile.name}: none of the clients is ever up; change it")
    for index, client in enumerate(settings.names):
        groups.energy.signals(client, index, profile)
