"""Every YAML composes, and every choice trains a batch."""

import inspect

import pytest
import torch
import yaml
from ade20k_files import write_ade20k
from camvid_files import write_camvid
from cityscapes_files import write_cityscapes
from tiny import EXPERIMENTS, tiny_config
from voc_files import write_voc

from segattn.data import DATASETS
from segattn.grid import expand
from segattn.models.heads import GIVEN, HEADS
from segattn.training.build import build_data, build_task
from segattn.training.train import train

PAPER_DATA = {
    "cityscapes": write_cityscapes,
    "ade20k": write_ade20k,
    "voc": write_voc,
    "camvid": write_camvid,
}


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
    assert set(names("data")) >= set(DATASETS)
    assert set(names("recipe")) >= set(DATASETS) - {"coco", "folder"}


@pytest.mark.parametrize("head", names("head"))
def test_head_file_states_every_knob_and_fits_a_batch(tmp_path, head):
    stated = set(yaml.safe_load((EXPERIMENTS / "head" / f"{head}.yaml").read_text()))
    knobs = set(inspect.signature(HEADS[head]).parameters) - set(GIVEN)
    assert stated == {"name", *knobs}
    config = tiny_config(tmp_path, f"head={head}")
    assert torch.isfinite(loss_of_one_batch(config))


@pytest.mark.parametrize("data", names("data"))
def test_data_file_states_every_knob(data):
    stated = stated_by(data)
    knobs = inspect.signature(DATASETS[stated["name"]]).parameters
    assert set(stated) == {"name", *list(knobs)[1:]}


def stated_by(data: str) -> dict:
    content = yaml.safe_load((EXPERIMENTS / "data" / f"{data}.yaml").read_text())
    base = content.pop("defaults", [None])[0]
    return {**(stated_by(base) if base else {}), **content}


@pytest.mark.parametrize("encoder", names("encoder"))
def test_encoder_file_fits_a_batch(tmp_path, encoder):
    assert torch.isfinite(loss_of_one_batch(tiny_config(tmp_path, f"encoder={encoder}")))


@pytest.mark.parametrize("logger", names("logger"))
def test_logger_file_composes(tmp_path, logger):
    assert tiny_config(tmp_path, f"logger={logger}")["logger"]["name"] == logger


@pytest.mark.filterwarnings("ignore:.* images here and .* officially")
@pytest.mark.parametrize(("data", "write"), PAPER_DATA.items())
def test_comparison_of_the_paper_is_one_file_a_data_set(tmp_path, data, write):
    root = f"data.root={write(tmp_path / data)}"
    cells = expand([f"ablation=paper_{data}", root], folder=EXPERIMENTS)
    assert len(cells) == 3 * len({cell.config["head"]["name"] for cell in cells}) == 18
    assert {cell.run.path.parent.name for cell in cells} == {f"paper_{data}"}
    config = cells[0].config
    assert config["data"]["name"] == data
    assert config["encoder"]["weights"] == "imagenet"
    small = ["head=fla", "head.channels=8", "seed=0", "encoder=resnet18", "encoder.depth=3"]
    small += ["encoder.weights=null", "augment.crop=[32,48]", "loader.batch_size=2", "logger=none"]
    small += ["trainer.max_epochs=1", "trainer.precision=fp32", f"runs_dir={tmp_path}"]
    small += ["protocol.crop=[32,48]", "protocol.stride=[16,24]"] if data == "cityscapes" else []
    (cell,) = expand([f"ablation=paper_{data}", root, *small], folder=EXPERIMENTS)
    assert train(cell.config).result["scores"]["miou"] >= 0


def test_word_of_the_command_line_replaces_that_of_the_ablation():
    words = ["ablation=paper_camvid", "data.root=x", "protocol=sliding", "seed=0", "head=fcn"]
    (cell,) = expand(words, folder=EXPERIMENTS)
    assert cell.config["protocol"]["name"] == "sliding"
    first, second = expand([*words, "encoder=resnet34,resnet50"], folder=EXPERIMENTS)
    assert [c.config["encoder"]["name"] for c in (first, second)] == ["resnet34", "resnet50"]


@pytest.mark.parametrize("ablation", [n for n in names("ablation") if "paper" not in n])
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
        "data.num_train=7",
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

    from segattn.training.trainer import _LIGHTNING_PRECISION

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
