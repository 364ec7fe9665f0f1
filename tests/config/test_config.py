"""Composing and checking: every mistake is named before anything runs."""

import copy
import shutil

import pytest
import torch
from tiny import EXPERIMENTS, tiny_config

from segattn.base.errors import UserError
from segattn.config.compose import compose_config, differences


def test_facts_are_written_once_and_follow(tmp_path):
    config = tiny_config(
        tmp_path, "encoder=resnet50", "encoder.output_stride=16", "encoder.depth=5", "seed=3"
    )
    assert config["encoder"]["output_stride"] == 16
    assert config["name"] == "fcn-resnet50-scenes-s3"
    assert tiny_config(tmp_path)["encoder"]["depth"] == 3  # from recipe/scenes.yaml
    assert (
        compose_config(["data=camvid", "data.root=x"], folder=EXPERIMENTS)["encoder"]["depth"] == 5
    )


def test_auto_is_resolved(tmp_path):
    trainer = tiny_config(tmp_path, "trainer.precision=auto")["trainer"]
    assert trainer["precision"] in ("fp32", "bf16")
    assert trainer["accelerator"] == ("gpu" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head.chanels=4", "chanels"),
        ("+head.extra=4", "no knob 'extra'.*channels"),
        ("head=flaa", "flaa"),
        ("encodr.depth=4", "encodr"),
        ("trainer.max_epochs=0", r"trainer\.max_epochs must be at least 1"),
        ("trainer.max_epochs=soon", "soon.*could not be converted to Integer"),
        ("loader.num_workers=-1", r"loader\.num_workers must be auto, 0 or more, got -1"),
        ("loader.num_workers=some", r"num_workers must be auto, 0 or more, got 'some'"),
        ("seed=-1", r"seed must be in \[0"),
        ("augment.flip=2", r"augment\.flip must be in \[0, 1\], got 2"),
        ("augment.scale=[2,1]", r"low <= high <= 10, got \[2\.0, 1\.0\]"),
        ("augment.scale=[1]", r"\[low, high\].* got \[1\.0\]"),
        ("augment.crop=[32]", r"\[height, width\], got \[32\]"),
        ("augment.jitter=1", r"augment\.jitter must be in \[0, 0\.9999\]"),
        ("metric.radius=-1", "metric.radius must be at least"),
        ("encoder.name=resnet81", "unknown encoder 'resnet81'"),
        ("encoder.output_stride=16", "at most 2 .* = 8, got 16"),
        ("head.channels=-4", "channels >= 1"),
        ("experiment=../x", "experiment must be a plain folder name"),
        ("optimizer.name=adam", r"unknown optimizer\.name 'adam'.*adamw.*sgd"),
        ("optimizer.schedule=step", r"schedule 'step'.*cosine.*poly"),
        ("loss.class_weights=some", "'some'.*inverse_sqrt.*none"),
        ("trainer.precision=fp8", "'fp8'.*auto.*bf16.*fp32"),
        ("trainer.accelerator=tpu", "'tpu'.*auto.*cpu.*gpu"),
        ("logger.mode=on", "'on'.*auto.*disabled"),
        ("name=a/b", "plain folder name"),
        ("data.root=???", r"not set: data\.root; pass data\.root=VALUE"),
    ],
)
def test_mistakes_are_named(tmp_path, override, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        tiny_config(tmp_path, override)


def test_mixing_images_is_evaluated_one_at_a_time(tmp_path):
    overrides = ["head=fla", "head.published_batch_mixing=true"]
    with pytest.raises(ValueError, match=r"=8; set loader\.eval_batch_size=1"):
        tiny_config(tmp_path, *overrides)
    assert tiny_config(tmp_path, *overrides, "loader.eval_batch_size=1")


def test_gpu_without_cuda_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no CUDA device"):
        tiny_config(tmp_path, "trainer.accelerator=gpu")


def test_differences_name_what_makes_another_experiment(tmp_path):
    first = tiny_config(tmp_path)
    second = copy.deepcopy(first)
    second["data"]["root"] = "elsewhere"
    second["loader"]["num_workers"] = 2
    second["logger"]["mode"] = "auto"
    assert differences(first, second) == []
    second["optimizer"]["lr"] = 0.5
    second["data"]["height"] = 128
    assert differences(first, second) == [
        "data.height: 64 -> 128",
        "optimizer.lr: 0.002 -> 0.5",
    ]


@pytest.mark.parametrize(
    "word",
    [
        *("optimizer.lr=-0.01", "optimizer.lr=nan", "optimizer.lr=inf"),
        *("optimizer.weight_decay=-1", "optimizer.encoder_lr_factor=-1", "optimizer.momentum=1"),
        *("metric.radius=-1", "seed=-1", "data.num_train=0"),
        *("trainer.val_check_interval=0", "trainer.min_epochs=-1", "trainer.log_every_n_steps=-1"),
        *("data.height=-5", "encoder.depth=0", "augment.jitter=-0.1", "trainer.val_every=0"),
    ],
)
def test_every_number_has_its_range(tmp_path, word):
    with pytest.raises(UserError, match=rf"{word.split('=')[0]} must be (in|at least) "):
        tiny_config(tmp_path, word)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("loader.batch_size=abc", "batch_size=abc: Value 'abc' of type 'str' could not be"),
        ("seed=null", "seed=null: field 'seed' is not Optional"),
        (
            "optimizer=sgd",
            "a section takes no value of its own; its keys are name, lr, weight",
        ),
        ("name=${nope}", "name: Interpolation key 'nope' not found"),
        ("data.num_trian=4", "no knob 'num_trian'.*did you mean num_train"),
        ("encoder=resnet10", "unknown encoder 'resnet10'.*did you mean resnet101"),
        ("encoder.name=tu-resnet101d_", "timm has no resnet101d_; close names: tu-resnet101d"),
        ("encoder.name=tu-vit_tiny_patch16_224", "takes images of one size only"),
        ("augment.crop=[8,8] loader.batch_size=1", "gives batch normalisation nothing to average"),
        ("trainer.limit_test_batches=0", "must be at least 1e-06, got 0"),
        ("trainer.accumulate_grad_batches=x", "accumulate_grad_batches must be int"),
        ("trainer.deterministic=maybe", "must be bool or one of"),
        ("trainer.strategy=ddp_spawn", "keeps no test; use auto or ddp"),
        ("logger.name=[]", "unknown logger.name ''"),
    ],
)
def test_what_cannot_be_trained_is_one_line_before_anything_is_read(tmp_path, word, told):
    with pytest.raises(UserError, match=told) as caught:
        tiny_config(tmp_path, *word.split())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "experiment", "runs_dir", "data.root", "encoder.weights"])
def test_an_empty_value_is_refused(tmp_path, key):
    for value in ("", " "):
        with pytest.raises(UserError, match=f"{key} is empty"):
            tiny_config(tmp_path, f"{key}={value}")


def test_a_name_is_one_that_a_folder_can_have(tmp_path):
    for name in ("n" * 201, "ä" * 101, "a/b", "..", "a\nb"):
        with pytest.raises(UserError, match="name must be a plain folder name"):
            tiny_config(tmp_path, f"name={name}")


@pytest.mark.parametrize(
    "content",
    [
        b"name: fla\n\tchannels: 64\n",
        b"name: fla\nchannels 64\n",
        b"name: fla\nname: fcn\n",
        b"name: fla # gr\xf6\xdfe\n",
        b"name: fla\nchannels: [64\n",
        b"- fla\n",
        b"defaults:\n  - nothere\n",
        b"defaults: x\n",
        b"",
    ],
)
def test_a_config_file_that_was_edited_wrongly_is_one_line(tmp_path, content):
    shutil.copytree(EXPERIMENTS, tmp_path / "e")
    (tmp_path / "e/head/fla.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        compose_config(["head=fla"], folder=tmp_path / "e")
    assert "\n" not in str(caught.value)
