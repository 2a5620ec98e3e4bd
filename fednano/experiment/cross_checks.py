"""Checks that choices of different groups are compatible."""

import math

import torch

from fednano.codec.base import Codec
from fednano.core.ranks import world
from fednano.experiment.groups import Groups
from fednano.experiment.sizes import check_memory, check_work
from fednano.federation.guard import Unguarded
from fednano.optim.inner import AdamW
from fednano.runtime.parts import RunSettings
from fednano.strategy.byzantine import Byzantine
from fednano.strategy.pacing import Pacing
from fednano.strategy.streaming import Streaming
from fednano.strategy.synchronous import Synchronous
from fednano.training.evaluate import require_row
from fednano.volatility.membership import Membership


def check_across(groups: Groups, settings: RunSettings) -> None:
    """Raise ValueError if choices are incompatible."""
    require_row(settings.eval_tokens, groups.model.sequence_len)
    check_memory(groups, settings)
    check_work(groups, settings)
    _check_clients(groups, settings.clients)
    _check_elastic(groups)
    _check_pacing(groups)
    _check_download(groups.download)
    _check_inner(groups)
    _check_attackers(groups, settings)
    _check_sparse(groups)
    _check_private_runtime(groups, settings)
    if getattr(groups.strategy, "dp", None) is not None:
        _check_private(groups)
    if streaming := Streaming.of(groups.strategy):
        _check_stream(groups, streaming)
    elif groups.round.overlap:
        _check_overlap(groups, settings)
    _check_signals(groups, settings)
    shared = groups.runtime.shared
    if (value := getattr(settings, shared)) % world():
        raise ValueError(
            f"{shared} must be a multiple of the {world()} ranks, got {value}; "
            f"use {max(1, value // world()) * world()}, or another torchrun --nproc_per_node"
        )


def _check_clients(groups: Groups, clients: int) -> None:
    strategy = groups.strategy
    if isinstance(strategy, Synchronous) and strategy.merging.least > clients:
        raise ValueError(
            f"clients must be >= {strategy.merging.least} with {strategy.merging.because}, got {clients}; add clients, "
            "or change what needs so many updates"
        )
    if groups.strategy.quorum > clients:
        raise ValueError(
            f"strategy.quorum must be <= clients={clients}, got {groups.strategy.quorum}; lower it or add clients"
        )
    if (workers := groups.hardware.workers) > max(1, clients):
        raise ValueError(f"hardware.workers must be <= clients={clients}, got {workers}; lower it or add clients")


def _check_elastic(groups: Groups) -> None:
    length, strategy, quorum, codec = groups.round, groups.strategy, groups.strategy.quorum, groups.codec
    if length.elastic and isinstance(strategy, Synchronous) and strategy.merging.least > 1:
        raise ValueError(
            f"round.elastic must be false with {strategy.merging.because}, got true; it needs {strategy.merging.least} "
            "updates, and in single-client mode there is one, so use round.elastic=false or strategy/merging=mean"
        )
    if length.elastic and quorum > 1:
        raise ValueError(
            f"strategy.quorum must be 1 with round.elastic=true, got {quorum}; a client in single-client mode could "
            "never reach it, so use strategy.quorum=1 or round.elastic=false"
        )
    if length.elastic and length.alone_merge == "adopt" and not codec.lossless:
        raise ValueError(
            f"round.alone_merge=adopt needs a lossless codec, got codec={codec.name}; use round.alone_merge=outer or "
            "codec=fp32"
        )


def _check_pacing(groups: Groups) -> None:
    """Refuse rounds that could not go on beside work of earlier ones."""
    length, pacing = groups.round, Pacing.of(groups.strategy)
    if not pacing.carries:
        return
    others = (("round.elastic", length.elastic, False), ("round.overlap", length.overlap, 0))
    for key, value, allowed in (*others, ("round.until", length.until, "steps")):
        if value != allowed:
            raise ValueError(
                f"{key} must be {str(allowed).lower()} with strategy.late=next, got {str(value).lower()}; work that "
                "outlives a round knows no other end, so change either one"
            )


def _check_download(codec: Codec) -> None:
    """Refuse codecs that suit updates alone."""
    if getattr(codec, "sparse", False):
        raise ValueError(
            f"codec@download must encode every weight, got {codec.name}, which leaves most out; use one such as "
            "codec@download=bf16"
        )
    if getattr(codec, "error_feedback", False):
        raise ValueError(
            f"download.error_feedback must be false with codec@download={codec.name}, got true; the server keeps no "
            "residual, since each message holds all weights"
        )
    if codec.encode({"w": torch.ones(2)}, {}, 0)[1]:
        raise ValueError(
            f"codec@download must keep nothing between messages, got {codec.name}, which keeps a residual; use one "
            "such as codec@download=bf16"
        )


def _check_inner(groups: Groups) -> None:
    strategy = groups.strategy
    if isinstance(strategy, Synchronous) and strategy.needs_muon and isinstance(groups.optim, AdamW):
        raise ValueError(
            f"optim must step with Muon under strategy={strategy.name}, got AdamW for all parameters; use "
            "optim=muon_adamw or strategy=diloco"
        )


def _check_attackers(groups: Groups, settings: RunSettings) -> None:
    part = groups.strategy.client
    if isinstance(part, Byzantine) and (unknown := [name for name in part.clients if name not in settings.names]):
        raise ValueError(
            f"strategy.client.clients must name clients of the run, got {', '.join(unknown)}; they are called "
            f"{settings.names[0]} to {settings.names[-1]}"
        )


def _check_sparse(groups: Groups) -> None:
    strategy, codec = groups.strategy, groups.codec
    if not isinstance(strategy, Synchronous):
        return
    if getattr(codec, "sparse", False) and not strategy.merging.weighted:
        raise ValueError(
            f"codec must send every number with strategy.merging={type(strategy.merging).__name__}, got {codec.name}, "
            "most of whose entries are 0, and so would be most of what is merged; use codec=int4 or "
            "strategy/merging=mean"
        )
    if not strategy.needs_sparse:
        return
    if not getattr(codec, "sparse", False):
        raise ValueError(
            f"codec must be sparse with strategy={strategy.name}, got {codec.name}; use codec=topk or strategy=fedavg"
        )
    if not getattr(codec, "error_feedback", False):
        raise ValueError(
            f"codec.error_feedback must be true with strategy={strategy.name}, got false; set it to true, or use "
            "strategy=fedavg"
        )


def _check_private_runtime(groups: Groups, settings: RunSettings) -> None:
    """Refuse privacy where no client is hidden by it."""
    if (dp := getattr(groups.strategy, "dp", None)) is None:
        return
    if groups.runtime.name == "centralized":
        raise ValueError(
            "strategy.dp must be null with runtime=centralized, which merges nothing and so adds no noise, got "
            f"{type(dp).__name__}; use strategy/dp=none or another runtime"
        )
    if dp.delta > 1 / settings.clients:
        raise ValueError(
            f"strategy.dp.delta must be <= 1 / clients={settings.clients}, got {dp.delta:g}; use a much smaller "
            "probability, such as 1e-5"
        )


def _check_private(groups: Groups) -> None:
    """Refuse whatever makes the global model depend on updates otherwise than by their noisy mean."""
    length, guard = groups.round, groups.guard
    if length.elastic and length.alone_merge == "adopt":
        raise ValueError(
            "round.alone_merge must be outer with strategy.dp=gaussian and round.elastic=true, got adopt, which takes "
            "over a client's weights without noise; use round.alone_merge=outer or strategy/dp=none"
        )
    if groups.optim.state == "average":
        raise ValueError(
            "optim.state must be keep or reset with strategy.dp=gaussian, got average, which merges optimizer states "
            "without noise; use optim.state=keep or strategy/dp=none"
        )
    if not isinstance(guard, Unguarded) and getattr(guard, "multiple", math.inf) is not None:
        raise ValueError(
            f"guard must be none with strategy.dp=gaussian, got {type(guard).__name__}, whose limit depends on the "
            "norms of other clients' updates; use guard=none, since updates are clipped anyway, or strategy/dp=none"
        )


def _check_stream(groups: Groups, streaming: Streaming) -> None:
    """Refuse what fragments, and weights that clients keep, do not go with."""
    strategy, length, optim = groups.strategy, groups.round, groups.optim
    if streaming.fragments > groups.model.depth:
        raise ValueError(
            f"strategy.stream.fragments must be <= model.depth={groups.model.depth}, got {streaming.fragments}; use "
            "fewer, since each has a block at least"
        )
    if streaming.delay is not None and streaming.delay > strategy.local_steps:
        raise ValueError(
            f"strategy.stream.delay must be <= strategy.local_steps={strategy.local_steps}, got {streaming.delay}; "
            "lower it, since the next fragment is due then"
        )
    if streaming.fragments == 1 and streaming.alpha is not None and streaming.delay == strategy.local_steps:
        raise ValueError(
            f"strategy.stream.alpha must be null with fragments=1 and delay={streaming.delay}, all of local_steps, got "
            f"{streaming.alpha}; all that is trained would be dropped unsubmitted, so use null or a shorter delay"
        )
    others = (("round.overlap", length.overlap, 0), ("round.elastic", length.elastic, False))
    for key, value, allowed in (*others, ("round.until", length.until, "steps")):
        if value != allowed:
            raise ValueError(
                f"{key} must be {str(allowed).lower()} with strategy.stream, got {str(value).lower()}; "
                f"strategy.stream.delay says how long clients train on, so use {key}={str(allowed).lower()} or "
                "strategy/stream=none"
            )
    if optim.state != "keep":
        raise ValueError(
            f"optim.state must be keep with strategy.stream, got {optim.state}; clients go on from their own weights, "
            "so use optim.state=keep or strategy/stream=none"
        )
    if getattr(strategy, "dp", None) is not None:
        raise ValueError(
            "strategy.dp must be null with strategy.stream, got Gaussian; its accountant knows no fragments, so use "
            "strategy/dp=none or strategy/stream=none"
        )
    if strategy.client is not None and streaming.delay != 0:
        raise ValueError(
            f"strategy.stream.delay must be 0 with strategy.client={type(strategy.client).__name__}, got "
            f"{'null' if streaming.delay is None else streaming.delay}; the strategy's client-side part needs the "
            "global model from the first step on, so use 0 or strategy/client=none"
        )


def _check_overlap(groups: Groups, settings: RunSettings) -> None:
    overlap, strategy, optim = groups.round.overlap, groups.strategy, groups.optim
    if overlap > strategy.local_steps:
        raise ValueError(
            f"round.overlap must be <= strategy.local_steps={strategy.local_steps}, got {overlap}; lower it, since "
            "overlapped steps belong to the next round"
        )
    if strategy.client is not None:
        raise ValueError(
            f"round.overlap must be 0 with strategy={strategy.name}, got {overlap}; the strategy's client-side part "
            "needs the global model, which overlapped steps do not have yet"
        )
    if not strategy.overlaps:
        raise ValueError(
            f"round.overlap must be 0 with strategy={strategy.name}, got {overlap}; use 0 or another strategy"
        )
    if optim.state != "keep":
        raise ValueError(
            f"optim.state must be keep with round.overlap={overlap}, got {optim.state}; overlapped steps continue from "
            "the client's own optimizer state, so use optim.state=keep or round.overlap=0"
        )
    if settings.checkpoint_every == 1:
        raise ValueError(
            f"checkpoint_every must be >= 2 with round.overlap={overlap}, got 1; no step overlaps a checkpoint, so use "
            "2 or more, or round.overlap=0"
        )


def _check_signals(groups: Groups, settings: RunSettings) -> None:
    """Draw the first windows, which finds clients without a column and parts that are never up together."""
    profile = groups.volatility
    if Membership.draw(profile, settings.names, settings.seed).never_up():
        raise ValueError(
            f"volatility={profile.name} must let some client be up, got none that ever is; choose another volatility"
        )
    for index, client in enumerate(settings.names):
        groups.energy.signals(client, index, profile)
