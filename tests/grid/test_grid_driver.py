"""Drivers at work on grids of stand-in cells: failures, interruptions, rivals, slots, the table."""

import errno
import runpy
import signal
import sys
import threading

import pytest
import yaml
from driven_grid import DrivenGrid, ablate_main
from processes import alive, wait_for
from tiny import EXPERIMENTS

from segattn.analysis import report
from segattn.base.lock import is_held
from segattn.grid import default_jobs, local, run_grid

ALL = ["fcn-0", "fcn-1", "fla-0", "fla-1"]


@pytest.fixture
def grid(tmp_path):
    return DrivenGrid(tmp_path)


def test_all_cells_run_once_and_are_then_skipped(grid, capsys):
    cells, failed = grid.run()
    assert failed == []
    assert [cell.state for cell in cells] == ["done"] * 4
    assert grid.work("done") == ALL
    out = capsys.readouterr().out
    assert "fla-resnet18-scenes-s1 done" in out
    assert "(4 of 4 cells done)" in out
    _, failed = grid.run("seed=0,1,2")
    assert failed == []
    assert len(grid.work("started")) == 6  # only the two new cells


def test_failed_and_killed_cells_leave_the_others_alone_and_wait_to_be_asked_for(grid, capsys):
    for name, fault in (("fcn-0", "error"), ("fla-1", "SIGKILL")):
        (grid.folder / f"fault-{name}").write_text(fault)
    cells, failed = grid.run()
    assert [cell.state for cell in cells] == ["failed", "done", "done", "failed"]
    assert failed[0].error == "ValueError: bad"
    assert failed[1].error == "killed (SIGKILL); the machine has probably run out of memory"
    assert failed[1].run.status["state"] == "failed"
    assert "fcn-resnet18-scenes-s0 failed: ValueError: bad (see " in capsys.readouterr().out
    assert "error: bad" in failed[0].run.log_path.read_text()
    for fault in grid.folder.glob("fault-*"):
        fault.unlink()
    _, again = grid.run()
    assert [cell.error for cell in again] == [cell.error for cell in failed]
    assert len(grid.work("started")) == 4
    _, failed = grid.run(retry_failed=True)
    assert failed == []
    assert grid.work("done") == ALL


def test_a_cell_that_dies_after_its_result_is_done_and_leaves_nothing_running(grid):
    (grid.folder / "fault-fcn-0").write_text("at exit")
    cells, failed = grid.run()
    assert failed == []
    assert [cell.state for cell in cells] == ["done"] * 4
    assert cells[0].run.status["state"] == "done"
    child = int((cells[0].run.path / "child.txt").read_text())
    wait_for(lambda: not alive(child))


def test_a_cell_ended_from_outside_goes_on_with_the_same_command(grid, capsys):
    (grid.folder / "fault-fcn-0").write_text("SIGTERM")
    cells, ended = grid.run()
    assert ended == cells[:1]
    assert ended[0].state == "interrupted"
    assert "fcn-resnet18-scenes-s0 interrupted: ended by a signal" in capsys.readouterr().out
    (grid.folder / "fault-fcn-0").unlink()
    _, failed = grid.run()
    assert failed == []
    assert grid.work("done") == ALL


def test_a_full_disk_ends_no_other_cell(grid, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("segattn.grid.failures.write_json", full)
    (grid.folder / "fault-fcn-0").write_text("SIGKILL")
    cells, failed = grid.run()
    assert failed == cells[:1]
    assert [cell.state for cell in cells] == ["failed", "done", "done", "done"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_driver_stops_its_cells_and_the_same_command_goes_on(grid, name):
    (grid.folder / "seconds").write_text("60")
    driver = grid.start("--jobs", "2")
    wait_for(lambda: len(grid.work("started")) == 2)
    driver.send_signal(getattr(signal, name))
    try:
        out, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 1
    assert out.endswith("interrupted; the same command goes on where it stopped\n")
    cells = grid.cells()
    for cell in cells:
        assert not is_held(cell.run.lock_path)
        cell.look()
    assert [cell.state for cell in cells] == ["interrupted"] * 2 + ["pending"] * 2
    (grid.folder / "seconds").write_text("0")
    _, failed = grid.run()
    assert failed == []
    assert grid.work("done") == ALL


def test_a_driver_waits_for_cells_that_outlived_another_one(grid):
    (grid.folder / "seconds").write_text("4")
    driver = grid.start("--jobs", "2")
    wait_for(lambda: len(grid.work("started")) == 2)
    driver.kill()  # its cells go on
    driver.communicate()
    (grid.folder / "seconds").write_text("0.1")
    cells, failed = grid.run()
    assert failed == []
    assert [cell.state for cell in cells] == ["done"] * 4
    assert grid.work("started") == grid.work("done") == ALL


def test_two_drivers_share_a_grid(grid):
    (grid.folder / "seconds").write_text("0.5")
    (grid.folder / "fault-fla-2").write_text("error")
    drivers = [grid.start("seed=0,1,2,3", "--jobs", "2") for _ in range(2)]
    ends = [driver.communicate(timeout=120)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [1, 1]
    for end in ends:
        assert "(7 of 8 cells done, 1 failed)" in end
        assert "fla-resnet18-scenes-s2: ValueError: bad" in end
    expected = sorted(f"{head}-{seed}" for head in ("fcn", "fla") for seed in range(4))
    assert sorted(set(grid.work("started"))) == expected
    assert len(grid.work("done")) == 7


def test_a_cell_taken_at_the_last_moment_is_waited_for(grid, monkeypatch):
    """Both drivers have seen it free; the second process finds the lock taken and says so."""
    (grid.folder / "seconds").write_text("4")
    driver = grid.start("head=fcn", "seed=0", "--jobs", "1")
    wait_for(lambda: grid.work("started"))
    looks = iter([False, False])
    monkeypatch.setattr(
        "segattn.grid.cells.is_held", lambda path: next(looks, None) is None and is_held(path)
    )
    cells, failed = grid.run("head=fcn", "seed=0")
    driver.communicate(timeout=60)
    assert failed == []
    assert cells[0].state == "done"
    assert grid.work("started") == ["fcn-0"]


@pytest.mark.slow
def test_a_hundred_cells_with_failures_at_random(grid):
    """One command and one --retry-failed: 100 done cells, none lost, none done twice."""
    (grid.folder / "fault-any").write_text("0.1")
    seeds = "seed=" + ",".join(str(seed) for seed in range(50))
    first = grid.start(seeds, "--jobs", "4")
    out, _ = first.communicate(timeout=1200)
    failed, done = grid.work("failed"), grid.work("done")
    assert failed, "with 100 cells at 10 %, this happens once in 30000 runs"
    assert first.returncode == 1
    assert f"({len(done)} of 100 cells done, {len(failed)} failed)" in out
    (grid.folder / "fault-any").unlink()
    second = grid.start(seeds, "--jobs", "4", "--retry-failed")
    out, _ = second.communicate(timeout=600)
    assert second.returncode == 0, out
    assert len(set(grid.work("done"))) == len(grid.work("done")) == 100
    assert len(grid.work("started")) == 100 + len(failed)


def test_folder_of_another_experiment_is_refused(grid):
    cells, _ = grid.run()
    cells[2].run.config_path.write_text(yaml.safe_dump(cells[2].config))
    grid.run()
    with pytest.raises(ValueError, match=r"optimizer\.lr: 0\.002 -> 0\.1\n.*experiment=NAME"):
        grid.run("optimizer.lr=0.1")


def test_a_result_counts_for_its_own_config_alone(grid):
    """Copied from another run, without its config, damaged, and one that is all right."""
    cells, _ = grid.run()
    results = [cell.run.result_path for cell in cells]
    results[0].write_text(results[0].read_text()[:-1] + ', "seed": 7}')
    cells[1].run.config_path.unlink()
    results[2].write_text("{")
    for cell in cells:
        cell.look()
    assert [cell.state for cell in cells] == ["failed"] * 3 + ["done"]
    assert cells[0].error == "the result is one of another config: seed: 7 -> 0"
    assert cells[1].error.startswith(f"cannot read {cells[1].run.config_path}")
    assert cells[2].error.startswith(f"{results[2]} is not valid JSON")
    run_grid(cells, script=grid.script, jobs=1)
    assert [cell.state for cell in cells] == ["failed"] * 3 + ["done"]
    with pytest.raises(ValueError, match=r"result\.json has no config\.yaml beside it"):
        grid.cells()


def test_a_run_of_another_driver_with_another_config_is_not_this_cell(grid):
    """Both drivers started before the folder had a config.yaml; the other one wrote it."""
    cells = grid.cells()
    config = {**cells[0].config, "optimizer": {**cells[0].config["optimizer"], "lr": 0.5}}
    cells[0].run.config_path.write_text(yaml.safe_dump(config))
    run_grid(cells, script=grid.script, jobs=2)
    assert [cell.state for cell in cells] == ["failed", "done", "done", "done"]
    assert cells[0].error == "the result is one of another config: optimizer.lr: 0.5 -> 0.002"


def test_a_process_that_ends_well_without_a_result_has_failed(grid, monkeypatch, capsys):
    (grid.folder / "fault-fcn-0").write_text("no result")
    monkeypatch.setattr(sys, "argv", ["ablate.py", "ablation=two", "--jobs", "2"])
    assert ablate_main(grid.folder)() == 1
    out = capsys.readouterr().out
    assert "report of 4 cells\nfailed " in out
    place = grid.folder / "grid/fcn-resnet18-scenes-s0"
    error = "ended without a result, with exit code 0"
    assert f"failed {place}: {error} (see {place / 'log.txt'})\n" in out
    assert out.endswith("--retry-failed runs failed cells again\n")


def test_a_result_that_is_deleted_while_the_grid_runs_is_missing(grid):
    cells, _ = grid.run("head=fcn")
    cells = grid.cells()
    (grid.folder / "seconds").write_text("2")
    remove = threading.Timer(1.5, cells[0].run.result_path.unlink)
    remove.start()
    run_grid(cells, script=grid.script, jobs=2)
    remove.join()
    assert [cell.state for cell in cells] == ["interrupted", "done", "done", "done"]


def test_each_folder_with_a_finished_cell_is_collected_before_its_report(
    grid, tmp_path, monkeypatch, capsys
):
    cells, _ = grid.run()
    calls = []
    write_reports = runpy.run_path(str(EXPERIMENTS.parent / "scripts/ablate.py"))["write_reports"]
    write_reports.__globals__["collect"] = lambda folder: calls.append(("collect", folder))
    write = lambda folder, _: calls.append(("report", folder)) or [folder]  # noqa: E731
    monkeypatch.setattr(report, "write_report", write)
    write_reports(cells)
    assert calls == [("collect", tmp_path / "grid"), ("report", tmp_path / "grid")]
    for cell in cells:
        cell.state = "failed"
    write_reports(cells)
    assert len(calls) == 2
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, report.__name__, None)  # as where Jupyter is not installed
    write_reports(cells)
    assert "scripts/report.py writes it elsewhere" in capsys.readouterr().out


def test_every_slot_has_gpus_of_its_own(grid, monkeypatch):
    (grid.folder / "seconds").write_text("0.5")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cells, _ = grid.run("head=fcn", "trainer.precision=fp32", jobs=2)
    gpus = [(cell.run.path / "gpus.txt").read_text() for cell in cells]
    assert gpus == ["0", "1"]
    cell = cells[0]
    cell.config["trainer"]["devices"] = 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c,GPU-d")
    shares = [
        local._share(cell, slot=slot, jobs=3, each=2)["CUDA_VISIBLE_DEVICES"] for slot in range(3)
    ]
    assert shares == ["GPU-a,GPU-b", "GPU-c,GPU-d", "GPU-a,GPU-b"]
    single = local._share(cells[1], slot=1, jobs=2, each=2)["CUDA_VISIBLE_DEVICES"]
    assert single == "GPU-c", "slot 0 may hold a cell of two devices"
    cell.config["trainer"]["devices"] = 5
    with pytest.raises(ValueError, match=r"trainer\.devices=5, but there are 4 GPUs here"):
        local._run([cell], lambda _: None, script=grid.script, jobs=1)


def test_default_jobs_is_the_number_of_gpus_or_of_cores(grid, monkeypatch):
    cells = grid.cells("trainer.precision=fp32", "trainer.accelerator=cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert default_jobs(cells) == 4
    cells[1].config["trainer"]["devices"] = 3
    assert default_jobs(cells) == 1
    cells[1].config["trainer"]["devices"] = 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert default_jobs(cells) == 3
    monkeypatch.delattr("os.sched_getaffinity")  # macOS
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    assert default_jobs(cells) == 5


def test_jobs_below_one_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        run_grid([], script=EXPERIMENTS, jobs=0)
