"""The config of one run, composed from `experiments/` and the words of the command line.

Hydra composes and types what `segattn.config.schema` names; `segattn.config.checks` says the rest.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError, one_line
from segattn.base.files import digest
from segattn.base.hardware import resolve_accelerator, resolve_precision
from segattn.config import schema
from segattn.config.checks import check_batch, check_config, flatten
from segattn.config.schema import LIGHTNING, NOT_OPEN
from segattn.config.words import PATHS, single
from segattn.models.encoder_weights import weights_file

# may differ between two starts of one run: paths, the speed of loading, the display
_NOT_THE_EXPERIMENT = (
    *("trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("trainer.profiler", "trainer.log_every_n_steps"),
    "runs_dir",
    "logger",
    "data.root",
    "loader.num_workers",
    "loader.eval_batch_size",
    "loader.cache",
)


def compose_config(overrides: Sequence[str], *, folder: Path, here: bool = True) -> dict[str, Any]:
    """Compose `folder`/train.yaml with Hydra overrides such as "head=fla" into a checked config.

    `here`: as in `resolve_config`.

    Raises:
        UserError: A name, type or value that does not compose, or a knob that does not exist.
    """
    config = resolve_config(_compose("train", single(overrides), folder), here=here)
    check_batch(config)
    _note_weights(config["encoder"])
    return config


def compose_part(words: Sequence[str], *, folder: Path) -> dict[str, Any]:
    """Compose words such as "data=camvid" or "protocol.flip=true" without the rest of a run.

    Raises:
        UserError: See `compose_config`.
    """
    bare = [text.lstrip("+") for text in single(words)]
    keys = [text.partition("=")[0] for text in bare]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UserError(f"{twice} stands twice")
    texts = [f"++{text}" if "." in text.partition("=")[0] else f"+{text}" for text in bare]
    composed = _compose(None, texts, folder)
    return _plain(composed)


def _compose(name: str | None, texts: Sequence[str], folder: Path) -> DictConfig:
    for group, _, choice in (text.lstrip("+").partition("=") for text in texts):
        if (folder / group).is_dir() and group not in ("ablation", "sweep"):
            check_choice(group, choice, [path.stem for path in (folder / group).glob("*.yaml")])
    with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
        try:
            return compose(name, overrides=list(texts))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_told(error)) from error
        except (yaml.YAMLError, ValueError) as error:  # a file that somebody has edited
            raise UserError(f"cannot read {_unreadable(folder)}: {one_line(error)}") from error


def _unreadable(folder: Path) -> Path:
    """Return the config file that is not UTF-8, since the error does not name it, or the folder."""
    for path in folder.rglob("*.yaml"):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return path
    return folder


def _plain(composed: DictConfig) -> dict[str, Any]:
    """Plain values, all of them given; "~" at the start of a path is home."""
    try:
        if missing := sorted(OmegaConf.missing_keys(composed)):
            hint = " (the folder of the data set)" if "data.root" in missing else ""
            raise UserError(f"not set: {', '.join(missing)}; pass {missing[0]}=VALUE{hint}")
        for path in PATHS:
            value = OmegaConf.select(composed, path)
            if str(value).startswith("~"):
                OmegaConf.update(composed, path, os.path.expanduser(value))
        return cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError(_told(error)) from error


def _told(error: Exception) -> str:
    """Return Hydra's message on one line; for an unknown key, suggest the closest one."""
    text = f"{error}\n{error.__cause__ or ''}".strip()
    if found := re.search(r"Key '(\w+)' not in '(\w+)'\s+full_key: (\S+)", text):
        return _unknown_key(*found.groups())
    if section := re.search(r"not a subclass of (\w+)\.", text):
        keys = ", ".join(known.name for known in fields(getattr(schema, section[1])))
        return f"{_first(text)}: a section takes no value of its own; its keys are {keys}"
    text = text.partition("\nConfig search path")[0]
    lines = [line.rstrip(":") for line in text.split("\n") if line and not line[0].isspace()]
    key = re.search(r"full_key: (\S+)", text)
    place = [key[1]] if key and key[1] not in lines[0] else []
    return ": ".join(dict.fromkeys([*place, _first(text), *lines[1:]]))


def _first(text: str) -> str:
    return text.split("\n")[0].removeprefix("Error merging override ")


def _unknown_key(key: str, section: str, path: str) -> str:
    if section == "TrainerConfig" and key in NOT_OPEN:
        return f"{path} cannot be set: {NOT_OPEN[key]}"
    known = [known.name for known in fields(getattr(schema, section))]
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"unknown key {path}; {hint}"


def _note_weights(encoder: dict[str, Any]) -> None:
    """Keep the digest of a weights file: under the same path, another file is another experiment.

    Here and not in `check_config`, since a trained run needs its file no more.
    """
    file = weights_file(encoder["name"], encoder["weights"])
    found = digest(file) if file else None
    if encoder["weights_sha256"] not in (None, found):
        raise UserError(f"encoder.weights={encoder['weights']} has the SHA-256 {found}")
    encoder["weights_sha256"] = found


def resolve_config(composed: DictConfig, *, here: bool = True) -> dict[str, Any]:
    """Plain, checked values; "auto" precision and accelerator become what this machine gives.

    Not so with here=False, for a run on another machine.

    Raises:
        UserError: A missing value, a value out of range or a knob that does not exist.
    """
    config = _plain(composed)
    checked: dict[str, Any] = {str(key): value for key, value in config.items()}
    given = checked["trainer"].items()
    checked["trainer"] = {k: v for k, v in given if v is not None or k not in LIGHTNING}
    check_config(checked)
    trainer = checked["trainer"]
    if not here:
        return checked
    trainer["accelerator"] = resolve_accelerator(trainer["accelerator"])
    trainer["precision"] = resolve_precision(trainer["precision"], trainer["accelerator"])
    return checked


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Lines "key: first -> second" for what makes two configs different experiments."""
    a, b = (flatten(config) for config in (first, second))
    keys = sorted(a.keys() | b.keys())
    changed = [key for key in keys if a.get(key) != b.get(key)]
    return [
        f"{key}: {a.get(key)!r} -> {b.get(key)!r}"
        for key in changed
        if not any(key == skip or key.startswith(f"{skip}.") for skip in _NOT_THE_EXPERIMENT)
    ]
