"""What the agents of a W&B sweep would run: expanded and checked here, without a login."""

import itertools
from pathlib import Path
from typing import Any

import yaml

from segattn.base.errors import UserError
from segattn.config.compose import compose_config
from segattn.training.train import run_folder

_PROGRAM = "scripts/train.py"


def expand_sweep(path: Path, *, folder: Path) -> list[list[str]]:
    """The command of each run of a grid sweep, as W&B's agent puts it together.

    Args:
        path: A sweep file, see `experiments/sweep`.
        folder: The config folder that the commands compose from.

    Raises:
        UserError: The sweep is no grid over scripts/train.py, a command does not compose, or two
            of them share a run folder, so that the second would find the first one's run.
    """
    sweep = _load(path)
    names = list(sweep["parameters"])
    grid = itertools.product(*(_values(path, n, sweep["parameters"][n]) for n in names))
    commands = [_command(sweep, dict(zip(names, values, strict=True))) for values in grid]
    _check(path, commands, folder=folder)
    return commands


def _load(path: Path) -> dict[str, Any]:
    try:
        sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(sweep, dict):
        raise UserError(f"{path} is no sweep; see experiments/sweep")
    for key, wanted in (("method", "grid"), ("program", _PROGRAM)):
        if sweep.get(key) != wanted:
            raise UserError(f"{path} must have {key}: {wanted}, got {sweep.get(key)!r}")
    return dict(sweep)


def _values(path: Path, name: str, parameter: dict[str, Any]) -> list[Any]:
    if "value" in parameter:
        return [parameter["value"]]
    if "values" not in parameter:
        raise UserError(f"{path}: {name} needs `values`, as a grid does; got {parameter}")
    return list(parameter["values"])


def _command(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Words that are macros as a whole are replaced; W&B leaves any others as they are."""
    macros = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": ["python"],
        "${program}": [sweep["program"]],
        "${args_no_hyphens}": [f"{name}={value}" for name, value in values.items()],
    }
    return [word for part in sweep["command"] for word in macros.get(part, [part])]


def _check(path: Path, commands: list[list[str]], *, folder: Path) -> None:
    seen: dict[Path, str] = {}
    for command in commands:
        overrides = command[command.index(_PROGRAM) + 1 :]
        text = " ".join(overrides)
        run = run_folder(compose_config(overrides, folder=folder)).path
        if run in seen:
            raise UserError(
                f"{path}: two commands share the run folder {run}: {seen[run]} and {text}. Let "
                "`experiment=` or `name=` in `command` show what varies."
            )
        seen[run] = text
