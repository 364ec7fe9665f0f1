"""Encoder and upsampling."""

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch import encoders
from torch.nn import functional

from segattn.model import Segmenter, build_encoder, upsample


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "depth", "stride"),
    [
        ("resnet18", 3, 8),
        ("resnet18", 4, 8),
        ("resnet18", 5, 16),
        ("efficientnet-b0", 3, 8),
        ("mit_b0", 3, 8),
        ("vgg11_bn", 3, 8),
        ("mobilenet_v2", 4, 16),
        ("tu-resnet10t", 5, 32),
    ],
)
def test_encoder_keeps_only_the_stages_it_uses_and_their_result(name, depth, stride):
    torch.manual_seed(0)
    encoder = build_encoder(name, depth=depth, output_stride=stride).eval()
    torch.manual_seed(0)
    dilated = stride if stride < 2**depth else 32
    whole = smp.encoders.get_encoder(name, depth=depth, output_stride=dilated, weights=None).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        kept, expected = encoder(x)[-1], whole(x)[-1]
    assert torch.equal(kept, expected)
    assert kept.shape[2:] == (64 // stride, 96 // stride)
    encoder(x)[-1].sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_shallow_resnet_does_not_count_layer4():
    assert count(build_encoder("resnet18", depth=3, output_stride=8)) == 683_072


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet81"}, "unknown encoder 'resnet81'.*resnet101"),
        ({"name": "tu-resnet81"}, "tu-resnet81"),
        ({"name": "resnet18", "depth": 3, "output_stride": 16}, "at most 2 .* = 8, got 16"),
        ({"name": "resnet18", "output_stride": 4}, "got 4"),
        ({"name": "resnet18", "weights": "imagnet"}, "imagnet"),
        ({"name": "vgg11_bn", "output_stride": 8}, "vgg11_bn.*dilated"),
    ],
)
def test_bad_encoder_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(**arguments)


def test_pretrained_weights_are_loaded(tmp_path, monkeypatch):
    whole = smp.encoders.get_encoder("resnet18", weights=None)
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        encoders, "hf_hub_download", lambda repo, filename, revision: tmp_path / filename
    )
    pretrained = build_encoder("resnet18", depth=3, output_stride=8, weights="imagenet")
    assert torch.equal(pretrained.conv1.weight, whole.conv1.weight)
    assert count(pretrained) == 683_072


def test_model_is_built_under_no_grad_too():
    with torch.no_grad():
        encoder = build_encoder("resnet18", depth=3, output_stride=8)
    assert count(encoder) == 683_072
    assert all(p.grad is None for p in encoder.parameters())


def test_upsampling_is_bilinear_and_cut_to_size():
    logits = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
    expected = functional.interpolate(logits, scale_factor=8, mode="bilinear")[..., :37, :53]
    got = upsample(logits, stride=8, size=(37, 53))
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(got)
    (gradient,) = torch.autograd.grad((got * weights).sum(), logits)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), logits)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


def test_padding_does_not_shift_the_logits():
    """A side that is no multiple of the stride is padded at the end and cut off again."""
    model = Segmenter(
        num_classes=2,
        head={"name": "fcn", "channels": 8},
        encoder={"name": "resnet18", "depth": 3, "output_stride": 8},
    ).eval()
    image = torch.full((1, 3, 64, 64), 124, dtype=torch.uint8)
    image[:, :, 16:32, 16:32] = 255
    with torch.no_grad():
        whole, cut = model(image).logits, model(image[:, :, :59, :59]).logits
    torch.testing.assert_close(cut[:, :, :8, :8], whole[:, :, :8, :8], atol=0.02, rtol=0.05)
    assert cut.shape == (1, 2, 59, 59)
