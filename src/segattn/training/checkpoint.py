"""Checkpoints: written whole or not at all, and tasks out of them."""

import pickle
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segattn.base.errors import Fault
from segattn.base.files import atomic_path
from segattn.training.task import SegmentationTask


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the old one and then takes its name.

    Lightning writes into the system's temporary folder and moves that; where it is another file
    system, the move is a copy, and a process killed in it leaves half a checkpoint and no other.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Save `checkpoint` to `path`; on an error the file of before stays."""
        with atomic_path(Path(path)) as draft, draft.open("wb") as file:
            torch.save(checkpoint, file)


# a broken archive, other objects in it, other arguments, other weights; torch.load raises nearly
# anything for bytes that it takes for a pickle
_BROKEN = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError),
    *(LookupError, TypeError, AttributeError, ValueError),
)


def check_checkpoint(path: Path) -> None:
    """Look whether a run can go on from the checkpoint `path`, without reading its weights.

    Raises:
        Fault: It is damaged, or holds other things than weights and numbers, which could be code.
    """
    try:
        torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except _BROKEN as error:
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise Fault(
            f"{path} is damaged, or holds more than weights and numbers and so is not loaded "
            f"({first}). Delete it to start this run from its first epoch"
        ) from error


def load_task(path: Path, *, device: torch.device, **changes: Any) -> SegmentationTask:
    """The task of a checkpoint in evaluation mode.

    Args:
        path: The file.
        device: Where its weights go.
        **changes: Arguments of `SegmentationTask` that differ from the checkpoint's.

    Raises:
        ValueError: There is no such file, or it is no checkpoint of segattn.
    """
    if not path.is_file():
        raise ValueError(f"no checkpoint {path}; a run leaves its own in checkpoints/last.ckpt")
    try:
        task = SegmentationTask.load_from_checkpoint(
            path, map_location=device, weights_only=True, **changes
        )
    except _BROKEN as error:
        first = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path} is no checkpoint of segattn, or of a later version ({first})"
        ) from error
    return task.eval()
