"""Exact attention that keeps only its inputs: the backward pass computes the maps again, in parts.

Axes are those in `attention.py`. Every function returns gamma * attention, plus a residual if it
takes one; gamma has one element. Gamma is part of the function because its gradient is the sum of S
below; a product outside would keep the whole attention to compute it. For attention = A V, A =
softmax(E) and g the gradient of the result,

    dA = g V^T,  S = A * dA,  dE = S - A * (row sums of S),  dV = A^T g,  dgamma = sum of S;

dE and dV times gamma are the gradients of E and V. Energies and maps are float32 (float64 stays):
energies are not divided by a square root, and at a few hundred bfloat16 is off by a whole unit in
the exponent of the softmax. The factors of a product are widened too, except in channel attention
on CUDA, which multiplies bf16 and fp16 as they are and sums in float32.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from segattn.models.precision import keeps_half, wide_product, widened, without_autocast

# Energies that exist at a time: just large enough for fast products. A CPU needs some hundred
# positions; fewer make thin products. On a GPU, 8 million are 512 tiles of 128 x 128.
_CPU_POSITIONS = 512
_CPU_SLICE_NUMBERS = 2 * 2**20
_GPU_NUMBERS = 8 * 2**20


class ChannelAttention(Function):
    """Compute residual + gamma * softmax(sign * X X^T) X; keeps X and the C x C map.

    One product with dE + dE^T gives the gradient of both factors of X X^T.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, residual: Tensor | None, sign: int, merged: bool
    ) -> Tensor:
        """x, residual: [B, C, N]. merged: the residual is x, and `residual` is None."""
        flat = _factor(x)
        attention = _gram(flat)
        if sign < 0:
            attention.neg_()
        torch.softmax(attention, dim=-1, out=attention)
        ctx.save_for_backward(x, attention, gamma)
        ctx.sign, ctx.merged = sign, merged
        result = _add_product(flat if merged else residual, gamma * attention, flat)
        dtype = torch.promote_types(x.dtype, gamma.dtype)
        # compiled by torch 2.11, a result that ends in an empty .to() gets wrong gradients
        return result if result.dtype == dtype else result.to(dtype)

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, gamma and residual."""
        x, attention, gamma = ctx.saved_tensors
        flat = _factor(x)
        gradient = g.to(flat.dtype)
        s = wide_product(gradient, flat.mT).mul_(attention)
        sums = s.sum(dim=-1, keepdim=True)
        s.addcmul_(attention, sums, value=-1).mul_(ctx.sign * gamma)
        dx = _add_product(g if ctx.merged else None, (gamma * attention).mT, gradient)
        dx = _add_product_(dx, s + s.mT, flat)
        return dx.to(x.dtype), _total(sums, gamma), None if ctx.merged else g, None, None


def _factor(x: Tensor) -> Tensor:
    """Return `x` in the dtype of the factors of products."""
    return x if keeps_half(x) else widened(x)


def _gram(x: Tensor) -> Tensor:
    """Return X X^T, [B, C, C]; it is symmetric, so on a CPU a quarter of it is copied."""
    if not x.is_cpu:
        return wide_product(x, x.mT)
    channels = x.shape[1]
    half = channels // 2
    gram = widened(x[:0]).new_empty(len(x), channels, channels)
    gram[:, :half, :half] = wide_product(x[:, :half], x[:, :half].mT)
    gram[:, half:] = wide_product(x[:, half:], x.mT)
    gram[:, :half, half:] = gram[:, half:, :half].mT
    return gram


def _add_product(added: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Return added + left @ right; `left` is cast to the dtype of `right`."""
    if added is None:
        return wide_product(left.to(right.dtype), right)
    if left.dtype == right.dtype:
        return torch.baddbmm(widened(added), left, right)
    return wide_product(left.to(right.dtype), right).add_(added)


def _add_product_(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Do the same in place."""
    if left.dtype == right.dtype:
        return total.baddbmm_(left, right)
    return total.add_(wide_product(left.to(right.dtype), right))


class SpatialAttention(Function):
    """Compute residual + gamma * V softmax(Q^T K)^T; keeps Q, K and V.

    Only Q^T K is computed a second time; with C / 8 channels in Q, 1 / 8 of the work of A V. A part
    holds whole rows of A, so no running maximum is needed.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, gamma: Tensor, residual: Tensor
    ) -> Tensor:
        """query, key: [B, D, N]; value, residual: [B, C, N]."""
        ctx.save_for_backward(query, key, value, gamma)
        result = torch.empty_like(residual, dtype=torch.promote_types(residual.dtype, gamma.dtype))
        for images, part, attention in _position_blocks(query, key):
            attended = torch.bmm(widened(value[images]), attention.mT)
            result[images, :, part] = torch.addcmul(residual[images, :, part], gamma, attended)
        return result

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key, value, gamma and residual."""
        query, key, value, gamma = ctx.saved_tensors
        dq, dk, dv = (torch.zeros_like(x, dtype=widened(x[:0]).dtype) for x in (query, key, value))
        dgamma = widened(g[:0]).new_zeros(())
        for images, part, attention in _position_blocks(query, key):
            gradient = widened(g[images, :, part])
            dv[images].baddbmm_(gradient, attention)
            s = torch.bmm(gradient.mT, widened(value[images])).mul_(attention)
            sums = s.sum(dim=-1, keepdim=True)
            dgamma += sums.sum()
            s.addcmul_(attention, sums, value=-1)
            dq[images, :, part] = torch.bmm(widened(key[images]), s.mT)
            dk[images].baddbmm_(widened(query[images, :, part]), s)
        gradients = [d.mul_(gamma).to(value.dtype) for d in (dq, dk, dv)]
        return *gradients, _total(dgamma, gamma), g


def _position_blocks(query: Tensor, key: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield images, positions, and the rows of softmax(Q^T K) of these, [images, part, N]."""
    batch, _, positions = query.shape
    most = _CPU_POSITIONS * positions if query.is_cpu else _GPU_NUMBERS
    # one buffer for all parts: new memory would cost a CPU page faults
    size = min(batch * positions**2, max(most, positions))
    buffer = widened(query[:0]).new_empty(size)
    for images, part in _blocks(batch, positions, positions, most):
        q, k = widened(query[images, :, part]).mT, widened(key[images])
        energies = buffer[: len(q) * q.shape[1] * positions].view(len(q), -1, positions)
        torch.bmm(q, k, out=energies)
        yield images, part, torch.softmax(energies, dim=-1, out=energies)


class SliceAttention(Function):
    """Compute gamma * softmax(F G^T) F for slices F of an image with context G; keeps F and G."""

    @staticmethod
    def forward(ctx: Any, slices: Tensor, context: Tensor, gamma: Tensor) -> Tensor:
        """slices: [B, S, C, L]; context: [B, C, L]."""
        ctx.save_for_backward(slices, context, gamma)
        result = torch.empty_like(slices)
        for images, part, chunk, attention in _slice_blocks(slices, context):
            attended = torch.bmm(attention, chunk).mul_(gamma)
            result[images, part] = attended.view_as(result[images, part])
        return result

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        """Gradients of slices, context and gamma."""
        slices, context, gamma = ctx.saved_tensors
        dslices = torch.empty_like(slices)
        dkeys = torch.zeros_like(context, dtype=widened(context[:0]).dtype)
        dgamma = widened(g[:0]).new_zeros(())
        for images, part, chunk, attention in _slice_blocks(slices, context):
            gradient = widened(g[images, part]).reshape(chunk.shape)
            keys = widened(context[images])
            s = torch.bmm(gradient, chunk.mT).mul_(attention)
            sums = s.sum(dim=-1, keepdim=True)
            dgamma += sums.sum()
            s.addcmul_(attention, sums, value=-1)
            # the slices of an image are stacked, since they share its keys
            stacked = s.view(len(keys), -1, s.shape[-1])
            dchunk = torch.bmm(attention.mT, gradient).view(len(keys), -1, chunk.shape[-1])
            dchunk.baddbmm_(stacked, keys).mul_(gamma)
            dslices[images, part] = dchunk.view_as(dslices[images, part])
            dkeys[images].baddbmm_(stacked.mT, chunk.view_as(dchunk))
        return dslices, dkeys.mul_(gamma).to(context.dtype), _total(dgamma, gamma)


def _slice_blocks(slices: Tensor, context: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Yield images, slices, the features of these, [n, C, L], and their maps, [n, C, C]."""
    batch, number, channels, _ = slices.shape
    most = _CPU_SLICE_NUMBERS if slices.is_cpu else _GPU_NUMBERS
    for images, part in _blocks(batch, number, channels**2, most):
        keys, chunk = widened(context[images]), widened(slices[images, part]).contiguous()
        energies = torch.bmm(chunk.flatten(1, 2), keys.mT).view(-1, channels, channels)
        attention = torch.softmax(energies, dim=-1, out=energies)
        yield images, part, chunk.flatten(0, 1), attention


def _blocks(images: int, rows: int, row: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Yield images and rows with at most `most` numbers; several images only with all rows."""
    step = max(1, min(rows, most // row))
    group = max(1, most // (rows * row)) if step == rows else 1
    for image in range(0, images, group):
        for row in range(0, rows, step):
            yield slice(image, image + group), slice(row, row + step)


def _total(sums: Tensor, gamma: Tensor) -> Tensor:
    return sums.sum().to(gamma.dtype).view_as(gamma)
