"""The dtype that attention is computed in."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def keeps_half(x: Tensor) -> bool:
    """Return whether products keep bf16 and fp16 factors: CUDA sums them in float32."""
    return x.is_cuda


def wide_product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply [B, ., .] tensors of one dtype; the result is float32 at least."""
    if left.is_cuda and left.dtype in HALF:
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(widened(left), widened(right))


def in_dtype_of_run(x: Tensor) -> Tensor:
    """Return `x` in the dtype of autocast, if it is on and bf16 and fp16 are kept."""
    if keeps_half(x) and torch.is_autocast_enabled(x.device.type):
        return x.to(torch.get_autocast_dtype(x.device.type))
    return x


def autocast_off(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast; the meta device does not have autocast."""
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


def in_precision_of_run(function: Callable[..., Result]) -> Callable[..., Result]:
    """Run `function` with autocast off and its positional tensors in the dtype of the run."""
    inner = without_autocast(function)

    @wraps(function)
    def run(*args: Tensor, **kwargs: object) -> Result:
        return inner(*map(in_dtype_of_run, args), **kwargs)

    return run
