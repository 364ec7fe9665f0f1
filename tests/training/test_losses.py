"""Losses, optimizers and schedules."""

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.nn import functional

from segattn.config import checks
from segattn.models.scaffold import HeadOutput
from segattn.training.losses import inverse_sqrt_weights, segmentation_loss
from segattn.training.optimizers import SCHEDULES, build_optimizer, schedule_factor


def test_main_and_auxiliary_losses_add_up():
    target = torch.tensor([[[0, 1], [2, 255]]])
    main, aux = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2)
    weights = torch.tensor([1.0, 2.0, 3.0])
    losses = segmentation_loss(
        HeadOutput(main, {"branch": aux}),
        target,
        aux_weight=0.4,
        class_weights=weights,
        ignore_index=255,
    )
    expected = functional.cross_entropy(main, target, weight=weights, ignore_index=255)
    branch = functional.cross_entropy(aux, target, weight=weights, ignore_index=255)
    torch.testing.assert_close(losses["loss"], expected + 0.4 * branch)
    torch.testing.assert_close(losses["loss_branch"], branch)


@pytest.mark.parametrize("class_weights", [None, torch.tensor([1.0, 2.0, 3.0])])
def test_batch_without_a_labelled_pixel_gives_zero_not_nan(class_weights):
    logits, aux = (torch.randn(1, 3, 2, 2, requires_grad=True) for _ in range(2))
    losses = segmentation_loss(
        HeadOutput(logits, {"branch": aux}),
        torch.full((1, 2, 2), 255),
        aux_weight=1.0,
        class_weights=class_weights,
        ignore_index=255,
    )
    losses["loss"].backward()
    assert losses["loss"].item() == losses["loss_branch"].item() == 0.0
    for x in (logits, aux):
        assert torch.equal(x.grad, torch.zeros_like(x))


def test_inverse_sqrt_weights():
    weights = inverse_sqrt_weights([0.64, 0.32, 0.04, 0.0])
    assert weights[2] / weights[0] == pytest.approx(4)
    assert weights[3] == weights[2]  # never seen in training: as rare as the rarest


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_encoder_learns_at_its_factor(name):
    encoder, head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
    optimizer = build_optimizer(
        encoder,
        head,
        name=name,
        lr=0.1,
        weight_decay=0.01,
        momentum=0.8,
        encoder_lr_factor=0.25,
    )
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(encoder.weight)] == rates[id(encoder.bias)] == 0.025
    assert rates[id(head.weight)] == 0.1
    assert decays[id(head.weight)] == 0.01
    assert decays[id(head.bias)] == (0.01 if name == "sgd" else 0.0)
    group = optimizer.param_groups[0]
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.8


def test_fused_adamw_is_adamw_and_lets_gradients_be_clipped_in_mixed_precision():
    torch.manual_seed(0)
    encoder, head, x = nn.Linear(3, 4), nn.Linear(4, 2), torch.randn(8, 3)
    expected = [
        p.detach().clone().requires_grad_() for m in (encoder, head) for p in m.parameters()
    ]
    options = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9, "encoder_lr_factor": 1.0}
    fused = build_optimizer(encoder, head, name="adamw", **options)
    plain = torch.optim.AdamW(
        [{"params": [p], "weight_decay": 0.1 if p.ndim > 1 else 0.0} for p in expected],
        lr=0.01,
        foreach=False,
    )
    for _ in range(20):
        fused.zero_grad()
        head(encoder(x).relu()).square().mean().backward()
        MixedPrecision("bf16-mixed", "cpu").clip_gradients(fused, clip_val=0.5)
        parameters = [*encoder.parameters(), *head.parameters()]
        for mine, theirs in zip(expected, parameters, strict=True):
            mine.grad = theirs.grad.clone()
        fused.step()
        plain.step()
    for mine, theirs in zip(expected, parameters, strict=True):
        torch.testing.assert_close(theirs, mine)


def test_schedules():
    poly = [schedule_factor(s, name="poly", warmup=0.0, total_steps=10) for s in range(11)]
    assert poly[0] == 1
    assert poly[5] == pytest.approx(0.5**0.9)
    assert poly[10] == 0
    cosine = [schedule_factor(s, name="cosine", warmup=0.2, total_steps=10) for s in range(11)]
    assert cosine[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert cosine[6] == pytest.approx(0.5)
    assert cosine[10] == pytest.approx(0)


def test_the_config_knows_every_schedule():
    assert set(SCHEDULES) == set(checks.SCHEDULES)
