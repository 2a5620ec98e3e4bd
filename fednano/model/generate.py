"""Text generation: the choice of the next token, and the loop that continues a prompt and reads each token once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fednano.core.randomness import named_seed
from fednano.model.gpt import GPT


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Args:
        temperature: divides the logits; 0 takes the most probable token.
        top_k: sample among the k most probable tokens; 0 among all.
        top_p: sample among the most probable tokens whose joint probability first reaches p, after `top_k`.
        seed: seed of the draws.

    Raises:
        ValueError: a value out of range, named with its remedy.
    """

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be >= 0, got {self.temperature}; use 0 or more, such as 0.8")
        if self.top_k < 0:
            raise ValueError(f"top_k must be >= 0, got {self.top_k}; use 0 for all tokens, or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be > 0 and <= 1, got {self.top_p}; use 1 for all tokens")

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, V) logits → (B, V) probabilities at a temperature above 0; tokens that are cut off get 0."""
        logits = logits / self.temperature
        if self.top_k:
            kth = logits.topk(min(self.top_k, logits.size(-1))).values[:, -1:]
            logits = logits.masked_fill(logits < kth, -torch.inf)
        found = logits.softmax(-1)
        if self.top_p < 1:
            ranked, order = found.sort(dim=-1, descending=True)
            beyond = ranked.cumsum(-1) - ranked >= self.top_p
            found = found.masked_fill(beyond.gather(-1, order.argsort(-1)), 0.0)
            found = found / found.sum(-1, keepdim=True)
        return found

    def choose(self, logits: Tensor, draws: Sequence[torch.Generator]) -> list[int]:
        """(B, V) logits → B ids; row i is drawn with the generator `draws[i]`, on the CPU."""
        if self.temperature == 0:
            chosen: list[int] = logits.argmax(-1).tolist()
            return chosen
        rows = self.probabilities(logits).cpu()
        return [int(torch.multinomial(row, 1, generator=draw)) for row, draw in zip(rows, draws, strict=True)]


def context_start(start: int, length: int, sequence_len: int) -> int:
    """Where the context of a text of `length` tokens begins, if it began at `start` before.

    The start stays while the context fits into `sequence_len`. After that, the last `sequence_len` / 2 are read again.
    """
    return start if length - start <= sequence_len else length - sequence_len // 2


@torch.inference_mode()
def generate(
    model: GPT, prompt: Sequence[int], tokens: int, samples: int, sampling: Sampling, stop: int, name: int = 0
) -> Iterator[list[int | None]]:
    """Continue `prompt` (its last `sequence_len` ids) `samples` times by up to `tokens` ids.

    Yields the next id of every sample; None for a sample that has reached `stop`, which ends it. The prompt and each
    token are read once; `context_start` says what happens when the context is full. Sample i is drawn by (seed, `name`,
    i), so it does not depend on the number of samples.
    """
    model.eval()
    T, device = model.config.sequence_len, model.embedding.weight.device
    draws = [torch.Generator().manual_seed(named_seed(sampling.seed, "sample", name, i)) for i in range(samples)]
    texts = [list(prompt[-T:]) for _ in range(samples)]
    ended = [False] * samples
    start, cache = 0, model.new_cache()
    for _ in range(tokens):
        length = len(texts[0])
        moved = context_start(start, length, T)
        if cache.length == 0:
            logits = model.logits(torch.tensor(texts[:1], device=device), cache, first=-1).expand(samples, -1, -1)
            cache = cache.repeated(samples)
        else:
            if moved > start:
                start, cache = moved, model.new_cache()
            unread = torch.tensor([text[start + cache.length :] for text in texts], device=device)
            logits = model.logits(unread, cache, first=-1)
        for i, chosen in enumerate(sampling.choose(logits[:, -1], draws)):
            texts[i].append(chosen)
            ended[i] = ended[i] or chosen == stop
        if all(ended):
            return
        yield [None if over else text[-1] for over, text in zip(ended, texts, strict=True)]
