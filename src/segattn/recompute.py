"""Exact attention that keeps its inputs alone: the backward pass computes the maps again, in parts.

Axes as in `segattn.attention`. Every function returns gamma * attention, plus a residual where it
takes one; gamma has one element. It belongs inside: its gradient is the sum of S below, while a
product outside would keep the attention for it. For attention = A V, A = softmax(E) and g the
gradient of the result,

    dA = g V^T,  S = A * dA,  dE = S - A * (row sums of S),  dV = A^T g,  dgamma = sum of S;

dE and dV times gamma are the gradients of E and V. All is computed in float32 (float64 stays):
energies are not divided by a square root, and at a few hundred bfloat16 is off by a whole unit in
the exponent of the softmax.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# positions whose energies exist at a time; fewer make thin and slow matrix products
_POSITIONS = 512
# of the maps of rows or columns that exist at a time
_SLICE_BYTES = 8 * 2**20

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def exact(x: Tensor) -> Tensor:
    """`x` in the dtype that is computed in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def autocast_off(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast; the meta device has none to switch off."""
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def without_autocast(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run `function` with autocast off on the device of its first tensor."""

    @wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with autocast_off(next(arg.device for arg in args if isinstance(arg, Tensor))):
            return function(*args, **kwargs)

    return run


class ChannelAttention(Function):
    """residual + gamma * softmax(sign * X X^T) X; keeps X and the C x C map.

    Both factors of X X^T get their gradient in one product with dE + dE^T.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, residual: Tensor | None, sign: int, merged: bool
    ) -> Tensor:
        """x, residual: [B, C, N]. merged: the residual is x; then it is not given."""
        flat = exact(x)
        attention = _gram(flat)
        if sign < 0:
            attention.neg_()
        torch.softmax(attention, dim=-1, out=attention)
        ctx.save_for_backward(x, attention, gamma)
        ctx.sign, ctx.merged = sign, merged
        result = _add_product(flat if merged else residual, gamma * attention, flat)
        # compiled by torch 2.11, a result that ends in an empty .to() gets wrong gradients
        return result if result.dtype == x.dtype else result.to(x.dtype)

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, gamma and residual."""
        x, attention, gamma = ctx.saved_tensors
        flat, gradient = exact(x), exact(g)
        s = torch.bmm(gradient, flat.mT).mul_(attention)
        sums = s.sum(dim=-1, keepdim=True)
        s.addcmul_(attention, sums, value=-1).mul_(ctx.sign * gamma)
        scaled = (gamma * attention).mT
        dx = _add_product(gradient if ctx.merged else None, scaled, gradient)
        dx.baddbmm_(s + s.mT, flat)
        return dx.to(x.dtype), _total(sums, gamma), None if ctx.merged else g, None, None


def _gram(x: Tensor) -> Tensor:
    """X X^T, [B, C, C]; it is symmetric, so a quarter of it is a copy."""
    channels = x.shape[1]
    half = channels // 2
    gram = x.new_empty(len(x), channels, channels)
    gram[:, :half, :half] = torch.bmm(x[:, :half], x[:, :half].mT)
    gram[:, half:] = torch.bmm(x[:, half:], x.mT)
    gram[:, :half, half:] = gram[:, half:, :half].mT
    return gram


def _add_product(added: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    if added is None:
        return torch.bmm(left, right)
    return torch.baddbmm(exact(added), left, right)


class SpatialAttention(Function):
    """residual + gamma * V softmax(Q^T K)^T; keeps Q, K and V.

    Only Q^T K is computed a second time, 1 / 8 of the work of A V where Q has C / 8 channels. A
    part holds whole rows of A, so no running maximum is needed.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, gamma: Tensor, residual: Tensor
    ) -> Tensor:
        """query, key: [B, D, N]; value, residual: [B, C, N]."""
        ctx.save_for_backward(query, key, value, gamma)
        result = torch.empty_like(residual)
        for q, k, v, added, out in zip(query, key, value, residual, result, strict=True):
            k, v = exact(k), exact(v)
            for part, attention in _row_parts(q, k):
                out[:, part] = torch.addcmul(added[:, part], gamma, v @ attention.T)
        return result

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key, value, gamma and residual."""
        query, key, value, gamma = ctx.saved_tensors
        inputs = (query, key, value)
        gradients = tuple(torch.empty_like(x, dtype=exact(x[:0]).dtype) for x in inputs)
        sums = [
            _spatial_gradients(*map(exact, tensors[:4]), *tensors[4:])
            for tensors in zip(*inputs, g, *gradients, strict=True)
        ]
        scaled = (d.mul_(gamma).to(x.dtype) for d, x in zip(gradients, inputs, strict=True))
        return *scaled, _total(torch.stack(sums), gamma), g


def _row_parts(query: Tensor, key: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of softmax(Q^T K) for a part of the positions at a time, in one reused buffer."""
    positions = query.shape[1]
    buffer = key.new_empty(min(_POSITIONS, positions), positions)
    for start in range(0, positions, _POSITIONS):
        part = slice(start, start + _POSITIONS)
        rows = exact(query[:, part]).T
        attention = buffer[: len(rows)]
        torch.mm(rows, key, out=attention)
        torch.softmax(attention, dim=-1, out=attention)
        yield part, attention


def _spatial_gradients(
    query: Tensor, key: Tensor, value: Tensor, g: Tensor, dq: Tensor, dk: Tensor, dv: Tensor
) -> Tensor:
    """Fill dq, dk and dv of one image, all without gamma; returns dgamma."""
    dk.zero_()
    dv.zero_()
    dgamma = g.new_zeros(())
    for part, attention in _row_parts(query, key):
        gradient = g[:, part]
        dv.addmm_(gradient, attention)
        s = (gradient.T @ value).mul_(attention)
        sums = s.sum(dim=-1, keepdim=True)
        dgamma += sums.sum()
        s.addcmul_(attention, sums, value=-1)
        dq[:, part] = key @ s.T
        dk.addmm_(query[:, part], s)
    return dgamma


class SliceAttention(Function):
    """Gamma * softmax(F G^T) F for slices F of each image with its context G; keeps F and G."""

    @staticmethod
    def forward(ctx: Any, slices: Tensor, context: Tensor, gamma: Tensor) -> Tensor:
        """slices: [B, S, C, L]; context: [B, C, L]."""
        ctx.save_for_backward(slices, context, gamma)
        result = torch.empty_like(slices)
        for f, keys, out in zip(slices, context, result, strict=True):
            for part, chunk, attention in _map_parts(f, exact(keys)):
                out[part] = torch.bmm(attention, chunk) * gamma
        return result

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        """Gradients of slices, context and gamma."""
        slices, context, gamma = ctx.saved_tensors
        inputs = (slices, context)
        gradients = tuple(torch.zeros_like(x, dtype=exact(x[:0]).dtype) for x in inputs)
        sums = [
            _slice_gradients(f, exact(keys), *tensors)
            for f, keys, *tensors in zip(*inputs, g, *gradients, strict=True)
        ]
        scaled = (d.mul_(gamma).to(x.dtype) for d, x in zip(gradients, inputs, strict=True))
        return *scaled, _total(torch.stack(sums), gamma)


def _map_parts(slices: Tensor, keys: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """softmax(F G^T) for some of the slices F [S, C, L] at a time, with these slices."""
    step = max(1, _SLICE_BYTES // (keys.element_size() * len(keys) ** 2))
    for start in range(0, len(slices), step):
        part = slice(start, start + step)
        chunk = exact(slices[part])
        energies = chunk @ keys.T
        yield part, chunk, torch.softmax(energies, dim=-1, out=energies)


def _slice_gradients(
    slices: Tensor, keys: Tensor, g: Tensor, dslices: Tensor, dkeys: Tensor
) -> Tensor:
    """Fill dslices and add to dkeys, both of one image and without gamma; returns dgamma."""
    dgamma = keys.new_zeros(())
    for part, chunk, attention in _map_parts(slices, keys):
        gradient = exact(g[part])
        dchunk = torch.bmm(attention.mT, gradient)
        s = torch.bmm(gradient, chunk.mT).mul_(attention)
        sums = s.sum(dim=-1, keepdim=True)
        dgamma += sums.sum()
        s.addcmul_(attention, sums, value=-1)
        dslices[part] = dchunk.baddbmm_(s, keys.expand(len(chunk), -1, -1))
        dkeys.addmm_(s.flatten(0, 1).T, chunk.flatten(0, 1))
    return dgamma


def _total(sums: Tensor, gamma: Tensor) -> Tensor:
    return sums.sum().to(gamma.dtype).view_as(gamma)
