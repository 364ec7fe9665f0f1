"""Crops show what was tested: weights, precision, and a seed that both heads have."""

import shutil

import numpy as np
import pandas as pd
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
    (folder / "crops.npz").unlink(missing_ok=True)  # of a test before this one
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


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((90, 100, 100, 120), ((52, 100), (72, 120))),  # 48 px, moved inside
        ((40, 50, 40, 45), ((21, 69), (18, 66))),  # 48 px around a small object
        ((30, 70, 30, 60), ((10, 90), (5, 85))),  # twice the longer side
        ((0, 100, 0, 10), ((0, 100), (0, 120))),  # as far as the image goes
    ],
)
def test_a_window_holds_its_object_and_stays_inside(box, window):
    mask = np.zeros((100, 120), bool)
    top, bottom, left, right = box
    mask[top:bottom, left:right] = True
    rows, columns = crops.crop_window(mask)
    assert ((rows.start, rows.stop), (columns.start, columns.stop)) == window


def test_the_largest_gains_and_losses_come_from_different_images():
    rows = [(f"{k % 6}", (-1) ** k * k / 100, k) for k in range(40)]
    frame = pd.DataFrame(rows, columns=["image", "difference", "area"])
    found = crops.extremes(frame)["difference"].tolist()
    assert found == [0.38, 0.36, 0.34, -0.39, -0.37, -0.35]
    assert crops.extremes(frame.iloc[:0]).empty
