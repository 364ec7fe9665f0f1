"""Every data set of files, in its official layout: read, checked and trained on for one step."""

from importlib import import_module

import numpy as np
import pytest
import torch
from tiny import EXPERIMENTS

from segattn.config.compose import compose_config
from segattn.data import DATASETS, build_source
from segattn.data.check import check
from segattn.training.build import build_data, build_task

# a new data set needs a writer: tests/NAME_files.py with write_NAME(root), which gives data.root
OF_FILES = sorted(set(DATASETS) - {"scenes", "coco", "folder"})


@pytest.fixture(params=OF_FILES)
def written(request, tmp_path):
    """Name and root of a data set that was just written."""
    writer = getattr(import_module(f"{request.param}_files"), f"write_{request.param}")
    return request.param, writer(tmp_path / request.param)


def test_every_sample_can_be_read(written):
    data, root = written
    for split in ("train", "val", "test"):
        source = build_source(data, split, root=str(root))
        assert len(source.names) >= 3
        for index, name in enumerate(source.names):
            sample = source.load(index)
            assert sample.name == name
            assert sample.image.shape == (*sample.label.shape, 3)
            assert sample.image.dtype == sample.label.dtype == np.uint8
            assert set(np.unique(sample.label)) <= {*range(len(source.classes)), 255}


@pytest.mark.parametrize("wrong", ["..", "nowhere"])
def test_a_wrong_root_is_named(written, wrong):
    data, root = written
    with pytest.raises(ValueError, match=r"no folder .*; set data\.root to "):
        build_source(data, "train", root=str(root / wrong))


def test_facts_about_classes_fit_together(written):
    data, root = written
    source = build_source(data, "train", root=str(root))
    assert len(set(source.classes)) == len(source.classes) == len(source.palette)
    named = [*source.things, *source.with_ids, *sum(source.class_groups.values(), ())]
    assert set(named) <= set(source.classes)
    assert len(source.values or source.classes) == len(source.classes)
    assert len(source.blocks()) == len(source.names)
    assert set(source.official) == {"train", "val", "test"}


def test_check_finds_the_official_counts_missing_and_nothing_else(written):
    data, root = written
    found = check(data, {"root": str(root)}, jobs=1)
    assert len(found.problems) == len(found.splits)
    for split, problem in zip(found.splits, found.problems, strict=True):
        name, count = split.official
        start = f"{split.title}: {len(split.source.names)} complete images, but the official split"
        assert problem.startswith(f"{start} {name!r} has {count};")
        assert len(split.facts) == len(split.source.names)
    assert all("classes never occur" in line for line in found.warnings)


@pytest.mark.filterwarnings("ignore:.* images here and .* officially")
def test_one_training_step_has_a_finite_loss(written, tmp_path):
    data, root = written
    overrides = [
        f"data={data}",
        f"data.root={root}",
        f"runs_dir={tmp_path}",
        "head=fcn",
        "head.channels=8",
        "encoder=resnet18",
        "encoder.depth=3",
        "encoder.output_stride=8",
        "encoder.weights=null",
        "augment.crop=[32,48]",
        "loader.batch_size=2",
        "loader.num_workers=0",
        "trainer.precision=fp32",
        "logger=none",
    ]
    config = compose_config(overrides, folder=EXPERIMENTS)
    module = build_data(config)
    module.prepare_data()
    task = build_task(config, module)
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (2, 3, 32, 48)
    loss = task._losses(task(batch["image"]), batch["label"])["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    gradients = [p.grad for p in task.model.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
