"""Loaders: which sample, in which order, with which augmentation, all from one seed."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segattn.base.errors import UserError
from segattn.data import build_source
from segattn.data.samplers import EpochSampler, EvalSampler
from segattn.data.source import Sample, Source, Split
from segattn.data.transforms import augment, mirror_order
from segattn.metrics import find_objects


class _Samples(Dataset[Any]):
    """Reads samples; keeps them in memory if asked to."""

    def __init__(self, source: Source, *, cache: bool) -> None:
        self.source = source
        self._cache: dict[Any, Any] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.source.names)

    def load(self, index: int) -> Sample:
        sample: Sample = self._once(index, lambda: self.source.load(index))
        return sample

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if self._cache is None:
            return make()
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]


class TrainSamples(_Samples):
    """Augmented samples by (index, seed): image uint8 [3, H, W], label int64 [H, W], name."""

    def __init__(self, source: Source, *, cache: bool, augmentation: dict[str, Any]) -> None:
        super().__init__(source, cache=cache)
        order = mirror_order(source.classes, source.flip_pairs)
        labels = None if order is None else [*order, *range(len(order), 256)]
        mirrored = None if labels is None else torch.tensor(labels, dtype=torch.uint8)
        self.augmentation = {**augmentation, "mirrored": mirrored}

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        index, seed = key
        sample = self.load(index)
        image, label = augment(
            image_tensor(sample.image),
            torch.from_numpy(sample.label.copy()),
            generator=torch.Generator().manual_seed(seed),
            **self.augmentation,
        )
        return {"image": image, "label": label.long(), "name": sample.name}


class EvalSamples(_Samples):
    """Unchanged samples by index, with the objects of the label."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.load(index)
        return {
            "image": image_tensor(sample.image),
            "label": torch.from_numpy(sample.label.copy()).long(),
            "name": sample.name,
            "objects": self._once(
                ("objects", index), lambda: find_objects(sample.label, sample.instances)
            ),
        }


def image_tensor(image: NDArray[np.uint8]) -> Tensor:
    """An image uint8 [H, W, 3] as the model takes it, uint8 [3, H, W]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Image uint8 [B, 3, H, W], label int64 [B, H, W], name list[str], objects list[`Objects`].

    Raises:
        UserError: The images of the batch differ in size; the message names two of them.
    """
    first = items[0]
    knob = "loader.eval_batch_size=1" if "objects" in first else "augment.crop=[HEIGHT,WIDTH]"
    for item in items:
        if item["label"].shape != first["label"].shape:
            raise UserError(
                f"{first['name']} is {tuple(first['label'].shape)} and {item['name']} is "
                f"{tuple(item['label'].shape)} px; for images of several sizes set {knob}, "
                "or data.size for data=folder and data=coco"
            )
    batch: dict[str, Any] = {
        key: torch.stack([i[key] for i in items]) for key in ("image", "label")
    }
    batch["name"] = [item["name"] for item in items]
    if "objects" in first:
        batch["objects"] = [item["objects"] for item in items]
    return batch


class SegmentationData(pl.LightningDataModule):
    """The three splits of one data set as loaders.

    Args:
        data: `name` and the knobs of the data set.
        augment: Arguments of `segattn.data.transforms.augment`.
        seed: Seed of order and augmentation.
        batch_size: Images of a training step, on all devices together.
        eval_batch_size: Images of an evaluation step on one device. Logits may round otherwise in
            batches of another size; nothing else depends on it.
        num_workers: Loader processes; 0 loads in the main process.
        cache: Keep decoded samples and their objects in memory.
    """

    def __init__(
        self,
        *,
        data: dict[str, Any],
        augment: dict[str, Any],
        seed: int,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        cache: bool,
    ) -> None:
        super().__init__()
        self.data, self.augmentation, self.seed = data, augment, seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.cache = num_workers, cache
        self.sources: dict[Split, Source] = {}
        self._training: TrainSamples | None = None

    def source(self, split: Split) -> Source:
        """The split's source; found and checked on first use."""
        if split not in self.sources:
            knobs = {key: value for key, value in self.data.items() if key != "name"}
            self.sources[split] = build_source(self.data["name"], split, **knobs)
        return self.sources[split]

    def prepare_data(self) -> None:
        """Look for every split now, so that a missing folder is found before training starts."""
        train: set[str] = set()
        for split in ("train", "val", "test"):
            source = self.source(split)
            source.load(0)
            places = set(source.places())
            if split == "train":
                train = places
            elif both := train & places:
                raise UserError(
                    f"{len(both)} images are in train and in {split}, such as {min(both)}; scores "
                    "would be too high"
                )

    def warn_unless_official(self) -> None:
        """Warn of each split in use that is incomplete: no published scores compare with its."""
        for split, source in self.sources.items():
            for note in source.notes:
                warnings.warn(f"{source.title}: {note}", stacklevel=2)
            name, count = source.official.get(split, (split, len(source.names)))
            if len(source.names) != count:
                warnings.warn(
                    f"{source.title}: the split {name!r} has {len(source.names)} images here and "
                    f"{count} officially; see scripts/check_data.py",
                    stacklevel=2,
                )

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in the order of (seed, epoch)."""
        samples = self._train_samples()
        if len(samples) < self.batch_size:
            raise UserError(
                f"loader.batch_size={self.batch_size} is more than the {len(samples)} "
                f"training images; lower it"
            )
        rank, world = self._rank_and_world()
        sampler = EpochSampler(
            len(samples),
            seed=self.seed,
            epoch=self.epoch,
            batch_size=self.batch_size,
            rank=rank,
            world=world,
        )
        if self.cache and self.num_workers:  # before they are forked, so that workers share them
            for index in range(len(samples)):
                samples.load(index)
        return self._loader(samples, self.batch_size // world, sampler=sampler)

    @property
    def batches_per_epoch(self) -> int:
        """Steps of a training epoch; images that do not fill a batch are left out."""
        return len(self.source("train").names) // self.batch_size

    def epoch(self) -> int:
        """Epochs that the training has done, also right after a resume; 0 without a trainer."""
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return int(progress.processed)

    def _rank_and_world(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _train_samples(self) -> TrainSamples:
        """One object for counting and training, so that both share the cache."""
        if self._training is None:
            self._training = TrainSamples(
                self.source("train"), cache=self.cache, augmentation=self.augmentation
            )
        return self._training

    def val_dataloader(self) -> DataLoader[Any]:
        """The val split in order."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """The test split in order."""
        return self._eval_loader("test")

    def _eval_loader(self, split: Split) -> DataLoader[Any]:
        samples = EvalSamples(self.source(split), cache=self.cache)
        rank, world = self._rank_and_world()
        if len(samples) < world:
            raise UserError(
                f"the split {split!r} has {len(samples)} images for {world} processes; set "
                f"trainer.devices to {len(samples)} or less"
            )
        sampler = EvalSampler(len(samples), rank=rank, world=world)
        return self._loader(samples, self.eval_batch_size, sampler=sampler)

    def _loader(self, samples: _Samples, batch_size: int, **options: Any) -> DataLoader[Any]:
        return DataLoader(
            samples,
            batch_size=batch_size,
            num_workers=self.num_workers,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def class_frequencies(self) -> list[float]:
        """Share of each class in the labelled pixels of the training split."""
        samples = self._train_samples()
        counts = torch.zeros(256, dtype=torch.long)
        for index in range(len(samples)):
            label = torch.from_numpy(samples.load(index).label.copy())
            counts += torch.bincount(label.flatten().long(), minlength=256)
        counted = counts[: len(samples.source.classes)].double()
        if not counted.any():
            raise UserError(
                "no training image has a labelled pixel, all of them are void; "
                "scripts/check_data.py shows what the labels hold"
            )
        return (counted / counted.sum()).tolist()
