"""The speed of codecs on one thread, compared with copying the same bytes."""

import argparse
import json
from typing import Any

import torch
from rich.table import Table

from fednano.bench.turns import LEAST, NUMBER, Turns, update
from fednano.codec.base import Blockwise, Codec
from fednano.codec.bf16 import Bf16
from fednano.codec.blockwise import Quantized
from fednano.codec.fp32 import Fp32
from fednano.codec.topk import TopK
from fednano.core import tensors
from fednano.core.tensors import Shapes
from fednano.report.terminal.printer import printer

COPY = "copy"  # of all bytes, in place of encoding
QUANTILE: dict[str, Any] = {"levels": "quantile", "block": 4096}
RANDOM: dict[str, Any] = {"rounding": "stochastic"}
FEEDBACK: dict[str, Any] = {"error_feedback": True}

CODECS: dict[str, Codec] = {
    "fp32": Fp32(),
    "bf16": Bf16(),
    "int8": Quantized(name="int8", bits=8),
    "int4": Quantized(name="int4", bits=4),
    "int2 absmax": Quantized(name="int2", bits=2),
    "int8 stochastic": Quantized(name="int8", bits=8, **RANDOM),
    "int4 stochastic": Quantized(name="int4", bits=4, **RANDOM),
    "int8 quantile": Quantized(name="int8", bits=8, **QUANTILE),
    "int4 quantile": Quantized(name="int4", bits=4, **QUANTILE),
    "int2": Quantized(name="int2", bits=2, **QUANTILE),
    "topk fp32": TopK(),
    "topk int2": TopK(values="int2"),
    "int4 + feedback": Quantized(name="int4", bits=4, **FEEDBACK),
    "topk": TopK(values="int2", decay=0.95, **FEEDBACK),
}


def decode_blocks(codec: Codec, data: bytes, shapes: Shapes) -> None:
    """Decode as a server does: block by block, where the codec can."""
    if not isinstance(codec, Blockwise):
        codec.decode(data, shapes)
        return
    for _ in codec.blocks(data, shapes):
        pass


def measure(entries: int, repeats: int) -> dict[str, dict[str, float]]:
    """Medians over `repeats` rounds, after an unmeasured one; each round times every codec once, and a copy.

    Returns:
        For each codec encode and decode in MB (10^6 bytes) of float32 per second, bytes_per_entry, and error, the lost
        share of the squared norm. For the copy encode alone.
    """
    sent = update(entries)
    shapes, count = tensors.shapes(sent), tensors.count(sent)
    kept = {name: codec.encode(sent, {}, 0)[1] for name, codec in CODECS.items()}
    data = {name: codec.encode(sent, {}, 0)[0] for name, codec in CODECS.items()}
    places = [torch.empty_like(tensor) for tensor in sent.values()]
    turns = Turns()
    for turn in range(repeats + 1):
        turns.time(COPY, "encode", lambda: [a.copy_(b) for a, b in zip(places, sent.values(), strict=True)])
        for name, codec in CODECS.items():
            turns.time(name, "encode", lambda codec=codec, name=name, turn=turn: codec.encode(sent, kept[name], turn))  # type: ignore[misc]
            turns.time(name, "decode", lambda codec=codec, name=name: decode_blocks(codec, data[name], shapes))  # type: ignore[misc]
    megabytes = NUMBER * count / 1e6
    found = {
        name: {way: megabytes / seconds for way, seconds in ways.items()} for name, ways in turns.medians().items()
    }
    for name, codec in CODECS.items():
        lost = tensors.norm(tensors.subtract(sent, codec.decode(data[name], shapes))) / tensors.norm(sent)
        found[name] |= {"bytes_per_entry": len(data[name]) / count, "error": lost**2}
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench codec",
        description="Measure how fast each codec encodes and decodes an update on one thread, beside a copy of it.",
    )
    parser.add_argument("--entries", type=int, default=1 << 22, help="numbers in the update (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="measured repeats of each codec (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    chosen = parser.parse_args(arguments)
    if chosen.entries < LEAST:
        raise ValueError(f"--entries must be >= {LEAST}, got {chosen.entries}; leave it out for {1 << 22}")
    if chosen.repeats < 1:
        raise ValueError(f"--repeats must be >= 1, got {chosen.repeats}; leave it out for 9")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = measure(chosen.entries, chosen.repeats)
    finally:
        torch.set_num_threads(threads)
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    printer().print(table(found, chosen.repeats))


def table(found: dict[str, dict[str, float]], repeats: int) -> Table:
    """One row for each codec. Speeds are of float32, in MB per second; × is the time beside that of the copy."""
    made = Table(title=f"codecs on one thread: medians of {repeats}", caption="MB/s of float32; × copy: times slower")
    for column in ("codec", "encode", "× copy", "decode", "× copy", "bytes/entry", "lost"):
        made.add_column(column, justify="left" if column == "codec" else "right", no_wrap=True)
    copied = found[COPY]["encode"]
    for name, figures in found.items():
        row = [name]
        for way in ("encode", "decode"):
            row += [f"{figures[way]:,.0f}", f"{copied / figures[way]:.1f}"] if way in figures else ["–", "–"]
        if name != COPY:
            row += [f"{figures['bytes_per_entry']:.3f}", f"{100 * figures['error']:.2g} %"]
        made.add_row(*row)
    return made
