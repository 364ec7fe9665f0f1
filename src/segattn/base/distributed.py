"""Several processes of one run: which one writes, and bringing together what each has."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, TypeVar

import torch.distributed as dist
from pytorch_lightning.utilities import rank_zero_only

T = TypeVar("T")
_NOTHING: Any = object()


def is_main() -> bool:
    """Whether this process is the first of its run, the only one that writes.

    Known from the environment that started the process, also before any communication.
    """
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def gather(value: T) -> list[T] | None:
    """`value` of every process by rank, in the first one; None in the others.

    A collective: every process has to call it.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    parts = [value] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(value, parts)
    return parts


def interleave(parts: Sequence[Sequence[T]]) -> list[T]:
    """Undo a split in which part r has items r, r + n, r + 2n, ... of n parts."""
    rows = zip_longest(*parts, fillvalue=_NOTHING)
    return [item for item in chain.from_iterable(rows) if item is not _NOTHING]
