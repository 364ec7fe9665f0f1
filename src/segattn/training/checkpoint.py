"""Checkpoints: written whole or not at all, and tasks out of them."""

import inspect
import pickle
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segattn.base.errors import UserError, first_line
from segattn.base.files import atomic_path
from segattn.base.runs import Run
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
        UserError: It is damaged, or holds more than weights and numbers, which could be code.
    """
    try:
        torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except _BROKEN as error:
        raise UserError(
            f"{path} is damaged, or holds more than weights and numbers and so is not loaded "
            f"({first_line(error)}). Delete it to start this run from its first epoch"
        ) from error


def load_tested(task: SegmentationTask, run: Run, trainer: pl.Trainer) -> None:
    """Load the weights of `run.tested_checkpoint`, which the test scores, into a trained task.

    They are always read from the file, so that the scored weights are the kept ones, also in a run
    that was resumed after its last epoch.
    """
    choosing: list[Any] = [c for c in trainer.checkpoint_callbacks if getattr(c, "monitor", None)]
    if choosing and not choosing[0].best_model_path:
        print("no validation came before the end of the training, so its last weights are the best")
        trainer.save_checkpoint(run.best_path)
    stored = torch.load(run.tested_checkpoint, weights_only=True, map_location="cpu")
    task.load_state_dict(stored["state_dict"])


def load_task(path: Path, *, device: torch.device, **changes: Any) -> SegmentationTask:
    """The task of a checkpoint in evaluation mode.

    Args:
        path: The file.
        device: Where its weights go.
        **changes: Arguments of `SegmentationTask` that differ from the checkpoint's.

    Raises:
        UserError: The file does not exist, or is not a checkpoint of segattn.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; a run leaves its own in checkpoints/last.ckpt")
    arguments, weights = _read(path)
    task = SegmentationTask(**arguments | changes)
    try:
        task.load_state_dict(weights)
    except RuntimeError as error:
        raise _another(path, error) from error
    return task.to(device).eval()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the task, and its weights."""
    known = inspect.signature(SegmentationTask).parameters
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        arguments, weights = dict(content["hyper_parameters"]), content["state_dict"]
        needed = {name for name, p in known.items() if p.default is p.empty}
        if unknown := sorted((arguments.keys() - known.keys()) | (needed - arguments.keys())):
            raise LookupError(f"it differs in {', '.join(unknown)}")
    except _BROKEN as error:
        raise _another(path, error) from error
    return arguments, weights


def _another(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is not a checkpoint of this version of segattn ({first_line(error)})")
