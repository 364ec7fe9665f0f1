"""Pictures and tables of a run in W&B and TensorBoard: views of what its folder holds."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from segattn.base.errors import UserError
from segattn.base.runs import Run
from segattn.data.source import IGNORE_INDEX
from segattn.tracking.figures import (
    confusion_figure,
    confusion_shares,
    figure_pixels,
    size_figure,
    size_scores,
)

_VOID = (255, 255, 255)


@dataclass(frozen=True)
class Scene:
    """An image uint8 [H, W, 3] with label and prediction uint8 [H, W]; 255 is void."""

    name: str
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def picture_loggers(loggers: Iterable[Logger]) -> list[WandbLogger | TensorBoardLogger]:
    """Those that show pictures, without a W&B that has failed."""
    return [
        logger
        for logger in loggers
        if isinstance(logger, WandbLogger | TensorBoardLogger)
        and not getattr(logger, "broken", False)
    ]


@contextmanager
def pictures_may_fail() -> Iterator[None]:
    """An error inside becomes a warning: a picture must not cost a run."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"pictures left out: {type(error).__name__}: {error}", stacklevel=3)


def log_scenes(
    logger: WandbLogger | TensorBoardLogger,
    key: str,
    scenes: Sequence[Scene],
    *,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    epoch: int,
    step: int,
) -> None:
    """Scenes with prediction and ground truth, in W&B as masks over the image.

    Args:
        logger: Where to.
        key: Such as "val/scenes".
        scenes: In a fixed order, so that the same image stays in the same place.
        classes: Names by label.
        palette: Colours by label, for TensorBoard; W&B has its own.
        epoch: As the scores of the moment are logged with.
        step: Optimizer steps done, for TensorBoard.
    """
    if isinstance(logger, WandbLogger):
        images = [_masked(scene, classes) for scene in scenes]
        # without the step, by which `segattn.analysis.publish` tells which rows W&B has
        logger.experiment.log({key: images, "epoch": epoch})
    else:
        _add_images(logger, {f"{key}/{s.name}": _panel(s, palette) for s in scenes}, step)


def log_finished(run: Run, loggers: Iterable[Logger]) -> None:
    """What `log_media` shows, to every logger that shows pictures.

    Args:
        run: Finished.
        loggers: Of the run, still open.
    """
    for logger in picture_loggers(loggers):
        if isinstance(logger, WandbLogger):
            log_media(run, logger.experiment)
        else:
            _log_tensorboard(run, logger)


def log_media(run: Run, wandb_run: Any) -> None:
    """Log pictures, tables and final numbers of a finished run folder to a W&B run.

    Keys: `test/examples` (with masks), `test/attention` (heads with attention),
    `test/iou_by_size` (table), `test/iou_by_size_bars`, `test/confusion` (W&B's chart; its table is
    `test/confusion_table`), `test/confusion_picture`; and the summary has `final_numbers`.

    Args:
        run: Finished; without its examples or attention maps, those pictures are left out.
        wandb_run: Of `wandb.init`.

    Raises:
        UserError: The run is not finished, or a file of it is damaged.
    """
    import wandb  # 0.7 s, and not needed where W&B is off

    result = _result(run)
    bars = wandb.plot.bar(_size_table(result), "score", "iou", title="test IoU by object size")
    content: dict[str, Any] = {
        "test/iou_by_size": _size_table(result),
        "test/iou_by_size_bars": bars,
        "test/confusion": _confusion_chart(result),
        "test/confusion_picture": wandb.Image(figure_pixels(confusion_figure(result))),
    }
    if scenes := _examples(run):
        classes = result["data"]["classes"]
        content["test/examples"] = [_masked(scene, classes) for scene in scenes]
    if pictures := attention_pictures(run):
        content["test/attention"] = [
            wandb.Image(pixels, caption=name) for name, pixels in _same_size(pictures).items()
        ]
    wandb_run.log({**content, "epoch": result.get("training", {}).get("max_epochs", 0)})
    wandb_run.summary.update(final_numbers(result))


def _log_tensorboard(run: Run, logger: TensorBoardLogger) -> None:
    result = _result(run)
    palette, step = result["data"]["palette"], result["training"]["steps"]
    pictures = {f"test/examples/{s.name}": _panel(s, palette) for s in _examples(run)}
    pictures |= {
        f"test/attention/{name}": pixels for name, pixels in attention_pictures(run).items()
    }
    pictures["test/iou_by_size"] = figure_pixels(size_figure(result))
    pictures["test/confusion"] = figure_pixels(confusion_figure(result))
    _add_images(logger, pictures, step)
    for key, value in costs(result).items():  # the test has logged the scores
        logger.experiment.add_scalar(key, value, step)


def attention_pictures(run: Run, *, num_images: int = 2) -> dict[str, NDArray[np.uint8]]:
    """A picture of every block and some example images of a run, by "<image> <block>".

    Args:
        run: With examples and attention.
        num_images: How many, the first ones; a picture takes a quarter of a second.

    Returns:
        uint8 [H, W, 3] each; {} if the head has no attention, or the run has kept none.

    Raises:
        UserError: A file of the run is damaged or missing.
    """
    if not run.attention_path.exists():
        return {}
    from segattn.tracking.attention_figures import attention_figure, block_names

    attention, examples = run.attention(), run.examples()
    return {
        f"{name} {block}": figure_pixels(
            attention_figure(attention, block, index=index, image=examples["images"][index])
        )
        for index, name in enumerate(examples["names"][:num_images].tolist())
        for block in block_names(attention)
    }


def costs(result: dict[str, Any]) -> dict[str, float]:
    """Costs by name, without `media_seconds`, which end after the last picture is logged."""
    return {key: value for key, value in result.get("cost", {}).items() if key != "media_seconds"}


def final_numbers(result: dict[str, Any]) -> dict[str, float]:
    """`costs`, and scores as "test/miou"; those that a test set cannot tell are left out."""
    scores = {f"test/{key}": value for key, value in result["scores"].items()}
    return {key: value for key, value in (costs(result) | scores).items() if value is not None}


def _result(run: Run) -> dict[str, Any]:
    result = run.result
    if result is None:
        raise UserError(f"{run.path} is not finished: it has no result.json; run it again")
    return result


def _examples(run: Run) -> list[Scene]:
    if not run.examples_path.exists():
        return []
    arrays = run.examples()
    columns = (arrays[key] for key in ("names", "images", "labels", "predictions"))
    return [Scene(str(name), *maps) for name, *maps in zip(*columns, strict=True)]


def _masked(scene: Scene, classes: Sequence[str]) -> Any:
    """A wandb.Image with two masks."""
    import wandb

    labels = {**dict(enumerate(classes)), IGNORE_INDEX: "void"}
    masks = {"prediction": scene.prediction, "ground truth": scene.label}
    return wandb.Image(
        scene.image,
        caption=scene.name,
        masks={k: {"mask_data": mask, "class_labels": labels} for k, mask in masks.items()},
    )


def _panel(scene: Scene, palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Image, ground truth and prediction side by side, uint8 [H, 3 W, 3]."""
    colors = np.full((256, 3), _VOID, dtype=np.uint8)
    colors[: len(palette)] = palette
    return np.concatenate([scene.image, colors[scene.label], colors[scene.prediction]], axis=1)


def _same_size(pictures: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """White below and on the right of the smaller ones: W&B wants one size per key."""
    height, width = np.max([pixels.shape[:2] for pixels in pictures.values()], axis=0)
    return {
        name: np.pad(
            pixels,
            ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)),
            constant_values=255,
        )
        for name, pixels in pictures.items()
    }


def _add_images(
    logger: TensorBoardLogger, pictures: dict[str, NDArray[np.uint8]], step: int
) -> None:
    for key, pixels in pictures.items():
        logger.experiment.add_image(key, pixels, step, dataformats="HWC")


def _size_table(result: dict[str, Any]) -> Any:
    """A wandb.Table; head and seed stand in every row, since W&B joins the tables of runs."""
    import wandb

    table = wandb.Table(columns=["head", "seed", "score", "iou"])
    for name, value in size_scores(result).items():
        table.add_data(result["head"]["name"], result["seed"], name, value)
    return table


def _confusion_chart(result: dict[str, Any]) -> Any:
    """W&B's chart, from shares: `wandb.plot.confusion_matrix` wants the label of every pixel."""
    import wandb

    names, shares = result["data"]["classes"], confusion_shares(result)
    counts = np.array(result["confusion"])
    cells: list[Iterable[Any]] = [
        [names[true], names[found], round(float(shares[true, found]), 2), int(counts[true, found])]
        for true, found in np.argwhere(counts > 0).tolist()
    ]
    return wandb.plot_table(
        vega_spec_name="wandb/confusion_matrix/v1",
        data_table=wandb.Table(columns=["Actual", "Predicted", "percent", "pixels"], data=cells),
        fields={"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "percent"},
        string_fields={"title": "percent of the true class"},
    )
