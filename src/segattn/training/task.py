"""SegmentationTask: model, losses, metric and optimizer under Lightning."""

import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from segattn.base.distributed import summed
from segattn.base.errors import UserError
from segattn.data.datamodule import SegmentationData, image_tensor
from segattn.data.source import IGNORE_INDEX
from segattn.metrics import SizeStratifiedIoU
from segattn.models.blocks import block_share, gamma_blocks, watch_blocks
from segattn.models.encoders import frozen_parts
from segattn.models.inference import Protocol, build_protocol, predict
from segattn.models.scaffold import HeadOutput
from segattn.models.segmenter import Segmenter
from segattn.training.losses import LossMean, LossWatch, label_weight, segmentation_loss
from segattn.training.optimizers import StepLimit, build_optimizer, schedule_factor


class SegmentationTask(pl.LightningModule):
    """Trains a `Segmenter` and scores it by object size.

    Every argument is a plain value, so a checkpoint loads with `load_from_checkpoint(path)` and
    `weights_only=True`, without the config that made it and without a download.

    Args:
        classes: Class names.
        head: `name` and knobs of the head.
        encoder: `name`, `depth`, `output_stride`.
        optimizer: Arguments of `build_optimizer`, and `schedule` and `warmup`.
        loss: `aux_weight`, and `class_weights`: one number per class, or None.
        metric: Values of `segattn.metrics.Measures`.
        protocol: Values of `inference.Protocol` for the test; None predicts the image as a whole.
            Validation, which is for watching, always does.
        mirrored: Class that each class is in a mirror; None if all stay what they are.
        freeze: What of the encoder keeps its weights and statistics: none, bn or all.
        size: (height, width) to which the data resizes its images; None if it does not.
        palette: Colours of the classes, RGB.
    """

    blocks: dict[str, Any]
    block_shares: Any  # a ModuleList of metrics, in the order of the blocks
    class_weights: Tensor | None
    val_metric: SizeStratifiedIoU
    test_metric: SizeStratifiedIoU

    def __init__(
        self,
        *,
        classes: Sequence[str],
        head: dict[str, Any],
        encoder: dict[str, Any],
        optimizer: dict[str, Any],
        loss: dict[str, Any],
        metric: dict[str, Any],
        protocol: dict[str, Any] | None = None,
        mirrored: Sequence[int] | None = None,
        freeze: str = "none",
        size: Sequence[int] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        # the logger gets the resolved config instead: nested hparams would overwrite it
        self.save_hyperparameters(logger=False)
        self.protocol = build_protocol(protocol or {})
        self.configure_models()
        self.configure_losses()
        self.configure_metrics()

    def test_by(self, *, metric: dict[str, Any], protocol: dict[str, Any]) -> None:
        """Score by another metric and protocol than the training did."""
        self.hparams.update(metric=metric, protocol=protocol)
        self.protocol = build_protocol(protocol)
        self.configure_metrics()

    @property
    def stage_of_validation(self) -> Literal["val", "val_whole"]:
        """The prefix of validation scores; another one where the test has another protocol."""
        return "val" if self.protocol.label == "whole" else "val_whole"

    def configure_models(self) -> None:
        """Encoder and head in channels_last, which convolutions prefer."""
        self.model = Segmenter(
            num_classes=len(self.hparams["classes"]),
            head=self.hparams["head"],
            encoder=self.hparams["encoder"],
        ).to(memory_format=torch.channels_last)
        for part in frozen_parts(self.model.encoder, self.hparams["freeze"]):
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "SegmentationTask":
        """Train all but the frozen modules."""
        super().train(mode)
        for part in frozen_parts(self.model.encoder, self.hparams["freeze"]):
            part.eval()
        return self

    def compile_models(self) -> None:
        """Compile encoder and head in place: the names of weights and checkpoints stay."""
        # else compiled code would not run the hooks of the test, which come later
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        self.model.encoder.compile()
        self.model.head.compile()

    def configure_losses(self) -> None:
        """Class weights as a buffer, so that they follow the device; hparams hold their values."""
        weights = self.hparams["loss"]["class_weights"]
        self._watch, self._train_loss, self._val_loss = LossWatch(), LossMean(), LossMean()
        buffer = None if weights is None else torch.tensor(weights)
        self.register_buffer("class_weights", buffer, persistent=False)

    def configure_metrics(self) -> None:
        """One metric per evaluated split."""
        num_classes = len(self.hparams["classes"])
        self.val_metric, self.test_metric = (
            SizeStratifiedIoU(num_classes, ignore_index=IGNORE_INDEX, **self.hparams["metric"])
            for _ in range(2)
        )
        self.test_confusion = MulticlassConfusionMatrix(num_classes, ignore_index=IGNORE_INDEX)
        self.blocks = gamma_blocks(self.model.head)
        self.block_shares = nn.ModuleList(MeanMetric() for _ in self.blocks)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer with a schedule that is stepped every batch."""
        options = dict(self.hparams["optimizer"])
        name, warmup = options.pop("schedule"), options.pop("warmup")
        optimizer = build_optimizer(self.model.encoder, self.model.head, **options)
        total_steps = self._total_steps()
        scheduler = LambdaLR(
            optimizer,
            lambda step: schedule_factor(step, name=name, warmup=warmup, total_steps=total_steps),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _total_steps(self) -> int:
        """Return the number of steps of the whole training."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SegmentationData):
            return int(self.trainer.estimated_stepping_batches)
        # that property starts the loader's workers: after a resume, before it is known at which
        # epoch, so that the first epoch would have the order of epoch 0
        limit = self.trainer.limit_train_batches
        batches = data.batches_per_epoch
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        steps = math.ceil(batches / self.trainer.accumulate_grad_batches)
        steps *= self.trainer.max_epochs or 1
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        limits = [c.max_steps for c in callbacks if isinstance(c, StepLimit)]
        return int(min([steps, *limits]))

    def forward(self, images: Tensor) -> HeadOutput:
        """Images uint8 [B, 3, H, W] to logits float32 [B, num_classes, H, W]."""
        return self.model(images)

    def by_protocol(self, images: Tensor, protocol: Protocol | None = None) -> Tensor:
        """Images uint8 [B, 3, H, W] to [B, num_classes, H, W]: what the test takes its maximum of.

        Logits, or mean probabilities, as the protocol says; by default the task's own.
        """
        chosen, mirrored = protocol or self.protocol, self.hparams["mirrored"]
        return predict(lambda x: self(x).logits, images, protocol=chosen, mirrored=mirrored)

    def label_map(self, image: NDArray[np.uint8], *, protocol: Protocol) -> NDArray[np.uint8]:
        """Class indices uint8 [H, W] of an image uint8 [H, W, 3]."""
        batch = image_tensor(image)[None].to(self.device)
        with torch.inference_mode():
            predictions = decide(self.by_protocol(batch, protocol))
        return predictions[0].byte().cpu().numpy()

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keep the learning rate of the head for this step: after it, the next one's is set."""
        self._lr = float(self.trainer.optimizers[0].param_groups[-1]["lr"])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of one batch, scaled so that the step is the one of the whole batch.

        The whole batch is what all processes see between two optimizer steps.
        """
        losses, at = self._losses(self(batch["image"]), batch["label"]), self.trainer
        where = {"epoch": at.current_epoch, "step": at.global_step, "names": batch["name"]}
        self._watch.add(losses["loss"], last=at.is_last_batch, **where)
        weight = self._label_weight(batch["label"])
        self._train_loss.add(losses, weight)
        if at.accumulate_grad_batches == 1:
            if at.world_size == 1:
                return losses["loss"]
            # DDP averages gradients over the processes, which may hold unequal numbers of pixels
            share = weight / summed(weight).clamp_min(torch.finfo(weight.dtype).tiny)
            return losses["loss"] * share * at.world_size
        if batch_idx % at.accumulate_grad_batches == 0:
            self._pixels, self._group_weight = batch["label"].numel(), torch.zeros_like(weight)
        self._group_weight += summed(weight)
        # what to divide by is known after the last part: see `on_before_optimizer_step`
        return losses["loss"] * (weight / self._pixels)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn gradients of accumulated sums into those of the mean over labelled pixels."""
        parts, world = self.trainer.accumulate_grad_batches, self.trainer.world_size
        if parts == 1:
            return
        factor = self._pixels * parts * world / self._group_weight
        factor = torch.where(self._group_weight > 0, factor, 0.0)
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def on_train_epoch_end(self) -> None:
        """Log losses, the learning rate of the last step, and gammas; refuse broken weights.

        Logged here and not by Lightning, which logs after the checkpoint: a run that was killed in
        between would miss the row.
        """
        self._watch.look()  # trainer.max_steps may end an epoch before its last batch
        self._check_weights()
        row = {f"train/{name}": value for name, value in self._train_loss.compute().items()}
        row |= {"lr": self._lr}
        row |= {f"gamma/{name}": float(block.gamma.detach()) for name, block in self.blocks.items()}
        for logger in self.trainer.loggers:
            step = self.trainer.global_step - 1
            logger.log_metrics({"epoch": self.trainer.current_epoch, **row}, step)
            logger.save()

    def _check_weights(self) -> None:
        """Stop before a checkpoint of weights that are not finite replaces a good one."""
        values = self.state_dict().items()
        finite = {k: v.isfinite().all() for k, v in values if v.is_floating_point()}
        if not torch.stack(list(finite.values())).all():
            name = next(name for name, good in finite.items() if not good)
            raise UserError(
                f"weights are not finite after epoch {self.trainer.current_epoch} (first: {name}), "
                "though every loss was; train with a lower optimizer.lr or a longer "
                "optimizer.warmup, under another name (experiment=... or name=...)"
            )

    def on_validation_epoch_start(self) -> None:
        """Check the losses until now: the message of a bad one names its step and images."""
        self._watch.look()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Update the val metric and the mean loss."""
        output, target = self(batch["image"]), batch["label"]
        loss = {"loss": self._losses(output, target)["loss"]}
        self._val_loss.add(loss, self._label_weight(target))
        self._update(self.val_metric, output.logits, batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Update the test metric; gives predictions int64 [B, H, W].

        The rows of the object table are the metric's: `test_metric.rows`.
        """
        logits = self.by_protocol(batch["image"])
        self._update_block_shares()
        predictions = self._update(self.test_metric, logits, batch)
        self.test_confusion.update(predictions, batch["label"])
        return {"predictions": predictions}

    def on_validation_epoch_end(self) -> None:
        """Log val/... or val_whole/... and start the metric anew."""
        stage = self.stage_of_validation
        self.log(f"{stage}/loss", self._val_loss.compute()["loss"])
        self._log_scores(stage, self.val_metric)
        self.val_metric.reset()

    def on_test_epoch_end(self) -> None:
        """Log test/..., and keep what result.json says, of all processes, in `tested`."""
        with synced(self.test_metric):
            num_images = int(self.test_metric.n_images)
        shares = [float(share.compute()) for share in self.block_shares]
        named = {
            f"block_share/{block}": share for block, share in zip(self.blocks, shares, strict=True)
        }
        for handle in self._watching:
            handle.remove()
        confusion = self.test_confusion.compute().tolist()
        if not any(map(any, confusion)):
            warnings.warn("no test image has a labelled pixel, so nothing is scored", stacklevel=2)
        self.tested: dict[str, Any] = {
            "num_images": num_images,
            "scores": self._log_scores("test", self.test_metric, **named),
            "confusion": confusion,
        }

    def on_test_epoch_start(self) -> None:
        """Start anew."""
        for metric in (self.test_metric, self.test_confusion, *self.block_shares):
            metric.reset()
        shares: dict[str, list[Tensor]] = {name: [] for name in self.blocks}

        def keep(block: str, inputs: tuple[Tensor, ...], result: Tensor) -> None:
            shares[block].append(block_share(inputs, result))

        self._shares, self._watching = shares, watch_blocks(self.model.head, keep)

    def _update_block_shares(self) -> None:
        """Add the shares of all forward passes, also of several windows or scales."""
        for seen, mean in zip(self._shares.values(), self.block_shares, strict=True):
            mean.update(torch.cat(seen))
            seen.clear()

    def _losses(self, output: HeadOutput, target: Tensor) -> dict[str, Tensor]:
        return segmentation_loss(
            output,
            target,
            aux_weight=self.hparams["loss"]["aux_weight"],
            class_weights=self.class_weights,
            ignore_index=IGNORE_INDEX,
        )

    def _label_weight(self, target: Tensor) -> Tensor:
        return label_weight(target, self.class_weights, ignore_index=IGNORE_INDEX)

    def _update(self, metric: SizeStratifiedIoU, logits: Tensor, batch: dict[str, Any]) -> Tensor:
        predictions = decide(logits, names=batch["name"])
        metric.update(predictions, batch["label"], objects=batch["objects"])
        return predictions

    def _log_scores(
        self, stage: str, metric: SizeStratifiedIoU, **others: float
    ) -> dict[str, float]:
        # compute() sums over the processes, which all have to call it
        scores = {name: float(value) for name, value in metric.compute().items()} | others
        # equal in all processes, and in all of them, since callbacks choose by them
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()})
        return scores


def decide(scores: Tensor, *, names: Sequence[str] = ("the image",)) -> Tensor:
    """Return the class with the highest score of every pixel; the first one of equal scores.

    Args:
        scores: Logits or probabilities [B, C, H, W].
        names: Names of the images, for the message.

    Returns:
        int64 [B, H, W].

    Raises:
        UserError: A score is NaN or infinite. Its maximum would pass for a prediction.
    """
    best = scores.max(1)  # several times as fast as argmax on a CPU
    if not best.values.isfinite().all():
        raise UserError(
            f"the network gives NaN or infinity on {', '.join(names)}: its weights or activations "
            "are not finite, so nothing can be scored. Train with a lower optimizer.lr, "
            "or test with trainer.precision=fp32"
        )
    return best.indices


def synced(metric: Metric) -> AbstractContextManager[None]:
    """Inside it the states of `metric` are the sums over all processes."""
    context: AbstractContextManager[None] = metric.sync_context()
    return context
