"""Encoder and upsampling."""

from itertools import chain

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch import encoders
from torch import nn
from torch.nn import functional

from segattn.models.encoders import build_encoder
from segattn.models.segmenter import Segmenter
from segattn.models.upsampling import upsample


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
        ({"name": "tu-repvit_m0_9"}, "output_stride=8 .*; set them to 5 and 32"),
        ({"name": "tu-vgg11"}, "output_stride=8 .*; set them to 5 and 32"),
        ({"name": "tu-resnet18", "weights": "imagnet"}, "'imagnet'.*imagenet"),
        ({"name": "tu-hrnet_w48", "output_stride": 8}, r"output_stride=4 .* got 8 and 5"),
        ({"name": "tu-hrnet_w48", "output_stride": 4, "depth": 2}, "to 3, 4 or 5, got 4 and 2"),
        ({"name": "resnet18", "multi_grid": []}, r"\[4, 8, 16\], got \[\]"),
        ({"name": "resnet18", "multi_grid": [4, 0]}, r"at least 1.*got \[4, 0\]"),
        ({"name": "resnet18", "multi_grid": [4], "depth": 4}, "depth=5 .* got encoder.depth=4"),
        (
            {"name": "resnet18", "multi_grid": [4], "output_stride": 16},
            "multi_grid=null; got .*output_stride=16",
        ),
        ({"name": "vgg11_bn", "multi_grid": [4]}, "'vgg11_bn' is not a ResNet.*resnet101.*null"),
        ({"name": "tu-regnetx_002", "multi_grid": [4]}, "'tu-regnetx_002' is not a ResNet"),
        (
            {"name": "tu-hrnet_w18_small", "output_stride": 4, "multi_grid": [4]},
            "not a ResNet.*resnet101.*null",
        ),
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


def test_weights_reach_timm_by_the_name_of_smp(monkeypatch):
    build_encoder("tu-resnet18", output_stride=32)  # tried once in a process
    asked = []
    whole = smp.encoders.get_encoder("tu-resnet18", weights=None)
    monkeypatch.setattr(
        encoders, "get_encoder", lambda name, **options: asked.append((name, options)) or whole
    )
    build_encoder("tu-resnet18", output_stride=32, weights="imagenet")
    build_encoder("tu-resnet18", output_stride=32)
    assert [(name, options["weights"]) for name, options in asked] == [
        ("tu-resnet18", True),
        ("tu-resnet18", None),
    ]


@pytest.mark.parametrize(
    ("name", "stride", "channels"),
    [("resnet101", 8, 2048), ("tu-resnet101s", 8, 2048), ("tu-hrnet_w48", 4, 720)],
)
@torch.no_grad()
def test_encoders_of_the_papers_give_their_map(name, stride, channels):
    encoder = build_encoder(name, output_stride=stride).eval()
    last = encoder(torch.zeros(1, 3, 64, 64))[-1]
    assert last.shape == (1, channels, 64 // stride, 64 // stride)
    assert (encoder.out_channels[-1], encoder.output_stride) == (channels, stride)


@pytest.mark.parametrize(("depth", "channels"), [(5, [16, 32, 64, 128]), (3, [16, 32])])
def test_hrnet_concatenates_all_branches_and_has_no_others(depth, channels):
    encoder = build_encoder("tu-hrnet_w18_small", depth=depth, output_stride=4).eval()
    x = torch.randn(1, 3, 64, 96)
    last, branches = encoder(x)[-1], encoder.branches(x)[2:]
    assert [branch.shape[1] for branch in branches] == channels
    full = [functional.interpolate(b, size=(16, 24), mode="bilinear") for b in branches]
    torch.testing.assert_close(last, torch.cat(full, dim=1))
    last.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_hrnet_takes_images_of_any_size():
    model = Segmenter(
        num_classes=3,
        head={"name": "fcn", "channels": 8},
        encoder={"name": "tu-hrnet_w18_small", "depth": 5, "output_stride": 4},
    )
    assert model(torch.zeros(2, 3, 65, 97, dtype=torch.uint8)).logits.shape == (2, 3, 65, 97)


def dilations(encoder: nn.Module) -> list[list[int]]:
    """Return the dilations of the 3x3 convolutions in the last two stages, block by block."""
    body = getattr(encoder, "model", encoder)
    convolutions = (
        [m for m in block.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        for block in chain(body.layer3, body.layer4)
    )
    return [[m.dilation[0] for m in own if m.padding == m.dilation] for own in convolutions]


@pytest.mark.parametrize("name", ["resnet18", "tu-resnet18"])
@pytest.mark.parametrize(("stride", "rates"), [(8, (2, 4)), (16, (1, 2)), (32, (1, 1))])
def test_resnets_of_both_libraries_are_dilated_alike(name, stride, rates):
    encoder = build_encoder(name, output_stride=stride)
    assert dilations(encoder) == [[rate] * 2 for rate in rates for _ in range(2)]


@pytest.mark.parametrize(
    ("name", "multi_grid", "per_block", "third", "last"),
    [
        ("resnet50", [4, 8], 1, [1, 2, 2, 2, 2, 2], [4, 8, 4]),
        ("resnet18", [4, 8, 16], 2, [1, 2], [4, 8]),
        ("tu-resnet26", [4, 8], 1, [1, 2], [4, 8]),
    ],
)
def test_multi_grid_changes_the_dilations_and_nothing_else(
    name, multi_grid, per_block, third, last
):
    built = []
    for grid in (None, multi_grid):
        torch.manual_seed(0)
        built.append(build_encoder(name, multi_grid=grid).eval())
        for module in built[-1].modules():
            if isinstance(module, nn.BatchNorm2d):  # timm starts blocks as the identity
                nn.init.ones_(module.weight)
    plain, gridded = built
    assert dilations(gridded) == [[rate] * per_block for rate in third + last]
    assert plain.state_dict().keys() == gridded.state_dict().keys()
    assert all(map(torch.equal, plain.state_dict().values(), gridded.state_dict().values()))
    x = torch.randn(1, 3, 64, 64)
    maps = list(zip(plain(x), gridded(x), strict=True))
    assert all(a.shape == b.shape for a, b in maps)
    assert [torch.equal(a, b) for a, b in maps] == [True] * 4 + [False] * 2


def test_model_is_built_under_no_grad_too():
    with torch.no_grad():
        encoder = build_encoder("resnet18", depth=3, output_stride=8)
    assert count(encoder) == 683_072
    assert all(p.grad is None for p in encoder.parameters())


@pytest.mark.parametrize("aligned", [False, True])
def test_upsampling_is_bilinear_and_cut_to_size(aligned):
    logits = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
    expected = functional.interpolate(
        logits, scale_factor=8, mode="bilinear", align_corners=aligned
    )[..., :37, :53]
    got = upsample(logits, stride=8, size=(37, 53), align_corners=aligned)
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(got)
    (gradient,) = torch.autograd.grad((got * weights).sum(), logits)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), logits)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["danet", "fla"])
@pytest.mark.parametrize("wiring", ["scaffold", "published"])
@torch.no_grad()
def test_published_wirings_align_the_corners(name, wiring):
    model = Segmenter(
        num_classes=2,
        head={"name": name, "channels": 8, "wiring": wiring},
        encoder={"name": "resnet18", "depth": 3, "output_stride": 8},
    ).eval()
    image = torch.randint(0, 256, (1, 3, 64, 48), dtype=torch.uint8)
    cells, full = model.head(*model.features(image)[-1:]).logits, model(image).logits
    expected = functional.interpolate(
        cells, size=(64, 48), mode="bilinear", align_corners=wiring == "published"
    )
    torch.testing.assert_close(full, expected)


def test_padding_does_not_shift_the_logits():
    """A side that is not a multiple of the stride is padded at the end and cut off again."""
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
