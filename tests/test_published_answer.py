"""What README and docs/evidence.md promise of the answer on scenes, on the results themselves."""

from pathlib import Path

import pytest

from segattn.analysis import compare, details, tables
from segattn.base.runs import load_runs

RESULTS = Path(__file__).parents[1] / "results"
DECIDED = {"helps", "harms", "no difference"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs():
    return load_runs(RESULTS / "heads-scenes")


def words_of(runs):
    frame = tables.gains(compare(runs)).set_index(["head", "score"])
    return frame[frame["verdict"] != ""]["verdict"]


def contradictions(one, other):
    """Cells that both decide, in different ways."""
    other = other.reindex(one.index)
    both = one.isin(DECIDED) & other.isin(DECIDED)
    return {cell: (one[cell], other[cell]) for cell in one.index[both & (one != other)]}


def test_eight_seeds_decide_most_cells(runs):
    words = words_of(runs)
    assert {len(scores.seeds) for scores in compare(runs).scores.values()} == {8}
    assert words.isin(DECIDED).mean() > 0.5
    assert "two states" not in set(words)  # no head learns in some of its runs only


@pytest.mark.parametrize("seeds", [(0, 1, 2), (3, 4, 5)])
def test_three_seeds_say_what_eight_say_or_leave_it_open(runs, seeds):
    """`make ablation` runs the seeds 0, 1 and 2."""
    six = [run for run in runs if run.result["head"]["name"] not in ("psp", "aspp")]
    few = words_of([run for run in six if run.result["seed"] in seeds])
    assert contradictions(few, words_of(six)) == {}
    helped = few[few.isin(["helps", "harms"])]
    assert len(helped) >= 20


def test_twice_the_training_changes_no_answer_and_moves_gains_by_a_few_points(runs):
    long = compare(load_runs(RESULTS / "heads-scenes-long"))
    frame = details.budgets(compare(runs), long).set_index(["head", "score"])
    assert len(frame) == 50
    moved = frame["moved"].abs().unstack()
    assert moved[["miou", "iou_size/small", "iou_size/medium", "iou_size/large"]].max().max() <= 2
    assert moved.max().max() <= 4  # poles: their outlines are learned more slowly
    assert contradictions(frame["short_word"], frame["long_word"]) == {}
