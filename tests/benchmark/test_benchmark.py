"""The benchmark measures what it says: equal modules, known FLOPs, known bytes, real failures."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import EXPERIMENTS, call_script
from torch import nn

from segattn.benchmark import display, suite
from segattn.benchmark.measure import (
    alternate,
    forward_flops,
    median_ratio,
    out_of_memory,
    peak_memory,
    step,
)
from segattn.benchmark.pairs import BLOCKS, block_pair, with_published_blocks
from segattn.benchmark.suite import blocks, memory_curves, training_steps
from segattn.models.heads import HEADS, build_head

CPU = torch.device("cpu")
OPTIONS = {"device": CPU, "dtype": torch.float32}


def test_published_blocks_are_those_of_heads():
    assert set(BLOCKS) < set(HEADS)  # one's own heads have none


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_a_pair_are_equal_and_open(name):
    pair = block_pair(name, 16)
    x = torch.randn(1, 16, 6, 5, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(pair.ours(x), x)
    torch.testing.assert_close(pair.ours(x), pair.published(x))


@pytest.mark.parametrize("name", ["fcn", *BLOCKS])
def test_a_head_with_the_published_block_computes_the_same(name):
    head = build_head(name, 32, 3, channels=8).eval()
    published = with_published_blocks(head).eval()
    x = torch.randn(2 if name != "fla" else 1, 32, 6, 5)
    torch.testing.assert_close(head(x).logits, published(x).logits)
    kinds = [type(module).__name__ for module in published.modules()]
    assert name == "fcn" or any(kind.startswith("Published") for kind in kinds)


def test_only_a_scaffold_with_a_known_block_is_published():
    with pytest.raises(TypeError, match="DANetHead has no scaffold"):
        with_published_blocks(build_head("danet", 32, 3, channels=16, wiring="published"))
    head = build_head("fcn", 32, 3, channels=16)
    head.block = nn.ReLU()
    with pytest.raises(TypeError, match="ReLU has no published counterpart"):
        with_published_blocks(head)


@pytest.mark.parametrize(
    ("name", "gigaflops"),
    [
        ("channel_nl", 9.66),
        ("spatial_nl", 103.9),
        ("danet", 113.6),
        ("cs_nl", 113.6),
        ("fla", 19.3 + 0.1),  # and the two Linear layers of the contexts
        ("ccnet", 2 * 8.08),  # two loops
    ],
)
def test_flops_are_those_of_the_equations(name, gigaflops):
    pair, x = block_pair(name, 512), torch.empty(1, 512, 96, 96)
    for module in (pair.published, pair.ours):
        assert forward_flops(module, x) / 1e9 == pytest.approx(gigaflops, rel=2e-3)


def test_peak_memory_counts_what_lives_at_once():
    def call():
        first = torch.empty(1_000_000)
        del first
        return torch.empty(500_000), torch.empty(250_000)

    assert peak_memory(call, CPU) == 4_000_000


def test_training_keeps_less_than_the_published_maps():
    pair = block_pair("spatial_nl", 16)
    x = torch.randn(1, 16, 40, 40)
    ours, published = (
        peak_memory(step(module, x, training=True), CPU) for module in (pair.ours, pair.published)
    )
    one_map = 4 * 1600**2
    assert published > 3 * one_map
    assert ours < one_map + 8 * 4 * x.numel() * 4


def test_calls_alternate_and_slow_ones_get_a_few_rounds():
    order = []
    times = alternate([lambda: order.append("a"), lambda: order.append("b")], seconds=0, device=CPU)
    assert order == ["a", "b"]
    assert [len(taken) for taken in times] == [1, 1]
    assert len(alternate([lambda: None], seconds=0.1, device=CPU)[0]) >= 3
    assert median_ratio([1.0, 2.0, 30.0], [2.0, 4.0, 3.0]) == 0.5


def test_a_failed_allocation_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**46)
    assert out_of_memory(failed.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_limit_lets_an_allocation_fail():
    program = """
import torch
from segattn.benchmark.measure import out_of_memory
from segattn.benchmark.suite import limit_memory
limit_memory(0.5, torch.device("cpu"))
torch.zeros(2**26)
try:
    torch.zeros(2**28)
except RuntimeError as error:
    print("failed", out_of_memory(error))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == ("failed True" if sys.platform == "linux" else ""), done.stderr


def test_comparison_has_a_row_per_name_and_mode():
    frame = pd.DataFrame(blocks([(1, 32, 6, 5)], seconds=0, **OPTIONS))
    assert list(frame["name"].unique()) == list(BLOCKS)
    assert list(frame["mode"].unique()) == ["forward", "training"]
    assert len(frame) == 2 * len(BLOCKS)
    assert (frame["error"] < 1e-5).all()
    numbers = frame[["time_ratio", "memory_ratio", "seconds", "published_seconds", "flops"]]
    assert np.isfinite(numbers).all(axis=None)
    assert list(display.blocks(frame)["name"]) == list(BLOCKS)


def test_what_does_not_fit_is_said(monkeypatch):
    def fail(self, x):
        if x.is_meta:
            return x
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    for block in ("PublishedSpatial", "PublishedChannel"):
        monkeypatch.setattr(f"segattn.benchmark.pairs.{block}.forward", fail)
    rows = blocks([(1, 16, 3, 4)], seconds=0, **OPTIONS)
    frame = pd.DataFrame(rows).set_index(["name", "mode"])
    row = frame.loc[("spatial_nl", "training")]
    assert math.isnan(row["published_bytes"])
    assert math.isnan(row["time_ratio"])
    assert row["bytes"] > 0
    shown = display.blocks(frame.reset_index()).set_index("name")
    assert shown.loc["spatial_nl", "memory training"] == "runs, published does not"
    assert shown.loc["spatial_nl", "published training"] == "out of memory"
    assert "s, " in shown.loc["fla", "published training"]


def test_another_error_is_not_taken_for_lack_of_memory(monkeypatch):
    def fail(self, x):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr("segattn.benchmark.pairs.PublishedChannel.forward", fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        list(blocks([(1, 16, 3, 4)], seconds=0, **OPTIONS))


def test_memory_curve_ends_where_a_form_ran_out(monkeypatch):
    def fail_above_six(self, x):
        if x.shape[-1] > 6 and not x.is_meta:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return x

    monkeypatch.setattr("segattn.benchmark.pairs.PublishedSpatial.forward", fail_above_six)
    frame = pd.DataFrame(memory_curves(16, (4, 6, 8, 10), **OPTIONS))
    published = frame[(frame["name"] == "spatial_nl") & (frame["form"] == "published")]
    assert list(published["side"]) == [4, 6, 8]
    assert list(published["bytes"].isna()) == [False, False, True]
    ours = frame[(frame["name"] == "spatial_nl") & (frame["form"] == "ours")]
    assert ours["bytes"].is_monotonic_increasing
    table = display.memory(frame).set_index(["name", "form"])
    assert table.loc[("spatial_nl", "published"), "8 x 8"] == "out of memory"
    assert table.loc[("spatial_nl", "published"), "10 x 10"] == ""
    figure = display.memory_figure(frame, channels=16, limit=0.001)
    (axes,) = figure.axes
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [float(line.get_xdata()[0]) for line in crosses] == [8.0]


def test_a_training_step_is_compared_head_by_head(monkeypatch):
    monkeypatch.setattr(suite, "_IMAGE", (64, 96))
    options = {"batch_size": 2, "encoder": "resnet18", "seconds": 0, **OPTIONS}
    frame = pd.DataFrame(training_steps(["fcn", "fla"], **options))
    by_head = frame.set_index("name")
    assert by_head.loc["fcn", "memory_ratio"] == pytest.approx(1, abs=0.02)
    assert by_head.loc["fla", "memory_ratio"] <= 1
    assert np.isfinite(frame["time_ratio"]).all()
    assert list(display.steps(frame)["head"]) == ["fcn", "fla"]


def test_script_leaves_tables_and_figure(tmp_path, monkeypatch, capsys):
    script = [sys.executable, str(EXPERIMENTS.parent / "scripts/benchmark.py")]
    options = ["--shapes", "1,32,4,5", "--sides", "4", "6", "--seconds", "0", "--device", "cpu"]
    parts = ["blocks", "memory"]
    done = subprocess.run(
        [*script, *parts, *options, "--out", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for part in parts:
        assert len(pd.read_csv(tmp_path / f"{part}.csv")) > 0
        text = (tmp_path / f"{part}.md").read_text()
        assert text in done.stdout
        assert "`python scripts/benchmark.py blocks memory --shapes" in text
    assert (tmp_path / "memory.png").stat().st_size > 10_000
    for words, message in (
        (["stepz"], "unknown part ['stepz']; choose of blocks, memory, steps"),
        (["--shapes", "1,512,96"], "'1,512,96' is not B,C,H,W, e.g. 1,512,96,96"),
        (["--shapes", "1,4,4,5"], "needs C of at least 8"),
    ):
        assert call_script(monkeypatch, "benchmark.py", *words) == 2
        assert message in capsys.readouterr().err
