"""The maps applied to the values of the block give its output, so they are the real attention."""

import numpy as np
import pytest
import torch
from tiny import tiny_config
from tiny_checkpoint import make_images, make_task

from segattn.base.runs import Run
from segattn.models.attention_maps import choose_pixels, collect_attention
from segattn.models.blocks import gamma_blocks
from segattn.models.channel_maps import MAX_CHANNELS
from segattn.models.heads import HEADS, build_head
from segattn.models.heads.ccnet import CrissCrossBlock, criss_cross_attention
from segattn.models.heads.channel_nl import ChannelBlock
from segattn.models.heads.fla import FullBlock, slice_maps
from segattn.models.heads.spatial_nl import SpatialBlock
from segattn.tracking.attention_figures import block_names
from segattn.tracking.media import attention_pictures
from segattn.training.train import train

NO_CELLS = torch.zeros(0, 2, dtype=torch.int64)
KEYS = {
    "spatial": {"gamma", "rows"},
    "channel": {"gamma", "channels", "shown", "channel_maps", "affinity", "weights"},
    "full": {"gamma", "channels", "shown", "channel_maps"}
    | {"column_maps", "row_maps", "over_columns", "over_rows"},
}
BLOCKS = {
    ("fcn", None): {},
    ("channel_nl", None): {"block": "channel"},
    ("spatial_nl", None): {"block": "spatial"},
    ("danet", "scaffold"): {"block.spatial": "spatial", "block.channel": "channel"},
    ("danet", "published"): {"branches.spatial.1": "spatial", "branches.channel.1": "channel"},
    ("cs_nl", None): {"block.0": "channel", "block.1": "spatial"},
    ("fla", "scaffold"): {"block": "full"},
    ("fla", "published"): {"block": "full"},
    ("ccnet", None): {"block": "spatial"},
}


def features(channels=6, height=5, width=7):
    torch.manual_seed(1)
    return torch.randn(1, channels, height, width)


def ready(block):
    """The block with gamma 1, so that its output minus its input is the attention."""
    block.gamma.data.fill_(1.0)
    return block.eval()


def arrays(maps):
    return {key: values.detach().numpy() for key, values in maps.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run of danet with checkpoint, examples and attention."""
    return train(tiny_config(tmp_path_factory.mktemp("finished"), "head=danet"))


def test_every_head_whose_blocks_have_maps_is_tested_here():
    blocks = {name: gamma_blocks(build_head(name, 8, 3)).values() for name in HEADS}
    with_maps = {name for name, own in blocks.items() if any(hasattr(b, "maps") for b in own)}
    assert with_maps | {"fcn"} == {head for head, _ in BLOCKS}


@torch.no_grad()
def test_spatial_rows_applied_to_the_values_are_the_attention():
    block, x = ready(SpatialBlock(6, implementation="reference")), features()
    cells = torch.tensor([[0, 0], [4, 6], [2, 3]])
    rows = block.maps(x, cells)["rows"]
    expected = (block(x) - x)[0, :, cells[:, 0], cells[:, 1]]
    assert torch.allclose(block.value(x)[0].flatten(1) @ rows.flatten(1).T, expected, atol=1e-5)
    assert torch.allclose(rows.sum((1, 2)), torch.ones(3))


@torch.no_grad()
@pytest.mark.parametrize("energy", ["published", "paper"])
def test_channel_affinity_applied_to_the_features_is_the_attention(energy):
    block, x = ready(ChannelBlock(6, energy=energy, implementation="reference")), features()
    attention = block.affinity(x) @ x[0].flatten(1)
    assert torch.allclose(attention.view_as(x[0]), (block(x) - x)[0], atol=1e-5)


@torch.no_grad()
def test_slice_maps_applied_to_the_features_are_the_attention():
    block, x = ready(FullBlock(6, implementation="reference")), features()
    columns, column_context = block.columns(x)
    rows, row_context = block.rows(x)
    by_column = (slice_maps(columns, column_context) @ columns).permute(1, 2, 0)
    by_row = (slice_maps(rows, row_context) @ rows).permute(1, 0, 2)
    assert torch.allclose(by_column + by_row, (block(x) - x)[0], atol=1e-5)


@torch.no_grad()
def test_criss_cross_rows_are_those_of_the_product_of_both_loops():
    """Dense maps [N, N] from the block's own equation: values that are 1 at one position."""
    block, x = ready(CrissCrossBlock(6)), features()
    cells = torch.tensor([[0, 0], [4, 6], [2, 3]])
    product = torch.eye(35)
    for _ in range(2):
        key, query = block.key(x), block.query(x)
        one_hot = torch.eye(35).view(1, 35, 5, 7)
        dense = criss_cross_attention(
            query, key, one_hot, gamma=torch.ones(1), residual=torch.zeros(1)
        )
        product = dense[0].flatten(1).T @ product
        x = block.loop(x, x)
    expected = product[cells[:, 0] * 7 + cells[:, 1]].view(3, 5, 7)
    rows = block.maps(features(), cells)["rows"]
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(rows.sum((1, 2)), torch.ones(3))
    assert (rows > 0).all()


@pytest.mark.parametrize(("head", "wiring"), BLOCKS)
def test_collects_what_the_table_says(tmp_path, head, wiring):
    task = make_task(tmp_path, head, wiring=wiring)
    pixels = np.array([[[0, 0], [43, 59], [20, 8]]] * 2)
    attention = collect_attention(task.model, make_images(), pixels=pixels)
    kinds = BLOCKS[head, wiring]
    own = {f"{block}/{key}" for block, kind in kinds.items() for key in KEYS[kind]}
    assert set(attention) == (own | {"pixels", "stride"} if own else set())
    assert block_names(attention) == list(kinds)
    h, w = 6, 8  # 44 x 60 px, padded, in cells of 8 px
    shapes = {"rows": (2, 3, h, w), "affinity": (2, 8, 8), "column_maps": (2, 3, 8, 8)}
    shapes |= {"row_maps": (2, 3, 8, 8), "over_columns": (2, 3, 8, w), "over_rows": (2, 3, 8, h)}
    for key in own:
        name = key.split("/")[1]
        if name in shapes:
            assert attention[key].shape == shapes[name]
            assert attention[key].dtype == np.float16
    for axis, name in ((-1, "affinity"), (-1, "row_maps"), (2, "over_columns"), (2, "over_rows")):
        for key in own & {f"{block}/{name}" for block in kinds}:
            np.testing.assert_allclose(attention[key].astype(float).sum(axis), 1, atol=4e-3)


@pytest.mark.parametrize("head", ["danet", "cs_nl", "fla"])
def test_maps_are_those_of_the_features_that_reach_the_block(tmp_path, head):
    """The features are taken here by other means: the scaffold's own modules."""
    task, image = make_task(tmp_path, head), make_images(1)
    pixel = np.array([[[20, 35]]])
    attention = collect_attention(task.model, image, pixels=pixel)
    block, cell = task.model.head.block, torch.tensor([[2, 4]])
    with torch.no_grad():
        x = task.model.head.reduce(task.model.features(image)[-1])
        if head == "fla":
            order = attention["block/channels"][0]
            expected = slice_maps(*block.columns(x))[4][order][:, order]
            found = attention["block/column_maps"][0, 0]
            row = slice_maps(*block.rows(x))[:, attention["block/shown"][0, 1, 0]]
            np.testing.assert_allclose(
                attention["block/over_rows"][0, 1], row[:, order].T, atol=1e-3
            )
        elif head == "danet":
            expected = block.spatial.maps(x, cell)["rows"]
            found = attention["block.spatial/rows"][0]
        else:
            expected = block[1].maps(block[0](x), cell)["rows"]
            found = attention["block.1/rows"][0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_task_stays_as_it_is(tmp_path):
    task, images = make_task(tmp_path, "danet").train(), make_images()
    before = {key: value.clone() for key, value in task.state_dict().items()}
    state = torch.get_rng_state()
    collect_attention(task.model, images, pixels=np.zeros((2, 1, 2), dtype=np.int64))
    assert task.training
    assert all(torch.equal(value, before[key]) for key, value in task.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in task.modules())


def test_attention_is_exact_under_autocast(tmp_path, monkeypatch):
    task = make_task(tmp_path, "spatial_nl")
    seen = []
    maps = SpatialBlock.maps

    def spy(block, x, cells):
        seen.append((x.dtype, block.query(x).dtype))
        return maps(block, x, cells)

    monkeypatch.setattr(SpatialBlock, "maps", spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        collect_attention(task.model, make_images(1), pixels=np.zeros((1, 1, 2), dtype=np.int64))
    assert seen == [(torch.float32, torch.float32)]


def test_alike_channels_stand_together_and_the_strongest_are_kept():
    torch.manual_seed(0)
    x = torch.rand(1, 100, 3, 4) * 0.01
    strong = torch.tensor([0, 0, 0, 1, 1, 1]).repeat(10)  # two kinds, in turns of three
    x[0, :60] = torch.eye(12)[strong].view(60, 3, 4) * torch.rand(60, 1, 1).add(0.5)
    maps = arrays(ChannelBlock(100).maps(x, NO_CELLS))
    kept = maps["channels"].tolist()
    assert len(kept) == MAX_CHANNELS
    assert set(range(60)) <= set(kept)
    kinds = [int(strong[c]) for c in kept if c < 60]
    assert np.count_nonzero(np.diff(kinds)) == 1
    own, most, least = maps["shown"][0]
    assert own < 60
    assert most < 60
    assert strong[own] == strong[most]
    assert least != own
    assert maps["weights"][0, 2] > maps["weights"][0, 1]  # the published sign
    assert (maps["channel_maps"][0].reshape(3, -1).max(1) == 1).all()


def test_dead_and_few_channels_and_nan_do_no_harm():
    for x in (torch.zeros(1, 5, 3, 4), torch.ones(1, 1, 3, 4), torch.full((1, 5, 3, 4), torch.nan)):
        maps = arrays(ChannelBlock(x.shape[1]).maps(x, NO_CELLS))
        assert sorted(maps["channels"]) == list(range(x.shape[1]))


def test_pixels_lie_inside_objects_from_small_to_large():
    label = np.full((60, 80), 255, dtype=np.uint8)
    label[:30], label[40:50, 10:20], label[35:55, 40:70] = 0, 1, 2
    label[58:, 0:3] = 3  # too small to count
    label[56:60, 60:64] = 1  # the smaller of its class
    (pixels,) = choose_pixels(label[None])
    assert [label[row, column] for row, column in pixels[:3]] == [1, 2, 0]
    assert pixels.shape == (4, 2)
    assert pixels[3].tolist() == [15, 20]  # filled up
    assert 43 <= pixels[0, 0] <= 46  # deep inside
    assert 13 <= pixels[0, 1] <= 16


def test_image_without_objects_has_fixed_pixels():
    void = np.full((1, 40, 60), 255, dtype=np.uint8)
    assert choose_pixels(void)[0].tolist() == [[10, 15], [10, 45], [30, 15], [30, 45]]


@pytest.mark.parametrize("pixel", [(44, 0), (0, 60), (-1, 3)])
def test_pixel_outside_the_image_is_refused(tmp_path, pixel):
    task = make_task(tmp_path, "spatial_nl")
    with pytest.raises(ValueError, match=rf"pixel \({pixel[0]}, {pixel[1]}\).*44 x 60"):
        collect_attention(task.model, make_images(1), pixels=np.array([[pixel]]))


def test_run_keeps_attention_and_gives_pictures(finished):
    attention = finished.attention()
    assert len(attention["pixels"]) == len(finished.examples()["names"]) == 2
    assert finished.attention_path.stat().st_size < 100_000
    names = finished.examples()["names"].tolist()
    pictures = attention_pictures(finished)
    assert list(pictures) == [f"{n} block.{kind}" for n in names for kind in ("spatial", "channel")]
    assert all(p.dtype == np.uint8 and p.shape[2] == 3 for p in pictures.values())
    assert len(attention_pictures(finished, num_images=1)) == 2


def test_damaged_attention_is_named(tmp_path):
    run = Run(tmp_path)
    run.attention_path.write_bytes(b"none")
    with pytest.raises(ValueError, match=r"cannot read .*attention\.npz"):
        run.attention()
