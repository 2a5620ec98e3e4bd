"""What merging costs a server: the time to add one update, and memory by the number of clients."""

import argparse
import json
import subprocess
import sys

import torch
from rich.table import Table

from fednano.bench.turns import LEAST, NUMBER, Turns, update
from fednano.codec.base import Blockwise, Codec
from fednano.codec.bf16 import Bf16
from fednano.codec.blockwise import Quantized
from fednano.codec.fp32 import Fp32
from fednano.codec.topk import TopK
from fednano.core import tensors
from fednano.core.tensors import Lazy, State
from fednano.flower.stock import stock_fedavg
from fednano.process.memory import most_growth
from fednano.report.terminal.printer import printer
from fednano.strategy.base import ServerState, Update
from fednano.strategy.mean import WeightedMean
from fednano.strategy.outer.nesterov import Nesterov
from fednano.strategy.synchronous import Synchronous

ADD, PREPARED = "add_", "in memory"
CODECS: dict[str, Codec] = {
    "fp32": Fp32(),
    "bf16": Bf16(),
    "int8": Quantized(name="int8", bits=8),
    "int4": Quantized(name="int4", bits=4),
    "int2": Quantized(name="int2", bits=2, levels="quantile", block=4096),
    "topk": TopK(values="int2", error_feedback=True, decay=0.95),
}
FEW, MANY = 2, 32
WEIGHT = 1e5  # tokens


def speeds(entries: int, repeats: int) -> dict[str, dict[str, float]]:
    """Medians over `repeats` rounds, after an unmeasured one; each round times everything once.

    Returns:
        For `add_`, torch's addition of as many bytes in place; for an update in memory; and for one as each codec sent
        it: add_s, the seconds of adding it to the weighted mean, and but for `add_`, norm_s, those of measuring it.
    """
    sent = update(entries)
    shapes, place = tensors.shapes(sent), tensors.clone(sent)
    mean = WeightedMean(sent)
    states: dict[str, State | Lazy] = {PREPARED: sent}
    for name, codec in CODECS.items():
        data, _ = codec.encode(sent, {}, 0)
        states[name] = _lazy(codec, data, shapes)
    turns = Turns()
    for _ in range(repeats + 1):
        turns.time(ADD, "add_s", lambda: [place[name].add_(tensor) for name, tensor in sent.items()])
        for name, state in states.items():
            turns.time(name, "norm_s", lambda state=state: tensors.norm(state))  # type: ignore[misc]
            turns.time(name, "add_s", lambda state=state: mean.add(state, WEIGHT))  # type: ignore[misc]
    return turns.medians()


def _lazy(codec: Codec, data: bytes, shapes: tensors.Shapes) -> Lazy:
    assert isinstance(codec, Blockwise)
    return Lazy(shapes, lambda: codec.blocks(data, shapes))


def merged(entries: int, clients: int) -> int:
    """Merge the updates of so many clients as the server does; returns the bytes by which this process grew at most."""
    weights = update(entries)
    shapes, codec = tensors.shapes(weights), CODECS["fp32"]
    sent, _ = codec.encode(weights, {}, 0)
    strategy = Synchronous(name="diloco", outer=Nesterov())
    state = ServerState(weights=weights, outer=tensors.clone(weights))

    def merge() -> None:
        accumulator = strategy.accumulator(state)
        for client in range(clients):
            message = bytes(bytearray(sent))  # memory of its own, until the next one comes
            delta = _lazy(codec, message, shapes)
            tensors.norm(delta)
            told = Update(client=str(client), tokens=int(WEIGHT), steps=1, version=0, staleness=0)
            accumulator.add(delta, WEIGHT, told)
        strategy.merge(state, accumulator.result())

    return most_growth(merge)


def stock(entries: int, clients: int) -> int:
    """The same for Flower's FedAvg, which gets the clients' models."""
    model = update(entries)
    stock_fedavg([update(LEAST)])
    return most_growth(lambda: stock_fedavg(model for _ in range(clients)))


SERVERS = {"fednano": merged, "Flower's FedAvg": stock}


def memory(entries: int) -> dict[str, dict[str, int]]:
    """The most bytes above its base that each server needs for FEW and MANY clients, each in a process of its own."""
    found: dict[str, dict[str, int]] = {}
    for name in SERVERS:
        for clients in (FEW, MANY):
            command = [sys.executable, "-m", "fednano.bench", "merge", "--entries", str(entries)]
            command += ["--memory-of", name, "--clients", str(clients)]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise ValueError(
                    f"a server of {clients} clients must end, got exit code {ran.returncode}: {ran.stderr}"
                )
            found.setdefault(name, {})[str(clients)] = int(ran.stdout)
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench merge",
        description="Measure on one thread what it costs a server to add an update to the mean, and its memory.",
    )
    parser.add_argument("--entries", type=int, default=25_000_000, help="numbers in an update (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="measured repeats (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.add_argument("--memory-of", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--clients", type=int, default=FEW, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.entries < LEAST:
        raise ValueError(f"--entries must be >= {LEAST}, got {chosen.entries}; leave it out for 25000000")
    if chosen.repeats < 1:
        raise ValueError(f"--repeats must be >= 1, got {chosen.repeats}; leave it out for 7")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if chosen.memory_of:
            print(SERVERS[chosen.memory_of](chosen.entries, chosen.clients))
            return
        speed, held = speeds(chosen.entries, chosen.repeats), memory(chosen.entries)
    finally:
        torch.set_num_threads(threads)
    if chosen.json:
        print(json.dumps({"speed": speed, "memory": held}, indent=2))
        return
    printer().print(_speeds(speed, chosen.entries, chosen.repeats))
    printer().print(_memories(held, chosen.entries))


def _speeds(found: dict[str, dict[str, float]], entries: int, repeats: int) -> Table:
    made = Table(
        title=f"an update of {entries / 1e6:g}M parameters, one thread: medians of {repeats}",
        caption=f"× add_: beside torch's a.add_(b) of {NUMBER * entries / 1e6:,.0f} MB",
    )
    for column in ("update", "added, ms", "× add_", "measured, ms", "× add_"):
        made.add_column(column, justify="left" if column == "update" else "right", no_wrap=True)
    plain = found[ADD]["add_s"]
    for name, figures in found.items():
        row = [name]
        for key in ("add_s", "norm_s"):
            row += [f"{1e3 * figures[key]:,.1f}", f"{figures[key] / plain:.2f}"] if key in figures else ["–", "–"]
        made.add_row(*row)
    return made


def _memories(found: dict[str, dict[str, int]], entries: int) -> Table:
    made = Table(title=f"most memory of a merge above the server's own, in models of {NUMBER * entries / 1e6:,.0f} MB")
    for column in ("server", f"{FEW} clients", f"{MANY} clients", "ratio"):
        made.add_column(column, justify="left" if column == "server" else "right", no_wrap=True)
    for name, figures in found.items():
        few, many = (figures[str(clients)] for clients in (FEW, MANY))
        models = [f"{value / NUMBER / entries:.2f}" for value in (few, many)]
        made.add_row(name, *models, f"{many / few:.2f}" if few else "–")
    return made
