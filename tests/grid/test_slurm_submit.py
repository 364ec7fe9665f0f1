"""Submitting to Slurm and reading the state later, with stand-ins for the clients of Slurm."""

import json
import subprocess
import sys

import pytest
import yaml
from driven_grid import DrivenGrid, ablate_main
from fake_slurm import FakeSlurm

from segattn.base.runs import RESULT_SCHEMA
from segattn.grid import run_slurm

pytest.importorskip("submitit", reason="submitit is not installed (the extra `slurm`)")
CPU = ["trainer.accelerator=cpu", "trainer.precision=fp32"]
OPTIONS = {"timeout_min": 10, "max_num_timeout": 3, "array_parallelism": 2}


@pytest.fixture
def grid(tmp_path):
    return DrivenGrid(tmp_path)


@pytest.fixture(autouse=True)
def slurm(tmp_path, monkeypatch):
    return FakeSlurm(tmp_path / "fake", monkeypatch)


@pytest.fixture
def cells(grid):
    return grid.cells(*CPU)


def submit(grid, cells, *, retry_failed=False, **options):
    """The states of the cells, and the new jobs."""
    given = {"options": OPTIONS | options, "retry_failed": retry_failed}
    jobs = run_slurm(cells, script=grid.script, **given)
    return [cell.state for cell in cells], jobs


def finish(*cells):
    for cell in cells:
        cell.run.result_path.write_text(json.dumps({"schema": RESULT_SCHEMA}))


def report(cell, **status):
    cell.run.status_path.write_text(json.dumps(status))


def test_cells_are_one_array_that_is_submitted_once(grid, slurm, cells):
    assert submit(grid, cells[:3]) == (["queued"] * 3, ["7"])
    assert slurm.jobs == ["7_0", "7_1", "7_2"]
    slurm.change(job7_0="RUNNING", job7_1="COMPLETING", job7_2="REQUEUE_HOLD")
    assert submit(grid, cells[:3]) == (["running", "running", "queued"], [])
    finish(*cells[:2])
    slurm.change(job7_0="COMPLETED")  # 7_1 has its result, and has not ended yet
    assert submit(grid, cells) == (["done", "done", "queued", "queued"], ["8"])
    assert slurm.jobs[3:] == ["8"], "the new cell alone, which is not an array"
    slurm.change(job8="RUNNING")
    assert submit(grid, cells) == (["done", "done", "queued", "running"], [])
    assert json.loads(cells[3].run.slurm_path.read_text())["job"] == "8"


def test_cells_that_need_other_devices_are_an_array_of_their_own(grid, slurm, cells):
    cells[0].config["trainer"]["devices"] = 2
    cells[0].run.config_path.unlink()
    assert submit(grid, cells) == (["queued"] * 4, ["7", "8"])
    assert slurm.jobs == ["7_0", "7_1", "7_2", "8"]
    assert submit(grid, cells) == (["queued"] * 4, [])


@pytest.mark.parametrize("left", ["OUT_OF_MEMORY", "COMPLETED", "CANCELLED", ""])
def test_a_job_that_ended_without_a_result_has_failed_and_waits_to_be_asked_for(
    grid, slurm, cells, left
):
    """Killed with all its processes, so that nobody could write why; or before it began."""
    submit(grid, cells)
    report(cells[0], state="running", epoch=3, max_epochs=10)
    report(cells[1], state="failed", error="ValueError: bad")
    slurm.change(job7_0=left, job7_1=left, job7_2=left)
    assert submit(grid, cells) == (["failed", "failed", "failed", "queued"], [])
    log = grid.folder / ".slurm/7_0_0_log.out"
    assert cells[0].error == f"Slurm job 7_0 ended without a result; its log is {log}"
    assert cells[1].error == "ValueError: bad"
    assert submit(grid, cells, retry_failed=True) == (["queued"] * 4, ["8"])
    assert slurm.jobs[-3:] == ["8_0", "8_1", "8_2"]
    again = submit(grid, cells, retry_failed=True)
    assert again == (["queued"] * 4, []), "a retry is in the queue, whatever its status says"


def test_a_job_of_another_name_with_the_same_id_is_not_the_cell_s(grid, slurm, cells):
    submit(grid, cells)
    slurm.rename()
    assert submit(grid, cells) == (["failed"] * 4, [])


@pytest.mark.parametrize("said", ["fails", "nonsense"])
def test_nothing_is_submitted_while_squeue_fails(grid, slurm, cells, said):
    submit(grid, cells[:2])
    queue = (slurm.folder / "queue").read_text()
    if said == "fails":
        (slurm.folder / "squeue-fails").touch()
    else:
        (slurm.folder / "queue").write_text("slurm is being restarted\nwait\n")
    with pytest.raises(ValueError, match=r"^Slurm does not answer \(.*so nothing was submitted"):
        submit(grid, cells, retry_failed=True)
    (slurm.folder / "squeue-fails").unlink(missing_ok=True)
    (slurm.folder / "queue").write_text(queue)
    assert submit(grid, cells[:2]) == (["queued"] * 2, [])


def test_jobs_that_slurm_took_although_sbatch_failed_are_not_submitted_again(grid, slurm, cells):
    (slurm.folder / "sbatch-fails").touch()
    with pytest.raises(ValueError, match=r"Slurm refuses the jobs: .*timed out on send/recv"):
        submit(grid, cells)
    (slurm.folder / "sbatch-fails").unlink()
    assert submit(grid, cells) == (["queued"] * 4, [])
    slurm.change(job7_0="", job7_1="", job7_2="", job7_3="")
    again = submit(grid, cells)
    assert again == (["queued"] * 4, ["8"]), "a job that never was is not a failure"


def test_a_cell_that_another_process_works_on_is_not_submitted(grid, slurm, cells):
    lock = cells[0].run.lock_path
    code = f"import time; from segattn.base.lock import hold\nwith hold(Path({str(lock)!r})):"
    code = f"from pathlib import Path; {code} print('held', flush=True); time.sleep(600)"
    rival = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    rival.stdout.readline()
    try:
        assert submit(grid, cells) == (["elsewhere", *["queued"] * 3], ["7"])
        assert slurm.jobs == ["7_0", "7_1", "7_2"]
    finally:
        rival.kill()
        rival.wait()


def test_a_submitted_cell_keeps_its_config(grid, cells):
    """Before the job has started, another config in the same folder would go by its name."""
    for cell in cells:
        cell.run.config_path.unlink()
    submit(grid, cells)
    with pytest.raises(ValueError, match=r"optimizer\.lr: 0\.002 -> 0\.1"):
        grid.cells(*CPU, "optimizer.lr=0.1")


def test_a_damaged_note_of_a_job_is_named(grid, slurm, cells):
    submit(grid, cells)
    cells[1].run.slurm_path.write_text('{"name"')
    with pytest.raises(ValueError, match=r"slurm\.json is not valid JSON"):
        submit(grid, cells)
    assert len(slurm.jobs) == 4


def test_what_submitit_does_not_know_and_what_is_not_installed_is_named(
    grid, slurm, cells, monkeypatch
):
    with pytest.raises(ValueError, match=r"Slurm refuses the jobs: .*'partitions'"):
        submit(grid, cells, partitions="a")
    assert slurm.jobs == []
    with monkeypatch.context() as patches:
        patches.setitem(sys.modules, "submitit", None)
        with pytest.raises(ValueError, match=r'needs submitit; install it with .*-e "\.\[slurm\]"'):
            submit(grid, cells)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"Slurm does not answer \(.*'squeue'\).*login node"):
        submit(grid, cells)


def test_the_same_command_submits_shows_the_state_and_writes_the_report(
    grid, slurm, cells, monkeypatch, capsys
):
    """Two at once submit once; exit codes are those that ablate.py documents."""
    (grid.folder / "slurm.yaml").write_text(yaml.safe_dump(OPTIONS))
    options = ["--executor", "slurm", "--slurm-options", str(grid.folder / "slurm.yaml")]
    both = [grid.start(*CPU, *options) for _ in range(2)]
    outs = [driver.communicate(timeout=300)[0] for driver in both]
    assert [driver.returncode for driver in both] == [0, 0]
    assert len(slurm.jobs) == 4
    assert sum("new jobs of Slurm, which scancel ends: 7\n" in out for out in outs) == 1
    for out in outs:
        assert "0 of 4 cells done, 4 queued" in out
        assert "the same command, later, shows the state, and writes the report" in out
        assert "report of" not in out
    finish(*cells[:3])
    slurm.change(job7_0="", job7_1="", job7_2="", job7_3="")
    main = ablate_main(grid.folder)
    monkeypatch.setattr(sys, "argv", ["ablate.py", "ablation=two", *CPU, *options])
    assert main() == 1
    out = capsys.readouterr().out
    assert "report of 4 cells" in out
    assert f"failed {cells[3].run.path}: Slurm job 7_3 ended without a result" in out
    assert out.endswith("the same command with --retry-failed runs failed cells again\n")
    finish(cells[3])
    assert main() == 0
    out = capsys.readouterr().out
    assert "4 of 4 cells done" in out
    assert "report of 4 cells" in out
