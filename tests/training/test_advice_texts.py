"""What each error of a run becomes."""

import errno
import io

import pytest
import torch
from tiny import tiny_config

from segattn.base.runs import Run, write_json
from segattn.config.checks import check_config
from segattn.evaluation.evaluate import override_config
from segattn.training.advice import explain, explained
from segattn.training.callbacks import StatusWriter
from segattn.training.trainer import build_trainer


def lost_worker(signal):
    try:
        raise RuntimeError(f"DataLoader worker (pid 7) is killed by signal: {signal}.")
    except RuntimeError as cause:
        try:
            raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly") from cause
        except RuntimeError as error:
            return error


def test_a_loader_that_is_ended_with_its_run_is_an_interruption(tmp_path):
    config, run = tiny_config(tmp_path), Run(tmp_path)
    with pytest.raises(SystemExit) as ended, explained(run, config):
        raise lost_worker("Terminated")
    assert ended.value.code == 143
    for signal in ("Killed", "Bus error"):
        text = explain(lost_worker(signal), run, config)
        assert f"signal: {signal}.): memory or /dev/shm is probably full" in text
    assert explain(EOFError("of a pipe"), run, config) is None


def test_a_full_disk_is_the_one_that_is_full(tmp_path):
    config, run = tiny_config(tmp_path), Run(tmp_path)
    text = explain(OSError(errno.ENOSPC, "No space left on device", "/cache/x.pth"), run, config)
    assert text.startswith("no space left for /cache/x.pth (No space left on device).")
    with pytest.raises(KeyError) as caught:
        raise_after_a_full_disk()
    assert explain(caught.value, run, config) is None


def raise_after_a_full_disk():
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        raise KeyError("another matter, after that was dealt with") from None


def test_a_resumed_run_says_where_it_is(tmp_path):
    run = Run(tmp_path)
    run.checkpoint_path.parent.mkdir()
    run.checkpoint_path.touch()
    last = {"state": "running", "epoch": 3, "max_epochs": 9, "score": {"val/miou": 0.5}}
    write_json(run.status_path, {**last, "error": "of the time before"})
    StatusWriter(run, max_epochs=9).write("running")
    assert run.status.items() >= last.items()
    assert "error" not in run.status


def test_an_evaluation_has_the_devices_of_its_own_machine(tmp_path):
    config = tiny_config(tmp_path, "trainer.devices=4", "trainer.num_nodes=1")
    assert override_config(config, [], folder=tmp_path)["trainer"]["devices"] == 1
    changed = override_config(config, ["trainer.devices=3"], folder=tmp_path)
    assert changed["trainer"]["devices"] == 3, "no training batch has to be shared out"
    check_config(changed)


def test_several_nodes_need_somebody_who_starts_them(tmp_path, monkeypatch):
    for name in ("SLURM_PROCID", "RANK"):
        monkeypatch.delenv(name, raising=False)
    config = tiny_config(tmp_path, "trainer.num_nodes=2", "trainer.accelerator=cpu")
    with pytest.raises(ValueError, match=r"num_nodes is more than 1, .* srun or torchrun"):
        build_trainer(Run(tmp_path), config, loggers=[], callbacks=[])


@pytest.mark.parametrize("stop", [SystemExit(143), KeyboardInterrupt()])
def test_a_signal_in_the_middle_of_a_checkpoint_is_an_interruption(tmp_path, stop):
    class Interrupted(io.BytesIO):
        """The signal comes in one of its writes; torch then finds fewer bytes than it wrote."""

        signals = iter([None, stop])

        def write(self, data):
            if signal := next(self.signals, None):
                raise signal
            return super().write(data)

    with pytest.raises(RuntimeError, match="unexpected pos"):
        torch.save({"weights": torch.zeros(10)}, Interrupted())
    Interrupted.signals = iter([None, stop])
    with pytest.raises(type(stop)), explained(Run(tmp_path), tiny_config(tmp_path)):
        torch.save({"weights": torch.zeros(10)}, Interrupted())
