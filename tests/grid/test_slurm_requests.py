"""What is asked of Slurm, and what a job does, without a Slurm."""

import os
import pickle
import signal
import sys

import pytest
import yaml
from driven_grid import DrivenGrid
from tiny import EXPERIMENTS, call_script, tiny_config

from segattn.base.lock import hold
from segattn.base.runs import Run
from segattn.grid.slurm import read_options, requests
from segattn.training.trainer import build_trainer

pytest.importorskip("submitit", reason="submitit is not installed (the extra `slurm`)")
from segattn.grid.slurm_job import CellJob

CPU = ["trainer.accelerator=cpu", "trainer.precision=fp32"]
OPTIONS = {"timeout_min": 10, "max_num_timeout": 3, "array_parallelism": 2}
SHIPPED = EXPERIMENTS / "slurm.yaml"


@pytest.fixture
def grid(tmp_path):
    return DrivenGrid(tmp_path)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return DrivenGrid(tmp_path_factory.mktemp("grid")).cells(*CPU)


def request(grid, *overrides, here=True, **options):
    return request_for(grid.cells(*CPU, *overrides, here=here), **options)


def request_for(cells, **options):
    return [asked for _, asked in requests(cells, OPTIONS | options)]


def test_all_cells_are_one_array_that_can_be_requeued(cells):
    (asked,) = request_for(cells)
    assert asked["additional_parameters"] == {"requeue": True}
    assert asked["srun_args"] == ["--kill-on-bad-exit=1"]
    assert "gpus_per_node" not in asked


def test_cells_that_need_other_devices_are_an_array_of_their_own(grid):
    one, two = request(grid, "trainer.devices=1,2", "loader.batch_size=8")
    assert (one["tasks_per_node"], two["tasks_per_node"]) == (1, 2)
    (nodes,) = request(grid, "trainer.num_nodes=2")
    assert nodes["nodes"] == 2


def test_gpus_follow_from_the_devices_also_where_this_machine_has_none(grid, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    overrides = ["trainer.devices=2", "trainer.accelerator=gpu"]
    (asked,) = request(grid, *overrides, here=False)
    assert asked["gpus_per_node"] == 2
    (asked,) = request(grid, *overrides, here=False, gres="gpu:a100:2")
    assert asked["gres"] == "gpu:a100:2"
    assert "gpus_per_node" not in asked


def test_options_of_the_file_win_over_what_follows_from_the_config(cells):
    (asked,) = request_for(cells, tasks_per_node=4, additional_parameters={"requeue": False})
    assert asked["tasks_per_node"] == 4
    assert asked["additional_parameters"] == {"requeue": False}


@pytest.mark.parametrize("word", ["trainer.accelerator=auto", "trainer.precision=auto"])
def test_what_depends_on_the_node_has_to_be_said(grid, word):
    with pytest.raises(ValueError, match=r"set trainer\.accelerator=gpu or cpu and "):
        request(grid, word, here=False)


CHANGED = {
    **{"name": "x", "partition": "p", "account": "a", "qos": "q", "constraint": "c"},
    **{"gres": "gpu:1", "cpus_per_task": 3, "mem_gb": 0.5, "timeout_min": 7, "signal_delay_s": 33},
    **{"array_parallelism": 1, "setup": ["module load x"]},
    **{"additional_parameters": {"reservation": "r"}},
}


@pytest.mark.parametrize("name", CHANGED)
def test_every_option_of_the_file_changes_what_is_asked_for(cells, name):
    assert request_for(cells, **{name: CHANGED[name]}) != request_for(cells)


def test_the_shipped_file_has_the_options_that_are_tested():
    shipped = yaml.safe_load(SHIPPED.read_text())
    assert set(shipped) == {*CHANGED, "overrides", "max_num_timeout"}
    assert read_options(SHIPPED)["max_num_timeout"] > 0
    assert "partition" not in read_options(SHIPPED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overrides": "seed=0"}, "overrides are a list"),
        ({"timeout_min": None}, "timeout_min must be a whole number from 1, got None"),
        ({"timeout_min": "1:00:00"}, "timeout_min must be a whole number from 1, got '1:00:00'"),
        ({"max_num_timeout": -1}, "max_num_timeout must be a whole number from 0, got -1"),
    ],
)
def test_bad_options_are_refused(tmp_path, change, message):
    path = tmp_path / "slurm.yaml"
    path.write_text(yaml.safe_dump(OPTIONS | change))
    with pytest.raises(ValueError, match=message):
        read_options(path)


def test_bad_files_of_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none\.yaml must be a file of Slurm options"):
        read_options(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("[timeout_min")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.yaml"):
        read_options(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("[timeout_min]")
    with pytest.raises(ValueError, match=r"list\.yaml must be a file of Slurm options"):
        read_options(tmp_path / "list.yaml")


def test_dry_run_shows_commands_and_request_without_slurm(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    words = ["ablation=smoke", "--executor", "slurm", "--dry-run", f"runs_dir={tmp_path}"]
    words += ["data=scenes", "trainer.accelerator=cpu"]  # wins over `overrides` of the file
    assert call_script(monkeypatch, "ablate.py", *words) == 0
    shown = capsys.readouterr().out
    assert shown.count("python scripts/train.py ") == 4
    assert shown.count("trainer.precision=bf16") == 4  # of the file
    assert "array_parallelism: 32\n" in shown
    assert "gpus_per_node" not in shown
    assert list(tmp_path.iterdir()) == []


def test_options_of_slurm_without_slurm_are_refused(monkeypatch, capsys):
    words = ["ablation=smoke", "--slurm-options", str(SHIPPED)]
    assert call_script(monkeypatch, "ablate.py", *words) == 2
    assert "--slurm-options needs --executor slurm" in capsys.readouterr().err
    words = ["ablation=smoke", "--executor", "slurm", "--jobs", "2"]
    assert call_script(monkeypatch, "ablate.py", *words) == 2
    assert "the Slurm options have array_parallelism" in capsys.readouterr().err


def job(folder, code, *, status=None):
    run = Run(folder / "run")
    run.path.mkdir()
    if status is not None:
        run.status_path.write_text(status)
    return CellJob([sys.executable, "-c", f"import os, signal, sys, time; {code}"], run)


def test_a_job_leaves_the_signal_of_the_timeout_to_submitit(tmp_path):
    job(tmp_path, "os.kill(os.getpid(), signal.SIGUSR2)")()


def test_a_job_has_the_threads_of_its_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    call = job(tmp_path, "print(os.environ['OMP_NUM_THREADS'], os.environ['SEGATTN_CORES'])")
    call()
    assert call.run.log_path.read_text() == "3 3\n"


def test_a_job_whose_process_fails_says_so(tmp_path):
    old = '{"state": "failed", "error": "of yesterday", "updated": 1}'
    call = job(tmp_path, "sys.exit(3)", status=old)
    with pytest.raises(RuntimeError, match="exit code 3"):
        call()
    assert call.run.status["error"] == "ended without a result, with exit code 3"


def test_a_job_whose_process_is_killed_has_failed_for_lack_of_memory(tmp_path):
    call = job(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(RuntimeError, match="run out of memory"):
        call()
    assert call.run.status["state"] == "failed"


def test_a_job_that_finds_its_run_taken_leaves_the_status_to_the_other_process(tmp_path):
    call = job(tmp_path, "sys.exit(1)")
    ready, end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with hold(call.run.lock_path):
            os.write(ready[1], b"x")
            os.read(end[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    try:
        with pytest.raises(RuntimeError, match="exit code 1"):
            call()
    finally:
        os.write(end[1], b"x")
        os.waitpid(child, 0)
    assert not call.run.status_path.exists()


def test_a_job_that_slurm_ends_is_no_failure(tmp_path):
    """SIGTERM reaches all its processes; then it waits for the end that Slurm gives it."""

    def give_up(*_):
        raise TimeoutError

    call = job(tmp_path, "os.kill(os.getppid(), signal.SIGTERM); sys.exit(143)")
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(4)
    with pytest.raises(TimeoutError):
        call()
    assert not call.run.status_path.exists()


def test_what_goes_on_after_a_requeue_is_the_same_job(tmp_path):
    call = job(tmp_path, "pass")
    assert pickle.loads(pickle.dumps(call.checkpoint())).function == call


def test_lightning_does_not_requeue(tmp_path, monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "1")
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    config = tiny_config(tmp_path, *CPU)
    trainer = build_trainer(Run(tmp_path), config, loggers=[], callbacks=[])
    assert trainer._accelerator_connector.cluster_environment.auto_requeue is False
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    trainer = build_trainer(Run(tmp_path), config, loggers=[], callbacks=[])
    assert not hasattr(trainer._accelerator_connector.cluster_environment, "auto_requeue")
