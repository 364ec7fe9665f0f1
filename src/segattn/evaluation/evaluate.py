"""Test a checkpoint again: on other data, by another protocol, or just to see that it is true."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segattn.base.distributed import find_rank, is_main
from segattn.base.errors import UserError
from segattn.base.files import digest, remove_drafts
from segattn.base.lock import hold
from segattn.base.runs import Run, write_json
from segattn.config.compose import compose_part, resolve_config
from segattn.config.schema import Config
from segattn.data.datamodule import SegmentationData
from segattn.data.size_facts import measures_of
from segattn.evaluation.published_run import read_record
from segattn.metrics import Measures
from segattn.training.advice import explained
from segattn.training.build import build_data
from segattn.training.callbacks import CostMeter, StatusWriter
from segattn.training.checkpoint import load_task
from segattn.training.outputs import Evidence
from segattn.training.result import build_result
from segattn.training.task import SegmentationTask
from segattn.training.train import claim
from segattn.training.trainer import build_trainer, quiet_lightning

# what a test depends on beside the checkpoint; all else belongs to the training
_SECTIONS = ("data", "protocol", "metric")
_KNOBS = (
    *("loader.eval_batch_size", "loader.num_workers", "loader.cache"),
    *("trainer.accelerator", "trainer.precision", "trainer.devices", "trainer.num_nodes"),
    *("trainer.tf32", "trainer.compile", "trainer.limit_test_batches", "trainer.profiler"),
    "num_examples",
)
_ADVICE = "name another folder with out="


def evaluate(
    checkpoint: Path, overrides: Sequence[str], *, folder: Path, out: Path | None = None
) -> Run:
    """Test a checkpoint of a run folder; leaves a run folder as the end of training does.

    Without overrides, on the same CPU and with the same number of threads, the object table is the
    same bit for bit, and so is result.json but for `experiment` and the seconds and the memory of
    this test.

    Args:
        checkpoint: `checkpoints/last.ckpt` in its run folder.
        overrides: In the style of Hydra, such as "protocol=sliding" and "data.root=PATH"; of data,
            protocol, metric, and knobs that say how to compute.
        folder: The config folder, for the files that overrides name.
        out: Where the new run folder is made; None for a folder "<experiment>-evaluated" beside
            the folder of the experiment. Its name becomes the `experiment` of the new run, since
            W&B identifies runs by experiment and name. The name of the training's own folder gets
            "-evaluated" appended.

    Raises:
        UserError: No such checkpoint, or of a training that is not finished; an override that does
            not compose or that training alone could follow; other classes; or another evaluation
            (other weights, data or protocol) in the new run folder.
    """
    checkpoint = checkpoint.absolute()
    trained = _run_of(checkpoint)
    training = _training_of(trained)
    config = override_config(trained.config, overrides, folder=folder)
    out = out or trained.path.parent.with_name(f"{trained.path.parent.name}-evaluated")
    same = out.resolve().name == str(trained.config["experiment"])
    config["experiment"] = f"{out.resolve().name}{'-evaluated' * same}"
    find_rank(config["trainer"]["devices"] * config["trainer"]["num_nodes"])
    run = Run(out / config["name"])
    if run.path.resolve() == trained.path.resolve():
        raise UserError(f"{run.path} is the trained run itself; {_ADVICE}")
    data = build_data(config)
    if run.config_path.exists():
        _check_same(run, config, checkpoint, data)
    if run.result is not None:
        print(f"already evaluated: {run.path}")
        return run
    data.source("test").load(0)
    data.warn_unless_official()
    task = _load_task(checkpoint, config, data, measures=_measures(trained, config, data))
    # only now: a mistake in the data or the classes must leave no folder
    with hold(run.lock_path) if is_main() else nullcontext(), explained(run, config):
        if is_main():
            claim(run, config, advice=_ADVICE)
            remove_drafts(*run.written)
        _test(run, config, checkpoint, data=data, task=task, training=training)
    return run


def _training_of(run: Run) -> dict[str, Any]:
    """How the weights came about: `training` of result.json, or the record of an import."""
    record = read_record(run)
    if record is not None:
        return record
    if run.result is None:
        raise UserError(
            f"the training of {run.path} has not finished; start it again, which goes on where it "
            f"stopped"
        )
    return dict(run.result["training"])


def _check_same(run: Run, config: dict[str, Any], checkpoint: Path, data: SegmentationData) -> None:
    """Check that the folder holds this very evaluation: config, weights and test images."""
    claim(run, config, advice=_ADVICE)
    if run.result is None:
        return
    if run.result["data"]["sha256"] != data.source("test").fingerprint():
        raise UserError(f"{run.path} was evaluated on other test images than these; {_ADVICE}")
    if run.result["checkpoint"] != digest(checkpoint):
        raise UserError(f"{run.path} holds the evaluation of other weights; {_ADVICE}")


def _measures(trained: Run, config: dict[str, Any], data: SegmentationData) -> Measures:
    """Return the training's measures for the same data, else the measures of the new data."""
    same = all(
        {**trained.config[key], "root": None} == {**config[key], "root": None}
        for key in ("data", "metric")
    )
    if same and trained.result is not None:
        return Measures(**trained.result["metric"])
    return measures_of(data.source, radius=config["metric"]["radius"])


def _run_of(checkpoint: Path) -> Run:
    run = Run(checkpoint.parent.parent)
    if not checkpoint.is_file():
        raise UserError(
            f"no checkpoint {checkpoint}; a run leaves its own in checkpoints/last.ckpt"
        )
    if not run.config_path.is_file():
        raise UserError(
            f"{run.config_path} is missing; keep a checkpoint in the folder checkpoints/ of its "
            f"run, beside config.yaml"
        )
    return run


def override_config(
    config: dict[str, Any], overrides: Sequence[str], *, folder: Path
) -> dict[str, Any]:
    """Return the config of a trained run with another data set, protocol or way of computing.

    Args:
        config: Config of the trained run.
        overrides: "group=name" for `folder`/group/name.yaml, or "section.key=value".
        folder: The config folder.

    Raises:
        UserError: An override that is malformed, does not compose, or belongs to the training.
    """
    changed = OmegaConf.create(config)
    # the config describes the machine that trained
    changed.trainer.update({"accelerator": "auto", "devices": 1, "num_nodes": 1})
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or (key.split(".")[0] not in _SECTIONS and key not in _KNOBS):
            raise UserError(
                f"cannot evaluate with {override!r}: an override is key=value, of "
                f"{', '.join((*_SECTIONS, *_KNOBS))}; anything else belongs to the training"
            )
        if (folder / key).is_dir():  # a whole section
            changed[key] = {}
    try:
        said = compose_part(overrides, folder=folder)
        typed = OmegaConf.merge(OmegaConf.structured(Config), changed, said)
    except OmegaConfBaseException as error:
        raise UserError(f"{error}") from error
    assert isinstance(typed, DictConfig)
    return resolve_config(typed)


def _test(
    run: Run,
    config: dict[str, Any],
    checkpoint: Path,
    *,
    data: SegmentationData,
    task: SegmentationTask,
    training: dict[str, Any],
) -> None:
    meter = CostMeter()
    evidence = Evidence(run, num_examples=config["num_examples"])
    stored = torch.load(checkpoint, weights_only=True, map_location="cpu")
    meter.load_state_dict(stored["callbacks"]["CostMeter"])
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    with quiet_lightning():
        trainer = build_trainer(run, config, loggers=[], callbacks=[meter, evidence])
        trainer.test(task, datamodule=data, verbose=False)
    if not is_main():
        return
    result = build_result(
        config,
        data,
        task,
        checkpoint=checkpoint,
        training=training,
        meter=meter,
        evidence=evidence,
    )
    write_json(run.result_path, result)
    epochs = config["trainer"]["max_epochs"]
    StatusWriter(run, max_epochs=epochs).write("done", epoch=epochs)


def _load_task(
    checkpoint: Path, config: dict[str, Any], data: SegmentationData, *, measures: Measures
) -> SegmentationTask:
    task = load_task(checkpoint, device=torch.device("cpu"))
    learned, given = list(task.hparams["classes"]), list(data.source("test").classes)
    if learned != given:
        raise UserError(
            f"{checkpoint} knows {len(learned)} classes ({', '.join(learned[:3])}, ...), "
            f"{config['data']['name']} has {len(given)} ({', '.join(given[:3])}, ...); they must "
            f"be the same"
        )
    task.test_by(metric=measures.plain(), protocol=config["protocol"])
    return task
