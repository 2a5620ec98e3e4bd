"""Continue a prompt with the model of a run.

python -m fednano.sample model_dir=outputs/quickstart/…/model prompt="The array" tokens=64
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fednano.cli import ConfigError, compose_config, guarded, with_hydra_flags

if TYPE_CHECKING:
    from fednano.model.gpt import GPT


def generate(
    model: "GPT", prompt: Sequence[int], tokens: int, temperature: float, top_k: int, seed: int, stop: int
) -> Iterator[int]:
    """Up to `tokens` ids that follow `prompt`, ending before `stop`.

    The context is the last `sequence_len` ids. `temperature` 0 takes the most probable id; `top_k` 0 samples among all.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    ids = list(prompt)
    model.eval()
    with torch.inference_mode():
        for _ in range(tokens):
            context = torch.tensor([ids[-model.config.sequence_len :]])
            logits = model.cap(model.head(model.features(context)[:, -1]))[0]
            if top_k:
                logits[logits < logits.topk(min(top_k, logits.numel())).values[-1]] = -torch.inf
            if temperature == 0:
                chosen = int(logits.argmax())
            else:
                chosen = int(torch.multinomial((logits / temperature).softmax(0), 1, generator=draw))
            if chosen == stop:
                return
            ids.append(chosen)
            yield chosen


def main(overrides: Sequence[str]) -> int:
    """Print the continuation that `overrides` ask for; the exit code."""
    cfg = compose_config([_literal(override) for override in overrides], "sample")
    from omegaconf import OmegaConf

    from fednano.checks import check_value

    if OmegaConf.is_missing(cfg, "model_dir"):
        raise ConfigError("model_dir is not set; add model_dir=outputs/…/model")
    for key, hint in (("prompt", str), ("tokens", int), ("temperature", float), ("top_k", int), ("seed", int)):
        check_value(key, cfg[key], hint)
    for key in ("tokens", "temperature", "top_k"):
        if cfg[key] < 0:
            raise ConfigError(f"{key}={cfg[key]} is negative; use 0 or more")
    folder = Path(cfg.model_dir)

    from fednano.tokenizer import Tokenizer
    from fednano.training.checkpoint import TOKENIZER, load_model

    model = load_model(folder)
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    prompt = [tokenizer.bos_id, *tokenizer.encode(cfg.prompt).tolist()]
    found = generate(model, prompt, cfg.tokens, cfg.temperature, cfg.top_k, cfg.seed, tokenizer.bos_id)
    _write(cfg.prompt, found, tokenizer.decode_bytes)
    return 0


def _write(prompt: str, ids: Iterator[int], decode: Callable[[list[int]], bytes]) -> None:
    """Print as it comes; a character that several tokens share appears once it is whole."""
    import codecs

    whole = codecs.getincrementaldecoder("utf-8")(errors="replace")
    print(prompt, end="", flush=True)
    for token in ids:
        print(whole.decode(decode([token])), end="", flush=True)
    print(whole.decode(b"", final=True))


def _literal(override: str) -> str:
    """The prompt is text, whatever characters it holds: quoted, so that Hydra's grammar leaves it alone."""
    key, equals, value = override.partition("=")
    if key != "prompt" or not equals:
        return override
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"prompt='{escaped}'"


if __name__ == "__main__":
    sys.exit(guarded(lambda: with_hydra_flags("sample", main)))
