"""Which sample comes when, in one process of a run or in several."""

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler

_MIX = 1_000_003  # prime; spreads (seed, epoch, index) over the generators' seeds


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (index, seed of the sample's augmentation) in an order of its own.

    Order and seeds depend on (seed, epoch, index) alone, so a run that resumes at an epoch sees
    what an uninterrupted run would have seen, with any number of workers. Process `rank` of `world`
    takes its share of every batch; a rest that does not fill a batch is left out of the epoch.

    Args:
        num_samples: Samples of the split.
        seed: Seed of the run.
        batch_size: Images of a step, all processes together; a multiple of `world`.
        rank: This process, 0..`world` - 1.
        world: Number of processes.
        epoch: Asked when an iteration starts. Lightning's set_epoch() would come too late for the
            first epoch after a resume, when workers have taken the order already:
            https://github.com/Lightning-AI/pytorch-lightning/issues/21938
    """

    def __init__(
        self,
        num_samples: int,
        *,
        seed: int,
        epoch: Callable[[], int],
        batch_size: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.used = num_samples // batch_size * batch_size
        self.num_samples, self.seed, self.epoch = num_samples, seed, epoch
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.used // self.world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        key = self.seed * _MIX + self.epoch()
        order = torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(key))
        for index in order[: self.used][self.rank :: self.world].tolist():
            yield index, (key * _MIX + index) % 2**63


class EvalSampler(Sampler[int]):
    """Yields the indices `rank`, `rank` + `world`, ...: every image once.

    torch's DistributedSampler would repeat images until all processes have equally many, and count
    them twice: https://github.com/pytorch/pytorch/issues/25162
    """

    def __init__(self, num_samples: int, *, rank: int, world: int) -> None:
        self._indices = range(rank, num_samples, world)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)
