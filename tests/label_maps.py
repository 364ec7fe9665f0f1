"""Random label maps with blobs, poles and void, and predictions with the usual kinds of error."""

import numpy as np
import torch

from segattn.metrics import SizeBins, find_objects, stack_objects

NUM_CLASSES = 5
BINS = SizeBins(stride=2, size_edges=(4, 8), elongation=4)


def label_map(rng, *, shape=(56, 80)):
    """Labels uint8 and instance ids int32: two halves, discs with ids, poles and a void patch."""
    y, x = np.indices(shape)
    labels = (y > shape[0] // 2).astype(np.uint8)
    instances = np.zeros(shape, np.int32)
    for number in range(8):
        cy, cx = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        disc = (y - cy) ** 2 + (x - cx) ** 2 <= rng.integers(1, 13) ** 2
        slant = rng.uniform(-0.5, 0.5)
        pole = (abs(x - cx - slant * (y - cy)) < rng.uniform(0.6, 2)) & (abs(y - cy) < 16)
        shapes = disc if number % 2 else pole
        labels[shapes] = rng.integers(1, NUM_CLASSES)
        instances[shapes] = number if number % 4 == 1 else 0
    top, left = rng.integers(0, shape[0] - 8), rng.integers(0, shape[1] - 8)
    labels[top : top + 8, left : left + 8] = 255
    return labels, instances


def prediction(labels, rng):
    """The labels shifted by a pixel, with a false blob, a missing patch and noise; no void."""
    wrong = np.roll(labels, (1, -1), (0, 1))
    for value in (rng.integers(2, NUM_CLASSES), 0):
        top, left = rng.integers(0, labels.shape[0] - 12), rng.integers(0, labels.shape[1] - 14)
        wrong[top : top + 12, left : left + 14] = value
    noise = rng.random(labels.shape) < 0.02
    wrong[noise] = rng.integers(0, NUM_CLASSES, noise.sum())
    wrong[wrong == 255] = 1
    return wrong


def samples(seed, *, num_images=3):
    """Triples (labels, predicted labels, instances) of a few images."""
    rng = np.random.default_rng(seed)
    maps = [label_map(rng) for _ in range(num_images)]
    return [(labels, prediction(labels, rng), instances) for labels, instances in maps]


def assemble(triples):
    """A batch (preds, target, truth, predicted) of such triples; instances may be None."""
    return (
        torch.from_numpy(np.stack([preds for _, preds, _ in triples])).long(),
        torch.from_numpy(np.stack([labels for labels, _, _ in triples])).long(),
        stack_objects([find_objects(labels, instances) for labels, _, instances in triples]),
        stack_objects([find_objects(preds, ignore_index=None) for _, preds, _ in triples]),
    )


def batch(seed, *, num_images=3):
    """A batch of random images."""
    return assemble(samples(seed, num_images=num_images))


def update_arguments(preds, target, truth, predicted, *, bins=BINS):
    """The batch as `SizeStratifiedIoU.update` takes it."""
    return preds, target, truth.ids, truth.bins(bins), predicted.ids, predicted.bins(bins)
