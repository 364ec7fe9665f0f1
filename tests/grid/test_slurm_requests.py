"""What is asked of Slurm, and what a job does, without a Slurm."""

import builtins
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
from segattn.grid.slurm import requests
from segattn.grid.slurm_job import CellJob
from segattn.grid.slurm_options import check_slurm, import_submitit, read_options
from segattn.training.trainer import build_trainer

pytest.importorskip("submitit", reason="submitit is not installed (the extra `slurm`)")
CPU = ["trainer.accelerator=cpu", "trainer.precision=fp32"]
OPTIONS = {"timeout_min": 10, "max_num_timeout": 3, "array_parallelism": 2}
SHIPPED = EXPERIMENTS / "slurm.yaml"


@pytest.fixture
def grid(tmp_path):
    return DrivenGrid(tmp_path)


def request(grid, *overrides, here=True, **options):
    cells = grid.cells(*CPU, *overrides, here=here)
    return requests(cells, OPTIONS | options)


def test_all_cells_are_one_array_that_can_be_requeued(grid):
    (asked,) = request(grid)
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


@pytest.mark.parametrize("word", ["trainer.accelerator=auto", "trainer.precision=auto"])
def test_what_depends_on_the_node_has_to_be_said(grid, word):
    with pytest.raises(ValueError, match=r"say trainer\.accelerator=gpu or cpu and "):
        request(grid, word, here=False)


CHANGED = {
    **{"name": "x", "partition": "p", "account": "a", "qos": "q", "constraint": "c"},
    **{"gres": "gpu:1", "cpus_per_task": 3, "mem_gb": 0.5, "timeout_min": 7, "signal_delay_s": 33},
    **{"array_parallelism": 1, "setup": ["module load x"]},
    **{"additional_parameters": {"reservation": "r"}},
}


@pytest.mark.parametrize("name", CHANGED)
def test_every_option_of_the_file_changes_what_is_asked_for(grid, name):
    assert request(grid, **{name: CHANGED[name]}) != request(grid)


def test_the_shipped_file_has_the_options_that_are_tested():
    shipped = yaml.safe_load(SHIPPED.read_text())
    assert set(shipped) == {*CHANGED, "overrides", "max_num_timeout"}
    assert read_options(SHIPPED)["max_num_timeout"] > 0
    assert "partition" not in read_options(SHIPPED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": 2}, "nodes follow from trainer.devices and num_nodes"),
        ({"timeout_min": None}, "must say timeout_min"),
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
    with pytest.raises(ValueError, match="no such file of Slurm options"):
        read_options(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("[timeout_min")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.yaml"):
        read_options(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("[timeout_min]")
    with pytest.raises(ValueError, match=r"list.yaml must hold options such as"):
        read_options(tmp_path / "list.yaml")


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="needs sbatch, squeue, srun, not found here"):
        check_slurm()
    load = builtins.__import__

    def refuse(name, *rest):
        if name == "submitit":
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match=r'needs submitit; install it with .*-e "\.\[slurm\]"'):
        import_submitit()


def test_dry_run_shows_commands_and_request_without_slurm(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    words = ["ablation=smoke", "--executor", "slurm", "--dry-run", f"runs_dir={tmp_path}"]
    words += ["data=scenes", "trainer.accelerator=cpu"]  # wins over `overrides` of the file
    assert call_script(monkeypatch, "ablate.py", *words, "--jobs", "3") == 0
    shown = capsys.readouterr().out
    assert shown.count("python scripts/train.py ") == 4
    assert shown.count("trainer.precision=bf16") == 4  # of the file
    assert "array_parallelism: 3\n" in shown
    assert "gpus_per_node" not in shown
    assert list(tmp_path.iterdir()) == []


def test_options_of_slurm_without_slurm_are_refused(monkeypatch, capsys):
    words = ["ablation=smoke", "--slurm-options", str(SHIPPED)]
    assert call_script(monkeypatch, "ablate.py", *words) == 2
    assert "--slurm-options needs --executor slurm" in capsys.readouterr().err


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
    assert call.run.status["error"] == "exit code 3"


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
