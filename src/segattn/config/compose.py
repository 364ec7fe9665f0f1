"""The config of one run: its checks, and composing it from `experiments/`.

Hydra composes and types what `segattn.config.schema` names. The knobs of a head or a data set are
checked against their signatures, the one place that states them.
"""

import os
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

from segattn.base.arguments import check_choice, check_type
from segattn.base.errors import UserError
from segattn.base.files import digest
from segattn.base.hardware import resolve_accelerator, resolve_precision
from segattn.config import schema
from segattn.config.schema import LIGHTNING, NOT_OPEN, Config
from segattn.config.words import PATHS, single
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
    **dict.fromkeys(("optimizer.weight_decay", "optimizer.encoder_lr_factor"), (0, 1e3)),
    "data.scale": (0.05, 8),
    **{f"data.num_{split}": (1, _MANY) for split in ("train", "val", "test")},
    **dict.fromkeys(("data.height", "data.width"), (16, _MANY)),
    "encoder.depth": (1, 5),
    "callbacks.patience": (1, _MANY),
    **{f"trainer.{key}": (1, _MANY) for key in ("accumulate_grad_batches", "max_steps")},
    **{f"trainer.limit_{stage}_batches": (1e-6, _MANY) for stage in ("train", "val", "test")},
    "trainer.gradient_clip_val": (0, _MANY),
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
    config = resolve_config(_compose("train", single(overrides), folder), here=here)
    _check_batch(config)
    _note_weights(config["encoder"])
    return config


def compose_part(words: Sequence[str], *, folder: Path) -> dict[str, Any]:
    """What words such as "data=camvid", "protocol.flip=true" alone say, without the rest of a run.

    Raises:
        UserError: As `compose_config`.
    """
    bare = [text.lstrip("+") for text in single(words)]
    keys = [text.partition("=")[0] for text in bare]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UserError(f"{twice} stands twice")
    texts = [f"++{text}" if "." in text.partition("=")[0] else f"+{text}" for text in bare]
    composed = _compose(None, texts, folder)
    return _plain(composed)


def _compose(name: str | None, texts: Sequence[str], folder: Path) -> DictConfig:
    for group, _, choice in (text.lstrip("+").partition("=") for text in texts):
        if (folder / group).is_dir() and group not in ("ablation", "sweep"):
            check_choice(group, choice, [path.stem for path in (folder / group).glob("*.yaml")])
    with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
        try:
            return compose(name, overrides=list(texts))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_told(error)) from error


def _plain(composed: DictConfig) -> dict[str, Any]:
    """Plain values, all of them given; a path of the files in experiments/ may begin with "~"."""
    try:
        if missing := sorted(OmegaConf.missing_keys(composed)):
            hint = " (the folder of the data set)" if "data.root" in missing else ""
            raise UserError(f"not set: {', '.join(missing)}; pass {missing[0]}=VALUE{hint}")
        for path in PATHS:
            value = OmegaConf.select(composed, path)
            if str(value).startswith("~"):
                OmegaConf.update(composed, path, os.path.expanduser(value))
        return cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError(_told(error)) from error


def _told(error: Exception) -> str:
    """What Hydra says, in one line; of a key that is none, with what may have been meant."""
    text = f"{error}\n{error.__cause__ or ''}".strip()
    if found := re.search(r"Key '(\w+)' not in '(\w+)'\s+full_key: (\S+)", text):
        return _unknown_key(*found.groups())
    if section := re.search(r"not a subclass of (\w+)\.", text):
        keys = ", ".join(known.name for known in fields(getattr(schema, section[1])))
        return f"{_first(text)}: a section takes no value of its own; its keys are {keys}"
    lines = [line.strip() for line in text.split("\n") if line and not line.startswith(" ")]
    key = re.search(r"full_key: (\S+)", text)
    place = [key[1]] if key and key[1] not in lines[0] else []
    return ": ".join(dict.fromkeys([*place, _first(text), *lines[1:]]))


def _first(text: str) -> str:
    return text.split("\n")[0].removeprefix("Error merging override ")


def _unknown_key(key: str, section: str, path: str) -> str:
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
    config = _plain(composed)
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


def _check_batch(config: dict[str, Any]) -> None:
    """Every process takes an equal share of a batch."""
    size, trainer = config["loader"]["batch_size"], config["trainer"]
    world = trainer["devices"] * trainer["num_nodes"]
    if size % world:
        raise UserError(
            f"loader.batch_size={size} is that of all {world} processes (trainer.devices x "
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
    if isinstance(value, str | list | bool) or not low <= value <= high:
        allowed = f"in [{low:g}, {high:.10g}]" if high != _MANY else f"at least {low:g}"
        raise UserError(f"{path} must be {allowed}, got {value}")


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
