"""The data and the task of a config."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segattn.base.hardware import resolve_workers
from segattn.data.datamodule import SegmentationData
from segattn.data.size_facts import measures_of
from segattn.data.transforms import mirror_order
from segattn.metrics import Measures
from segattn.models.encoder_weights import load_encoder, normalisation, weights_file
from segattn.models.encoders import architecture, build_encoder
from segattn.training.losses import inverse_sqrt_weights
from segattn.training.task import SegmentationTask


def build_data(config: dict[str, Any]) -> SegmentationData:
    """The data module of a config."""
    loader, processes = dict(config["loader"]), config["trainer"]["devices"]
    loader["num_workers"] = resolve_workers(loader["num_workers"], processes=processes)
    return SegmentationData(
        data=config["data"], augment=config["augment"], seed=config["seed"], **loader
    )


def build_task(
    config: dict[str, Any], data: SegmentationData, *, pretrained: bool = True
) -> SegmentationTask:
    """Build the task of a config.

    Args:
        config: Config of the run.
        data: Its data.
        pretrained: Whether the encoder gets the weights that the config names, if any. Before a
            checkpoint is loaded it needs neither download nor file.
    """
    # first, since it may want a network, and nothing is read yet
    weights = _pretrained(config["encoder"]) if pretrained else None
    balanced = config["loss"]["class_weights"] == "inverse_sqrt"
    source = data.source("train")
    task = new_task(
        config,
        classes=source.classes,
        class_weights=inverse_sqrt_weights(data.class_frequencies()) if balanced else None,
        measures=measures_of(data.source, radius=config["metric"]["radius"]),
        mirrored=mirror_order(source.classes, source.flip_pairs),
        size=None if source.size is None else list(source.size),
        palette=[list(colour) for colour in source.palette],
    )
    task.model.normalise(normalisation(config["encoder"]["name"], config["encoder"]["weights"]))
    if weights is not None:
        task.model.encoder.load_state_dict(weights)
    return task


def _pretrained(options: dict[str, Any]) -> dict[str, Tensor] | None:
    """Pretrained weights of an encoder, by name; None for none."""
    if options["weights"] is None:
        return None
    with torch.random.fork_rng(devices=[]):  # the task's own weights are drawn as without it
        file = weights_file(options["name"], options["weights"])
        encoder = build_encoder(
            **architecture(options), weights=None if file else options["weights"]
        )
        if file:
            load_encoder(encoder, file, name=options["name"])
    return dict(encoder.state_dict())


def new_task(
    config: dict[str, Any],
    *,
    classes: Sequence[str],
    class_weights: list[float] | None,
    measures: Measures,
    **facts: Any,
) -> SegmentationTask:
    """Build a task without pretrained weights.

    So a checkpoint loads without a download. `facts` of the data are arguments of the task.
    """
    return SegmentationTask(
        classes=list(classes),
        head=config["head"],
        encoder=architecture(config["encoder"]),
        optimizer=config["optimizer"],
        loss=config["loss"] | {"class_weights": class_weights},
        metric=measures.plain(),
        protocol=config["protocol"],
        **facts,
        freeze=config["encoder"]["freeze"],
    )
