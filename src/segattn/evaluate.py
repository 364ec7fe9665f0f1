"""Test a checkpoint again: on other data, by another protocol, or just to see that it is true."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segattn.callbacks import CostMeter, Evidence, StatusWriter
from segattn.checkpoint import load_task
from segattn.config import Config, resolve_config
from segattn.data.datamodule import SegmentationData
from segattn.result import build_result
from segattn.runs import Run, write_json
from segattn.task import SegmentationTask
from segattn.train import build_data, build_trainer, claim, metric_options, quiet_lightning

# what a test depends on beside the checkpoint; all else belongs to the training
_EVALUATED = ("data", "protocol", "metric", "loader", "trainer", "num_examples")


def evaluate(
    checkpoint: Path, overrides: Sequence[str], *, folder: Path, out: Path | None = None
) -> Run:
    """Test a checkpoint of a run folder; leaves a run folder as the end of training does.

    Without overrides the object table is the same bit for bit, and so is result.json but for the
    seconds and the memory that this test took.

    Args:
        checkpoint: `checkpoints/last.ckpt` in its run folder.
        overrides: In the style of Hydra, such as "protocol=sliding" and "data.root=PATH"; of data,
            protocol, metric, loader, trainer and num_examples.
        folder: The config folder, for the files that overrides name.
        out: Where the new run folder is made; None for a folder "<experiment>-evaluated" beside
            that of the experiment.

    Raises:
        ValueError: No such checkpoint, an override that does not compose or that training alone
            could follow, other classes, or another evaluation in the new run folder.
    """
    trained = _run_of(checkpoint)
    config = override_config(trained.config, overrides, folder=folder)
    siblings = trained.path.parent.with_name(f"{trained.path.parent.name}-evaluated")
    run = Run((out or siblings) / config["name"])
    if run.path.resolve() == trained.path.resolve():
        raise ValueError(f"{run.path} is the trained run itself; name another folder with out=")
    if run.config_path.exists():
        claim(run, config)
    if run.result is not None:
        print(f"already evaluated: {run.path}")
        return run
    data = build_data(config)
    data.prepare_data()
    task = _load_task(checkpoint, config, data)
    claim(run, config)  # only now: a mistake in the data or the classes must leave no folder
    _test(run, config, checkpoint, data=data, task=task)
    return run


def _run_of(checkpoint: Path) -> Run:
    run = Run(checkpoint.parent.parent)
    if not checkpoint.is_file():
        raise ValueError(
            f"no checkpoint {checkpoint}; a run leaves its own in checkpoints/last.ckpt"
        )
    if not run.config_path.is_file():
        raise ValueError(
            f"{run.config_path} is missing; keep a checkpoint in the folder checkpoints/ of its "
            f"run, beside config.yaml"
        )
    return run


def override_config(
    config: dict[str, Any], overrides: Sequence[str], *, folder: Path
) -> dict[str, Any]:
    """The config of a trained run with another data set, protocol or way of computing.

    Args:
        config: Of the run.
        overrides: "group=name" for `folder`/group/name.yaml, or "section.key=value".
        folder: The config folder.

    Raises:
        ValueError: An override that is malformed, does not compose, or belongs to the training.
    """
    changed = OmegaConf.create(config)
    # whole sections first, since single keys refine them
    for override in sorted(overrides, key=lambda o: "." in o.partition("=")[0]):
        key, equals, value = override.partition("=")
        section = key.split(".")[0]
        if not equals or section not in _EVALUATED:
            raise ValueError(
                f"cannot evaluate with {override!r}: an override is key=value, of "
                f"{', '.join(_EVALUATED)}; anything else belongs to the training"
            )
        _apply(changed, key, value, folder=folder)
    try:
        typed = OmegaConf.merge(OmegaConf.structured(Config), changed)
    except OmegaConfBaseException as error:
        raise ValueError(f"{error}") from error
    assert isinstance(typed, DictConfig)
    return resolve_config(typed)


def _apply(config: DictConfig, key: str, value: str, *, folder: Path) -> None:
    if "." in key or not (folder / key).is_dir():
        OmegaConf.update(config, key, yaml.safe_load(value))
        return
    path = folder / key / f"{value}.yaml"
    if not path.is_file():
        choices = sorted(file.stem for file in path.parent.glob("*.yaml"))
        raise ValueError(f"unknown {key} {value!r}; choose one of {choices}")
    config[key] = OmegaConf.load(path)


def _test(
    run: Run,
    config: dict[str, Any],
    checkpoint: Path,
    *,
    data: SegmentationData,
    task: SegmentationTask,
) -> None:
    meter = CostMeter()
    evidence = Evidence(run, num_examples=config["num_examples"], meter=meter)
    stored = torch.load(checkpoint, weights_only=True, map_location="cpu")
    meter.load_state_dict(stored["callbacks"]["CostMeter"])
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    with quiet_lightning():
        trainer = build_trainer(run, config, loggers=[], callbacks=[meter, evidence])
        trainer.test(task, datamodule=data, verbose=False)
    steps = stored["global_step"]
    result = build_result(config, data, task, steps=steps, meter=meter, evidence=evidence)
    write_json(run.result_path, result)
    epochs = config["trainer"]["max_epochs"]
    StatusWriter(run, max_epochs=epochs).write("done", epoch=epochs)


def _load_task(
    checkpoint: Path, config: dict[str, Any], data: SegmentationData
) -> SegmentationTask:
    task = load_task(
        checkpoint,
        device=torch.device("cpu"),
        metric=metric_options(config),
        protocol=config["protocol"],
    )
    learned, given = list(task.hparams["classes"]), list(data.source("test").classes)
    if learned != given:
        raise ValueError(
            f"{checkpoint} tells {len(learned)} classes apart ({', '.join(learned[:3])}, ...), "
            f"{config['data']['name']} has {len(given)} ({', '.join(given[:3])}, ...); they must "
            f"be the same"
        )
    return task
