"""The config of one run: its checks, and composing it from `experiments/`.

Hydra composes and types what `segattn.config.schema` names. The knobs of a head or a data set are
checked against their signatures, the one place that states them.
"""

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.files import digest
from segattn.base.hardware import resolve_accelerator, resolve_precision
from segattn.config import schema
from segattn.config.schema import LIGHTNING, NOT_OPEN, Config
from segattn.config.words import single
from segattn.data import check_data
from segattn.models.encoder_weights import weights_file
from segattn.models.encoders import architecture, check_encoder
from segattn.models.heads import check_head
from segattn.models.inference import build_protocol

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("poly", "cosine")
CLASS_WEIGHTS = ("none", "inverse_sqrt")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")
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
    **dict.fromkeys(("optimizer.weight_decay", "optimizer.encoder_lr_factor"), (0, 1e6)),
    "data.scale": (1e-3, 1e3),
    **{f"data.num_{split}": (1, _MANY) for split in ("train", "val", "test")},
    **dict.fromkeys(("data.height", "data.width"), (16, _MANY)),
    "encoder.depth": (1, 5),
    "callbacks.patience": (1, _MANY),
    "callbacks.ema": (0, 0.99999),
    "encoder.output_stride": (1, 32),
}
"""Lowest and highest value of every number in a config."""

# what may differ between two starts of one run: where things are and how fast they load
_NOT_THE_EXPERIMENT = (
    "runs_dir",
    "logger",
    "data.root",
    "loader.num_workers",
    "loader.eval_batch_size",
    "loader.cache",
)

# keys that runs of the time before lack, with what they did
_SINCE = {
    **{"trainer.tf32": None, "trainer.compile": False},
    **{"callbacks.best": False, "callbacks.patience": None, "callbacks.ema": None},
}


def compose_config(overrides: Sequence[str], *, folder: Path, here: bool = True) -> dict[str, Any]:
    """Compose `folder`/train.yaml with Hydra overrides such as "head=fla" into a checked config.

    `here`: as in `resolve_config`.

    Raises:
        UserError: A name, type or value that does not compose, or a knob that does not exist.
    """
    with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
        try:
            composed = compose("train", overrides=single(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_told(error)) from error
    config = resolve_config(composed, here=here)
    _check_batch(config)
    _note_weights(config["encoder"])
    return config


def _told(error: Exception) -> str:
    """What Hydra says; of a key that is none in one line, with what may have been meant."""
    text = f"{error}\n{error.__cause__ or ''}".strip()
    found = re.search(r"Key '(\w+)' not in '(\w+)'\s+full_key: (\S+)", text)
    if found is None:
        return text
    key, section, path = found.groups()
    if section == "TrainerConfig" and key in NOT_OPEN:
        return f"{path} cannot be set: {NOT_OPEN[key]}"
    known = [known.name for known in fields(getattr(schema, section))]
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"unknown key {path}; {hint}"


def _note_weights(encoder: dict[str, Any]) -> None:
    """Keep the digest of a weights file: under the same path, another file is another experiment.

    Here and not in `check_config`, since a trained run needs its file no more.
    """
    file = weights_file(encoder["name"], encoder["weights"])
    found = digest(file) if file else None
    if encoder["weights_sha256"] not in (None, found):
        raise UserError(f"encoder.weights={encoder['weights']} has the SHA-256 {found}")
    encoder["weights_sha256"] = found


def resolve_config(composed: DictConfig, *, here: bool = True) -> dict[str, Any]:
    """Plain, checked values; "auto" precision and accelerator become what this machine gives.

    Not so with here=False, for a run on another machine.

    Raises:
        UserError: A missing value, a value out of range or a knob that does not exist.
    """
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        hint = " (the folder of the data set)" if "data.root" in missing else ""
        raise UserError(f"not set: {', '.join(missing)}; pass {missing[0]}=VALUE{hint}")
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    checked: dict[str, Any] = {str(key): value for key, value in config.items()}
    given = checked["trainer"].items()
    checked["trainer"] = {k: v for k, v in given if v is not None or k not in LIGHTNING}
    check_config(checked)
    trainer = checked["trainer"]
    if not here:
        return checked
    trainer["accelerator"] = resolve_accelerator(trainer["accelerator"])
    trainer["precision"] = resolve_precision(trainer["precision"], trainer["accelerator"])
    return checked


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
    for name in [names] if isinstance(names, str) else names or []:
        check_choice("logger.name", name, LOGGERS)
    check_choice("logger.mode", config["logger"]["mode"], LOGGER_MODES)
    build_protocol(config["protocol"])
    _check_empty(config)
    for path, (low, high) in _RANGES.items():
        _check_range(config, path, low=low, high=high)
    _check_augment(**config["augment"])
    _check_mixing(config)
    _check_workers(config["loader"]["num_workers"])
    check_encoder(**architecture(config["encoder"]))
    for key in ("experiment", "name"):
        name = config[key]
        if "/" in name or name.startswith(".") or len(name.encode()) > _MAX_NAME:
            raise UserError(
                f"{key} must be a plain folder name of at most {_MAX_NAME} bytes, got {name!r}"
            )


def _check_empty(config: dict[str, Any]) -> None:
    for path, value in _flatten(config).items():
        if value == "":
            raise UserError(f"{path} is empty, as of a variable that is not set; give it a value")


def _check_known(section: dict[str, Any], schema: type, prefix: str = "") -> None:
    """Hydra lets "+key=value" past the schema."""
    known = {field.name: field.type for field in fields(schema)}
    for key, value in section.items():
        if key not in known:
            raise UserError(f"unknown key {prefix}{key}; there are {', '.join(known)}")
        if isinstance(value, dict) and is_dataclass(known[key]):
            _check_known(value, cast(type, known[key]), f"{prefix}{key}.")


def _check_augment(*, crop: list[int] | None, scale: list[float], **_: float) -> None:
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise UserError(f"augment.scale must be [low, high] with 0 < low <= high, got {scale}")
    if crop is not None and (len(crop) != 2 or min(crop) < 1):
        raise UserError(f"augment.crop must be null or [height, width], got {crop}")


def _check_workers(workers: object) -> None:
    number = isinstance(workers, int) and not isinstance(workers, bool) and workers >= 0
    if not number and workers != "auto":
        raise UserError(f"loader.num_workers must be auto, 0 or more, got {workers!r}")


def _check_batch(config: dict[str, Any]) -> None:
    """Every process takes an equal share of a batch."""
    size, trainer = config["loader"]["batch_size"], config["trainer"]
    world = trainer["devices"] * trainer["num_nodes"]
    if size % world:
        raise UserError(
            f"loader.batch_size={size} is that of all {world} processes (trainer.devices x "
            f"trainer.num_nodes) together; make it a multiple of {world}"
        )


def _check_mixing(config: dict[str, Any]) -> None:
    """A score must not depend on which images happen to share a batch."""
    size = config["loader"]["eval_batch_size"]
    if config["head"].get("published_batch_mixing") and size != 1:
        raise UserError(
            "head.published_batch_mixing=true mixes the images of a batch, so scores would depend "
            f"on loader.eval_batch_size={size}; set loader.eval_batch_size=1"
        )


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Lines "key: first -> second" for what makes two configs different experiments."""
    a, b = ({**_SINCE, **_flatten(config)} for config in (first, second))
    keys = sorted(a.keys() | b.keys())
    changed = [key for key in keys if a.get(key) != b.get(key)]
    return [
        f"{key}: {a.get(key)!r} -> {b.get(key)!r}"
        for key in changed
        if not any(key == skip or key.startswith(f"{skip}.") for skip in _NOT_THE_EXPERIMENT)
    ]


def _name_and_knobs(section: dict[str, Any]) -> dict[str, Any]:
    knobs = dict(section)
    return {"name": knobs.pop("name", None), "knobs": knobs}


def _check_range(config: dict[str, Any], path: str, *, low: float, high: float) -> None:
    value: Any = config
    for key in path.split("."):
        value = value.get(key)
        if value is None:  # a knob that this head or data set does not have
            return
    if not low <= value <= high:
        raise UserError(f"{path} must be in [{low:g}, {high:g}], got {value}")


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
