"""The schema of one run's config: what Hydra composes and types."""

import inspect
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

import pytorch_lightning as pl
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class EncoderConfig:
    """See `segattn.models.encoders.build_encoder`; `freeze` is none, bn or all."""

    name: str = MISSING
    depth: int = MISSING
    output_stride: int = MISSING
    multi_grid: list[int] | None = None
    weights: str | None = None
    weights_sha256: str | None = None  # of the file, if `weights` is one
    freeze: str = "none"


@dataclass
class LoaderConfig:
    """See `segattn.data.datamodule.SegmentationData`."""

    batch_size: int = MISSING
    eval_batch_size: int = MISSING
    num_workers: Any = MISSING  # an int or auto
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
    """See `segattn.training.optimizers`."""

    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING
    momentum: float = MISSING
    encoder_lr_factor: float = MISSING
    schedule: str = MISSING
    warmup: float = MISSING


@dataclass
class LossConfig:
    """`class_weights` is "none" or "inverse_sqrt", see `segattn.training.losses`."""

    aux_weight: float = MISSING
    class_weights: str = MISSING


@dataclass
class MetricConfig:
    """`radius` is in px, see `segattn.metrics.Measures`; the bins belong to the data set."""

    radius: float = MISSING


@dataclass
class ProtocolConfig:
    """See `segattn.models.inference.Protocol`."""

    name: str = MISSING
    crop: list[int] | None = None
    stride: list[int] | None = None
    scales: list[float] = field(default_factory=lambda: [1.0])
    flip: bool = False
    average: str = "logits"


@dataclass
class OwnTrainerConfig:
    """What segattn knows of a trainer, see `segattn.training.trainer` and `segattn.base.hardware`.

    `precision` is auto, fp32, bf16 or fp16; `accelerator` auto, cpu, gpu or mps. `devices` counts
    the processes of a node.
    """

    max_epochs: int = MISSING
    val_every: int = MISSING
    precision: str = MISSING
    accelerator: str = MISSING
    devices: int = 1
    num_nodes: int = 1
    sync_batchnorm: bool = True
    tf32: bool | None = None
    compile: bool = False


_OWN = {own.name for own in fields(OwnTrainerConfig)}
NOT_OPEN = {
    "logger": "choose logger=wandb, tensorboard, csv or none",
    "default_root_dir": "set runs_dir",
    "check_val_every_n_epoch": "set trainer.val_every",
    "overfit_batches": "set data.num_train, or trainer.limit_train_batches: each epoch is shuffled",
    **dict.fromkeys(
        ("limit_predict_batches", "enable_autolog_hparams", "model_registry"),
        "it has no effect on a training",
    ),
    **dict.fromkeys(
        ("callbacks", "plugins", "use_distributed_sampler", "enable_checkpointing", "barebones"),
        "a run needs its own to be resumed and tested",
    ),
}
"""Arguments of Lightning's Trainer that a config cannot set, and what to do instead."""

LIGHTNING = {
    name: parameter.annotation
    for name, parameter in inspect.signature(pl.Trainer).parameters.items()
    if name not in _OWN and name not in NOT_OPEN
}
"""Types of the options that Lightning receives unchanged; None leaves Lightning's default."""

TrainerConfig = make_dataclass(
    "TrainerConfig", [(name, Any, None) for name in LIGHTNING], bases=(OwnTrainerConfig,)
)


@dataclass
class CallbacksConfig:
    """Lightning's own, all off by default; see `training.trainer.training_callbacks`."""

    best: bool = False
    patience: int | None = None
    ema: float | None = None


@dataclass
class LoggerConfig:
    """`name` is wandb, tensorboard, csv or none, or a list; the rest is of W&B, see `loggers.py`.

    `mode` is auto, online, offline or disabled.
    """

    name: Any = "wandb"
    mode: str = "auto"
    project: str | None = None
    entity: str | None = None
    notes: str | None = None
    log_model: bool = False
    tags: list[str] = field(default_factory=list)


@dataclass
class Config:
    """The config of one run; `head` and `data` hold a name and its knobs."""

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
    trainer: TrainerConfig = field(default_factory=TrainerConfig)  # type: ignore[valid-type]
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


ConfigStore.instance().store(name="schema", node=Config)
