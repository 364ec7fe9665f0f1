"""Pictures and final numbers of a run in W&B and TensorBoard, read from its folder."""

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
from segattn.data.palette import colour_table
from segattn.data.source import IGNORE_INDEX
from segattn.metrics.neighbours import NEIGHBOURS
from segattn.tracking.figures import confusion_figure, figure_pixels

Pictures = dict[str, NDArray[np.uint8]]
"""Pictures uint8 [H, W, 3] by name."""


@dataclass(frozen=True)
class Scene:
    """An image uint8 [H, W, 3] with label and prediction uint8 [H, W]; 255 is void."""

    name: str
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def picture_loggers(loggers: Iterable[Logger]) -> list[WandbLogger | TensorBoardLogger]:
    """Return the loggers that show pictures, without a W&B that has failed."""
    shown = [one for one in loggers if isinstance(one, WandbLogger | TensorBoardLogger)]
    return [logger for logger in shown if not getattr(logger, "broken", False)]


@contextmanager
def pictures_may_fail() -> Iterator[None]:
    """Turn an error inside into a warning: a picture must not cost a run."""
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
    """Show scenes with prediction and ground truth, in W&B as masks over the image.

    Args:
        logger: The logger that shows them.
        key: Name of the pictures, such as "val/scenes".
        scenes: Scenes in a fixed order, so that an image stays in its place.
        classes: Names by label.
        palette: Colours by label, for TensorBoard; W&B has its own.
        epoch: The epoch that the scores of the moment are logged with.
        step: Optimizer steps done, for TensorBoard.
    """
    if isinstance(logger, WandbLogger):
        images = [_masked(scene, classes) for scene in scenes]
        logger.experiment.log({key: images, "epoch": epoch})
    else:
        _add_images(logger, {f"{key}/{s.name}": _panel(s, palette) for s in scenes}, step)


def log_finished(run: Run, loggers: Iterable[Logger]) -> None:
    """Log pictures and final numbers of a finished run to its open loggers."""
    for logger in picture_loggers(loggers):
        if isinstance(logger, WandbLogger):
            log_media(run, logger.experiment)
        else:
            _log_tensorboard(run, logger)


def log_media(run: Run, wandb_run: Any) -> None:
    """Log pictures and final numbers of a finished run folder to a W&B run.

    The pictures are `test/confusion`, and `test/examples` (with masks) and `test/attention` where
    the folder has them. The summary gets `final_numbers`.

    Raises:
        UserError: The run is not finished, or a file of it is damaged.
    """
    import wandb  # 0.7 s, and not needed where W&B is off

    result = _result(run)
    content: dict[str, Any] = {"epoch": result.get("training", {}).get("max_epochs", 0)}
    content["test/confusion"] = wandb.Image(figure_pixels(confusion_figure(result)))
    if scenes := _examples(run):
        content["test/examples"] = [_masked(s, result["data"]["classes"]) for s in scenes]
    if pictures := attention_pictures(run):
        padded = _same_size(pictures).items()
        content["test/attention"] = [wandb.Image(one, caption=name) for name, one in padded]
    wandb_run.log(content)
    wandb_run.summary.update(final_numbers(result))


def _log_tensorboard(run: Run, logger: TensorBoardLogger) -> None:
    result = _result(run)
    palette, step = result["data"]["palette"], result["training"]["steps"]
    pictures = {f"test/examples/{s.name}": _panel(s, palette) for s in _examples(run)}
    pictures |= {f"test/attention/{name}": one for name, one in attention_pictures(run).items()}
    pictures["test/confusion"] = figure_pixels(confusion_figure(result))
    _add_images(logger, pictures, step)
    logged = {f"test/{name}" for name in result["scores"] if name not in NEIGHBOURS}
    for key, value in final_numbers(result).items():
        if key not in logged:  # by the test
            logger.experiment.add_scalar(key, value, step)


def attention_pictures(run: Run, *, num_images: int = 2) -> Pictures:
    """Return a picture of every block and the first example images, by "<image> <block>".

    A picture takes a quarter of a second. A head without attention gets no picture.

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


def final_numbers(result: dict[str, Any]) -> dict[str, float]:
    """Return costs and scores that have a value, scores under names such as "test/miou"."""
    scores = {f"test/{key}": value for key, value in result["scores"].items()}
    numbers = result.get("cost", {}) | scores
    return {key: value for key, value in numbers.items() if value is not None}


def _result(run: Run) -> dict[str, Any]:
    result = run.result
    if result is None:
        raise UserError(f"{run.path} is not finished: it has no result.json; run it again")
    return result


def _examples(run: Run) -> list[Scene]:
    arrays = run.examples() if run.examples_path.exists() else {}
    columns = [arrays.get(key, ()) for key in ("names", "images", "labels", "predictions")]
    return [Scene(str(name), *maps) for name, *maps in zip(*columns, strict=True)]


def _masked(scene: Scene, classes: Sequence[str]) -> Any:
    """Return a wandb.Image with two masks."""
    import wandb

    labels = {**dict(enumerate(classes)), IGNORE_INDEX: "void"}
    masks = {"prediction": scene.prediction, "ground truth": scene.label}
    described = {k: {"mask_data": mask, "class_labels": labels} for k, mask in masks.items()}
    return wandb.Image(scene.image, caption=scene.name, masks=described)


def _panel(scene: Scene, palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Return image, ground truth and prediction side by side; void is white."""
    colours = colour_table(palette)
    return np.concatenate([scene.image, colours[scene.label], colours[scene.prediction]], axis=1)


def _same_size(pictures: Pictures) -> Pictures:
    """Pad the smaller pictures with white below and on the right: W&B wants one size per key."""
    shapes = [pixels.shape for pixels in pictures.values()]
    missing = [np.max(shapes, axis=0) - shape for shape in shapes]
    return {
        name: np.pad(pixels, [(0, more) for more in pad], constant_values=255)
        for (name, pixels), pad in zip(pictures.items(), missing, strict=True)
    }


def _add_images(logger: TensorBoardLogger, pictures: Pictures, step: int) -> None:
    for key, pixels in pictures.items():
        logger.experiment.add_image(key, pixels, step, dataformats="HWC")
