"""What the tests of the readers of data sets share."""

from pathlib import Path

from segattn.data import Sample, build_source


def load_all(name: str, root: Path, split: str = "train", **knobs) -> list[Sample]:
    """Every sample of a split, which must be complete."""
    source = build_source(name, split, root=str(root), **knobs)
    return [source.load(index) for index in range(len(source.names))]


def halve(path: Path) -> None:
    """Cut a file short, as a copy that was interrupted."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
