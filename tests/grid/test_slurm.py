"""Grids on a real Slurm of one node, which this file starts."""

import json
import signal
import subprocess
import sys
import threading

import pytest
import slurm_cluster
import torch
import yaml
from driven_grid import DrivenGrid
from processes import wait_for
from tiny import EXPERIMENTS, tiny_overrides

from segattn.base.lock import is_held
from segattn.config.compose import compose_config
from segattn.grid import Cell, run_grid, slurm
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
    monkeypatch.setattr(slurm, "_POLL_SECONDS", 0.5)
    yield
    cluster.run("scancel", "--me")


@pytest.fixture
def grid(tmp_path):
    grid = DrivenGrid(tmp_path)
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(OPTIONS))
    return grid


def drive(grid, *words):
    options = ["--executor", "slurm", "--slurm-options", str(grid.folder / "slurm.yaml")]
    return grid.start(*CPU, *words, *options)


def jobs_of(cells):
    return [json.loads(cell.run.slurm_path.read_text())["job"] for cell in cells]


def test_failures_leave_the_other_cells_alone_and_wait_to_be_asked_for(cluster, grid, capsys):
    (grid.folder / "fault-fcn-0").write_text("error")
    (grid.folder / "fault-fla-1").write_text("SIGKILL")
    cells, failed = grid.run(*CPU, jobs=4, slurm=OPTIONS)
    assert [cell.state for cell in cells] == ["failed", "done", "done", "failed"]
    assert failed[0].error == "ValueError: bad"
    assert failed[1].error.startswith("killed (SIGKILL); if nobody did that, the machine ran out")
    assert failed[1].run.status["state"] == "failed"
    out = capsys.readouterr().out
    assert "fla-resnet18-scenes-s0 queued" in out
    assert "fla-resnet18-scenes-s0 running" in out
    first = jobs_of(cells)
    array = first[0].split("_")[0]
    assert first == [f"{array}_{task}" for task in range(4)]  # one array
    assert "error: bad" in failed[0].run.log_path.read_text()
    for fault in grid.folder.glob("fault-*"):
        fault.unlink()
    cells, _ = grid.run(*CPU, jobs=4, slurm=OPTIONS)
    assert jobs_of(cells) == first
    cells, failed = grid.run(*CPU, jobs=4, slurm=OPTIONS, retry_failed=True)
    assert failed == []
    assert jobs_of(cells)[1:3] == first[1:3]
    assert len(grid.work("started")) == len(grid.work("done")) + 1 + 1  # an error and a kill
    assert len(grid.work("done")) == 4


def test_jobs_outlive_the_driver_and_the_same_command_follows_them(cluster, grid):
    (grid.folder / "seconds").write_text("120")
    driver = drive(grid, "head=fcn")
    wait_for(lambda: len(grid.work("started")) == 2)
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=60)
    jobs = jobs_of(grid.cells(*CPU, "head=fcn"))
    array = jobs[0].split("_")[0]
    assert driver.returncode == 1
    assert out.endswith(
        "interrupted; the jobs stay with Slurm: the same command follows them again, "
        f"scancel {array} ends them\n"
    )
    assert [cluster.states()[job] for job in jobs] == ["RUNNING"] * 2
    driver = drive(grid, "head=fcn")
    wait_for(lambda: any("running" in line for line in driver.stdout))
    assert jobs_of(grid.cells(*CPU, "head=fcn")) == jobs
    cluster.run("scancel", array)
    out, _ = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert out.count(f"Slurm job {jobs[0]} was cancelled; its own log is ") == 2, out
    cells = grid.cells(*CPU, "head=fcn")
    assert [cell.run.status["state"] for cell in cells] == ["failed"] * 2
    assert len(grid.work("started")) == 2


def test_a_cell_of_another_driver_is_waited_for_and_not_submitted(grid):
    (grid.folder / "seconds").write_text("15")
    rival = grid.start(*CPU, "--jobs", "4")
    wait_for(lambda: len(grid.work("started")) == 4)
    cells, failed = grid.run(*CPU, jobs=4, slurm=OPTIONS)
    rival.communicate(timeout=60)
    assert failed == []
    assert [cell.state for cell in cells] == ["done"] * 4
    assert not any(cell.run.slurm_path.exists() for cell in cells)


def test_a_job_that_finds_its_run_taken_is_waited_for(grid, monkeypatch):
    """Free when it was submitted, taken when the job starts."""
    (grid.folder / "seconds").write_text("25")
    rival = grid.start(*CPU, "head=fcn", "seed=0")
    wait_for(lambda: grid.work("started"))
    looks = iter([False, False])
    monkeypatch.setattr(
        "segattn.grid.cells.is_held", lambda path: next(looks, None) is None and is_held(path)
    )
    cells, failed = grid.run(*CPU, "head=fcn", "seed=0", jobs=1, slurm=OPTIONS)
    rival.communicate(timeout=60)
    assert failed == []
    assert cells[0].state == "done"
    assert cells[0].run.slurm_path.exists()
    assert grid.work("started") == ["fcn-0"]


def test_the_last_timeout_is_a_failure_that_says_so(cluster, grid):
    (grid.folder / "seconds").write_text("600")
    cells = grid.cells(*CPU, "head=fcn", "seed=0")
    options = OPTIONS | {"max_num_timeout": 0}
    with Driven(cells, script=grid.script, slurm=options):
        wait_for(lambda: grid.work("started"))
        cluster.run("scancel", "--signal=USR2", *jobs_of(cells))
    assert cells[0].error == "out of time; raise max_num_timeout or timeout_min"
    assert cells[0].run.status["error"] == cells[0].error


def test_what_slurm_refuses_is_an_error(grid):
    with pytest.raises(ValueError, match=r"Slurm refuses the jobs: .*invalid partition"):
        grid.run(*CPU, jobs=1, slurm=OPTIONS | {"partition": "none"})
    with pytest.raises(ValueError, match=r"Unknown argument 'partitions' for executor 'slurm'"):
        grid.run(*CPU, jobs=1, slurm=OPTIONS | {"partitions": "a"})


def test_one_task_that_fails_ends_the_others(cluster, grid):
    grid.script.write_text(
        "import os, sys, time\n"
        "sys.exit(3) if os.environ['SLURM_PROCID'] == '1' else time.sleep(120)\n"
        f"open({str(grid.folder / 'finished')!r}, 'w')"
    )
    overrides = [*CPU, "head=fcn", "seed=0", "trainer.devices=2"]
    cells, _ = grid.run(*overrides, jobs=1, slurm=OPTIONS)
    assert cells[0].error == "exit code 3"
    assert cells[0].run.status["error"] == "exit code 3"
    assert not (grid.folder / "finished").exists()


class Driven:
    """A driver in the background, waited for at the end."""

    def __init__(self, cells, **options):
        self._thread = threading.Thread(
            target=run_grid, args=(cells,), kwargs={"jobs": 4, **options}
        )

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._thread.join(300)
        assert not self._thread.is_alive()


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
    options = OPTIONS | {"timeout_min": 1, "signal_delay_s": 1}
    with Driven([cell], script=script, slurm=options):
        wait_for((tmp_path / "runs/halted-0").exists)
        (job,) = jobs_of([cell])
        cluster.run("scontrol", "requeue", job)
        wait_for(lambda: cluster.states()[job] == "PENDING")
        cluster.run("scontrol", "update", f"jobid={job}", "StartTime=now")
        wait_for((tmp_path / "runs/halted-1").exists)
        wait_for(lambda: cluster.states()[job] == "PENDING")  # Slurm's own signal of the time-out
        wait_for(lambda: cell.state == "queued")
        cluster.run("scontrol", "update", f"jobid={job}", "StartTime=now")
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
    run_grid([cell], script=SCRIPT, jobs=1, slurm=OPTIONS)
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
