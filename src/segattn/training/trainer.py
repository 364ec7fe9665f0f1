"""The Lightning trainer of a config."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import WARNING, getLogger
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    RichProgressBar,
)
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler

from segattn.base.distributed import is_main
from segattn.base.errors import UserError
from segattn.base.hardware import set_tf32
from segattn.base.runs import Run
from segattn.config.schema import LIGHTNING
from segattn.training.callbacks import StepSeed
from segattn.training.checkpoint import AtomicCheckpointIO
from segattn.training.optimizers import StepLimit

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

_PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}

_NOT_EXACT = {
    "max_time": "the clock decides where training ends",
    "benchmark": "cuDNN may choose other kernels",
}
"""Options under which a resumed run may differ from one that was never cut off."""


class WorldSize(Callback):
    """Stops a run with fewer processes than configured, such as in a Slurm job of one task.

    Args:
        expected: trainer.devices x trainer.num_nodes.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare."""
        if trainer.world_size != self._expected:
            raise UserError(
                f"trainer.devices x trainer.num_nodes is {self._expected}, but this run has "
                f"{trainer.world_size} process(es). Under Slurm, set --ntasks-per-node to "
                f"trainer.devices and --nodes to trainer.num_nodes"
            )


class EndAtSigterm(Callback):
    """Lets SIGTERM end the process at once: the run goes on from its last epoch.

    Lightning's own handler waits for the end of the batch and exits with 0; with several processes
    it sends a message amid theirs, which can hang.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take Lightning's place, which takes it back at the end."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    on_test_start = on_train_start


class Patience(EarlyStopping):
    """Early stopping that stays stopped when a run that was killed after it is started again."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop a resumed run whose patience was used up before its first step."""
        trainer.should_stop |= self.wait_count >= self.patience


class KeptCheckpoint(ModelCheckpoint):
    """Keeps one file, also where the run folder was moved or copied since.

    Args:
        path: The file.
        **options: Options of the base class.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(
            dirpath=path.parent, filename=path.stem, enable_version_counter=False, **options
        )
        self._path = str(path)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, with the path of the file as it is now."""
        path = self._path if state_dict["best_model_path"] else ""
        scored = bool(state_dict["best_k_models"])
        here = {
            "dirpath": self.dirpath,
            "best_k_models": {path: state_dict["best_model_score"]} if scored else {},
            "best_model_path": path,
            "kth_best_model_path": path if scored else "",
        }
        super().load_state_dict({**state_dict, **here})


def training_callbacks(run: Run, config: dict[str, Any], *, monitor: str) -> list[Callback]:
    """Return what a training needs to be resumed exactly, and what its config asks for besides.

    Args:
        run: Run folder that receives the checkpoints.
        config: Config of the run.
        monitor: Key of the score by which a validation is better than another.
    """
    asked = config["callbacks"]
    by_score: dict[str, Any] = {"monitor": monitor, "mode": "max"}
    return [
        StepSeed(config["seed"]),
        StepLimit(config["trainer"].get("max_steps")),
        *([EMAWeightAveraging(decay=asked["ema"])] if asked["ema"] is not None else []),
        *([Patience(patience=asked["patience"], **by_score)] if asked["patience"] else []),
        # right after its validation, and so before last.ckpt, whose states then hold its score
        *(
            [KeptCheckpoint(run.best_path, save_on_train_epoch_end=False, **by_score)]
            if asked["best"]
            else []
        ),
        # without a monitor: with one, Lightning 2.6 writes last.ckpt only when it improves
        KeptCheckpoint(run.checkpoint_path, save_on_train_epoch_end=True),
    ]


def build_trainer(
    run: Run, config: dict[str, Any], *, loggers: list[Any], callbacks: list[Callback]
) -> pl.Trainer:
    """The Trainer of a config; with a progress bar on a terminal."""
    options = config["trainer"]
    bar = is_main() and options.get("enable_progress_bar", sys.stdout.isatty())
    world = options["devices"] * options["num_nodes"]
    if options["num_nodes"] > 1 and not {"SLURM_PROCID", "RANK"} & set(os.environ):
        raise UserError(
            "trainer.num_nodes is more than 1, but nothing here starts processes on other nodes; "
            "use --executor slurm, srun or torchrun"
        )
    callbacks = [
        WorldSize(world),
        *callbacks,
        *([RichProgressBar()] if bar else []),
    ]
    set_tf32(options["tf32"])
    given = {name: options[name] for name in LIGHTNING if name in options and name != "max_steps"}
    if given.get("profiler") in _PROFILERS:  # Lightning's default profiler prints to the terminal
        given["profiler"] = _PROFILERS[given["profiler"]](dirpath=run.path, filename="profile")
    _warn_of_resume(given)
    if left := sorted(name for name in os.environ if name.startswith("PL_TRAINER_")):
        raise UserError(
            f"unset {', '.join(left)}: Lightning would train by it and config.yaml would not know; "
            "options of its Trainer are words, such as trainer.gradient_clip_val=1"
        )
    ours: dict[str, Any] = {
        "default_root_dir": run.path,
        "max_epochs": options["max_epochs"],
        "accelerator": options["accelerator"],
        "devices": options["devices"],
        "num_nodes": options["num_nodes"],
        "strategy": "ddp" if world > 1 else "auto",
        "sync_batchnorm": world > 1 and syncs_batchnorm(config),
        "use_distributed_sampler": False,  # Lightning's would test some images twice
        "precision": _LIGHTNING_PRECISION[options["precision"]],
        "plugins": [AtomicCheckpointIO(), *_slurm()],
        "logger": loggers or False,
        "callbacks": callbacks,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": bar,
        "enable_model_summary": False,
        "check_val_every_n_epoch": options["val_every"],
        "log_every_n_steps": 10,
    }
    try:
        return pl.Trainer(**ours | given)
    except (MisconfigurationException, TypeError, ValueError, AttributeError) as error:
        if not given:
            raise
        words = " ".join(f"trainer.{name}={value}" for name, value in given.items())
        raise UserError(f"Lightning does not take {words}: {error}") from error


def _warn_of_resume(given: Mapping[str, Any]) -> None:
    for name in _NOT_EXACT.keys() & given.keys():
        warnings.warn(
            f"trainer.{name}={given[name]}: resumed, this run will not be the same as one that was "
            f"never cut off, since {_NOT_EXACT[name]}",
            stacklevel=2,
        )


def _slurm() -> list[SLURMEnvironment]:
    """Under Slurm, without Lightning's own requeue: it resumes within an epoch, not exactly."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def syncs_batchnorm(config: dict[str, Any]) -> bool:
    """Whether several devices normalise a batch as one would; torch can on a GPU alone."""
    options = config["trainer"]
    if not options["sync_batchnorm"] or options["accelerator"] == "gpu":
        return bool(options["sync_batchnorm"])
    if is_main():
        warnings.warn(
            "trainer.sync_batchnorm has no effect on a CPU: each process normalises its own share "
            "of a batch",
            stacklevel=2,
        )
    return False


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Mute what no user of a run could act on."""
    with warnings.catch_warnings():
        _filter_warnings()
        yield


def _filter_warnings() -> None:
    getLogger("pytorch_lightning").setLevel(WARNING)  # devices and advertisements, at every start
    # a resumed run finds its own checkpoint
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    # Lightning 2.6 on torch 2.15; nothing that a user could change
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    # advice for large GPU machines; here workers compete with training for the same two cores
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # the last, short epoch of a tiny grid is meant to be short
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # the tested checkpoint holds the averaged weights
    warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback, but load")
    # a run on a login node of a cluster is meant to be there
    warnings.filterwarnings("ignore", message="The `srun` command is available.*")
    # scores and learning rates are logged by one process, since they are equal in all
    warnings.filterwarnings("ignore", message=".*It is recommended to use `self.log.*sync_dist")
    # our sampler tests every image once, which is what this asks one device for
    warnings.filterwarnings("ignore", message=".*it is recommended to use .*devices=1.*")
