"""Grids on a real Slurm of one node, which this file starts."""

import json
import subprocess
import sys
import time

import pytest
import slurm_cluster
import torch
from driven_grid import DrivenGrid
from processes import wait_for
from tiny import EXPERIMENTS, tiny_overrides

from segattn.config.compose import compose_config
from segattn.grid import Cell, run_slurm
from segattn.training.train import run_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing()),
]
CPU = ["trainer.accelerator=cpu", "trainer.precision=fp32"]
OPTIONS = {"timeout_min": 10, "max_num_timeout": 3, "array_parallelism": 4}
SCRIPT = EXPERIMENTS.parent / "scripts/train.py"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm_cluster.SlurmCluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture(autouse=True)
def environment(cluster, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    cluster.run("scancel", "--me")


@pytest.fixture
def grid(tmp_path):
    return DrivenGrid(tmp_path)


def submit(cells, script, retry_failed=False, **options):
    given = {"options": OPTIONS | options, "retry_failed": retry_failed}
    return run_slurm(cells, script=script, **given)


def see_the_end(cells, script):
    """The same command again and again, until no job is left."""

    def over():
        time.sleep(0.5)
        assert submit(cells, script) == []
        return not {"queued", "running", "elsewhere"} & {cell.state for cell in cells}

    wait_for(over, seconds=300)


def jobs_of(cells):
    return [json.loads(cell.run.slurm_path.read_text())["job"] for cell in cells]


def test_failures_leave_the_other_cells_alone_and_wait_to_be_asked_for(grid):
    (grid.folder / "fault-fcn-0").write_text("error")
    (grid.folder / "fault-fla-1").write_text("SIGKILL")
    cells = grid.cells(*CPU)
    (array,) = submit(cells, grid.script)
    see_the_end(cells, grid.script)
    assert [cell.state for cell in cells] == ["failed", "done", "done", "failed"]
    assert cells[0].error == "ValueError: bad"
    assert cells[3].error == "killed (SIGKILL); the machine has probably run out of memory"
    assert "error: bad" in cells[0].run.log_path.read_text()
    first = jobs_of(cells)
    assert first == [f"{array}_{task}" for task in range(4)]
    for fault in grid.folder.glob("fault-*"):
        fault.unlink()
    assert submit(cells, grid.script, retry_failed=True) != []
    see_the_end(cells, grid.script)
    assert [cell.state for cell in cells] == ["done"] * 4
    assert jobs_of(cells)[1:3] == first[1:3]
    assert len(grid.work("started")) == 4 + 2
    assert len(grid.work("done")) == 4


def test_cancelled_jobs_have_failed(cluster, grid):
    (grid.folder / "seconds").write_text("120")
    cells = grid.cells(*CPU)
    (array,) = submit(cells, grid.script, array_parallelism=2)
    wait_for(lambda: len(grid.work("started")) == 2)
    assert submit(cells, grid.script) == []
    assert sorted(cell.state for cell in cells) == ["queued"] * 2 + ["running"] * 2
    cluster.run("scancel", array)
    see_the_end(cells, grid.script)
    assert [cell.state for cell in cells] == ["failed"] * 4
    for cell, job in zip(cells, jobs_of(cells), strict=True):
        assert cell.error.startswith(f"Slurm job {job} ended without a result")
    assert len(grid.work("started")) == 2


def test_the_last_timeout_is_a_failure_that_says_so(cluster, grid):
    (grid.folder / "seconds").write_text("600")
    cells = grid.cells(*CPU, "head=fcn", "seed=0")
    submit(cells, grid.script, max_num_timeout=0)
    wait_for(lambda: grid.work("started"))
    cluster.run("scancel", "--signal=USR2", *jobs_of(cells))
    see_the_end(cells, grid.script)
    assert cells[0].error == "out of time; raise max_num_timeout or timeout_min"


def test_what_slurm_refuses_is_an_error(grid):
    with pytest.raises(ValueError, match=r"Slurm refuses the jobs: .*invalid partition"):
        submit(grid.cells(*CPU), grid.script, partition="none")


def test_one_task_that_fails_ends_the_others(grid):
    grid.script.write_text(
        "import os, sys, time\n"
        "sys.exit(3) if os.environ['SLURM_PROCID'] == '1' else time.sleep(120)\n"
        f"open({str(grid.folder / 'finished')!r}, 'w')"
    )
    cells = grid.cells(*CPU, "head=fcn", "seed=0", "trainer.devices=2")
    submit(cells, grid.script)
    see_the_end(cells, grid.script)
    assert cells[0].error == "ended without a result, with exit code 3"
    assert not (grid.folder / "finished").exists()


def tiny_cell(folder, *overrides):
    words = tiny_overrides(folder, *CPU, "loader.num_workers=0", *overrides)
    config = compose_config(words, folder=EXPERIMENTS)
    return Cell(words, config, run_folder(config))


def test_preempted_and_timed_out_training_ends_as_a_whole_one(cluster, tmp_path):
    """Stopped within an epoch by a pre-emption, then by the end of its time: goes on exactly."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/halts").write_text("2 4")
    cell = tiny_cell(tmp_path, "trainer.max_epochs=6")
    script = EXPERIMENTS.parent / "tests/halting_train.py"
    submit([cell], script, timeout_min=2, signal_delay_s=1)
    wait_for((tmp_path / "runs/halted-0").exists)
    (job,) = jobs_of([cell])
    cluster.run("scontrol", "requeue", job)
    wait_for(lambda: cluster.states()[job] == "PENDING")
    cluster.run("scontrol", "update", f"jobid={job}", "StartTime=now")
    wait_for((tmp_path / "runs/halted-1").exists)
    wait_for(lambda: cluster.states()[job] == "PENDING")  # Slurm's own signal of the time-out
    assert submit([cell], script) == []
    assert cell.state == "queued"
    cluster.run("scontrol", "update", f"jobid={job}", "StartTime=now")
    see_the_end([cell], script)
    assert cell.state == "done", cell.error
    assert (tmp_path / "runs/starts").read_text() == "xxx"
    assert "Restarts=2" in cluster.run("scontrol", "show", "job", job)

    whole = tiny_cell(tmp_path, "trainer.max_epochs=6", "name=whole")
    subprocess.run([sys.executable, SCRIPT, *whole.overrides], check=True)
    ours, theirs = (
        torch.load(run.checkpoint_path, weights_only=True)["state_dict"]
        for run in (cell.run, whole.run)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    scores = cell.run.metrics()["val/miou"].dropna().tolist()
    assert len(scores) == 6
    assert scores == whole.run.metrics()["val/miou"].dropna().tolist()
    assert cell.run.objects().equals(whole.run.objects())


def test_two_tasks_are_one_run_of_two_processes(tmp_path):
    cell = tiny_cell(tmp_path, "trainer.devices=2", "trainer.max_epochs=1")
    submit([cell], SCRIPT)
    see_the_end([cell], SCRIPT)
    assert cell.state == "done", cell.run.log_path.read_text()
    (job,) = jobs_of([cell])
    logs = sorted(path.name for path in (tmp_path / "runs/.slurm").glob("*_log.out"))
    assert logs == [f"{job}_0_log.out", f"{job}_1_log.out"]


def test_fewer_tasks_than_devices_are_refused(tmp_path):
    cell = tiny_cell(tmp_path, "trainer.devices=2")
    command = ["srun", "--ntasks=1", sys.executable, SCRIPT, *cell.overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "this run has 1 process(es). Under Slurm, set --ntasks-per-node" in done.stderr
    assert cell.run.status["state"] == "failed"


@pytest.mark.parametrize("name", ["one", "interactive"])
def test_one_device_trains_in_a_job_and_in_an_interactive_one(tmp_path, name):
    cell = tiny_cell(tmp_path, "trainer.max_epochs=1")
    command = ["srun", f"--job-name={name}", sys.executable, SCRIPT, *cell.overrides]
    subprocess.run(command, check=True)
    assert cell.run.result is not None
