"""An ablation's axes expanded into cells, and the state that each cell has on the disk."""

import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.files import read_yaml
from segattn.base.lock import is_held
from segattn.base.runs import Run
from segattn.config.compose import compose_config, differences
from segattn.config.words import parse, values
from segattn.training.build import build_data
from segattn.training.train import run_folder

# one report compares these axes; each value of another axis has a report of its own
_COMPARED_AXES = ("head", "seed")
_KEYS = {"axes", "overrides"}  # of an ablation's file
_NAMED_GROUPS = ("data", "encoder")  # config groups with a name that can stand in a folder's name
_IN_RESULT = ("seed", "head", "encoder")  # keys of the config that result.json repeats

State = Literal["pending", "queued", "running", "elsewhere", "interrupted", "failed", "done"]
"""`queued`: its job waits in Slurm's queue. `elsewhere`: another process holds the run's lock."""


@dataclass
class Cell:
    """One run of the grid, and its state when the driver last looked."""

    overrides: list[str]  # arguments of scripts/train.py
    config: dict[str, Any]  # the config that they compose
    run: Run
    state: State = "pending"
    error: str = ""  # why the cell failed

    def look(self) -> None:
        """Read state and error from the run folder.

        A run whose status is "running" while nobody holds its lock was killed: it is interrupted.
        A result that belongs to another config, or cannot be read, makes the cell failed.
        """
        held = is_held(self.run.lock_path)  # first, since the run may end between the two reads
        try:
            status, changes = self.run.status, self._changes()
        except UserError as error:
            self.state, self.error = "failed", str(error)
            return
        self.error = ""
        if changes:
            self.state, self.error = "failed", f"the result is one of another config: {changes[0]}"
        elif changes is not None:
            self.state = "done"
        elif held:
            self.state = "elsewhere"
        elif status["state"] in ("running", "done"):
            self.state = "interrupted"
        else:
            self.state, self.error = status["state"], status.get("error", "")

    def _changes(self) -> list[str] | None:
        """Return how the config of the result differs from this cell's; None without a result."""
        if (result := self.run.result) is None:
            return None
        stated = {key: result[key] for key in _IN_RESULT if key in result}
        here = {key: self.config[key] for key in stated}
        return differences(self.run.config, self.config) or differences(stated, here)


def expand(overrides: Sequence[str], *, folder: Path, here: bool = True) -> list[Cell]:
    """Return the cells of an ablation: the product of its axes.

    Heads, their knobs and seeds are compared within one experiment folder; each combination of
    other axes gets a folder, and so a report, of its own.

    Args:
        overrides: "ablation=NAME" for `folder`/ablation/NAME.yaml, and Hydra overrides for every
            cell. One with several values ("seed=0,1,2") replaces or adds an axis.
        folder: The config folder.
        here: Whether the cells run on this machine, which then decides what "auto" stands for.

    Raises:
        UserError: The ablation does not exist, a config does not compose, two cells have one run
            folder, or a run folder holds another experiment.
    """
    names = [o.partition("=")[2] for o in overrides if o.startswith("ablation=")]
    if len(names) != 1:
        raise UserError("name one ablation, e.g. ablation=heads; they stand in ablation/*.yaml")
    axes, fixed = _load_ablation(names[0], folder=folder)
    for override in overrides:
        if override.startswith("ablation="):
            continue
        key, several = _read(override)
        fixed.pop(key, None)
        if several:
            axes[key] = several
        else:
            axes.pop(key, None)
            fixed[key] = override
    named = fixed.pop("experiment", None)
    fixed["experiment"] = _experiment_override(named or f"experiment={names[0]}", axes, named=named)
    cells = []
    for chosen in itertools.product(*axes.values()):
        words = [*fixed.values(), *_cell_overrides(axes, chosen)]
        config = compose_config(words, folder=folder, here=here)
        cells.append(Cell(words, config, run_folder(config)))
    _check_cells(cells)
    return cells


def select(cells: Sequence[Cell], states: Collection[State], *, retry_failed: bool) -> list[Cell]:
    """Return the cells in one of `states`, and find or draw their data.

    Here and not in the cells, since many processes would draw the same data at once.
    """
    chosen = [c for c in cells if c.state in states or (retry_failed and c.state == "failed")]
    prepared = list[dict[str, Any]]()
    for cell in chosen:
        if cell.config["data"] not in prepared:
            build_data(cell.config).prepare_data()
            prepared.append(cell.config["data"])
    return chosen


def _read(override: str) -> tuple[str, list[str]]:
    """Return the key and the values of an override; no values if it has a single one."""
    key, _, value = override.partition("=")
    if key == "head" and " " in value:  # knobs of a value, as in "fla head.channels=64"
        return key, value.split(",")
    if key in _COMPARED_AXES and re.fullmatch(r"\[.*\]", value):  # neither can be a list
        override = f"{key}={value[1:-1]}"
    word = parse(override)
    return word.get_key_element(), values(word) if word.is_sweep_override() else []


def _load_ablation(name: str, *, folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the values of each axis, as Hydra's grammar writes them, and overrides by key."""
    path = folder / "ablation" / f"{name}.yaml"
    check_choice("ablation", name, [p.stem for p in path.parent.glob("*.yaml")])
    content = read_yaml(path)
    content = content if isinstance(content, dict) else {}
    axes, words = content.get("axes"), content.get("overrides") or []
    if (
        not isinstance(axes, dict)
        or content.keys() - _KEYS
        or not (axes and all(isinstance(listed, list) for listed in [*axes.values(), words]))
    ):
        raise UserError(
            f"{path} must hold `axes`, each a list as in seed: [0, 1], and may hold `overrides`, a "
            "list too, and nothing else"
        )
    written = {str(key): [_written(value) for value in listed] for key, listed in axes.items()}
    return written, {parse(word).get_key_element(): word for word in map(str, words)}


def _written(value: Any) -> str:
    """Return a value of YAML in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return str(value) if isinstance(value, str) else str(yaml.safe_dump(value)).split("\n")[0]


def _experiment_override(word: str, axes: Iterable[str], *, named: str | None) -> str:
    """Add every axis that is not compared to the name of the experiment."""
    shown = "" if named else "-${data.name}"
    for key in axes:
        if key in _COMPARED_AXES or key.startswith("head.") or (key == "data" and not named):
            continue
        if "." not in key and key not in _NAMED_GROUPS:
            raise UserError(
                f"{key} cannot be an axis; head, seed, data, encoder and single knobs such as "
                f"optimizer.lr can"
            )
        value = f"{key}.name" if key in _NAMED_GROUPS else key
        shown += f"-{key.rsplit('.', 1)[-1]}_${{{value}}}"
    return f"{word}{shown}"


def _cell_overrides(axes: Iterable[str], chosen: Sequence[str]) -> list[str]:
    """Return the overrides of one cell; its name shows the knobs in which its head differs."""
    overrides = [
        override
        for key, value in zip(axes, chosen, strict=True)
        for override in re.split(r" (?=[\w.]+=)", f"{key}={value}")
    ]
    knobs = [o.removeprefix("head.").replace("=", "_") for o in overrides if o.startswith("head.")]
    if not knobs:
        return overrides
    shown = "-".join(["${head.name}", *knobs, "${encoder.name}", "${data.name}", "s${seed}"])
    return [*overrides, f"name={shown}"]


def _check_cells(cells: Sequence[Cell]) -> None:
    seen: dict[Path, Cell] = {}
    for cell in cells:
        first = seen.setdefault(cell.run.path, cell)
        if first is not cell:
            raise UserError(
                f"two cells would share the folder {cell.run.path}: "
                f"{' '.join(first.overrides)} and {' '.join(cell.overrides)}. Let name= show what "
                "varies, as in 'name=${head.name}-s${seed}', or leave it out"
            )
        if cell.run.config_path.exists() and (changes := differences(cell.run.config, cell.config)):
            raise UserError(
                f"{cell.run.path} holds a run with another config:\n  "
                + "\n  ".join(changes)
                + "\nGive this grid a name of its own (experiment=NAME), or delete that folder."
            )
