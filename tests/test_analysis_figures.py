import numpy as np
import pytest
from simulated_runs import CLASSES, PALETTE, simulate

from segattn.analysis import compare, figures, tables
from segattn.runs import load_runs


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    heads = {"fcn": {}, "fla": {"lamp": 0.1}, "mine": {}}
    return compare(load_runs(simulate(tmp_path_factory.mktemp("runs"), heads=heads)))


def test_size_iou_draws_the_scores_and_says_what_is_missing(comparison):
    panels = figures.size_iou(comparison).axes
    assert [panel.get_title(loc="left") for panel in panels][:2] == ["mIoU", "small objects"]
    drawn = [container.lines[0].get_xdata()[0] for container in panels[0].containers]
    scores = tables.scores(comparison)
    assert drawn == list(scores.loc[scores["measure"] == "mIoU", "value"])
    assert panels[2].texts[0].get_text() == "too few objects"


def test_a_head_keeps_its_colour_without_the_others(comparison, tmp_path):
    def colour(axes):
        return {line.get_label(): line.get_color() for line in axes.get_lines()}["fla"]

    alone = compare(load_runs(simulate(tmp_path, heads={"fla": {}}, seeds=(0,))))
    both = (figures.learning_curves(c).axes[0] for c in (comparison, alone))
    assert len({colour(axes) for axes in both}) == 1


def test_heatmap_annotates_iou_and_difference(comparison):
    upper, lower = figures.class_heatmap(comparison).axes
    frame = tables.class_scores(comparison).pivot(index="head", columns="class", values="value")
    expected = [f"{frame.loc[head, name]:.0f}" for head in comparison.heads for name in CLASSES]
    assert [text.get_text() for text in upper.texts] == expected
    delta = frame.loc["fla", "lamp"] - frame.loc["fcn", "lamp"]
    assert lower.texts[2].get_text() == f"{delta:+.1f}"


def test_heatmap_of_many_classes_is_tall_and_says_the_same(comparison, monkeypatch):
    wide = figures.class_heatmap(comparison).axes
    monkeypatch.setattr(figures, "_MAX_COLUMNS", 2)
    figure = figures.class_heatmap(comparison)
    for flat, tall in zip(wide, figure.axes, strict=True):
        cells = {text.get_position(): text.get_text() for text in flat.texts}
        assert {t.get_position()[::-1]: t.get_text() for t in tall.texts} == cells
    left = figure.axes[0]
    assert [tick.get_text() for tick in left.get_yticklabels()] == CLASSES
    assert [tick.get_text() for tick in left.get_xticklabels()] == comparison.heads


def test_heatmap_of_one_head_has_no_difference(tmp_path):
    alone = compare(load_runs(simulate(tmp_path, heads={"fcn": {}}, seeds=(0,))))
    assert len(figures.class_heatmap(alone).axes) == 1


def test_examples_show_every_head_in_the_colours_of_the_data(comparison):
    figure = figures.examples(comparison)
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles == ["image", "ground truth", "fcn", "fla", "mine"]
    stored = comparison.runs["fcn"][0].examples()
    drawn = figure.axes[1].get_images()[0].get_array()
    label = stored["labels"][0, 10, 10]
    np.testing.assert_array_equal(drawn[10, 10], PALETTE[label])
    assert tuple(drawn[0, 0]) == (255, 255, 255)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [*CLASSES, "void"]


def test_examples_of_different_images_are_refused(tmp_path):
    simulate(tmp_path, heads={"fcn": {}, "fla": {}}, seeds=(0,))
    path = tmp_path / "fla-0" / "examples.npz"
    arrays = dict(np.load(path))
    np.savez(path, **(arrays | {"names": np.array(["a", "b"])}))
    with pytest.raises(ValueError, match="'fla' stored other example images"):
        figures.examples(compare(load_runs(tmp_path)))


def test_learning_curve_is_the_mean_over_seeds(comparison):
    axes = figures.learning_curves(comparison).axes[0]
    line = next(line for line in axes.get_lines() if line.get_label() == "fcn")
    logged = [run.metrics()["val/miou"] for run in comparison.runs["fcn"]]
    np.testing.assert_allclose(line.get_ydata(), 100 * np.mean(logged, axis=0))


def test_heads_without_kept_examples_are_left_out(tmp_path):
    simulate(tmp_path, heads={"fcn": {}, "fla": {}}, seeds=(0,))
    (tmp_path / "fcn-0/examples.npz").unlink()
    figure = figures.examples(compare(load_runs(tmp_path)))
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ["image", "ground truth", "fla"]
    (tmp_path / "fla-0/examples.npz").unlink()
    figure = figures.examples(compare(load_runs(tmp_path)))
    assert "no examples.npz" in figure.texts[0].get_text()
