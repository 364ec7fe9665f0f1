"""An ablation's axes expanded into cells, and the state that each has on the disk."""

import itertools
import re
from collections.abc import Iterable, Sequence
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
from segattn.training.train import run_folder

# what one report compares; each value of another axis has a report of its own
_COMPARED_AXES = ("head", "seed")
_KEYS = {"axes", "overrides"}  # of an ablation's file
_NAMED_GROUPS = ("data", "encoder")  # config groups that can be told apart by a name

State = Literal["pending", "queued", "running", "elsewhere", "interrupted", "failed", "done"]
"""`elsewhere`: another driver runs it. `queued`: with Slurm."""


@dataclass
class Cell:
    """One run of the grid.

    Attributes:
        overrides: What scripts/train.py is called with.
        config: What they compose to.
        run: Its folder.
        state: As the driver sees it.
        error: Why it failed.
        started: When this driver started it, seconds since 1970; 0 if it did not.
        first_epoch: Epochs that were done before that.
        seconds: What it took; 0 before this driver has finished it.
    """

    overrides: list[str]
    config: dict[str, Any]
    run: Run
    state: State = "pending"
    error: str = ""
    started: float = 0
    first_epoch: int = 0
    seconds: float = 0

    def look(self) -> None:
        """Read state and error off the run folder, whoever has changed it.

        A run that says "running" while nobody holds its lock was killed: it is interrupted.
        """
        held = is_held(self.run.lock_path)  # first: a run may end between two looks
        if self.run.result is not None:
            self.state, self.error = "done", ""
            return
        if held:
            self.state = "elsewhere"
            return
        told = self.run.status
        self.state = "interrupted" if told["state"] in ("running", "done") else told["state"]
        self.error = told.get("error", "") if self.state == "failed" else ""


def expand(overrides: Sequence[str], *, folder: Path, here: bool = True) -> list[Cell]:
    """Cells of an ablation: the product of its axes.

    Heads, their knobs and seeds are compared within one experiment folder; each combination of
    other axes gets a folder, and so a report, of its own.

    Args:
        overrides: "ablation=NAME" for `folder`/ablation/NAME.yaml, and Hydra overrides for every
            cell; one with several values, such as "seed=0,1,2" or "seed=range(0,3)", replaces or
            adds an axis. A value of the file may bring knobs along, as in
            "fla head.published_batch_mixing=true".
        folder: The config folder.
        here: Whether the cells run on this machine, which then says what "auto" stands for.

    Raises:
        UserError: No such ablation, a config that does not compose, two cells with one run folder,
            or a run folder that holds another experiment.
    """
    name, rest = _take_ablation(overrides)
    axes, fixed = _load_ablation(name, folder=folder)
    for typed in rest:
        key, several = _read(typed)
        fixed.pop(key, None)
        if several:
            axes[key] = several
        else:
            axes.pop(key, None)
            fixed[key] = typed
    named = fixed.pop("experiment", None)
    fixed["experiment"] = _experiment_override(named or f"experiment={name}", axes, named=named)
    cells = [
        _make_cell([*fixed.values(), *_cell_overrides(axes, chosen)], folder, here=here)
        for chosen in itertools.product(*axes.values())
    ]
    _check_cells(cells)
    return cells


def _read(typed: str) -> tuple[str, list[str]]:
    """Key and values of a word; no values where it has a single one."""
    key, _, value = typed.partition("=")
    if key == "head" and " " in value:  # its values bring knobs along
        return key, value.split(",")
    if key in _COMPARED_AXES and re.fullmatch(r"\[.*\]", value):  # neither can be a list
        typed = f"{key}={value[1:-1]}"
    word = parse(typed)
    return word.get_key_element(), values(word) if word.is_sweep_override() else []


def _take_ablation(overrides: Sequence[str]) -> tuple[str, list[str]]:
    names = [o.split("=", 1)[1] for o in overrides if o.startswith("ablation=")]
    if len(names) != 1:
        raise UserError("name one ablation, e.g. ablation=heads; they stand in ablation/*.yaml")
    return names[0], [o for o in overrides if not o.startswith("ablation=")]


def _load_ablation(name: str, *, folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Axes by key, with their values as Hydra's grammar writes them, and words by key."""
    path = folder / "ablation" / f"{name}.yaml"
    check_choice("ablation", name, [p.stem for p in path.parent.glob("*.yaml")])
    content = read_yaml(path)
    if not isinstance(content, dict) or not content.get("axes") or content.keys() - _KEYS:
        raise UserError(f"{path} must hold `axes`, may hold `overrides`, and nothing else")
    axes, words = content["axes"], content.get("overrides") or []
    lists = [*axes.values(), words] if isinstance(axes, dict) else [None]
    if not all(isinstance(listed, list) for listed in lists):
        raise UserError(
            f"{path}: each of `axes` must be a list, as in seed: [0, 1], and so must `overrides`"
        )
    written = {str(key): [_written(value) for value in listed] for key, listed in axes.items()}
    return written, {parse(word).get_key_element(): word for word in map(str, words)}


def _written(value: Any) -> str:
    """A value of YAML in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return str(value) if isinstance(value, str) else str(yaml.safe_dump(value)).split("\n")[0]


def _experiment_override(word: str, axes: Iterable[str], *, named: str | None) -> str:
    """The experiment shows every axis that is not compared."""
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


def _cell_overrides(axes: Iterable[str], values: Sequence[str]) -> list[str]:
    """Overrides of one cell; the run's name shows the knobs in which its head differs."""
    chosen = [
        override
        for key, value in zip(axes, values, strict=True)
        for override in re.split(r" (?=[\w.]+=)", f"{key}={value}")
    ]
    knobs = [o.removeprefix("head.").replace("=", "_") for o in chosen if o.startswith("head.")]
    if not knobs:
        return chosen
    shown = "-".join(["${head.name}", *knobs, "${encoder.name}", "${data.name}", "s${seed}"])
    return [*chosen, f"name={shown}"]


def _make_cell(overrides: list[str], folder: Path, *, here: bool) -> Cell:
    try:
        config = compose_config(overrides, folder=folder, here=here)
    except UserError as error:
        if not str(error).startswith("seed="):
            raise
        raise UserError(f"{error}; several are seed=0,1,2 or seed=range(0,3)") from error
    return Cell(overrides, config, run_folder(config))


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
