"""A run folder made of published weights, so that every script takes them like our own."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from segattn.base.errors import UserError
from segattn.base.files import digest
from segattn.base.runs import Run, read_json, write_json
from segattn.data import DATASETS
from segattn.metrics import Measures
from segattn.models.encoder_weights import read_weights
from segattn.models.published import convert
from segattn.training.build import build_data, new_task
from segattn.training.callbacks import CostMeter
from segattn.training.train import claim, run_folder
from segattn.training.trainer import quiet_lightning

_RECORD = "published.json"


def import_published(name: str, weights: Path, config: dict[str, Any]) -> Run:
    """Write config.yaml, and checkpoints/last.ckpt with exactly the weights of the file `weights`.

    Args:
        name: A whole model in `segattn.models.published`, such as "danet_resnet101".
        weights: The published file.
        config: Config of a run with the same classes, head and encoder; nothing is trained.

    Raises:
        UserError: Torch cannot read the file safely, its weights do not fit the named model or the
            config's model, or the run folder holds something else.
    """
    data: Any = DATASETS[config["data"]["name"]]  # a class, which knows them without its files
    if not hasattr(data, "classes"):
        data = build_data(config).source("test")
    classes: tuple[str, ...] = data.classes
    facts = {"palette": [list(colour) for colour in data.palette]}
    task = new_task(
        config, classes=classes, class_weights=None, measures=Measures(classes), **facts
    )
    renamed = convert(name, read_weights(weights))
    try:
        task.model.load_state_dict(renamed, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{weights} does not fit this model, {len(classes)} classes, head {config['head']}, "
            f"encoder {config['encoder']}: {error}"
        ) from error
    run, record = run_folder(config), {"published": name, "file": weights.name}
    record["sha256"] = digest(weights)
    if run.checkpoint_path.exists() and read_record(run) != record:
        raise UserError(f"{run.path} holds other weights; name another run with name=")
    claim(run, config)
    write_json(run.path / _RECORD, record)
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, callbacks=[CostMeter()], enable_model_summary=False
        )
        trainer.strategy.connect(task)
        trainer.save_checkpoint(run.checkpoint_path)
    return run


def read_record(run: Run) -> dict[str, Any] | None:
    """Where the weights of an imported run came from: name, file, sha256; None for other runs."""
    path = run.path / _RECORD
    return read_json(path) if path.is_file() else None
