"""Whether W&B can be had: its mode, its server, and logging in."""

import os
from typing import Any

import requests

from segattn.base.errors import UserError, first_line

_ADVICE = "Log in with `wandb login`, or set WANDB_API_KEY."


def log_in() -> str:
    """The user or team that runs go to by default; asks nobody anything.

    Raises:
        UserError: There is no key, the server does not know it, or there is no server.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb  # 0.7 s, and not needed where W&B is off

    try:
        if not wandb.login(prompt=False, verify=True):
            raise UserError(f"nobody is logged in to W&B. {_ADVICE}")
        return str(wandb.Api().default_entity)
    except wandb.Error as error:
        raise UserError(f"W&B does not let us in: {error}. {_ADVICE}") from error


def resolve_mode(mode: str) -> str:
    """The W&B mode to use; "auto" is decided in seconds, without a prompt.

    Args:
        mode: "auto", "online", "offline" or "disabled". For "auto", WANDB_MODE decides, or what
            `wandb offline` has set in this folder; else it is "online" if a server answers and a
            key is there, else "offline".
    """
    for name in [n for n, value in os.environ.items() if n.startswith("WANDB_") and not value]:
        del os.environ[name]  # as of WANDB_MODE=$MODE, which W&B takes for a bad value
    if mode != "auto":
        return mode
    if given := os.environ.get("WANDB_MODE"):
        return given
    if (given := own_setting("mode")) in ("offline", "disabled"):
        print(f"W&B will be {given}: its settings here say so; `wandb online` changes them")
        return str(given)
    # the server first: with a key, a login to a server that is not there takes 6 s
    if missing := _no_server() or _no_key():
        print(f"W&B will be offline: {missing}", flush=True)
    return "offline" if missing else "online"


def own_setting(name: str) -> Any:
    """What W&B's variables and settings files say; None where they say nothing.

    Those that cannot be read are told when W&B starts.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # before it reads the environment
    import wandb

    try:
        return getattr(wandb.setup().settings, name)
    except Exception:  # of W&B's settings, which have no common class
        return None


def _no_server() -> str:
    """Why W&B's server cannot be had, "" if it can; by its settings files, and through a proxy."""
    import wandb  # 0.7 s, and not needed where W&B is off

    try:
        url = wandb.setup().settings.base_url
        requests.head(url, timeout=2)
    except requests.RequestException as error:
        return f"no answer from {url} ({type(error).__name__})"
    except Exception as error:  # of W&B's settings, which have no common class
        return f"its settings cannot be read ({reason(error)})"
    return ""


def _no_key() -> str:
    import wandb

    try:
        there = wandb.login(prompt=False, verify=False)
    except Exception as error:  # a key of another form
        return reason(error)
    return "" if there else "there is no key; `wandb login` leaves one"


def reason(error: Exception) -> str:
    """In one line; of a variable or a settings file of W&B that it cannot read, with its name."""
    lines = str(error).splitlines()
    if "validation error" in first_line(error) and len(lines) > 2:
        return f"its setting {lines[1].strip()}: {lines[2].partition(' [type')[0].strip()}"
    return first_line(error)
