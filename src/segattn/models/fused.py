"""Exact attention by torch's fused kernels, which keep no map. Axes are those in `attention.py`."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.backends.cuda import (
    SDPAParams,
    can_use_cudnn_attention,
    can_use_efficient_attention,
    can_use_flash_attention,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

# fastest first, as measured on an H200; torch's own choice depends on its version
_KERNELS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
]
_CHUNK = 128  # channels of a head: with 64 and 256 the kernels measured slower
_LARGEST = 256  # above it, only slow kernels exist


@lru_cache
def _ask_torch(device: torch.device, dtype: torch.dtype, size: int, training: bool) -> bool:
    x = torch.empty(1, 1, 8, size, device=device, dtype=dtype, requires_grad=training)
    parameters = SDPAParams(x, x, x, None, 0.0, False, False)
    checks = (can_use_cudnn_attention, can_use_flash_attention, can_use_efficient_attention)
    return size <= _LARGEST and any(check(parameters) for check in checks)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def has_kernel(device: torch.device, dtype: torch.dtype, size: int, training: bool) -> bool:
    """Ask torch whether a fast kernel takes heads of `size`; its rules change."""
    return _ask_torch(device, dtype, size, training)


def chunks(*, values: int, queries: int) -> tuple[int, int]:
    """Return how many heads the channels of the values are cut into, and their size."""
    heads = -(-values // _CHUNK)
    size = max(-(-values // heads), queries)
    return heads, size + -size % 8


def attend_in_chunks(query: Tensor, key: Tensor, value: Tensor, *, heads: int, size: int) -> Tensor:
    """Compute V softmax(Q^T K)^T, [B, C, N], in heads of the size that kernels need.

    The channels of the values are cut into heads, which share queries and keys. A head is filled up
    with zeros, which add nothing to a product.
    """
    channels = value.shape[1]
    q, k = (_rows(x, size).unsqueeze(1).expand(-1, heads, -1, -1) for x in (query, key))
    v = _rows(value, heads * size).unflatten(2, (heads, size)).transpose(1, 2)
    attended = attend(q, k, v)  # [B, heads, N, size]
    return attended.transpose(1, 2).flatten(2)[:, :, :channels].mT


def _rows(x: Tensor, width: int) -> Tensor:
    """Turn [B, C, N] into [B, N, width] with zeros at the end; copies only if needed."""
    return padded(x.mT, width).contiguous()


def padded(x: Tensor, width: int) -> Tensor:
    """Fill the last axis of `x` with zeros up to `width`."""
    missing = width - x.shape[-1]
    return pad(x, (0, missing)) if missing else x


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute softmax(Q K^T) V by torch's kernel, [batch, heads, sequence, size]."""
    if query.is_cpu:
        return scaled_dot_product_attention(query, key, value, scale=1.0)
    with sdpa_kernel(_KERNELS, set_priority=True):
        return scaled_dot_product_attention(query, key, value, scale=1.0)
