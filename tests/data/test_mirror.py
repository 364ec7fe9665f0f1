"""Classes that change places in a mirror: in training, and in a test that flips."""

import numpy as np
import torch
from coco_files import write_coco
from tiny import EXPERIMENTS, own_overrides

from segattn.config.compose import compose_config
from segattn.data.transforms import augment, mirror_order
from segattn.models.inference import Protocol, predict
from segattn.training.build import build_data, build_task

PAIRS = [("left", "right")]
PLAIN = {"crop": None, "scale": (1.0, 1.0), "flip": 1.0, "jitter": 0.0}


def words(root, folder):
    return own_overrides(
        folder,
        "data=coco",
        f"data.root={root}",
        "data.train=train.json",
        "data.test=test.json",
        "data.val=test",
        "data.classes.flip_pairs=[[left_door,right_door]]",
    )


def test_the_order_in_a_mirror():
    assert mirror_order(["road", "left", "right"], PAIRS) == [0, 2, 1]
    assert mirror_order(["road", "left", "right"], []) is None


def test_a_flipped_training_image_exchanges_left_and_right():
    label = torch.tensor([[1, 0, 2, 255]], dtype=torch.uint8)
    image = torch.zeros(3, 1, 4, dtype=torch.uint8)
    mirrored = torch.tensor([0, 2, 1, *range(3, 256)], dtype=torch.uint8)
    given = {"generator": torch.Generator(), **PLAIN}
    assert augment(image, label, mirrored=mirrored, **given)[1].tolist() == [[255, 1, 0, 2]]
    assert augment(image, label, **given)[1].tolist() == [[255, 2, 0, 1]]


def test_a_flip_of_the_test_exchanges_them_too():
    def model(images):
        """Says "left" on the left half and "right" on the right half, whatever the image."""
        width = images.shape[3]
        left = (torch.arange(width) < width // 2).float()
        scores = torch.stack([torch.zeros(width), left, 1 - left])
        return scores[None, :, None].expand(len(images), 3, images.shape[2], width).clone()

    images = torch.zeros(1, 3, 2, 8, dtype=torch.uint8)
    once = predict(model, images, protocol=Protocol())
    flipped = predict(model, images, protocol=Protocol(flip=True), mirrored=[0, 2, 1])
    assert torch.equal(flipped, once)
    assert not torch.equal(predict(model, images, protocol=Protocol(flip=True)), once)


def test_the_data_says_it_to_loader_and_task(tmp_path):
    root = write_coco(tmp_path / "data")
    config = compose_config([*words(root, tmp_path), "augment.flip=1"], folder=EXPERIMENTS)
    data = build_data(config)
    batch = next(iter(data.train_dataloader()))
    label = batch["label"][0].numpy()
    # the left door is at the left of every image, and so of every mirror image
    assert np.flatnonzero((label == 2).any(0)).max() < np.flatnonzero((label == 3).any(0)).min()
    assert build_task(config, data).hparams["mirrored"] == [0, 1, 3, 2]
