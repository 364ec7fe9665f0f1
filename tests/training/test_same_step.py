"""A step and a loss depend on the images alone, not on how they are split up."""

import numpy as np
import pytest
import torch
from camvid_files import write_camvid
from PIL import Image
from tiny import EXPERIMENTS, weights
from torch.nn import functional

from segattn.config.compose import compose_config
from segattn.training.build import build_data
from segattn.training.checkpoint import load_task
from segattn.training.losses import LossMean, label_weight, segmentation_loss
from segattn.training.optimizers import schedule_factor
from segattn.training.train import train


@pytest.fixture
def still_batch_norm(monkeypatch):
    """Batch norm with fixed statistics: what is left of a batch is its loss."""

    def forward(self, x):
        fixed = (self.running_mean, self.running_var, self.weight, self.bias)
        return functional.batch_norm(x, *fixed, False, 0.0, self.eps)

    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", forward)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Images with unequal numbers of void pixels; one has none that is labelled."""
    root = write_camvid(tmp_path_factory.mktemp("camvid") / "camvid")
    for split in ("train", "val"):
        for index, path in enumerate(sorted((root / f"{split}annot").glob("*.png"))):
            label = np.array(Image.open(path))
            label[: (0, 60, 64)[index % 3]] = 11
            Image.fromarray(label).save(path)
    return root


def run(root, tmp_path, *words, weighting="none"):
    return train(
        compose_config(
            [
                *("head=fcn", "head.channels=8", "head.dropout=0", "encoder=test_resnet"),
                *("data=camvid", f"data.root={root}", "loader.num_workers=0", "num_examples=0"),
                *("augment.scale=[1.0,1.0]", "augment.jitter=0", "augment.flip=0"),
                *("optimizer.name=sgd", "optimizer.lr=0.1", "optimizer.momentum=0"),
                *("optimizer.warmup=0", "optimizer.weight_decay=0", "optimizer.schedule=poly"),
                *("trainer.precision=fp32", "trainer.accelerator=cpu", "logger=none"),
                *(f"loss.class_weights={weighting}", f"runs_dir={tmp_path}"),
                *("trainer.max_epochs=1", "loader.eval_batch_size=3", *words),
            ],
            folder=EXPERIMENTS,
        )
    )


@pytest.mark.parametrize("weighting", ["none", "inverse_sqrt"])
def test_accumulated_batches_take_the_step_of_one_batch(
    root, tmp_path, still_batch_norm, weighting
):
    split = {"weighting": weighting}
    whole = run(root, tmp_path, "loader.batch_size=6", "name=whole", **split)
    words = ("loader.batch_size=2", "trainer.accumulate_grad_batches=3", "name=parts")
    parts = run(root, tmp_path, *words, **split)
    start = run(root, tmp_path, "loader.batch_size=6", "optimizer.lr=0", "name=start", **split)
    assert parts.result["training"]["steps"] == whole.result["training"]["steps"] == 1
    moved = 0.0
    for key, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[key], value, rtol=1e-4, atol=1e-6)
        moved = max(moved, float((value - weights(start)[key]).abs().max()))
    assert moved > 1e-3
    loss = [r.metrics()["train/loss"].dropna().item() for r in (whole, parts)]
    assert loss[1] == pytest.approx(loss[0], rel=1e-5)


def test_a_short_last_group_takes_the_step_of_its_own_images(root, tmp_path, still_batch_norm):
    words = ("loader.batch_size=2", "trainer.accumulate_grad_batches=2", "name=parts")
    parts = run(root, tmp_path, *words)
    assert parts.result["training"]["steps"] == 2
    # by hand: a step on the first four images of the order, and one on the last two
    first = run(root, tmp_path, *words[:1], "optimizer.lr=0", "name=start")
    task, data = (
        load_task(first.checkpoint_path, device=torch.device("cpu")),
        build_data(parts.config),
    )
    batches = list(data.train_dataloader())
    for step, group in enumerate((batches[:2], batches[2:])):
        image, label = (torch.cat([b[key] for b in group]) for key in ("image", "label"))
        task.zero_grad()
        options = {"aux_weight": 1.0, "class_weights": None, "ignore_index": 255}
        segmentation_loss(task(image), label, **options)["loss"].backward()
        lr = 0.1 * schedule_factor(step, name="poly", warmup=0.0, total_steps=2)
        with torch.no_grad():
            for parameter in task.parameters():
                parameter -= lr * parameter.grad
    for key, value in task.state_dict().items():
        torch.testing.assert_close(weights(parts)[key], value, rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_validation_does_not_follow_the_batch(root, tmp_path):
    runs = [
        run(
            root, tmp_path, f"loader.eval_batch_size={size}", "loader.batch_size=2", f"name=b{size}"
        )
        for size in (1, 2, 3)
    ]
    assert all(torch.equal(weights(runs[0])[k], v) for k, v in weights(runs[2]).items())
    losses = [r.metrics()["val/loss"].dropna().item() for r in runs]
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-5)
    assert runs[0].result["scores"] == runs[2].result["scores"]


def test_loader_workers_change_nothing(root, tmp_path):
    a, b = (
        run(root, tmp_path, f"loader.num_workers={n}", "loader.batch_size=2", f"name=w{n}")
        for n in (0, 2)
    )
    assert all(torch.equal(weights(a)[k], v) for k, v in weights(b).items())
    assert a.metrics().equals(b.metrics())


@pytest.mark.parametrize("weighted", [False, True])
def test_a_mean_over_batches_is_that_over_all_pixels(weighted):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 4, 4, generator=generator)
    target = torch.randint(0, 3, (5, 4, 4), generator=generator)
    target[0], target[1, 1:] = 255, 255
    class_weights = torch.tensor([1.0, 2.0, 0.5]) if weighted else None
    mean = LossMean()
    for part in (slice(0, 1), slice(1, 2), slice(2, 5)):
        weight = label_weight(target[part], class_weights, ignore_index=255)
        loss = functional.cross_entropy(
            logits[part], target[part], weight=class_weights, ignore_index=255
        )
        mean.add({"loss": torch.where(weight > 0, loss, 0.0)}, weight)
    expected = functional.cross_entropy(logits, target, weight=class_weights, ignore_index=255)
    assert mean.compute()["loss"] == pytest.approx(float(expected), rel=1e-6)
    mean.add({"loss": torch.tensor(2.0)}, torch.tensor(3.0))
    assert mean.compute() == {"loss": 2.0}, "it starts anew"
