"""The built-in data set: street scenes drawn on first use and kept as memory-mapped arrays."""

import os
import secrets
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
from rich.progress import track

from segattn.base.errors import UserError
from segattn.data import street
from segattn.data.source import Sample, Source, Split

# part of the cache's name: raise it whenever draw_scene changes a pixel
SCENES_VERSION = 4
_STREAMS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


class Scenes(Source):
    """Procedural street scenes with exact object ids, see `segattn.data.street`.

    Train, val and test come from different random streams. Choices are made on val; test scores
    come from scenes that no choice has seen.

    Args:
        split: "train", "val" or "test".
        root: Folder of the cache; about 0.05 MB per scene.
        height: Rows, at least 64.
        width: Columns, at least 64.
        num_train: Scenes in the split "train".
        num_val: Scenes in the split "val".
        num_test: Scenes in the split "test".
    """

    classes = street.CLASSES
    palette = street.PALETTE
    things = with_ids = street.THINGS
    class_groups: ClassVar = {
        "thin": street.POLES,
        "far_scene": (*street.SIGNS, *street.POLES),
        "far_row": street.VEHICLES,
        "near": street.WATER,
        "control": street.CONTROL,
    }
    size_edges = (12.0, 24.0)  # 1.5 and 3 cells of a feature map at stride 8
    size_classes: ClassVar = {
        **dict.fromkeys(("small", "medium", "large"), street.SIZED),
        "thin": street.POLES,
    }

    def __init__(
        self,
        split: Split,
        *,
        root: str = "data/scenes",
        height: int = 64,
        width: int = 128,
        num_train: int = 2000,
        num_val: int = 100,
        num_test: int = 400,
    ) -> None:
        count = {"train": num_train, "val": num_val, "test": num_test}[split]
        if min(height, width) < 64 or max(height, width) >= 512 or count < 1:
            raise UserError(
                f"scenes need 64 <= height, width < 512 and at least one scene a split, "
                f"got {height} x {width} and num_{split}={count}"
            )
        self.title = "scenes"
        self.names = [f"{split}-{index:05d}" for index in range(count)]
        self._size, self._stream = (height, width), _STREAMS[split]
        folder = f"v{SCENES_VERSION}-{height}x{width}-{split}-{count}"
        self._folder = Path(root) / folder
        self._arrays: dict[str, np.ndarray] | None = None

    def load(self, index: int) -> Sample:
        """Scene `index`; draws the whole split first where it is not cached yet."""
        if self._arrays is None:
            self._arrays = self._open()
        arrays = {key: np.array(array[index]) for key, array in self._arrays.items()}
        return Sample(self.names[index], **arrays)

    def _open(self) -> dict[str, np.ndarray]:
        if not self._folder.is_dir():
            self._draw_all()
        try:
            return {
                key: np.load(self._folder / f"{key}.npy", mmap_mode="r")
                for key in ("image", "label", "instances")
            }
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"the cache of scenes {self._folder} is damaged ({error}); delete that folder and "
                f"start again"
            ) from error

    def _draw_all(self) -> None:
        """Draw into a folder of our own and rename it: a killed or a second process cannot harm."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        # drawn at random: machines that share the disk may have processes of one number
        scratch = self._folder.with_name(f".drawing-{self._folder.name}-{secrets.token_hex(4)}")
        scratch.mkdir()
        try:
            self._draw_into(scratch)
            os.replace(scratch, self._folder)
        except OSError:
            if not self._folder.is_dir():  # else another process was first, with the same pixels
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _draw_into(self, folder: Path) -> None:
        height, width = self._size
        shape = (len(self.names), height, width)
        images = _create(folder / "image.npy", dtype=np.uint8, shape=(*shape, 3))
        labels = _create(folder / "label.npy", dtype=np.uint8, shape=shape)
        instances = _create(folder / "instances.npy", dtype=np.int16, shape=shape)
        indices = track(range(len(self.names)), description=f"drawing {self._folder.name}")
        for index in indices:
            scene = street.draw_scene(self._stream, index, height=height, width=width)
            images[index], labels[index] = scene.image, scene.label
            instances[index] = scene.instances
        for array in (images, labels, instances):
            array.flush()


def _create(path: Path, *, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A new array on the disk, which has all of its space from the start.

    Without this, a disk that fills up would end the process by SIGBUS and without a message.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise UserError(
            f"cannot write the scenes to {path.parent.parent} ({error.strerror}); free some space, "
            f"or set data.root to another disk"
        ) from error
    return array
