"""Crops show what was tested: weights, precision, and a seed that both heads have."""

import shutil

import numpy as np
import pytest
import torch
from simulated_runs import edit_result
from tiny import tiny_config

from segattn.analysis import crops
from segattn.base.runs import Run, load_runs, read_crops
from segattn.training.train import train


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """fcn with seeds 0 and 1, danet with seeds 1 and 2; best.ckpt is not last.ckpt."""
    folder = tmp_path_factory.mktemp("crops")
    for head, seed in (("fcn", 1), ("danet", 1)):
        words = ("callbacks=best", "experiment=e", f"head={head}", "head.channels=8")
        run = train(tiny_config(folder, *words, f"seed={seed}"))
        other = run.path.with_name(f"{head}-{2 * (head == 'danet')}")
        shutil.copytree(run.path, other)
        edit_result(other, seed=2 * (head == "danet"))
        for name in ("last", "best"):
            path = other / f"checkpoints/{name}.ckpt"
            path.write_bytes(b"neither is opened")
        run.checkpoint_path.write_bytes(b"the last weights were not tested")
    return run.path.parent


def test_the_tested_weights_of_the_first_common_seed_are_shown(experiment):
    crops.collect(experiment)  # any other checkpoint would raise
    found = read_crops(experiment)
    assert set(found["head"]) == {"danet"}
    assert load_runs(experiment)[0].tested_checkpoint.name == "best.ckpt"
    for key in ("prediction", "reference"):
        assert found[key].shape == (len(found["head"]), 96, 96)


def test_heads_without_a_common_seed_have_no_crops_and_a_report(experiment, tmp_path, capsys):
    from segattn.analysis import report

    folder = shutil.copytree(experiment, tmp_path / "e")
    (shared,) = (r for r in load_runs(folder) if r.path.name[0] == "d" and r.result["seed"] == 1)
    shutil.rmtree(shared.path)
    (folder / "crops.npz").unlink()
    crops.collect(folder)
    assert "no crops of danet: it shares no seed with fcn" in capsys.readouterr().out
    assert not read_crops(folder)
    (page,) = report.write_report(folder, tmp_path / "out")
    assert page.is_file()


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", None), ("bf16", torch.bfloat16), ("fp16", None)]
)
def test_precision_is_that_of_the_test(tmp_path, capsys, precision, dtype):
    run = Run(tmp_path)
    run.config_path.write_text(f"trainer: {{precision: {precision}}}")
    with crops.autocast_of_test(run, torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (dtype or torch.float32)
    assert ("tested in fp16, which needs a GPU" in capsys.readouterr().out) == (precision == "fp16")


@pytest.mark.gpu
def test_fp16_is_shown_in_fp16(tmp_path):
    run = Run(tmp_path)
    run.config_path.write_text("trainer: {precision: fp16}")
    with crops.autocast_of_test(run, torch.device("cuda")):
        product = torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")
    assert product.dtype == torch.float16


def test_windows_hold_the_object_and_stay_inside():
    mask = np.zeros((100, 120), bool)
    mask[90:100, 100:120] = True
    rows, columns = crops.crop_window(mask)
    assert (rows, columns) == (slice(52, 100), slice(72, 120))
