"""Fused chains of elementwise operations, each one autograd node with a hand-written gradient.

Plain autograd would read the same activations two to three times as often and keep tensors that it does not need. The
compiler and GPU kernels fuse such chains themselves, so these are used only in eager mode on the CPU.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def _by_hand(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _inverse_rms(x: Tensor) -> Tensor:
    """1/√(mean square + ε) over the last dimension, which is kept with size 1, in float32."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    mean_square = norm.square_().div_(x.size(-1))
    return mean_square.add_(torch.finfo(x.dtype).eps).rsqrt_()


def _through_norm(grad: Tensor, y: Tensor, inverse: Tensor) -> Tensor:
    """Gradient with respect to x of the RMS norm y = x·inverse: (g − y·mean(g·y))·inverse."""
    grad, y = grad.float(), y.float()
    share = (grad * y).sum(dim=-1, keepdim=True).div_(y.size(-1))
    return torch.addcmul(grad, y, share, value=-1.0).mul_(inverse)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        inverse = _inverse_rms(x)
        y = torch.mul(x, inverse, out=torch.empty_like(x))
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y, inverse = ctx.saved_tensors
        return _through_norm(grad, y, inverse).to(y.dtype)


def rms_norm(x: Tensor) -> Tensor:
    """RMS norm over the last dimension, without parameters."""
    if not _by_hand(x):
        return F.rms_norm(x, (x.size(-1),))
    y: Tensor = _RMSNorm.apply(x)
    return y


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    """Both halves of the last dimension rotated by −θ (sign 1) or θ (sign −1), in a new tensor."""
    a, b = x.chunk(2, dim=-1)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    first, second = y.chunk(2, dim=-1)
    torch.mul(a, cos, out=first)
    first.addcmul_(b, sin, value=sign)
    torch.mul(b, cos, out=second)
    second.addcmul_(a, sin, value=-sign)
    return y


class _RotaryNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        inverse = _inverse_rms(x)
        # A rotation keeps the norm, so it may come first.
        y = _turn(x.float(), cos, sin, 1.0).mul_(inverse).to(x.dtype)
        ctx.save_for_backward(y, inverse, cos, sin)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        y, inverse, cos, sin = ctx.saved_tensors
        return _turn(_through_norm(grad, y, inverse), cos, sin, -1.0).to(y.dtype), None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the two halves of each head by −θ: y₁ = a·cos + b·sin, y₂ = −a·sin + b·cos; x is (B, T, H, D)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


def rotary_norm(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RMS norm of each rotated head; x is (B, T, H, D), the tables are (T, 1, D / 2) float32."""
    if not _by_hand(x):
        # In lower precision the float32 tables would make queries and keys wider than the values.
        return rms_norm(rotate(x, cos, sin)).to(x.dtype)
    y: Tensor = _RotaryNorm.apply(x, cos, sin)
    return y


class _ReLUSquared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        positive: Tensor = ctx.saved_tensors[0]
        return (grad * positive).mul_(2.0)


def relu_squared(x: Tensor) -> Tensor:
    """max(0, x)²."""
    if not _by_hand(x):
        return F.relu(x).square()
    y: Tensor = _ReLUSquared.apply(x)
    return y


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, x0: Tensor, r: Tensor, e: Tensor) -> Tensor:
        ctx.save_for_backward(x, x0, r, e)
        return torch.mul(x, r).addcmul_(x0, e)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, x0, r, e = ctx.saved_tensors
        flat = grad.flatten()
        return grad * r, grad * e, flat.dot(x.flatten()), flat.dot(x0.flatten())


def mix(x: Tensor, x0: Tensor, r: Tensor, e: Tensor) -> Tensor:
    """r·x + e·x0 of two tensors of the same shape and two scalars."""
    if not _by_hand(x):
        return r * x + e * x0
    y: Tensor = _Mix.apply(x, x0, r, e)
    return y
