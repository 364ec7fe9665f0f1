"""What passes through to Lightning's Trainer does what it says there; what cannot is told."""

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from tiny import EXPERIMENTS, tiny_config, weights
from torch import nn

from segattn.base import hardware
from segattn.base.errors import UserError
from segattn.base.hardware import resolve_accelerator, resolve_precision, set_tf32
from segattn.config.compose import differences
from segattn.evaluation.evaluate import evaluate
from segattn.training import train as training
from segattn.training.task import SegmentationTask
from segattn.training.train import run_folder, train
from segattn.training.trainer import build_trainer


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "trainer.gradient_clip_vall=1",
            r"unknown key trainer\.gradient_clip_vall; did you mean",
        ),
        ("encoder.dpth=3", r"unknown key encoder\.dpth; did you mean depth\?"),
        ("trainer.xyz=3", r"unknown key trainer\.xyz; there are max_epochs, val_every, .*profiler"),
        ("trainer.callbacks=[]", r"trainer\.callbacks cannot be set: a run needs its own"),
        ("trainer.logger=true", r"trainer\.logger cannot be set: choose logger=wandb"),
        ("trainer.overfit_batches=2", r"trainer\.overfit_batches cannot be set: set data"),
        ("trainer.model_registry=x", r"trainer\.model_registry cannot be set: it has no effect"),
        ("trainer.precision=fp16", r"trainer\.precision=fp16 needs a GPU"),
    ],
)
def test_what_cannot_be_set_is_told_in_one_line(tmp_path, word, message):
    with pytest.raises(ValueError, match=f"^{message}") as raised:
        tiny_config(tmp_path, word, "trainer.accelerator=cpu")
    assert "\n" not in str(raised.value)


def test_config_holds_what_was_given_alone(tmp_path):
    trainer = tiny_config(tmp_path, "trainer.gradient_clip_val=0.5")["trainer"]
    assert trainer["gradient_clip_val"] == 0.5
    assert "accumulate_grad_batches" not in trainer
    changed = differences(
        tiny_config(tmp_path), tiny_config(tmp_path, "trainer.gradient_clip_val=0.5")
    )
    assert changed == ["trainer.gradient_clip_val: None -> 0.5"]


def test_value_that_lightning_refuses_is_told_with_its_reason(tmp_path):
    config = tiny_config(tmp_path, "trainer.gradient_clip_algorithm=nonsense")
    with pytest.raises(
        ValueError, match=r"take trainer\.gradient_clip_algorithm=nonsense: .*Allowed algorithms"
    ):
        train(config)


def test_validation_that_never_comes_is_told(tmp_path):
    with pytest.raises(UserError, match=r"cannot train this way: .*`val_check_interval` \(99\)"):
        train(tiny_config(tmp_path, "trainer.val_check_interval=99"))


def test_setting_that_breaks_the_exact_resume_says_so(tmp_path):
    config = tiny_config(tmp_path, "trainer.max_time='00:01:00:00'", "trainer.max_epochs=1")
    with pytest.warns(UserWarning, match=r"trainer\.max_time=.*will not be the same"):
        train(config)


class Steps(Callback):
    """The learning rate of every optimizer step, and the seed of every batch."""

    def __init__(self):
        self.rates, self.seeds = {}, []

    def on_train_batch_end(self, trainer, task, *_):
        self.rates[trainer.global_step] = trainer.optimizers[0].param_groups[-1]["lr"]
        self.seeds.append(torch.initial_seed())


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ((), 4),
        (("trainer.accumulate_grad_batches=2",), 2),
        (("trainer.accumulate_grad_batches=3", "data.num_train=16"), 4),
        (("trainer.limit_train_batches=1",), 2),
        (("trainer.limit_train_batches=0.5", "data.num_train=16"), 4),
        (("trainer.max_steps=3",), 3),
    ],
)
def test_schedule_ends_with_the_last_step(tmp_path, monkeypatch, words, steps):
    seen, build = Steps(), training.build_trainer

    def with_steps(*args, callbacks, **options):
        return build(*args, callbacks=[*callbacks, seen], **options)

    monkeypatch.setattr(training, "build_trainer", with_steps)
    run = train(tiny_config(tmp_path, "optimizer.schedule=poly", *words))
    assert run.result["training"]["steps"] == steps == max(seen.rates)
    assert seen.rates[steps] == pytest.approx(0, abs=1e-12)  # after the last step
    assert min(list(seen.rates.values())[:-1], default=1) > 0
    assert len(set(seen.seeds)) == len(seen.seeds)  # every batch drops out units of its own


def test_gradients_are_clipped(tmp_path):
    words = ("optimizer.name=sgd", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    free = train(tiny_config(tmp_path, *words, "name=free"))
    still = train(tiny_config(tmp_path, *words, "name=still", "trainer.gradient_clip_val=1e-9"))
    key = "model.head.classify.1.weight"
    moved = (weights(free)[key] - weights(still)[key]).abs().max()
    assert moved > 1e-5


def test_trying_out_leaves_nothing(tmp_path, capsys):
    config = tiny_config(tmp_path, "trainer.fast_dev_run=true")
    run = train(config)
    assert "nothing is kept" in capsys.readouterr().out
    assert not run.path.exists()


def test_part_of_the_test_is_scored_as_such(tmp_path):
    words = ("trainer.limit_test_batches=1", "loader.eval_batch_size=3", "trainer.max_epochs=1")
    result = train(tiny_config(tmp_path, *words)).result
    assert result["num_images"] == len(result["images"]) == len(result["blocks"]) == 3


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bar_is_shown_on_a_terminal_or_where_it_is_asked_for(tmp_path, shown):
    config = tiny_config(tmp_path, f"trainer.enable_progress_bar={str(shown).lower()}")
    trainer = build_trainer(run_folder(config), config, loggers=[], callbacks=[])
    assert (trainer.progress_bar_callback is not None) == shown


def test_profile_is_left_in_the_run_folder(tmp_path):
    run = train(tiny_config(tmp_path, "trainer.profiler=simple", "trainer.max_epochs=1"))
    assert "run_training_epoch" in (run.path / "fit-profile.txt").read_text()


@pytest.fixture
def compiles(monkeypatch):
    """torch.compile without a C++ compiler; the names of what was compiled."""
    torch.compiler.reset()
    compiled, compile_module = [], nn.Module.compile

    def without_compiler(self):
        compiled.append(type(self).__name__)
        compile_module(self, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", without_compiler)
    return compiled


def test_compiled_run_trains_resumes_and_is_tested_as_any_other(tmp_path, compiles, monkeypatch):
    words = ("head=danet", "loader.eval_batch_size=1", "trainer.max_epochs=3")
    plain = train(tiny_config(tmp_path, *words, "name=plain"))
    assert compiles == []
    config = tiny_config(tmp_path, *words, "name=compiled", "trainer.compile=true")
    with monkeypatch.context() as patches:
        patches.setattr(SegmentationTask, "on_validation_epoch_end", stop_at_the_second())
        with pytest.raises(RuntimeError, match="pulled the plug"):
            train(config)
    run = train(config)
    assert compiles == ["ResNetEncoder", "ScaffoldHead"] * 2
    assert weights(run).keys() == weights(plain).keys()
    for key, value in weights(run).items():
        torch.testing.assert_close(value, weights(plain)[key], rtol=1e-3, atol=1e-3)
    assert run.result["cost"]["flops"] == plain.result["cost"]["flops"]
    assert run.attention().keys() == plain.attention().keys()
    for block in ("block_share/block.spatial", "block_share/block.channel"):
        shares = [r.result["scores"][block] for r in (run, plain)]
        assert shares[0] == pytest.approx(shares[1], rel=1e-2)
    checkpoint = run.checkpoint_path
    again = evaluate(checkpoint, [], folder=EXPERIMENTS, out=tmp_path / "again")
    assert again.result["scores"]["miou"] == pytest.approx(run.result["scores"]["miou"], abs=1e-3)


def stop_at_the_second():
    ends, end = [], SegmentationTask.on_validation_epoch_end

    def stop(self):
        ends.append(end(self))
        if len(ends) == 2:
            raise RuntimeError("pulled the plug")

    return stop


@pytest.mark.parametrize(
    ("cuda", "mps", "taken"),
    [(True, True, "gpu"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch, cuda, mps, taken):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_accelerator("auto") == taken
    assert resolve_accelerator("cpu") == "cpu"
    if not mps:
        with pytest.raises(ValueError, match="no MPS device"):
            resolve_accelerator("mps")


def test_precision_follows_the_accelerator(monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_multiplies_bf16", lambda: True)
    assert [resolve_precision("auto", a) for a in ("cpu", "mps")] == ["bf16", "fp32"]
    assert resolve_precision("fp16", "gpu") == resolve_precision("fp16", "mps") == "fp16"


@pytest.mark.parametrize(
    ("tf32", "products", "convolutions"),
    [(True, "high", True), (False, "highest", False), (None, "highest", True)],
)
def test_tf32_is_set_anew_for_every_run(tf32, products, convolutions):
    set_tf32(not tf32)
    set_tf32(tf32)
    assert torch.get_float32_matmul_precision() == products
    assert torch.backends.cudnn.allow_tf32 == convolutions
    set_tf32(None)
