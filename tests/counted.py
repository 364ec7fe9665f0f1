"""Batches of label maps for the metric, and metrics that have counted them."""

import numpy as np
import torch
from label_maps import NUM_CLASSES, label_map

from segattn.metrics import SizeStratifiedIoU


def batches(count=3):
    """Preds, target and instances of several images, one a batch."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        labels, instances = label_map(rng)
        noise = rng.integers(0, NUM_CLASSES, labels.shape)
        preds = np.where((rng.random(labels.shape) < 0.3) | (labels == 255), noise, labels)
        found.append(
            [torch.from_numpy(m.astype(np.int64))[None] for m in (preds, labels, instances)]
        )
    return found


def metric(**options):
    return SizeStratifiedIoU(NUM_CLASSES, **{"size_edges": (3, 6), "radius": 2, **options})


def counted(*maps, **options):
    one = metric(**options)
    one.update(*maps)
    return one


def same(first, second):
    return torch.equal(first.counts, second.counts) and first.n_images == second.n_images
