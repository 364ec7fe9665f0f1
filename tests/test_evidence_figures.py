"""The figures show the numbers of their tables, and say where there is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import AxLine
from simulated_runs import simulate
from test_curves import sized_runs

from segattn.analysis import compare, evidence_figures, tables
from segattn.analysis.curves import size_curve
from segattn.runs import load_runs

FIXTURE = Path(__file__).parent / "fixture" / "runs"
LARGE, THIN = "large(channel_nl) - large(spatial_nl) > 0", "thin(fla) - thin(danet) > -1"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return compare(load_runs(sized_runs(tmp_path_factory.mktemp("runs"))))


def curves_of(axes):
    """Label to curve; the lines of size edges and of zero have no label."""
    return {line.get_label(): line for line in axes.get_lines() if line.get_label()[0] != "_"}


def test_size_curves_draw_the_values_and_the_differences_of_every_head(comparison):
    left, right = evidence_figures.size_curves(comparison, classes="common").axes
    frame = size_curve(comparison, classes="common")
    for axes, column, heads in ((left, "value", 3), (right, "difference", 2)):
        drawn = curves_of(axes)
        assert len(drawn) == heads
        for head, line in drawn.items():
            rows = frame[frame["head"] == head]
            np.testing.assert_array_equal(line.get_xdata(), rows["centre"])
            np.testing.assert_array_equal(line.get_ydata(), rows[column])
    assert "fcn" not in curves_of(right)
    assert right.get_ylabel() == "IoU minus that of fcn [points]"


def test_band_wider_than_iou_can_be_does_not_stretch_the_axis():
    runs = load_runs(FIXTURE)
    low = size_curve(compare(runs))["low95"].min()
    assert low < -10  # of two seeds
    left, _ = evidence_figures.size_curves(compare(runs)).axes
    bottom, top = left.get_ylim()
    assert -5 < bottom < top < 105


def test_size_curves_have_bands_size_edges_and_ticks_in_cells(comparison):
    figure = evidence_figures.size_curves(comparison, classes="common")
    left = figure.axes[0]
    frame = size_curve(comparison, classes="common")
    bands = [c for c in left.collections if isinstance(c, PolyCollection)]
    heights = bands[2].get_paths()[0].vertices[:, 1]
    fla = frame[frame["head"] == "fla"]
    assert (heights.min(), heights.max()) == (fla["low95"].min(), fla["high95"].max())
    upright = [line.get_xdata()[0] for line in left.get_lines() if line.get_label()[0] == "_"]
    assert upright == [4.0]  # 12 is right of the last bin
    assert [text.get_text() for text in left.texts] == ["small", "medium"]
    assert left.xaxis.get_major_formatter()(4.0) == "4"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == comparison.heads
    assert "road, bus" in figure.get_suptitle()


def test_a_size_that_only_begins_on_the_axis_has_its_word_at_the_edge(tmp_path):
    sides = {"road": (2.3, 3.3, 12.5), "bus": (2.3, 3.3, 12.5)}
    left = evidence_figures.size_curves(compare(load_runs(sized_runs(tmp_path, sides)))).axes[0]
    word = left.texts[-1]
    assert (word.get_text(), word.get_ha()) == ("large", "right")
    assert word.get_position()[0] == left.get_xlim()[1] < 12 * 2**0.6


def test_a_curve_breaks_where_a_size_was_left_out(comparison):
    left = evidence_figures.size_curves(comparison, classes="all").axes[0]
    frame = size_curve(comparison)
    bins = frame.loc[frame["head"] == "fla", "bin"]
    missing = bins.max() - bins.min() + 1 - len(bins)
    assert missing > 0
    assert np.isnan(curves_of(left)["fla"].get_ydata()).sum() == missing
    bars = [c for c in left.collections if isinstance(c, LineCollection)]
    ends = {tuple(s[:, 1]) for s in bars[2].get_segments() if len(s)}  # also of a lone point
    fla = frame[frame["head"] == "fla"]
    assert set(zip(fla["low95"], fla["high95"], strict=True)) <= ends


def test_size_curves_say_that_no_classes_are_common(tmp_path):
    comparison = compare(load_runs(simulate(tmp_path, heads={"fcn": {}, "fla": {}}, seeds=(0,))))
    figure = evidence_figures.size_curves(comparison, classes="common")
    assert "no two classes share" in figure.get_suptitle()


def test_one_head_has_no_difference_to_draw(tmp_path):
    alone = compare(load_runs(sized_runs(tmp_path, heads=("fcn",), seeds=(0,))))
    left, right = evidence_figures.size_curves(alone).axes
    assert list(curves_of(left)) == ["fcn"]
    assert right.texts[0].get_text() == "too few objects or heads"
    (axes,) = evidence_figures.thin_against_compact(alone).axes
    assert axes.texts[0].get_text() == "too few objects or heads"


def test_thin_against_compact_places_heads_at_their_differences(tmp_path):
    heads = {"fcn": {}, "danet": {"road": 0.1}, "fla": {"lamp": 0.1}}
    comparison = compare(load_runs(simulate(tmp_path, heads=heads)))
    figure = evidence_figures.thin_against_compact(comparison)
    axes = figure.axes[0]
    frame = tables.differences(comparison).set_index(["head", "measure"])
    across, upright, marker = axes.get_lines()[3:6]
    x, y = frame.loc[("fla", "compact")], frame.loc[("fla", "thin")]
    assert (marker.get_xdata()[0], marker.get_ydata()[0]) == (x["value"], y["value"])
    assert list(across.get_xdata()) == [x["low"], x["high"]]
    assert list(upright.get_ydata()) == [y["low"], y["high"]]
    assert y["value"] > x["value"]  # so it lies above the diagonal
    (diagonal,) = (line for line in axes.get_lines() if isinstance(line, AxLine))
    assert (diagonal.get_xy1(), diagonal.get_slope()) == ((0, 0), 1)
    assert "above the diagonal" in axes.texts[0].get_text()
    assert axes.get_xlim() == axes.get_ylim()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["danet", "fla"]


def evidence(*rows):
    columns = ["experiment", "claim", "condition", "reading", "value", "low", "high"]
    columns += ["threshold", "smallest", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def two_experiments():
    nan = float("nan")
    rows = [
        ("scenes", "H1", LARGE, "objects", 2.0, 1.0, 3.0, 0.0, 1.0, "SUPPORTED"),
        ("scenes", "H1", LARGE, "classes", 1.0, -0.5, 2.5, 0.0, 1.0, "INCONCLUSIVE"),
        ("scenes", "H5", THIN, "objects", 0.2, -0.3, 0.7, -1.0, 0.5, "SUPPORTED"),
        ("scenes", "H5", THIN, "classes", 0.3, -0.4, 1.0, -1.0, 0.5, "SUPPORTED"),
        ("camvid", "H1", LARGE, "objects", -1.0, -40.0, 38.0, 0.0, 1.0, "INCONCLUSIVE"),
        ("camvid", "H1", LARGE, "classes", nan, nan, nan, 0.0, 1.0, "NOT TESTED"),
        ("camvid", "H5", THIN, "objects", nan, nan, nan, -1.0, 0.5, "NOT TESTED"),
        ("camvid", "H5", THIN, "classes", nan, nan, nan, -1.0, 0.5, "NOT TESTED"),
    ]
    return evidence(*rows)


def points_of(axes, *, fill):
    """Positions of the markers of one reading, from top to bottom."""
    marks = [m for m in axes.get_lines() if m.get_marker() == "o" and m.get_fillstyle() == fill]
    return sorted(((m.get_xdata()[0], m.get_ydata()[0]) for m in marks), key=lambda at: at[1])


def test_forest_has_a_panel_per_experiment_and_a_row_per_condition_under_its_claim():
    figure = evidence_figures.forest(two_experiments())
    left, right = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["scenes", "camvid"]
    labels = [(t.get_text(), t.get_fontweight()) for t in left.get_yticklabels()]
    bold, normal = "bold", "normal"
    assert labels == [("H1", bold), (LARGE, normal), ("H5", bold), (THIN, normal)]
    assert left.get_ylim() == right.get_ylim()
    assert left.get_xlim() == right.get_xlim()
    assert figure.get_figwidth() <= 12


def test_forest_marks_objects_filled_and_classes_hollow_on_the_same_row():
    axes = evidence_figures.forest(two_experiments()).axes[0]
    filled, hollow = points_of(axes, fill="full"), points_of(axes, fill="none")
    assert [x for x, _ in filled] == [2.0, 0.2]
    assert [x for x, _ in hollow] == [1.0, 0.3]
    rows = [axes.get_yticks()[k] for k in (1, 3)]
    for (_, above), (_, below), middle in zip(filled, hollow, rows, strict=True):
        assert above < middle < below
        assert below - above < 0.2
    spans = [tuple(line.get_xdata()) for line in axes.get_lines()]
    assert {(1.0, 3.0), (-0.5, 2.5), (-0.3, 0.7), (-0.4, 1.0)} <= set(spans)


def test_forest_shows_threshold_and_negligible_effects_of_each_row():
    axes = evidence_figures.forest(two_experiments()).axes[0]
    ticks = [list(m.get_xdata()) for m in axes.get_lines() if m.get_color() == "black"]
    assert ticks == [[0.0, 0.0], [-1.0, -1.0]]
    bands = [p for p in axes.patches if p.get_facecolor() != (1, 1, 1, 1)]
    extents = [(p.get_x(), p.get_x() + p.get_width()) for p in bands]
    assert extents == [(-1.0, 1.0), (-0.5, 0.5)]


def test_forest_clips_a_long_interval_with_arrows_but_never_a_value():
    frame = two_experiments()
    near, far = evidence_figures.forest(frame).axes
    reach = near.get_xlim()[1]
    assert frame["value"].abs().max() < reach < 38
    arrows = {m.get_marker(): m.get_xdata()[0] for m in far.get_lines() if m.get_marker() in "<>"}
    assert arrows == {"<": -reach, ">": reach}
    assert (-reach, reach) in [tuple(line.get_xdata()) for line in far.get_lines()]
    assert not [m for m in near.get_lines() if m.get_marker() in ("<", ">")]


def test_forest_says_what_was_not_tested_and_under_which_reading():
    near, far = evidence_figures.forest(two_experiments()).axes
    texts = [text.get_text() for text in far.texts]
    hollow = "\u25cb"
    assert texts == [
        f"\u25cf INCONCLUSIVE\n{hollow} NOT TESTED",
        f"{hollow} not tested",
        f"\u25cf NOT TESTED\n{hollow} NOT TESTED",
        "not tested",
    ]
    assert not [text for text in near.texts if "not tested" in text.get_text()]


def test_forest_of_an_experiment_without_a_condition_says_not_tested():
    frame = two_experiments()
    frame = frame[(frame["experiment"] == "scenes") | (frame["claim"] == "H1")]
    far = evidence_figures.forest(frame).axes[1]
    assert far.texts[-1].get_text() == "not tested"


def test_forest_greys_conditions_that_decide_nothing():
    frame = two_experiments().assign(decides=lambda f: f["claim"] == "H1")
    labels = evidence_figures.forest(frame).axes[0].get_yticklabels()
    assert [t.get_color() for t in labels[1::2]] == ["black", "#777777"]


def test_a_forest_of_untested_claims_can_be_drawn():
    frame = two_experiments().assign(value=np.nan, low=np.nan, high=np.nan)
    far = evidence_figures.forest(frame).axes[1]
    assert [t.get_text() for t in far.texts[1::2]] == ["not tested", "not tested"]
