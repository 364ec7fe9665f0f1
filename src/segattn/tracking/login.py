"""Whether W&B can be used: its variables, its mode, its server and the login."""

import os
from pathlib import Path
from typing import Any

import requests

from segattn.base.errors import UserError, first_line

_ADVICE = "Log in with `wandb login`, or set WANDB_API_KEY."
_OTHER_NAMES = {"dryrun": "offline", "run": "online", "shared": "online"}  # of modes, in W&B
_RESUMING = {"WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_FORK_FROM"}
_AGENT = {"WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_LAUNCH"}


def log_in() -> str:
    """Log in without a prompt, and return the user or team that runs go to by default.

    Raises:
        UserError: No key is set, the server does not know it, or no server answers.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb  # 0.7 s, and not needed where W&B is off

    try:
        if not wandb.login(prompt=False, verify=True):
            raise UserError(f"nobody is logged in to W&B. {_ADVICE}")
        return str(own_setting("entity") or wandb.Api().default_entity)
    except wandb.Error as error:
        raise UserError(f"W&B does not let us in: {error}. {_ADVICE}") from error


def clear_variables(folder: Path | None = None) -> None:
    """Remove W&B's variables that are empty, or would mix this run with another program's.

    Args:
        folder: The folder of one run, which may belong to the agent of a sweep or to W&B Launch:
            the id that it gives in a variable stays, unless another run folder has it.
    """
    agent = os.environ.get("WANDB_SWEEP_ID") or os.environ.get("WANDB_LAUNCH")
    ids = folder.resolve().parent.parent.glob("*/*/wandb/id.txt") if folder and agent else ()
    taken = [path.read_text() for path in ids if not path.parents[1].samefile(str(folder))]
    keeps_id = folder and agent and os.environ.get("WANDB_RUN_ID") not in taken
    unwanted = _RESUMING if keeps_id else _RESUMING | _AGENT
    for name, value in [*os.environ.items()]:
        if name in unwanted or (name.startswith("WANDB_") and not value):
            del os.environ[name]


def resolve_mode(mode: str) -> str:
    """Return the W&B mode to use; "auto" is decided in seconds, without a prompt.

    "auto" is WANDB_MODE, else what `wandb offline` has set in this folder, else "online" if a
    server answers and there is a key, else "offline".
    """
    if mode != "auto":
        return mode
    if given := os.environ.get("WANDB_MODE"):
        return _OTHER_NAMES.get(given, given)
    given = str(own_setting("mode"))
    if (given := _OTHER_NAMES.get(given, given)) in ("offline", "disabled"):
        print(f"W&B will be {given}: its settings here say so; `wandb online` changes them")
        return given
    if missing := _missing():
        print(f"W&B will be offline: {missing}", flush=True)
    return "offline" if missing else "online"


def own_setting(name: str) -> Any:
    """Return what W&B's variables and settings files say; None where they say nothing."""
    os.environ.setdefault("WANDB_SILENT", "true")  # before W&B reads the environment
    import wandb

    try:
        return getattr(wandb.setup().settings, name)
    except Exception:  # a setting that W&B cannot read is reported when W&B starts
        return None


def _missing() -> str:
    """Return why W&B cannot be online, "" if it can."""
    import wandb

    url = own_setting("base_url")
    try:
        # the server first: with a key, a login to a server that is not there takes 6 s
        requests.head(url or wandb.setup().settings.base_url, timeout=2)
        there = wandb.login(prompt=False, verify=False)
    except requests.RequestException as error:
        return f"no answer from {url} ({type(error).__name__})"
    except Exception as error:  # a setting that cannot be read, or a key of another form
        return reason(error)
    return "" if there else "no key is set; `wandb login` sets one"


def reason(error: Exception) -> str:
    """Return an error of W&B in one line, with the name of a setting that it cannot read."""
    lines = str(error).splitlines()
    if "validation error" in first_line(error) and len(lines) > 2:
        return f"its setting {lines[1].strip()}: {lines[2].partition(' [type')[0].strip()}"
    return first_line(error)
