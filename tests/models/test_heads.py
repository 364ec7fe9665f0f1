"""Every head of the registry, without naming one: a new head is tested by being registered."""

import pytest
import torch
from torch import nn

from segattn.models.blocks import block_share, gamma_blocks, watch_blocks
from segattn.models.heads import HEADS, build_head, check_head
from segattn.models.heads.ccnet import CrissCrossBlock
from segattn.models.heads.channel_nl import ChannelBlock
from segattn.models.heads.cs_nl import SeriesBlock
from segattn.models.heads.danet import DualBlock
from segattn.models.heads.fla import FullBlock
from segattn.models.heads.spatial_nl import SpatialBlock
from segattn.models.scaffold import scaffold
from segattn.models.segmenter import Segmenter
from segattn.training.losses import segmentation_loss

BLOCKS = [ChannelBlock, SpatialBlock, DualBlock, SeriesBlock, FullBlock, CrissCrossBlock]
ATTENTION = [name for name in HEADS if gamma_blocks(build_head(name, 8, 3))]


def test_every_file_is_a_head_and_blocks_with_a_gamma_are_found():
    context = {"fcn", "psp", "aspp"}
    assert set(HEADS) > context
    assert set(ATTENTION) >= {"channel_nl", "spatial_nl", "danet", "cs_nl", "fla", "ccnet"}
    assert not set(ATTENTION) & context


def open_gammas(module: nn.Module, value: float = 0.5) -> None:
    for name, parameter in module.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, value)


def images(batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("name", HEADS)
def test_head_trains_at_odd_sizes_and_every_stride(name, stride):
    model = Segmenter(
        num_classes=3,
        head={"name": name, "channels": 16},
        encoder={"name": "resnet18", "depth": 5, "output_stride": stride},
    )
    open_gammas(model)
    output = model(images(2, 65, 97))
    assert output.logits.shape == (2, 3, 65, 97)
    output.logits.square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize("name", HEADS)
def test_head_is_independent_of_the_rest_of_the_batch(name):
    head = build_head(name, 8, 3, channels=16).eval()
    open_gammas(head)
    features = torch.randn(3, 8, 5, 7, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = head(features).logits
        alone = torch.cat([head(features[i : i + 1]).logits for i in range(3)])
        changed = features.clone()
        changed[1] += 1
        after = head(changed).logits
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(after[[0, 2]], together[[0, 2]])
    assert not torch.allclose(after[1], together[1])


@pytest.mark.parametrize("block", BLOCKS)
def test_fresh_block_is_the_identity_and_an_open_one_is_not(block):
    fresh = block(16)
    x = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(2))
    assert torch.equal(fresh(x), x)
    open_gammas(fresh)
    assert not torch.allclose(fresh(x), x)


@pytest.mark.parametrize("block", BLOCKS)
def test_gamma_start_adds_the_attention_and_changes_no_other_weight(block):
    blocks, following = [], []
    for start in ({}, {"gamma_start": 1}):
        torch.manual_seed(0)
        blocks.append(block(16, **start))
        following.append(torch.rand(1))  # the stream of random numbers is at the same place
    assert torch.equal(*following)
    published, awake = blocks
    x = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(2))
    assert not torch.allclose(awake(x), x)
    open_gammas(published, 1.0)
    assert all(map(torch.equal, published.state_dict().values(), awake.state_dict().values()))
    assert torch.equal(awake(x), published(x))


def test_gamma_start_1_is_the_equation():
    """x plus softmax(x x^T) x of channels, with the sign of the published code."""
    x = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(2))
    flat = x.flatten(2)
    expected = flat + torch.softmax(-flat @ flat.mT, -1) @ flat
    torch.testing.assert_close(ChannelBlock(16, gamma_start=1.0)(x).flatten(2), expected)


@pytest.mark.parametrize(
    ("name", "wiring"),
    [(n, {}) for n in ATTENTION] + [(n, {"wiring": "published"}) for n in ("danet", "fla")],
)
def test_gamma_start_reaches_every_block_and_is_0_where_nothing_is_set(name, wiring):
    for knobs, expected in (({}, 0.0), ({"gamma_start": 0.25}, 0.25)):
        blocks = gamma_blocks(build_head(name, 8, 3, channels=16, **wiring, **knobs))
        assert blocks
        assert {float(block.gamma.detach()) for block in blocks.values()} == {expected}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ATTENTION)
def test_block_says_how_much_its_attention_adds_to_each_image(name, autocast):
    head = build_head(name, 8, 3, channels=16).eval()
    open_gammas(head)
    blocks = gamma_blocks(head)
    assert {f"{block}.gamma" for block in blocks} == {
        key for key, _ in head.named_parameters() if key.endswith("gamma")
    }
    x = torch.randn(2, 8, 6, 7, generator=torch.Generator().manual_seed(0))
    shares = {}
    handles = watch_blocks(
        head, lambda block, *passed: shares.setdefault(block, block_share(*passed))
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        reduced = head.reduce(x).float()
        whole = head.block(reduced)
    for handle in handles:
        handle.remove()
    assert shares.keys() == blocks.keys()
    assert all(share.shape == (2,) and (share > 0).all() for share in shares.values())
    added = (whole - reduced).flatten(1).norm(dim=1) / reduced.flatten(1).norm(dim=1)
    if len(blocks) == 1:  # each of several blocks counts against its own input
        torch.testing.assert_close(shares["block"], added)
    assert not any(module._forward_hooks for module in head.modules())


def test_shares_of_parallel_blocks_count_what_each_adds():
    """The residual of the channel block is the result of the spatial one."""
    head = build_head("danet", 8, 3, channels=16, gamma_start=1.0).eval()
    shares, x = {}, torch.randn(2, 16, 6, 7, generator=torch.Generator().manual_seed(0))
    watch_blocks(head, lambda block, *passed: shares.update({block: block_share(*passed)}))
    with torch.no_grad():
        head.block(x)
        for name in ("spatial", "channel"):
            added = getattr(head.block, name)(x) - x
            expected = added.flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
            torch.testing.assert_close(shares[f"block.{name}"], expected)


def test_any_module_with_a_gamma_is_measured():
    class Foreign(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x + self.gamma * x

    shares = []
    head = nn.Sequential(nn.Conv2d(3, 3, 1), Foreign())
    watch_blocks(head, lambda name, *passed: shares.append((name, block_share(*passed))))
    head(torch.randn(2, 3, 4, 5))
    ((name, share),) = shares
    assert name == "1"
    torch.testing.assert_close(share, torch.ones(2))


def test_attention_is_float32_under_autocast():
    block = FullBlock(16)
    open_gammas(block)
    x = torch.randn(1, 16, 4, 6, generator=torch.Generator().manual_seed(3))
    expected = block(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(block(x), expected)
        assert block(x.bfloat16()).dtype == torch.float32


def test_danet_published_has_auxiliary_logits_in_training_only():
    head = build_head("danet", 8, 3, channels=16, wiring="published")
    features = torch.randn(2, 8, 4, 4)
    output = head(features)
    assert set(output.aux) == {"spatial", "channel"}
    assert all(logits.shape == output.logits.shape for logits in output.aux.values())
    assert head.eval()(features).aux == {}


def flanet(channels: int = 16, **encoder) -> Segmenter:
    model = Segmenter(
        num_classes=3,
        head={"name": "fla", "channels": channels, "wiring": "published"},
        encoder={"name": "resnet18", "depth": 5, "output_stride": 8} | encoder,
    )
    open_gammas(model)
    return model


@pytest.mark.parametrize("encoder", [{}, {"output_stride": 32}, {"depth": 3}, {"name": "mit_b0"}])
def test_flanet_published_trains_with_its_auxiliary_losses(encoder):
    model = flanet(**({"output_stride": 32} if "name" in encoder else {}), **encoder)
    output = model(images(2, 65, 97))
    assert len(output.aux) == 2
    assert {x.shape for x in (output.logits, *output.aux.values())} == {(2, 3, 65, 97)}
    target = torch.randint(0, 3, (2, 65, 97))
    losses = segmentation_loss(output, target, aux_weight=0.4, class_weights=None, ignore_index=255)
    assert losses.keys() == {"loss", "loss_main", *(f"loss_{name}" for name in output.aux)}
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert model.eval()(images(1, 65, 97)).aux == {}


def test_flanet_published_reads_the_two_stages_before_the_last_at_twice_their_size():
    model = flanet(output_stride=16)
    maps = model.features(images(2, 64, 96))
    assert [(x.shape[1], 64 // x.shape[2]) for x in maps] == [(128, 8), (256, 16), (512, 16)]
    output = model.head(maps[-1], *maps[:-1])
    sizes = {name: tuple(x.shape[2:]) for name, x in output.aux.items()}
    assert sizes == {"stage3": (16, 24), "stage4": (8, 12)}
    assert output.logits.shape[2:] == (8, 12)


def test_flanet_published_without_earlier_maps_has_no_auxiliary_classifiers():
    head = build_head("fla", 8, 3, channels=16, wiring="published")
    output = head(torch.randn(2, 8, 4, 5))
    assert (head.num_earlier, output.aux) == (0, {})
    assert output.logits.shape == (2, 3, 8, 10)
    hrnet = flanet(name="tu-hrnet_w18_small", output_stride=4)
    output = hrnet(images(2, 64, 64))
    assert (output.logits.shape, output.aux) == ((2, 3, 64, 64), {})


def test_fla_in_the_scaffold_is_what_every_other_block_is_in():
    """The weights too: runs and checkpoints from before the published wiring depend on it."""
    heads = []
    for build in (HEADS["fla"], scaffold(FullBlock)):
        torch.manual_seed(0)
        heads.append(build(in_channels=8, num_classes=3, channels=16).state_dict())
    assert heads[0].keys() == heads[1].keys()
    assert all(torch.equal(heads[0][key], heads[1][key]) for key in heads[0])


@pytest.mark.parametrize("name", HEADS)
def test_every_knob_changes_the_head(name):
    plain = sum(p.numel() for p in build_head(name, 8, 3).parameters())
    assert sum(p.numel() for p in build_head(name, 8, 3, channels=32).parameters()) < plain
    dropouts = [m.p for m in build_head(name, 8, 3, dropout=0.3).modules() if hasattr(m, "p")]
    assert dropouts == [0.3] * len(dropouts)
    assert dropouts


@pytest.mark.parametrize("name", ["channel_nl", "cs_nl", "danet"])
def test_energy_reaches_the_channel_block(name):
    head = build_head(name, 8, 3, energy="paper")
    assert [m.energy for m in head.modules() if isinstance(m, ChannelBlock)] == ["paper"]


def test_published_batch_mixing_makes_an_image_depend_on_its_batch():
    features = torch.randn(3, 16, 5, 7, generator=torch.Generator().manual_seed(1))
    block = FullBlock(16, published_batch_mixing=True)
    open_gammas(block)
    together, alone = block(features), torch.cat([block(image[None]) for image in features])
    assert not torch.allclose(together, alone, rtol=0.01)
    block.published_batch_mixing = False
    torch.testing.assert_close(block(features), alone)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("flaa", {}, "unknown head 'flaa'.*channel_nl.*fla.*spatial_nl"),
        ("fla", {"chanels": 8}, "no knob 'chanels'.*channels.*dropout"),
        ("fla", {"energy": "paper"}, "no knob 'energy'"),
        ("fla", {"channels": "many"}, "channels must be int, got 'many'"),
        ("fla", {"channels": 0}, "channels >= 1.*got 0"),
        ("fla", {"dropout": 1.0}, r"dropout in \[0, 1\)"),
        ("fla", {"gamma_start": 1.5}, r"gamma_start in \[0, 1\], got 1.5"),
        ("danet", {"gamma_start": float("nan")}, r"gamma_start in \[0, 1\], got nan"),
        ("cs_nl", {"gamma_start": True}, "gamma_start must be float, got True"),
        ("fcn", {"gamma_start": 1.0}, "no knob 'gamma_start'"),
        ("fla", {"stage_channels": [8]}, "no knob 'stage_channels'"),
        ("fla", {"wiring": "own"}, "wiring must be one of .*scaffold.*published"),
        ("danet", {"wiring": "own"}, "wiring must be one of .*scaffold.*published"),
    ],
)
def test_unknown_name_or_knob_lists_the_choices(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        check_head(name, knobs)
    if "stage_channels" not in knobs:
        with pytest.raises(ValueError, match=message):
            build_head(name, 8, 3, **knobs)
