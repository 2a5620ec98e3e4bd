"""The command that continues prompts with the model of a run.

python -m fednano.sample model_dir=outputs/quickstart/… prompt="The array" tokens=64 samples=4
"""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fednano.config.build import build_groups, plain
from fednano.config.checks import not_set
from fednano.config.compose import compose_config, with_hydra_flags
from fednano.config.errors import ConfigError, guarded, shown
from fednano.core.files import read_text
from fednano.core.output import reader_gone
from fednano.core.ranges import Range
from fednano.process.surroundings import settle

if TYPE_CHECKING:
    from fednano.model.generate import Sampling
    from fednano.model.gpt import GPT
    from fednano.tokenizer import Tokenizer

TEXTS = ("model_dir", "prompt", "prompts")
KEYS = {
    "interactive": bool,
    "samples": Annotated[int, Range(ge=1, le=100_000)],
    "tokens": Annotated[int, Range(ge=0, le=10_000_000)],
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "seed": int,
}


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Continues prompts with one model and prints the continuations.

    Args:
        model: on its device.
        tokenizer: of the model.
        sampling: how tokens are chosen.
        samples: number of continuations per prompt.
        tokens: ids per continuation, at most.
        autocast: makes the context in which the model runs.
    """

    model: "GPT"
    tokenizer: "Tokenizer"
    sampling: "Sampling"
    samples: int
    tokens: int
    autocast: Callable[[], Any]

    def stream(self, prompt: str, name: int) -> None:
        """Print one sample token by token; a character made of several tokens appears once it is complete."""
        import codecs

        whole = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for (token,) in self._steps(prompt, name, samples=1):
            assert token is not None  # the end of the only sample ends the steps
            print(whole.decode(self.tokenizer.token_bytes(token)), end="", flush=True)
            if reader_gone():
                return
        print(whole.decode(b"", final=True), flush=True)

    def texts(self, prompt: str, name: int) -> list[str]:
        """The continuations of all samples."""
        ids: list[list[int]] = [[] for _ in range(self.samples)]
        for step in self._steps(prompt, name, self.samples):
            for text, token in zip(ids, step, strict=True):
                text.extend([] if token is None else [token])
        return [self.tokenizer.decode(text) for text in ids]

    def _steps(self, prompt: str, name: int, samples: int) -> Iterator[list[int | None]]:
        from fednano.model.generate import generate

        bos = self.tokenizer.bos_id
        ids = [bos, *self.tokenizer.encode(prompt).tolist()]
        with self.autocast():
            yield from generate(self.model, ids, self.tokens, samples, self.sampling, bos, name)


def main(overrides: Sequence[str]) -> int:
    """Print the continuations that `overrides` ask for; returns the exit code."""
    texts = dict(_split(override) for override in overrides if _split(override)[0] in TEXTS)
    cfg = compose_config([override for override in overrides if _split(override)[0] not in TEXTS], "sample")
    names = map(str, cfg.keys())  # also those that are set to ???
    chosen = {key: plain(cfg, key) for key in names if key not in TEXTS} | {key: texts.get(key, "") for key in TEXTS}
    prompts = _checked_prompts(chosen)

    from fednano.model.generate import Sampling
    from fednano.training.checkpoint import load_model, load_tokenizer
    from fednano.training.model_folder import model_folder

    sampling = Sampling(**{key: chosen[key] for key in ("temperature", "top_k", "top_p", "seed")})
    hardware = build_groups(cfg, ("hardware",))["hardware"]
    folder = model_folder(Path(chosen["model_dir"]))
    model = load_model(folder).to(hardware.use())
    tokenizer = load_tokenizer(folder, model)
    writer = Writer(
        model=model,
        tokenizer=tokenizer,
        sampling=sampling,
        samples=chosen["samples"],
        tokens=chosen["tokens"],
        autocast=hardware.autocast,
    )
    if chosen["interactive"]:
        _converse(writer)
    else:
        _print_all(writer, prompts)
    return 0


def _split(override: str) -> tuple[str, str]:
    """Key and value. The keys in TEXTS are read literally, without Hydra's grammar for special characters."""
    key, _, value = override.partition("=")
    return key, value


def _checked_prompts(chosen: dict[str, Any]) -> list[str]:
    """The prompts of a configuration, after checking all values except those that `Sampling` checks."""
    from fednano.config.checks import check_value

    if not chosen["model_dir"]:
        raise ConfigError("model_dir must be set; add model_dir=outputs/…, the folder of a run")
    for key, value in chosen.items():
        if key not in KEYS and key not in (*TEXTS, "hardware"):
            raise ConfigError(f"{key}={shown(value)} sets a key that does not exist; remove it")
    for key, hint in KEYS.items():
        if key not in chosen:
            raise ConfigError(not_set(key, "+"))
        check_value(key, chosen[key], hint)
    prompt, file = chosen["prompt"], chosen["prompts"]
    if chosen["interactive"] and (prompt or file):
        raise ConfigError(
            f"prompt and prompts must be empty with interactive=true, got prompt={prompt} prompts={file}; remove them"
        )
    if not file:
        return [prompt]
    if prompt:
        raise ConfigError(f"prompts must be empty with prompt={prompt}, got {file}; remove one of them")
    try:
        lines = read_text(Path(file), "name another file").splitlines()
    except ValueError as error:
        raise ConfigError(f"prompts must be a UTF-8 text file, got {shown(file)}: {error}") from error
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise ConfigError(f"prompts must hold a prompt, got an empty {file}; write one per line")
    return prompts


def _print_all(writer: Writer, prompts: Sequence[str]) -> None:
    """Print every prompt with its continuations, with headings if there are several."""
    for number, prompt in enumerate(prompts):
        if reader_gone():
            return
        of_prompts = f"prompt {number + 1} of {len(prompts)}" if len(prompts) > 1 else ""
        if writer.samples > 1:
            _print_samples(writer, prompt, number, of_prompts)
            continue
        if of_prompts:
            print(f"── {of_prompts}")
        print(prompt, end="", flush=True)
        writer.stream(prompt, number)


def _print_samples(writer: Writer, prompt: str, number: int, heading: str) -> None:
    for i, text in enumerate(writer.texts(prompt, number), 1):
        print("── " + ", ".join(filter(None, (heading, f"sample {i} of {writer.samples}"))))
        print(prompt + text, flush=True)


def _converse(writer: Writer) -> None:
    """Continue each line of standard input; a terminal shows a "> " before it, and its line is not repeated."""
    on_terminal = sys.stdin.isatty()
    for number in count():
        print("> " if on_terminal else "", end="", flush=True)
        line = sys.stdin.readline()
        if not line or reader_gone():
            return
        prompt = line.rstrip("\r\n")
        if writer.samples > 1:
            _print_samples(writer, prompt, number, "")
            continue
        print("" if on_terminal else prompt, end="", flush=True)
        writer.stream(prompt, number)


def _command() -> int:
    settle()
    return with_hydra_flags("sample", main)


if __name__ == "__main__":
    sys.exit(guarded(_command))
