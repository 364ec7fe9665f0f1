"""What a test run says: the content of result.json."""

import copy
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import segattn
from segattn.base.files import digest
from segattn.base.hardware import device_name
from segattn.base.runs import RESULT_SCHEMA
from segattn.data.datamodule import SegmentationData, image_tensor
from segattn.data.source import IGNORE_INDEX, Source
from segattn.metrics import Measures, neighbour_scores
from segattn.training.callbacks import CostMeter
from segattn.training.identity import chosen_on_test
from segattn.training.outputs import Evidence
from segattn.training.task import SegmentationTask


def build_result(
    config: dict[str, Any],
    data: SegmentationData,
    task: SegmentationTask,
    *,
    checkpoint: Path,
    training: dict[str, Any],
    meter: CostMeter,
    evidence: Evidence,
) -> dict[str, Any]:
    """Return the content of result.json after a test.

    Args:
        config: Config of the run.
        data: Data of the run.
        task: The tested task.
        checkpoint: The weights that were tested.
        training: What `training_facts` returns for these weights.
        meter: Clock of training and test.
        evidence: What the test wrote.
    """
    source, measures = data.source("test"), Measures(**task.hparams["metric"])
    others = neighbour_scores(evidence.table, measures, images=evidence.names)
    return {
        "schema": RESULT_SCHEMA,
        "name": config["name"],
        "experiment": config["experiment"],
        "seed": config["seed"],
        "split": source.official.get("test", ("test",))[0],
        "protocol": task.protocol.label,
        "num_images": task.tested["num_images"],
        "official_images": source.official.get("test", (None, None))[1],
        "images": evidence.names,
        "blocks": source.blocks()[: len(evidence.names)],
        "head": config["head"],
        "encoder": config["encoder"],
        "data": data_facts(config["data"]["name"], source),
        "metric": dict(task.hparams["metric"]),
        "scores": {**task.tested["scores"], **others},
        "confusion": task.tested["confusion"],
        "cost": {**_model_cost(task, data), **meter.summary()},
        "checkpoint": digest(checkpoint),
        "training": training,
        "environment": environment(config),
    }


def data_facts(name: str, source: Source) -> dict[str, Any]:
    """The entry `data` of result.json."""
    return {
        "name": name,
        "title": source.title,
        "classes": list(source.classes),
        "palette": [list(colour) for colour in source.palette],
        "ignore_index": IGNORE_INDEX,
        "sha256": source.fingerprint(),
    }


def training_facts(config: dict[str, Any], data: SegmentationData, *, steps: int) -> dict[str, Any]:
    """What a reader has to know of a training, after `steps` optimizer steps."""
    return {
        "optimizer": config["optimizer"],
        "augment": config["augment"],
        "class_weights": config["loss"]["class_weights"],
        "max_epochs": config["trainer"]["max_epochs"],
        "batch_size": config["loader"]["batch_size"],
        "images": len(data.source("train").names),
        "data": data.source("train").fingerprint(),
        "steps": steps,
        **({"callbacks": config["callbacks"]} if any(config["callbacks"].values()) else {}),
        **({"chosen_on_test": True} if chosen_on_test(config, data) else {}),
    }


def _model_cost(task: SegmentationTask, data: SegmentationData) -> dict[str, int]:
    """Parameters, and FLOPs of one test image through the whole model, upsampling included.

    Multiply and add count as 2. Counted on the meta device: what a GPU's kernels compute twice or
    on zeros says nothing about the head.
    """
    image = image_tensor(data.source("test").load(0).image)[None]
    model = copy.deepcopy(task.model).eval().to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image.to("meta"))
    return {
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "head_parameters": sum(p.numel() for p in task.model.head.parameters()),
        "flops": counter.get_total_flops(),
    }


def environment(config: dict[str, Any]) -> dict[str, Any]:
    """What ran: versions, the state of the checkout, and the hardware."""
    accelerator = config["trainer"]["accelerator"]
    return {
        "segattn": segattn.__version__,
        **_git_state(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": version("pytorch-lightning"),
        "device": device_name(gpu=accelerator == "gpu", kind=accelerator.upper()),
        "threads": torch.get_num_threads(),
        "precision": config["trainer"]["precision"],
    }


def _git_state() -> dict[str, Any]:
    """Commit and whether tracked files differ from it; None outside a checkout or without git."""
    folder = Path(segattn.__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
            )
        except OSError:  # no git here
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
    }
