"""Score anybody's predictions: label maps in PNG files, as other code bases write them."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from rich.progress import track
from torchmetrics.classification import MulticlassConfusionMatrix

import segattn
from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.files import atomic_path, walk
from segattn.base.runs import LEGEND, RESULT_SCHEMA, Run, read_json, write_json
from segattn.config.compose import compose_config
from segattn.data.files import check_size, class_table, is_turned, read_indices, to_classes
from segattn.data.palette import voc_palette
from segattn.data.size_facts import measures_of
from segattn.data.source import IGNORE_INDEX, Source
from segattn.metrics import SizeStratifiedIoU, find_objects, neighbour_scores
from segattn.metrics.table import table_of, write_table
from segattn.training.build import build_data
from segattn.training.result import data_facts

VALUES = ("official", "classes")
_HINT = (
    "values=official means the numbers of the data set's label files, values=classes indices from "
    "0; in a palette image each of them has the colour of its class, VOC's or a grey"
)
_OF_A_SCORE = ("data", "metric")
# what label files add to the name of their image: Cityscapes' server, mmsegmentation, our predict
_ENDINGS = ("", "_pred", "_leftImg8bit", "_leftImg8bit_pred", "_gtFine_labelIds")


def score_predictions(
    predictions: Path,
    overrides: Sequence[str],
    *,
    folder: Path,
    out: Path,
    name: str | None = None,
    seed: int = 0,
    values: str = "official",
) -> Run:
    """Score one label map per test image; leaves result.json and the object table of a run folder.

    Args:
        predictions: Folder of PNG files of one channel, at any depth, named after their images.
        overrides: Overrides of data and metric, such as "data=ade20k", "data.root=PATH".
        folder: The config folder.
        out: The experiment in which the new run folder stands, beside runs to compare with.
        name: What reports call it; None takes the name of the folder.
        seed: Runs of one name are seeds of one method.
        values: "official" as in the data set's own label files (Cityscapes' label ids, 1 to 150 in
            ADE20K), or "classes", indices from 0 in the order of the data set's classes. A
            predictions.json that scripts/predict.py left, in the folder or in the one above, says
            it by itself, by the names of the classes.

    Raises:
        UserError: A test image without a prediction, a file of another size, with a palette of
            other colours or with a value that is not a class, a predictions.json of other classes,
            a data set that is not there, or a run folder that holds something else.
    """
    check_choice("values", values, VALUES)
    if others := [o for o in overrides if o.partition("=")[0].split(".")[0] not in _OF_A_SCORE]:
        raise UserError(f"{', '.join(others)} has no effect on given predictions; leave it out")
    config = compose_config([*overrides, "logger=none"], folder=folder)
    name = name or predictions.resolve().name
    if "/" in name or seed < 0:
        raise UserError(f"name must be a plain name and seed at least 0, got {name!r} and {seed}")
    run = Run(out / f"{name}-{config['data']['name']}-s{seed}")
    record = {
        "experiment": out.resolve().name,
        "name": run.path.name,
        "seed": seed,
        "head": {"name": name},
        **{key: config[key] for key in ("data", "metric")},
        "predictions": str(predictions.resolve()),
    }
    if run.config_path.exists() and run.config != record:
        raise UserError(f"{run.path} holds something else; give another name= or out=")
    data = build_data(config)
    test = data.source("test")
    files = _files(predictions, test.names)
    table = _table(predictions, test, values)
    shown = tuple(test.palette[index] if index >= 0 else (0, 0, 0) for index in table)
    metric = SizeStratifiedIoU(
        len(test.classes),
        ignore_index=IGNORE_INDEX,
        **measures_of(data.source, radius=config["metric"]["radius"]).plain(),
    )
    confusion = MulticlassConfusionMatrix(len(test.classes), ignore_index=IGNORE_INDEX)
    rows, num_turned = {}, 0
    for index, sample_name in enumerate(track(test.names, description="scoring predictions")):
        sample = test.load(index)
        path = files[sample_name]
        stored = read_indices(path, hint=_HINT, palettes=[shown, voc_palette(256)])
        check_size(path, stored, like=sample.label, of=Path(sample_name))
        predicted = to_classes(path, stored, table=table, hint=_HINT)
        objects = find_objects(sample.label, sample.instances, ignore_index=IGNORE_INDEX)
        maps = [torch.from_numpy(m.astype(np.int64))[None] for m in (predicted, sample.label)]
        metric.update(*maps, objects=[objects])
        confusion.update(*maps)
        rows[sample_name] = metric.rows[0]
        num_turned += is_turned(test, index)
    if num_turned:
        print(
            f"{num_turned} test images have an EXIF orientation, which is not applied: a "
            "prediction must lie on the pixels as they are stored, as the label does"
        )
    with atomic_path(run.config_path) as draft:
        draft.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
    with atomic_path(run.objects_path) as draft:
        write_table(frame := table_of(rows), draft)
    scores = {key: float(value) for key, value in metric.compute().items()}
    scores |= neighbour_scores(frame, metric.measures, images=test.names)
    _write_result(run, record, metric, scores, confusion.compute().tolist(), source=test)
    return run


def _write_result(
    run: Run,
    record: dict[str, Any],
    metric: SizeStratifiedIoU,
    scores: dict[str, float],
    confusion: list[list[int]],
    *,
    source: Source,
) -> None:
    """Last of all, since a result says that the run is done."""
    result = {
        "schema": RESULT_SCHEMA,
        **{key: record[key] for key in ("name", "experiment", "seed", "head", "predictions")},
        "split": source.official.get("test", ("test",))[0],
        "protocol": None,  # the predictions came with their own protocol
        "num_images": len(source.names),
        "images": source.names,
        "blocks": source.blocks(),
        "data": data_facts(record["data"]["name"], source),
        "metric": metric.measures.plain(),
        "scores": scores,
        "confusion": confusion,
        "environment": {"segattn": segattn.__version__},
    }
    write_json(run.result_path, result)
    write_json(run.status_path, {"state": "done"})


def _files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The prediction of each image; none may be missing, for that would change the score."""
    if not folder.is_dir():
        raise UserError(f"no such folder of predictions: {folder}")
    by_stem = defaultdict(list)
    for parent, _, files in walk(folder):
        for file in map(Path, sorted(files)):
            if file.suffix.lower() == ".png":
                by_stem[file.stem].append(parent / file)
    found = {}
    for name in names:
        stem = Path(name).name
        match = [path for ending in _ENDINGS for path in by_stem[stem + ending]]
        if len(match) > 1:
            raise UserError(f"{match[0]} and {match[1]} are both of {stem}; keep one of them")
        if match:
            found[name] = match[0]
    if missing := [name for name in names if name not in found]:
        raise UserError(
            f"{folder} has no PNG for {len(missing)} of {len(names)} test images, such as "
            f"{Path(missing[0]).name}.png; a score of a part of them would compare with nothing"
        )
    return found


def _table(folder: Path, source: Source, values: str) -> NDArray[np.int16]:
    """Return the class of each stored value 0 to 255, or -1."""
    folder = folder.resolve()  # predict writes into out/labels
    legend = next((p for p in (folder / LEGEND, folder.parent / LEGEND) if p.is_file()), None)
    if legend is None:
        official = source.values if values == "official" else None
        stored = official or range(len(source.classes))
        return class_table({value: index for index, value in enumerate(stored)})
    try:
        named = {entry["name"]: int(entry["value"]) for entry in read_json(legend)["classes"]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{legend} is not of scripts/predict.py ({error!r}); move it") from error
    others = sorted(set(named) ^ set(source.classes))
    if others or len(set(named.values())) < len(named):
        raise UserError(
            f"{legend} must give each class of {source.title} a value of its own, and no other "
            f"class; different: {', '.join(others[:5]) or 'two have one value'}"
        )
    return class_table({named[name]: index for index, name in enumerate(source.classes)})
