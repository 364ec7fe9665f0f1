"""Whole networks, with converted weights, against the published ones: image to full-size logits."""

import pytest
import torch
from published_networks import PublishedDANet, PublishedFLANet, PublishedFLANetHead
from test_published import assert_close, load, randomise
from torch import nn

from segattn.models.heads.fla import FLANetHead
from segattn.models.published import RENAMES, convert
from segattn.models.segmenter import Segmenter

NUM_CLASSES = 5
RESNET50, RESNET101 = (3, 4, 6, 3), (3, 4, 23, 3)


def segmenter(encoder: str, head: str, multi_grid=None, **knobs) -> Segmenter:
    encoder = {"name": encoder, "depth": 5, "output_stride": 8, "multi_grid": multi_grid}
    head = {"name": head, "channels": 512, "wiring": "published", **knobs}
    return Segmenter(num_classes=NUM_CLASSES, head=head, encoder=encoder)


def danet(num_blocks, encoder, published_grid, our_grid):
    return (
        PublishedDANet(num_blocks, num_classes=NUM_CLASSES, multi_grid=published_grid),
        segmenter(encoder, "danet", our_grid),
    )


# id -> name of the table, published network and ours
NETWORKS = {
    "danet50": ("danet_resnet50", lambda: danet(RESNET50, "resnet50", None, [2, 4, 4])),
    "danet50-grid": ("danet_resnet50", lambda: danet(RESNET50, "resnet50", (4, 8), [4, 8])),
    "danet101": ("danet_resnet101", lambda: danet(RESNET101, "resnet101", (4, 8, 16), [4, 8, 16])),
    "flanet101": (
        "flanet_resnet101",
        lambda: (
            PublishedFLANet(RESNET101, num_classes=NUM_CLASSES),
            segmenter("tu-resnet101s", "fla", published_batch_mixing=True),
        ),
    ),
}


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 64, 72), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_converted_network_gives_the_published_logits(network):
    name, build = NETWORKS[network]
    published, ours = build()
    load(name, randomise(published), ours)
    x = (images().float() / 255 - ours.mean) / ours.std
    expected = published(x)[0]
    assert expected.std() > 0.01
    assert_close(ours(images()).logits, expected)


@torch.no_grad()
def test_wrong_multi_grid_gives_other_logits():
    published, ours = danet(RESNET50, "resnet50", (4, 8, 16), None)
    load("danet_resnet50", randomise(published), ours)
    x = (images().float() / 255 - ours.mean) / ours.std
    assert not torch.allclose(ours(images()).logits, published(x)[0], rtol=0.01, atol=0.01)


def test_flanet_head_gives_the_published_logits_in_training():
    published = randomise(PublishedFLANetHead((16, 24, 48), channels=32, num_classes=NUM_CLASSES))
    ours = FLANetHead(
        in_channels=48,
        num_classes=NUM_CLASSES,
        channels=32,
        dropout=0.0,
        stage_channels=[8, 12, 16, 24],
        published_batch_mixing=True,
    )
    load("flanet_head", published, ours).train()
    for module in published.train().modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, c, 6, 5, generator=generator) for c in (16, 24, 48)]
    output, (total, second, third) = ours(maps[2], *maps[:2]), published(*maps)
    assert_close(output.logits, total)
    assert_close(output.aux["stage3"], second)
    assert_close(output.aux["stage4"], third)


def danet_names() -> dict[str, torch.Tensor]:
    return dict.fromkeys(RENAMES["danet_resnet50"], torch.zeros(1))


def test_checkpoint_of_the_training_script_is_accepted():
    """Its weights are under a key, behind `module.`, and in older files with ImageNet's classes."""
    weights = danet_names()
    expected = convert("danet_resnet50", weights)
    old = weights | {"pretrained.fc.weight": torch.ones(1), "pretrained.fc.bias": torch.ones(1)}
    saved = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in old.items()}, "best_pred": 0.5}
    assert convert("danet_resnet50", saved).keys() == expected.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auxlayer.0.weight": 0}, r"missing none, unexpected \['auxlayer\.0\.weight'\]"),
        ({"pretrained.fc.scale": 0}, r"unexpected \['pretrained\.fc\.scale'\]"),
        ({"pretrained.conv1.0.weight": 0}, r"unexpected \['pretrained\.conv1\.0\.weight'\]"),
    ],
)
def test_other_networks_are_refused(change, message):
    with pytest.raises(ValueError, match=f"'danet_resnet50': .*{message}"):
        convert("danet_resnet50", danet_names() | change)


def test_partial_or_deeper_network_names_what_is_missing():
    head = {k: v for k, v in danet_names().items() if k.startswith("head.")}
    with pytest.raises(ValueError, match=r"missing \['pretrained\.bn1\.bias'.*unexpected none"):
        convert("danet_resnet50", head)
    with pytest.raises(ValueError, match=r"missing \['pretrained\.layer3\.10\..*unexpected none"):
        convert("danet_resnet101", danet_names())


def test_every_whole_network_is_compared_here():
    heads = {"pam", "cam", "cca", "fla", "danet_head", "flanet_head"}
    assert RENAMES.keys() - heads == {name for name, _ in NETWORKS.values()}
