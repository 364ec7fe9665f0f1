"""W&B that goes away, or dies, in the middle of a run: the run folder is as without W&B."""

import os
import signal
import subprocess
import sys

import pytest
from fake_wandb import fake_wandb
from offline_files import rows, values
from processes import hear_signals, wait_for
from tiny import EXPERIMENTS, tiny_overrides

from segattn.analysis.publish import publish, run_id
from segattn.analysis.tables import gains
from segattn.base.runs import Run

pytestmark = pytest.mark.slow
TRAIN = EXPERIMENTS.parent / "scripts" / "train.py"


def start(folder, *overrides, patience=5) -> tuple[Run, subprocess.Popen]:
    """A run of ten epochs in a process of its own; what it prints is in `folder`/out.

    It waits `patience` seconds for W&B at its end.
    """
    words = tiny_overrides(folder, "trainer.max_epochs=10", f"data.root={folder.parent}/scenes")
    folder.mkdir()
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, str(TRAIN), *words, *overrides],
            env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_FINISH_TIMEOUT": str(patience)},
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=hear_signals,
        )
    return Run(folder / "runs/default/fcn-resnet18-scenes-s0"), process


def wait_for_an_epoch(run: Run, process: subprocess.Popen) -> None:
    wait_for(lambda: run.checkpoint_path.exists() or process.poll() is not None)


def end(process: subprocess.Popen) -> None:
    try:
        process.wait(180)
    finally:
        process.kill()


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    run, process = start(tmp_path_factory.mktemp("without") / "run")
    end(process)
    assert process.returncode == 0
    return run


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "segattn.analysis.publish.COMPARISON_TABLES", {"gains": gains}
    )  # the others take a second
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        yield server


def assert_complete(run: Run, process: subprocess.Popen, *, out: str, without: Run) -> None:
    assert process.returncode == 0, out
    assert run.status["state"] == "done"
    assert run.metrics_path.read_text() == without.metrics_path.read_text()
    assert run.objects().equals(without.objects())
    assert lasting(run) == lasting(without)
    assert out.count("W&B did not take everything") == 1
    assert f"`python scripts/publish.py {run.path}` sends all of it" in out
    assert "Traceback" not in out


def lasting(run: Run) -> dict:
    """The result without times and memory, and without the digest of a file that holds paths."""
    result = run.result
    del result["checkpoint"]
    kept = ("parameters", "head_parameters", "flops")
    return result | {"cost": {key: result["cost"][key] for key in kept}}


@pytest.mark.parametrize("fault", ["silent", "error"])
def test_server_that_goes_away(server, tmp_path, without, fault):
    run, process = start(tmp_path / "run", "logger=wandb", "logger.mode=online")
    wait_for_an_epoch(run, process)
    server.fault = fault
    end(process)
    assert_complete(run, process, out=(tmp_path / "run" / "out").read_text(), without=without)

    server.fault = None
    (there,) = server.runs.values()
    assert len(there["history"]) < 20  # most often none: W&B sends the first after 15 s
    publish(run.path)
    assert set(server.runs) == {run_id(run), "comparison-default"}
    *found, last = [values(row) for row in there["history"]]
    assert found == [pytest.approx(row) for row in rows(run)]
    assert "test/confusion" in last
    assert there["state"] == "finished"


def test_a_second_ctrl_c_ends_the_wait_for_a_server_that_is_gone(server, tmp_path):
    run, process = start(tmp_path / "run", "logger=wandb", "logger.mode=online", patience=900)
    wait_for_an_epoch(run, process)
    server.fault = "silent"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for W&B
        process.wait(20)
    process.send_signal(signal.SIGINT)
    end(process)
    assert process.returncode == 1
    assert run.status["state"] == "interrupted"
    out = (tmp_path / "run" / "out").read_text()
    assert "W&B did not take everything (KeyboardInterrupt)" in out
    assert "Traceback" not in out


def test_service_that_dies(server, tmp_path, without):
    run, process = start(tmp_path / "run", "logger=wandb", "logger.mode=online")
    wait_for_an_epoch(run, process)
    os.kill(service_of(process), signal.SIGKILL)
    end(process)
    out = (tmp_path / "run" / "out").read_text()
    assert out.count("W&B failed, and the run goes on without it") == 1
    assert_complete(run, process, out=out, without=without)


def service_of(process: subprocess.Popen) -> int:
    """The process of wandb-core that `process` has started."""
    # without -ww, ps cuts its lines at the width in COLUMNS, where that is set
    command = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in table.splitlines()]
    (pid,) = [
        pid for pid, parent, args in rows if parent == str(process.pid) and "wandb-core" in args
    ]
    return int(pid)
