"""Arithmetic of how much memory and work a run takes, so that one that no machine can hold or end is refused at once.

All figures are lower bounds: what is refused here would have failed, and what passes may still be too large.
"""

from collections.abc import Sequence

import torch

from fednano.experiment.groups import Groups
from fednano.federation.plan import Site
from fednano.flower.wrapped_strategy import Wrapped
from fednano.model.arch import Arch
from fednano.model.gpt import GPTConfig
from fednano.model.loss import SLICE_ROWS
from fednano.model.scaling import HEAD_DIM, Depth, block_matrices, padded_vocabulary
from fednano.optim.inner import AdamW, MuonAdamW
from fednano.process.memory import machine_bytes
from fednano.runtime.parts import RunSettings
from fednano.strategy.streaming import Streaming
from fednano.strategy.synchronous import Synchronous

MOST_TASKS = 10**8  # a client's work of one round each; played at some 20,000 a second
MOST_STEPS = 10**10  # inner steps; half a year at a millisecond each
MOST_WINDOWS = 10**7  # of all clients, which are kept
UPDATE = 4  # bytes per parameter of an update that is kept until the merge
WEIGHT = 16  # bytes per parameter: the global model, the client's, its gradients and its update
STEP = 8  # bytes per parameter of a further model that trains: weights and gradients
TOKEN = 32  # bytes per token of a batch: ids and targets, twice
CHANNEL = 12  # bytes per token, layer and channel that a backward pass needs at least
MUCH = 1 << 60
LOGIT = 8  # bytes per logit: before and after the soft cap
ACTIVATION = 2  # bytes per channel of a forward pass, which may run in half precision
CLIENT = 2000  # bytes per client: its name, windows and site


class TooLargeError(ValueError):
    """An item of a task needs more memory than there is."""


def parameters(depth: Depth, arch: Arch, vocab_size: int) -> tuple[int, int]:
    """(entries of the blocks, entries of embeddings and head)."""
    width, values = depth.width, depth.kv_heads * HEAD_DIM * len(arch.value_layers(depth.depth))
    return block_matrices(depth, arch), padded_vocabulary(vocab_size) * (2 * width + values)


def check_memory(groups: Groups, settings: RunSettings) -> None:
    """Raise ValueError if the run needs more memory than the machine has."""
    needs = _needs(groups, settings)
    memory = machine_bytes() + _device_bytes(groups.hardware.device)
    total = sum(size for _, size in needs.values())
    if total > memory:
        key = max(needs, key=lambda key: needs[key][1])
        raise ValueError(
            f"{key} must fit into memory, got {needs[key][0]}, with which the run needs about {_shown(total)} of "
            f"{_shown(memory)}; use a smaller one"
        )


def check_held_out(config: GPTConfig, batch_size: int, tokens: int, device: str) -> None:
    """Raise ValueError if measuring `batch_size` rows of `tokens` tokens at once needs more memory than there is."""
    logits = min(batch_size * tokens, SLICE_ROWS)  # as many positions as have theirs at once
    needed, memory = _measuring_bytes(config, batch_size * tokens, logits), machine_bytes() + _device_bytes(device)
    if needed > memory:
        raise ValueError(
            f"batch_size must fit into memory, got {batch_size}, with which measuring needs about {_shown(needed)} of "
            f"{_shown(memory)}; use a smaller one"
        )


def check_task(config: GPTConfig, texts: int, tokens: int, judged: int, device: str) -> None:
    """Raise TooLargeError if an item of a task needs more memory than there is: `texts` texts of `tokens` tokens each.

    Of each text, `judged` tokens have logits, all at once.
    """
    needed = _measuring_bytes(config, texts * tokens, texts * judged)
    memory = machine_bytes() + _device_bytes(device)
    if needed > memory:
        raise TooLargeError(
            f"tasks must have items that fit into memory, got one of {texts} texts of {tokens} tokens, which needs "
            f"about {_shown(needed)} of {_shown(memory)} with a vocabulary of {config.vocab_size}; use tasks=none"
        )


def _measuring_bytes(config: GPTConfig, tokens: int, logits: int) -> float:
    """Bytes of a forward pass of `tokens` tokens with the logits of `logits` of them."""
    channels = config.width * (2 + config.arch.mlp_ratio)
    return tokens * (TOKEN // 2 + ACTIVATION * channels) + LOGIT * logits * config.vocab_size


def check_work(groups: Groups, settings: RunSettings) -> None:
    """Raise ValueError if the run has more tasks or steps than can end, and no budget that ends it."""
    rounds, budget, steps = settings.rounds, settings.budget, groups.strategy.local_steps
    if budget.wall_hours is None and budget.virtual_hours is None:
        if budget.tokens is not None:
            merged = settings.clients * steps * settings.batch_size * groups.model.sequence_len
            within = max(1, budget.tokens // max(1, merged))
            if within * settings.clients > MOST_TASKS and (rounds is None or rounds > within):
                raise ValueError(
                    f"budget.tokens must be used up by {MOST_TASKS:,} tasks of clients, got {budget.tokens}; use fewer "
                    "tokens, or more strategy.local_steps"
                )
            rounds = within if rounds is None else min(rounds, within)
        assert rounds is not None, "only a budget ends a run without a number of rounds"
        if rounds * settings.clients > MOST_TASKS:
            raise ValueError(
                f"rounds must be <= {max(1, MOST_TASKS // settings.clients)} with clients={settings.clients}, got "
                f"{rounds}; use fewer"
            )
        if _trains(groups) and groups.round.until == "steps" and rounds * settings.clients * steps > MOST_STEPS:
            raise ValueError(
                f"strategy.local_steps must be <= {max(1, MOST_STEPS // (rounds * settings.clients))} with "
                f"rounds={rounds} and clients={settings.clients}, got {steps}; a run of more steps would not end"
            )


def check_windows(groups: Groups, settings: RunSettings, sites: Sequence[Site], tokens_per_step: int) -> None:
    """Raise ValueError if clients come and go more often during the run than can be kept."""
    round_s = groups.round.duration(sites, groups.strategy.local_steps, tokens_per_step)
    hours = settings.budget.virtual_hours
    seconds = [settings.rounds * round_s] if settings.rounds is not None else []
    seconds += [3600 * hours] if hours is not None else []
    cycle_s = getattr(groups.volatility, "cycle_s", None)
    if not seconds or cycle_s is None:
        return
    windows = min(seconds) / cycle_s * settings.clients
    if windows > MOST_WINDOWS:
        raise ValueError(
            f"volatility={groups.volatility.name} must let clients come and go at most {MOST_WINDOWS:,} times, got "
            f"about {windows:.1e} in {min(seconds):.1e} s, the length of the run; use longer times up and down, or a "
            "shorter run: fewer rounds or strategy.local_steps, or a smaller batch_size"
        )


def _trains(groups: Groups) -> bool:
    return getattr(groups.runtime, "compute", "torch") != "analytic"


def _needs(groups: Groups, settings: RunSettings) -> dict[str, tuple[int, float]]:
    """By configuration key: its value and the bytes that it stands for."""
    depth, clients = groups.model, settings.clients
    blocks, rest = parameters(depth, groups.arch, groups.tokenizer.vocab_size)
    trains, averages = _trains(groups), groups.optim.state == "average"
    bytes_each = WEIGHT if trains else STEP if averages else 0
    needs: dict[str, tuple[int, float]] = {
        "model.depth": (depth.depth, blocks * bytes_each),
        "tokenizer.vocab_size": (groups.tokenizer.vocab_size, rest * bytes_each),
        "clients": (clients, clients * CLIENT),
    }
    if not trains:
        return needs
    state = _state_bytes(groups, blocks, rest)
    strategy = groups.strategy
    # Flower's strategies get a copy of each.
    copies = 2 if isinstance(strategy, Wrapped) else isinstance(strategy, Synchronous) and strategy.merging.keeps
    if copies:
        needs["strategy.quorum"] = (strategy.quorum, strategy.quorum * copies * UPDATE * (blocks + rest))
    kept = clients if groups.runtime.name == "virtual" and groups.optim.state != "reset" else 1
    needs["model.depth"] = (depth.depth, blocks * bytes_each + state)
    own = 2 * UPDATE * (blocks + rest) if Streaming.of(strategy) else 0  # its own weights, and the global ones it knows
    needs["clients"] = (clients, clients * CLIENT + (kept - 1) * state + kept * own)
    workers = groups.hardware.workers
    needs["hardware.workers"] = (workers, max(0, workers - 1) * STEP * (blocks + rest))
    width = TOKEN + CHANNEL * depth.width * depth.depth
    logits = LOGIT * min(settings.batch_size * depth.sequence_len, SLICE_ROWS) * groups.tokenizer.vocab_size
    needs["tokenizer.vocab_size"] = (groups.tokenizer.vocab_size, rest * bytes_each + logits)
    needs["batch_size"] = (settings.batch_size, settings.batch_size * depth.sequence_len * width)
    return needs


def _state_bytes(groups: Groups, blocks: int, rest: int) -> int:
    """Bytes of one client's optimizer state; 0 for an optimizer of the user's own."""
    if isinstance(groups.optim, AdamW):
        return 8 * (blocks + rest)
    return 4 * blocks + 8 * rest if isinstance(groups.optim, MuonAdamW) else 0


def _device_bytes(device: str) -> int:
    chosen = torch.device(device)
    if chosen.type != "cuda":
        return 0
    try:
        return int(torch.cuda.get_device_properties(chosen).total_memory)
    except RuntimeError:  # the driver does not say, and then nothing can be refused for it
        return MUCH


def _shown(size: float) -> str:
    units = ("KiB", "MiB", "GiB", "TiB", "PiB")
    power = next((k for k in range(1, len(units)) if size < 1000 * 1024**k), len(units))
    return f"{size / 1024**power:.3g} {units[power - 1]}"
