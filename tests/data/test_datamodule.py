"""Order, augmentation and collation: all from (seed, epoch, index)."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from camvid_files import write_camvid
from tiny import tiny_config

from segattn.base import hardware
from segattn.base.hardware import CORES, resolve_workers
from segattn.data.datamodule import SegmentationData, collate
from segattn.data.samplers import EpochSampler
from segattn.data.transforms import augment
from segattn.grid import local
from segattn.training.build import build_data
from segattn.training.task import SegmentationTask
from segattn.training.train import train

PLAIN = {"crop": None, "scale": [1.0, 1.0], "flip": 0.0, "jitter": 0.0}


def build(root, *, seed=0, **options):
    defaults = {
        "augment": {"crop": [32, 48], "scale": [0.5, 2.0], "flip": 0.5, "jitter": 0.3},
        "batch_size": 2,
        "eval_batch_size": 2,
        "num_workers": 0,
        "cache": False,
    }
    data = {"name": "camvid", "root": str(root)}
    return SegmentationData(data=data, seed=seed, **{**defaults, **options})


def epoch(module, number=0):
    module.epoch = lambda: number
    return list(module.train_dataloader())


def same(first, second):
    return all(
        a["name"] == b["name"]
        and torch.equal(a["image"], b["image"])
        and torch.equal(a["label"], b["label"])
        for a, b in zip(first, second, strict=True)
    )


def test_sampler_order_is_a_function_of_seed_and_epoch():
    def order(seed, number):
        return list(EpochSampler(50, seed=seed, epoch=lambda: number))

    assert order(0, 1) == order(0, 1)
    assert sorted(index for index, _ in order(0, 1)) == list(range(50))
    assert order(0, 1) != order(0, 2) != order(1, 2)
    assert len({seed for n in range(3) for _, seed in order(0, n)}) == 150


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"cache": True}])
def test_workers_and_cache_change_no_pixel(tmp_path, options):
    root = write_camvid(tmp_path)
    reference = epoch(build(root), 1)
    assert same(epoch(build(root, **options), 1), reference)
    assert not same(epoch(build(root), 2), reference)
    assert not same(epoch(build(root, seed=1), 1), reference)


@pytest.mark.parametrize("cache", [False, True])
def test_what_loading_processes_are_sent_can_be_pickled(tmp_path, cache):
    """Where they are not forked, as on macOS."""
    module = build(write_camvid(tmp_path), num_workers=1, cache=cache)
    for loader in (module.train_dataloader(), module.val_dataloader()):
        dataset, function = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
        assert dataset.source.names == loader.dataset.source.names
        assert function is collate


def test_cached_images_are_read_before_workers_start(tmp_path):
    module = build(write_camvid(tmp_path), num_workers=1, cache=True)
    samples = module.train_dataloader().dataset
    samples.source.load = None  # nothing is read again
    assert [samples.load(i).name for i in range(len(samples))] == samples.source.names


@pytest.mark.parametrize(
    ("cores", "processes", "workers"),
    [(1, 1, 0), (2, 1, 0), (3, 1, 2), (8, 1, 7), (64, 1, 8), (8, 2, 3), (8, 4, 0), (16, 16, 0)],
)
def test_auto_takes_the_workers_that_the_cores_bear(cores, processes, workers, monkeypatch):
    monkeypatch.setattr(hardware, "num_cores", lambda: cores)
    assert resolve_workers("auto", processes=processes) == workers
    assert resolve_workers(5, processes=processes) == 5


def test_a_grid_gives_each_of_its_cells_a_share_of_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "num_cores", lambda: 24)
    cell = SimpleNamespace(config={"trainer": {"devices": 2}})
    share = local._share(cell, slot=0, jobs=4, each=2)
    assert (share[CORES], share["OMP_NUM_THREADS"]) == ("3", "3")
    monkeypatch.setenv(CORES, share[CORES])
    auto = tiny_config(tmp_path, "loader.num_workers=auto", "trainer.devices=1")
    assert auto["loader"]["num_workers"] == "auto"  # of this machine, so decided by the run
    assert build_data(auto).num_workers == 2


def test_evaluation_is_unchanged_pixels_with_objects(tmp_path):
    module = build(write_camvid(tmp_path))
    (first, second) = list(module.val_dataloader())
    source = module.source("val")
    assert first["name"] + second["name"] == source.names
    assert np.array_equal(first["image"][1].permute(1, 2, 0), source.load(1).image)
    for found, label in zip(first["objects"], first["label"].numpy(), strict=True):
        assert np.array_equal(found.ids < 0, label == 255)
        assert np.array_equal(found.cls[found.ids[found.ids >= 0]], label[found.ids >= 0])
    cached = build(tmp_path, cache=True)
    for _ in range(2):
        again = next(iter(cached.val_dataloader()))["objects"]
        assert np.array_equal(again[0].ids, first["objects"][0].ids)


def test_a_split_that_is_not_the_official_one_is_warned_of(tmp_path):
    data = build(write_camvid(tmp_path))
    data.prepare_data()
    with pytest.warns(UserWarning, match=r"camvid: the split 'test' has 3 images here and 233"):
        data.warn_unless_official()


def test_class_frequencies_count_labelled_pixels(tmp_path):
    module = build(write_camvid(tmp_path))
    labels = np.stack([module.source("train").load(i).label for i in range(6)])
    expected = [(labels == c).sum() / (labels != 255).sum() for c in range(11)]
    assert module.class_frequencies() == pytest.approx(expected)


def test_too_large_a_batch_and_mixed_sizes_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"batch_size=7 is more than the 6 training images"):
        build(write_camvid(tmp_path), batch_size=7).train_dataloader()
    items = [
        {"image": torch.zeros(3, n, 4), "label": torch.zeros(n, 4), "name": f"image{n}"}
        for n in (4, 5)
    ]
    with pytest.raises(ValueError, match=r"image4 is \(4, 4\) and image5 is \(5, 4\)"):
        collate(items)


def gradient(height=40, width=60):
    """Image whose colour tells the source position, and a label that repeats it."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([y * 4, x * 4, torch.zeros_like(x)]).to(torch.uint8)
    return image, (y // 10 * 6 + x // 10).to(torch.uint8)


def run(seed=0, **options):
    image, label = gradient()
    return augment(
        image, label, generator=torch.Generator().manual_seed(seed), **{**PLAIN, **options}
    )


def test_plain_augmentation_is_the_identity():
    image, label = gradient()
    got_image, got_label = run()
    assert torch.equal(got_image, image)
    assert torch.equal(got_label, label)


def test_flip_and_crop_move_image_and_label_together():
    image, label = run(flip=1.0)
    assert torch.equal(image.flip(-1), gradient()[0])
    assert torch.equal(label.flip(-1), gradient()[1])
    image, label = run(crop=[20, 30])
    position = (image[0] // 4 // 10).int() * 6 + (image[1] // 4 // 10).int()
    assert torch.equal(position.to(torch.uint8), label)
    assert label.shape == (20, 30)


def test_scale_enlarges_and_small_images_are_padded_with_void():
    image, label = run(crop=[20, 30], scale=[2.0, 2.0])
    assert int(image[1].max()) - int(image[1].min()) <= 4 * 15
    assert (label != 255).all()
    image, label = run(scale=[0.5, 0.5])
    assert label.shape == (40, 60)
    assert (label == 255).float().mean().item() == pytest.approx(0.75, abs=0.03)
    corner = image[:, 0, 0] if label[0, 0] == 255 else image[:, -1, -1]
    assert corner.tolist() == [124, 116, 104]


def test_jitter_changes_colours_and_not_the_label():
    image, label = run(jitter=0.4)
    assert not torch.equal(image, gradient()[0])
    assert torch.equal(label, gradient()[1])
    assert not torch.equal(image, run(seed=1, jitter=0.4)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_training_takes_the_order_of_each_epoch(tmp_path, monkeypatch, workers):
    seen, step = [], SegmentationTask.training_step

    def note(self, batch, index):
        seen.append((self.trainer.current_epoch, batch["name"]))
        return step(self, batch, index)

    monkeypatch.setattr(SegmentationTask, "training_step", note)
    config = tiny_config(tmp_path, f"loader.num_workers={workers}")
    train(config)
    for number in range(2):
        sampler = EpochSampler(8, seed=config["seed"], epoch=lambda n=number: n)
        names = [name for at, names in seen if at == number for name in names]
        assert names == [f"train-{index:05d}" for index, _ in sampler]
