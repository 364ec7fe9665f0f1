"""Optimizers and learning-rate schedules by name."""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

SCHEDULES: dict[str, Callable[[float], float]] = {
    # (1 - t)^0.9, the "poly" policy of DeepLab (arXiv 1606.00915), DANet and FLANet
    "poly": lambda t: (1 - t) ** 0.9,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
}


def build_optimizer(
    encoder: nn.Module,
    head: nn.Module,
    *,
    name: str,
    lr: float,
    weight_decay: float,
    momentum: float,
    encoder_lr_factor: float,
) -> Optimizer:
    """SGD or AdamW over encoder and head.

    AdamW decays matrices and kernels only (as ConvNeXt and ViT recipes do); SGD decays every
    parameter, as the published recipes do.

    Args:
        encoder: Its learning rate is `lr * encoder_lr_factor`.
        head: Its learning rate is `lr`.
        name: "sgd" or "adamw".
        lr: Peak learning rate.
        weight_decay: Decay.
        momentum: SGD's momentum, AdamW's beta 1.
        encoder_lr_factor: Factor on the encoder's learning rate.
    """
    groups: list[dict[str, Any]] = []
    for module, factor in ((encoder, encoder_lr_factor), (head, 1.0)):
        for decayed in (True, False):
            parameters = [
                p for p in module.parameters() if (name == "sgd" or p.ndim > 1) == decayed
            ]
            decay = weight_decay if decayed else 0.0
            groups.append({"params": parameters, "lr": lr * factor, "weight_decay": decay})
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return SGD(groups, momentum=momentum)
    optimizer = AdamW(groups, betas=(momentum, 0.999), fused=True)  # one kernel for all weights
    # GradScaler unscales before the step, so that gradients can be clipped in mixed precision
    optimizer._step_supports_amp_scaling = False
    return optimizer


def schedule_factor(step: int, *, name: str, warmup: float, total_steps: int) -> float:
    """Factor on the learning rate at `step`: linear warm-up, then the named decay to 0.

    Args:
        step: 0 to total_steps.
        name: A key of `SCHEDULES`.
        warmup: Share of the steps that warm up, in [0, 1).
        total_steps: Steps of the whole run.
    """
    warmup_steps = warmup * total_steps
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return SCHEDULES[name](min(progress, 1.0))


class StepLimit(Callback):
    """Ends a training after `max_steps` optimizer steps.

    Lightning's own limit is not given to it: a run with one that is resumed at the end of an epoch
    counts that epoch twice and leaves out the next (Lightning 2.6, `FitLoop.restarting`).

    Args:
        max_steps: At least 1; None for no limit.
    """

    def __init__(self, max_steps: int | None) -> None:
        self.max_steps = max_steps or math.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop a resumed run that has done its steps, or the training after its last step."""
        if trainer.global_step >= self.max_steps:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Stop after the last step."""
        self.on_train_start(trainer, pl_module)
