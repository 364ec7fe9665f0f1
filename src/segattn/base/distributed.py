"""Several processes of one run: which one writes, and bringing together what each has."""

import os
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.utilities import rank_zero_only

T = TypeVar("T")
_NOTHING: Any = object()
_LAUNCHER = "SEGATTN_LAUNCHER"
"""Environment variable: id of the process whose children are the other processes of a run."""
_RANKS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"),
    *("JSM_NAMESPACE_RANK", "TORCHELASTIC_RUN_ID"),
)


def find_rank(world: int) -> None:
    """Decide which process of a run this one is, before Lightning does.

    Variables such as RANK or SLURM_PROCID may be left over from another program. Lightning would
    believe them, and a run of one process would then end without a result.

    Args:
        world: Number of processes of the run. A run of one process ignores the variables and
            removes them from its environment.
    """
    if world == 1:
        for name in _RANKS:
            os.environ.pop(name, None)
        rank = "0"
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        rank = os.environ["RANK"]
    elif SLURMEnvironment.detect():
        rank = os.environ["SLURM_PROCID"]
    else:
        if os.environ.get(_LAUNCHER) != str(os.getppid()):  # Lightning did not start this process
            for name in _RANKS:
                os.environ.pop(name, None)
        os.environ[_LAUNCHER] = str(os.getpid())
        rank = os.environ.get("LOCAL_RANK", "0")
    rank_zero_only.rank = int(rank)  # type: ignore[attr-defined]


def is_main() -> bool:
    """Whether this process is the first of its run, the only one that writes.

    `find_rank` has to come first; it needs no communication.
    """
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def summed(value: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes; every process has to call it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


def gather(value: T) -> list[T] | None:
    """Return `value` of every process by rank in the first process, and None in the others.

    Every process has to call it.
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
