"""What a driver shows: progress and time left."""

from segattn.base.runs import Run
from segattn.grid import Cell, table


def _cell(folder, state, epoch=0):
    folder.mkdir()
    (folder / "status.json").write_text(
        f'{{"state": "running", "epoch": {epoch}, "max_epochs": 10, "score": {{"val/miou": 0.5}}}}'
    )
    return Cell([], {}, Run(folder), state=state)


def test_time_left_follows_from_the_pace_so_far(tmp_path):
    cells = [_cell(tmp_path / name, "pending") for name in "abcd"]
    assert table.time_left(cells, 0, elapsed=5) == ""
    cells[0].state = cells[1].state = "done"
    assert table.time_left(cells, 0, elapsed=60) == ", about 0:01:00 left"
    # one was over when the driver started: one more took 60 s, two take 120 s
    assert table.time_left(cells, 1, elapsed=60) == ", about 0:02:00 left"
    for cell in cells:
        cell.state = "failed"
    assert table.time_left(cells, 0, elapsed=60) == ""


def test_the_table_shows_first_what_runs_also_beside_a_damaged_file(tmp_path):
    cells = [_cell(tmp_path / str(number), "done", epoch=10) for number in range(4)]
    cells[2].state, cells[3].state = "failed", "running"
    cells[2].run.status_path.write_text("{")
    shown = table.table(cells)
    assert list(shown.columns[0].cells) == ["3", "2", "0", "1"]
    assert list(shown.columns[2].cells) == ["10/10", "", "10/10", "10/10"]
    assert list(shown.columns[3].cells) == ["val/miou 0.500", "", *["val/miou 0.500"] * 2]
    assert shown.title == "2 of 4 cells done, 1 failed"
