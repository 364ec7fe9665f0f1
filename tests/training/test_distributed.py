"""Several processes count what one counts: samplers, gathered tables, and whole runs with gloo."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from camvid_files import write_camvid
from PIL import Image
from processes import alive, wait_for
from tiny import EXPERIMENTS, tiny_config, tiny_overrides, weights

from segattn.analysis import compare
from segattn.analysis.tables import claim_table, gains
from segattn.base.distributed import gather, interleave, is_main
from segattn.base.files import digest
from segattn.base.lock import is_held
from segattn.base.runs import Run, load_runs
from segattn.data.samplers import EpochSampler, EvalSampler
from segattn.evaluation.evaluate import evaluate
from segattn.training.train import train
from segattn.training.trainer import WorldSize, build_trainer

SCRIPTS = EXPERIMENTS.parent / "scripts"
TWO = ("trainer.devices=2", "trainer.accelerator=cpu")


def run_script(name, *words, check=True):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / name), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("num_samples", [12, 13, 23])
def test_processes_share_every_batch_and_take_equally_many_steps(num_samples, world):
    def order(rank, of):
        shares = {"batch_size": 6, "rank": rank, "world": of}
        sampler = EpochSampler(num_samples, seed=3, epoch=lambda: 2, **shares)
        assert len(sampler) == len(list(sampler))
        return list(sampler)

    whole, share = order(0, 1), 6 // world
    parts = [order(rank, world) for rank in range(world)]
    assert {len(part) for part in parts} == {num_samples // 6 * share}
    for step in range(num_samples // 6):
        together = [item for part in parts for item in part[step * share : (step + 1) * share]]
        assert sorted(together) == sorted(whole[step * 6 : (step + 1) * 6])


@pytest.mark.parametrize("num_samples", [12, 13])
def test_evaluation_sees_every_image_once(num_samples):
    parts = [list(EvalSampler(num_samples, rank=rank, world=2)) for rank in range(2)]
    assert interleave(parts) == list(range(num_samples))


def test_one_process_gathers_what_it_has():
    assert is_main()
    assert gather("x") == ["x"]
    assert interleave([[1, 3], [2]]) == [1, 2, 3]


def test_a_batch_has_to_be_shared_out_evenly(tmp_path):
    with pytest.raises(ValueError, match=r"loader\.batch_size=4 .* a multiple of 3"):
        tiny_config(tmp_path, "trainer.devices=3")


def test_a_run_with_fewer_processes_than_it_was_told_stops(tmp_path):
    """As under Slurm with --ntasks=1, where Lightning would go on alone."""
    config = tiny_config(tmp_path)
    trainer = build_trainer(Run(tmp_path), config, loggers=[], callbacks=[])
    (check,) = [c for c in trainer.callbacks if isinstance(c, WorldSize)]
    check.setup(trainer, None, "fit")
    with pytest.raises(ValueError, match=r"is 2, but this run has 1 process.*ntasks-per-node"):
        WorldSize(2).setup(trainer, None, "fit")


@pytest.mark.slow
def test_more_processes_than_images_are_refused(tmp_path):
    data = ("data.num_test=1", "trainer.max_epochs=1", *TWO)
    done = run_script("train.py", *tiny_overrides(tmp_path, *data), check=False)
    assert done.returncode != 0
    (run,) = load_runs(tmp_path / "runs")
    assert "has 1 images for 2 processes; set trainer.devices to 1" in run.status["error"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two heads and two seeds, trained by one process, to be evaluated on 12 and on 13 images."""
    folder = tmp_path_factory.mktemp("trained")
    cells = [(head, seed) for head in ("channel_nl", "spatial_nl") for seed in (0, 1)]
    return [
        train(tiny_config(folder, f"head={head}", "head.channels=8", f"seed={seed}"))
        for head, seed in cells
    ]


@pytest.mark.slow
def test_two_processes_give_the_evidence_of_one(trained, tmp_path):
    data = "data.num_test=13"  # one has an image more than the other
    for run in trained:
        # the last folder names the experiment
        evaluate(run.checkpoint_path, [data], folder=EXPERIMENTS, out=tmp_path / "one" / "again")
        out = f"out={tmp_path / 'two' / 'again'}"
        run_script("evaluate.py", f"checkpoint={run.checkpoint_path}", data, out, *TWO)
    one, two = load_runs(tmp_path / "one"), load_runs(tmp_path / "two")
    for a, b in zip(one, two, strict=True):
        assert b.config["trainer"]["devices"] == 2
        assert b.objects_path.read_bytes() == a.objects_path.read_bytes()
        of_a, of_b = a.result, b.result
        # the one score that is no ratio of counts: its mean is taken in another order
        shares = [result["scores"].pop("block_share/block") for result in (of_a, of_b)]
        assert shares[1] == pytest.approx(shares[0], rel=1e-5)
        for key in ("num_images", "images", "confusion", "scores"):
            assert of_b[key] == of_a[key]
        assert b.result["num_images"] == 13
        for name, array in a.examples().items():
            assert (b.examples()[name] == array).all()
    for table in (gains, claim_table):
        assert table(compare(one)).equals(table(compare(two)))


@pytest.mark.slow
def test_two_processes_train_together(tmp_path):
    """To the same weights each time, with scores and a number of steps as one process has."""
    for name in ("first", "again"):
        words = tiny_overrides(tmp_path, "head=danet", f"name={name}", "data.num_train=11", *TWO)
        run_script("train.py", *words)
    alone = train(tiny_config(tmp_path, "head=danet", "name=alone", "data.num_train=11"))
    first, again = (Run(alone.path.with_name(name)) for name in ("first", "again"))
    weights = [
        torch.load(r.checkpoint_path, weights_only=True)["state_dict"] for r in (first, again)
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert first.objects().equals(again.objects())
    assert first.result["training"]["steps"] == alone.result["training"]["steps"] == 4
    assert first.metrics().columns.tolist() == alone.metrics().columns.tolist()
    assert first.metrics()["val/miou"].notna().sum() == 2


@pytest.mark.slow
def test_two_processes_resume_to_the_same_bits(tmp_path):
    """SIGKILL hits the first process alone; the second must not live on beside a new start."""
    words = tiny_overrides(tmp_path, "head=fla", "trainer.max_epochs=12", *TWO)
    run_script("train.py", *words, "name=whole")
    run = Run(tmp_path / "runs/default/killed")
    command = [sys.executable, str(SCRIPTS / "train.py"), *words, "name=killed"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wait_for(lambda: run.checkpoint_path.exists() or process.poll() is not None)
    children = _children(process.pid)
    process.kill()
    process.wait()
    assert run.result is None
    assert len(children) == 1
    wait_for(lambda: not alive(children[0]))
    assert run.status["state"] == "running", "the other process does not know why the first died"
    run_script("train.py", *words, "name=killed")
    whole = Run(run.path.with_name("whole"))
    paths = [r.checkpoint_path for r in (run, whole)]
    weights = [torch.load(path, weights_only=True)["state_dict"] for path in paths]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])
    assert run.objects_path.read_bytes() == whole.objects_path.read_bytes()


def _children(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


@pytest.mark.slow
def test_a_file_that_another_process_cannot_read_is_named(tmp_path):
    """Image 1 of val is the second process's; the first one only sees a broken connection."""
    root = write_camvid(tmp_path / "camvid")
    (root / "val/0001TP_val001.png").write_bytes(b"no image")
    data = ("data=camvid", f"data.root={root}", f"runs_dir={tmp_path / 'runs'}", "logger=none")
    small = ("head=fcn", "head.channels=8", "loader.batch_size=2", "augment.crop=[32,48]")
    done = run_script("train.py", *data, *small, *TWO, check=False)
    assert done.returncode != 0
    (run,) = load_runs(tmp_path / "runs")
    assert run.status["state"] == "failed"
    assert str(root / "val/0001TP_val001.png") in run.status["error"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [TWO, ("loader.num_workers=2",)])
@pytest.mark.parametrize("whom", [os.kill, os.killpg])
def test_sigterm_interrupts_a_run_of_several_processes(tmp_path, words, whom):
    """As a driver sends it to the first process, or Slurm to all of them."""
    words = tiny_overrides(tmp_path, "trainer.max_epochs=500", *words)
    command = [sys.executable, str(SCRIPTS / "train.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    run = Run(tmp_path / "runs/default/fcn-resnet18-scenes-s0")
    wait_for(lambda: run.status.get("epoch", 0) >= 2 or process.poll() is not None)
    children = _children(process.pid)
    whom(process.pid, signal.SIGTERM)
    try:
        assert process.wait(timeout=60) == -signal.SIGTERM
    finally:
        process.kill()
    wait_for(lambda: not any(map(alive, children)))
    assert not is_held(run.lock_path), "so that all see that it was interrupted"
    assert run.status["epoch"] >= 2


# imported, since run_path would change the argv by which Lightning starts the second process
_STILL = """
import importlib.util, torch
from torch.nn import functional

def forward(self, x):
    fixed = (self.running_mean, self.running_var, self.weight, self.bias)
    return functional.batch_norm(x, *fixed, False, 0.0, self.eps)

torch.nn.BatchNorm2d.forward = forward
spec = importlib.util.spec_from_file_location("train_script", {script!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["none", "inverse_sqrt"])
@pytest.mark.parametrize("parts", [1, 2])
def test_two_processes_take_the_step_of_one(tmp_path, weighting, parts):
    """With unequal numbers of void pixels; batch norm is fixed, as a synchronised one would be."""
    root = write_camvid(tmp_path / "camvid")
    for index, path in enumerate(sorted((root / "trainannot").glob("*.png"))):
        label = np.array(Image.open(path))
        label[: (0, 60, 30)[index % 3]] = 11
        Image.fromarray(label).save(path)
    script = tmp_path / "still.py"
    script.write_text(_STILL.format(script=str(SCRIPTS / "train.py")))
    words = [
        *("head=fcn", "head.channels=8", "head.dropout=0", "encoder=test_resnet", "num_examples=0"),
        *("data=camvid", f"data.root={root}", f"runs_dir={tmp_path}", "loader.num_workers=0"),
        *("augment.scale=[1,1]", "augment.jitter=0", "augment.flip=0", "logger=none"),
        *("optimizer.name=sgd", "optimizer.lr=0.1", "optimizer.momentum=0", "optimizer.warmup=0"),
        *("trainer.max_epochs=1", "trainer.precision=fp32", f"loss.class_weights={weighting}"),
        f"loader.batch_size={4 // parts}",
    ]
    words += [f"trainer.accumulate_grad_batches={parts}"] if parts > 1 else []
    for name, more in (("one", ()), ("two", TWO), ("start", ("optimizer.lr=0",))):
        command = [sys.executable, str(script), *words, f"name={name}"]
        subprocess.run([*command, *more], check=True, timeout=300)
    one, two, start = (weights(Run(tmp_path / "default" / n)) for n in ("one", "two", "start"))
    moved = max(float((one[key] - start[key]).abs().max()) for key in one)
    apart = max(float((one[key] - two[key]).abs().max()) for key in one)
    assert moved > 1e-3
    assert apart < 1e-3 * moved


@pytest.mark.slow
def test_two_processes_choose_one_epoch(tmp_path):
    words = tiny_overrides(tmp_path, "callbacks=early_stopping", "callbacks.patience=1", *TWO)
    run_script("train.py", *words)
    (run,) = load_runs(tmp_path / "runs")
    assert run.result["checkpoint"] == digest(run.best_path)
