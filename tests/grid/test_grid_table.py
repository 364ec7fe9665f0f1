"""What a driver shows: progress, time left, and a table that fits."""

import re
import time

import pytest

from segattn.base.runs import Run
from segattn.grid import Cell, table


def _cell(folder, *, state, seconds=0.0, started=0.0, first_epoch=0, epoch=0):
    folder.mkdir()
    (folder / "status.json").write_text(
        f'{{"state": "running", "epoch": {epoch}, "max_epochs": 10, "updated": {time.time()}}}'
    )
    cell = Cell([], {}, Run(folder), state=state)
    cell.seconds, cell.started, cell.first_epoch = seconds, started, first_epoch
    return cell


def test_time_left_counts_what_runs_and_what_waits(tmp_path):
    now = time.time()
    assert table.seconds_left([_cell(tmp_path / "x", state="pending")], jobs=1) is None
    # 3 epochs in 30 s since it was resumed at epoch 4: 3 more take 30 s
    running = _cell(tmp_path / "a", state="running", started=now - 30, first_epoch=4, epoch=7)
    assert table.seconds_left([running], jobs=1) == pytest.approx(30, abs=1)
    waiting = [_cell(tmp_path / name, state="pending") for name in "bcd"]
    assert table.seconds_left([running, *waiting], jobs=2) == pytest.approx(105, abs=2)
    done = _cell(tmp_path / "e", state="done", seconds=100)
    assert table.seconds_left([done, running, *waiting], jobs=2) == pytest.approx(165, abs=2)
    assert table.seconds_left([done], jobs=2) == 0
    assert [table.duration(s) for s in (45, 720, 12000)] == ["45 s", "12 min", "3 h 20 min"]


def test_a_table_that_does_not_fit_shows_what_matters_now(tmp_path):
    cells = [_cell(tmp_path / str(number), state="done", seconds=1) for number in range(20)]
    cells[17].state = "failed"
    cells[3].state, cells[3].started = "running", time.time()
    shown = table._table(cells, 1, room=3)
    assert list(shown.columns[0].cells) == ["3", "17", "0"]
    assert shown.caption == "and 17 more"
    assert re.match(r"18 of 20 cells done, 1 failed, about \d+ s left", shown.title)
