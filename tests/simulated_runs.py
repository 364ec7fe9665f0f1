"""Run folders with made-up predictions and a planted effect, for the tests of the analysis."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from segattn.metrics import Measures, image_counts, iou_scores, write_table

CLASSES = ["road", "bus", "lamp"]
PALETTE = [[128, 64, 128], [0, 60, 100], [190, 153, 153]]
# label: (area px, width px) of an object in each of two sizes; COCO's edges
OBJECTS = {
    0: [(12000, 80.0), (12000, 80.0)],  # large, compact
    1: [(400, 18.0), (12000, 90.0)],  # small and large, compact
    2: [(300, 4.0), (600, 6.0)],  # small, thin
}
MEASURES = Measures(
    CLASSES,
    class_groups={"large": ["bus"], "thin": ["lamp"]},
    size_classes={"small": ["bus", "lamp"], "large": ["bus"], "thin": ["lamp"]},
)


def simulate(
    folder: Path,
    *,
    heads: dict[str, dict[str, float]],
    seeds: tuple[int, ...] = (0, 1, 2),
    num_images: int = 40,
    data: dict[str, Any] | None = None,
    noise: float = 0.02,
) -> Path:
    """Write one finished run per head and seed.

    `heads` maps a head to the recall it adds per class name, for example
    {"fcn": {}, "fla": {"lamp": 0.1}}. Image noise is shared by the heads, seed noise is not.
    """
    for number, (head, effect) in enumerate(heads.items()):
        for seed in seeds:
            rng = np.random.default_rng((number, seed))
            run = folder / f"{head}-{seed}"
            frame = _objects(effect, num_images=num_images, noise=noise, rng=rng)
            write_run(run, head=head, seed=seed, frame=frame, data=data or {})
    return folder


def write_run(
    run: Path, *, head: str, seed: int, frame: pd.DataFrame, data: dict[str, Any]
) -> None:
    """Write every file of one finished run."""
    write_unfinished(run, state="done")
    images = sorted(frame["image"].unique())
    (run / "result.json").write_text(json.dumps(_result(head, seed, frame, data)))
    write_table(frame, run / "objects.parquet")
    level = 0.5 + 0.01 * seed + 0.02 * len(head)
    logged = [
        {"epoch": epoch, "step": 10 * epoch, "val/miou": level - 0.4 / (epoch + 1)}
        for epoch in range(5)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in logged))
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 3, (2, 24, 8), dtype=np.uint8), 4, axis=2)
    labels[:, :2] = 255
    np.savez(
        run / "examples.npz",
        images=rng.integers(0, 255, (2, 24, 32, 3), dtype=np.uint8),
        labels=labels,
        predictions=np.where(labels == 255, 0, labels).astype(np.uint8),
        names=np.array(images[:2]),
    )


def write_unfinished(run: Path, *, state: str, error: str | None = None) -> None:
    """Write the two files that every run has from its start."""
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(
        yaml.safe_dump({"name": run.name, "head": {"name": run.name.rsplit("-", 1)[0]}})
    )
    (run / "status.json").write_text(json.dumps({"state": state, "error": error}))


def edit_result(run: Path, **changes: Any) -> None:
    """Replace top-level entries of result.json."""
    path = run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _objects(
    effect: dict[str, float], *, num_images: int, noise: float, rng: np.random.Generator
) -> pd.DataFrame:
    shared = np.random.default_rng(99)  # how hard an object is does not depend on the head
    rows = []
    for image in range(num_images):
        for label, sizes in OBJECTS.items():
            for area, width in sizes:
                recall = 0.6 + shared.normal(0, 0.05) + rng.normal(0, noise)
                recall += effect.get(CLASSES[label], 0.0)
                tp = int(area * np.clip(recall, 0, 1))
                rows.append(_row(image, label, area, width, tp=tp, fp=area // 10))
        rows.append(_row(image, 1, 500, 20.0, alarm=True, fp=80))
    integers = dict.fromkeys(("fp", "tp", "area", "edge_fp", "edge_tp", "edge_area"), "int32")
    return pd.DataFrame(rows).astype({"cls": "int16", "width": "float32"} | integers)


def _row(image: int, cls: int, area: int, width: float, **others: Any) -> dict[str, Any]:
    where = {"image": f"image_{image:04d}", "cls": cls, "area": area, "width": width}
    zeros = dict.fromkeys(("tp", "edge_area", "edge_tp", "edge_fp"), 0)
    return where | {"crowd": False, "alarm": False} | zeros | others


def _result(head: str, seed: int, frame: pd.DataFrame, data: dict[str, Any]) -> dict[str, Any]:
    images = sorted(frame["image"].unique())
    counts = image_counts(frame, MEASURES, images=images).sum(0)
    scores = {name: float(value) for name, value in iou_scores(counts, MEASURES).items()}
    share = {} if head == "fcn" else {"block_share/block": 0.3 if head != "channel_nl" else 0.002}
    return {
        "schema": 3,
        "name": f"{head}-{seed}",
        "experiment": "heads",
        "seed": seed,
        "split": "test",
        "num_images": len(images),
        "images": images,
        "blocks": list(range(len(images))),
        "protocol": "whole",
        "head": {"name": head, "channels": 64},
        "encoder": {"name": "resnet18", "depth": 4, "output_stride": 8},
        "data": {
            "name": "scenes",
            "title": "scenes",
            "classes": CLASSES,
            "palette": PALETTE,
            "ignore_index": 255,
        }
        | data,
        "metric": MEASURES.plain(),
        "scores": scores | share,
        "cost": {
            "parameters": 12_345_678,
            "head_parameters": 1_000_000,
            "flops": 3.2e9,
            "images_per_second": 41.5 + seed,
            "peak_memory_bytes": 2e9,
            "train_seconds": 120.0,
            "test_seconds": 3.0,
        },
        "environment": {
            "git_commit": "abc1234",
            "torch": "2.11",
            "python": "3.11",
            "device": "cpu",
            "precision": "32-true",
            "threads": 2,
        },
        "training": {"optimizer": "adamw", "max_epochs": 5, "batch_size": 8, "steps": 50},
    }
