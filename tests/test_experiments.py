"""Every YAML composes, and every choice trains a batch."""

import inspect

import pytest
import torch
import yaml
from camvid_files import write_camvid
from tiny import EXPERIMENTS, tiny_config

from segattn.config import compose_config
from segattn.data import DATASETS
from segattn.grid import expand
from segattn.heads import GIVEN, HEADS
from segattn.train import build_data, build_task


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (EXPERIMENTS / group).glob("*.yaml"))


def loss_of_one_batch(config) -> torch.Tensor:
    data = build_data(config)
    task = build_task(config, data)
    batch = next(iter(data.train_dataloader()))
    loss = task._losses(task(batch["image"]), batch["label"])["loss"]
    loss.backward()
    return loss


def test_every_head_and_data_set_has_a_file():
    assert names("head") == sorted(HEADS)
    assert names("data") == sorted(DATASETS)
    assert set(names("recipe")) >= set(DATASETS)


@pytest.mark.parametrize("head", names("head"))
def test_head_file_states_every_knob_and_fits_a_batch(tmp_path, head):
    stated = set(yaml.safe_load((EXPERIMENTS / "head" / f"{head}.yaml").read_text()))
    knobs = set(inspect.signature(HEADS[head]).parameters) - set(GIVEN)
    assert stated == {"name", *knobs}
    config = tiny_config(tmp_path, f"head={head}")
    assert torch.isfinite(loss_of_one_batch(config))


@pytest.mark.parametrize("data", names("data"))
def test_data_file_states_every_knob(data):
    stated = set(yaml.safe_load((EXPERIMENTS / "data" / f"{data}.yaml").read_text()))
    assert stated == {"name", *inspect.signature(DATASETS[data]).parameters} - {"split"}


@pytest.mark.parametrize("encoder", names("encoder"))
def test_encoder_file_fits_a_batch(tmp_path, encoder):
    assert torch.isfinite(loss_of_one_batch(tiny_config(tmp_path, f"encoder={encoder}")))


def test_camvid_fits_a_batch(tmp_path):
    root = write_camvid(tmp_path)
    overrides = ["data=camvid", f"data.root={root}", "loader.batch_size=2", "head=danet"]
    config = compose_config(overrides, folder=EXPERIMENTS)
    assert torch.isfinite(loss_of_one_batch(config))


@pytest.mark.parametrize("logger", names("logger"))
def test_logger_file_composes(tmp_path, logger):
    assert tiny_config(tmp_path, f"logger={logger}")["logger"]["project"] == "segattn"


@pytest.mark.parametrize("ablation", names("ablation"))
def test_ablation_expands_to_distinct_runs(ablation):
    cells = expand([f"ablation={ablation}", "data=scenes"], folder=EXPERIMENTS)
    axes = yaml.safe_load((EXPERIMENTS / "ablation" / f"{ablation}.yaml").read_text())["axes"]
    expected = 1
    for values in axes.values():
        expected *= len(values)
    assert len({cell.run.path for cell in cells}) == expected


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.lr=0.01",
        "optimizer.name=sgd",
        "optimizer.schedule=poly",
        "optimizer.warmup=0.5",
        "optimizer.weight_decay=0.5",
        "optimizer.momentum=0.5",
        "optimizer.encoder_lr_factor=0.1",
        "loss.class_weights=none",
        "augment.flip=0",
        "augment.jitter=0.5",
        "augment.scale=[1.5,2]",
        "augment.crop=[32,48]",
        "loader.batch_size=8",
        "head.dropout=0.5",
        "head.channels=16",
        "encoder.depth=4",
        "encoder.name=resnet34",
        "data.layout=aligned",
        "seed=1",
        "trainer.precision=bf16",
    ],
)
def test_every_training_knob_changes_the_trained_weights(tmp_path, override, trained_default):
    assert train_two_steps(tmp_path, override) != trained_default


@pytest.fixture(scope="module")
def trained_default(tmp_path_factory):
    folder = tmp_path_factory.mktemp("default")
    first = train_two_steps(folder)
    assert train_two_steps(folder) == first  # else "changes" would mean nothing
    return first


def test_auxiliary_weight_changes_the_weights_of_a_head_that_has_auxiliary_losses(tmp_path):
    published = ["head=danet", "head.wiring=published"]
    plain = train_two_steps(tmp_path, *published)
    assert train_two_steps(tmp_path, *published, "loss.aux_weight=0") != plain
    assert train_two_steps(tmp_path, "head=danet") != plain


def train_two_steps(folder, *overrides: str) -> float:
    import pytorch_lightning as pl

    from segattn.trainer import _LIGHTNING_PRECISION

    config = tiny_config(folder, *overrides)
    pl.seed_everything(config["seed"], verbose=False)
    data = build_data(config)
    task = build_task(config, data)
    trainer = pl.Trainer(
        max_steps=2,
        accelerator="cpu",
        precision=_LIGHTNING_PRECISION[config["trainer"]["precision"]],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(task, datamodule=data)
    return float(sum(p.detach().double().abs().sum() for p in task.model.parameters()))
