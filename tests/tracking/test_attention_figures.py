"""The figures of attention show every block, and labels stand where they can be read."""

import numpy as np
import pytest
from tiny_checkpoint import make_images, make_task

from segattn.models.attention_maps import collect_attention
from segattn.tracking.attention_figures import attention_figure, block_names
from segattn.tracking.figures import figure_pixels


@pytest.mark.parametrize("head", ["danet", "fla"])
@pytest.mark.parametrize("num_pixels", [1, 4])
def test_figures_show_every_block(tmp_path, head, num_pixels):
    task, images = make_task(tmp_path, head), make_images(1)
    pixels = np.array([[[5, 5], [40, 50], [20, 30], [9, 2]][:num_pixels]])
    attention = collect_attention(task.model, images, pixels=pixels)
    for block in block_names(attention):
        figure = attention_figure(
            attention, block, index=0, image=images[0].permute(1, 2, 0).numpy(), titles=()
        )
        assert figure.get_suptitle() == f"{block}, gamma +0.500"
        assert figure_pixels(figure).std() > 10
        boxes = [axes.get_position() for axes in figure.axes]
        assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)


@pytest.mark.parametrize("pixel", [(0, 0), (0, 43), (29, 0), (29, 43)])
def test_number_of_a_pixel_stays_inside_its_panel(pixel):
    attention = {"b/gamma": np.float32(1), "b/rows": np.ones((1, 1, 4, 6)), "stride": np.int64(8)}
    attention["pixels"] = np.array([[pixel]])
    figure = attention_figure(attention, "b", index=0, image=np.zeros((30, 44, 3), np.uint8))
    figure_pixels(figure)
    for axes in figure.axes[:2]:
        label, panel = axes.texts[0].get_window_extent(), axes.get_window_extent()
        assert panel.x0 <= label.x0 <= label.x1 <= panel.x1
        assert panel.y0 <= label.y0 <= label.y1 <= panel.y1


@pytest.mark.parametrize(("head", "maps"), [("danet", 9), ("fla", 3), ("spatial_nl", 1)])
def test_colours_of_a_map_are_those_of_its_bar(tmp_path, head, maps):
    """One opacity and a map of colours that weights do not have; both have a bar."""
    images, pixels = make_images(1), np.array([[[5, 5]]])
    attention = collect_attention(make_task(tmp_path, head).model, images, pixels=pixels)
    block = next(b for b in block_names(attention) if b != "block.spatial")
    figure = attention_figure(attention, block, index=0, image=images[0].permute(1, 2, 0).numpy())
    shown = [image for axes in figure.axes for image in axes.images if image.get_array().ndim == 2]
    over = [image for image in shown if image.get_cmap().name == "viridis"]
    assert len(over) == maps
    assert {image.get_alpha() for image in over} == {over[0].get_alpha()}
    texts = [axes.get_xlabel() for axes in figure.axes]
    assert any(text.endswith("over its largest") for text in texts)
    assert any("logarithmic" in text for text in texts) == (head != "spatial_nl")


def test_strips_of_full_attention_name_their_axes(tmp_path):
    images, pixels = make_images(1), np.array([[[5, 5]]])
    attention = collect_attention(make_task(tmp_path, "fla").model, images, pixels=pixels)
    figure = attention_figure(attention, "block", index=0, image=images[0].permute(1, 2, 0).numpy())
    names = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert names.count(("image column", "channel")) == names.count(("channel", "image row")) == 3
    assert names.count(("channel that it draws from", "channel")) == 2


def test_spatial_panel_shows_the_map_where_it_is(tmp_path):
    """A map that is one in a corner cell colours that corner of the panel and leaves the rest."""
    rows = np.zeros((1, 1, 4, 6), dtype=np.float16)
    rows[0, 0, 3, 5] = 1
    attention = {"pixels": np.array([[[2, 2]]]), "stride": np.array(8)}
    attention |= {"b/gamma": np.float32(1), "b/rows": rows}
    figure = attention_figure(attention, "b", index=0, image=np.zeros((30, 44, 3), np.uint8))
    panel = figure.axes[1]
    overlay = panel.images[1]
    assert list(overlay.get_extent()) == [0, 48, 32, 0]
    assert panel.get_xlim() == (0, 44)
    assert panel.get_ylim() == (30, 0)
    assert overlay.get_array().argmax() == 23
    assert panel.get_title().startswith("1, half of it in 4.2% of the image")
