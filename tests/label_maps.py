"""Random label maps with blobs, poles and void."""

import numpy as np

NUM_CLASSES = 5


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
