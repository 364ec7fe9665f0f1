"""The checks of a config: names, ranges, and what only several fields together can get wrong.

The knobs of a head or a data set are checked against their signatures, the one place that states
them.
"""

from dataclasses import fields, is_dataclass
from typing import Any, cast

from segattn.base.arguments import check_choice, check_type
from segattn.base.errors import UserError
from segattn.config.schema import LIGHTNING, Config
from segattn.data import check_data
from segattn.models.encoders import architecture, check_encoder
from segattn.models.heads import check_head
from segattn.models.inference import build_protocol

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("poly", "cosine")
CLASS_WEIGHTS = ("none", "inverse_sqrt")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")
FREEZES = ("none", "bn", "all")
LOGGERS = ("wandb", "tensorboard", "csv", "none")
LOGGER_MODES = ("auto", "online", "offline", "disabled")

_MANY = 2.0**31
_MAX_NAME = 200  # of a folder; the system takes 255, drafts and W&B add to it
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("loader.batch_size", "loader.eval_batch_size"), (1, _MANY)),
    **{f"trainer.{key}": (1, _MANY) for key in ("max_epochs", "val_every", "devices", "num_nodes")},
    **dict.fromkeys(("num_examples", "loss.aux_weight", "metric.radius"), (0, _MANY)),
    "seed": (0, 2**32 - 1),
    "augment.flip": (0, 1),
    **dict.fromkeys(("augment.jitter", "optimizer.warmup", "optimizer.momentum"), (0, 0.9999)),
    "optimizer.lr": (0, 1e38),
    **dict.fromkeys(("optimizer.weight_decay", "optimizer.encoder_lr_factor"), (0, 1e3)),
    "data.scale": (0.05, 8),
    **{f"data.num_{split}": (1, _MANY) for split in ("train", "val", "test")},
    **dict.fromkeys(("data.height", "data.width"), (16, _MANY)),
    "encoder.depth": (1, 5),
    "callbacks.patience": (1, _MANY),
    **{f"trainer.{key}": (1, _MANY) for key in ("accumulate_grad_batches", "max_steps")},
    **{f"trainer.{key}": (0, _MANY) for key in ("min_epochs", "min_steps", "log_every_n_steps")},
    "trainer.num_sanity_val_steps": (-1, _MANY),
    "trainer.val_check_interval": (1e-6, _MANY),
    **{f"trainer.limit_{stage}_batches": (1e-6, _MANY) for stage in ("train", "val", "test")},
    "trainer.gradient_clip_val": (0, _MANY),
    "callbacks.ema": (0, 0.99999),
    "encoder.output_stride": (1, 32),
}
"""Lowest and highest value of every number in a config."""


def check_config(config: dict[str, Any]) -> None:
    """Names, ranges and what only several fields together can get wrong.

    Raises:
        UserError: Names the field, the got value and the choices.
    """
    _check_known(config, Config)
    check_head(**_name_and_knobs(config["head"]))
    check_data(**_name_and_knobs(config["data"]))
    check_choice("optimizer.name", config["optimizer"]["name"], OPTIMIZERS)
    check_choice("optimizer.schedule", config["optimizer"]["schedule"], SCHEDULES)
    check_choice("loss.class_weights", config["loss"]["class_weights"], CLASS_WEIGHTS)
    check_choice("trainer.precision", config["trainer"]["precision"], PRECISIONS)
    check_choice("trainer.accelerator", config["trainer"]["accelerator"], ACCELERATORS)
    names = config["logger"]["name"]
    for name in [names] if isinstance(names, str) else names or [""]:
        check_choice("logger.name", name, LOGGERS)
    check_choice("logger.mode", config["logger"]["mode"], LOGGER_MODES)
    build_protocol(config["protocol"])
    _check_empty(config)
    given = {k: v for k, v in config["trainer"].items() if k in LIGHTNING}
    for name, value in given.items():
        check_type("the trainer", name, value, LIGHTNING[name])
    if str(given.get("strategy")).endswith(("spawn", "fork", "notebook")):
        raise UserError(f"trainer.strategy={given['strategy']} keeps no test; use auto or ddp")
    for path, (low, high) in _RANGES.items():
        _check_range(config, path, low=low, high=high)
    _check_freeze(config["encoder"])
    _check_augment(**config["augment"])
    _check_mixing(config)
    _check_choosing(config)
    _check_workers(config["loader"]["num_workers"])
    check_encoder(**architecture(config["encoder"]))
    for key in ("experiment", "name"):
        name = config[key]
        plain = "/" not in name and not name.startswith(".") and name.isprintable()
        if not plain or len(name.encode()) > _MAX_NAME:
            raise UserError(
                f"{key} must be a plain folder name of at most {_MAX_NAME} bytes, got {name!r}"
            )


def _check_empty(config: dict[str, Any]) -> None:
    for path, value in flatten(config).items():
        if isinstance(value, str) and not value.strip():
            raise UserError(f"{path} is empty; is a shell variable unset?")


def _check_known(section: dict[str, Any], schema: type, prefix: str = "") -> None:
    """Hydra lets "+key=value" past the schema."""
    known = {field.name: field.type for field in fields(schema)}
    for key, value in section.items():
        if key not in known:
            raise UserError(f"unknown key {prefix}{key}; there are {', '.join(known)}")
        if isinstance(value, dict) and is_dataclass(known[key]):
            _check_known(value, cast(type, known[key]), f"{prefix}{key}.")


def _check_freeze(encoder: dict[str, Any]) -> None:
    """Random weights and fresh statistics are not worth keeping."""
    check_choice("encoder.freeze", encoder["freeze"], FREEZES)
    if encoder["freeze"] != "none" and encoder["weights"] is None:
        raise UserError(
            f"encoder.freeze={encoder['freeze']} would freeze an encoder at random; set "
            "encoder.weights, such as imagenet, or encoder.freeze=none"
        )


def _check_augment(*, crop: list[int] | None, scale: list[float], **_: float) -> None:
    if len(scale) != 2 or not 0.1 <= scale[0] <= scale[1] <= 10:
        raise UserError(
            f"augment.scale must be [low, high] with 0.1 <= low <= high <= 10, got {scale}"
        )
    if crop is not None and (len(crop) != 2 or min(crop) < 1):
        raise UserError(f"augment.crop must be null or [height, width], got {crop}")


def _check_workers(workers: object) -> None:
    number = isinstance(workers, int) and not isinstance(workers, bool) and workers >= 0
    if not number and workers != "auto":
        raise UserError(f"loader.num_workers must be auto, 0 or more, got {workers!r}")


def check_batch(config: dict[str, Any]) -> None:
    """Every process takes an equal share of a batch."""
    size, trainer = config["loader"]["batch_size"], config["trainer"]
    world = trainer["devices"] * trainer["num_nodes"]
    if size % world:
        raise UserError(
            f"loader.batch_size={size} counts all {world} processes (trainer.devices x "
            f"trainer.num_nodes) together; make it a multiple of {world}"
        )
    crop, stride = config["augment"]["crop"], config["encoder"]["output_stride"]
    if size == world and crop is not None and max(crop) <= stride:
        raise UserError(
            f"augment.crop={crop} is one pixel at output stride {stride}, and a single image then "
            "gives batch normalisation nothing to average; take a larger crop or batch"
        )


def _check_mixing(config: dict[str, Any]) -> None:
    """A score must not depend on which images happen to share a batch."""
    size = config["loader"]["eval_batch_size"]
    if config["head"].get("published_batch_mixing") and size != 1:
        raise UserError(
            "head.published_batch_mixing=true mixes the images of a batch, so scores would depend "
            f"on loader.eval_batch_size={size}; set loader.eval_batch_size=1"
        )


def _check_choosing(config: dict[str, Any]) -> None:
    """An epoch can only be chosen by a validation."""
    chosen = [key for key in ("best", "patience") if config["callbacks"][key]]
    every, epochs = config["trainer"]["val_every"], config["trainer"]["max_epochs"]
    if chosen and every > epochs:
        raise UserError(
            f"callbacks.{chosen[0]} needs a validation, but trainer.val_every={every} is more than "
            f"trainer.max_epochs={epochs}; lower trainer.val_every, or set callbacks=none"
        )


def _name_and_knobs(section: dict[str, Any]) -> dict[str, Any]:
    knobs = dict(section)
    return {"name": knobs.pop("name", None), "knobs": knobs}


def _check_range(config: dict[str, Any], path: str, *, low: float, high: float) -> None:
    value: Any = config
    for key in path.split("."):
        value = value.get(key)
        if value is None:  # a knob that this head or data set does not have
            return
    if isinstance(value, str | list | bool) or not low <= value <= high:
        allowed = f"in [{low:g}, {high:.10g}]" if high != _MANY else f"at least {low:g}"
        raise UserError(f"{path} must be {allowed}, got {value}")


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their path, such as "optimizer.lr"."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
