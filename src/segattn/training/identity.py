"""The data of a run as part of its identity, and what its test images were used for."""

from typing import Any

from segattn.base.errors import UserError
from segattn.base.runs import Run, read_json, write_json
from segattn.data.datamodule import SegmentationData
from segattn.data.source import Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")
CHOSEN_ON_TEST = (
    "val and test are the same images here, so callbacks.best and callbacks.patience choose the "
    "epoch on the test images: its scores are too high. result.json and the report say so; for an "
    "unbiased score test the last epoch (callbacks=none)"
)


def check_same_data(run: Run, data: SegmentationData) -> None:
    """Note the data of a run in data.json, or check that it is the same as at its first checkpoint.

    Before that, a run can still change its data: a damaged file was copied again.

    Raises:
        UserError: A split holds other images or labels than at the start.
    """
    begun = run.checkpoint_path.exists() or run.result is not None
    before = read_json(run.data_path) if begun and run.data_path.exists() else None
    sources = {split: data.source(split) for split in SPLITS}
    now: dict[str, Any] = {
        split: {
            "images": len(source.names),
            "sha256": source.fingerprint(),
            **({"names": source.names} if source.drawn else {}),
        }
        for split, source in sources.items()
    }
    if before is None:
        write_json(run.data_path, now)
        return
    if changed := [split for split in SPLITS if before.get(split) != now[split]]:
        counts = ", ".join(
            f"{split} had {before.get(split, {}).get('images')} images and has "
            f"{now[split]['images']}"
            for split in changed
        )
        raise UserError(
            f"{run.path} began on other data than data.root holds now ({counts}; names or contents "
            "differ). Bring that data back, or start another run (experiment=... or name=...)"
        )


def chosen_on_test(config: dict[str, Any], data: SegmentationData) -> bool:
    """Whether the epoch that is tested was chosen by scores on the test images."""
    chosen = config["callbacks"]["best"] or config["callbacks"]["patience"] is not None
    return chosen and data.source("val").shares_images(data.source("test"))
