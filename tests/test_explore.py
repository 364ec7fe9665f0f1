import sys

import pytest
from simulated_runs import edit_result, simulate

from segattn.analysis import compare, display, explore, won_lost
from segattn.runs import Run, load_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    heads = {"channel_nl": {}, "spatial_nl": {"lamp": 0.2}}
    return load_runs(simulate(tmp_path_factory.mktemp("runs"), heads=heads, num_images=30))


def test_the_edges_of_the_test_give_the_comparison_of_the_test(runs):
    tested, again = compare(runs), explore.rebin(runs, size_edges=(4, 12), elongation=5.0)
    assert display.sizes(again).equals(display.sizes(tested))
    assert again.support.equals(tested.support)


def test_other_edges_move_the_objects_and_everything_follows(runs):
    # objects have sides of 2.2, 2.5, 3.1 and 13.7 cells
    moved = explore.rebin(runs, size_edges=(2.4, 3))
    number = moved.support.groupby("group")["objects"].sum()
    assert number["small"] == 30  # the smaller lamp
    assert number["small"] + number["medium"] + number["large"] == 180
    assert moved.published_classes("small") == [2]
    assert compare(runs).published_classes("small") == [1, 2]
    shares = won_lost.won_and_lost(won_lost.object_differences(moved, "spatial_nl", "channel_nl"))
    assert shares.set_index("group").loc["small", "objects"] == 30


def test_another_elongation_moves_the_thin_ones(runs):
    thin = [
        explore.rebin(runs, elongation=e)
        .support.set_index(["class", "group"])
        .loc[("lamp", "thin"), "objects"]
        for e in (5.0, 18.0, 50.0)
    ]
    assert thin == [60, 30, 0]  # 300 px of width 4, 600 px of width 6


def test_the_view_shows_the_numbers_of_its_edges(runs):
    page = explore.bins_view(runs, size_edges=(2.4, 3), elongation=5.0)
    moved = explore.rebin(runs, size_edges=(2.4, 3))
    assert "small &lt; 2.4 cells (19.2 px)" in page
    for cell in display.sizes(moved).to_numpy().ravel():
        assert str(cell) in page
    assert "they are no evidence" in page


def test_impossible_edges_are_a_sentence(runs):
    page = explore.bins_view(runs, size_edges=(12, 12), elongation=5.0)
    assert page.startswith("<p>")
    assert "12" in page


def test_edges_are_tried_by_factors(runs):
    frame = explore.edge_table(runs, factors=(0.5, 1))
    assert frame["edges [cells]"].tolist() == ["2, 6", "4, 12"]
    tested = display.differences_by_size(compare(runs))
    assert frame["small"].tolist()[1] == tested["small"].tolist()[0]


def test_won_and_lost_in_one_row_per_pair(runs):
    (row,) = explore.won_lost_table(compare(runs)).to_dict("records")
    assert (row["head"], row["against"]) == ("channel_nl", "spatial_nl")
    assert row["thin (60)"] == "0 won, 60 lost"


def test_the_clearest_objects_are_named(runs):
    frame = explore.extremes_table(compare(runs), ("spatial_nl", "channel_nl"))
    first = frame.iloc[0]
    assert (first["class"], first["size"]) == ("lamp", "small, thin")
    gain = float(first["IoU spatial_nl"]) - float(first["IoU channel_nl"])
    assert float(first["difference"]) == pytest.approx(gain, abs=0.011)


class Shown(list):
    """What `show` was given; updates replace the last thing."""

    def __call__(self, thing, display_id=False):
        self.append(thing)
        return self

    def update(self, thing):
        self[-1] = thing


@pytest.fixture
def shown(monkeypatch):
    found = Shown()
    monkeypatch.setattr(explore, "show", found)
    return found


def test_sliders_replace_the_view(runs, shown):
    explore.show_bins(runs)  # as tested
    box, view = shown
    edges, _, button = box.children
    assert "small &lt; 4 cells" in view.data
    edges.value = (2.5, 8)
    button.click()
    assert "small &lt; 2.5 cells" in shown[-1].data
    assert len(shown) == 2


def test_sliders_start_at_the_bins_of_the_test(tmp_path, shown):
    simulate(tmp_path, heads={"fcn": {}}, seeds=(0,))
    metric = Run(tmp_path / "fcn-0").result["metric"]
    edit_result(tmp_path / "fcn-0", metric=metric | {"size_edges": [3, 9], "elongation": 4.0})
    explore.show_bins(load_runs(tmp_path))
    edges, thin, _ = shown[0].children
    assert (edges.value, thin.value) == ((3, 9), 4)
    assert "small &lt; 3 cells" in shown[1].data
    with pytest.raises(ValueError, match="no run is finished"):
        explore.show_bins([])


def test_without_ipywidgets_the_view_stands_alone(runs, shown, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    explore.show_bins(runs, size_edges=(4, 12))
    note, view = shown
    assert "pip install ipywidgets" in note.data
    assert "small &lt; 4 cells" in view.data
