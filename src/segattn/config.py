"""The config of one run: its schema, its checks, and composing it from `experiments/`.

Hydra composes and types what the dataclasses below name. The knobs of a head or a data set are
checked against their signatures, the one place that states them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segattn.arguments import check_choice
from segattn.data import check_data
from segattn.encoders import check_encoder
from segattn.hardware import resolve_accelerator, resolve_precision
from segattn.heads import check_head
from segattn.inference import build_protocol
from segattn.metrics import SizeBins
from segattn.optimizers import OPTIMIZERS, SCHEDULES

CLASS_WEIGHTS = ("none", "inverse_sqrt")
PRECISIONS = ("auto", "fp32", "bf16")
ACCELERATORS = ("auto", "cpu", "gpu")
LOGGERS = ("wandb", "tensorboard", "csv", "none")
LOGGER_MODES = ("auto", "online", "offline", "disabled")

# what may differ between two starts of one run: where things are and how fast they load
_NOT_THE_EXPERIMENT = (
    "runs_dir",
    "logger",
    "data.root",
    "loader.num_workers",
    "loader.eval_batch_size",
    "loader.cache",
)


@dataclass
class EncoderConfig:
    """See `segattn.encoders.build_encoder`."""

    name: str = MISSING
    depth: int = MISSING
    output_stride: int = MISSING
    multi_grid: list[int] | None = None
    weights: str | None = None


@dataclass
class LoaderConfig:
    """See `segattn.data.datamodule.SegmentationData`."""

    batch_size: int = MISSING
    eval_batch_size: int = MISSING
    num_workers: int = MISSING
    cache: bool = MISSING


@dataclass
class AugmentConfig:
    """See `segattn.data.transforms.augment`."""

    crop: list[int] | None = None
    scale: list[float] = field(default_factory=lambda: [1.0, 1.0])
    flip: float = MISSING
    jitter: float = MISSING


@dataclass
class OptimizerConfig:
    """See `segattn.optimizers`."""

    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING
    momentum: float = MISSING
    encoder_lr_factor: float = MISSING
    schedule: str = MISSING
    warmup: float = MISSING


@dataclass
class LossConfig:
    """`class_weights` is "none" or "inverse_sqrt", see `segattn.losses`."""

    aux_weight: float = MISSING
    class_weights: str = MISSING


@dataclass
class MetricConfig:
    """Bins of objects in cells of `stride` px, see `segattn.metrics`."""

    stride: int = MISSING
    size_edges: list[float] = MISSING
    elongation: float = MISSING
    radius_cells: float = MISSING
    min_area: int = MISSING


@dataclass
class ProtocolConfig:
    """See `segattn.inference.Protocol`."""

    name: str = MISSING
    crop: list[int] | None = None
    stride: list[int] | None = None
    scales: list[float] = field(default_factory=lambda: [1.0])
    flip: bool = False
    average: str = "logits"


@dataclass
class TrainerConfig:
    """`precision` is auto, fp32 or bf16; `accelerator` auto, cpu or gpu.

    `devices` counts the processes of a node. Configs of the time before have one of one node.
    """

    max_epochs: int = MISSING
    val_every: int = MISSING
    precision: str = MISSING
    accelerator: str = MISSING
    devices: int = 1
    num_nodes: int = 1
    sync_batchnorm: bool = True


@dataclass
class LoggerConfig:
    """`name` is wandb, tensorboard, csv or none; the rest is of W&B, see `segattn.logging`.

    `mode` is auto, online, offline or disabled. Configs of the time before have no name: wandb.
    """

    name: str = "wandb"
    mode: str = "auto"
    project: str = "segattn"
    tags: list[str] = field(default_factory=list)


@dataclass
class Config:
    """One run. `head` and `data` hold a name and the knobs of what it names."""

    experiment: str = MISSING
    name: str = MISSING
    runs_dir: str = MISSING
    seed: int = MISSING
    num_examples: int = MISSING
    head: dict[str, Any] = MISSING
    data: dict[str, Any] = MISSING
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    metric: MetricConfig = field(default_factory=MetricConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


ConfigStore.instance().store(name="schema", node=Config)


def compose_config(overrides: Sequence[str], *, folder: Path) -> dict[str, Any]:
    """Compose `folder`/train.yaml with Hydra overrides such as "head=fla" into a checked config.

    Raises:
        ValueError: A name, type or value that does not compose, or a knob that does not exist.
    """
    with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
        try:
            composed = compose("train", overrides=list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(f"{error}\n{error.__cause__ or ''}".strip()) from error
    return resolve_config(composed)


def resolve_config(composed: DictConfig) -> dict[str, Any]:
    """Plain, checked values; "auto" precision and accelerator become what this machine gives.

    Raises:
        ValueError: A missing value, a value out of range or a knob that does not exist.
    """
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        hint = " (the folder of the data set)" if "data.root" in missing else ""
        raise ValueError(f"not set: {', '.join(missing)}; pass {missing[0]}=VALUE{hint}")
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    checked: dict[str, Any] = {str(key): value for key, value in config.items()}
    check_config(checked)
    trainer = checked["trainer"]
    trainer["accelerator"] = resolve_accelerator(trainer["accelerator"])
    trainer["precision"] = resolve_precision(trainer["precision"], trainer["accelerator"])
    return checked


def check_config(config: dict[str, Any]) -> None:
    """Names, ranges and what only several fields together can get wrong.

    Raises:
        ValueError: Names the field, the got value and the choices.
    """
    check_head(**_name_and_knobs(config["head"]))
    check_data(**_name_and_knobs(config["data"]))
    check_choice("optimizer.name", config["optimizer"]["name"], OPTIMIZERS)
    check_choice("optimizer.schedule", config["optimizer"]["schedule"], SCHEDULES)
    check_choice("loss.class_weights", config["loss"]["class_weights"], CLASS_WEIGHTS)
    check_choice("trainer.precision", config["trainer"]["precision"], PRECISIONS)
    check_choice("trainer.accelerator", config["trainer"]["accelerator"], ACCELERATORS)
    check_choice("logger.name", config["logger"]["name"], LOGGERS)
    check_choice("logger.mode", config["logger"]["mode"], LOGGER_MODES)
    build_protocol(config["protocol"])
    for path in ("loader.batch_size", "loader.eval_batch_size"):
        _check_range(config, path, low=1)
    for path in ("max_epochs", "val_every", "devices", "num_nodes"):
        _check_range(config, f"trainer.{path}", low=1)
    _check_batch(config)
    for path in ("seed", "num_examples", "loader.num_workers", "loss.aux_weight"):
        _check_range(config, path, low=0)
    _check_range(config, "augment.flip", low=0, high=1)
    for path in ("augment.jitter", "optimizer.warmup"):
        _check_range(config, path, low=0, high=0.99)
    _check_augment(**config["augment"])
    _check_mixing(config)
    check_encoder(**{k: v for k, v in config["encoder"].items() if k != "weights"})
    SizeBins(**{k: config["metric"][k] for k in ("stride", "size_edges", "elongation")})
    for key in ("experiment", "name"):
        if "/" in config[key] or config[key].startswith("."):
            raise ValueError(f"{key} must be a plain folder name, got {config[key]!r}")


def _check_augment(*, crop: list[int] | None, scale: list[float], **_: float) -> None:
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise ValueError(f"augment.scale must be [low, high] with 0 < low <= high, got {scale}")
    if crop is not None and (len(crop) != 2 or min(crop) < 1):
        raise ValueError(f"augment.crop must be null or [height, width], got {crop}")


def _check_batch(config: dict[str, Any]) -> None:
    """Every process takes an equal share of a batch."""
    size, trainer = config["loader"]["batch_size"], config["trainer"]
    world = trainer["devices"] * trainer["num_nodes"]
    if size % world:
        raise ValueError(
            f"loader.batch_size={size} is that of all {world} processes (trainer.devices x "
            f"trainer.num_nodes) together; make it a multiple of {world}"
        )


def _check_mixing(config: dict[str, Any]) -> None:
    """A score must not depend on which images happen to share a batch."""
    size = config["loader"]["eval_batch_size"]
    if config["head"].get("published_batch_mixing") and size != 1:
        raise ValueError(
            "head.published_batch_mixing=true mixes the images of a batch, so scores would depend "
            f"on loader.eval_batch_size={size}; set loader.eval_batch_size=1"
        )


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Lines "key: first -> second" for what makes two configs different experiments."""
    a, b = _flatten(first), _flatten(second)
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


def _check_range(config: dict[str, Any], path: str, *, low: float, high: float = 2**31) -> None:
    value: Any = config
    for key in path.split("."):
        value = value[key]
    if not low <= value <= high:
        raise ValueError(f"{path} must be in [{low}, {high}], got {value}")


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
