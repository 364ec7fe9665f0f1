"""An ablation's axes expanded into cells, and the state that each has on the disk."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from segattn.base.errors import UserError
from segattn.base.lock import is_held
from segattn.base.runs import Run
from segattn.config.compose import compose_config, differences
from segattn.training.train import run_folder

# what one report compares; each value of another axis has a report of its own
_COMPARED_AXES = ("head", "seed")
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
        stamp: Of the run (`Run.stamp`) when it was last seen with nobody at it.
        seconds: What it took; 0 before this driver has finished it.
    """

    overrides: list[str]
    config: dict[str, Any]
    run: Run
    state: State = "pending"
    error: str = ""
    started: float = 0
    first_epoch: int = 0
    stamp: float = 0
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
        self.stamp = float(told.get("updated", 0))
        self.state = "interrupted" if told["state"] in ("running", "done") else told["state"]
        self.error = told.get("error", "") if self.state == "failed" else ""


def expand(overrides: Sequence[str], *, folder: Path, here: bool = True) -> list[Cell]:
    """Cells of an ablation: the product of its axes.

    Heads, their knobs and seeds are compared within one experiment folder; each combination of
    other axes gets a folder, and so a report, of its own.

    Args:
        overrides: "ablation=NAME" for `folder`/ablation/NAME.yaml, and Hydra overrides for every
            cell; one with several values, such as "seed=0,1,2", replaces or adds an axis. A value
            may bring knobs along: "fla head.published_batch_mixing=true".
        folder: The config folder.
        here: Whether the cells run on this machine, which then says what "auto" stands for.

    Raises:
        UserError: No such ablation, a config that does not compose, or a run folder that holds
            another experiment.
    """
    name, rest = _take_ablation(overrides)
    ablation = _load_ablation(name, folder=folder)
    axes = {key: [str(value) for value in values] for key, values in ablation["axes"].items()}
    fixed = [str(override) for override in ablation.get("overrides", [])]
    for override in rest:
        key, _, value = override.partition("=")
        fixed = [own for own in fixed if own.partition("=")[0] != key]
        if "," in value and value[0] not in "[{('\"":
            axes[key] = value.split(",")
        else:
            axes.pop(key, None)
            fixed.append(override)
    named = [o.split("=", 1)[1] for o in fixed if o.startswith("experiment=")]
    fixed = [override for override in fixed if not override.startswith("experiment=")]
    fixed.append(_experiment_override(named[-1] if named else name, axes, named=bool(named)))
    cells = [
        _make_cell([*fixed, *_cell_overrides(axes, values)], folder, here=here)
        for values in itertools.product(*axes.values())
    ]
    _check_cells(cells)
    return cells


def _take_ablation(overrides: Sequence[str]) -> tuple[str, list[str]]:
    names = [o.split("=", 1)[1] for o in overrides if o.startswith("ablation=")]
    if len(names) != 1:
        raise UserError("name one ablation, e.g. ablation=heads; they stand in ablation/*.yaml")
    return names[0], [o for o in overrides if not o.startswith("ablation=")]


def _load_ablation(name: str, *, folder: Path) -> dict[str, Any]:
    path = folder / "ablation" / f"{name}.yaml"
    if not path.is_file():
        choices = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise UserError(f"unknown ablation {name!r}; choose one of {choices}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    unknown = set(content) - {"axes", "overrides"}
    if unknown or not content.get("axes"):
        raise UserError(f"{path} must hold `axes`, and may hold `overrides`; got {set(content)}")
    return dict(content)


def _experiment_override(name: str, axes: Iterable[str], *, named: bool) -> str:
    """The experiment shows every axis that is not compared, so that no two cells share a folder."""
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
    return f"experiment={name}{shown}"


def _cell_overrides(axes: Iterable[str], values: Sequence[str]) -> list[str]:
    """Overrides of one cell; the run's name shows the knobs in which its head differs."""
    chosen = [
        override
        for key, value in zip(axes, values, strict=True)
        for override in f"{key}={value}".split()
    ]
    knobs = [o.removeprefix("head.").replace("=", "_") for o in chosen if o.startswith("head.")]
    if not knobs:
        return chosen
    shown = "-".join(["${head.name}", *knobs, "${encoder.name}", "${data.name}", "s${seed}"])
    return [*chosen, f"name={shown}"]


def _make_cell(overrides: list[str], folder: Path, *, here: bool) -> Cell:
    config = compose_config(overrides, folder=folder, here=here)
    return Cell(overrides, config, run_folder(config))


def _check_cells(cells: Sequence[Cell]) -> None:
    for cell in cells:
        if not cell.run.config_path.exists():
            continue
        changes = differences(cell.run.config, cell.config)
        if changes:
            raise UserError(
                f"{cell.run.path} holds a run with another config:\n  "
                + "\n  ".join(changes)
                + "\nGive this grid a name of its own (experiment=NAME), or delete that folder."
            )
