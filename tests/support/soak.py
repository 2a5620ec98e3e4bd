"""Soak of resuming: tiny runs are SIGKILLed at random moments and resumed until they end as uninterrupted ones do.

    python tests/support/soak.py --kills 200 --seed 1 --seconds 3600

Every run is killed once it has written a checkpoint, so that resuming restores state. Often it is killed again later.
The runs are forks of this process, which has imported everything once: a life takes a second, and a SIGKILL is as real
as that of a command. The exit code is 1 if a run ended otherwise than the uninterrupted run of its configuration.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from pathlib import Path
from random import Random
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.texts import write_docstrings

from fednano.core.claim import CLAIM
from fednano.core.clock import pause, wall
from fednano.process.environment import QUIET
from fednano.process.tied import end_with

TINY = (
    "data=text", "tokenizer.vocab_size=300", "model.sequence_len=16", "arch.mlp_ratio=1", "batch_size=2",
    "eval_tokens=64", "eval_every=3", "strategy.local_steps=4", "hardware.threads=1", "hardware.tokens_per_s=[32]",
    "clients=3", "rounds=14", "checkpoint_every=2", "optim=adamw", "optim.state=keep",
)  # fmt: skip
MARKOV = ("volatility=markov", "volatility.mean_up_s=8", "volatility.mean_down_s=3", "volatility.crash_share=0.5")
FEEDBACK = ("codec=int4", "codec.error_feedback=true")
SPEEDS = ("hardware.tokens_per_s=[64,32,16]", "checkpoint_every=4")
STRAGGLERS = ("volatility=straggler", "volatility.mean_hold_s=2")
CONFIGURATIONS = {
    "diloco": (*MARKOV, "optim=muon_adamw"),
    "fedavg": (*MARKOV, "strategy=fedavg"),
    "fedadam": (*MARKOV, "strategy=fedadam", "strategy/schedule=cosine", "strategy/client=proximal", "optim.clip=1.0"),
    "median": (*STRAGGLERS, "strategy=median", "round.local_steps=dynamic", "clients=4"),
    "int4": (*MARKOV, *FEEDBACK, "codec.rounding=stochastic", "hardware.workers=2"),
    "sparse": (*MARKOV, "strategy=sparseloco", "codec=topk", "codec@download=bf16"),
    "fedbuff": (*MARKOV, "strategy=fedbuff", *SPEEDS),
    "async": (*STRAGGLERS, *FEEDBACK, "strategy=async_diloco", "round.local_steps=dynamic", *SPEEDS),
    "streaming": (*MARKOV, *FEEDBACK, "strategy/stream=fragments", "strategy.stream.delay=2", "checkpoint_every=3"),
    "decoupled": (*STRAGGLERS, "strategy=decoupled_diloco", "strategy.local_steps=4", *SPEEDS),
    "grace": (*MARKOV, "strategy.quorum=2", "strategy.grace=1.0", "strategy.late=next", "hardware.workers=2", *SPEEDS),
    "workers": (*MARKOV, "hardware.workers=2"),
    "overlap": (*MARKOV, "round.overlap=3", "network.latency_s=1.25", "checkpoint_every=3"),
    "average": (*MARKOV, "optim.state=average"),
    "elastic": (*MARKOV, "round.elastic=true", "clients=2", "strategy.local_steps=2"),
    "best_fit": (*MARKOV, "packing=best_fit", "partition=source"),
    "spot": ("volatility=spot", "volatility.mean_up_s=9", "volatility.mean_down_s=3", "volatility.notice_s=2"),
    "late": ("volatility=straggler", "volatility.mean_hold_s=2", "network=flaky", "strategy.slack=1.0"),
    "trace": ("volatility=trace", "optim=nanochat", "energy=trace", "round=tokens", "round.tokens=300"),
    "centralized": ("runtime=centralized", "volatility=none", "rounds=40"),
}
# Imported before the first fork; what is missing here is imported by each life again.
WARM = (
    "fednano.run", "fednano.experiment.preflight", "fednano.experiment.resume", "fednano.runtime.play_through",
    "fednano.runtime.run_folder", "fednano.runtime.virtual", "fednano.runtime.centralized", "fednano.report.web.html",
    "fednano.data.local", "fednano.data.packing", "fednano.optim.muon", "fednano.volatility.periodic",
    "fednano.volatility.traced", "fednano.strategy.synchronous", "fednano.tokenizer.train", "fednano.codec.fp32",
    "fednano.codec.blockwise", "fednano.codec.topk", "fednano.strategy.outer.adam",
    "fednano.strategy.outer.delayed_nesterov", "fednano.strategy.merging.median", "fednano.runtime.workers.opening",
    "fednano.strategy.streaming", "fednano.strategy.merging.radial",
)  # fmt: skip
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
AGAIN = 0.65  # probability of one more kill, unless told otherwise
STUCK_S = 300.0  # without a checkpoint, or without an end


@dataclass(kw_only=True)
class Whole:
    """An uninterrupted run: its digests, and what moments of a kill are drawn from.

    `log` counts bytes of the event log, `seconds` and `writes` are those after the first checkpoint.
    """

    digests: dict[str, object]
    files: set[str]
    log: int
    seconds: float
    writes: int


@dataclass(kw_only=True)
class Count:
    """What became of the runs of one configuration."""

    runs: int = 0
    kills: int = 0
    behind: int = 0  # kills of a process that had written a checkpoint
    within: int = 0  # kills that left a half written checkpoint
    faults: int = 0


class Life:
    """A process that runs `fednano.run` with some arguments, in a session of its own.

    Args:
        arguments: the command line.
        log: the file for its output.
        on_write: called in the process before it changes a file or a folder, once it has written a checkpoint.
    """

    def __init__(self, arguments: list[str], log: Path, on_write: Callable[[], None] | None = None) -> None:
        self.begun = wall()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            _live(arguments, log, on_write)
        self.status: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal's number; None while it runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def wait(self, until: Callable[[], object] = lambda: False) -> int | None:
        """Return once something is so or the process has ended; kills a process that is stuck."""
        begun = wall()
        while self.poll() is None and not until():
            if wall() - begun > STUCK_S:
                os.killpg(self.pid, signal.SIGKILL)
                raise TimeoutError(f"a run neither wrote a checkpoint nor ended within {STUCK_S:g} s")
            pause(0.002)
        return self.status

    def kill(self, group: bool) -> None:
        """SIGKILL to the process, or to its workers too."""
        if self.poll() is None:
            (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
        self.wait()


def _live(arguments: list[str], log: Path, on_write: Callable[[], None] | None) -> None:
    """Be the command `python -m fednano.run` until its end."""
    starter, code = os.getppid(), 1
    try:
        os.setsid()
        end_with(starter)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        run: ModuleType = import_module("fednano.run")
        sys.modules["__main__"] = run  # which worker processes import
        sys.argv = ["fednano.run", *arguments]
        if on_write:
            sys.addaudithook(_watching(on_write))
        code = run.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watching(on_write: Callable[[], None]) -> Callable[[str, tuple[object, ...]], None]:
    """An audit hook that calls `on_write` before each change of files once a checkpoint was written."""
    saved = False

    def hook(event: str, given: tuple[object, ...]) -> None:
        nonlocal saved
        if event == "open":
            if not saved or not isinstance(given[2], int) or not given[2] & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in WRITES:
            return
        if saved:
            on_write()
        elif event == "os.rename" and Path(str(given[1])).name.startswith("round_"):
            saved = True

    return hook


def checkpoint(folder: Path) -> str:
    """The name of a run's newest checkpoint; "" if there is none."""
    return max((path.name for path in (folder / "checkpoints").glob("round_*")), default="")


def reached(folder: Path) -> str:
    """The last thing that a run wrote to its event log."""
    *_, last, _ = (folder / "events.jsonl").read_bytes().split(b"\n")
    event = json.loads(last)
    return f"{event['event']} of round {event.get('round', '–')}"


def log_size(folder: Path) -> int:
    """Bytes of the event log."""
    path = folder / "events.jsonl"
    return path.stat().st_size if path.exists() else 0


def digests(folder: Path) -> dict[str, object]:
    """What a resumed run must have in common with an uninterrupted one."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {key: summary.get(key) for key in ("status", "weights_sha256", "tape_sha256", "rounds", "tokens", "rows")}


def files(folder: Path) -> set[str]:
    """The names of a run's files and folders, without the claim that a killed command cannot withdraw."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != CLAIM}


@dataclass(kw_only=True)
class Soak:
    """Kills of runs below `root`."""

    root: Path
    seed: int
    kills: int | None
    seconds: float
    again: float = AGAIN
    counts: dict[str, Count] = field(default_factory=dict)
    wholes: dict[str, Whole] = field(default_factory=dict)
    begun: float = field(default_factory=wall)

    @property
    def killed(self) -> int:
        return sum(count.kills for count in self.counts.values())

    def run(self, names: list[str]) -> int:
        """Kill and resume runs of these configurations in turn; returns the number of faults."""
        for name, number, most in self._turns(names):
            self._one(name, number, most)
            faults = sum(count.faults for count in self.counts.values())
            print(f"{self.killed} kills in {wall() - self.begun:.0f} s, {faults} mismatches", flush=True)
        return sum(count.faults for count in self.counts.values())

    def _turns(self, names: list[str]) -> Iterator[tuple[str, int, int]]:
        """Configurations in turn, each with a number and the most kills of this turn."""
        for number in count():
            for at, name in enumerate(names):
                left = 1 << 30 if self.kills is None else self.kills - self.killed
                if left < 1 or wall() - self.begun > self.seconds:
                    return
                yield name, number, -(-left // (len(names) - at))

    def _one(self, name: str, number: int, most: int) -> None:
        """One run: killed at least once, and resumed until its end."""
        tally = self.counts.setdefault(name, Count())
        if name not in self.wholes:
            self.wholes[name] = self._uninterrupted(name)
        whole, draws = self.wholes[name], Random(f"{self.seed} {name} {number}")
        folder, log = self.root / f"{name}_{number}", self.root / f"{name}_{number}.log"
        arguments, kills = self._arguments(name, folder), 0
        tally.runs += 1
        while True:
            spared = kills == most or (kills > 0 and draws.random() > self.again)
            before = checkpoint(folder)
            code, moment = (Life(arguments, log).wait(), "") if spared else self._hunt(arguments, folder, whole, draws)
            if code != -signal.SIGKILL or spared:
                break
            kills += 1
            tally.kills += 1
            after, half = checkpoint(folder), list((folder / "checkpoints").glob(".*.tmp"))
            tally.behind += after != before
            tally.within += bool(half)
            print(
                f"kill {self.killed}: {name}_{number} by {moment} after {reached(folder)}; "
                f"resumes from {after}{', beside a half written checkpoint' if half else ''}",
                flush=True,
            )
            arguments = [f"resume={folder}"]
        self._judge(name, code, folder, log, tally)

    def _hunt(self, arguments: list[str], folder: Path, whole: Whole, draws: Random) -> tuple[int | None, str]:
        """A life that is killed at a random moment behind its first checkpoint, unless it ends before.

        Returns its exit code and the moment.
        """
        group, kind, share = draws.random() < 0.5, draws.choice(("delay", "log", "write")), draws.random()
        whom = "killing its group" if group else "killing its leader"
        left = 1.0 - log_size(folder) / whole.log  # of the run, roughly
        log = folder.with_name(f"{folder.name}.log")
        if kind == "write":
            at = 1 + int(share * left * whole.writes)
            numbers = count(1)

            def on_write() -> None:
                if next(numbers) == at:
                    (os.killpg if group else os.kill)(0 if group else os.getpid(), signal.SIGKILL)

            return Life(arguments, log, on_write).wait(), f"{whom} before write {at} behind a checkpoint"
        before = checkpoint(folder)
        life = Life(arguments, log)
        life.wait(lambda: checkpoint(folder) != before)
        since = log_size(folder)
        if kind == "delay":
            delay = share * left * whole.seconds
            until = wall() + delay
            life.wait(lambda: wall() >= until)
            moment = f"{whom} {delay:.3f} s behind a checkpoint"
        else:
            size = since + int(share * max(0, whole.log - since))
            life.wait(lambda: log_size(folder) >= size)
            moment = f"{whom} at byte {size} of the log"
        life.kill(group)
        return life.status, moment

    def _uninterrupted(self, name: str) -> Whole:
        folder, counted = self.root / name, self.root / f"{name}.writes"
        log = folder.with_name(f"{name}.log")
        counted.touch()
        file = os.open(counted, os.O_WRONLY | os.O_APPEND)
        life = Life(self._arguments(name, folder), log, lambda: os.write(file, b".") and None)
        life.wait(lambda: checkpoint(folder))
        since = wall()
        code = life.wait()
        os.close(file)
        if code:
            raise RuntimeError(f"the uninterrupted run of {name} ended with {code}:\n{log.read_text()}")
        return Whole(
            digests=digests(folder),
            files=files(folder),
            log=log_size(folder),
            seconds=wall() - since,
            writes=counted.stat().st_size,
        )

    def _arguments(self, name: str, folder: Path) -> list[str]:
        places = (f"data.path={self.root}/texts", f"data.root={self.root}/data", f"hydra.run.dir={folder}")
        return [*TINY, *CONFIGURATIONS[name], *places]

    def _judge(self, name: str, code: int | None, folder: Path, log: Path, tally: Count) -> None:
        """Compare a run that has ended with the uninterrupted one, and remove it if it is the same."""
        whole, found = self.wholes[name], digests(folder)
        told = [f"{key} is {found[key]}, not {value}" for key, value in whole.digests.items() if found[key] != value]
        told += [f"exit code {code}"] if code else []
        told += [f"{path} is left behind or missing" for path in sorted(files(folder) ^ whole.files)]
        if not told:
            shutil.rmtree(folder)
            log.unlink()
            return
        tally.faults += 1
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
        print(f"MISMATCH of {folder.name}: {'; '.join(told)}\n{tail}", flush=True)


def table(counts: dict[str, Count]) -> str:
    """The counts of all configurations, one a line, and their sum."""
    heads = ("runs", "kills", "behind a checkpoint", "while writing one", "mismatches")
    rows = [(name, (c.runs, c.kills, c.behind, c.within, c.faults)) for name, c in counts.items()]
    rows.append(("all", tuple(map(sum, zip(*(row for _, row in rows), strict=True)))))  # type: ignore[arg-type]
    lines = [" ".join(["configuration".ljust(14), *heads])]
    for name, row in rows:
        cells = (str(number).rjust(len(head)) for number, head in zip(row, heads, strict=True))
        lines.append(" ".join([name.ljust(14), *cells]))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill runs at random moments, resume them, compare their ends.")
    parser.add_argument("--kills", type=int, help="end after so many; by default only --seconds ends the soak")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600.0, help="start no run after this many")
    parser.add_argument("--again", type=float, default=AGAIN, help="probability of one more kill of a killed run")
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    options = parser.parse_args()
    os.environ.update(QUIET)
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in WARM:
        import_module(module)
    with tempfile.TemporaryDirectory(prefix="fednano_soak_", ignore_cleanup_errors=True) as place:
        root = Path(place)
        (root / "texts").mkdir()
        write_docstrings(root / "texts")
        soak = Soak(root=root, seed=options.seed, kills=options.kills, seconds=options.seconds, again=options.again)
        faults = soak.run(options.only)
        print(table(soak.counts))
        return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
