"""Causal attention over all earlier tokens or within a sliding window, exact in both cases."""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 128  # queries of one product; measured best on CPU for windows of 128 to 512


def attend(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
    """Softmax of scale·q·kᵀ over a token itself and the `window` tokens before it, times v.

    Args:
        q: (B, H, T, D), for the last T of S tokens.
        k: (B, H_kv, S, D); H_kv divides H.
        v: (B, H_kv, S, D).

    Returns:
        (B, H, T, D).
    """
    gqa = q.size(1) != k.size(1)
    if k.size(2) > q.size(2):
        return behind(q, k, v, window, scale)
    if window >= q.size(2) - 1:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=gqa)
    # Without the compiler, flex attention would hold the full matrix of scores.
    if q.is_cuda and torch.compiler.is_compiling():
        return flex(q, k, v, window, scale)
    return chunked(q, k, v, window, scale)


def behind(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
    """`attend` for tokens whose predecessors are in a cache, as in generation."""
    T, gqa = q.size(2), q.size(1) != k.size(1)
    seen = min(k.size(2), window + T)
    k, v = k[:, :, -seen:], v[:, :, -seen:]
    mask = None
    if T > 1:
        # torch's own causal mask would align the T queries with the first keys, not the last.
        mask = torch.ones(T, seen, dtype=torch.bool, device=q.device).tril(seen - T).triu(seen - T - window)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=gqa)


def chunked(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
    """`attend` as products of chunks of queries with the keys that they can see.

    A masked product over the full matrix costs twice as much as a causal one; this costs less than a causal one.
    """
    T, gqa = q.size(2), q.size(1) != k.size(1)
    # The first queries see all earlier tokens.
    out = [
        F.scaled_dot_product_attention(
            q[:, :, :window], k[:, :, :window], v[:, :, :window], is_causal=True, scale=scale, enable_gqa=gqa
        )
    ]
    distance = torch.arange(CHUNK, device=q.device).view(-1, 1) + window
    distance = distance - torch.arange(window + CHUNK, device=q.device)
    mask = (distance >= 0) & (distance <= window)
    for start in range(window, T, CHUNK):
        end = min(start + CHUNK, T)
        keys = slice(start - window, end)
        seen = mask[: end - start, : end - start + window]
        out.append(
            F.scaled_dot_product_attention(
                q[:, :, start:end], k[:, :, keys], v[:, :, keys], attn_mask=seen, scale=scale, enable_gqa=gqa
            )
        )
    return torch.cat(out, dim=2)


def flex(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
    """`attend` as one fused kernel that skips blocks outside the window; for the compiler."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # takes seconds

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j <= i) & (i - j <= window)

    T, gqa = q.size(2), q.size(1) != k.size(1)
    blocks = create_block_mask(seen, None, None, T, T, device=str(q.device))
    out = flex_attention(q, k, v, block_mask=blocks, scale=scale, enable_gqa=gqa)
    assert isinstance(out, Tensor)
    return out
