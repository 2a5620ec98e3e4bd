"""Head, soft cap and cross-entropy in one pass over slices of rows.

The logits of a whole batch would be the largest tensor of a small model and would be read and written a dozen times.
Here each slice of them is computed, turned into loss and gradients while it is in the cache, and dropped, so memory
does not grow with T·V.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SLICE_LOGITS = 1 << 20  # entries of a slice: 4 MiB in float32, about one second-level cache
SLICE_ROWS = 256  # at least: products of fewer rows are slow
# On a GPU, every slice reads and writes the gradient of the whole head, so there are few: 512 MiB in float32 each.
GPU_SLICE_LOGITS = 1 << 27

LARGEST_CAP = 40.0  # up to this cap, exponentials of logits stay within float32 without a shift

SliceLoss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor | None]]
"""`slice_loss`, or the same compiled."""


def slice_loss(
    scaled: Tensor, head: Tensor, targets: Tensor, keep: Tensor, scale: Tensor, cap: float, gradients: bool
) -> tuple[Tensor, Tensor | None]:
    """The summed loss of some rows and its gradient, times `scale`, with respect to the logits before the cap.

    Args:
        scaled: (n, C) final activations ÷ `cap`.
        head: (V, C), in the same precision.
        targets: (n,) int64.
        keep: (n,) bool, whether a row counts.
        scale: scalar.
        cap: the soft cap.
        gradients: whether to compute the gradient, (n, V).
    """
    capped = F.linear(scaled, head).float().tanh_()
    target = targets.clamp(min=0).unsqueeze(1)
    logits = capped * cap
    of_target = logits.gather(1, target)
    if cap > LARGEST_CAP:
        shift = logits.amax(dim=1, keepdim=True)
        logits.sub_(shift)
        of_target = of_target - shift
    powers = logits.exp_()
    norm = powers.sum(dim=1, keepdim=True)
    loss = ((norm.log() - of_target).squeeze(1) * keep).sum()
    if not gradients:
        return loss, None
    # d loss / d logit = (softmax − onehot); through the cap: · (1 − tanh²)
    share = (keep * scale).unsqueeze(1)
    if torch.compiler.is_compiling():
        # A comparison is fused with its neighbours. Adding at an index would be a pass of its own, in no fixed order.
        onehot = torch.arange(head.size(0), device=head.device) == target
        grad = (powers * (share / norm) - share * onehot) * (1.0 - capped.square())
    else:
        grad = powers.mul_(share / norm).scatter_add_(1, target, -share)
        grad = torch.ops.aten.tanh_backward.grad_input(grad, capped, grad_input=grad)
    return loss, grad.to(scaled.dtype)


def slice_rows(device: torch.device, vocab_size: int) -> int:
    """The number of rows in a slice."""
    entries = GPU_SLICE_LOGITS if device.type == "cuda" else SLICE_LOGITS
    return max(SLICE_ROWS, entries // vocab_size)


class _SoftcapCrossEntropy(torch.autograd.Function):
    """Mean over counted rows of −log softmax(cap·tanh(x·Wᵀ/cap))[target]; the forward pass computes the gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        targets: Tensor,
        cap: float,
        vocab_size: int,
        ignore: int,
        of_slice: SliceLoss,
    ) -> Tensor:
        counted = targets != ignore
        scale = 1.0 / counted.sum().clamp(min=1)
        needs_gradient = any(ctx.needs_input_grad[:2])
        grad_x = torch.empty_like(x) if needs_gradient else None
        grad_weight = torch.zeros_like(weight) if needs_gradient else None
        total = x.new_zeros((), dtype=torch.float32)
        # Rows beyond the vocabulary are padding, without logits and gradients. Products run in the precision of x.
        used = weight[:vocab_size].to(x.dtype)
        scaled = x / cap
        rows = slice_rows(x.device, vocab_size)
        for start in range(0, x.size(0), rows):
            part = slice(start, start + rows)
            loss, grad = of_slice(scaled[part], used, targets[part], counted[part], scale, cap, needs_gradient)
            total += loss
            if grad is None or grad_x is None or grad_weight is None:
                continue
            torch.mm(grad, used, out=grad_x[part])
            if x.dtype == weight.dtype:
                grad_weight[:vocab_size].addmm_(grad.t(), x[part])
            else:
                grad_weight[:vocab_size].add_(grad.t() @ x[part])
        if grad_x is not None and grad_weight is not None:
            ctx.save_for_backward(grad_x, grad_weight)
        return total * scale

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_weight = ctx.saved_tensors
        return grad_x.mul_(upstream[0]), grad_weight.mul_(upstream[0]), None, None, None, None, None


def softcap_cross_entropy(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    cap: float,
    vocab_size: int,
    ignore: int,
    of_slice: SliceLoss = slice_loss,
) -> Tensor:
    """Mean cross-entropy in nats of the soft-capped logits x·Wᵀ.

    Args:
        x: (N, C) final activations.
        weight: (V, C) head, V at least `vocab_size`.
        targets: (N,) int64; rows with `ignore` do not count.
        of_slice: loss and gradient of a slice of rows.

    Returns:
        Scalar float32. Backward may be called once, because it returns the gradients without a copy.
    """
    if not torch.is_grad_enabled():
        # The autograd function would compute gradients even here.
        x, weight = x.detach(), weight.detach()
    loss: Tensor = _SoftcapCrossEntropy.apply(x, weight, targets, cap, vocab_size, ignore, of_slice)
    return loss
